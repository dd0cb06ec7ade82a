//! The state of the agent: for the aggregator, and for people on this machine.
//!
//! [`report`] publishes the state at regular intervals.

pub mod report;

use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use jiff::Timestamp;
use seatmeter_proto::v1::{self, Heartbeat, SourceState, SourceStatus};
use seatmeter_service::screen::text::{count, duration, utc};
use seatmeter_service::stamp;
use serde::{Deserialize, Serialize};

use crate::buffer::{Buffer, BufferError, Depth};
use crate::capture::{Capture, CapturedLog};
use crate::format::interpreter::LineCounts;
use crate::source::file::status::{LogState, LogStatus, UnreadPart};

/// The state of the agent, as written to a file beside the buffer. The names of the fields are those of
/// `status --json`, and must not change.
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    /// The agent's version.
    pub version: String,
    /// The id of the process that wrote the file.
    pub pid: u32,
    /// When the file was written, in seconds since 1970 UTC.
    #[serde(with = "stamp")]
    pub at: i64,
    /// The aggregator's URL.
    pub aggregator: String,
    /// The state of delivery.
    pub uplink: UplinkState,
    /// When a batch was last acknowledged, in seconds since 1970 UTC; `None` if never since the start.
    #[serde(with = "stamp::optional")]
    pub last_acknowledged_at: Option<i64>,
    /// Batches not acknowledged.
    pub buffered_batches: u64,
    /// The size of the batches not acknowledged, in bytes.
    pub buffered_bytes: u64,
    /// The buffer's quota, in bytes.
    pub buffer_quota_bytes: u64,
    /// How long the oldest batch has been waiting, in seconds; 0 if there is none.
    pub oldest_batch_age_seconds: u64,
    /// The state of each log.
    pub logs: Vec<LogReport>,
}

/// The state of delivery.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum UplinkState {
    /// No connection has been opened yet.
    #[default]
    Connecting,
    /// Batches are delivered.
    Connected,
    /// There is no network: batches are exported.
    Sealed,
    /// Batches cannot be delivered.
    Down {
        /// When delivery first failed, in seconds since 1970 UTC.
        #[serde(with = "stamp")]
        since: i64,
        /// Why delivery fails.
        reason: String,
    },
}

impl std::fmt::Display for UplinkState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connecting => f.write_str("connecting"),
            Self::Connected => f.write_str("connected"),
            Self::Sealed => f.write_str("no network: `seatmeter-agent export` writes what waits into a file"),
            Self::Down { since, reason } => write!(f, "down since {}: {reason}", utc(*since)),
        }
    }
}

/// The state of a log.
#[derive(Debug, Serialize, Deserialize)]
pub struct LogReport {
    /// The log's name.
    pub log: String,
    /// The state.
    #[serde(flatten)]
    pub status: LogStatus,
}

/// Returns the path of the file in which an agent with this state folder publishes its state.
pub fn status_file(state: &Path) -> PathBuf {
    state.join("status.json")
}

impl LogReport {
    /// Whether the log is followed without a problem.
    pub fn is_followed(&self) -> bool {
        matches!(self.status.state, LogState::Following | LogState::Empty)
    }
}

