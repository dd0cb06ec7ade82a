//! Prints rows as a table for people, and as JSON or CSV for programs.
//!
//! A row is any value that serialises to a JSON object. Its [`Column`]s define how each field is shown. JSON has all
//! fields, CSV has all columns in their order, and a table has the columns that fit.

use std::cmp::Ordering;
use std::io::IsTerminal;

use anstyle::AnsiColor;
use clap::ValueEnum;
use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::{Map, Value};

use super::stdout;
use super::text::{minute, thousands, visible};

/// The output format of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table for people.
    Table,
    /// For programs: an object with `rows`, and the fields that apply to all rows.
    Json,
    /// For spreadsheets.
    Csv,
}

/// How an answer is shown. Every command that prints rows has these options.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Output")]
pub struct View {
    /// Output format
    #[arg(long, short, global = true, value_enum, default_value_t = Output::Table, visible_alias = "format")]
    pub output: Output,
    /// Show only these columns of a table or CSV; comma-separated headings or JSON field names
    #[arg(long, global = true, value_name = "NAMES", value_delimiter = ',')]
    pub columns: Vec<String>,
    /// Sort by this column; with a leading -, in descending order
    #[arg(long, global = true, value_name = "NAME", allow_hyphen_values = true)]
    pub sort: Option<String>,
    /// Show all columns of a table, however wide it becomes, and ids in full
    #[arg(long, global = true)]
    pub wide: bool,
    /// In CSV, leave texts as they are: without it, a text that a spreadsheet would run begins with ' and control
    /// characters are replaced
    #[arg(long, global = true)]
    pub raw: bool,
}

/// How a table shows the values of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text, a list of texts, or yes and no.
    Text,
    /// A number, right-aligned, with thousands separators.
    Number,
    /// An RFC 3339 moment, shown in the answer's time zone.
    Time,
    /// An identifier, of which a table shows the first eight characters.
    Id,
    /// A state in words: `ok`, or the problem. Only for the first column, which a terminal shows in colour.
    State,
}

/// A field of a row.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// The field's name in JSON and CSV. Other programs rely on it: never change it.
    pub field: &'static str,
    /// The heading in a table, with the unit if there is one.
    pub heading: &'static str,
    /// How a table shows the values.
    pub kind: Kind,
    /// The order in which a table that is too wide drops columns: the largest rank first, 0 never. A column of rank
    /// [`WIDE`] is shown only on request.
    pub rank: u8,
}

/// The rank of a column that a table shows only if the user asks for all columns, or for this one by name.
pub const WIDE: u8 = u8::MAX;

impl Column {
    /// Defines a column.
    pub const fn new(field: &'static str, heading: &'static str, kind: Kind, rank: u8) -> Self {
        Self { field, heading, kind, rank }
    }
}

/// Why an answer cannot be shown as requested.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// No column has the requested name.
    #[error("there is no column {name:?}; the columns are {known}")]
    UnknownColumn {
        /// The requested name.
        name: String,
        /// The names of all columns, separated by commas.
        known: String,
    },
    /// A row cannot be converted to JSON.
    #[error("the answer cannot be converted to JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The answer cannot be converted to CSV.
    #[error("the answer cannot be converted to CSV: {0}")]
    Csv(#[from] csv::Error),
}

/// The default width of a table, and the least width on a terminal, in characters.
const WIDEST: usize = 100;
const NARROWEST: usize = 80;

/// The field in which [`View::limit`] keeps the place of a row.
const INDEX: &str = "#";

/// The number of characters of an identifier that a table shows.
const SHORT_ID: usize = 8;

impl View {
    /// Returns whether the answer is for people. Notes follow only such an answer.
    pub fn is_for_people(&self) -> bool {
        self.output == Output::Table
    }

    /// Returns whether the answer is JSON.
    pub fn is_json(&self) -> bool {
        self.output == Output::Json
    }

