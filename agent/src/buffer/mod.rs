//! The buffer: keeps captured batches in SQLite until the aggregator acknowledges them.
//!
//! - A batch and the checkpoint behind it are committed in one transaction. If the process is killed at any moment,
//!   reading resumes exactly where the last batch ended.
//! - A batch that the aggregator has acknowledged stays for a time, within the quota: an aggregator that comes back from an
//!   older backup gets it again, even if the log is gone. The oldest go first. No other batch is ever deleted.
//! - Each batch has a checksum. A damaged one is read again from its log.
//! - A full buffer rejects further batches with an error. Their lines are still in the log.
//! - A failed commit is not tried again on the same connection, because the state on disk is unknown. The buffer is
//!   closed, reopened and checked, and reading resumes from its checkpoints.
//! - A damaged database is set aside; the health log records its path and the reason. The batches that can still be
//!   read are saved, and the logs are read again.
//!
//! Nothing outside this module opens SQLite.

mod checkpoint;
mod error;
mod kept;
mod onlooker;
mod open;
mod rewind;
mod schema;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use prost::Message;
use rusqlite::{Connection, OptionalExtension, params};
use seatmeter_proto::v1::Batch;
use tokio::sync::Notify;

pub use error::BufferError;
pub use onlooker::Onlooker;

use crate::checkpoint::{Checkpoint, Fingerprint};
use crate::codes;

/// The fill level of the buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Batches not acknowledged.
    pub batches: u64,
    /// The size of these batches, in bytes.
    pub bytes: u64,
    /// How long the oldest batch has been waiting, in seconds; 0 if there is none.
    pub oldest_age: u64,
}

/// The buffer. Threads can share it: one writer and one reader work at the same time.
pub struct Buffer {
    path: PathBuf,
    quota: u64,
    /// How long a batch stays after its capture once it is acknowledged, in seconds.
    keep: u64,
    writer: Mutex<Writer>,
    /// The reader's connection; `None` until it is needed, and after the database was closed to be checked.
    reader: Mutex<Option<Connection>>,
    appended: Notify,
    /// When a batch of each log was last captured.
    captured: Mutex<HashMap<String, Instant>>,
}

struct Writer {
    connection: Connection,
    epoch: String,
    bytes: u64,
    /// Whether a write failed. If so, the state on disk is unknown until the database is reopened.
    is_suspect: bool,
}

/// The name of the database in the state folder.
pub const FILE_NAME: &str = "buffer.db";

/// The size of the reserve, in bytes: enough to delete batches, and to copy all of the write-ahead log into the
/// database.
const RESERVE: usize = 2 << 20;

/// The maximum number of steps, of 16 pages each, that shrink the database after the disk was full, before capturing
/// resumes.
const SHRINKING_STEPS: usize = 64;

/// Bytes that a batch uses in addition to its body: its row, and unused space in its pages.
const ROW_OVERHEAD: u64 = 128;

impl Buffer {
    /// Opens the buffer in this folder, which may hold `quota` bytes of batches. Acknowledged batches stay for `keep` seconds
    /// after their capture.
    pub fn open(folder: &Path, quota: u64, keep: u64) -> Result<Self, BufferError> {
        let path = folder.join(FILE_NAME);
        let (connection, epoch) = open::open(&path)?;
        let bytes = used_bytes(&connection).map_err(|source| BufferError::of(&path, source))?;
        let writer = Mutex::new(Writer { connection, epoch, bytes, is_suspect: false });
        Ok(Self {
            path,
            quota,
            keep,
            writer,
            reader: Mutex::default(),
            appended: Notify::new(),
            captured: Mutex::default(),
        })
    }

    /// Returns the epoch of this database. A new epoch means that the numbering of batches starts again.
    pub fn epoch(&self) -> String {
        lock(&self.writer).epoch.clone()
    }

