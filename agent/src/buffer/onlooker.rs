//! A look into the buffer of an agent that may be running.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use seatmeter_proto::v1::Batch;

use super::{BufferError, FILE_NAME, checkpoint, kept, schema};
use crate::checkpoint::Checkpoint;

/// Reads a buffer and changes nothing: only the agent makes it, migrates it, or sets a damaged one aside.
pub struct Onlooker {
    path: PathBuf,
    connection: Connection,
}

impl Onlooker {
    /// Opens the buffer in this folder. Fails if there is none, or if it is of another version.
    pub fn open(folder: &Path) -> Result<Self, BufferError> {
        let path = folder.join(FILE_NAME);
        let failed = |source| BufferError::of(&path, source);
        // A connection that may write can read what an agent that was killed has left in the write-ahead log.
        let connection = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
        connection.busy_timeout(Duration::from_secs(10)).map_err(failed)?;
        connection.pragma_update(None, "query_only", true).map_err(failed)?;
        match schema::version(&connection).map_err(failed)? {
            schema::VERSION => Ok(Self { path, connection }),
            found if found > schema::VERSION => Err(BufferError::newer(&path, found)),
            found => Err(BufferError::Older { path, found, known: schema::VERSION }),
        }
    }

    /// Returns the epoch of the buffer.
    pub fn epoch(&self) -> Result<String, BufferError> {
        let found = self.connection.query_row("SELECT id FROM epoch", [], |row| row.get(0));
        found.map_err(|source| BufferError::of(&self.path, source))
    }

    /// Like [`Buffer::streams`](super::Buffer::streams).
    pub fn streams(&self) -> Result<Vec<Checkpoint>, BufferError> {
        checkpoint::all(&self.connection).map_err(|source| BufferError::of(&self.path, source))
    }

    /// Like [`Buffer::batches_after`](super::Buffer::batches_after).
    pub fn batches_after(&self, sequence: u64, bytes: usize) -> Result<Vec<Batch>, BufferError> {
        self.kept_after(sequence, bytes, false)
    }

    /// Like [`Self::batches_after`], but returns the batches that the aggregator refused.
    pub fn refused_after(&self, sequence: u64, bytes: usize) -> Result<Vec<Batch>, BufferError> {
        self.kept_after(sequence, bytes, true)
    }

    fn kept_after(&self, sequence: u64, bytes: usize, is_refused: bool) -> Result<Vec<Batch>, BufferError> {
        kept::after(&self.connection, sequence, bytes, is_refused)
            .map_err(|source| BufferError::of(&self.path, source))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Buffer;

    #[test]
    fn an_onlooker_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        assert!(matches!(Onlooker::open(folder.path()), Err(BufferError::Database { .. })));
        assert!(!path.exists(), "it makes no buffer");
        std::fs::write(&path, "").unwrap();
        assert!(matches!(Onlooker::open(folder.path()), Err(BufferError::Older { found: 0, .. })));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0, "it brings none forward");
        let garbage = [0x5e; 4096];
        std::fs::write(&path, garbage).unwrap();
        assert!(Onlooker::open(folder.path()).is_err_and(|error| error.is_corruption()));
        assert_eq!(std::fs::read(&path).unwrap(), garbage, "it sets none aside");
        std::fs::remove_file(&path).unwrap();
        let agents = Buffer::open(folder.path(), 1 << 30, 0).unwrap();
        let onlooker = Onlooker::open(folder.path()).unwrap();
        assert!(onlooker.streams().unwrap().is_empty() && agents.streams().unwrap().is_empty());
        assert!(onlooker.connection.execute("DELETE FROM epoch", []).is_err());
    }
}
