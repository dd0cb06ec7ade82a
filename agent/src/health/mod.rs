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
use crate::source::file::status::{LogState, LogStatus};

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
    /// How it is.
    #[serde(flatten)]
    pub status: LogStatus,
}

/// The file in which a state folder's agent says how it is.
pub fn status_file(state: &Path) -> PathBuf {
    state.join("status.json")
}

impl LogReport {
    /// Whether all is well with it.
    pub fn is_followed(&self) -> bool {
        self.status.state == LogState::Following
    }
}

impl Status {
    /// How the agent is now.
    pub fn now(buffer: &Buffer, capture: &Capture, aggregator: &str, uplink: &Uplink) -> Result<Self, BufferError> {
        let depth = buffer.depth()?;
        let logs = statuses(capture).map(|(log, status)| LogReport { log: log.to_owned(), status });
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
        let following = self.logs.iter().filter(|log| log.is_followed()).count();
        let mut line = format!("{following} of {} logs followed, aggregator {}", self.logs.len(), self.uplink);
        if self.buffered_batches > 0 {
            line.push_str(&format!(
                ", {} batches waiting, the oldest for {} s",
                self.buffered_batches, self.oldest_batch_age_seconds
            ));
        }
        for LogReport { log, status } in self.logs.iter().filter(|log| !log.is_followed()) {
            match status.message.as_str() {
                "" => line.push_str(&format!("; {log}: {}", status.state)),
                message => line.push_str(&format!("; {log}: {message}")),
            }
        }
        line
    }

    /// Where reading stands in each log.
    pub fn positions(&self) -> String {
        let log = |LogReport { log, status }: &LogReport| {
            format!("{log} ({}, {} of {} bytes)", status.state, status.position, status.size)
        };
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

/// A moment for people.
pub fn at(seconds: i64) -> String {
    match Timestamp::from_second(seconds) {
        Ok(moment) if seconds != 0 => moment.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        _ => "never".into(),
    }
}
