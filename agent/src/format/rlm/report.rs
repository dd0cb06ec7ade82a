//! The records of a report log.

use seatmeter_count::{Kind, SessionKey};

use super::fields::{Field, Fields};
use super::stamp::{number, stamp, time_of_day};
use crate::format::{Message, Record, Stamp, Use};

/// Parses a line that begins with a verb.
pub(super) fn parse(line: &[u8]) -> Record<'_> {
    let end = memchr::memchr2(b' ', b'\t', line).unwrap_or(line.len());
    let (verb, rest) = line.split_at(end);
    let read = match verb {
        b"OUT" | b"IN" | b"DENY" | b"INUSE" | b"QUE" | b"DEQUE" => {
            return event(verb, rest).unwrap_or_else(|| without_stamp(Message::Unrecognised(CUT)));
        }
        // One ISV server alone writes the log, and does not name itself in all versions: all that is open ends with it.
        b"START" => stamp_at_end(rest).map(|stamp| (stamp, Message::ManagerStart(None, b""))),
        b"SHUTDOWN" => stamp_at_end(rest).map(|stamp| (stamp, Message::ManagerExit)),
        b"END" | b"REREAD" | b"ROAM_EXTEND" | b"METER_DEC" => stamp_at_end(rest).map(|stamp| (stamp, Message::Ignored)),
        // What the ISV's own program writes into the log stands behind its stamp.
        b"log" => stamp_at_beginning(rest).map(|stamp| (stamp, Message::Ignored)),
        _ if verb.starts_with(b"TEMP") => stamp_at_end(rest).map(|stamp| (stamp, Message::Ignored)),
        _ => return without_stamp(other(line, verb)),
    };
    match read {
        Some((stamp, message)) => Record { stamp: Some(stamp), daemon: b"", message, rest: b"" },
        None => without_stamp(Message::Unrecognised("a record without its date and time")),
    }
}

const CUT: &str = "a record that is cut, or has fields that are not documented";

fn without_stamp(message: Message<'_>) -> Record<'_> {
    Record { stamp: None, daemon: b"", message, rest: b"" }
}

/// Recognises the lines that have no stamp.
fn other<'a>(line: &'a [u8], verb: &[u8]) -> Message<'a> {
    // The ISV is named a few lines later, but not by all versions.
    if line.starts_with(b"RLM Report Log Format ") {
        return Message::Daemon(b"rlm");
    }
    if let Some(name) = line.strip_prefix(b"ISV: ") {
        let name = name.split(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
        return if name.is_empty() { Message::Ignored } else { Message::Daemon(name) };
    }
    // `PRODUCT`, `LICENSE FILE`, `AUTH:`, `TIMEZONE`, `TIMEJUMP`, `SWITCH`, and the prose of the head.
    let word = verb.trim_ascii().iter().rposition(|byte| !byte.is_ascii_uppercase()).map_or(verb, |at| &verb[at + 1..]);
    if word.len() < verb.len() && matches!(word, b"OUT" | b"IN" | b"DENY" | b"INUSE") {
        return Message::Unrecognised("a record with something before it");
    }
    if line.iter().filter(|byte| **byte < b' ' && **byte != b'\t').count() > line.len() / 8 {
        return Message::Unrecognised("binary data");
    }
    Message::Ignored
}

fn stamp_at_end(rest: &[u8]) -> Option<Stamp> {
    let mut words = rest.rsplit(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let (time, date) = (words.next()?, words.next()?);
    stamp(date, time)
}

fn stamp_at_beginning(rest: &[u8]) -> Option<Stamp> {
    let mut words = rest.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let (date, time) = (words.next()?, words.next()?);
    stamp(date, time)
}

/// What follows the client of an event: the fields between its ISV definition and its stamp.
struct Tail {
    seats: u32,
    detail: i64,
    /// Whether a pool stands before the client.
    has_pool: bool,
}

/// Parses an event; `None` if it is cut or has other fields than documented.
fn event<'a>(verb: &[u8], rest: &'a [u8]) -> Option<Record<'a>> {
    let record = Fields::split(rest)?;
    let (stamp, fields) = stamped(verb, &record)?;
    let has_why = matches!(verb, b"IN" | b"DEQUE");
    if has_why {
        number(record.text(fields.first()?), 3)?;
    }
    if let (b"IN", [_, count, handle]) = (verb, fields) {
        // The small format names nobody.
        let detail = key(&record, handle, handle)?;
        decimal(&record, count)?;
        let usage = Use { kind: Kind::SessionEnd, feature: b"", user: b"", host: b"", seats: 1, detail };
        return Some(Record { stamp: Some(stamp), daemon: b"", message: Message::Use(usage), rest: b"" });
    }
    let kind = match verb {
        b"OUT" => Kind::Checkout,
        b"IN" => Kind::Checkin,
        b"DENY" => Kind::Denial,
        b"INUSE" => Kind::InUse,
        b"QUE" => Kind::Queued,
        _ => Kind::Dequeued,
    };
    let fields = &fields[usize::from(has_why)..];
    // Product, version, and at least an empty user and an empty host, unquoted but for the empty ones: what follows the
    // ISV definition tells where it stands.
    let (definition, tail) = (4..fields.len()).find_map(|at| {
        let tail = if fields[at].is_quoted { tail(verb, &record, &fields[at + 1..])? } else { None? };
        Some((at, tail))
    })?;
    let client = &fields[2 + usize::from(tail.has_pool)..definition];
    let (host, user) = client.split_last()?;
    let usage = Use {
        kind,
        feature: record.text(&fields[0]),
        user: record.name(user)?,
        host: record.text(host),
        seats: tail.seats,
        detail: tail.detail,
    };
    // A license that another server can still give is not denied.
    let is_last_attempt = verb != b"DENY" || record.text(&fields[definition + 3]) != b"0";
    let message = if is_last_attempt { Message::Use(usage) } else { Message::Ignored };
    Some(Record { stamp: Some(stamp), daemon: b"", message, rest: b"" })
}

