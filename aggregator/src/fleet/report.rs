//! Whether license servers report, and if not, since when and why.

use seatmeter_proto::v1::{SourceState, SourceStatus};

use super::snapshot::FleetSnapshot;
use crate::store::received::{Agent, LicenseServer};

/// The seconds without a report after which an agent is silent. An agent reports every 30 seconds.
pub const SILENT_AFTER: i64 = 300;

/// The age of its last line, in seconds, beyond which a log is late. FlexNet writes a line at least every six hours.
pub const LATE_AFTER: i64 = 86_400;

/// Whether a log or a license server reports. Later variants are worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReportState {
    /// An agent reports, but no longer lists the log: its configuration does not include the log any more.
    NotFollowed,
    /// An agent reports, and the last line is recent.
    Ok,
    /// An agent reports, but the last line is old.
    Late,
    /// An agent reports, but it must wait before it can read on.
    Waiting,
    /// An agent reports, but no line was ever received.
    Never,
    /// An agent reports that the file cannot be read.
    CannotRead,
    /// An agent reports that the file is no license log.
    NotALog,
    /// No agent has reported for [`SILENT_AFTER`] seconds.
    Silent,
}

/// The report of one log.
#[derive(Clone, Debug)]
pub struct LogReport {
    /// The log's path, or the name given in the agent's configuration.
    pub name: String,
    /// The moment of the last dated line, in seconds since 1970 UTC; `None` if there is none.
    pub last_line: Option<i64>,
    /// The number of files that the log was read from.
    pub streams: u64,
    /// The number of known gaps.
    pub gaps: u64,
    /// Whether the log reports, and if not, why not.
    pub state: ReportState,
    /// When the state began, in seconds since 1970 UTC; `None` if that is unknown.
    pub since: Option<i64>,
    /// The state of the source, as the agent reports it.
    pub source: SourceState,
    /// The error text of the agent's operating system, for people; empty if there is none.
    pub detail: String,
}

/// Returns the reports of a license server's logs, worst first: logs with lines received, and logs that an agent lists.
pub fn log_reports(fleet: &FleetSnapshot, server: &LicenseServer, now: i64) -> Vec<LogReport> {
    let mut agents: Vec<&Agent> = fleet.agents_of(server.id).collect();
    agents.sort_by_key(|agent| std::cmp::Reverse(agent.last_report));
    let source_of = |log: &str| {
        let speaking = agents.iter().filter(|agent| !is_silent(agent, now));
        speaking.flat_map(|agent| &agent.heartbeat.sources).find(|source| source.log == log)
    };
    let last_report = agents.iter().map(|agent| agent.last_report).max();
    let mut reports: Vec<LogReport> = fleet
        .logs_of(server.id)
        .map(|log| {
            let last_line = (log.last_line_at > 0).then_some(log.last_line_at);
            let report = report(log.name.clone(), last_line, source_of(&log.name), last_report, now);
            LogReport { streams: fleet.streams_of(log.id).count() as u64, gaps: fleet.gaps_of(log.id), ..report }
        })
        .collect();
    for source in heard_agents(fleet, server, now).into_iter().flat_map(|agent| &agent.heartbeat.sources) {
        if !reports.iter().any(|report| report.name == source.log) {
            reports.push(report(source.log.clone(), None, source_of(&source.log), last_report, now));
        }
    }
    reports.sort_by(|a, b| b.state.cmp(&a.state).then_with(|| a.name.cmp(&b.name)));
    reports
}

/// Returns the state of a license server: the state of its worst log. Without any log, the state is `Never` if an agent
/// reports for the server, and `Silent` if none does.
pub fn server_state(reports: &[LogReport], fleet: &FleetSnapshot, server: &LicenseServer, now: i64) -> ReportState {
    let is_spoken_for = fleet.agents_of(server.id).any(|agent| !is_silent(agent, now));
    let without_logs = if is_spoken_for { ReportState::Never } else { ReportState::Silent };
    reports.iter().map(|report| report.state).max().unwrap_or(without_logs)
}

impl ReportState {
    /// Returns whether the state needs no attention.
    pub fn is_well(self) -> bool {
        self <= Self::Ok
    }
}

/// Returns the agents whose reports count for a license server: those that are not silent, or all if all are silent.
pub fn heard_agents<'a>(fleet: &'a FleetSnapshot, server: &LicenseServer, now: i64) -> Vec<&'a Agent> {
    let agents: Vec<&Agent> = fleet.agents_of(server.id).collect();
    let speaking: Vec<&Agent> = agents.iter().copied().filter(|agent| !is_silent(agent, now)).collect();
    if speaking.is_empty() { agents } else { speaking }
}

/// Returns whether an agent has not reported for more than [`SILENT_AFTER`] seconds.
pub fn is_silent(agent: &Agent, now: i64) -> bool {
    now - agent.last_report > SILENT_AFTER
}

fn report(
    name: String,
    last_line: Option<i64>,
    source: Option<&SourceStatus>,
    last_report: Option<i64>,
    now: i64,
) -> LogReport {
    let by_lines = match last_line {
        None => (ReportState::Never, None),
        Some(at) if now - at > LATE_AFTER => (ReportState::Late, Some(at)),
        Some(_) => (ReportState::Ok, None),
    };
    let is_spoken_for = last_report.is_some_and(|at| now - at <= SILENT_AFTER);
    let (state, since) = match source.map(SourceStatus::state) {
        None if is_spoken_for => (ReportState::NotFollowed, last_line),
        None => (ReportState::Silent, last_report),
        Some(SourceState::Missing | SourceState::Unreadable | SourceState::PermissionDenied) => {
            (ReportState::CannotRead, None)
        }
        Some(SourceState::NotALog) => (ReportState::NotALog, None),
        Some(SourceState::Undated | SourceState::BufferFull) => (ReportState::Waiting, None),
        Some(SourceState::Following | SourceState::Empty | SourceState::Unspecified) => by_lines,
    };
    LogReport {
        name,
        last_line,
        streams: 0,
        gaps: 0,
        state,
        since,
        source: source.map_or(SourceState::Unspecified, SourceStatus::state),
        detail: source.map(|source| source.detail.clone()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(last_line: Option<i64>, source: Option<SourceState>) -> (ReportState, Option<i64>) {
        let source = source.map(|state| SourceStatus { state: state.into(), ..SourceStatus::default() });
        let report = report("log".into(), last_line, source.as_ref(), Some(9_000_000), 10_000_000);
        (report.state, report.since)
    }

    #[test]
    fn a_log_that_does_not_report_says_why_and_since_when() {
        let following = Some(SourceState::Following);
        assert_eq!(state(Some(9_999_000), following), (ReportState::Ok, None));
        assert_eq!(state(Some(1_000), following), (ReportState::Late, Some(1_000)));
        assert_eq!(state(None, following), (ReportState::Never, None));
        assert_eq!(state(None, Some(SourceState::Empty)), (ReportState::Never, None));
        assert_eq!(state(Some(9_999_000), Some(SourceState::PermissionDenied)), (ReportState::CannotRead, None));
        assert_eq!(state(None, Some(SourceState::NotALog)), (ReportState::NotALog, None));
        assert_eq!(state(None, Some(SourceState::Undated)), (ReportState::Waiting, None));
        assert_eq!(state(Some(9_999_000), None), (ReportState::Silent, Some(9_000_000)));
        let gone = report("log".into(), Some(5), None, Some(9_999_990), 10_000_000);
        assert_eq!((gone.state, gone.since, gone.state.is_well()), (ReportState::NotFollowed, Some(5), true));
    }
}
