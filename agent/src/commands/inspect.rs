//! `seatmeter-agent inspect`.

use std::process::ExitCode;

use anyhow::{Context, Result};
use data_encoding::HEXLOWER;
use jiff::tz::TimeZone;
use seatmeter_agent::buffer::{self, BufferError, Onlooker};
use seatmeter_agent::config::Config;
use seatmeter_agent::source::file::status::LogSource;
use seatmeter_count::timeline::{self, Timeline, Told};
use seatmeter_count::{Day, Event, Kind as EventKind};
use seatmeter_proto::batch;
use seatmeter_proto::v1::{Batch, Columns};
use seatmeter_service::answer;
use seatmeter_service::screen::table::{Column, Kind, View};
use seatmeter_service::screen::text::rfc3339;
use serde::Serialize;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    configured: crate::Configured,
    /// Show the events of this batch
    #[arg(long, value_name = "SEQUENCE")]
    batch: Option<u64>,
    #[command(flatten)]
    view: View,
}

/// A stream that was read. The names of the fields are those of the JSON output, and must not change.
#[derive(Serialize)]
struct StreamRow {
    stream: String,
    log: String,
    last_line: Option<String>,
    position: u64,
}

const STREAMS: &[Column] = &[
    Column::new("stream", "Stream", Kind::Id, 0),
    Column::new("log", "Log", Kind::Text, 0),
    Column::new("last_line", "Last line (UTC)", Kind::Time, 0),
    Column::new("position", "Read to byte", Kind::Number, 0),
];

/// A batch that waits for delivery, or that the aggregator refused.
#[derive(Serialize)]
struct BatchRow {
    batch: u64,
    stream: String,
    start_position: u64,
    end_position: u64,
    events: u32,
    bytes: usize,
    refused: bool,
}

const BATCHES: &[Column] = &[
    Column::new("batch", "Batch", Kind::Number, 0),
    Column::new("stream", "Stream", Kind::Id, 0),
    Column::new("start_position", "From byte", Kind::Number, 0),
    Column::new("end_position", "To byte", Kind::Number, 0),
    Column::new("events", "Events", Kind::Number, 0),
    Column::new("bytes", "Bytes", Kind::Number, 0),
    Column::new("refused", "Refused", Kind::Text, 0),
];

/// An event of a batch.
#[derive(Serialize)]
struct EventRow {
    position: u64,
    at: Option<String>,
    kind: String,
    daemon: String,
    feature: String,
    user: String,
    host: String,
    seats: u32,
    detail: i64,
    /// The text of an unrecognised line; empty for other events.
    text: String,
}

const EVENTS: &[Column] = &[
    Column::new("position", "Byte", Kind::Number, 0),
    Column::new("at", "Time (UTC)", Kind::Time, 0),
    Column::new("kind", "Kind", Kind::Text, 0),
    Column::new("daemon", "Daemon", Kind::Text, 2),
    Column::new("feature", "Feature", Kind::Text, 0),
    Column::new("user", "User", Kind::Text, 0),
    Column::new("host", "Host", Kind::Text, 1),
    Column::new("seats", "Seats", Kind::Number, 3),
    Column::new("detail", "Detail", Kind::Number, 4),
    Column::new("text", "Text", Kind::Text, 5),
];

