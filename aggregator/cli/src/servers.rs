//! `seatmeter servers` and `seatmeter agents`: which license servers and agents report, and which do not.

use anyhow::Result;
use jiff::tz::TimeZone;
use seatmeter_proto::v1::fleet_service_client::FleetServiceClient;
use seatmeter_proto::v1::{
    Agent, Gap, LicenseServer, ListAgentsRequest, ListLicenseServersRequest, Log, ReportState, Severity,
    SharedBeginning, SourceState, Warning, WarningKind,
};
use seatmeter_service::answer;
use seatmeter_service::screen::table::{Column, Kind, View, WIDE};
use seatmeter_service::screen::text::{count, minute, thousands, visible};
use serde::Serialize;

use crate::alerts::text;
use crate::connect::Channel;
use crate::enrolments::Enrolments;
use crate::notes::{dated_between, source_text, stamp, tell_zone, written_between, zone};
use crate::say::Say;
use crate::watch::Watch;

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Servers {
    #[command(subcommand)]
    pub(crate) say: Option<Say>,
    /// Only this license server
    name: Option<String>,
    /// Only those that need attention
    #[arg(long)]
    problems: bool,
    #[command(flatten)]
    pub(crate) watch: Watch,
}

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Agents {
    #[command(subcommand)]
    pub(crate) enrolments: Option<Enrolments>,
    /// Only agents of this license server
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
    #[command(flatten)]
    pub(crate) watch: Watch,
}

/// The most known gaps of a log that are noted below a table.
const MAX_NOTES: usize = 3;

/// A log of a license server. The field names are those in JSON and CSV, and must not change. Values of the license
/// server are repeated in the row of each of its logs.
#[derive(Serialize)]
struct LogRow {
    status: String,
    state: &'static str,
    since: Option<String>,
    license_server: String,
    realm: Option<String>,
    log: Option<String>,
    license_manager: Option<String>,
    licenses_expire_on: Option<String>,
    last_line: Option<String>,
    last_report: Option<String>,
    files: Option<u64>,
    gaps: Option<u64>,
    open_sessions: u64,
    events: u64,
    ignored_lines: u64,
    unrecognised_lines: u64,
    undated_lines: u64,
    lines_apart: u64,
    warnings: Vec<String>,
    shared_beginnings: Vec<String>,
    known_gaps: Vec<String>,
    unread_parts: Vec<String>,
    expected_from: Option<String>,
    retired_from: Option<String>,
}

const LOG_COLUMNS: &[Column] = &[
    Column::new("status", "Status", Kind::State, 0),
    Column::new("license_server", "Server", Kind::Text, 0),
    Column::new("realm", "Realm", Kind::Text, WIDE),
    Column::new("log", "Log", Kind::Text, 0),
    Column::new("license_manager", "License manager", Kind::Text, 6),
    Column::new("licenses_expire_on", "Expires", Kind::Text, 5),
    Column::new("last_line", "Last line", Kind::Time, 0),
    Column::new("last_report", "Last report", Kind::Time, 2),
    Column::new("state", "State", Kind::Text, WIDE),
    Column::new("since", "Since", Kind::Time, WIDE),
    Column::new("files", "Files", Kind::Number, WIDE),
    Column::new("gaps", "Gaps", Kind::Number, WIDE),
    Column::new("open_sessions", "Open", Kind::Number, 3),
    Column::new("events", "Events", Kind::Number, 4),
    Column::new("ignored_lines", "Ignored", Kind::Number, WIDE),
    Column::new("unrecognised_lines", "Unrecognised", Kind::Number, WIDE),
    Column::new("undated_lines", "Undated", Kind::Number, WIDE),
    Column::new("lines_apart", "Kept apart", Kind::Number, WIDE),
    Column::new("warnings", "Look into", Kind::Text, 1),
    Column::new("shared_beginnings", "Shared beginnings", Kind::Text, WIDE),
    Column::new("known_gaps", "Known gaps", Kind::Text, WIDE),
    Column::new("unread_parts", "Cannot be read", Kind::Text, WIDE),
    Column::new("expected_from", "Expected from", Kind::Text, WIDE),
    Column::new("retired_from", "Retired from", Kind::Text, WIDE),
];

