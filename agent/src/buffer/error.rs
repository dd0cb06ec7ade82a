//! Why the buffer does not do what it should, and whether waiting helps.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use seatmeter_service::state::disk_full;

/// Why the buffer does not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum BufferError {
    /// The quota is used up. The log keeps the rest; reading goes on when the aggregator has taken some batches.
    #[error("the buffer is full: {used} of {quota} bytes are used")]
    Full {
        /// Bytes used.
        used: u64,
        /// Bytes allowed.
        quota: u64,
    },
    /// No space is left on the disk. The log keeps the rest.
    #[error("{}: free some, and reading goes on by itself", disk_full(.path))]
    DiskFull {
        /// The database.
        path: PathBuf,
    },
    /// The database is from a newer version.
    #[error(
        "{path} was written by a newer version (schema {found}, this version knows {known}): install that version again"
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// SQLite is too old to be trusted with a write-ahead log.
    #[error("SQLite {found} can corrupt databases with a write-ahead log: 3.51.3 is the oldest that does not")]
    OldSqlite {
        /// Its version.
        found: &'static str,
    },
    /// The database failed.
    #[error("the buffer {path} failed: {source}")]
    Database {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A file beside the database cannot be handled.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl BufferError {
    /// Whether waiting can help, without anything being lost.
    pub fn is_pressure(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::DiskFull { .. })
    }

    /// Whether no amount of trying will help before a person has acted.
    pub fn is_permanent(&self) -> bool {
        matches!(self, Self::Newer { .. } | Self::OldSqlite { .. })
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