    /// Prints rows. JSON has the fields of `envelope` beside `rows`; a table shows times in `zone`.
    pub fn print<R: Serialize>(
        &self,
        columns: &[Column],
        rows: &[R],
        envelope: &impl Serialize,
        zone: &TimeZone,
    ) -> Result<(), ViewError> {
        let mut values = rows.iter().map(object).collect::<Result<Vec<_>, _>>()?;
        self.sort(columns, &mut values)?;
        match self.output {
            Output::Table => {
                let table = self.table(columns, &values, zone)?;
                let has_state = columns.first().is_some_and(|column| column.kind == Kind::State);
                let in_colour = has_state && self.columns.is_empty() && is_coloured();
                stdout::line(format_args!("{}", if in_colour { coloured(&table) } else { table }));
            }
            Output::Json => {
                let mut whole = Map::new();
                whole.insert("rows".into(), Value::Array(values.into_iter().map(Value::Object).collect()));
                whole.extend(object(envelope)?);
                stdout::line(format_args!("{}", serde_json::to_string_pretty(&whole)?));
            }
            Output::Csv => stdout::bytes(&self.csv(columns, &values)?),
        }
        Ok(())
    }

    /// Keeps the first `limit` rows, in the order in which they are shown.
    pub fn limit<R: Serialize>(&self, columns: &[Column], rows: &mut Vec<R>, limit: usize) -> Result<(), ViewError> {
        if self.sort.is_some() && rows.len() > limit {
            let mut keyed = Vec::with_capacity(rows.len());
            for (index, row) in rows.iter().enumerate() {
                let mut values = object(row)?;
                values.insert(INDEX.into(), index.into());
                keyed.push(values);
            }
            self.sort(columns, &mut keyed)?;
            let shown = keyed.iter().take(limit).filter_map(|row| row.get(INDEX)?.as_u64());
            let shown: std::collections::HashSet<u64> = shown.collect();
            let mut index = 0;
            rows.retain(|_| {
                index += 1;
                shown.contains(&(index - 1))
            });
        }
        rows.truncate(limit);
        Ok(())
    }

    fn sort(&self, columns: &[Column], rows: &mut [Map<String, Value>]) -> Result<(), ViewError> {
        let Some(sort) = &self.sort else { return Ok(()) };
        let (name, descends) = sort.strip_prefix('-').map_or((sort.as_str(), false), |name| (name, true));
        let field = find(columns, name)?.field;
        rows.sort_by(|a, b| {
            let order = compare(a.get(field), b.get(field));
            if descends { order.reverse() } else { order }
        });
        Ok(())
    }

    /// Returns the columns that the user chose, or all columns if the user chose none.
    fn chosen(&self, columns: &[Column]) -> Result<Vec<Column>, ViewError> {
        if self.columns.is_empty() {
            Ok(columns.to_vec())
        } else {
            self.columns.iter().map(|name| find(columns, name)).collect()
        }
    }

    fn csv(&self, columns: &[Column], rows: &[Map<String, Value>]) -> Result<Vec<u8>, ViewError> {
        let columns = self.chosen(columns)?;
        let mut csv = csv::Writer::from_writer(Vec::new());
        csv.write_record(columns.iter().map(|column| column.field))?;
        for row in rows {
            csv.write_record(columns.iter().map(|column| {
                let cell = row.get(column.field).map(plain).unwrap_or_default();
                let is_text = matches!(column.kind, Kind::Text | Kind::Id | Kind::State);
                if is_text && !self.raw { defused(&cell) } else { cell }
            }))?;
        }
        csv.into_inner().map_err(|error| ViewError::Csv(error.into_error().into()))
    }

    fn table(&self, columns: &[Column], rows: &[Map<String, Value>], zone: &TimeZone) -> Result<String, ViewError> {
        let mut columns = self.chosen(columns)?;
        let is_free = self.wide || !self.columns.is_empty();
        if !is_free {
            let is_absent = |column: &Column| rows.iter().all(|row| row.get(column.field).is_none_or(is_empty));
            columns.retain(|column| column.rank != WIDE && (column.rank == 0 || rows.is_empty() || !is_absent(column)));
        }
        let width = page_width();
        loop {
            let table = self.render(&columns, rows, zone, (!is_free).then_some(width));
            // If the widest line does not fit, drop the column with the largest rank.
            let widest = table.lines().map(|line| line.chars().count()).max().unwrap_or(0);
            let last =
                columns.iter().enumerate().filter(|(_, column)| column.rank > 0).max_by_key(|(_, column)| column.rank);
            match last {
                Some((index, _)) if !is_free && (widest > width || self.is_crowded(&columns, rows, zone, width)) => {
                    columns.remove(index);
                }
                _ => return Ok(table),
            }
        }
    }

