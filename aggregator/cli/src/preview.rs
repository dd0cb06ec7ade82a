//! `seatmeter preview`.

use anyhow::Result;
use jiff::tz::TimeZone;
use seatmeter_proto::v1::fleet_service_client::FleetServiceClient;
use seatmeter_proto::v1::usage_service_client::UsageServiceClient;
use seatmeter_proto::v1::{MonthDifference, PeopleDifference, PreviewRealmRequest, PreviewTimeZoneRequest};
use seatmeter_service::answer;
use seatmeter_service::screen::table::{Column, Kind, View};
use seatmeter_service::screen::text::visible;
use serde::Serialize;

use crate::connect::Channel;

/// What another time zone or realm of a license server would change
///
/// Both stand in the agent's configuration, `time_zone` with each source: once they are changed
/// there and the agent is started again, all that was ever sent counts by them. Here nothing
/// is changed.
///
/// Examples:
///   seatmeter preview LIC01 --time-zone Asia/Tokyo
///   seatmeter preview LIC01 --realm customer-a
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Preview {
    /// The license server
    name: String,
    /// The time zone in which its logs are written, as in Europe/Berlin
    #[arg(long, value_name = "ZONE", required_unless_present = "realm", conflicts_with = "realm")]
    time_zone: Option<String>,
    /// Only this log, as `seatmeter servers NAME` shows it
    #[arg(long, requires = "time_zone", default_value = "", hide_default_value = true)]
    log: String,
    /// The realm of its users; an empty one is the default realm
    #[arg(long)]
    realm: Option<String>,
}

/// A month in which there would be other figures. The field names are those in JSON and CSV, and must not change.
#[derive(Serialize)]
struct MonthRow {
    month: String,
    before: u64,
    after: u64,
}

/// The JSON fields beside the rows: what stands there so far.
#[derive(Serialize)]
struct SoFar {
    figure: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    realm: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    logs: Vec<LogZone>,
}

#[derive(Serialize)]
struct LogZone {
    log: String,
    time_zone: String,
}

const CHECKOUTS: &[Column] = &[
    Column::new("month", "Month", Kind::Text, 0),
    Column::new("before", "Checkouts so far", Kind::Number, 0),
    Column::new("after", "Then", Kind::Number, 0),
];

const USERS: &[Column] = &[
    Column::new("month", "Month", Kind::Text, 0),
    Column::new("before", "Users so far", Kind::Number, 0),
    Column::new("after", "Then", Kind::Number, 0),
];

pub(crate) async fn preview(channel: &Channel, asked: Preview, view: &View) -> Result<bool> {
    let Preview { name: license_server, time_zone, log, realm } = asked;
    let (columns, rows, so_far) = match (time_zone, realm) {
        (Some(time_zone), _) => {
            let request = PreviewTimeZoneRequest { license_server, log, time_zone };
            let answer = FleetServiceClient::new(channel.clone()).preview_time_zone(request).await?.into_inner();
            let row = |MonthDifference { month, checkouts_before: before, checkouts_after: after }| MonthRow {
                month,
                before,
                after,
            };
            let logs = answer.logs.into_iter().map(|found| LogZone { log: found.log, time_zone: found.time_zone });
            let so_far = SoFar { figure: "checkouts", realm: None, logs: logs.collect() };
            (CHECKOUTS, answer.months.into_iter().map(row).collect::<Vec<_>>(), so_far)
        }
        (None, realm) => {
            let request = PreviewRealmRequest { license_server, realm: realm.unwrap_or_default() };
            let answer = UsageServiceClient::new(channel.clone()).preview_realm(request).await?.into_inner();
            let row = |PeopleDifference { month, users_before: before, users_after: after }| MonthRow {
                month,
                before,
                after,
            };
            let so_far = SoFar { figure: "users", realm: Some(answer.realm), logs: Vec::new() };
            (USERS, answer.months.into_iter().map(row).collect(), so_far)
        }
    };
    view.print(columns, &rows, &so_far, &TimeZone::UTC)?;
    if view.is_for_people() {
        for LogZone { log, time_zone } in &so_far.logs {
            answer!("{}: so far in {time_zone}", visible(log));
        }
        if let Some(realm) = &so_far.realm {
            let realm = if realm.is_empty() { "the default realm".into() } else { visible(realm) };
            answer!("So far in {realm}. Users are those of all license servers, each counted once.");
        }
        match rows.is_empty() {
            true => answer!("That would change no month."),
            false => answer!("Nothing is changed: it is the agent's configuration that says so."),
        }
    }
    Ok(true)
}
