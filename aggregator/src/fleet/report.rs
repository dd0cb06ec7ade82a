//! Whether license servers report, and if not, since when and why.

use seatmeter_count::Day;
use seatmeter_proto::v1::{SourceState, SourceStatus, UnreadPart};

use super::snapshot::{FleetSnapshot, LATE_AFTER, SharedBeginning};
use crate::store::agents::Agent;
use crate::store::log_state::Apart;
use crate::store::received::{Gap, LicenseServer};

/// The seconds without a report after which an agent is silent. An agent reports every 30 seconds.
pub const SILENT_AFTER: i64 = 300;

/// Whether a log or a license server reports. Later variants are worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReportState {
    /// The license server is retired, or need not report yet.
    NotExpected,
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
    /// No agent that lists the log has reported for [`SILENT_AFTER`] seconds.
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
    /// The known gaps, in the order of the log's files.
    pub gaps: Vec<Gap>,
    /// The numbers of lines that became events, that were ignored, and that were not recognised.
    pub lines: [u64; 3],
    /// The number of lines that nothing dates.
    pub undated_lines: u64,
    /// The lines that are kept apart, since they are dated when they cannot have been written; `None` if there are none.
    pub apart: Option<Apart>,
    /// The number of sessions open at the last line.
    pub open_sessions: u64,
    /// Whether the log reports, and if not, why not.
    pub state: ReportState,
    /// When the state began, in seconds since 1970 UTC; `None` if that is unknown.
    pub since: Option<i64>,
    /// The state of the source, as the agent reports it.
    pub source: SourceState,
    /// The error text of the agent's operating system, for people; empty if there is none.
    pub detail: String,
    /// What files of the log have in common with files that came before them; the latest first.
    pub shared_beginnings: Vec<SharedBeginning>,
    /// The parts that the agent cannot read.
    pub unread_parts: Vec<UnreadPart>,
    /// The name and the version of the license manager, as it tells them; empty if it does not.
    pub license_manager: String,
    /// The days through which licenses can be used that the log tells, the first one first; it can have passed.
    pub expiries: Vec<Day>,
}

/// Returns the reports of a license server's logs, worst first: logs with lines received, and logs that an agent lists.
pub fn log_reports(fleet: &FleetSnapshot, server: &LicenseServer, now: i64) -> Vec<LogReport> {
    let voices = Voices::of(fleet, server, now);
    let mut reports: Vec<LogReport> = fleet
        .logs_of(server.id)
        .map(|log| {
            let last_line = Some(fleet.last_line_at(log.id)).filter(|at| *at > 0);
            let voice = voices.of_log(&log.name);
            let report = report(log.name.clone(), last_line, voice, fleet.late_after(log.id), now);
            let mut lines = [0; 3];
            for stream in fleet.streams_of(log.id) {
                for (sum, count) in lines.iter_mut().zip(stream.lines) {
                    *sum += count.max(0) as u64;
                }
            }
            let (undated_lines, apart) = (fleet.undated_lines(log.id), fleet.apart(log.id));
            let waits = (undated_lines > 0 || apart.is_some())
                && matches!(report.state, ReportState::Ok | ReportState::Never | ReportState::Late);
            LogReport {
                undated_lines,
                apart,
                state: if waits { ReportState::Waiting } else { report.state },
                streams: fleet.streams_of(log.id).count() as u64,
                gaps: fleet.gaps_of(log.id).to_vec(),
                lines,
                open_sessions: fleet.open(log.id).len() as u64,
                expiries: fleet.expiries(log.id).to_vec(),
                shared_beginnings: fleet.shared_beginnings_of(log.id).to_vec(),
                ..report
            }
        })
        .collect();
    for (source, _) in voices.sources() {
        if !reports.iter().any(|report| report.name == source.log) {
            reports.push(report(source.log.clone(), None, voices.of_log(&source.log), LATE_AFTER, now));
        }
    }
    reports.sort_by(|a, b| b.state.cmp(&a.state).then_with(|| a.name.cmp(&b.name)));
    reports
}