impl LogRow {
    /// Returns the rows of a license server: one for each log, or a single one if it has no log.
    fn all_of(server: LicenseServer, zone: &TimeZone) -> Vec<(ReportState, Self)> {
        let row = |state: ReportState, log: Option<&Log>| {
            let lines = log.map_or(server.lines, |log| log.lines).unwrap_or_default();
            let since =
                log.and_then(|log| log.since.as_ref()).or(server.last_report.as_ref().filter(|_| log.is_none()));
            let (source, detail) = log.map_or((SourceState::Unspecified, ""), |log| (log.source_state(), &log.detail));
            Self {
                status: log
                    .filter(|_| state == ReportState::Waiting && source != SourceState::BufferFull)
                    .and_then(|log| waits_for(log, zone))
                    .or_else(|| excuse(&server).filter(|_| state == ReportState::NotExpected))
                    .unwrap_or_else(|| status(state, since.map(|since| minute(since.seconds, zone)), source, detail)),
                state: state_name(state),
                since: stamp(since),
                license_server: server.name.clone(),
                realm: Some(server.realm.clone()).filter(|realm| !realm.is_empty()),
                log: log.map(|log| log.name.clone()),
                license_manager: log.map(|log| log.license_manager.clone()).filter(|name| !name.is_empty()),
                licenses_expire_on: log.map(|log| log.licenses_expire_on.clone()).filter(|day| !day.is_empty()),
                last_line: log.and_then(|log| stamp(log.last_line.as_ref())),
                last_report: stamp(server.last_report.as_ref()),
                files: log.map(|log| log.streams),
                gaps: log.map(|log| log.gaps),
                open_sessions: log.map_or(server.open_sessions, |log| log.open_sessions),
                events: lines.events,
                ignored_lines: lines.ignored,
                unrecognised_lines: lines.unrecognised,
                undated_lines: log.map_or(0, |log| log.undated_lines),
                lines_apart: log.and_then(|log| log.apart.as_ref()).map_or(0, |apart| apart.lines),
                warnings: server.warnings.iter().filter_map(|told| warning_of(told, log, &server, zone)).collect(),
                shared_beginnings: log
                    .map(|log| log.shared_beginnings.iter().map(shared_beginning).collect())
                    .unwrap_or_default(),
                known_gaps: log
                    .map(|log| log.known_gaps.iter().map(|gap| lost(gap, zone)).collect())
                    .unwrap_or_default(),
                unread_parts: log
                    .map(|log| log.unread_parts.iter().map(|part| part.detail.clone()).collect())
                    .unwrap_or_default(),
                expected_from: Some(server.expected_from.clone()).filter(|day| !day.is_empty()),
                retired_from: Some(server.retired_from.clone()).filter(|day| !day.is_empty()),
            }
        };
        if server.logs.is_empty() {
            return vec![(server.state(), row(server.state(), None))];
        }
        server.logs.iter().map(|log| (log.state(), row(log.state(), Some(log)))).collect()
    }
}

/// Returns whether a state needs no attention.
fn is_well(state: ReportState) -> bool {
    matches!(state, ReportState::Ok | ReportState::NotFollowed | ReportState::NotExpected)
}

/// Returns the name of a state, for programs.
fn state_name(state: ReportState) -> &'static str {
    match state {
        ReportState::Ok => "ok",
        ReportState::Late => "late",
        ReportState::Waiting => "waiting",
        ReportState::Never => "never",
        ReportState::CannotRead => "cannot_read",
        ReportState::NotALog => "not_a_log",
        ReportState::Silent => "silent",
        ReportState::NotFollowed => "not_followed",
        ReportState::NotExpected => "not_expected",
        ReportState::Unspecified => "unknown",
    }
}

/// Returns a state in words, for people.
fn status(state: ReportState, since: Option<String>, source: SourceState, detail: &str) -> String {
    let since = since.map(|since| format!(" since {since}")).unwrap_or_default();
    let source = source_text(source, detail);
    let because = |text: &str| if source.is_empty() { text.to_owned() } else { format!("{text}: {source}") };
    match state {
        ReportState::Ok => "ok".into(),
        ReportState::NotFollowed => "not followed".into(),
        ReportState::NotExpected => "not expected".into(),
        ReportState::Late => format!("late{since}"),
        ReportState::Silent => format!("silent{since}"),
        ReportState::Never => because("never"),
        ReportState::Waiting => because("waiting"),
        ReportState::CannotRead => because("cannot read"),
        ReportState::NotALog if detail.is_empty() => "not a license log".into(),
        ReportState::NotALog => format!("not a license log ({detail})"),
        ReportState::Unspecified => "unknown to this version".into(),
    }
}

/// Says which lines of a log wait to be dated; `None` if none do.
fn waits_for(log: &Log, zone: &TimeZone) -> Option<String> {
    match &log.apart {
        Some(apart) => {
            let lines = count(apart.lines, "event");
            let dated = dated_between(apart.from.as_ref(), apart.through.as_ref(), zone);
            Some(format!("wrong clock: {lines} {dated}"))
        }
        None => (log.undated_lines > 0).then(|| format!("waiting: nothing dates {}", count(log.undated_lines, "line"))),
    }
}

