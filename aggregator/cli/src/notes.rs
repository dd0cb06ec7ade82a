//! The notes below a table: the rules behind the figures, and what is missing. The API sends enums; this module turns
//! them into texts.

use jiff::tz::TimeZone;
use prost_types::Timestamp;
use seatmeter_proto::v1::{
    Basis, Completeness, DomainRule, IncompleteKind, IncompleteReason, PersonRule, ServerCompleteness, SourceState,
};
use seatmeter_service::answer;
use seatmeter_service::screen::table::{Column, View, ViewError};
use seatmeter_service::screen::text::{count, minute, rfc3339, thousands, visible};
use serde::Serialize;

/// Returns a moment in RFC 3339, for programs.
pub(crate) fn stamp(moment: Option<&Timestamp>) -> Option<String> {
    rfc3339(moment?.seconds)
}

/// Returns the aggregator's time zone, or UTC if this machine does not know the zone. Tables name the zone.
pub(crate) fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap_or(TimeZone::UTC)
}

/// Prints the time zone of the moments in a table.
pub(crate) fn tell_zone(zone: &TimeZone) {
    answer!("Time zone: {}.", zone.iana_name().unwrap_or("UTC"));
}

/// Beside the rows of a list that is told whole.
#[derive(Serialize)]
struct Whole {
    total: u64,
    time_zone: String,
}

/// Prints a list that is told whole, of so many rows, with moments in the aggregator's time zone.
pub(crate) fn print_whole<R: Serialize>(
    view: &View,
    columns: &[Column],
    rows: &[R],
    (total, time_zone): (u64, String),
) -> Result<(), ViewError> {
    let zone = zone(&time_zone);
    view.print(columns, rows, &Whole { total, time_zone }, &zone)?;
    if view.is_for_people() {
        tell_zone(&zone);
    }
    Ok(())
}

pub(crate) fn red(text: &str) -> String {
    styled(text, anstyle::AnsiColor::Red)
}

pub(crate) fn yellow(text: &str) -> String {
    styled(text, anstyle::AnsiColor::Yellow)
}

fn styled(text: &str, colour: anstyle::AnsiColor) -> String {
    let style = colour.on_default();
    format!("{style}{text}{style:#}")
}

/// The rules behind an answer, in JSON.
#[derive(Serialize)]
pub(crate) struct BasisJson {
    time_zone: String,
    person_rule: &'static str,
    domain_rule: &'static str,
    rules_version: String,
    aggregator_version: String,
}

impl From<Basis> for BasisJson {
    fn from(basis: Basis) -> Self {
        Self {
            person_rule: match basis.person_rule() {
                PersonRule::CheckedOut => "checked_out",
                _ => "held",
            },
            domain_rule: match basis.domain_rule() {
                DomainRule::Truncate => "truncate",
                DomainRule::Map => "map",
                _ => "keep",
            },
            time_zone: basis.time_zone,
            rules_version: basis.rules_version,
            aggregator_version: basis.aggregator_version,
        }
    }
}

/// The completeness of an answer, in JSON.
#[derive(Serialize)]
pub(crate) struct CompletenessJson {
    complete: bool,
    license_servers: u64,
    incomplete_license_servers: u64,
    incomplete: Vec<IncompleteJson>,
}

#[derive(Serialize)]
struct IncompleteJson {
    license_server: String,
    reported_through: Option<String>,
    reasons: Vec<String>,
}

impl CompletenessJson {
    pub(crate) fn new(completeness: &Completeness) -> Self {
        let incomplete = completeness.incomplete.iter().map(|server| IncompleteJson {
            license_server: server.license_server.clone(),
            reported_through: stamp(server.reported_through.as_ref()),
            reasons: server.reasons.iter().map(|reason| reason_text(reason, &TimeZone::UTC)).collect(),
        });
        Self {
            complete: completeness.complete,
            license_servers: completeness.server_count,
            incomplete_license_servers: completeness.incomplete_count,
            incomplete: incomplete.collect(),
        }
    }
}

/// Prints the rules behind an answer.
pub(crate) fn tell_basis(basis: &Basis) {
    let who = match basis.person_rule() {
        PersonRule::CheckedOut => "everyone who checked out a seat in the month",
        _ => "everyone who held a seat at any time in the month",
    };
    let domains = match basis.domain_rule() {
        DomainRule::Truncate => "cut off",
        DomainRule::Map => "mapped",
        _ => "kept",
    };
    let shown = zone(&basis.time_zone);
    answer!("Time zone: {}. Counted: {who}.", shown.iana_name().unwrap_or("UTC"));
    answer!("Domains: {domains}. Rules: {}.", basis.rules_version);
}

/// Prints what is missing, for each incomplete license server.
pub(crate) fn tell_completeness(completeness: &Completeness, zone: &TimeZone) {
    if completeness.server_count == 0 {
        anstream::println!("{}: no license server has reported yet.", yellow("Incomplete"));
    }
    for server in &completeness.incomplete {
        anstream::println!("{}: {}", yellow("Incomplete"), server_text(server, zone));
    }
    let more = completeness.incomplete_count.saturating_sub(completeness.incomplete.len() as u64);
    if more > 0 {
        anstream::println!("{}: {} more license servers.", yellow("Incomplete"), thousands(more));
    }
}

