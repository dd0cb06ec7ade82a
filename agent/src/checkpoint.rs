//! How far each stream was read, and what it takes to go on there. Sources make checkpoints, the buffer keeps them; the
//! two know nothing else of each other's inside.

use seatmeter_count::Day;
use serde::{Deserialize, Serialize};

use crate::format::interpreter::ParserState;

/// A stream's name: a hash of its beginning.
pub type Fingerprint = [u8; 32];

/// How far a stream has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The stream.
    pub fingerprint: Fingerprint,
    /// The log that the stream is a part of.
    pub log: String,
    /// The moment of the stream's first dated line, in seconds since 1970 UTC.
    pub begins_at: i64,
    /// The position after the last one read: for a file, in bytes.
    pub position: u64,
    /// What else it takes to go on there.
    pub source: SourceCheckpoint,
}

/// What it takes to go on reading, by kind of source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceCheckpoint {
    /// A file.
    File(FileCheckpoint),
}

impl Checkpoint {
    /// The checkpoint of a file.
    pub fn file(&self) -> &FileCheckpoint {
        let SourceCheckpoint::File(file) = &self.source;
        file
    }

    /// The checkpoint of a file, to be changed.
    pub fn file_mut(&mut self) -> &mut FileCheckpoint {
        let SourceCheckpoint::File(file) = &mut self.source;
        file
    }
}

/// What it takes to go on reading a file at a position, and to be sure that it still is the same stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileCheckpoint {
    /// The last bytes before the position.
    pub window: Vec<u8>,
    /// The state of the line interpreter.
    pub parser_state: ParserState,
    /// Where the last line had no line feed: its position, and the state of the line interpreter before it.
    pub tail: Option<(u64, ParserState)>,
    /// The day of the first line on the license server's clock.
    pub first_day: Day,
    /// The name of the stream's beginning, whatever its date.
    pub head: Fingerprint,
}

/// What the system said of a file when its stream was known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMark {
    /// The volume.
    pub device: u64,
    /// The file on it.
    pub inode: u64,
    /// Its size.
    pub size: u64,
    /// When it was last written, in nanoseconds since 1970.
    pub modified: i64,
}

impl FileMark {
    /// Whether it is the same file, changed or not.
    pub fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}
