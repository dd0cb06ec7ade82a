//! The debug log of FlexNet license managers (`lmgrd`, `lmadmin`) and their vendor daemons.
//!
//! The grammar, `hh:mm:ss (daemon) message`, follows the FlexNet Publisher license administration guide and the lines
//! that servers of many vendors write:
//!
//! - `stamp`: the head of a line, `15:49:22 (adskflex) `, after any prefix that a container or a shell added
//! - `message`: the rest of the line
//! - `glued`: a line that follows in the same line, because its predecessor had no line feed
//!
//! The parser allocates nothing and examines no byte more often than needed. Statistics lines, which make up most of a
//! modern log, are skipped after their first few bytes.

mod glued;
mod message;
mod stamp;

use super::{Message, Record};
use glued::Glued;
use message::Parsed;
use stamp::Head;

/// Parses one line, without its line feed.
#[inline(always)]
pub(super) fn parse(line: &[u8]) -> Record<'_> {
    let whole = line;
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let Some(Head { stamp, daemon, message: text }) = stamp::head(line) else { return unstamped(line) };
    let Parsed { message, has_quotes } = message::parse(daemon, text);
    let mut record = Record { stamp: Some(stamp), daemon, message, rest: b"" };
    if has_quotes {
        match glued::split(text) {
            Glued::None => {}
            Glued::Line { own, rest } => {
                record.message = message::parse(daemon, own).message;
                record.rest = &whole[line.len() - rest.len()..];
            }
            Glued::Event => {
                record.message = Message::Unrecognised("another event in the same line, without a time of its own");
            }
        }
    }
    record
}

/// Whether this process is a license manager, not a vendor daemon.
fn is_manager(daemon: &[u8]) -> bool {
    daemon == b"lmgrd" || daemon == b"lmadmin"
}

/// Parses a line without a head. Such lines are continuations: names of vendor daemons, shutdown sentences, blank
/// lines. A line that contains an event's verb is a broken event, and is reported as unrecognised.
fn unstamped(line: &[u8]) -> Record<'_> {
    let message = if VERBS.iter().any(|verb| memchr::memmem::find(line, verb).is_some()) {
        Message::Unrecognised(if stamp::has_time(line) {
            "an event whose beginning is not `hh:mm:ss (daemon) `"
        } else {
            "an event without a valid time stamp"
        })
    } else if stamp::has_broken_time(line) {
        Message::Unrecognised("a time stamp that is not a time")
    } else if line.iter().filter(|byte| **byte < b' ' && **byte != b'\t').count() > line.len() / 8 {
        Message::Unrecognised("binary data")
    } else {
        Message::Ignored
    };
    Record { stamp: None, daemon: b"", message, rest: b"" }
}

/// The verbs of events.
const VERBS: [&[u8]; 8] =
    [b"OUT:", b"IN:", b"DENIED:", b"UPGRADE:", b"DEQUEUED:", b"QUEUED:", b"INUSE:", b"UNSUPPORTED:"];

#[cfg(test)]
mod tests;
