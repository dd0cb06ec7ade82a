//! The logs of RLM's ISV servers: the report log in its formats `std`, `detailed` and `small`, and the debug log. Both are
//! told apart line by line.
//!
//! The grammar follows the vendor's documentation of the report log (Reprise Software, "Report Log Format"), and the logs that
//! servers of the versions 8 to 14 have written:
//!
//! - `report`: a verb, fields, and a stamp at the end of the line: `OUT product version ... 05/11 15:17:14`
//! - `debug`: `05/11 15:17 (isv) OUT: product v1.0 by user@host`
//! - `fields`: words and quoted texts
//! - `stamp`: `05/11 15:17:14` without a year, `05/11/2013 15:54` with one
//!
//! A report log numbers its sessions: the `server_handle` that is taken at a checkout is given back at its checkin, and can then
//! be another session's. A debug log does not, so that its sessions are paired by their names.

mod debug;
mod fields;
mod report;
mod stamp;

use super::Record;

/// Parses one line, without its line feed.
#[inline(always)]
pub(super) fn parse(line: &[u8]) -> Record<'_> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line).trim_ascii_start();
    match line {
        [b'0'..=b'9', ..] => debug::parse(line),
        _ => report::parse(line),
    }
}

#[cfg(test)]
mod tests;
