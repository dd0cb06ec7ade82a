//! Why an operation on the buffer failed, and whether waiting helps.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use seatmeter_service::state::disk_full;

use super::schema::VERSION;

/// Why an operation on the buffer failed.
#[derive(Debug, thiserror::Error)]
pub enum BufferError {
    /// The quota is used up. The log keeps the remaining lines; reading resumes once the aggregator has taken some
    /// batches.
    #[error("the buffer is full: {used} of {quota} bytes are used")]
    Full {
        /// Bytes used.
        used: u64,
        /// Bytes allowed.
        quota: u64,
    },
    /// No space is left on the disk. The log keeps the remaining lines.
    #[error("{}: free some, and reading goes on by itself", disk_full(.path))]
    DiskFull {
        /// Path of the database.
        path: PathBuf,
    },
    /// The database is from a newer version.
    #[error(
        "{path} was written by a newer version (schema {found}, this version knows {known}): install that version again"
    )]
    Newer {
        /// Path of the database.
        path: PathBuf,
        /// The schema version of the database.
        found: i64,
        /// The newest schema version that this program knows.
        known: i64,
    },
    /// The database is from an older version, and no agent of this version has opened it yet.
    #[error(
        "{path} was written by an older version (schema {found}, this version knows {known}): start the agent, or start \
         it again, which brings it forward"
    )]
    Older {
        /// Path of the database.
        path: PathBuf,
        /// The schema version of the database; 0 if it is empty.
        found: i64,
        /// The newest schema version that this program knows.
        known: i64,
    },
    /// SQLite is too old to be trusted with a write-ahead log.
    #[error("SQLite {found} can corrupt databases with a write-ahead log: 3.51.3 is the oldest that does not")]
    OldSqlite {
        /// The version of SQLite.
        found: &'static str,
    },
    /// Another reader has captured the stream further, or another stream of this name. Nothing is wrong with the buffer.
    #[error("another log has captured a stream of this name")]
    Overtaken,
    /// A batch in the buffer is damaged: it is read again from its log.
    #[error("batch {sequence} in the buffer is damaged")]
    Damaged {
        /// The batch's sequence.
        sequence: u64,
    },
    /// The database failed.
    #[error("the buffer {path} failed: {source}")]
    Database {
        /// Path of the database.
        path: PathBuf,
        /// SQLite's error.
        source: rusqlite::Error,
    },
    /// An operation on a file of the database failed.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// The operation, as a verb.
        action: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
}

impl BufferError {
    /// Whether waiting can help without any loss of data.
    pub fn is_pressure(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::DiskFull { .. })
    }

    /// Whether trying again cannot help until a person has acted.
    pub fn is_permanent(&self) -> bool {
        matches!(self, Self::Newer { .. } | Self::OldSqlite { .. })
    }

    pub(super) fn newer(path: &Path, found: i64) -> Self {
        Self::Newer { path: path.to_owned(), found, known: VERSION }
    }

    pub(super) fn of(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::DiskFull { path },
            _ => Self::Database { path, source },
        }
    }

    pub(super) fn is_corruption(&self) -> bool {
        let Self::Database { source, .. } = self else { return false };
        matches!(source.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
    }
}
