//! How complete a month is: silence is never zero.

use seatmeter_count::{Calendar, Month};
use seatmeter_proto::v1::{SourceState, UnreadPart};

use crate::fleet::report::Voices;
use crate::fleet::snapshot::FleetSnapshot;
use crate::store::log_state::Apart;
use crate::store::projections::Silence;
use crate::store::received::{Gap, LicenseServer, Log};

/// How complete a month is, for all license servers that a question selects.
#[derive(Clone, Debug, Default)]
pub struct Completeness {
    /// The license servers selected, ordered by name.
    pub servers: Vec<ServerCompleteness>,
}

/// How complete one license server's month is.
#[derive(Clone, Debug)]
pub struct ServerCompleteness {
    /// The license server's id.
    pub server_id: i64,
    /// The license server's name.
    pub license_server: String,
    /// The moment of the last dated line in its logs, in seconds since 1970 UTC; `None` if there is none.
    pub reported_through: Option<i64>,
    /// Whether its logs cover any part of the month.
    pub has_reported: bool,
    /// The reasons why the month is incomplete; empty if nothing is known to be missing.
    pub reasons: Vec<Reason>,
}

/// A reason why a license server's month is incomplete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No line has been received.
    NothingReceived,
    /// The logs begin after the month.
    BeginsAfterMonth,
    /// The logs begin within the month, at this moment (seconds since 1970 UTC).
    BeginsLate(i64),
    /// A log ends too early.
    EndsEarly {
        /// The log; empty if all logs of the license server do.
        log: String,
        /// The moment of the last line read, in seconds since 1970 UTC.
        last_line: i64,
    },
    /// The figures are being rebuilt.
    Rebuilding,
    /// Parts of a log were gone before they could be read.
    Gaps {
        /// The log.
        log: String,
        /// The number of parts.
        count: u64,
        /// The last line known before the first of them, in seconds since 1970 UTC; `None` if no line is known.
        from: Option<i64>,
        /// A moment before which all lost lines were written, in seconds since 1970 UTC.
        through: i64,
    },
    /// Lines are kept apart, since they are dated when they cannot have been written.
    Apart {
        /// The log.
        log: String,
        /// The lines.
        lines: Apart,
    },
    /// A log that has a line every six hours has none for longer, and no daemon's start follows; or a license manager that is
    /// asked does not answer.
    Silences {
        /// The log.
        log: String,
        /// The number of times.
        count: u64,
        /// The last line before the first of them, in seconds since 1970 UTC.
        from: i64,
        /// The first line after the last of them, in seconds since 1970 UTC.
        through: i64,
        /// Whether the log is what a license manager answers.
        is_asked: bool,
    },
    /// Rotated parts of a log cannot be read.
    UnreadParts {
        /// The log.
        log: String,
        /// The number of parts.
        count: u64,
        /// What is said of the first of them, for people.
        detail: String,
        /// A moment before which all their lines were written, in seconds since 1970 UTC.
        through: i64,
    },
    /// Lines have no date yet; this is their number.
    UndatedLines(u64),
    /// A source cannot be read.
    Source {
        /// The log.
        log: String,
        /// The state of the source, as the agent reports it.
        state: SourceState,
        /// The error text of the agent's operating system, for people; empty if there is none.
        detail: String,
    },
}

impl Completeness {
    /// Returns whether there is a license server and nothing is known to be missing.
    pub fn is_complete(&self) -> bool {
        !self.servers.is_empty() && self.servers.iter().all(ServerCompleteness::is_complete)
    }

    /// Returns whether any license server has reported in the month.
    pub fn has_reported(&self) -> bool {
        self.servers.iter().any(|server| server.has_reported)
    }
}

impl ServerCompleteness {
    /// Returns whether nothing is known to be missing.
    pub fn is_complete(&self) -> bool {
        self.reasons.is_empty()
    }
}

/// Returns how complete a month is at the moment `now` (seconds since 1970 UTC), for all license servers or `only` one.
pub fn completeness(
    fleet: &FleetSnapshot,
    only: Option<i64>,
    calendar: &Calendar,
    month: Month,
    now: i64,
) -> Completeness {
    let servers = fleet.servers.iter().filter(|server| only.is_none_or(|id| id == server.id));
    Completeness { servers: servers.map(|server| of_server(fleet, server, calendar, month, now)).collect() }
}

