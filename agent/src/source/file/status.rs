//! A log as the configuration names it, and how it is.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use jiff::tz::TimeZone;
use seatmeter_count::Day;
use serde::{Deserialize, Serialize};

use crate::format::Format;
use crate::format::interpreter::LineCounts;

/// A log, as the configuration names it.
#[derive(Clone, Debug)]
pub struct LogSource {
    /// The name under which its streams are sent.
    pub name: String,
    /// The file being written.
    pub path: PathBuf,
    /// Patterns of further files that are parts of it.
    pub archives: Vec<PathBuf>,
    /// The format; `None` is told by the content.
    pub format: Option<Format>,
    /// The time zone of its clock.
    pub zone: TimeZone,
    /// The day of the first line of its first file, where no line tells.
    pub date: Option<Day>,
}

/// The state of a log, for heartbeats and for people.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LogStatus {
    /// Whether it can be read.
    pub state: LogState,
    /// What is wrong, and what to do; empty where nothing is.
    pub message: String,
    /// What the system said, or what the file is: the part of the message that the state does not tell.
    pub detail: String,
    /// Where in the current file the next line begins.
    pub position: u64,
    /// The size of the current file.
    pub size: u64,
    /// The last dated line, in seconds since 1970 UTC; `None` before the first.
    #[serde(with = "seatmeter_service::stamp::optional")]
    pub last_line_at: Option<i64>,
    /// What became of lines since the agent's start.
    pub lines: LineCounts,
    /// Lines with a time that nothing dates yet.
    pub undated_lines: u64,
}

/// Whether a log can be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogState {
    /// It has not been looked at yet.
    #[default]
    Starting,
    /// There is no such file.
    Missing,
    /// It is followed.
    Following,
    /// Reading failed.
    Unreadable,
    /// The agent's account may not read it.
    #[serde(rename = "permission denied")]
    PermissionDenied,
    /// It has lines, and none of a known format.
    #[serde(rename = "not a license log")]
    NotALog,
    /// It has no line yet.
    Empty,
    /// Its lines cannot be dated yet.
    Undated,
    /// The buffer is full.
    #[serde(rename = "buffer full")]
    BufferFull,
}

impl std::fmt::Display for LogState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.serialize(f)
    }
}

/// Where a log's status is read by others.
pub type SharedStatus = Arc<Mutex<LogStatus>>;
