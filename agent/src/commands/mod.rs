//! The commands: each takes its arguments, calls the library, and says what came of it.

pub(crate) mod check_config;
pub(crate) mod codes;
pub(crate) mod configure;
pub(crate) mod inspect;
pub(crate) mod run;
pub(crate) mod scan;
#[cfg(windows)]
pub(crate) mod service;
pub(crate) mod status;

use std::process::ExitCode;

use comfy_table::{CellAlignment, Table};
use comfy_table::{LineStyle, TableStyle};

/// Done, but something could not be counted or is not well.
pub(crate) const INCOMPLETE: u8 = 3;

pub(crate) fn exit(is_well: bool) -> ExitCode {
    if is_well { ExitCode::SUCCESS } else { ExitCode::from(INCOMPLETE) }
}

/// A table with a line under its head; all columns from `numbers_from` on are numbers, and right-aligned.
pub(crate) fn table(head: &[&str], numbers_from: usize) -> Table {
    let mut table = Table::new();
    table
        .load_style(TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─')))
        .set_header(head.to_vec());
    for column in table.column_iter_mut().skip(numbers_from) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