/// Says why a license server need not report.
fn excuse(server: &LicenseServer) -> Option<String> {
    match (&*server.retired_from, &*server.expected_from) {
        ("", "") => None,
        ("", expected) => Some(format!("expected from {expected}")),
        (retired, _) => Some(format!("retired from {retired}")),
    }
}

/// Stands in the warning that two license servers have files in common.
const IN_COMMON: &str = " in common with ";

/// Returns a warning for the row of a log, if it is to stand there: of another log, it does not, nor what the row's status tells.
fn warning_of(told: &Warning, log: Option<&Log>, server: &LicenseServer, zone: &TimeZone) -> Option<String> {
    let is_told = matches!(
        told.kind(),
        WarningKind::Silent
            | WarningKind::NeverReported
            | WarningKind::CannotRead
            | WarningKind::PartlyAnswered
            | WarningKind::NoLines
            | WarningKind::Gaps
            | WarningKind::UndatedLines
            | WarningKind::WrongClock
    );
    let is_of_another =
        server.logs.iter().any(|one| one.name == told.subject && log.is_none_or(|log| log.name != one.name));
    match told.kind() {
        _ if is_told || is_of_another => None,
        // The row's own columns say of which log, and when.
        WarningKind::UnrecognisedLines => Some(text(&Warning { subject: String::new(), ..told.clone() }, zone)),
        WarningKind::LicensesExpire => (told.severity() == Severity::Alert).then(|| "licenses expire".to_owned()),
        _ => Some(text(told, zone)),
    }
}

/// Returns in words what two files have in common.
fn shared_beginning(shared: &SharedBeginning) -> String {
    let bytes = count(shared.bytes, "byte");
    let parted = if shared.parted { ", and the two differ after them" } else { "" };
    format!("a file begins as one of {} does: the first {bytes} are the same{parted}", visible(&shared.other_log))
}

/// Returns in words what a gap has lost.
fn lost(gap: &Gap, zone: &TimeZone) -> String {
    let bytes = count(gap.end_position.saturating_sub(gap.start_position), "byte");
    let written = written_between(gap.from.as_ref(), gap.through.as_ref(), zone);
    format!("{bytes} {written}were gone before they could be read")
}

#[derive(Serialize)]
struct Envelope {
    total: u64,
    time_zone: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    rebuilding: Option<Rebuilding>,
}

/// How far the figures are made again after a start of the aggregator.
#[derive(Clone, Copy, Serialize)]
struct Rebuilding {
    logs: u64,
    logs_done: u64,
    percent: u32,
}

pub(crate) async fn servers(channel: &Channel, asked: &Servers, view: &View) -> Result<bool> {
    let mut client = FleetServiceClient::new(channel.clone());
    let mut request = ListLicenseServersRequest {
        license_server: asked.name.clone().unwrap_or_default(),
        only_problems: asked.problems,
        page_size: 1000,
        page_token: String::new(),
    };
    let mut servers = Vec::new();
    let (time_zone, total, rebuilding) = loop {
        let page = client.list_license_servers(request.clone()).await?.into_inner();
        servers.extend(page.license_servers);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            let told = page.rebuilding.map(|told| Rebuilding {
                logs: told.logs,
                logs_done: told.logs_done,
                percent: told.percent,
            });
            break (page.time_zone, page.total_size as u64, told);
        }
    };
    let zone = zone(&time_zone);
    let mut rows: Vec<(ReportState, LogRow)> =
        servers.into_iter().flat_map(|server| LogRow::all_of(server, &zone)).collect();
    rows.retain(|(state, _)| !asked.problems || !is_well(*state));
    // Worst first. The sort is stable: rows of the same state stay ordered by name.
    rows.sort_by_key(|(state, _)| (is_well(*state), std::cmp::Reverse(*state as i32)));
    let troubled = rows.iter().filter(|(state, _)| !is_well(*state)).count() as u64;
    let rows: Vec<LogRow> = rows.into_iter().map(|(_, row)| row).collect();
    view.print(LOG_COLUMNS, &rows, &Envelope { total, time_zone, rebuilding }, &zone)?;
    if view.is_for_people() {
        if let Some(Rebuilding { logs, logs_done, percent }) = rebuilding {
            let done = thousands(logs_done);
            answer!("The figures are being rebuilt: {done} of {} done, {percent} %.", count(logs, "log"));
        }
        match troubled {
            0 if rows.is_empty() && !asked.problems => answer!("No license server has reported yet."),
            0 => answer!("Every log reports."),
            troubled => answer!("Attention: {} of {}.", thousands(troubled), count(rows.len() as u64, "log")),
        }
        for row in rows.iter().filter(|row| !row.shared_beginnings.is_empty()) {
            let log = visible(row.log.as_deref().unwrap_or_default());
            answer!("{}: {}: {}. Counted once.", visible(&row.license_server), log, row.shared_beginnings[0]);
        }
        let mut told = Vec::new();
        for row in &rows {
            for shared in row.warnings.iter().filter(|warning| warning.contains(IN_COMMON)) {
                let note = format!("{}: {shared}", visible(&row.license_server));
                if !told.contains(&note) {
                    answer!(
                        "{note}: if both are one, `seatmeter servers rename` makes them one; until then, checkouts can count twice."
                    );
                    told.push(note);
                }
            }
        }
        for row in &rows {
            let log = visible(row.log.as_deref().unwrap_or_default());
            for part in row.unread_parts.iter().take(MAX_NOTES) {
                answer!("{}: {}: {}.", visible(&row.license_server), log, visible(part));
            }
            for gap in row.known_gaps.iter().take(MAX_NOTES) {
                answer!("{}: {}: {gap}.", visible(&row.license_server), log);
            }
        }
        tell_zone(&zone);
    }
    Ok(troubled == 0)
}

