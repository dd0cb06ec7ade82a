//! The embedded database: SQLite.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{ErrorCode, Statement};

use seatmeter_service::state::disk_full;

use super::backup;
use super::engine::{Connection, Each, Engine, Role, Row, Value};
use super::sql::Dialect;
use super::statements::is_known;
use super::{Failure, StoreError};

/// The oldest SQLite whose write-ahead log does not corrupt databases in a race of checkpoints.
const OLDEST: i32 = 3_051_003;

/// A database of four files: the archive, and beside it the facts, who may speak with the aggregator, and rules and months. Each can
/// be written while the others are.
pub struct Sqlite {
    archive: PathBuf,
    facts: PathBuf,
    access: PathBuf,
    months: PathBuf,
}

impl Sqlite {
    /// Returns the database whose archive is this file. The first connection creates the file.
    pub fn new(archive: &Path) -> Result<Self, StoreError> {
        if rusqlite::version_number() < OLDEST {
            let reason =
                format!("SQLite {} can corrupt databases: 3.51.3 is the oldest that does not", rusqlite::version());
            return Err(StoreError::new(Failure::Permanent, reason));
        }
        let beside = |name| archive.with_file_name(name);
        Ok(Self { archive: archive.to_owned(), facts: beside(FACTS), access: beside(ACCESS), months: beside(MONTHS) })
    }

    /// Writes one consistent state of a role's database into a file that does not exist yet.
    pub(super) fn copy_to(&self, role: Role, file: &Path) -> Result<(), StoreError> {
        let to = file.to_string_lossy();
        self.connect(role)?.execute("VACUUM INTO $1", &[to.as_ref().into()]).map(drop)
    }

    /// Checks that the archive is an intact database.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let mut found = String::new();
        self.connect(Role::Archiver)?.query("PRAGMA integrity_check(1)", &[], &mut |row| {
            found = row.text(0)?.to_owned();
            Ok(())
        })?;
        if found == "ok" { Ok(()) } else { Err(StoreError::new(Failure::Corrupt, found)) }
    }

    /// Returns the file that a role opens first.
    fn file(&self, role: Role) -> &Path {
        match role {
            Role::Archiver | Role::Reader => &self.archive,
            Role::Projector => &self.facts,
            Role::Registrar => &self.access,
            Role::Clerk => &self.months,
        }
    }

    fn open(&self, role: Role) -> rusqlite::Result<rusqlite::Connection> {
        let connection = rusqlite::Connection::open(self.file(role))?;
        // Nobody else writes but by mistake: a stop must not wait for that.
        connection.busy_timeout(Duration::from_secs(if role == Role::Projector { 5 } else { 30 }))?;
        connection.set_prepared_statement_cache_capacity(128);
        write_ahead(&connection)?;
        if role == Role::Reader {
            connection.execute("ATTACH DATABASE ?1 AS facts", [self.facts.to_string_lossy()])?;
            connection.pragma_update(None, "query_only", true)?;
            for file in ["main", "facts"] {
                connection.pragma_update(Some(file), "cache_size", -8_192)?;
            }
            return Ok(connection);
        }
        // Facts that a power cut takes back take back how far they go, too: they are projected again.
        connection.pragma_update(None, "synchronous", if role == Role::Projector { "NORMAL" } else { "FULL" })?;
        connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
        connection.pragma_update(None, "cache_size", -65_536)?;
        connection.pragma_update(None, "wal_autocheckpoint", 8192)?;
        Ok(connection)
    }
}

/// How long a new database may be in the hands of others who open it, too.
const OPENING: Duration = Duration::from_secs(10);

/// Lets a database write ahead. While another connection makes the first write-ahead log of a new one, SQLite refuses at once, whatever
/// the time-out is.
fn write_ahead(connection: &rusqlite::Connection) -> rusqlite::Result<()> {
    let since = Instant::now();
    loop {
        match connection.pragma_update(None, "journal_mode", "WAL") {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && since.elapsed() < OPENING => {
                std::thread::sleep(Duration::from_millis(5));
            }
            done => return done,
        }
    }
}

/// The file of the facts, beside the archive.
pub(super) const FACTS: &str = "facts.db";

/// The file of who may speak with the aggregator, beside the archive. A restored archive changes nothing of it: what was revoked stays so.
pub(super) const ACCESS: &str = "access.db";

/// The file of rules and months, beside the archive. A restored archive changes nothing of it: what was billed stays so.
pub(super) const MONTHS: &str = "months.db";