    /// Returns whether the columns need more than `width` characters to keep words whole.
    fn is_crowded(&self, columns: &[Column], rows: &[Map<String, Value>], zone: &TimeZone, width: usize) -> bool {
        const LONG_TEXT: usize = 24;
        let need = |column: &Column| {
            let cells = rows.iter().map(|row| self.cell(column, row, zone).chars().count());
            let longest = cells.chain([column.heading.chars().count()]).max().unwrap_or(0);
            2 + if matches!(column.kind, Kind::Text | Kind::State) { longest.min(LONG_TEXT) } else { longest }
        };
        columns.iter().map(need).sum::<usize>() > width
    }

    fn render(&self, columns: &[Column], rows: &[Map<String, Value>], zone: &TimeZone, width: Option<usize>) -> String {
        let mut table = framed(columns.iter().map(|column| column.heading).collect::<Vec<_>>());
        if let Some(width) = width {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width as u16);
        }
        for row in rows {
            table.add_row(columns.iter().map(|column| self.cell(column, row, zone)));
        }
        for (shown, column) in table.column_iter_mut().zip(columns) {
            shown.set_padding((0, 1));
            if column.kind == Kind::Number {
                shown.set_cell_alignment(CellAlignment::Right);
            }
        }
        trimmed(&table)
    }

    fn cell(&self, column: &Column, row: &Map<String, Value>, zone: &TimeZone) -> String {
        match (column.kind, row.get(column.field)) {
            (_, None | Some(Value::Null)) => "-".into(),
            (_, Some(Value::Bool(yes))) => if *yes { "yes" } else { "no" }.into(),
            (_, Some(Value::Number(number))) => match (number.as_u64(), number.as_f64()) {
                (Some(whole), _) => thousands(whole),
                (None, Some(float)) if number.is_f64() => {
                    let tenths = (float.abs() * 10.0).round() as u64;
                    format!("{}{}.{}", if float < 0.0 { "-" } else { "" }, thousands(tenths / 10), tenths % 10)
                }
                _ => number.to_string(),
            },
            (Kind::Time, Some(Value::String(text))) => match text.parse::<Timestamp>() {
                Ok(moment) => minute(moment.as_second(), zone),
                Err(_) => visible(text),
            },
            (Kind::Id, Some(Value::String(text))) if !self.wide => visible(text).chars().take(SHORT_ID).collect(),
            (_, Some(value)) => visible(&plain(value)),
        }
    }
}

/// Formats a table of texts. The columns in the range `numbers` are right-aligned.
pub fn grid(head: &[String], rows: &[Vec<String>], numbers: std::ops::RangeInclusive<usize>) -> String {
    let mut table = framed(head);
    for row in rows {
        table.add_row(row);
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 1));
        if numbers.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    trimmed(&table)
}

/// Returns an empty table with a line under its heading.
fn framed<T: Into<comfy_table::Row>>(head: T) -> Table {
    let mut table = Table::new();
    table.load_style(TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'))).set_header(head);
    table
}

fn trimmed(table: &Table) -> String {
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// Colours the first column: green if it says `ok`, red otherwise. `not followed` stays without colour.
fn coloured(table: &str) -> String {
    let mut lines = table.lines();
    let head: Vec<&str> = lines.by_ref().take(2).collect();
    let body = lines.map(|line| match line.find("  ") {
        Some(end) if end > 0 && &line[..end] != "not followed" => {
            let colour = if line[..end].trim() == "ok" { AnsiColor::Green } else { AnsiColor::Red };
            let style = colour.on_default();
            format!("{style}{}{style:#}{}", &line[..end], &line[end..])
        }
        _ => line.to_owned(),
    });
    head.into_iter().map(str::to_owned).chain(body).collect::<Vec<_>>().join("\n")
}

/// Returns the width of the terminal, at least 80 characters; 100 if standard output is not a terminal.
pub fn page_width() -> usize {
    if !std::io::stdout().is_terminal() {
        return WIDEST;
    }
    let columns = terminal_size::terminal_size().map_or(WIDEST, |(width, _)| width.0.into());
    columns.max(NARROWEST)
}

/// Returns whether standard output is a terminal that wants colours.
fn is_coloured() -> bool {
    anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never
}

fn find(columns: &[Column], name: &str) -> Result<Column, ViewError> {
    let name = name.trim();
    let by_field = columns.iter().find(|column| column.field.eq_ignore_ascii_case(name));
    let found = by_field.or_else(|| columns.iter().find(|column| column.heading.eq_ignore_ascii_case(name)));
    found.copied().ok_or_else(|| ViewError::UnknownColumn {
        name: name.to_owned(),
        known: columns.iter().map(|column| column.field).collect::<Vec<_>>().join(", "),
    })
}

fn object(value: &impl Serialize) -> Result<Map<String, Value>, serde_json::Error> {
    Ok(match serde_json::to_value(value)? {
        Value::Object(map) => map,
        _ => Map::new(),
    })
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

/// Formats a value as a CSV cell. Null becomes empty; the items of a list are joined by semicolons.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join("; "),
        other => other.to_string(),
    }
}

/// Makes a text harmless for a spreadsheet, which runs a cell that begins like a formula, and for a terminal.
fn defused(cell: &str) -> String {
    let text = visible(cell);
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text }
}

