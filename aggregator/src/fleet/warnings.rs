//! What an operator should look into, of a license server: by what its agents say, and by what its logs hold.

use seatmeter_count::Calendar;
use seatmeter_count::calendar::date_of;
use seatmeter_proto::v1::SourceState;

use super::ServerReport;
use super::report::{LogReport, ReportState, is_silent};
use super::version::Version;
use crate::quarantine;
use crate::store::agents::Agent;
use crate::store::received::Gap;

const MINUTE: i64 = 60;
const DAY: i64 = 86_400;

/// How far an agent's clock can be off, in seconds: months begin and end by it where logs tell no date.
const CLOCK_OFF: i64 = 5 * MINUTE;

/// How long a batch can wait in an agent's buffer, in seconds.
const BACKLOG: u64 = 3600;

/// The part of its quota that an agent's buffer can fill, in percent.
const BUFFER_FULL: u64 = 80;

/// Unrecognised lines are a warning from this many on, if they are one in so many.
const UNRECOGNISED: u64 = 10;
const UNRECOGNISED_PART: u64 = 100;

/// For how long a gap is a warning, in seconds: the month after it is closed by then.
const GAP_TOLD: i64 = 62 * DAY;

/// How many days before licenses expire it is told, and how many before it is urgent.
const EXPIRY_TOLD: i64 = 90;
const EXPIRY_URGENT: i64 = 30;

/// What a warning speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// More than one agent speaks for the license server; the count is how many.
    SeveralAgents,
    /// Lines were not recognised; the count is how many.
    UnrecognisedLines,
    /// Files begin as files of another license server do; the count is how many.
    SameFiles,
    /// No agent has reported for long.
    Silent,
    /// It is expected to report, and never has.
    NeverReported,
    /// The log cannot be read, or is none.
    CannotRead,
    /// A part of what the license manager is asked is not answered.
    PartlyAnswered,
    /// An agent reports, and the log has had no line for long.
    NoLines,
    /// An agent is older than it should be.
    OutdatedAgent,
    /// A license manager is older than it should be.
    OutdatedLicenseManager,
    /// Licenses expire, or have expired.
    LicensesExpire,
    /// An agent's clock is off; the count is by how many seconds.
    ClockOff,
    /// Batches wait in an agent's buffer; the count is for how many seconds.
    Backlog,
    /// An agent's buffer is nearly full; the count is how full, in percent.
    BufferFull,
    /// Parts of the log were gone before they could be read; the count is how many.
    Gaps,
    /// Nothing dates lines of the log; the count is how many.
    UndatedLines,
    /// Lines are kept apart, since their dates cannot be right; the count is how many.
    WrongClock,
    /// Agents of its realm send the names of users in different ways, so that one person counts as several.
    NamesDiffer,
    /// A copy of its agent has sent this: it counts nowhere until an operator says what it is.
    Quarantined,
    /// More came of it in a day than should; the count is how much.
    OverQuota,
    /// Features that are licensed by concurrent use are in use, of which no number of users is reported; the count is how many.
    ConcurrentInUse,
}

/// How soon somebody should look into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// When there is time.
    Notice,
    /// Soon.
    Warning,
    /// Now: figures are missing, or will be.
    Alert,
}

/// Something that an operator should look into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// What it speaks of.
    pub kind: Kind,
    /// How soon somebody should look into it.
    pub severity: Severity,
    /// The log, or the machine of the agent; empty if it is of the license server as a whole.
    pub subject: String,
    /// See [`Kind`].
    pub count: u64,
    /// The other license server, or the version that there should be at least.
    pub other: String,
    /// What the agent's system said, or the version that there is: for people.
    pub detail: String,
    /// Since when, or from when on, in seconds since 1970 UTC; `None` if that is not known.
    pub since: Option<i64>,
}

