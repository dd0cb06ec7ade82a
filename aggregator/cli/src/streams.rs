//! `seatmeter streams`.

use anyhow::Result;
use seatmeter_proto::v1::fleet_service_client::FleetServiceClient;
use seatmeter_proto::v1::{DatedBy, ListStreamsRequest, MonthDifference, SetStreamDateRequest, StreamReport};
use seatmeter_service::answer;
use seatmeter_service::screen::table::{Column, Kind, View, WIDE};
use seatmeter_service::screen::text::{count, visible};
use serde::Serialize;

use crate::connect::Channel;
use crate::notes::{stamp, tell_zone, zone};

#[derive(clap::Subcommand)]
pub(crate) enum Streams {
    /// The files that logs were read from, and what dates each; exit code 3 if nothing dates one
    List {
        /// Only those of this license server
        #[arg(long, value_name = "NAME")]
        server: Option<String>,
    },
    /// Say on which day the first line of a file was written; all its other dates move with it
    ///
    /// For a file in which no line tells a date, or that a wrong clock has dated. Shows what would change, in this file and in
    /// those that tell no date and come after it; with --yes, changes it. Lines on days to come are kept apart.
    ///
    /// Example: seatmeter streams set-date 1c80e7 2026-03-01 --yes
    SetDate {
        /// The stream, as `seatmeter streams list` shows it; its first digits are enough
        stream: String,
        /// The day on the license server's clock, as YYYY-MM-DD
        #[arg(required_unless_present = "undo", conflicts_with = "undo")]
        date: Option<String>,
        /// Take back what was said before
        #[arg(long)]
        undo: bool,
        /// The license server of the stream, where several have one of this name
        #[arg(long, value_name = "NAME")]
        server: Option<String>,
        /// Change it
        #[arg(long)]
        yes: bool,
    },
}

/// A stream. The field names are those in JSON and CSV, and must not change.
#[derive(Serialize)]
struct StreamRow {
    stream: String,
    license_server: String,
    log: String,
    first_day: Option<String>,
    dated_by: &'static str,
    begins: Option<String>,
    last_line: Option<String>,
    bytes: u64,
    events: u64,
    ignored_lines: u64,
    unrecognised_lines: u64,
}

const STREAMS: &[Column] = &[
    Column::new("stream", "Stream", Kind::Id, 0),
    Column::new("license_server", "Server", Kind::Text, 0),
    Column::new("log", "Log", Kind::Text, 0),
    Column::new("first_day", "First day", Kind::Text, 0),
    Column::new("dated_by", "Dated by", Kind::Text, 0),
    Column::new("begins", "Begins", Kind::Time, 1),
    Column::new("last_line", "Last line", Kind::Time, 0),
    Column::new("bytes", "Bytes", Kind::Number, 2),
    Column::new("events", "Events", Kind::Number, 3),
    Column::new("ignored_lines", "Ignored", Kind::Number, WIDE),
    Column::new("unrecognised_lines", "Unrecognised", Kind::Number, WIDE),
];

impl From<StreamReport> for StreamRow {
    fn from(stream: StreamReport) -> Self {
        let dated_by = match stream.dated_by() {
            DatedBy::Nothing => "nothing",
            DatedBy::Line => "a line",
            DatedBy::StreamBefore => "the file before",
            DatedBy::Configuration => "the configuration",
            DatedBy::Operator => "an operator",
            DatedBy::Unspecified => "unknown to this version",
        };
        let lines = stream.lines.unwrap_or_default();
        Self {
            dated_by,
            begins: stamp(stream.begins.as_ref()),
            last_line: stamp(stream.last_line.as_ref()),
            stream: stream.stream,
            license_server: stream.license_server,
            log: stream.log,
            first_day: Some(stream.first_day).filter(|day| !day.is_empty()),
            bytes: stream.bytes,
            events: lines.events,
            ignored_lines: lines.ignored,
            unrecognised_lines: lines.unrecognised,
        }
    }
}

#[derive(Serialize)]
struct Envelope {
    total: u64,
    time_zone: String,
}

pub(crate) async fn streams(channel: &Channel, asked: Streams, view: &View) -> Result<bool> {
    let client = FleetServiceClient::new(channel.clone());
    match asked {
        Streams::List { server } => list(client, server.unwrap_or_default(), view).await,
        Streams::SetDate { stream, date, server, yes, undo: _ } => {
            let request = SetStreamDateRequest {
                stream,
                date: date.unwrap_or_default(),
                validate_only: !yes,
                license_server: server.unwrap_or_default(),
            };
            set_date(client, request, view).await
        }
    }
}

async fn list(mut client: FleetServiceClient<Channel>, license_server: String, view: &View) -> Result<bool> {
    let mut request = ListStreamsRequest { license_server, page_size: 1000, page_token: String::new() };
    let mut rows: Vec<StreamRow> = Vec::new();
    let (time_zone, total) = loop {
        let page = client.list_streams(request.clone()).await?.into_inner();
        rows.extend(page.streams.into_iter().map(StreamRow::from));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break (page.time_zone, page.total_size as u64);
        }
    };
    let zone = zone(&time_zone);
    view.print(STREAMS, &rows, &Envelope { total, time_zone }, &zone)?;
    if view.is_for_people() {
        tell_zone(&zone);
    }
    Ok(rows.iter().all(|row| row.first_day.is_some()))
}

/// The checkouts of a month. The field names are those in JSON and CSV, and must not change.
#[derive(Serialize)]
struct MonthRow {
    month: String,
    checkouts_before: u64,
    checkouts_after: u64,
}

const MONTHS: &[Column] = &[
    Column::new("month", "Month", Kind::Text, 0),
    Column::new("checkouts_before", "Checkouts so far", Kind::Number, 0),
    Column::new("checkouts_after", "From now on", Kind::Number, 0),
];

#[derive(Serialize)]
struct Redating {
    stream: StreamRow,
    first_day: Option<String>,
    other_streams: u32,
    changed: bool,
}

async fn set_date(mut client: FleetServiceClient<Channel>, request: SetStreamDateRequest, view: &View) -> Result<bool> {
    let is_changed = !request.validate_only;
    let answer = client.set_stream_date(request).await?.into_inner();
    let other_streams = answer.other_streams;
    let stream = StreamRow::from(answer.before.unwrap_or_default());
    let rows: Vec<MonthRow> = answer
        .months
        .into_iter()
        .map(|MonthDifference { month, checkouts_before, checkouts_after }| MonthRow {
            month,
            checkouts_before,
            checkouts_after,
        })
        .collect();
    let before = stream.first_day.clone().unwrap_or_else(|| "not known".into());
    let first_day = Some(answer.first_day).filter(|day| !day.is_empty());
    let after = first_day.clone().unwrap_or_else(|| "not known".into());
    let log = format!("{}: {}", visible(&stream.license_server), visible(&stream.log));
    let is_same = first_day == stream.first_day && rows.is_empty();
    view.print(
        MONTHS,
        &rows,
        &Redating { stream, first_day, other_streams, changed: is_changed },
        &jiff::tz::TimeZone::UTC,
    )?;
    if view.is_for_people() {
        answer!("{log}: the first line's day is {before}; from now on: {after}.");
        if other_streams > 0 {
            answer!("{} that come after it and tell no date move along.", count(other_streams.into(), "file"));
        }
        match (is_same, is_changed) {
            (true, _) => answer!("That changes nothing."),
            (false, true) => answer!("Done. The figures follow within seconds."),
            (false, false) => answer!("Nothing is changed yet: add --yes."),
        }
    }
    Ok(true)
}
