//! `seatmeter denials`.

use anyhow::Result;
use seatmeter_proto::v1::usage_service_client::UsageServiceClient;
use seatmeter_proto::v1::{self, ListActivityRequest};
use seatmeter_service::answer;
use seatmeter_service::screen::table::{Column, Kind, View};
use serde::Serialize;

use crate::connect::Channel;
use crate::months::month;
use crate::notes::{tell_zone, zone};

#[derive(clap::Args)]
pub(crate) struct Denials {
    /// The month: YYYY-MM, `this` or `last`; the current one if none is given
    month: Option<String>,
    /// Only denials of this license server
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
}

/// The denials of a feature in a month. The field names are those in JSON and CSV, and must not change.
#[derive(Serialize)]
struct DenialRow {
    month: String,
    license_server: String,
    daemon: String,
    feature: String,
    denials: u64,
    denial_lines: u64,
    checkouts: u64,
    users: u64,
}

const COLUMNS: &[Column] = &[
    Column::new("month", "Month", Kind::Text, 3),
    Column::new("license_server", "Server", Kind::Text, 0),
    Column::new("daemon", "Daemon", Kind::Text, 1),
    Column::new("feature", "Feature", Kind::Text, 0),
    Column::new("denials", "Denials", Kind::Number, 0),
    Column::new("denial_lines", "Lines", Kind::Number, 4),
    Column::new("checkouts", "Checkouts", Kind::Number, 0),
    Column::new("users", "Users", Kind::Number, 0),
];

impl From<v1::Activity> for DenialRow {
    fn from(row: v1::Activity) -> Self {
        Self {
            month: row.month,
            license_server: row.license_server,
            daemon: row.daemon,
            feature: row.feature,
            denials: row.denials,
            denial_lines: row.denial_lines,
            checkouts: row.checkouts,
            users: row.users_held,
        }
    }
}

#[derive(Serialize)]
struct Envelope {
    time_zone: String,
}

pub(crate) async fn denials(channel: &Channel, asked: Denials, view: &View) -> Result<bool> {
    let mut client = UsageServiceClient::new(channel.clone());
    let mut request = ListActivityRequest {
        license_server: asked.server.unwrap_or_default(),
        month: month(asked.month.as_deref()),
        page_size: 10_000,
        page_token: String::new(),
    };
    let mut rows: Vec<DenialRow> = Vec::new();
    let time_zone = loop {
        let page = client.list_activity(request.clone()).await?.into_inner();
        rows.extend(page.rows.into_iter().filter(|row| row.denial_lines > 0).map(DenialRow::from));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break page.time_zone;
        }
    };
    // Where most was denied comes first.
    rows.sort_by_key(|row| std::cmp::Reverse(row.denials));
    let zone = zone(&time_zone);
    view.print(COLUMNS, &rows, &Envelope { time_zone }, &zone)?;
    if view.is_for_people() {
        match rows.is_empty() {
            true => {
                answer!("Nothing was denied, as far as logs tell. License managers that are asked tell no denials.")
            }
            false => answer!("A denial is asked for again within minutes: these lines count once."),
        }
        tell_zone(&zone);
    }
    Ok(true)
}
