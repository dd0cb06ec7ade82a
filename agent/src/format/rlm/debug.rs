//! The lines of a debug log.

use memchr::memmem;
use seatmeter_count::Kind;

use super::stamp::{number, stamp};
use crate::format::{Message, Record, Stamp, Use};

/// The longest name of a process, in bytes.
const MAX_DAEMON: usize = 64;

/// Parses a line that begins with a digit: `mm/dd hh:mm (isv) message`, or a report log's date.
pub(super) fn parse(line: &[u8]) -> Record<'_> {
    let ignored = Record { stamp: None, daemon: b"", message: Message::Ignored, rest: b"" };
    let Some((stamp, rest)) = head(line) else { return ignored };
    let rest = rest.trim_ascii_start();
    if rest.is_empty() {
        // Every half an hour, a report log tells the date.
        let is_date = matches!(stamp, Stamp::DateTime { .. });
        return Record { stamp: Some(stamp).filter(|_| is_date), ..ignored };
    }
    let Some((daemon, message)) = daemon(rest) else { return ignored };
    Record { stamp: Some(stamp), daemon, message: parsed(message), rest: b"" }
}

fn head(line: &[u8]) -> Option<(Stamp, &[u8])> {
    let date = memchr::memchr2(b' ', b'\t', line)?;
    let rest = line[date..].trim_ascii_start();
    let time = memchr::memchr2(b' ', b'\t', rest).unwrap_or(rest.len());
    Some((stamp(&line[..date], &rest[..time])?, &rest[time..]))
}

/// Splits `(isv) message`. The name of a process has no blank.
fn daemon(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.strip_prefix(b"(")?;
    let end = memchr::memchr2(b')', b' ', &text[..text.len().min(MAX_DAEMON + 1)])?;
    let message = text[end..].strip_prefix(b")")?;
    (end > 0).then(|| (&text[..end], message.strip_prefix(b" ").unwrap_or(message)))
}

fn parsed(message: &[u8]) -> Message<'_> {
    let after = |text: &[u8]| message.strip_prefix(text);
    let event = if let Some(rest) = after(b"OUT: ") {
        usage(Kind::Checkout, rest, b" by ")
    } else if let Some(rest) = after(b"IN: ") {
        usage(Kind::Checkin, rest, b" by ")
    } else if let Some(rest) = after(b"DENIED: ") {
        usage(Kind::Denial, rest, b" to ")
    } else if after(b"Server started on ").is_some() {
        return Message::DaemonStart(b"");
    } else if after(b"Shutdown request by ").is_some() {
        return Message::DaemonExit(b"");
    } else {
        return Message::Ignored;
    };
    event.map_or(Message::Unrecognised("an event without a product, a user or a host"), Message::Use)
}

/// Parses `(reason) product v1.0 by user@host isv_def (2 licenses)`; the reason, the definition and the licenses can be
/// absent.
fn usage<'a>(kind: Kind, text: &'a [u8], before_user: &[u8]) -> Option<Use<'a>> {
    let text = match text {
        // Why it was returned, or how many licenses were denied.
        [b'(', ..] => text[memchr::memchr(b')', text)? + 1..].trim_ascii_start(),
        _ => text,
    };
    let by = memmem::find(text, before_user)?;
    let version = memmem::rfind(&text[..by], b" v")?;
    let client = text[by + before_user.len()..].trim_ascii();
    // A user can have blanks and a domain, a host neither.
    let first = memchr::memchr(b'@', client)?;
    let end = first + memchr::memchr(b' ', &client[first..]).unwrap_or(client.len() - first);
    let at = memchr::memrchr(b'@', &client[..end])?;
    Some(Use {
        kind,
        feature: text[..version].trim_ascii(),
        user: &client[..at],
        host: &client[at + 1..end],
        seats: seats(&client[end..]),
        detail: 0,
    })
}

/// Parses the number of licenses in parentheses at the end; 1 if there is none.
fn seats(rest: &[u8]) -> u32 {
    let number = || {
        let inner = rest.strip_suffix(b" licenses)").or_else(|| rest.strip_suffix(b" license)"))?;
        number(&inner[memchr::memrchr(b'(', inner)? + 1..], 9)
    };
    number().unwrap_or(1).max(1)
}