/// From when on something is a warning.
#[derive(Clone, Debug)]
pub struct Limits {
    /// After how many seconds without a report a license server is silent.
    pub silent_after: i64,
    /// From when on silence counts, in seconds since 1970 UTC: the start of the aggregator.
    pub counted_from: i64,
    /// The version that agents should have at least.
    pub agents_at_least: String,
    /// The version that license managers should have at least, by the beginning of their names.
    pub license_managers_at_least: Vec<(String, String)>,
    /// The most that should come of a license server in a day.
    pub quotas: Quotas,
}

/// The most that should come of a license server in a day.
#[derive(Clone, Debug)]
pub struct Quotas {
    /// Batches.
    pub batches: u64,
    /// Bytes of batches, as they come.
    pub bytes: u64,
    /// Names that nobody had before.
    pub new_names: u64,
}

impl Default for Quotas {
    fn default() -> Self {
        Self { batches: 100_000, bytes: 4_000_000_000, new_names: 1000 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let agents_at_least = env!("CARGO_PKG_VERSION").to_owned();
        Self {
            silent_after: 3 * DAY,
            counted_from: 0,
            agents_at_least,
            license_managers_at_least: Vec::new(),
            quotas: Quotas::default(),
        }
    }
}

impl Warning {
    /// Returns one without more to say.
    pub(super) fn new(kind: Kind, severity: Severity) -> Self {
        let (subject, other, detail) = (String::new(), String::new(), String::new());
        Self { kind, severity, subject, count: 0, other, detail, since: None }
    }

