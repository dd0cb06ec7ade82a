//! `seatmeter alerts`: what needs an operator, and what to do about it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use seatmeter_proto::v1::fleet_service_client::FleetServiceClient;
use seatmeter_proto::v1::operator_service_client::OperatorServiceClient;
use seatmeter_proto::v1::{
    Alert, GetSelfRequest, Severity, Warning, WarningKind, WatchFleetRequest, WatchFleetResponse,
};
use seatmeter_service::answer;
use seatmeter_service::screen::table::{Column, Kind, View, WIDE};
use seatmeter_service::screen::text::{count, duration, minute, size, thousands, visible};
use serde::Serialize;
use tokio_stream::StreamExt;
use tonic::{Status, Streaming};

use crate::connect::Channel;
use crate::explain::explain;
use crate::notes::{stamp, tell_zone, zone};
use crate::watch::can_pass;

/// What needs an operator, the most urgent first; exit code 3 if something does
///
/// An alert is raised once it has lasted for two looks of the aggregator (or at its start), and cleared
/// after three without it.
///
/// Examples:
///   seatmeter alerts
///   seatmeter alerts --follow --output json    a line for each change, for a program
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Alerts {
    /// Only this license server
    name: Option<String>,
    /// Go on telling what changes, until told to stop; for programs, a line of JSON for each change
    #[arg(long)]
    follow: bool,
}

/// An alert. The field names are those in JSON and CSV, and must not change.
#[derive(Serialize)]
struct Row {
    severity: &'static str,
    license_server: String,
    message: String,
    kind: String,
    subject: Option<String>,
    count: u64,
    since: Option<String>,
    raised_at: Option<String>,
}

const COLUMNS: &[Column] = &[
    Column::new("severity", "Severity", Kind::State, 0),
    Column::new("license_server", "Server", Kind::Text, 0),
    Column::new("message", "What", Kind::Text, 0),
    Column::new("raised_at", "Raised", Kind::Time, 1),
    Column::new("kind", "Kind", Kind::Text, WIDE),
    Column::new("subject", "Of", Kind::Text, WIDE),
    Column::new("count", "Count", Kind::Number, WIDE),
    Column::new("since", "Since", Kind::Time, WIDE),
];

impl Row {
    fn new(alert: Alert, zone: &TimeZone) -> Self {
        let warning = alert.warning.unwrap_or_default();
        Self {
            severity: match warning.severity() {
                Severity::Alert => "alert",
                Severity::Warning => "warning",
                Severity::Notice | Severity::Unspecified => "notice",
            },
            license_server: alert.license_server,
            message: text(&warning, zone),
            kind: warning.kind().as_str_name().trim_start_matches("WARNING_KIND_").to_ascii_lowercase(),
            since: stamp(warning.since.as_ref()),
            raised_at: stamp(alert.raised_at.as_ref()),
            count: warning.count,
            subject: Some(warning.subject).filter(|subject| !subject.is_empty()),
        }
    }
}

#[derive(Serialize)]
struct Envelope {
    total: u64,
    time_zone: String,
}

/// A change, as a program reads it: a line of JSON.
#[derive(Serialize)]
struct Change {
    at: String,
    change: &'static str,
    #[serde(flatten)]
    alert: Row,
}

pub(crate) async fn alerts(channel: &Channel, asked: Alerts, view: &View) -> Result<bool> {
    let told = OperatorServiceClient::new(channel.clone()).get_self(GetSelfRequest {}).await?.into_inner();
    let zone = zone(&told.time_zone);
    let mut client = FleetServiceClient::new(channel.clone());
    let request = WatchFleetRequest { license_server: asked.name.unwrap_or_default() };
    if asked.follow {
        return follow(client, request, view, &zone).await;
    }
    let mut changes = client.watch_fleet(request).await?.into_inner();
    let rows: Vec<Row> = raised(&mut changes).await?.into_iter().map(|alert| Row::new(alert, &zone)).collect();
    let total = rows.len() as u64;
    view.print(COLUMNS, &rows, &Envelope { total, time_zone: told.time_zone }, &zone)?;
    if view.is_for_people() {
        if rows.is_empty() {
            answer!("Nothing needs attention.");
        }
        tell_zone(&zone);
    }
    Ok(rows.is_empty())
}

/// Returns the alerts that are raised, which the first messages tell.
async fn raised(changes: &mut Streaming<WatchFleetResponse>) -> Result<Vec<Alert>> {
    let mut raised = Vec::new();
    while let Some(change) = changes.next().await {
        let change = change?;
        raised.extend(change.raised);
        if raised.len() as u64 >= change.raised_count {
            return Ok(raised);
        }
    }
    Err(Status::unavailable("the aggregator stopped answering").into())
}

/// What an alert is known by, however its figures change.
fn key(alert: &Alert) -> (String, i32, String, String) {
    let warning = alert.warning.clone().unwrap_or_default();
    (alert.license_server.clone(), warning.kind, warning.subject, warning.other)
}

/// Tells what changes, through restarts of the aggregator, until told to stop.
async fn follow(
    mut client: FleetServiceClient<Channel>,
    request: WatchFleetRequest,
    view: &View,
    zone: &TimeZone,
) -> Result<bool> {
    let mut known: BTreeMap<_, Alert> = BTreeMap::new();
    loop {
        let ended = match client.watch_fleet(request.clone()).await {
            Ok(changes) => follow_once(changes.into_inner(), &mut known, view, zone).await,
            Err(status) => Err(status.into()),
        };
        let Err(error) = ended else { return Ok(true) };
        if !can_pass(&error) {
            return Err(error);
        }
        eprintln!("error: {}; asking again", explain(&error));
        tokio::time::sleep(AGAIN).await;
    }
}