fn of_server(
    fleet: &FleetSnapshot,
    server: &LicenseServer,
    calendar: &Calendar,
    month: Month,
    now: i64,
) -> ServerCompleteness {
    let begins = fleet
        .logs_with_use(server.id)
        .flat_map(|log| fleet.dated_streams_of(log.id))
        .map(|stream| stream.begins_at)
        .min();
    // A log that has begun before it was expected is no longer excused.
    let expected = fleet.expected(server, calendar).filter(|expected| begins.is_none_or(|begins| begins >= *expected));
    let retired = fleet.retired(server, calendar);
    let start = calendar.start_of(month).max(expected.unwrap_or(i64::MIN));
    let end = calendar.start_of(month.next()).min(retired.unwrap_or(i64::MAX));
    // In the current month, a license server whose last line is recent enough lacks nothing.
    // Of one that is retired from a day on, any line of the day before is enough.
    let last_needed = if retired == Some(end) { end - DAY } else { end };
    let needed = |log: i64| last_needed.min(now - fleet.late_after(log));
    let through = fleet.logs_with_use(server.id).map(|log| fleet.last_line_at(log.id)).max().unwrap_or(0);
    let undated: u64 = fleet.logs_with_use(server.id).map(|log| fleet.undated_lines(log.id)).sum();
    let has_apart = fleet.logs_with_use(server.id).any(|log| fleet.apart(log.id).is_some());
    let mut reasons = Vec::new();
    let has_reported = begins.is_some_and(|begins| begins < end) && through >= start;
    if start >= end.min(now) {
        // It need not report in this month.
        return ServerCompleteness {
            server_id: server.id,
            license_server: server.name.clone(),
            reported_through: (through > 0).then_some(through),
            has_reported,
            reasons,
        };
    }
    // Of a license server that is expected from a day on, the whole day is enough.
    let latest_begin = start + if expected.is_some_and(|expected| expected == start) { DAY } else { 0 };
    match begins {
        None if undated > 0 || has_apart => {}
        None => reasons.push(Reason::NothingReceived),
        Some(begins) if begins >= end => reasons.push(Reason::BeginsAfterMonth),
        Some(begins) if begins > latest_begin => reasons.push(Reason::BeginsLate(begins)),
        Some(_) => {}
    }
    let all_end_early = fleet.logs_with_use(server.id).all(|log| fleet.last_line_at(log.id) < needed(log.id));
    if begins.is_some_and(|begins| begins < end) && all_end_early && through != 0 {
        reasons.push(Reason::EndsEarly { log: String::new(), last_line: through });
    } else {
        reasons.extend(ended_logs(fleet, server, end, &needed, now));
    }
    let is_unprojected = through == 0 && begins.is_some_and(|begins| begins < end);
    if is_unprojected || fleet.logs_with_use(server.id).any(|log| fleet.is_behind(log, now)) {
        reasons.push(Reason::Rebuilding);
    }
    reasons.extend(fleet.logs_with_use(server.id).filter_map(|log| gaps(log, fleet.gaps_of(log.id), start, end)));
    reasons.extend(fleet.logs_with_use(server.id).filter_map(|log| apart(log, fleet.apart(log.id)?, start, end)));
    reasons
        .extend(fleet.logs_with_use(server.id).filter_map(|log| silences(log, fleet.silences_of(log.id), start, end)));
    reasons.extend((undated > 0).then_some(Reason::UndatedLines(undated)));
    reasons.extend(unread_parts(fleet, server, start, now));
    if retired.is_none_or(|retired| now < retired) {
        reasons.extend(told_by_agents(fleet, server, now));
    }
    ServerCompleteness {
        server_id: server.id,
        license_server: server.name.clone(),
        reported_through: (through > 0).then_some(through),
        has_reported,
        reasons,
    }
}

/// The seconds of a day.
const DAY: i64 = 86_400;

