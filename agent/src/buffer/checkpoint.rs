//! Checkpoints and known files in the buffer.

use rusqlite::{Connection, OptionalExtension, params};

use super::{Buffer, BufferError, lock};
use crate::checkpoint::{Checkpoint, FileMark, Fingerprint};

impl Buffer {
    /// Returns the checkpoint of a stream; `None` if the stream is not known.
    pub fn checkpoint(&self, fingerprint: &Fingerprint) -> Result<Option<Checkpoint>, BufferError> {
        self.read(|connection| one(connection, fingerprint))
    }

    /// Returns the checkpoints of the streams with this beginning, the newest first.
    pub fn streams_beginning(&self, head: &Fingerprint) -> Result<Vec<Checkpoint>, BufferError> {
        self.read(|connection| {
            let found: Vec<Fingerprint> = connection
                .prepare_cached("SELECT fingerprint FROM stream WHERE head = ?1 ORDER BY number DESC")?
                .query_map([head], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            many(connection, &found)
        })
    }

    /// Returns the last stream of a log that was captured; `None` if nothing was captured.
    pub fn last_stream(&self, log: &str) -> Result<Option<Fingerprint>, BufferError> {
        self.read(|connection| {
            connection.query_row("SELECT last FROM log WHERE name = ?1", [log], |row| row.get(0)).optional()
        })
    }

    /// Returns the stream of a file that is unchanged since it was noted; `None` if the file is new or has changed.
    pub fn known_file(&self, mark: &FileMark) -> Result<Option<Fingerprint>, BufferError> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT fingerprint FROM file WHERE device = ?1 AND inode = ?2 AND size = ?3 AND modified = ?4",
                )?
                .query_row(params![mark.device as i64, mark.inode as i64, mark.size as i64, mark.modified], |row| {
                    row.get(0)
                })
                .optional()
        })
    }

    /// Records that a file, in its current state, has been read to its end.
    pub fn note_file(&self, mark: &FileMark, fingerprint: &Fingerprint) -> Result<(), BufferError> {
        self.write(&mut lock(&self.writer), |connection| {
            connection
                .prepare_cached(
                    "INSERT INTO file (device, inode, size, modified, fingerprint) VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT (device, inode) DO UPDATE SET size = ?3, modified = ?4, fingerprint = ?5",
                )?
                .execute(params![mark.device as i64, mark.inode as i64, mark.size as i64, mark.modified, fingerprint])
                .map(drop)
        })
    }

    /// Returns the checkpoints of all known streams, ordered by log, in the order in which they were first captured.
    pub fn streams(&self) -> Result<Vec<Checkpoint>, BufferError> {
        self.read(all)
    }
}

/// Returns the checkpoint of a stream; `None` if the stream is not known.
fn one(connection: &Connection, fingerprint: &Fingerprint) -> rusqlite::Result<Option<Checkpoint>> {
    let found = connection
        .prepare_cached("SELECT log, position, state FROM stream WHERE fingerprint = ?1")?
        .query_row([fingerprint], |row| {
            let state: String = row.get(2)?;
            Ok((row.get(0)?, row.get::<_, i64>(1)? as u64, state))
        })
        .optional()?;
    Ok(found.and_then(|(log, position, state)| {
        // A state that cannot be parsed counts as missing: the stream is read again.
        let source = serde_json::from_str(&state).ok()?;
        Some(Checkpoint { fingerprint: *fingerprint, log, is_last: false, position, source })
    }))
}

fn many(connection: &Connection, fingerprints: &[Fingerprint]) -> rusqlite::Result<Vec<Checkpoint>> {
    fingerprints.iter().filter_map(|fingerprint| one(connection, fingerprint).transpose()).collect()
}

/// Returns the checkpoints of all known streams, ordered by log, in the order in which they were first captured.
pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<Checkpoint>> {
    let found: Vec<Fingerprint> = connection
        .prepare("SELECT fingerprint FROM stream ORDER BY log, number")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    many(connection, &found)
}

/// Saves a checkpoint, in the transaction that stores its batch.
pub(super) fn save(connection: &Connection, checkpoint: &Checkpoint) -> rusqlite::Result<()> {
    // A checkpoint is plain data: it always has a JSON form.
    let state = serde_json::to_string(&checkpoint.source).unwrap_or_default();
    connection
        .prepare_cached(
            "INSERT INTO stream (fingerprint, log, number, position, state, head)
             VALUES (?1, ?2, (SELECT coalesce(max(number), 0) + 1 FROM stream), ?3, ?4, ?5)
             ON CONFLICT (fingerprint) DO UPDATE SET position = ?3, state = ?4",
        )?
        .execute(params![
            checkpoint.fingerprint,
            checkpoint.log,
            checkpoint.position as i64,
            state,
            checkpoint.head()
        ])?;
    // An old part that is captured late, or again, does not replace the last stream.
    if checkpoint.is_last {
        connection
            .prepare_cached("INSERT INTO log (name, last) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET last = ?2")?
            .execute(params![checkpoint.log, checkpoint.fingerprint])?;
    }
    Ok(())
}
