//! Checkpoints: how far each stream was read, and the state to resume there. Sources create checkpoints and the buffer
//! stores them; neither depends on the other's internals.

use seatmeter_count::Day;
use seatmeter_proto::v1::Stream;
use serde::{Deserialize, Serialize};

use crate::format::interpreter::ParserState;

/// A hash of a stream's beginning, which identifies the stream.
pub type Fingerprint = [u8; 32];

/// The check value of a position: a hash of all bytes before it.
pub type CheckValue = [u8; 32];

/// How far a stream has been read, and the state to resume there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The stream's fingerprint.
    pub fingerprint: Fingerprint,
    /// The name of the log that the stream is a part of.
    pub log: String,
    /// The moment of the stream's first dated line, in seconds since 1970 UTC.
    pub begins_at: i64,
    /// The position at which reading resumes; for a file, in bytes.
    pub position: u64,
    /// The source's state at the position.
    pub source: SourceCheckpoint,
}

/// The state to resume reading, by kind of source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceCheckpoint {
    /// A file.
    File(FileCheckpoint),
}

impl Checkpoint {
    /// Returns the state of a file.
    pub fn file(&self) -> &FileCheckpoint {
        let SourceCheckpoint::File(file) = &self.source;
        file
    }

    /// Returns the stream as batches name it.
    pub fn stream(&self) -> Stream {
        let file = self.file();
        named_stream(&self.fingerprint, &self.log, self.begins_at, file.beginning.as_ref(), &file.head)
    }

    /// Returns the state of a file, for changing it.
    pub fn file_mut(&mut self) -> &mut FileCheckpoint {
        let SourceCheckpoint::File(file) = &mut self.source;
        file
    }
}

/// Returns a stream as batches name it. `beginning` is the name that the stream's beginning gives, if it has another one,
/// and `head` is the hash of that beginning without a day.
pub fn named_stream(
    fingerprint: &Fingerprint,
    log: &str,
    begins_at: i64,
    beginning: Option<&Fingerprint>,
    head: &Fingerprint,
) -> Stream {
    let beginning = beginning.unwrap_or(fingerprint);
    Stream {
        fingerprint: fingerprint.to_vec(),
        log: log.to_owned(),
        begins_at,
        beginning: beginning.to_vec(),
        // The beginning's day is in its name only where its lines tell none.
        tells_date: beginning == head,
    }
}

/// The state to resume reading a file at a position, and to verify that the file still holds the same stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileCheckpoint {
    /// The furthest position of which the content before it is known; `None` if an older version made the checkpoint.
    #[serde(default)]
    pub proof: Option<Proof>,
    /// The state of the line interpreter.
    pub parser_state: ParserState,
    /// If the last line had no line feed: its position, and the state of the line interpreter before it.
    pub tail: Option<(u64, ParserState)>,
    /// The day of the first line, on the license server's clock.
    pub first_day: Day,
    /// The hash of the stream's beginning alone, without the day.
    pub head: Fingerprint,
    /// The name that the stream's beginning gives; `None` if it is the fingerprint.
    #[serde(default)]
    pub beginning: Option<Fingerprint>,
}

/// Proves that a file holds a stream, however the file is named and wherever it lies: the file has this check value at
/// this position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The position.
    pub position: u64,
    /// The check value of the position.
    pub check: CheckValue,
}

/// A request to read a stream again from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewind {
    /// The stream's fingerprint.
    pub fingerprint: Fingerprint,
    /// Why the stream is read again.
    pub cause: RewindCause,
}

/// Why a stream is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RewindCause {
    /// The aggregator lacks a part of the stream.
    Lacking,
    /// The aggregator has other content under the stream's name: the stream gets another one.
    OtherContent,
}

/// A file's identity, size and modification time when its stream was identified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMark {
    /// The number of the volume.
    pub device: u64,
    /// The number of the file on the volume.
    pub inode: u64,
    /// The size of the file, in bytes.
    pub size: u64,
    /// When the file was last written: nanoseconds since 1970; on Windows, units of 100 nanoseconds since 1601.
    pub modified: i64,
}

impl FileMark {
    /// Whether both marks are of the same file, changed or not.
    pub fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}