fn compare(a: Option<&Value>, b: Option<&Value>) -> Ordering {
    match (a.and_then(Value::as_f64), b.and_then(Value::as_f64)) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        // Absent values come first.
        (a, b) if a.is_some() != b.is_some() => a.is_some().cmp(&b.is_some()),
        _ => a.map(plain).unwrap_or_default().to_lowercase().cmp(&b.map(plain).unwrap_or_default().to_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const COLUMNS: &[Column] = &[
        Column::new("name", "Name", Kind::Text, 0),
        Column::new("id", "Id", Kind::Id, 2),
        Column::new("users", "Users", Kind::Number, 0),
        Column::new("at", "At", Kind::Time, 1),
        Column::new("hidden", "Hidden", Kind::Text, WIDE),
    ];

    fn rows(name: &str) -> Vec<Map<String, Value>> {
        let row = |name: &str, users: Value| {
            object(&json!({"name": name, "id": "0123456789abcdef", "users": users, "at": "2026-01-01T00:00:00Z", "hidden": ["x", "y"]}))
                .unwrap()
        };
        vec![row("b", json!(1_234)), row(name, json!(null))]
    }

    fn view() -> View {
        View { output: Output::Table, columns: Vec::new(), sort: None, wide: false, raw: false }
    }

    #[test]
    fn a_table_fits_and_has_no_trailing_blanks() {
        let table = view().table(COLUMNS, &rows(&"long ".repeat(40)), &TimeZone::UTC).unwrap();
        for line in table.lines() {
            assert!(line.chars().count() <= WIDEST && line.trim_end() == line, "{line:?}");
        }
        assert!(table.contains("1,234") && table.contains("2026-01-01 00:00") && !table.contains("Hidden"), "{table}");
        let wide = View { wide: true, ..view() }.table(COLUMNS, &rows("a"), &TimeZone::UTC).unwrap();
        assert!(wide.contains("0123456789abcdef") && wide.contains("x; y"), "{wide}");
    }

    #[test]
    fn a_spreadsheet_runs_nothing() {
        let csv = |name: &str, raw| {
            let view = View { columns: vec!["name".into(), "users".into()], raw, ..view() };
            String::from_utf8(view.csv(COLUMNS, &rows(name)[1..]).unwrap()).unwrap()
        };
        for name in ["=cmd()", "+1", "-x", "@sum"] {
            assert_eq!(csv(name, false), format!("name,users\n'{name},\n"));
            assert_eq!(csv(name, true), format!("name,users\n{name},\n"));
        }
        assert_eq!(csv("a\u{1b}[2Jb", false), "name,users\na\u{fffd}[2Jb,\n");
    }

    #[test]
    fn columns_and_order_are_chosen_by_field() {
        let chosen = View { columns: vec!["users".into(), "hidden".into()], ..view() };
        let csv = String::from_utf8(chosen.csv(COLUMNS, &rows("a")).unwrap()).unwrap();
        assert_eq!(csv, "users,hidden\n1234,x; y\n,x; y\n");
        let mut sorted = rows("a");
        View { sort: Some("name".into()), ..view() }.sort(COLUMNS, &mut sorted).unwrap();
        assert_eq!(sorted[0]["name"], "a");
        View { sort: Some("-users".into()), ..view() }.sort(COLUMNS, &mut sorted).unwrap();
        assert_eq!(sorted[0]["name"], "b");
        let wrong = View { sort: Some("nam".into()), ..view() }.sort(COLUMNS, &mut sorted).unwrap_err();
        assert!(wrong.to_string().contains("the columns are name, id"), "{wrong}");
    }
}