impl Engine for Sqlite {
    fn connect(&self, role: Role) -> Result<Box<dyn Connection>, StoreError> {
        let path = self.file(role);
        let is_missing = role == Role::Reader && !self.facts.exists();
        if is_missing {
            let reason =
                format!("{} is missing: start or restart the aggregator, which makes it again", self.facts.display());
            return Err(StoreError::new(Failure::Transient, reason));
        }
        let opened = self
            .open(role)
            .map_err(StoreError::from)
            .map_err(|error| StoreError::new(error.failure, format!("{}: {}", path.display(), error.reason)))?;
        Ok(Box::new(SqliteConnection { connection: opened, path: path.to_owned(), is_writer: role != Role::Reader }))
    }

    fn discard_facts(&self) -> Result<(), StoreError> {
        backup::remove(&self.facts)
    }

    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }
}

struct SqliteConnection {
    connection: rusqlite::Connection,
    path: PathBuf,
    is_writer: bool,
}

impl SqliteConnection {
    /// Returns the outcome unchanged. If the disk is full, its error names the disk.
    fn named<T>(path: &Path, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        outcome.map_err(|error| match error.failure {
            Failure::DiskFull => StoreError::new(Failure::DiskFull, disk_full(path)),
            _ => error,
        })
    }
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Null => ValueRef::Null,
            Value::Int(number) => ValueRef::Integer(*number),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

fn bind(statement: &mut Statement<'_>, values: &[Value<'_>]) -> rusqlite::Result<()> {
    values.iter().enumerate().try_for_each(|(index, value)| statement.raw_bind_parameter(index + 1, value))
}

impl Connection for SqliteConnection {
    fn execute(&mut self, sql: &str, values: &[Value<'_>]) -> Result<u64, StoreError> {
        debug_assert!(is_known(sql), "a statement that is not listed: {sql}");
        let run = || -> Result<u64, StoreError> {
            let mut statement = self.connection.prepare_cached(sql)?;
            bind(&mut statement, values)?;
            Ok(statement.raw_execute()? as u64)
        };
        Self::named(&self.path, run())
    }

    fn query(&mut self, sql: &str, values: &[Value<'_>], each: &mut Each<'_>) -> Result<(), StoreError> {
        debug_assert!(is_known(sql), "a statement that is not listed: {sql}");
        let mut statement = self.connection.prepare_cached(sql)?;
        bind(&mut statement, values)?;
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next()? {
            each(row)?;
        }
        Ok(())
    }

    fn bulk(&mut self, sql: &str, width: usize, values: &[Value<'_>]) -> Result<(), StoreError> {
        debug_assert!(is_known(sql), "a statement that is not listed: {sql}");
        let run = || -> Result<(), StoreError> {
            let mut statement = self.connection.prepare_cached(sql)?;
            for row in values.chunks_exact(width) {
                bind(&mut statement, row)?;
                statement.raw_execute()?;
            }
            Ok(())
        };
        Self::named(&self.path, run())
    }

    fn begin(&mut self) -> Result<(), StoreError> {
        Ok(self.connection.execute_batch(if self.is_writer { "BEGIN IMMEDIATE" } else { "BEGIN" })?)
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        Self::named(&self.path, self.connection.execute_batch("COMMIT").map_err(StoreError::from))
    }

    fn rollback(&mut self) {
        if !self.connection.is_autocommit() {
            // If the rollback fails too, the caller that saw the earlier error drops the connection.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
    }
}

impl Row for rusqlite::Row<'_> {
    fn int(&self, column: usize) -> Result<i64, StoreError> {
        Ok(self.get_ref(column)?.as_i64().map_err(rusqlite::Error::from)?)
    }

    fn int_or_null(&self, column: usize) -> Result<Option<i64>, StoreError> {
        Ok(self.get_ref(column)?.as_i64_or_null().map_err(rusqlite::Error::from)?)
    }

    fn text(&self, column: usize) -> Result<&str, StoreError> {
        Ok(self.get_ref(column)?.as_str().map_err(rusqlite::Error::from)?)
    }

    fn blob(&self, column: usize) -> Result<&[u8], StoreError> {
        Ok(self.get_ref(column)?.as_blob().map_err(rusqlite::Error::from)?)
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let failure = match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Failure::DiskFull,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Failure::Corrupt,
            _ => Failure::Transient,
        };
        Self::new(failure, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn a_new_database_can_be_opened_by_several_at_once() {
        for _ in 0..20 {
            let folder = tempfile::tempdir().unwrap();
            let engine = Sqlite::new(&folder.path().join("aggregator.db")).unwrap();
            let barrier = Barrier::new(6);
            std::thread::scope(|scope| {
                let opening = [(); 6].map(|()| {
                    scope.spawn(|| {
                        barrier.wait();
                        engine.connect(Role::Archiver).map(drop)
                    })
                });
                for opened in opening {
                    opened.join().unwrap().unwrap();
                }
            });
        }
    }
}
