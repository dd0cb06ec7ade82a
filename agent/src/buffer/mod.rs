//! The buffer: what was captured and not yet acknowledged, in SQLite.
//!
//! - A batch and the checkpoint behind it are committed in one transaction. After a kill at any moment, reading goes on
//!   exactly where the last batch ended.
//! - A batch is deleted when the aggregator has acknowledged it, and never for another reason.
//! - A full buffer takes nothing more and says so; what is not taken is still in the log.
//! - A commit that failed is not tried again on the same connection: what the disk holds is unknown. The buffer is
//!   closed, opened anew and checked, and its readers go on from what it then holds.
//! - A damaged database is set aside, with its name and the reason in the health log; what can still be read of its
//!   batches is saved, and the logs are read anew.
//!
//! Nothing outside this module opens SQLite.

mod checkpoint;
mod error;
mod open;
mod schema;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use prost::Message;
use rusqlite::{Connection, OptionalExtension, params};
use seatmeter_proto::v1::Batch;
use tokio::sync::Notify;

pub use error::BufferError;

use crate::checkpoint::{Checkpoint, Fingerprint};
use crate::codes;

/// How full the buffer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Batches not acknowledged.
    pub batches: u64,
    /// What they take.
    pub bytes: u64,
    /// How long the oldest has been waiting, in seconds.
    pub oldest_age: u64,
}

/// The buffer. Safe to share: one writer at a time, and a reader beside it.
pub struct Buffer {
    path: PathBuf,
    quota: u64,
    writer: Mutex<Writer>,
    /// Connected when it is needed: the database can have been closed meanwhile, to be checked.
    reader: Mutex<Option<Connection>>,
    appended: Notify,
}

struct Writer {
    connection: Connection,
    epoch: String,
    bytes: u64,
    /// A commit failed: what the disk holds is unknown until the database has been opened anew.
    is_suspect: bool,
}

/// Bytes of the reserve: what it takes to delete batches, and to copy all of the write-ahead log into the database.
const RESERVE: usize = 2 << 20;

/// Steps of 16 pages in which a full disk's database is made smaller before capturing goes on.
const SHRINKING_STEPS: usize = 64;

/// What a batch takes beside its bytes: its row and the pages' slack.
const ROW_OVERHEAD: u64 = 128;

impl Buffer {
    /// Opens the buffer in this folder, which may hold `quota` bytes of batches.
    pub fn open(folder: &Path, quota: u64) -> Result<Self, BufferError> {
        let path = folder.join("buffer.db");
        let (connection, epoch) = open::open(&path)?;
        let bytes = used_bytes(&connection).map_err(|source| BufferError::of(&path, source))?;
        let writer = Mutex::new(Writer { connection, epoch, bytes, is_suspect: false });
        Ok(Self { path, quota, writer, reader: Mutex::default(), appended: Notify::new() })
    }

    /// The epoch of this database: another one means that batches are numbered anew.
    pub fn epoch(&self) -> String {
        lock(&self.writer).epoch.clone()
    }

    /// Commits a batch and the checkpoint behind it. Once this returns, both are on disk.
    pub fn append(&self, batch: &Batch, checkpoint: &Checkpoint) -> Result<(), BufferError> {
        let body = batch.encode_to_vec();
        let mut writer = lock(&self.writer);
        let size = body.len() as u64 + ROW_OVERHEAD;
        if writer.bytes + size > self.quota && writer.bytes > 0 {
            return Err(BufferError::Full { used: writer.bytes, quota: self.quota });
        }
        self.keep_reserve(&mut writer)?;
        let written = self.write(&mut writer, |connection| {
            let transaction = connection.transaction()?;
            transaction
                .prepare_cached("INSERT INTO batch (fingerprint, body, created_at) VALUES (?1, ?2, ?3)")?
                .execute(params![checkpoint.fingerprint, body, unix_now()])?;
            checkpoint::save(&transaction, checkpoint)?;
            transaction.commit()
        });
        if written.as_ref().is_err_and(BufferError::is_pressure) {
            // Deleting batches takes some space too: this gives it.
            let _ = std::fs::remove_file(self.reserve());
        }
        written?;
        writer.bytes += size;
        drop(writer);
        self.appended.notify_one();
        Ok(())
    }

