//! A log as the configuration names it, and how it is.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use jiff::tz::TimeZone;
use seatmeter_count::Day;
use serde::{Deserialize, Serialize};

use crate::format::reading::LineCounts;

/// A log, as the configuration names it.
#[derive(Clone, Debug)]
pub struct LogSource {
    /// The name under which its streams are sent.
    pub name: String,
    /// The file being written.
    pub path: PathBuf,
    /// Patterns of further files that are parts of it.
    pub archives: Vec<PathBuf>,
    /// The time zone of its clock.
    pub zone: TimeZone,
    /// The day of the first line of its first file, where no line tells.
    pub date: Option<Day>,
}

/// How a log is, for heartbeats and for people.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LogStatus {
    /// Whether it can be read.
    pub state: LogState,
    /// What is wrong; empty where nothing is.
    pub message: String,
    /// Where in the current file the next line begins.
    pub position: u64,
    /// The size of the current file.
    pub size: u64,
    /// The last dated line, in seconds since 1970 UTC; 0 before the first.
    pub last_line_at: i64,
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
    /// It is there, but cannot be read.
    Unreadable,
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