/// The JSON fields beside the rows: the batches in the buffer, if the whole buffer is shown.
#[derive(Serialize)]
struct Waiting<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    batches: Option<&'a [BatchRow]>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let config = Config::load(&arguments.configured.config)?;
    // SQLite's own errors do not say who may not read the file, or that there is none.
    let path = config.state.join(buffer::FILE_NAME);
    std::fs::File::open(&path).map_err(|error| super::unreadable(&path, &error, "there is no buffer yet"))?;
    let buffer = Onlooker::open(&config.state)?;
    match arguments.batch {
        Some(sequence) => show_batch(&buffer, sequence, &arguments.view)?,
        None => show_all(&buffer, &config, &arguments.view)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the time zone that is configured for a log; UTC if the log is not configured any more.
fn zone_of(sources: &[LogSource], log: &str) -> TimeZone {
    sources.iter().find(|source| source.name == log).map_or(TimeZone::UTC, |source| source.zone.clone())
}

fn show_all(buffer: &Onlooker, config: &Config, view: &View) -> Result<()> {
    let streams: Vec<StreamRow> = buffer
        .streams()?
        .into_iter()
        .map(|stream| StreamRow {
            stream: HEXLOWER.encode(&stream.fingerprint),
            last_line: stream.moment(&zone_of(&config.sources, &stream.log)).and_then(rfc3339),
            position: stream.position,
            log: stream.log,
        })
        .collect();
    let mut batches = rows(false, |after| buffer.batches_after(after, PAGE))?;
    batches.extend(rows(true, |after| buffer.refused_after(after, PAGE))?);
    view.print(STREAMS, &streams, &Waiting { batches: Some(&batches) }, &TimeZone::UTC)?;
    if view.is_for_people() {
        answer!("");
        view.print(BATCHES, &batches, &Waiting { batches: None }, &TimeZone::UTC)?;
    }
    Ok(())
}

/// How many bytes of batches are read at a time.
const PAGE: usize = 1 << 20;

/// Returns the rows of all batches that `next` gives, page by page.
fn rows(refused: bool, next: impl Fn(u64) -> Result<Vec<Batch>, BufferError>) -> Result<Vec<BatchRow>> {
    let (mut rows, mut after) = (Vec::new(), 0);
    loop {
        let batches = next(after)?;
        let Some(last) = batches.last() else { return Ok(rows) };
        after = last.sequence;
        rows.extend(batches.iter().map(|batch| BatchRow {
            batch: batch.sequence,
            stream: batch.stream.as_ref().map(|stream| HEXLOWER.encode(&stream.fingerprint)).unwrap_or_default(),
            start_position: batch.start_position,
            end_position: batch.end_position,
            events: batch.event_count,
            bytes: batch.columns.len(),
            refused,
        }));
    }
}

fn show_batch(buffer: &Onlooker, sequence: u64, view: &View) -> Result<()> {
    let before = sequence.saturating_sub(1);
    let found = [buffer.batches_after(before, 1)?, buffer.refused_after(before, 1)?].concat();
    let batch = found.iter().find(|batch| batch.sequence == sequence);
    let batch =
        batch.with_context(|| format!("batch {sequence} is not in the buffer: it was delivered, or never existed"))?;
    let columns = batch::open(batch)?;
    let mut timeline = timeline_of(batch, &columns);
    let rows: Vec<EventRow> = batch::events(&columns, batch.start_position)
        .map(|(position, event)| {
            let at = timeline.as_mut().map(|timeline| timeline.follow(&event));
            row(&columns, position, at, event)
        })
        .collect();
    view.print(EVENTS, &rows, &Waiting { batches: None }, &TimeZone::UTC)?;
    Ok(())
}

/// Returns what dates the events of a batch; `None` if no line of it, and none before it, tells a date.
fn timeline_of(batch: &Batch, columns: &Columns) -> Option<Timeline> {
    let zone = batch.stream.as_ref().and_then(|stream| TimeZone::get(&stream.time_zone).ok()).unwrap_or(TimeZone::UTC);
    let date = batch::events(columns, 0).find(|(_, event)| event.kind == EventKind::Date);
    let told = || Some(timeline::first_day(date?.1.at, Day::try_from(date?.1.detail).ok()?));
    let first_day = batch.told_first_day.or_else(told)?;
    let mut timeline = Timeline::new(zone, first_day, Some(first_day));
    timeline.resume(Told { first_day: batch.told_first_day, offset: batch.told_offset }, None);
    Some(timeline)
}

/// Returns the row of an event, with the names that an event of its kind has.
fn row(columns: &Columns, position: u64, at: Option<i64>, event: Event) -> EventRow {
    let name = |index: u32| columns.strings.get(index as usize).cloned().unwrap_or_default();
    let named = |table: &[u32], index: u32, is_there: bool| match table.get(index as usize) {
        Some(index) if is_there => name(*index),
        _ => String::new(),
    };
    let (has_feature, has_client) = (event.kind.has_feature(), event.kind.has_client());
    EventRow {
        position,
        at: at.and_then(rfc3339),
        kind: format!("{:?}", event.kind).to_lowercase(),
        daemon: named(&columns.feature_daemons, event.feature, has_feature),
        feature: named(&columns.feature_names, event.feature, has_feature),
        user: named(&columns.client_users, event.client, has_client),
        host: named(&columns.client_hosts, event.client, has_client),
        seats: event.seats,
        detail: event.detail,
        text: if event.kind == EventKind::Unrecognised { name(event.client) } else { String::new() },
    }
}
