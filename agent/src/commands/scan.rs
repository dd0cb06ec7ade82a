//! `seatmeter-agent scan`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;
use seatmeter_agent::config::day;
use seatmeter_agent::scan::{Row, Scan, scan};
use seatmeter_count::Day;
use seatmeter_proto::answer;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The logs
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The day of the first line (YYYY-MM-DD) of files in which no line tells a date
    #[arg(long, value_name = "DATE", value_parser = day)]
    date: Option<Day>,
    /// The form of the answer
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Table,
    Csv,
    Json,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let found = scan(&arguments.files, arguments.date);
    match arguments.output {
        Output::Table => answer!("{}", table(&found.rows)),
        Output::Csv => write_csv(&found.rows)?,
        Output::Json => answer!("{}", serde_json::to_string_pretty(&found.rows)?),
    }
    report(&found);
    Ok(super::exit(found.is_complete()))
}

fn write_csv(rows: &[Row]) -> Result<()> {
    let mut csv = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    csv.write_record(["month", "daemon", "feature", "users_checked_out", "users_held", "outs", "ins", "denials"])?;
    for row in rows {
        csv.serialize(row)?;
    }
    answer::bytes(&csv.into_inner()?);
    Ok(())
}

fn table(rows: &[Row]) -> comfy_table::Table {
    let mut table =
        super::table(&["Month", "Daemon", "Feature", "Users", "Checked out", "Outs", "Ins", "Denial lines"], 3);
    for row in rows {
        table.add_row([
            row.month.clone(),
            row.daemon.clone(),
            row.feature.clone(),
            row.users_held.to_string(),
            row.users_checked_out.to_string(),
            row.outs.to_string(),
            row.ins.to_string(),
            row.denials.to_string(),
        ]);
    }
    table
}

/// What became of the lines, on standard error, so that it is not in the way of the answer.
fn report(found: &Scan) {
    let lines = found.lines;
    let mut err = io::stderr().lock();
    // Nothing can be done about a standard error that takes nothing.
    let _ = writeln!(
        err,
        "{} lines read: {} events, {} known to mean nothing, {} not understood",
        lines.total(),
        lines.events,
        lines.noise,
        lines.unrecognised
    );
    for sample in &found.samples {
        let _ = writeln!(
            err,
            "  {}:{}: {}: {}",
            sample.path.display(),
            sample.line,
            sample.reason,
            sample.text.escape_debug()
        );
    }
    for (path, lines) in &found.undated {
        let _ = writeln!(
            err,
            "{}: not counted: no line tells a date ({lines} lines with a time); give the first line's day with --date YYYY-MM-DD",
            path.display()
        );
    }
    for error in &found.unreadable {
        let _ = writeln!(err, "not counted: {error}");
    }
}
