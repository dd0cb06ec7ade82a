//! The configuration and the state of a log.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use seatmeter_count::Day;
use seatmeter_count::name::decode;
use seatmeter_proto::pseudonym::Key;
use seatmeter_service::screen::text::duration;
use serde::{Deserialize, Serialize};

use crate::checkpoint::Configured;
use crate::format::Format;
use crate::format::interpreter::LineCounts;

/// A log from the configuration.
#[derive(Clone, Debug)]
pub struct LogSource {
    /// The log's name, which is sent with its streams.
    pub name: String,
    /// Path of the file being written.
    pub path: PathBuf,
    /// Patterns of further files that are parts of the log.
    pub archives: Vec<PathBuf>,
    /// The other configured logs, whose files are no parts of this one.
    pub others: Vec<OtherSource>,
    /// The format; `None` means that the content determines it.
    pub format: Option<Format>,
    /// The time zone of the license server's clock.
    pub zone: TimeZone,
    /// The day of the first line of the log's first file, if no line tells it; `None` if not configured.
    pub date: Option<Day>,
    /// How long a file that was moved away must be quiet until it is no longer read.
    pub moved_quiet: Duration,
    /// Makes what is sent in place of names; `None` if names are sent.
    pub pseudonyms: Option<Arc<Key>>,
}

impl LogSource {
    /// Returns what the aggregator must know of the log's times.
    pub fn configured(&self) -> Configured {
        // A machine without a time zone is in UTC.
        let time_zone = self.zone.iana_name().filter(|_| !self.zone.is_unknown()).unwrap_or("UTC").to_owned();
        Configured { time_zone, day: self.date, poll_interval: 0 }
    }
}

/// What is known of another configured log.
#[derive(Clone, Debug)]
pub struct OtherSource {
    /// The log's name.
    pub name: String,
    /// Path of the file being written.
    pub path: PathBuf,
    /// Patterns of further files that are its parts.
    pub archives: Vec<PathBuf>,
}

/// The state of a log, for heartbeats and for display.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LogStatus {
    /// Whether the log can be read.
    pub state: LogState,
    /// What is wrong and what to do about it; empty if nothing is wrong.
    pub message: String,
    /// The part of the message that the state does not tell: the operating system's error, or what the file is. Empty
    /// if there is none.
    pub detail: String,
    /// The position of the next line in the current file, in bytes.
    pub position: u64,
    /// The size of the current file, in bytes.
    pub size: u64,
    /// The time of the last line, in seconds since 1970 UTC; `None` if no line of its file tells a date.
    #[serde(with = "seatmeter_service::stamp::optional")]
    pub last_line_at: Option<i64>,
    /// Lines read since the agent started, by outcome.
    pub lines: LineCounts,
    /// The name and the version of the license manager, as it tells them; empty if it does not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub manager: String,
    /// Answers of the license manager since the agent started; `None` for a log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<u64>,
    /// Rotated parts that cannot be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unread_parts: Vec<UnreadPart>,
    /// Since when the file system has been asked for the log's files; `None` while it is not.
    #[serde(skip)]
    pub asked_since: Option<Instant>,
}

/// A file that has the name of a rotated part, and that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadPart {
    /// The file's path.
    pub path: PathBuf,
    /// Why it cannot be read.
    pub reason: String,
    /// When it was last written, in seconds since 1970 UTC.
    #[serde(with = "seatmeter_service::stamp")]
    pub written_at: i64,
}

impl UnreadPart {
    /// Takes note of a file and the reason.
    pub fn new(path: &Path, reason: String) -> Self {
        let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified());
        // Where that is not known, it may have been just now.
        let at = modified.unwrap_or_else(|_| std::time::SystemTime::now());
        let since = at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self { path: path.to_owned(), reason, written_at: i64::try_from(since.as_secs()).unwrap_or(0) }
    }
}

/// How long the file system may take to answer, while nothing of the log is captured, until that is said.
const PATIENCE: Duration = Duration::from_secs(30);

impl LogStatus {
    /// Says so if the file system does not answer. `captured` is when a batch of the log was last captured.
    pub fn with_patience(mut self, captured: Option<Instant>) -> Self {
        let since = self.asked_since.map(|asked| captured.map_or(asked, |captured| asked.max(captured)));
        if let Some(waited) = since.map(|since| since.elapsed()).filter(|waited| *waited > PATIENCE) {
            self.detail = format!("the file system has not answered for {}", duration(waited.as_secs()));
            self.message = format!("{}: is its drive there?", self.detail);
            self.state = LogState::Unreadable;
        }
        self
    }

    /// Sets the name and the version of the license manager, if they are told: a part of a log need not have the line.
    pub fn set_manager(&mut self, told: &[u8]) {
        /// The most characters of it.
        const LONGEST: usize = 100;
        if !told.is_empty() {
            self.manager = decode(told).chars().filter(|character| !character.is_control()).take(LONGEST).collect();
        }
    }

    /// Sets the state of a log that can be read.
    pub fn set_followed(&mut self) {
        (self.message, self.detail) = (String::new(), String::new());
        self.state = if self.size == 0 { LogState::Empty } else { LogState::Following };
    }
}

/// Whether a log can be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogState {
    /// The log has not been checked yet.
    #[default]
    Starting,
    /// The file does not exist.
    Missing,
    /// The log is being followed.
    Following,
    /// Reading failed.
    Unreadable,
    /// The agent's account may not read the file.
    #[serde(rename = "permission denied")]
    PermissionDenied,
    /// The file has lines, but none in a known format.
    #[serde(rename = "not a license log")]
    NotALog,
    /// The file has no line yet.
    Empty,
    /// The buffer is full, and reading waits.
    #[serde(rename = "buffer full")]
    BufferFull,
    /// The license manager answers, and leaves open who holds a part of what is in use.
    #[serde(rename = "partly answered")]
    Partial,
}

impl std::fmt::Display for LogState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.serialize(f)
    }
}

/// A log's status, shared by the thread that updates it and those that report it.
pub type SharedStatus = Arc<Mutex<LogStatus>>;