/// Returns the logs that begin before the month ends and end too early, though other logs of the license server do not:
/// those do not make up for them. A log that no agent lists any more does not count.
fn ended_logs(
    fleet: &FleetSnapshot,
    server: &LicenseServer,
    end: i64,
    needed: &dyn Fn(i64) -> i64,
    now: i64,
) -> Vec<Reason> {
    let voices = Voices::of(fleet, server, now);
    let begins_before_end = |log: &&Log| fleet.dated_streams_of(log.id).any(|stream| stream.begins_at < end);
    let is_listed = |log: &&Log| voices.sources().any(|(source, _)| source.log == log.name);
    let ended = fleet.logs_with_use(server.id).filter(|log| (1..needed(log.id)).contains(&fleet.last_line_at(log.id)));
    ended
        .filter(begins_before_end)
        .filter(is_listed)
        .map(|log| Reason::EndsEarly { log: log.name.clone(), last_line: fleet.last_line_at(log.id) })
        .collect()
}

/// Returns the gaps of a log whose lines can have been written between two moments; `None` if there are none.
fn gaps(log: &Log, gaps: &[Gap], start: i64, end: i64) -> Option<Reason> {
    let touching: Vec<&Gap> = gaps.iter().filter(|gap| gap.after_at < end && gap.before_at >= start).collect();
    Some(Reason::Gaps {
        log: log.name.clone(),
        count: touching.len() as u64,
        from: touching.iter().map(|gap| gap.after_at).min().filter(|at| *at != 0),
        through: touching.iter().map(|gap| gap.before_at).max()?,
    })
}

/// Returns the silences of a log between two moments; `None` if there are none.
fn silences(log: &Log, silences: &[Silence], start: i64, end: i64) -> Option<Reason> {
    let touching: Vec<&Silence> =
        silences.iter().filter(|silence| silence.after_at < end && silence.before_at >= start).collect();
    Some(Reason::Silences {
        log: log.name.clone(),
        count: touching.len() as u64,
        from: touching.first()?.after_at,
        through: touching.last()?.before_at,
        is_asked: log.configured.longest_pause().is_some(),
    })
}

/// Returns the parts that agents cannot read, of the logs of a license server, if they can have lines after a moment.
fn unread_parts(fleet: &FleetSnapshot, server: &LicenseServer, start: i64, now: i64) -> Vec<Reason> {
    let voices = Voices::of(fleet, server, now);
    let mut reasons = Vec::new();
    for (source, _) in voices.sources() {
        let written = |part: &UnreadPart| part.written.as_ref().map_or(now, |written| written.seconds);
        let parts: Vec<&UnreadPart> = source.unread_parts.iter().filter(|part| written(part) >= start).collect();
        if let Some(first) = parts.first() {
            reasons.push(Reason::UnreadParts {
                log: source.log.clone(),
                count: parts.len() as u64,
                detail: first.detail.clone(),
                through: parts.iter().map(|part| written(part)).max().unwrap_or(now),
            });
        }
    }
    reasons
}

/// Returns the lines of a log that are kept apart, if they can have been written between two moments: after the last line
/// that counts before them, and before the first one after them.
fn apart(log: &Log, lines: Apart, start: i64, end: i64) -> Option<Reason> {
    let touches = lines.after < end && (lines.before == 0 || lines.before >= start);
    touches.then(|| Reason::Apart { log: log.name.clone(), lines })
}

/// Returns the reasons in the agents' heartbeats.
fn told_by_agents(fleet: &FleetSnapshot, server: &LicenseServer, now: i64) -> Vec<Reason> {
    let voices = Voices::of(fleet, server, now);
    let mut reasons = Vec::new();
    let tells_no_use = |name: &str| {
        let mut with_use = fleet.logs_with_use(server.id);
        fleet.logs_of(server.id).any(|log| log.name == name) && !with_use.any(|log| log.name == name)
    };
    for (source, _) in voices.sources().filter(|(source, _)| !tells_no_use(&source.log)) {
        let state = source.state();
        if !matches!(state, SourceState::Following | SourceState::Unspecified | SourceState::Empty) {
            reasons.push(Reason::Source { log: source.log.clone(), state, detail: source.detail.clone() });
        }
    }
    reasons
}