/// Says of all logs of a license server that need not report that they need not, and since when.
pub fn excuse(reports: &mut [LogReport], expected: Option<i64>, retired: Option<i64>, now: i64) -> bool {
    let retired = retired.filter(|retired| *retired <= now);
    let is_excused = retired.is_some() || expected.is_some_and(|expected| now < expected);
    if is_excused {
        reports.iter_mut().for_each(|report| (report.state, report.since) = (ReportState::NotExpected, retired));
    }
    is_excused
}

/// Returns the state of a license server: the state of its worst log. Without any log, the state is `Silent` if its agents
/// are, and `Never` if it has none, or if one reports.
pub fn server_state(reports: &[LogReport], fleet: &FleetSnapshot, server: &LicenseServer, now: i64) -> ReportState {
    let is_silent = fleet.agents_of(server.id).next().is_some() && Voices::of(fleet, server, now).are_silent();
    let without_logs = if is_silent { ReportState::Silent } else { ReportState::Never };
    reports.iter().map(|report| report.state).max().unwrap_or(without_logs)
}

impl ReportState {
    /// Returns whether the state needs no attention.
    pub fn is_well(self) -> bool {
        self <= Self::Ok
    }
}

/// The agents of a license server, and what they say of its logs.
pub struct Voices<'a> {
    /// The agents, the latest report first. Those that are not silent therefore come first.
    agents: Vec<&'a Agent>,
    now: i64,
}

/// What the agents of a license server say of a log.
#[derive(Clone, Copy)]
enum Voice<'a> {
    /// An agent that is not silent lists the log.
    Listed(&'a SourceStatus),
    /// Agents report, and none lists the log.
    Unlisted,
    /// No agent speaks for the log since this moment, in seconds since 1970 UTC; `None` if none ever did.
    Silent(Option<i64>),
}

impl<'a> Voices<'a> {
    /// Collects the agents of a license server at the moment `now`, in seconds since 1970 UTC.
    pub fn of(fleet: &'a FleetSnapshot, server: &LicenseServer, now: i64) -> Self {
        let mut agents: Vec<&Agent> = fleet.agents_of(server.id).collect();
        agents.sort_by_key(|agent| std::cmp::Reverse(agent.last_report));
        Self { agents, now }
    }

    /// Returns whether no agent has reported for [`SILENT_AFTER`] seconds.
    pub fn are_silent(&self) -> bool {
        self.agents.iter().all(|agent| is_silent(agent, self.now))
    }

    /// Returns the agents that are not silent; all of them if all are.
    pub fn heard(&self) -> impl Iterator<Item = &'a Agent> {
        let are_silent = self.are_silent();
        self.agents.iter().copied().filter(move |agent| are_silent || !is_silent(agent, self.now))
    }

    /// Returns each log that any agent lists, as the agent that lists it and reported last does, with that agent.
    pub fn sources(&self) -> impl Iterator<Item = (&'a SourceStatus, &'a Agent)> {
        let mut seen = hashbrown::HashSet::new();
        let all =
            self.agents.iter().flat_map(|agent| agent.heartbeat.sources.iter().map(move |source| (source, *agent)));
        all.filter(move |(source, _)| seen.insert(source.log.as_str()))
    }

    /// Whether agents report, and none lists a log any more.
    pub fn leave_out(&self, log: &str) -> bool {
        matches!(self.of_log(log), Voice::Unlisted)
    }

    fn of_log(&self, log: &str) -> Voice<'a> {
        match self.sources().find(|(source, _)| source.log == log) {
            Some((_, agent)) if is_silent(agent, self.now) => Voice::Silent(Some(agent.last_report)),
            Some((source, _)) => Voice::Listed(source),
            None if self.are_silent() => Voice::Silent(self.agents.first().map(|agent| agent.last_report)),
            None => Voice::Unlisted,
        }
    }
}