/// Splits the stamp off the end of a record: a date and a time, or in the small format a time alone. In the detailed format, a
/// checkout tells more of its client behind it: the system, the program, roaming, the address.
fn stamped<'a>(verb: &[u8], record: &'a Fields<'_>) -> Option<(Stamp, &'a [Field])> {
    let all = record.all();
    let behind = all.iter().rev().take_while(|field| !field.is_quoted).count();
    if let (b"OUT", 1..=3, Some(at)) = (verb, behind, all.len().checked_sub(behind + 4))
        && all[at + 2].is_quoted
        && let Some(stamp) = stamp(record.text(&all[at]), record.text(&all[at + 1]))
    {
        return Some((stamp, &all[..at]));
    }
    let (time, before) = all.split_last()?;
    if let Some((date, fields)) = before.split_last()
        && let Some(stamp) = stamp(record.text(date), record.text(time))
    {
        return Some((stamp, fields));
    }
    Some((Stamp::Time(time_of_day(record.text(time))?), before))
}

/// Parses what follows an ISV definition; `None` if it is not what follows one.
fn tail(verb: &[u8], record: &Fields<'_>, fields: &[Field]) -> Option<Tail> {
    let quoted = fields.iter().rev().take_while(|field| field.is_quoted).count();
    let numbers = &fields[..fields.len() - quoted];
    if numbers.iter().any(|field| field.is_quoted) {
        return None;
    }
    let seats = decimal(record, numbers.first()?)?;
    let tail = |detail, has_pool| Some(Tail { seats: seats.max(1), detail, has_pool });
    match (verb, numbers, quoted) {
        // count cur_use cur_resuse server_handle share_handle process_id, and the project with what was requested
        (b"OUT", [_, used, resused, handle, share, process], 0..=3) => {
            decimal(record, used).and(decimal(record, resused)).and(hexadecimal(record, process))?;
            tail(key(record, handle, share)?, true)
        }
        // The small format: count server_handle share_handle
        (b"OUT", [_, handle, share], 0) => tail(key(record, handle, share)?, false),
        (b"IN", [_, used, resused, handle], 0) => {
            decimal(record, used).and(decimal(record, resused))?;
            tail(key(record, handle, handle)?, false)
        }
        // count why last_attempt, and the process since some version
        (b"DENY", [_, why, last] | [_, why, last, _], 0) => {
            decimal(record, last)?;
            let error = std::str::from_utf8(record.text(why)).ok()?.parse().ok()?;
            tail(error, false)
        }
        // count server_handle process_id; newer versions also write the share_handle
        (b"INUSE", [_, handle, _], 0) => tail(key(record, handle, handle)?, true),
        (b"INUSE", [_, handle, share, _], 0) => tail(key(record, handle, share)?, true),
        (b"QUE", [_, handle], 0..=3) | (b"DEQUE", [_, handle], 0) => {
            hexadecimal(record, handle)?;
            tail(0, false)
        }
        _ => None,
    }
}

fn decimal(record: &Fields<'_>, field: &Field) -> Option<u32> {
    number(record.text(field), 9)
}

fn hexadecimal(record: &Fields<'_>, field: &Field) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(record.text(field)).ok()?, 16).ok()
}

/// Returns what numbers a session: its own handle, and that of the session whose seats it shares.
fn key(record: &Fields<'_>, handle: &Field, share: &Field) -> Option<i64> {
    Some(SessionKey::new(hexadecimal(record, handle)?, hexadecimal(record, share)?)?.detail())
}
