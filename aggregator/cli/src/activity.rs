//! `seatmeter activity`.

use anyhow::Result;
use seatmeter_proto::v1::usage_service_client::UsageServiceClient;
use seatmeter_proto::v1::{self, ListActivityRequest};
use seatmeter_service::screen::table::{Column, Kind, Output, View};
use seatmeter_service::screen::text::list;
use serde::Serialize;

use crate::connect::Channel;
use crate::months::month;
use crate::notes::{tell_zone, zone};

#[derive(clap::Args)]
pub(crate) struct Activity {
    /// Only this month, YYYY-MM, `this` or `last`; all if none is given
    month: Option<String>,
    /// Only this license server; CSV needs it if there are several
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
}

/// The figures of `seatmeter-agent scan`. The field names are those in its CSV, and must not change.
#[derive(Serialize)]
struct ActivityRow {
    license_server: String,
    month: String,
    daemon: String,
    feature: String,
    users_checked_out: u64,
    users_held: u64,
    outs: u64,
    ins: u64,
    denials: u64,
}

const SERVER: Column = Column::new("license_server", "Server", Kind::Text, 0);

const COLUMNS: [Column; 8] = [
    Column::new("month", "Month", Kind::Text, 0),
    Column::new("daemon", "Daemon", Kind::Text, 0),
    Column::new("feature", "Feature", Kind::Text, 0),
    Column::new("users_checked_out", "Checked out", Kind::Number, 1),
    Column::new("users_held", "Users", Kind::Number, 0),
    Column::new("outs", "Checkouts", Kind::Number, 0),
    Column::new("ins", "Checkins", Kind::Number, 0),
    Column::new("denials", "Denial lines", Kind::Number, 0),
];

impl From<v1::Activity> for ActivityRow {
    fn from(row: v1::Activity) -> Self {
        Self {
            license_server: row.license_server,
            month: row.month,
            daemon: row.daemon,
            feature: row.feature,
            users_checked_out: row.users_checked_out,
            users_held: row.users_held,
            outs: row.checkouts,
            ins: row.checkins,
            denials: row.denial_lines,
        }
    }
}

#[derive(Serialize)]
struct Envelope {
    time_zone: String,
}

pub(crate) async fn activity(channel: &Channel, asked: Activity, view: &View) -> Result<bool> {
    let mut client = UsageServiceClient::new(channel.clone());
    let mut request = ListActivityRequest {
        license_server: asked.server.unwrap_or_default(),
        month: asked.month.map(|text| month(Some(&text))).unwrap_or_default(),
        page_size: 10_000,
        page_token: String::new(),
    };
    let mut rows: Vec<ActivityRow> = Vec::new();
    let time_zone = loop {
        let page = client.list_activity(request.clone()).await?.into_inner();
        rows.extend(page.rows.into_iter().map(ActivityRow::from));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break page.time_zone;
        }
    };
    let mut servers: Vec<String> = rows.iter().map(|row| row.license_server.clone()).collect();
    servers.dedup();
    if view.output == Output::Csv && servers.len() > 1 {
        anyhow::bail!("CSV contains a single license server: choose one with --server: {}", list(&servers));
    }
    let zone = zone(&time_zone);
    // CSV is byte for byte that of `seatmeter-agent scan`, which has no column for the license server.
    let columns = if view.output == Output::Csv { COLUMNS.to_vec() } else { [&[SERVER], &COLUMNS[..]].concat() };
    view.print(&columns, &rows, &Envelope { time_zone }, &zone)?;
    if view.is_for_people() {
        tell_zone(&zone);
    }
    Ok(true)
}