    fn of(self, subject: &str) -> Self {
        Self { subject: subject.to_owned(), ..self }
    }
}

/// Returns what an operator should look into, of a license server with these agents, at a moment (seconds since 1970 UTC); the most
/// urgent first.
pub fn warnings(
    report: &ServerReport,
    agents: &[&Agent],
    limits: &Limits,
    calendar: &Calendar,
    now: i64,
) -> Vec<Warning> {
    if quarantine::is_name(&report.name) {
        // What else is wrong with it is of no use. A rejected one is not expected any more.
        let is_open = report.state != ReportState::NotExpected;
        let quarantined = is_open.then(|| Warning::new(Kind::Quarantined, Severity::Alert));
        return quarantined.into_iter().chain(over_quota(report, &limits.quotas)).collect();
    }
    let of_copies = |(other, _): &&(String, u64)| !quarantine::is_name(other);
    let mut found: Vec<Warning> = report.namesakes.iter().filter(of_copies).map(same_files).collect();
    if report.state != ReportState::NotExpected {
        found.extend(of_server(report, agents, limits, now));
        found.extend(report.logs.iter().flat_map(|log| of_log(log, limits, calendar, now)));
        let heard = agents.iter().filter(|agent| !is_silent(agent, now));
        found.extend(heard.flat_map(|agent| of_agent(agent, limits)));
    }
    found.sort_by(|one, other| {
        other.severity.cmp(&one.severity).then_with(|| (one.kind, &one.subject).cmp(&(other.kind, &other.subject)))
    });
    found
}

fn same_files((other, count): &(String, u64)) -> Warning {
    Warning { count: *count, other: other.clone(), ..Warning::new(Kind::SameFiles, Severity::Warning) }
}

fn over_quota(report: &ServerReport, quotas: &Quotas) -> impl Iterator<Item = Warning> {
    let came = &report.came;
    let held = [
        ("batches", came.batches, quotas.batches),
        ("bytes", came.bytes, quotas.bytes),
        ("new names", came.new_names, quotas.new_names),
    ];
    held.into_iter().filter(|(_, is, quota)| is > quota).map(|(what, is, quota)| {
        let (other, detail) = (quota.to_string(), what.to_owned());
        Warning { count: is, other, detail, ..Warning::new(Kind::OverQuota, Severity::Warning) }
    })
}

fn of_server(report: &ServerReport, agents: &[&Agent], limits: &Limits, now: i64) -> Vec<Warning> {
    let mut found: Vec<Warning> = over_quota(report, &limits.quotas).collect();
    if !report.concurrent_in_use.is_empty() {
        let (count, detail) = (report.concurrent_in_use.len() as u64, report.concurrent_in_use.join(", "));
        found.push(Warning { count, detail, ..Warning::new(Kind::ConcurrentInUse, Severity::Notice) });
    }
    if agents.len() > 1 {
        found.push(Warning { count: agents.len() as u64, ..Warning::new(Kind::SeveralAgents, Severity::Notice) });
    }
    match report.last_report {
        // While the aggregator was off, nobody could report.
        Some(last) if now - last.max(limits.counted_from) > limits.silent_after => {
            found.push(Warning { since: Some(last), ..Warning::new(Kind::Silent, Severity::Alert) });
        }
        None if report.expected_from.is_some() => found.push(Warning::new(Kind::NeverReported, Severity::Alert)),
        _ => {}
    }
    found
}

fn of_log(log: &LogReport, limits: &Limits, calendar: &Calendar, now: i64) -> Vec<Warning> {
    let mut found = Vec::new();
    let mut warn = |warning: Warning| found.push(warning.of(&log.name));
    let [events, ignored, unrecognised] = log.lines;
    if unrecognised > 0 {
        let is_much = unrecognised >= UNRECOGNISED
            && unrecognised.saturating_mul(UNRECOGNISED_PART)
                >= events.saturating_add(ignored).saturating_add(unrecognised);
        let severity = if is_much { Severity::Warning } else { Severity::Notice };
        warn(Warning { count: unrecognised, ..Warning::new(Kind::UnrecognisedLines, severity) });
    }
    match (log.state, log.source) {
        (ReportState::CannotRead, SourceState::Partial) => {
            warn(Warning { detail: log.detail.clone(), ..Warning::new(Kind::PartlyAnswered, Severity::Warning) });
        }
        (ReportState::CannotRead | ReportState::NotALog, source) => {
            let detail = match source {
                SourceState::Missing => "it does not exist".to_owned(),
                SourceState::PermissionDenied => "the agent's account may not read it".to_owned(),
                SourceState::NotALog => "it is no license log".to_owned(),
                _ => log.detail.clone(),
            };
            warn(Warning { detail, ..Warning::new(Kind::CannotRead, Severity::Alert) });
        }
        (ReportState::Late, _) => {
            warn(Warning { since: log.last_line, ..Warning::new(Kind::NoLines, Severity::Warning) });
        }
        _ => {}
    }
    // The lost lines were written between two moments, of which either can be unknown.
    let is_recent =
        |gap: &&Gap| now - gap.after_at < GAP_TOLD || gap.after_at <= 0 || now - gap.before_at.min(now) < GAP_TOLD;
    let gaps: Vec<i64> = log.gaps.iter().filter(is_recent).map(|gap| gap.after_at).collect();
    if !gaps.is_empty() {
        let since = gaps.iter().copied().filter(|at| *at > 0).min();
        warn(Warning { count: gaps.len() as u64, since, ..Warning::new(Kind::Gaps, Severity::Warning) });
    }
    if log.undated_lines > 0 {
        warn(Warning { count: log.undated_lines, ..Warning::new(Kind::UndatedLines, Severity::Warning) });
    }
    if let Some(apart) = &log.apart {
        warn(Warning { count: apart.lines, ..Warning::new(Kind::WrongClock, Severity::Warning) });
    }
    for (name, least) in &limits.license_managers_at_least {
        if log.license_manager.starts_with(name.as_str()) && is_before(&log.license_manager, least) {
            let (other, detail) = (least.clone(), log.license_manager.clone());
            warn(Warning { other, detail, ..Warning::new(Kind::OutdatedLicenseManager, Severity::Notice) });
        }
    }
    for day in &log.expiries {
        // They can be used through that day.
        let end = calendar.start_of_day(day + 1);
        let left = (end - now).div_euclid(DAY);
        // Long after their end, nobody waits for them.
        if (-EXPIRY_URGENT..=EXPIRY_TOLD).contains(&left) {
            let severity = if left <= EXPIRY_URGENT { Severity::Alert } else { Severity::Notice };
            // Each day is an alert of its own.
            let other = date_of(*day).to_string();
            warn(Warning { since: Some(end), other, ..Warning::new(Kind::LicensesExpire, severity) });
        }
    }
    found
}

fn of_agent(agent: &Agent, limits: &Limits) -> Vec<Warning> {
    let mut found = Vec::new();
    let mut warn = |warning: Warning| found.push(warning.of(&agent.host));
    if is_before(&agent.version, &limits.agents_at_least) {
        let (other, detail) = (limits.agents_at_least.clone(), agent.version.clone());
        warn(Warning { other, detail, ..Warning::new(Kind::OutdatedAgent, Severity::Notice) });
    }
    if agent.clock_ahead.abs() > CLOCK_OFF {
        let detail = if agent.clock_ahead > 0 { "ahead" } else { "behind" }.to_owned();
        let count = agent.clock_ahead.unsigned_abs();
        warn(Warning { count, detail, ..Warning::new(Kind::ClockOff, Severity::Warning) });
    }
    let heartbeat = &agent.heartbeat;
    if heartbeat.oldest_batch_age_seconds > BACKLOG {
        let count = heartbeat.oldest_batch_age_seconds;
        warn(Warning { count, ..Warning::new(Kind::Backlog, Severity::Warning) });
    }
    let full = heartbeat.buffered_bytes.saturating_mul(100) / heartbeat.buffer_quota_bytes.max(1);
    if heartbeat.buffer_quota_bytes > 0 && full >= BUFFER_FULL {
        warn(Warning { count: full, ..Warning::new(Kind::BufferFull, Severity::Alert) });
    }
    found
}

fn is_before(version: &str, least: &str) -> bool {
    match (Version::find(version), Version::find(least)) {
        (Some(version), Some(least)) => version.is_before(&least),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use seatmeter_proto::v1::Heartbeat;

    use super::super::Came;
    use super::*;
    use crate::store::received::Gap;

    const NOW: i64 = 1_780_000_000;

    fn log() -> LogReport {
        LogReport {
            name: "log".into(),
            last_line: Some(NOW),
            streams: 1,
            gaps: Vec::new(),
            lines: [1000, 0, 0],
            undated_lines: 0,
            apart: None,
            open_sessions: 0,
            state: ReportState::Ok,
            since: None,
            source: SourceState::Following,
            detail: String::new(),
            shared_beginnings: Vec::new(),
            unread_parts: Vec::new(),
            license_manager: "FlexNet Licensing (v11.9.0)".into(),
            expiries: Vec::new(),
        }
    }

    fn agent() -> Agent {
        Agent {
            id: String::new(),
            server_id: 1,
            host: "host".into(),
            version: "0.2.0".into(),
            last_report: NOW,
            clock_ahead: 0,
            heartbeat: Heartbeat { buffer_quota_bytes: 1 << 30, ..Heartbeat::default() },
        }
    }

    fn found(log: LogReport, agents: &[&Agent]) -> Vec<(Kind, Severity)> {
        let report = ServerReport {
            name: "LIC01".into(),
            key: "lic01".into(),
            realm: String::new(),
            last_report: agents.iter().map(|agent| agent.last_report).max(),
            last_line: log.last_line,
            lines: log.lines,
            open_sessions: 0,
            state: log.state,
            expected_from: None,
            retired_from: None,
            namesakes: Vec::new(),
            warnings: Vec::new(),
            came: Came::default(),
            concurrent_in_use: Vec::new(),
            logs: vec![log],
        };
        let limits = Limits {
            license_managers_at_least: vec![("FlexNet".into(), "11.19".into())],
            agents_at_least: "0.2".into(),
            ..Limits::default()
        };
        let found = warnings(&report, agents, &limits, &Calendar::utc(), NOW);
        found.iter().map(|warning| (warning.kind, warning.severity)).collect()
    }

    #[test]
    fn a_log_is_warned_of_for_what_it_lacks() {
        let (agent, old_manager) = (agent(), (Kind::OutdatedLicenseManager, Severity::Notice));
        let of = |log: LogReport| {
            let mut found = found(log, &[&agent]);
            found.retain(|found| *found != old_manager);
            found
        };
        assert_eq!(found(log(), &[&agent]), [old_manager]);
        assert_eq!(found(LogReport { license_manager: "RLM 14".into(), ..log() }, &[&agent]), []);
        let today = Calendar::utc().day(NOW);
        for (left, expected) in [
            (-31, None),
            (-30, Some(Severity::Alert)),
            (0, Some(Severity::Alert)),
            (30, Some(Severity::Alert)),
            (31, Some(Severity::Notice)),
            (90, Some(Severity::Notice)),
            (91, None),
        ] {
            let told = of(LogReport { expiries: vec![today - 400, today + left], ..log() });
            assert_eq!(
                told,
                expected.map(|severity| (Kind::LicensesExpire, severity)).into_iter().collect::<Vec<_>>(),
                "{left}"
            );
        }
        let lines = |lines| of(LogReport { lines, ..log() });
        assert_eq!(lines([1000, 0, 9]), [(Kind::UnrecognisedLines, Severity::Notice)]);
        assert_eq!(lines([900, 0, 10]), [(Kind::UnrecognisedLines, Severity::Warning)]);
        assert_eq!(lines([u64::MAX, u64::MAX, 10]), [(Kind::UnrecognisedLines, Severity::Notice)]);
        let gap = |after_at| Gap { stream_id: 1, start: 0, end: 1, after_at, before_at: i64::MAX };
        assert_eq!(of(LogReport { gaps: vec![gap(NOW - DAY)], ..log() }), [(Kind::Gaps, Severity::Warning)]);
        let old = Gap { before_at: NOW - 63 * DAY, ..gap(NOW - 64 * DAY) };
        assert_eq!(of(LogReport { gaps: vec![old], ..log() }), []);
        let state = |state, source| of(LogReport { state, source, ..log() });
        assert_eq!(state(ReportState::CannotRead, SourceState::Missing), [(Kind::CannotRead, Severity::Alert)]);
        assert_eq!(state(ReportState::CannotRead, SourceState::Partial), [(Kind::PartlyAnswered, Severity::Warning)]);
        assert_eq!(state(ReportState::Late, SourceState::Following), [(Kind::NoLines, Severity::Warning)]);
        // Retired, it needs nothing.
        assert_eq!(found(LogReport { undated_lines: 5, state: ReportState::NotExpected, ..log() }, &[&agent]), []);
    }

    #[test]
    fn an_agent_is_warned_of_for_as_long_as_it_is_heard() {
        let of = |agent: Agent| found(LogReport { license_manager: String::new(), ..log() }, &[&agent]);
        assert_eq!(of(agent()), []);
        assert_eq!(of(Agent { version: "0.1.9".into(), ..agent() }), [(Kind::OutdatedAgent, Severity::Notice)]);
        assert_eq!(of(Agent { clock_ahead: -301, ..agent() }), [(Kind::ClockOff, Severity::Warning)]);
        let beat = |heartbeat| of(Agent { heartbeat, ..agent() });
        let waiting = Heartbeat { oldest_batch_age_seconds: 3601, ..agent().heartbeat };
        assert_eq!(beat(waiting), [(Kind::Backlog, Severity::Warning)]);
        let full = Heartbeat { buffered_bytes: 900 << 20, ..agent().heartbeat };
        assert_eq!(beat(full), [(Kind::BufferFull, Severity::Alert)]);
        assert_eq!(beat(Heartbeat { buffered_bytes: u64::MAX, ..Heartbeat::default() }), []);
        let silent = Agent { last_report: NOW - 3 * DAY - 1, clock_ahead: 1000, ..agent() };
        assert_eq!(of(silent), [(Kind::Silent, Severity::Alert)]);
    }
}
