//! `seatmeter-agent scan`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use seatmeter_agent::config::day;
use seatmeter_agent::scan::{Alike, Scan, scan};
use seatmeter_count::{Day, Month};
use seatmeter_service::screen::table::{Column, Kind, View};
use seatmeter_service::screen::text::{count, thousands, visible};
use serde::Serialize;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The logs
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The day of the first line (YYYY-MM-DD) of files in which no line tells a date. Where it tells its month and day, it is the
    /// first such day from then on
    #[arg(long, value_name = "DATE", value_parser = day)]
    date: Option<Day>,
    #[command(flatten)]
    view: View,
}

const COLUMNS: &[Column] = &[
    Column::new("month", "Month", Kind::Text, 0),
    Column::new("daemon", "Daemon", Kind::Text, 1),
    Column::new("feature", "Feature", Kind::Text, 0),
    Column::new("users_checked_out", "Checked out", Kind::Number, 2),
    Column::new("users_held", "Users", Kind::Number, 0),
    Column::new("outs", "Checkouts", Kind::Number, 0),
    Column::new("ins", "Checkins", Kind::Number, 0),
    Column::new("denials", "Denial lines", Kind::Number, 0),
];

/// The JSON fields beside the rows.
#[derive(Serialize)]
struct Envelope {
    complete: bool,
    lines: Lines,
    not_counted: Vec<String>,
    counted_in_part: Vec<String>,
    alike: Vec<String>,
}

#[derive(Serialize)]
struct Lines {
    events: u64,
    ignored: u64,
    unrecognised: u64,
    /// NUL bytes before lines, which were skipped.
    nul_bytes: u64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let found = scan(&arguments.files, arguments.date);
    let lines = found.lines;
    let envelope = Envelope {
        complete: found.is_complete(),
        lines: Lines {
            events: lines.events,
            ignored: lines.ignored,
            unrecognised: lines.unrecognised,
            nul_bytes: found.nuls,
        },
        not_counted: not_counted(&found),
        counted_in_part: found.cut.iter().map(ToString::to_string).collect(),
        alike: found.alike.iter().map(alike).collect(),
    };
    arguments.view.print(COLUMNS, &found.rows, &envelope, &TimeZone::UTC)?;
    report(&found);
    if let Some(month) = months_ahead(&found).next() {
        eprintln!(
            "{month} and later months are ahead of this machine's clock, and counted: was the license server's wrong?"
        );
    }
    Ok(super::exit(found.is_complete()))
}

/// Returns the files that were not counted, each with the reason.
fn not_counted(found: &Scan) -> Vec<String> {
    let undated = found.undated.iter().map(|(path, lines)| {
        let lines = count(*lines, "line");
        format!(
            "{}: no line tells a date ({lines} with a time); give the first line's day with --date YYYY-MM-DD",
            path.display()
        )
    });
    undated.chain(found.unreadable.iter().map(ToString::to_string)).collect()
}

/// Says how two files that begin alike were counted.
fn alike(Alike { path, other, differ_at, count_once, .. }: &Alike) -> String {
    let (path, other) = (path.display(), other.display());
    match differ_at {
        None => format!("{path} is a copy of {other}, or of its beginning: counted once"),
        Some(position) => {
            let position = thousands(*position);
            let counted = if *count_once { "once" } else { "twice, since no date stands in it" };
            format!("{path} and {other} are the same up to byte {position}: what they share is counted {counted}")
        }
    }
}

/// Returns the months that have not begun yet, two days from now.
fn months_ahead(found: &Scan) -> impl Iterator<Item = &str> {
    const TWO_DAYS: jiff::SignedDuration = jiff::SignedDuration::from_hours(48);
    let soon = Timestamp::now().checked_add(TWO_DAYS).unwrap_or(Timestamp::MAX);
    let current = Month::of(TimeZone::system().to_datetime(soon).date()).to_string();
    found.rows.iter().map(|row| row.month.as_str()).filter(move |month| *month > current.as_str())
}

/// Prints the lines by outcome on standard error, so that they do not mix with the result.
fn report(found: &Scan) {
    let lines = found.lines;
    eprintln!(
        "{} read: {}, {} ignored (no usage), {} not recognised",
        count(lines.total(), "line"),
        count(lines.events, "event"),
        thousands(lines.ignored),
        thousands(lines.unrecognised)
    );
    for sample in &found.samples {
        eprintln!("  {}:{}: {}: {}", sample.path.display(), sample.line, sample.reason, visible(&sample.text));
    }
    let more = lines.unrecognised.saturating_sub(found.samples.len() as u64);
    if more > 0 {
        eprintln!("  and {} more", thousands(more));
    }
    if found.nuls > 0 {
        eprintln!("{} skipped, as a truncation or a crash leaves them", count(found.nuls, "NUL byte"));
    }
    for path in &found.empty {
        eprintln!("{} is empty: nothing to count", path.display());
    }
    for reason in not_counted(found) {
        eprintln!("not counted: {reason}");
    }
    for files in &found.alike {
        eprintln!("{}", alike(files));
    }
    for reason in &found.cut {
        eprintln!("counted only up to this error: {reason}");
    }
}