/// How long to wait before an aggregator that is gone is asked again.
const AGAIN: Duration = Duration::from_secs(2);

async fn follow_once(
    mut changes: Streaming<WatchFleetResponse>,
    known: &mut BTreeMap<(String, i32, String, String), Alert>,
    view: &View,
    zone: &TimeZone,
) -> Result<()> {
    let now: BTreeMap<_, Alert> = raised(&mut changes).await?.into_iter().map(|alert| (key(&alert), alert)).collect();
    for (_, alert) in known.iter().filter(|(key, _)| !now.contains_key(*key)) {
        tell("cleared", Row::new(alert.clone(), zone), view, zone)?;
    }
    for (_, alert) in now.iter().filter(|(key, _)| !known.contains_key(*key)) {
        tell("raised", Row::new(alert.clone(), zone), view, zone)?;
    }
    *known = now;
    while let Some(change) = changes.next().await {
        let change = change?;
        for alert in change.raised {
            tell("raised", Row::new(alert.clone(), zone), view, zone)?;
            known.insert(key(&alert), alert);
        }
        for alert in change.cleared {
            known.remove(&key(&alert));
            tell("cleared", Row::new(alert, zone), view, zone)?;
        }
    }
    Err(Status::unavailable("the aggregator has ended the answer").into())
}

fn tell(change: &'static str, alert: Row, view: &View, zone: &TimeZone) -> Result<()> {
    let now = Timestamp::now();
    if view.is_for_people() {
        let (at, server, message) = (minute(now.as_second(), zone), visible(&alert.license_server), &alert.message);
        answer!("{at}  {change:<7}  {:<7}  {server}: {message}", alert.severity);
    } else {
        let at = stamp(Some(&seatmeter_proto::timestamp(now.as_second()))).unwrap_or_default();
        answer!("{}", serde_json::to_string(&Change { at, change, alert })?);
    }
    Ok(())
}

/// Returns a warning in words.
pub(crate) fn text(warning: &Warning, zone: &TimeZone) -> String {
    let subject = visible(&warning.subject);
    let (other, detail) = (visible(&warning.other), visible(&warning.detail));
    let since = warning.since.as_ref().map(|since| minute(since.seconds, zone)).unwrap_or_default();
    let because = if detail.is_empty() { String::new() } else { format!(": {detail}") };
    match warning.kind() {
        WarningKind::SeveralAgents => format!("{} report for it", count(warning.count, "agent")),
        WarningKind::UnrecognisedLines if subject.is_empty() => {
            format!("{} not recognised", count(warning.count, "line"))
        }
        WarningKind::UnrecognisedLines => {
            format!("{} of {subject} not recognised: `seatmeter unrecognised`", count(warning.count, "line"))
        }
        WarningKind::SameFiles => format!("{} in common with {other}", count(warning.count, "file")),
        WarningKind::Silent => format!("no agent has reported since {since}: `seatmeter-agent status` there"),
        WarningKind::NeverReported => "it is expected, and has never reported: `seatmeter agents invite`".into(),
        WarningKind::CannotRead => format!("{subject} cannot be read{because}"),
        WarningKind::PartlyAnswered => format!("{subject} is answered in part{because}"),
        WarningKind::NoLines => format!("{subject} has no line since {since}: is logging switched off?"),
        WarningKind::OutdatedAgent => format!("the agent on {subject} is {detail}: upgrade it to {other}"),
        WarningKind::OutdatedLicenseManager => format!("{subject}: {detail} is older than {other}"),
        WarningKind::LicensesExpire => {
            format!("licenses of {subject} end at {since}: `seatmeter entitlements --expiring`")
        }
        WarningKind::ClockOff => format!("the clock of {subject} is {} {detail}", duration(warning.count)),
        WarningKind::Backlog => format!("batches wait on {subject} for {}", duration(warning.count)),
        WarningKind::BufferFull => format!("the buffer on {subject} is {} % full", warning.count),
        WarningKind::Gaps => {
            format!("{} of {subject} gone before they could be read, after {since}", count(warning.count, "part"))
        }
        WarningKind::UndatedLines => {
            format!("nothing dates {} of {subject}: `seatmeter streams set-date`", count(warning.count, "line"))
        }
        WarningKind::WrongClock => {
            format!("{} of {subject} have dates that cannot be right", count(warning.count, "line"))
        }
        WarningKind::NamesDiffer => {
            "agents of its realm send names in different ways, and a person counts as several: give all the same [privacy]".into()
        }
        WarningKind::Quarantined => {
            "sent by a copy of its agent, and counts nowhere: `seatmeter agents enrolled`, then `accept` or `reject`".into()
        }
        WarningKind::OverQuota => {
            let (is, most) = (warning.count, warning.other.parse().unwrap_or_default());
            let shown = |number| if warning.detail == "bytes" { size(number) } else { thousands(number) };
            let unit = if warning.detail == "bytes" { "" } else { &format!(" {detail}") };
            format!("{}{unit} came in a day, more than {}: is it a first import, or is somebody inventing them?", shown(is), shown(most))
        }
        WarningKind::ConcurrentInUse => {
            format!("{detail} in use, licensed by concurrent use: their number of users is no license figure")
        }
        WarningKind::Unspecified => "unknown to this version".into(),
    }
}