impl Status {
    /// Returns the current state of the agent.
    pub fn now(
        buffer: &Buffer,
        capture: &Capture,
        aggregator: &str,
        uplink: &UplinkStatus,
    ) -> Result<Self, BufferError> {
        let depth = buffer.depth()?;
        let logs = statuses(buffer, capture).map(|(log, status)| LogReport { log: log.name.clone(), status });
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            at: Timestamp::now().as_second(),
            aggregator: aggregator.into(),
            uplink: uplink.state.clone(),
            last_acknowledged_at: uplink.acknowledged_at,
            buffered_batches: depth.batches,
            buffered_bytes: depth.bytes,
            buffer_quota_bytes: buffer.quota(),
            oldest_batch_age_seconds: depth.oldest_age,
            logs: logs.collect(),
        })
    }

    /// Returns the state as one line of text.
    pub fn line(&self) -> String {
        let following = self.logs.iter().filter(|log| log.is_followed()).count();
        let mut line =
            format!("{following} of {} followed, aggregator {}", count(self.logs.len() as u64, "log"), self.uplink);
        if self.buffered_batches > 0 {
            let (batches, age) = (count(self.buffered_batches, "batch"), duration(self.oldest_batch_age_seconds));
            line.push_str(&format!(", {batches} waiting, the oldest for {age}"));
        }
        for LogReport { log, status } in self.logs.iter().filter(|log| !log.is_followed()) {
            match status.message.as_str() {
                "" => line.push_str(&format!("; {log}: {}", status.state)),
                message => line.push_str(&format!("; {log}: {message}")),
            }
        }
        line
    }

    /// Returns the state, position and size of each log as text.
    pub fn positions(&self) -> String {
        let log = |LogReport { log, status }: &LogReport| {
            format!("{log} ({}, {} of {} bytes)", status.state, status.position, status.size)
        };
        self.logs.iter().map(log).collect::<Vec<_>>().join("; ")
    }

    /// Writes the status file atomically.
    pub fn save(&self, state: &Path) -> std::io::Result<()> {
        let path = status_file(state);
        let fresh = path.with_extension("json.new");
        std::fs::write(&fresh, serde_json::to_vec_pretty(self)?)?;
        std::fs::rename(&fresh, path)
    }
}

/// The state of delivery, and when it last succeeded.
#[derive(Clone, Debug, Default)]
pub struct UplinkStatus {
    /// The state.
    pub state: UplinkState,
    /// When a batch was last acknowledged, in seconds since 1970 UTC; `None` if never since the start.
    pub acknowledged_at: Option<i64>,
}

fn statuses<'a>(buffer: &'a Buffer, capture: &'a Capture) -> impl Iterator<Item = (&'a CapturedLog, LogStatus)> {
    capture.logs.iter().map(|log| {
        let status = log.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (log, status.with_patience(buffer.captured(&log.name)))
    })
}

/// Returns the heartbeat that reports the agent's state to the aggregator.
pub fn heartbeat(buffer: &Buffer, depth: Depth, capture: &Capture) -> Heartbeat {
    let mut lines = LineCounts::default();
    let mut sources = Vec::new();
    for (log, status) in statuses(buffer, capture) {
        lines += status.lines;
        let state = match status.state {
            LogState::Starting => SourceState::Unspecified,
            LogState::Missing => SourceState::Missing,
            LogState::Following => SourceState::Following,
            LogState::Unreadable => SourceState::Unreadable,
            LogState::BufferFull => SourceState::BufferFull,
            LogState::PermissionDenied => SourceState::PermissionDenied,
            LogState::NotALog => SourceState::NotALog,
            LogState::Empty => SourceState::Empty,
            LogState::Partial => SourceState::Partial,
        };
        sources.push(SourceStatus {
            log: log.name.clone(),
            state: state.into(),
            detail: status.detail,
            position: status.position,
            size: status.size,
            last_line_at: status.last_line_at.unwrap_or(0),
            time_zone: log.configured.time_zone.clone(),
            configured_day: log.configured.day,
            poll_interval_seconds: log.configured.poll_interval,
            license_manager: status.manager,
            unread_parts: status.unread_parts.into_iter().map(unread_part).collect(),
        });
    }
    Heartbeat {
        clock: Some(seatmeter_proto::timestamp(Timestamp::now().as_second())),
        buffered_batches: depth.batches,
        buffered_bytes: depth.bytes,
        buffer_quota_bytes: buffer.quota(),
        oldest_batch_age_seconds: depth.oldest_age,
        lines: Some(v1::LineCounts { events: lines.events, ignored: lines.ignored, unrecognised: lines.unrecognised }),
        sources,
        ..Heartbeat::default()
    }
}

fn unread_part(part: UnreadPart) -> v1::UnreadPart {
    v1::UnreadPart {
        path: part.path.display().to_string(),
        detail: part.reason,
        written: Some(seatmeter_proto::timestamp(part.written_at)),
    }
}

/// Formats a moment for display; `never` if there is none.
pub fn at(seconds: Option<i64>) -> String {
    seconds.map_or_else(|| "never".into(), utc)
}
