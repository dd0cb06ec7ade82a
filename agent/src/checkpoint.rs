//! Checkpoints: how far each stream was read, and the state to resume there. Sources create checkpoints and the buffer
//! stores them; neither depends on the other's internals.

use jiff::tz::TimeZone;
use ring::digest::{Context, SHA256};
use seatmeter_count::Day;
use seatmeter_count::timeline::{DAY, Told};
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
    /// Whether the stream is the last one of its log. It is not kept for each stream, but for the log.
    pub is_last: bool,
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
    File(Box<FileCheckpoint>),
    /// The answers of one run of a poller.
    Poll(PollCheckpoint),
}

impl Checkpoint {
    /// Returns the state of a file; `None` if the stream is none.
    pub fn file(&self) -> Option<&FileCheckpoint> {
        match &self.source {
            SourceCheckpoint::File(file) => Some(file),
            SourceCheckpoint::Poll(_) => None,
        }
    }

    /// Returns the state of a file, for changing it; `None` if the stream is none.
    pub fn file_mut(&mut self) -> Option<&mut FileCheckpoint> {
        match &mut self.source {
            SourceCheckpoint::File(file) => Some(file),
            SourceCheckpoint::Poll(_) => None,
        }
    }

    /// Returns the furthest position of which the content before it is known; `None` if none is.
    pub fn proof(&self) -> Option<Proof> {
        self.file()?.proof
    }

    /// Returns the hash of the stream's beginning. Each run of a poller has a name of its own.
    pub fn head(&self) -> Fingerprint {
        self.file().map_or(self.fingerprint, |file| file.head)
    }

    /// Returns the name that the stream's beginning gives.
    pub fn beginning(&self) -> Fingerprint {
        // An older version kept it only where it was not the fingerprint.
        let older = |file: &FileCheckpoint| if file.first_day.is_some() { self.fingerprint } else { file.head };
        self.file().map_or(self.fingerprint, |file| file.beginning.unwrap_or(older(file)))
    }

    /// Returns the stream time of the last line, and what the lines up to it tell of the date.
    pub fn last_line(&self) -> (i64, Told) {
        match &self.source {
            SourceCheckpoint::File(file) => (file.parser_state.last_time(), file.parser_state.told()),
            SourceCheckpoint::Poll(poll) => (poll.last_time, poll.told()),
        }
    }

    /// Returns the moment of the last line, in seconds since 1970 UTC; `None` if no line tells a date. `zone` is that of the
    /// log's clock.
    pub fn moment(&self, zone: &TimeZone) -> Option<i64> {
        match &self.source {
            SourceCheckpoint::File(file) => file.parser_state.moment(zone),
            SourceCheckpoint::Poll(poll) => Some(i64::from(poll.first_day) * DAY + poll.last_time),
        }
    }

    /// Returns the stream as batches name it, with what is configured of its log.
    pub fn stream(&self, configured: &Configured) -> Stream {
        let (first_line_time, after) = match &self.source {
            SourceCheckpoint::File(file) => (file.first_line_time, file.after),
            SourceCheckpoint::Poll(poll) => (poll.first_time, None),
        };
        Stream {
            fingerprint: self.fingerprint.to_vec(),
            log: self.log.clone(),
            first_line_time,
            beginning: self.beginning().to_vec(),
            time_zone: configured.time_zone.clone(),
            after: after.map(Vec::from).unwrap_or_default(),
            configured_day: configured.day,
            poll_interval_seconds: configured.poll_interval,
        }
    }
}

/// What the configuration says of a log's times, which is sent with its streams.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configured {
    /// The time zone of the license server's clock, an IANA name.
    pub time_zone: String,
    /// The day of the first line of the log's first file, if no line tells it; `None` if not configured.
    pub day: Option<Day>,
    /// How often a license manager is asked, in seconds; 0 for a log.
    pub poll_interval: u32,
}

/// How far the answers of one run of a poller were captured. The next run has another stream, and begins with all that is
/// in use, so what is in use now is not kept here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PollCheckpoint {
    /// The day of the first answer, of UTC.
    pub first_day: Day,
    /// The stream time of the first answer, in seconds.
    pub first_time: i64,
    /// The stream time of the last answer, in seconds.
    pub last_time: i64,
}

impl PollCheckpoint {
    /// Returns what the answers tell of the date: they are dated by the agent's clock, in UTC.
    pub fn told(&self) -> Told {
        Told { first_day: Some(self.first_day), offset: Some(0) }
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
    /// The stream time of the first line that has a time, in seconds.
    #[serde(default)]
    pub first_line_time: i64,
    /// The hash of the stream's beginning.
    pub head: Fingerprint,
    /// The stream that certainly comes before this one in the log; `None` if none does.
    #[serde(default)]
    pub after: Option<Fingerprint>,
    /// The name that the stream's beginning gave in an older version, where that was not `head`.
    #[serde(default)]
    pub beginning: Option<Fingerprint>,
    /// The day of the first line, if an older version named the stream: that one dated lines, and the stream's times count
    /// from 1970 on.
    #[serde(default)]
    pub first_day: Option<Day>,
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
    /// What the aggregator has: everything before this position.
    pub mark: u64,
}

/// Why a stream is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RewindCause {
    /// The aggregator lacks a part of the stream.
    Lacking,
    /// A batch of the stream was damaged in the buffer.
    Damaged,
    /// The aggregator has other content under the stream's name: the stream gets another one.
    OtherContent,
}

/// Returns a name for a stream that begins as the stream of a name does, and has this check value where both differ.
pub fn another_name(name: &Fingerprint, check: &CheckValue) -> Fingerprint {
    let mut hash = Context::new(&SHA256);
    hash.update(name);
    hash.update(check);
    let mut fingerprint = Fingerprint::default();
    fingerprint.copy_from_slice(hash.finish().as_ref());
    fingerprint
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
