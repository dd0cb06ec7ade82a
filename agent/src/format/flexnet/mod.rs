//! The debug log of FlexNet license managers (`lmgrd`, `lmadmin`) and their vendor daemons.
//!
//! The grammar, `hh:mm:ss (daemon) message`, follows the FlexNet Publisher license administration guide and the lines
//! that servers of many vendors write:
//!
//! - `stamp`: the head of a line, `15:49:22 (adskflex) `, after any prefix that a container or a shell added
//! - `message`: the rest of the line
//!
//! The parser allocates nothing and examines no byte more often than needed. Statistics lines, which make up most of a
//! modern log, are skipped after their first few bytes.

mod message;
mod stamp;

use super::{Message, Record};

/// Parses one line, without its line feed.
pub(super) fn parse(line: &[u8]) -> Record<'_> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let Some(head) = stamp::head(line) else { return unstamped(line) };
    Record { stamp: Some(head.stamp), daemon: head.daemon, message: message::parse(head.daemon, head.message) }
}

/// Whether this process is a license manager, not a vendor daemon.
fn is_manager(daemon: &[u8]) -> bool {
    daemon == b"lmgrd" || daemon == b"lmadmin"
}

/// Parses a line without a head. Such lines are continuations: names of vendor daemons, shutdown sentences, blank
/// lines. A line that contains an event's verb is a broken event, and is reported as unrecognised.
fn unstamped(line: &[u8]) -> Record<'_> {
    const VERBS: [&[u8]; 8] =
        [b"OUT:", b"IN:", b"DENIED:", b"UPGRADE:", b"QUEUED:", b"DEQUEUED:", b"INUSE:", b"UNSUPPORTED:"];
    let message = if VERBS.iter().any(|verb| memchr::memmem::find(line, verb).is_some()) {
        Message::Unrecognised("an event without a valid time stamp")
    } else if stamp::has_broken_time(line) {
        Message::Unrecognised("a time stamp that is not a time")
    } else if line.iter().filter(|byte| **byte < b' ' && **byte != b'\t').count() > line.len() / 8 {
        Message::Unrecognised("binary data")
    } else {
        Message::Ignored
    };
    Record { stamp: None, daemon: b"", message }
}

#[cfg(test)]
mod tests;
