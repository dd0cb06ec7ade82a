//! `seatmeter unrecognised`.

use anyhow::Result;
use seatmeter_proto::v1::fleet_service_client::FleetServiceClient;
use seatmeter_proto::v1::{ListUnrecognisedLinesRequest, UnrecognisedLine};
use seatmeter_service::answer;
use seatmeter_service::screen::table::{Column, Kind, View};
use seatmeter_service::screen::text::thousands;
use serde::Serialize;

use crate::connect::Channel;
use crate::notes::{stamp, tell_zone, zone};

#[derive(clap::Args)]
pub(crate) struct Unrecognised {
    /// Only lines of this license server
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
    /// At most this many lines
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: usize,
}

/// A line that was not recognised. The field names are those in JSON and CSV, and must not change.
#[derive(Serialize)]
struct LineRow {
    license_server: String,
    log: String,
    position: u64,
    previous_line_at: Option<String>,
    text: String,
}

const COLUMNS: &[Column] = &[
    Column::new("license_server", "Server", Kind::Text, 0),
    Column::new("log", "Log", Kind::Text, 1),
    Column::new("position", "Byte", Kind::Number, 0),
    Column::new("previous_line_at", "After", Kind::Time, 2),
    Column::new("text", "Line", Kind::Text, 0),
];

impl From<UnrecognisedLine> for LineRow {
    fn from(line: UnrecognisedLine) -> Self {
        Self {
            previous_line_at: stamp(line.previous_line_at.as_ref()),
            license_server: line.license_server,
            log: line.log,
            position: line.position,
            text: line.text,
        }
    }
}

#[derive(Serialize)]
struct Envelope {
    time_zone: String,
}

pub(crate) async fn unrecognised(channel: &Channel, asked: Unrecognised, view: &View) -> Result<bool> {
    let mut client = FleetServiceClient::new(channel.clone());
    let mut request = ListUnrecognisedLinesRequest {
        license_server: asked.server.unwrap_or_default(),
        page_size: 1000,
        page_token: String::new(),
    };
    let mut rows: Vec<LineRow> = Vec::new();
    let time_zone = loop {
        let page = client.list_unrecognised_lines(request.clone()).await?.into_inner();
        rows.extend(page.lines.into_iter().map(LineRow::from));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() || rows.len() >= asked.limit {
            break page.time_zone;
        }
    };
    let is_all = request.page_token.is_empty() && rows.len() <= asked.limit;
    rows.truncate(asked.limit);
    let zone = zone(&time_zone);
    view.print(COLUMNS, &rows, &Envelope { time_zone }, &zone)?;
    if view.is_for_people() {
        if !is_all {
            answer!("There are more lines than these {}: see --limit.", thousands(rows.len() as u64));
        }
        tell_zone(&zone);
    }
    Ok(true)
}
