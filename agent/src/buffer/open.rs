//! Opens the buffer, even if its database is damaged.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use seatmeter_proto::batch;

use super::{BufferError, kept, schema, unix_now};

use crate::codes;

/// The oldest SQLite version in which a race between checkpoints of the write-ahead log cannot corrupt a database.
const OLDEST_SQLITE: i32 = 3_051_003;

/// Opens or creates a database; sets a damaged one aside first. Returns the connection and the epoch.
pub(super) fn open(path: &Path) -> Result<(Connection, String), BufferError> {
    if rusqlite::version_number() < OLDEST_SQLITE {
        return Err(BufferError::OldSqlite { found: rusqlite::version() });
    }
    match open_checked(path) {
        Err(error) if error.is_corruption() => {
            let aside = set_aside(path, &error)?;
            let (mut connection, epoch) = open_checked(path)?;
            let saved = salvage(&aside, &mut connection);
            tracing::error!(
                code = codes::BUFFER_CORRUPT,
                path = %path.display(),
                aside = %aside.display(),
                saved_batches = saved,
                reason = %error,
                "the buffer was damaged and is set aside; the logs are read anew, and what was delivered counts once"
            );
            Ok((connection, epoch))
        }
        result => result,
    }
}

fn open_checked(path: &Path) -> Result<(Connection, String), BufferError> {
    let failed = |source| BufferError::of(path, source);
    let mut connection = connect(path)?;
    let version = schema::version(&connection).map_err(failed)?;
    if version > schema::VERSION {
        return Err(BufferError::newer(path, version));
    }
    schema::migrate(&mut connection).map_err(failed)?;
    let report: String = connection.pragma_query_value(None, "quick_check", |row| row.get(0)).map_err(failed)?;
    if report != "ok" {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
        return Err(failed(rusqlite::Error::SqliteFailure(code, Some(report))));
    }
    let epoch = connection.query_row("SELECT id FROM epoch", [], |row| row.get(0)).map_err(failed)?;
    Ok((connection, epoch))
}

/// Opens a connection with the common settings. A commit returns only after its data is on disk.
pub(super) fn connect(path: &Path) -> Result<Connection, BufferError> {
    let open = || {
        let connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(10))?;
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        // The write-ahead log is kept short, so that the reserve is enough to copy it into the database.
        connection.pragma_update(None, "wal_autocheckpoint", 128)?;
        connection.pragma_update(None, "journal_size_limit", 1 << 20)?;
        connection.pragma_update(None, "cache_size", -2048)?;
        Ok(connection)
    };
    open().map_err(|source: rusqlite::Error| BufferError::of(path, source))
}

/// Renames the database and the files that belong to it. Returns the new path of the database.
fn set_aside(path: &Path, reason: &BufferError) -> Result<PathBuf, BufferError> {
    let aside = path.with_extension(format!("db.damaged-{}", unix_now()));
    for suffix in ["-wal", "-shm", ""] {
        let with_suffix = |base: &Path| PathBuf::from(format!("{}{suffix}", base.display()));
        let (from, to) = (with_suffix(path), with_suffix(&aside));
        match fs::rename(&from, &to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::error!(code = codes::BUFFER_CORRUPT, reason = %reason, "the buffer is damaged");
                return Err(BufferError::File { action: "set aside", path: from, source: error });
            }
            _ => {}
        }
    }
    Ok(aside)
}

/// Copies the batches of a damaged database that can still be read and are intact. Returns their number.
fn salvage(aside: &Path, connection: &mut Connection) -> usize {
    let mut copy = || -> rusqlite::Result<usize> {
        let damaged = Connection::open(aside)?;
        // What was acknowledged was delivered; the logs are read anew.
        let mut statement = damaged.prepare(
            "SELECT fingerprint, body, created_at, checksum FROM batch
             WHERE refused OR sequence IN (SELECT sequence FROM waiting) ORDER BY sequence",
        )?;
        let mut rows = statement.query([])?;
        let transaction = connection.transaction()?;
        let mut saved = 0;
        while let Ok(Some(row)) = rows.next() {
            let (fingerprint, body, created): (Vec<u8>, Vec<u8>, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            if kept::intact(0, &body, row.get(3)?).is_some_and(|found| batch::open(&found).is_ok()) {
                kept::insert(&transaction, &fingerprint, &body, created)?;
                saved += 1;
            }
        }
        transaction.commit()?;
        Ok(saved)
    };
    copy().unwrap_or(0)
}