    /// The batches after a sequence, in order, as many as fit into so many bytes; at least one where there is one.
    pub fn batches_after(&self, sequence: u64, bytes: usize) -> Result<Vec<Batch>, BufferError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT sequence, body FROM batch WHERE sequence > ?1 AND NOT refused ORDER BY sequence",
            )?;
            let mut rows = statement.query([sequence as i64])?;
            let (mut batches, mut size) = (Vec::new(), 0);
            while let Some(row) = rows.next()? {
                let body: Vec<u8> = row.get(1)?;
                size += body.len();
                if size > bytes && !batches.is_empty() {
                    break;
                }
                batches.push(decode(row.get::<_, i64>(0)? as u64, &body)?);
            }
            Ok(batches)
        })
    }

    /// Deletes acknowledged batches.
    pub fn acknowledge(&self, sequences: &[u64]) -> Result<(), BufferError> {
        let mut writer = lock(&self.writer);
        let freed = self.write(&mut writer, |connection| {
            let transaction = connection.transaction()?;
            let mut freed = 0;
            for sequence in sequences {
                let size: Option<i64> = transaction
                    .prepare_cached("DELETE FROM batch WHERE sequence = ?1 RETURNING length(body)")?
                    .query_row([*sequence as i64], |row| row.get(0))
                    .optional()?;
                freed += size.map_or(0, |size| size as u64 + ROW_OVERHEAD);
            }
            transaction.commit()?;
            Ok(freed)
        })?;
        writer.bytes = writer.bytes.saturating_sub(freed);
        match self.write(&mut writer, |connection| run_to_end(connection, "PRAGMA incremental_vacuum(64)")) {
            // Shrinking the file takes space, for a moment: it is done when there is some.
            Err(error) if !error.is_pressure() => Err(error),
            _ => Ok(()),
        }
    }

    /// Sets a batch aside that the aggregator will never take. What follows in its stream is sent with a gap.
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
            if let Some(fingerprint) = fingerprint {
                mark_gap(&transaction, &fingerprint, sequence)?;
            }
            transaction.commit()
        })
    }

    /// The aggregator does not know what comes before the batches of a stream that are left, and it cannot be read
    /// again: the first of them says so.
    pub fn accept_gap(&self, fingerprint: &Fingerprint) -> Result<(), BufferError> {
        self.write(&mut lock(&self.writer), |connection| mark_gap(connection, fingerprint, 0))
    }

    /// Forgets what was captured of a stream, and that it was read: it is read anew, as the stream that it is.
    pub fn rewind(&self, fingerprint: &Fingerprint) -> Result<(), BufferError> {
        let Some(mut checkpoint) = self.checkpoint(fingerprint)? else { return Ok(()) };
        checkpoint.position = 0;
        let file = checkpoint.file_mut();
        (file.window, file.tail) = (Vec::new(), None);
        let mut writer = lock(&self.writer);
        self.write(&mut writer, |connection| {
            let transaction = connection.transaction()?;
            transaction.execute("DELETE FROM batch WHERE fingerprint = ?1 AND NOT refused", [fingerprint])?;
            checkpoint::save(&transaction, &checkpoint)?;
            transaction.execute("DELETE FROM file WHERE fingerprint = ?1", [fingerprint])?;
            transaction.commit()
        })?;
        writer.bytes = used_bytes(&writer.connection).map_err(|source| BufferError::of(&self.path, source))?;
        Ok(())
    }

    /// How full it is.
    pub fn depth(&self) -> Result<Depth, BufferError> {
        self.read(|connection| {
            connection.query_row(
                "SELECT count(*), coalesce(sum(length(body)), 0), min(created_at) FROM batch",
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

    /// How many bytes it may hold.
    pub fn quota(&self) -> u64 {
        self.quota
    }

    /// Returns when a batch has been appended since the last call.
    pub async fn appended(&self) {
        self.appended.notified().await;
    }

    /// A file that takes the space which acknowledging needs on a full disk.
    fn reserve(&self) -> PathBuf {
        self.path.with_extension("reserve")
    }

    /// Nothing is captured while the reserve is used up: it would take the space that draining needs.
    fn keep_reserve(&self, writer: &mut Writer) -> Result<(), BufferError> {
        let path = self.reserve();
        if path.exists() {
            return Ok(());
        }
        // What is free inside the files goes back to the disk, in steps that need little space themselves. Where even
        // that fails, there is not enough yet.
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
            // What was written of it must not stay.
            let _ = std::fs::remove_file(&path);
            BufferError::DiskFull { path: self.path.clone() }
        })
    }

    /// Writes; where that fails, the connection is not used again before it has been opened anew.
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
            // A full disk leaves the database as it was; after any other failure, what it holds is unknown.
            writer.is_suspect = !error.is_pressure();
            error
        })
    }

    fn reopen(&self, writer: &mut Writer) -> Result<(), BufferError> {
        let mut reader = lock(&self.reader);
        // Both connections must be gone before the files can be checked, or set aside.
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

/// Runs a statement that does a part of its work with each row it gives.
fn run_to_end(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

fn decode(sequence: u64, body: &[u8]) -> rusqlite::Result<Batch> {
    let mut batch = Batch::decode(body)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Blob, Box::new(error)))?;
    batch.sequence = sequence;
    Ok(batch)
}

/// Sets `lost_before` on the first batch of a stream after a sequence.
fn mark_gap(connection: &Connection, fingerprint: &Fingerprint, after: u64) -> rusqlite::Result<()> {
    let first = connection
        .query_row(
            "SELECT sequence, body FROM batch WHERE fingerprint = ?1 AND sequence > ?2 AND NOT refused
             ORDER BY sequence LIMIT 1",
            params![fingerprint, after as i64],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)),
        )
        .optional()?;
    let Some((sequence, body)) = first else { return Ok(()) };
    let mut batch = decode(0, &body)?;
    batch.lost_before = true;
    connection
        .execute("UPDATE batch SET body = ?2 WHERE sequence = ?1", params![sequence, batch.encode_to_vec()])
        .map(drop)
}

fn used_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    connection.query_row("SELECT coalesce(sum(length(body)), 0), count(*) FROM batch", [], |row| {
        Ok(row.get::<_, i64>(0)? as u64 + row.get::<_, i64>(1)? as u64 * ROW_OVERHEAD)
    })
}

/// A panic of another thread while it held the lock left no half-done work: SQLite rolls back.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Only for stamps: nothing is timed by it.
fn unix_now() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs() as i64
}