    /// Commits a batch and the checkpoint behind it. Once this returns, both are on disk.
    pub fn append(&self, batch: &Batch, checkpoint: &Checkpoint) -> Result<(), BufferError> {
        let body = batch.encode_to_vec();
        let mut writer = lock(&self.writer);
        let size = body.len() as u64 + ROW_OVERHEAD;
        if writer.bytes + size > self.quota {
            self.make_room(&mut writer, size)?;
        }
        if writer.bytes + size > self.quota && writer.bytes > 0 {
            return Err(BufferError::Full { used: writer.bytes, quota: self.quota });
        }
        self.keep_reserve(&mut writer)?;
        let written = self.write(&mut writer, |connection| {
            let transaction = connection.transaction()?;
            if is_overtaken(&transaction, batch, &checkpoint.fingerprint)? {
                return Ok(false);
            }
            kept::insert(&transaction, &checkpoint.fingerprint, &body, unix_now())?;
            checkpoint::save(&transaction, checkpoint)?;
            transaction.commit().map(|()| true)
        });
        if written.as_ref().is_err_and(BufferError::is_pressure) {
            // Deleting batches needs some space too; removing the reserve provides it.
            let _ = std::fs::remove_file(self.reserve());
            // What is acknowledged gives way to what is not.
            let quota = self.quota;
            self.make_room(&mut writer, quota)?;
        }
        if !written? {
            return Err(BufferError::Overtaken);
        }
        writer.bytes += size;
        drop(writer);
        lock(&self.captured).insert(checkpoint.log.clone(), Instant::now());
        self.appended.notify_one();
        Ok(())
    }

    /// Returns when a batch of a log was last captured; `None` if none was since the start.
    pub fn captured(&self, log: &str) -> Option<Instant> {
        lock(&self.captured).get(log).copied()
    }

    /// Returns the batches after a sequence number, in order, as many as fit into `bytes`; at least one if there is
    /// any.
    pub fn batches_after(&self, sequence: u64, bytes: usize) -> Result<Vec<Batch>, BufferError> {
        self.read(|connection| kept::after(connection, sequence, bytes, false))?
    }

    /// Acknowledges batches. They stay for a time, and wait no longer.
    pub fn acknowledge(&self, sequences: &[u64]) -> Result<(), BufferError> {
        let mut writer = lock(&self.writer);
        let expired = unix_now().saturating_sub_unsigned(self.keep).saturating_add(1);
        let freed = self.write(&mut writer, |connection| {
            let transaction = connection.transaction()?;
            for sequence in sequences {
                transaction.prepare_cached("DELETE FROM waiting WHERE sequence = ?1")?.execute([*sequence as i64])?;
            }
            let freed = kept::forget(&transaction, expired)?;
            transaction.commit()?;
            Ok(freed)
        })?;
        writer.bytes = writer.bytes.saturating_sub(freed);
        if freed == 0 {
            return Ok(());
        }
        match self.write(&mut writer, |connection| run_to_end(connection, "PRAGMA incremental_vacuum(64)")) {
            // Shrinking the file temporarily needs space. On a full disk, a later call shrinks it.
            Err(error) if !error.is_pressure() => Err(error),
            _ => Ok(()),
        }
    }

    /// Sets aside a batch that the aggregator will never accept. The next batch of its stream is marked as following a
    /// gap.
    pub fn set_aside(&self, sequence: u64) -> Result<(), BufferError> {
        self.write(&mut lock(&self.writer), |connection| {
            let transaction = connection.transaction()?;
            let fingerprint: Option<Fingerprint> = transaction
                .query_row(
                    "UPDATE batch SET refused = 1 WHERE sequence = ?1 RETURNING fingerprint",
                    [sequence as i64],
                    |row| row.get(0),
                )
                .optional()?;
            transaction.execute("DELETE FROM waiting WHERE sequence = ?1", [sequence as i64])?;
            if let Some(fingerprint) = fingerprint {
                mark_gap(&transaction, &fingerprint, sequence)?;
            }
            transaction.commit()
        })
    }

    /// Marks the first remaining batch of a stream as following a gap: the aggregator lacks the lines before it, and
    /// the stream cannot be read again. Returns whether there is such a batch.
    pub fn accept_gap(&self, fingerprint: &Fingerprint) -> Result<bool, BufferError> {
        self.write(&mut lock(&self.writer), |connection| mark_gap(connection, fingerprint, 0))
    }

    /// Returns the incarnation of the aggregator's database that has everything that was acknowledged; empty if there is
    /// none yet.
    pub fn incarnation(&self) -> Result<String, BufferError> {
        self.read(|connection| {
            let found = connection.query_row("SELECT incarnation FROM delivered_to", [], |row| row.get(0)).optional();
            found.map(Option::unwrap_or_default)
        })
    }

