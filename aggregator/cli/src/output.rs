//! Answers as tables for people, and as JSON or CSV for programs.

use anyhow::Result;
use clap::ValueEnum;
use comfy_table::{CellAlignment, Table};
use comfy_table::{LineStyle, TableStyle};
use jiff::Timestamp;
use seatmeter_proto::answer;
use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Table,
    Json,
    Csv,
}

/// A row as programs read it, and as a line of a table.
pub(crate) trait Row: Serialize {
    /// The names of the fields, in order: the CSV's head.
    const FIELDS: &'static [&'static str];
    /// The heads of the table's columns; a number's ends with a blank, which is not shown.
    const COLUMNS: &'static [&'static str];
    /// The table's cells.
    fn cells(&self) -> Vec<String>;
}

pub(crate) fn print<R: Row>(rows: &[R], output: Output) -> Result<()> {
    match output {
        Output::Table => answer!("{}", table(rows)),
        Output::Json => answer!("{}", serde_json::to_string_pretty(rows)?),
        Output::Csv => {
            let mut csv = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
            csv.write_record(R::FIELDS)?;
            for row in rows {
                csv.serialize(row)?;
            }
            answer::bytes(&csv.into_inner()?);
        }
    }
    Ok(())
}

fn table<R: Row>(rows: &[R]) -> Table {
    let mut table = Table::new();
    let style = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));
    table.load_style(style).set_header(R::COLUMNS.iter().map(|column| column.trim_end()));
    for row in rows {
        table.add_row(row.cells());
    }
    for (column, name) in table.column_iter_mut().zip(R::COLUMNS) {
        if name.ends_with(' ') {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// A moment as programs read it; empty where there is none.
pub(crate) fn stamp(moment: Option<&prost_types::Timestamp>) -> String {
    match moment.map(|moment| Timestamp::from_second(moment.seconds)) {
        Some(Ok(moment)) => moment.to_string(),
        _ => String::new(),
    }
}

/// A moment as people read it.
pub(crate) fn moment(stamp: &str) -> String {
    if stamp.is_empty() { "never".into() } else { stamp.replace('T', " ").replace('Z', " UTC") }
}

/// A text of the log's, safe to show: no control characters reach the terminal.
pub(crate) fn safe(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

pub(crate) fn yes_no(yes: bool) -> String {
    if yes { "yes".into() } else { "no".into() }
}