/// Returns whether an agent has not reported for more than [`SILENT_AFTER`] seconds.
pub fn is_silent(agent: &Agent, now: i64) -> bool {
    now - agent.last_report > SILENT_AFTER
}

fn report(name: String, last_line: Option<i64>, voice: Voice<'_>, late_after: i64, now: i64) -> LogReport {
    let by_lines = match last_line {
        None => (ReportState::Never, None),
        Some(at) if now - at > late_after => (ReportState::Late, Some(at)),
        Some(_) => (ReportState::Ok, None),
    };
    let (source, (state, since)) = match voice {
        Voice::Unlisted => (None, (ReportState::NotFollowed, last_line)),
        Voice::Silent(since) => (None, (ReportState::Silent, since)),
        Voice::Listed(source) => (
            Some(source),
            match source.state() {
                SourceState::Missing
                | SourceState::Unreadable
                | SourceState::PermissionDenied
                | SourceState::Partial => (ReportState::CannotRead, None),
                SourceState::NotALog => (ReportState::NotALog, None),
                SourceState::BufferFull => (ReportState::Waiting, None),
                SourceState::Following | SourceState::Empty | SourceState::Unspecified => by_lines,
            },
        ),
    };
    LogReport {
        name,
        last_line,
        streams: 0,
        gaps: Vec::new(),
        lines: [0; 3],
        undated_lines: 0,
        apart: None,
        open_sessions: 0,
        state,
        since,
        source: source.map_or(SourceState::Unspecified, SourceStatus::state),
        detail: source.map(|source| source.detail.clone()).unwrap_or_default(),
        shared_beginnings: Vec::new(),
        unread_parts: source.map(|source| source.unread_parts.clone()).unwrap_or_default(),
        license_manager: source.map(|source| source.license_manager.clone()).unwrap_or_default(),
        expiries: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use seatmeter_proto::v1::Heartbeat;

    use super::*;

    fn state(last_line: Option<i64>, source: Option<SourceState>) -> (ReportState, Option<i64>) {
        let source = source.map(|state| SourceStatus { state: state.into(), ..SourceStatus::default() });
        let voice = source.as_ref().map_or(Voice::Silent(Some(9_000_000)), Voice::Listed);
        let report = report("log".into(), last_line, voice, LATE_AFTER, 10_000_000);
        (report.state, report.since)
    }

    #[test]
    fn a_dead_agent_beside_a_living_one_leaves_its_logs_silent() {
        let agent = |last_report, logs: &[&str]| Agent {
            id: String::new(),
            server_id: 1,
            host: String::new(),
            version: String::new(),
            last_report,
            clock_ahead: 0,
            heartbeat: Heartbeat {
                sources: logs
                    .iter()
                    .map(|log| SourceStatus { log: (*log).into(), ..SourceStatus::default() })
                    .collect(),
                ..Heartbeat::default()
            },
        };
        let (living, dead) = (agent(9_999_990, &["a", "shared"]), agent(9_000_000, &["b", "shared"]));
        let voices = Voices { agents: vec![&living, &dead], now: 10_000_000 };
        let state = |log: &str| {
            let report = report(log.into(), Some(9_999_000), voices.of_log(log), LATE_AFTER, 10_000_000);
            (report.state, report.since)
        };
        assert_eq!(state("a"), (ReportState::Ok, None));
        assert_eq!(state("shared"), (ReportState::Ok, None));
        assert_eq!(state("b"), (ReportState::Silent, Some(9_000_000)));
        assert_eq!(state("c"), (ReportState::NotFollowed, Some(9_999_000)));
        assert!(!voices.are_silent());
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
        assert_eq!(state(Some(9_999_000), None), (ReportState::Silent, Some(9_000_000)));
        let gone = report("log".into(), Some(5), Voice::Unlisted, LATE_AFTER, 10_000_000);
        assert_eq!((gone.state, gone.since, gone.state.is_well()), (ReportState::NotFollowed, Some(5), true));
    }
}