    /// Records the incarnation of the aggregator's database that has everything that was acknowledged.
    pub fn set_incarnation(&self, incarnation: &str) -> Result<(), BufferError> {
        self.write(&mut lock(&self.writer), |connection| {
            let transaction = connection.transaction()?;
            transaction.execute("DELETE FROM delivered_to", [])?;
            transaction.execute("INSERT INTO delivered_to VALUES (?1)", [incarnation])?;
            transaction.commit()
        })
    }

    /// Returns the generation that the aggregator gave at the last connection; empty if there was none.
    pub fn generation(&self) -> Result<Vec<u8>, BufferError> {
        self.read(|connection| {
            let found = connection.query_row("SELECT given FROM generation", [], |row| row.get(0)).optional();
            found.map(Option::unwrap_or_default)
        })
    }

    /// Records the generation that the aggregator gave.
    pub fn set_generation(&self, generation: &[u8]) -> Result<(), BufferError> {
        self.write(&mut lock(&self.writer), |connection| {
            let transaction = connection.transaction()?;
            transaction.execute("DELETE FROM generation", [])?;
            transaction.execute("INSERT INTO generation VALUES (?1)", [generation])?;
            transaction.commit()
        })
    }

    /// Returns the position from which on each stream waits for delivery, for those streams that do.
    pub fn waiting_from(&self) -> Result<HashMap<Fingerprint, u64>, BufferError> {
        self.read(|connection| {
            let mut statement = connection.prepare(
                "SELECT fingerprint, body FROM batch WHERE sequence IN
                 (SELECT min(sequence) FROM waiting JOIN batch USING (sequence) GROUP BY fingerprint)",
            )?;
            let mut rows = statement.query([])?;
            let mut found = HashMap::new();
            while let Some(row) = rows.next()? {
                let body: Vec<u8> = row.get(1)?;
                // A damaged batch is found when it is delivered.
                if let Ok(batch) = decode(0, &body) {
                    found.insert(row.get(0)?, batch.start_position);
                }
            }
            Ok(found)
        })
    }

    /// Returns how many batches wait for delivery. Refused batches do not.
    pub fn depth(&self) -> Result<Depth, BufferError> {
        self.read(|connection| {
            connection.query_row(
                "SELECT count(*), coalesce(sum(length(body)), 0), min(created_at) FROM waiting JOIN batch USING (sequence)",
                [],
                |row| {
                    let oldest: Option<i64> = row.get(2)?;
                    let batches: i64 = row.get(0)?;
                    Ok(Depth {
                        batches: batches as u64,
                        bytes: row.get::<_, i64>(1)? as u64 + batches as u64 * ROW_OVERHEAD,
                        oldest_age: oldest.map_or(0, |oldest| (unix_now() - oldest).max(0) as u64),
                    })
                },
            )
        })
    }

    /// Returns the maximum size of the batches in the buffer, in bytes.
    pub fn quota(&self) -> u64 {
        self.quota
    }

    /// Waits until a batch has been appended since the last call.
    pub async fn appended(&self) {
        self.appended.notified().await;
    }

    /// Returns the path of the reserve, a file that keeps free the space that acknowledging batches needs on a full
    /// disk.
    fn reserve(&self) -> PathBuf {
        self.path.with_extension("reserve")
    }

    /// Restores the reserve if it is used up, or fails if the disk has no space for it. Nothing is captured without the
    /// reserve, because a new batch would use the space that deleting batches needs.
    fn keep_reserve(&self, writer: &mut Writer) -> Result<(), BufferError> {
        let path = self.reserve();
        if path.exists() {
            return Ok(());
        }
        // The free space inside the files is returned to the disk, in steps that need little space themselves. If even
        // a step fails, the disk does not have enough space yet.
        for _ in 0..SHRINKING_STEPS {
            let shrunk = self.write(writer, |connection| {
                run_to_end(connection, "PRAGMA wal_checkpoint(TRUNCATE)")?;
                run_to_end(connection, "PRAGMA incremental_vacuum(16)")
            });
            match shrunk {
                Err(error) if error.is_pressure() => break,
                shrunk => shrunk?,
            }
        }
        std::fs::write(&path, vec![0; RESERVE]).map_err(|_| {
            // A half-written reserve must not stay.
            let _ = std::fs::remove_file(&path);
            BufferError::DiskFull { path: self.path.clone() }
        })
    }