fn server_text(server: &ServerCompleteness, zone: &TimeZone) -> String {
    let reasons: Vec<String> = server.reasons.iter().map(|reason| reason_text(reason, zone)).collect();
    format!("{}: {}", visible(&server.license_server), reasons.join("; "))
}

fn reason_text(reason: &IncompleteReason, zone: &TimeZone) -> String {
    let at = || reason.at.as_ref().map_or_else(String::new, |at| minute(at.seconds, zone));
    match reason.kind() {
        IncompleteKind::NothingReceived => "nothing has been received yet".into(),
        IncompleteKind::BeginsAfterMonth => "its logs begin after this month".into(),
        IncompleteKind::BeginsLate => format!("its logs begin on {}", at()),
        IncompleteKind::EndsEarly if reason.log.is_empty() => format!("last line read: {}", at()),
        IncompleteKind::EndsEarly => format!("last line read of {}: {}", visible(&reason.log), at()),
        IncompleteKind::Rebuilding => "its figures are being rebuilt".into(),
        IncompleteKind::Gaps => {
            let (log, gaps) = (visible(&reason.log), count(reason.count, "known gap"));
            let written = written_between(reason.at.as_ref(), reason.through.as_ref(), zone);
            format!("{log}: {gaps}: lines {written}were gone before they could be read")
        }
        IncompleteKind::Apart => {
            let (log, lines) = (visible(&reason.log), count(reason.count, "event"));
            let dated = dated_between(reason.at.as_ref(), reason.through.as_ref(), zone);
            format!("{log}: {lines} {dated}: kept apart, since they cannot have been written then")
        }
        IncompleteKind::Unanswered => {
            let log = visible(&reason.log);
            let times = if reason.count == 1 { String::new() } else { format!(", {} times", thousands(reason.count)) };
            let between = between(reason.at.as_ref(), reason.through.as_ref(), zone);
            format!("{log}: no answer, or not all of it, {between}{times}: who came and went meanwhile is not known")
        }
        IncompleteKind::Silence => {
            let log = visible(&reason.log);
            let times = if reason.count == 1 { String::new() } else { format!(", {} times", thousands(reason.count)) };
            let between = between(reason.at.as_ref(), reason.through.as_ref(), zone);
            format!("{log}: no line {between}{times}, though daemons write one every six hours, and none started")
        }
        IncompleteKind::UnreadParts => {
            let (log, parts) = (visible(&reason.log), count(reason.count, "rotated part"));
            format!("{log}: {parts} cannot be read: {}", visible(&reason.detail))
        }
        IncompleteKind::UndatedLines => format!("{} without a date yet", count(reason.count, "line")),
        IncompleteKind::Source => {
            format!("{}: {}", visible(&reason.log), source_text(reason.source_state(), &reason.detail))
        }
        IncompleteKind::Unspecified => "something that this version does not know: update seatmeter".into(),
    }
}

/// Says between which moments something was.
fn between(from: Option<&Timestamp>, through: Option<&Timestamp>, zone: &TimeZone) -> String {
    let at = |moment: Option<&Timestamp>| moment.map_or_else(String::new, |moment| minute(moment.seconds, zone));
    format!("between {} and {}", at(from), at(through))
}

/// Says when lines were written that are lost.
pub(crate) fn written_between(from: Option<&Timestamp>, through: Option<&Timestamp>, zone: &TimeZone) -> String {
    let at = |moment: &Timestamp| minute(moment.seconds, zone);
    match (from, through) {
        (Some(from), Some(through)) => format!("written between {} and {} ", at(from), at(through)),
        (None, Some(through)) => format!("written before {} ", at(through)),
        _ => String::new(),
    }
}

/// Says how lines are dated that cannot have been written then.
pub(crate) fn dated_between(from: Option<&Timestamp>, through: Option<&Timestamp>, zone: &TimeZone) -> String {
    let at = |moment: Option<&Timestamp>| moment.map_or_else(String::new, |moment| minute(moment.seconds, zone));
    match (at(from), at(through)) {
        (from, through) if from == through => format!("dated {from}"),
        (from, through) => format!("dated from {from} to {through}"),
    }
}

/// Returns what is wrong with a source, in words; empty if nothing is wrong.
pub(crate) fn source_text(state: SourceState, detail: &str) -> String {
    let text = match state {
        SourceState::Missing => "the file does not exist",
        SourceState::PermissionDenied => "the agent's account may not read the file",
        SourceState::NotALog => "not a license log",
        SourceState::Empty => "the file is empty",
        SourceState::Partial => "not all of it is answered",
        SourceState::BufferFull => "the agent's buffer is full",
        SourceState::Unreadable => "cannot be read",
        SourceState::Following | SourceState::Unspecified => "",
    };
    match (text, visible(detail)) {
        (text, detail) if detail.is_empty() => text.to_owned(),
        ("", detail) => detail,
        (text, detail) => format!("{text} ({detail})"),
    }
}