/// An agent. The field names are those in JSON and CSV, and must not change.
#[derive(Serialize)]
struct AgentRow {
    status: String,
    state: &'static str,
    license_server: String,
    agent_id: String,
    host: String,
    version: String,
    last_report: Option<String>,
    clock_ahead_seconds: i64,
    buffered_batches: u64,
    buffered_bytes: u64,
    oldest_batch_age_seconds: u64,
    problems: Vec<String>,
}

const AGENT_COLUMNS: &[Column] = &[
    Column::new("status", "Status", Kind::State, 0),
    Column::new("license_server", "Server", Kind::Text, 0),
    Column::new("agent_id", "Agent", Kind::Id, 2),
    Column::new("host", "Host", Kind::Text, 1),
    Column::new("version", "Version", Kind::Text, 3),
    Column::new("last_report", "Last report", Kind::Time, 0),
    Column::new("state", "State", Kind::Text, WIDE),
    Column::new("clock_ahead_seconds", "Clock ahead (s)", Kind::Number, 6),
    Column::new("buffered_batches", "Batches waiting", Kind::Number, 4),
    Column::new("buffered_bytes", "Buffered (bytes)", Kind::Number, WIDE),
    Column::new("oldest_batch_age_seconds", "Oldest (s)", Kind::Number, 5),
    Column::new("problems", "Problems", Kind::Text, 1),
];

impl AgentRow {
    fn new(agent: Agent, zone: &TimeZone) -> Self {
        let state = agent.state();
        let heartbeat = agent.heartbeat.unwrap_or_default();
        let since = agent.last_report.as_ref().map(|at| minute(at.seconds, zone));
        let problems = heartbeat.sources.iter().filter_map(|source| {
            let text = source_text(source.state(), &source.detail);
            (!text.is_empty()).then(|| format!("{}: {text}", source.log))
        });
        Self {
            status: status(state, since, SourceState::Unspecified, ""),
            state: state_name(state),
            last_report: stamp(agent.last_report.as_ref()),
            problems: problems.collect(),
            license_server: agent.license_server,
            agent_id: agent.id,
            host: agent.host,
            version: agent.version,
            clock_ahead_seconds: agent.clock_ahead_seconds,
            buffered_batches: heartbeat.buffered_batches,
            buffered_bytes: heartbeat.buffered_bytes,
            oldest_batch_age_seconds: heartbeat.oldest_batch_age_seconds,
        }
    }
}

pub(crate) async fn agents(channel: &Channel, asked: &Agents, view: &View) -> Result<bool> {
    let mut client = FleetServiceClient::new(channel.clone());
    let mut request = ListAgentsRequest {
        license_server: asked.server.clone().unwrap_or_default(),
        page_size: 1000,
        page_token: String::new(),
    };
    let mut agents = Vec::new();
    let (time_zone, total) = loop {
        let page = client.list_agents(request.clone()).await?.into_inner();
        agents.extend(page.agents);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break (page.time_zone, page.total_size as u64);
        }
    };
    let zone = zone(&time_zone);
    let is_well = agents.iter().all(|agent| agent.state() == ReportState::Ok);
    agents.sort_by_key(|agent| std::cmp::Reverse(agent.state));
    let rows: Vec<AgentRow> = agents.into_iter().map(|agent| AgentRow::new(agent, &zone)).collect();
    view.print(AGENT_COLUMNS, &rows, &Envelope { total, time_zone, rebuilding: None }, &zone)?;
    if view.is_for_people() {
        tell_zone(&zone);
    }
    Ok(is_well)
}