    /// Runs a task that writes. If it fails for any reason other than a full disk, the database is reopened before the
    /// next write.
    fn write<T>(
        &self,
        writer: &mut Writer,
        task: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, BufferError> {
        if writer.is_suspect {
            self.reopen(writer)?;
        }
        task(&mut writer.connection).map_err(|source| {
            let error = BufferError::of(&self.path, source);
            // A full disk leaves the database unchanged. After any other failure, its content is unknown.
            writer.is_suspect = !error.is_pressure();
            error
        })
    }

    fn reopen(&self, writer: &mut Writer) -> Result<(), BufferError> {
        let mut reader = lock(&self.reader);
        // Both connections must be closed before the files can be checked or set aside.
        *reader = None;
        writer.connection = Connection::open_in_memory().map_err(|source| BufferError::of(&self.path, source))?;
        let (connection, epoch) = open::open(&self.path)?;
        writer.bytes = used_bytes(&connection).map_err(|source| BufferError::of(&self.path, source))?;
        (writer.connection, writer.epoch, writer.is_suspect) = (connection, epoch, false);
        tracing::warn!(code = codes::BUFFER_REOPENED, path = %self.path.display(), "the buffer has been opened anew and checked");
        Ok(())
    }

    fn read<T>(&self, task: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, BufferError> {
        let mut reader = lock(&self.reader);
        let connection = match reader.take() {
            Some(connection) => connection,
            None => open::connect(&self.path)?,
        };
        let result = task(&connection).map_err(|source| BufferError::of(&self.path, source));
        // A connection that failed is not used again.
        *reader = result.is_ok().then_some(connection);
        drop(reader);
        if result.as_ref().is_err_and(BufferError::is_corruption) {
            lock(&self.writer).is_suspect = true;
        }
        result
    }
}

/// Runs a statement to its end, because it does a part of its work with each row it returns.
fn run_to_end(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

/// Whether another reader has captured what a batch covers, or another stream of its name, since its own reader began.
fn is_overtaken(connection: &Connection, batch: &Batch, fingerprint: &Fingerprint) -> rusqlite::Result<bool> {
    let captured: Option<i64> = connection
        .prepare_cached("SELECT position FROM stream WHERE fingerprint = ?1")?
        .query_row([fingerprint], |row| row.get(0))
        .optional()?;
    let goes_on = batch.start_position == captured.unwrap_or(0) as u64;
    Ok(!goes_on && !batch.lost_before && !batch.replaces_tail)
}

fn decode(sequence: u64, body: &[u8]) -> rusqlite::Result<Batch> {
    let mut batch = Batch::decode(body)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Blob, Box::new(error)))?;
    batch.sequence = sequence;
    Ok(batch)
}

/// Sets `lost_before` on the first batch of a stream after a sequence. Returns whether there is one.
fn mark_gap(connection: &Connection, fingerprint: &Fingerprint, after: u64) -> rusqlite::Result<bool> {
    let first = connection
        .query_row(
            "SELECT sequence, body FROM batch WHERE fingerprint = ?1 AND sequence > ?2
             AND sequence IN (SELECT sequence FROM waiting) ORDER BY sequence LIMIT 1",
            params![fingerprint, after as i64],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)),
        )
        .optional()?;
    let Some((sequence, body)) = first else { return Ok(false) };
    let Ok(mut batch) = decode(0, &body) else { return Ok(false) };
    batch.lost_before = true;
    kept::replace(connection, sequence, fingerprint, &batch.encode_to_vec())
}

fn used_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    connection.query_row("SELECT coalesce(sum(length(body)), 0), count(*) FROM batch", [], |row| {
        Ok(row.get::<_, i64>(0)? as u64 + row.get::<_, i64>(1)? as u64 * ROW_OVERHEAD)
    })
}

/// Locks a mutex, even if another thread panicked while it held the lock: SQLite rolls back any half-done work.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the current time for time stamps, in seconds since 1970 UTC.
fn unix_now() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs() as i64
}
