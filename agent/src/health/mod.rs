//! How the agent is: for the aggregator, and for people on this machine.
//!
//! [`report`] tells it, again and again, to whoever watches.

pub mod report;

use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use jiff::Timestamp;
use seatmeter_proto::v1::{self, Heartbeat, SourceState, SourceStatus};
use serde::{Deserialize, Serialize};

use crate::buffer::{Buffer, BufferError, Depth};
use crate::capture::Capture;
use crate::format::reading::LineCounts;
use crate::source::file::follow::{LogState, LogStatus};

/// What the agent says of itself, in a file beside its buffer.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// The agent's version.
    pub version: String,
    /// The process that wrote it.
    pub pid: u32,
    /// When it was written: seconds since 1970 UTC.
    pub at: i64,
    /// Where batches go.
    pub aggregator: String,
    /// Whether they are taken; since when not, and why.
    pub uplink: String,
    /// When a batch was last acknowledged: seconds since 1970 UTC, 0 for never since the start.
    pub acknowledged_at: i64,
    /// Batches not acknowledged.
    pub buffered_batches: u64,
    /// What they take, in bytes.
    pub buffered_bytes: u64,
    /// The buffer's quota, in bytes.
    pub buffer_quota_bytes: u64,
    /// How long the oldest batch has been waiting, in seconds.
    pub oldest_batch_age_seconds: u64,
    /// The logs.
    pub logs: Vec<LogReport>,
}

/// What the agent says of a log.
#[derive(Debug, Serialize, Deserialize)]
pub struct LogReport {
    /// Its name.
    pub log: String,
    /// "starting", "following", "missing", "unreadable", "undated" or "buffer full".
    pub state: String,
    /// What is wrong; empty where nothing is.
    pub message: String,
    /// Where in the current file the next line begins.
    pub position: u64,
    /// The size of the current file.
    pub size: u64,
    /// The last dated line: seconds since 1970 UTC, 0 before the first.
    pub last_line_at: i64,
    /// What became of lines since the start.
    pub lines: LineCounts,
    /// Lines that nothing dates yet.
    pub undated_lines: u64,
}

fn name_of(state: LogState) -> &'static str {
    match state {
        LogState::Starting => "starting",
        LogState::Missing => "missing",
        LogState::Following => "following",
        LogState::Unreadable => "unreadable",
        LogState::Undated => "undated",
        LogState::BufferFull => "buffer full",
    }
}

/// The file in which a state folder's agent says how it is.
pub fn status_file(state: &Path) -> PathBuf {
    state.join("status.json")
}

impl Status {
    /// How the agent is now.
    pub fn now(buffer: &Buffer, capture: &Capture, aggregator: &str, uplink: &Uplink) -> Result<Self, BufferError> {
        let depth = buffer.depth()?;
        let logs = statuses(capture).map(|(log, status)| LogReport {
            log: log.to_owned(),
            state: name_of(status.state).into(),
            message: status.message,
            position: status.position,
            size: status.size,
            last_line_at: status.last_line_at,
            lines: status.lines,
            undated_lines: status.undated_lines,
        });
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            at: Timestamp::now().as_second(),
            aggregator: aggregator.into(),
            uplink: uplink.state.clone(),
            acknowledged_at: uplink.acknowledged_at,
            buffered_batches: depth.batches,
            buffered_bytes: depth.bytes,
            buffer_quota_bytes: buffer.quota(),
            oldest_batch_age_seconds: depth.oldest_age,
            logs: logs.collect(),
        })
    }

    /// The same in a line.
    pub fn line(&self) -> String {
        let following = self.logs.iter().filter(|log| log.state == "following").count();
        let mut line = format!("{following} of {} logs followed, aggregator {}", self.logs.len(), self.uplink);
        if self.buffered_batches > 0 {
            line.push_str(&format!(
                ", {} batches waiting, the oldest for {} s",
                self.buffered_batches, self.oldest_batch_age_seconds
            ));
        }
        for log in self.logs.iter().filter(|log| log.state != "following" && log.state != "starting") {
            line.push_str(&format!(
                "; {}: {}",
                log.log,
                if log.message.is_empty() { &log.state } else { &log.message }
            ));
        }
        line
    }

    /// Where reading stands in each log.
    pub fn positions(&self) -> String {
        let log = |log: &LogReport| format!("{} ({}, {} of {} bytes)", log.log, log.state, log.position, log.size);
        self.logs.iter().map(log).collect::<Vec<_>>().join("; ")
    }

    /// Writes it for others to read: whole or not at all.
    pub fn save(&self, state: &Path) -> std::io::Result<()> {
        let path = status_file(state);
        let fresh = path.with_extension("json.new");
        std::fs::write(&fresh, serde_json::to_vec_pretty(self)?)?;
        std::fs::rename(fresh, path)
    }
}

/// How delivery is.
#[derive(Clone, Debug, Default)]
pub struct Uplink {
    /// In words.
    pub state: String,
    /// When a batch was last acknowledged: seconds since 1970 UTC.
    pub acknowledged_at: i64,
}

fn statuses(capture: &Capture) -> impl Iterator<Item = (&str, LogStatus)> {
    capture
        .logs
        .iter()
        .map(|(log, status)| (log.as_str(), status.lock().unwrap_or_else(PoisonError::into_inner).clone()))
}

/// What the aggregator is told.
pub fn heartbeat(depth: Depth, quota: u64, capture: &Capture) -> Heartbeat {
    let mut lines = LineCounts::default();
    let mut undated = 0;
    let mut sources = Vec::new();
    for (log, status) in statuses(capture) {
        lines += status.lines;
        undated += status.undated_lines;
        let state = match status.state {
            LogState::Starting => SourceState::Unspecified,
            LogState::Missing => SourceState::Missing,
            LogState::Following => SourceState::Following,
            LogState::Unreadable => SourceState::Unreadable,
            LogState::Undated => SourceState::Undated,
            LogState::BufferFull => SourceState::BufferFull,
        };
        sources.push(SourceStatus {
            log: log.into(),
            state: state.into(),
            message: status.message,
            position: status.position,
            size: status.size,
            last_line_at: status.last_line_at,
        });
    }
    Heartbeat {
        clock: Some(seatmeter_proto::timestamp(Timestamp::now().as_second())),
        buffered_batches: depth.batches,
        buffered_bytes: depth.bytes,
        buffer_quota_bytes: quota,
        oldest_batch_age_seconds: depth.oldest_age,
        lines: Some(v1::LineCounts { events: lines.events, noise: lines.noise, unrecognised: lines.unrecognised }),
        undated_lines: undated,
        sources,
    }
}
