//! Parses what follows the head of a line.

use memchr::{memchr, memchr2, memmem};
use seatmeter_count::{Day, Kind};

use super::is_manager;
use super::stamp::{civil, number, time};
use crate::format::{Anchor, Message, Use};

/// A parsed message.
pub(super) struct Parsed<'a> {
    pub(super) message: Message<'a>,
    /// Whether a quote follows that is not the feature's, so that another event can follow.
    pub(super) has_quotes: bool,
}

/// Parses a message. Blanks before it change nothing, but indented prose has no verbs.
#[inline(always)]
pub(super) fn parse<'a>(daemon: &[u8], message: &'a [u8]) -> Parsed<'a> {
    let (is_indented, text) = match message {
        [b' ' | b'\t', ..] => (true, message.trim_ascii_start()),
        _ => (false, message),
    };
    let Some((kind, rest)) = verb(text) else {
        let has_quotes = memchr(b'"', text).is_some();
        let message = without_verb(daemon, text);
        let message = message.unwrap_or_else(|| if is_indented { Message::Ignored } else { other(text) });
        return Parsed { message, has_quotes };
    };
    event(kind, daemon, rest).unwrap_or_else(|reason| Parsed {
        message: Message::Unrecognised(reason),
        has_quotes: memchr(b'"', rest).is_some(),
    })
}

/// Splits a message into the kind of its event and what follows its verb; `None` if it has no verb of an event.
#[inline(always)]
fn verb(message: &[u8]) -> Option<(Kind, &[u8])> {
    Some(match message {
        [b'O', b'U', b'T', b':', rest @ ..] => (Kind::Checkout, rest),
        [b'I', b'N', b':', rest @ ..] => (Kind::Checkin, rest),
        [b'D', b'E', b'N', b'I', b'E', b'D', b':', rest @ ..] => (Kind::Denial, rest),
        [b'U', b'P', b'G', b'R', b'A', b'D', b'E', b':', rest @ ..] => (Kind::Upgrade, rest),
        [b'Q', b'U', b'E', b'U', b'E', b'D', b':', rest @ ..] => (Kind::Queued, rest),
        [b'D', b'E', b'Q', b'U', b'E', b'U', b'E', b'D', b':', rest @ ..] => (Kind::Dequeued, rest),
        [b'I', b'N', b'U', b'S', b'E', b':', rest @ ..] => (Kind::InUse, rest),
        [b'U', b'N', b'S', b'U', b'P', b'P', b'O', b'R', b'T', b'E', b'D', b':', rest @ ..] => {
            (Kind::Unsupported, rest)
        }
        _ => return None,
    })
}

/// Parses a message that reports no use; returns `None` if its beginning is not known.
fn without_verb<'a>(daemon: &[u8], message: &'a [u8]) -> Option<Message<'a>> {
    match message {
        [b'(', b'@', ..] => Some(statistics(message)),
        [b'T', b'I', b'M', b'E', b'S', b'T', b'A', b'M', b'P', b' ' | b'\t', date @ ..] => {
            let anchor = first_word(date).and_then(us_date).map(|day| Message::Anchor(Anchor::Day(day)));
            Some(anchor.unwrap_or(Message::Unrecognised("a TIMESTAMP without a date")))
        }
        _ => lifecycle(daemon, message),
    }
}

/// Recognises starts, and the date and the banner that a license manager writes.
fn lifecycle<'a>(daemon: &[u8], message: &'a [u8]) -> Option<Message<'a>> {
    let after = |text: &[u8]| message.strip_prefix(text);
    if is_manager(daemon) {
        if let Some(date) = after(b"Server's System Date and Time:") {
            return moment(date).map(Message::Anchor);
        }
        if let Some(name) = after(b"Started ").or_else(|| after(b"REStarted ")).or_else(|| after(b"Restarted ")) {
            let end = memchr(b' ', name)?;
            let starts = matches!(name.get(end..end + 2), Some(b" (")) && end > 0;
            return starts.then(|| Message::DaemonStart(&name[..end]));
        }
        if let Some(end) = memmem::find(message, b" exited with status ") {
            return Some(Message::DaemonExit(&message[..end])).filter(|_| memchr(b' ', &message[..end]).is_none());
        }
        if after(EXITING).is_some() {
            return Some(Message::ManagerExit);
        }
        return is_banner(message).then(|| Message::ManagerStart(last_date(message), name_in_banner(message)));
    }
    if after(EXITING).is_some() {
        return Some(Message::DaemonExit(b""));
    }
    after(b"Server started on ").or_else(|| after(SYSTEM_STARTED)).map(|_| Message::DaemonStart(b""))
}

/// What every process writes at its end; the number of the signal follows.
const EXITING: &[u8] = b"EXITING DUE TO SIGNAL";

/// What newer vendor daemons and managers write at their start.
const SYSTEM_STARTED: &[u8] = b"License server system started on ";

/// Whether this is a license manager's first line: `FlexNet Licensing (v11.19) started on`, `FlexNet Publisher (v...)
/// started on`, `FLEXlm (v7.0f) started on`, `FLEXlm v8.0d`.
fn is_banner(message: &[u8]) -> bool {
    if message.starts_with(SYSTEM_STARTED) {
        return true;
    }
    let flex = [&b"FlexNet Licensing "[..], b"FlexNet Publisher ", b"FLEXlm "];
    let version = flex.iter().find_map(|name| {
        let begins = message.get(..name.len())?.eq_ignore_ascii_case(name);
        begins.then(|| &message[name.len()..])
    });
    match version {
        Some([b'(', b'v', b'0'..=b'9', ..]) => memmem::find(message, b") started on ").is_some(),
        Some([b'v', b'0'..=b'9', ..]) => true,
        _ => false,
    }
}

/// Returns the name and the version of the license manager, as its first line has them.
fn name_in_banner(message: &[u8]) -> &[u8] {
    if message.starts_with(SYSTEM_STARTED) {
        return b"";
    }
    memmem::find(message, b" started on ").map_or(message, |end| &message[..end])
}

/// Parses a statistics line, `(@adskflex-SLOG@) ...`. Three kinds tell the time at which they were written. The time in
/// a peak line is that of the peak, and is ignored.
fn statistics(message: &[u8]) -> Message<'_> {
    let Some(end) = memchr(b')', message) else { return Message::Ignored };
    let text = message[end + 1..].trim_ascii_start();
    let date = text
        .strip_prefix(b"Time: ")
        .or_else(|| text.strip_prefix(b"Start-Date: "))
        .or_else(|| text.strip_prefix(b"Reread time: "));
    date.and_then(moment).map_or(Message::Ignored, Message::Anchor)
}

/// Known verbs that do not affect the counts. Text without a verb is prose, and is ignored as well.
const IGNORED_VERBS: [&[u8]; 12] = [
    b"SLOG",
    b"INFO",
    b"ERROR",
    b"WARNING",
    b"NOTE",
    b"NOTICE",
    b"PID",
    b"EXPIRED",
    b"DPLT",
    b"DRQT",
    b"CONNECTED",
    b"DEBUG",
];

fn other(message: &[u8]) -> Message<'_> {
    let word = &message[..memchr(b' ', message).unwrap_or(message.len())];
    let Some(verb) = word.strip_suffix(b":") else { return Message::Ignored };
    let is_verb = verb.len() > 1 && verb.iter().all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_'));
    // `SERVER-OUT:` and similar verbs report what servers exchange among themselves.
    if !is_verb || IGNORED_VERBS.contains(&verb) || verb.contains(&b'-') {
        Message::Ignored
    } else {
        Message::Unrecognised("an unknown verb")
    }
}

/// Parses `"feature" (key) user@host  [bracket] (2 licenses) (suffix)`, and the verbose form with `^^^`.
#[inline(always)]
fn event<'a>(kind: Kind, daemon: &[u8], rest: &'a [u8]) -> Result<Parsed<'a>, &'static str> {
    if is_manager(daemon) {
        return Err("an event that is not a vendor daemon's");
    }
    let quoted = rest.strip_prefix(b" \"").or_else(|| rest.trim_ascii_start().strip_prefix(b"\""));
    let quoted = quoted.ok_or("an event without a quoted feature")?;
    let end = memchr(b'"', quoted).ok_or("a feature without a closing quote")?;
    let (feature, rest) = (&quoted[..end], &quoted[end + 1..]);
    if feature.is_empty() {
        return Err("an event with an empty feature");
    }
    let Client { user, host, tail, is_plain } = client(after_key(rest))?;
    let user = if user.is_empty() { verbose_user(tail).ok_or("an event without a user")? } else { user };
    let mut usage = Use { kind, feature, user, host, seats: 1, detail: 0 };
    // Most lines end in two blanks: they have nothing more to read.
    let has_more = tail.len() > 2;
    if has_more {
        read_tail(tail, &mut usage);
    }
    let has_quotes = (has_more || !is_plain) && memchr(b'"', rest).is_some();
    Ok(Parsed { message: Message::Use(usage), has_quotes })
}

/// Who is named after a feature, and what follows.
struct Client<'a> {
    user: &'a [u8],
    host: &'a [u8],
    tail: &'a [u8],
    /// Whether neither name has a blank, a quote or a further `@`.
    is_plain: bool,
}

/// Splits `user@host tail`, or `user tail` where the server does not tell the host.
///
/// A user can consist of several words, and of several names with `@`: the last one divides it from the host. A host ends
/// before a tab, a double blank, or a blank before a bracket, a parenthesis or `^^^`; a user without a host before the
/// same, but only before a parenthesis with a number of licenses or an error, since a name can have one, too.
#[inline(always)]
fn client(text: &[u8]) -> Result<Client<'_>, &'static str> {
    match plain_client(text) {
        Some(client) => Ok(client),
        None => any_client(text.trim_ascii_start()),
    }
}

/// Splits ` user@host  ` where the names have neither a blank nor a quote nor a further `@`, as nearly all have.
#[inline(always)]
fn plain_client(text: &[u8]) -> Option<Client<'_>> {
    let text = text.strip_prefix(b" ")?;
    let at = memchr(b'@', text)?;
    let end = at + 1 + memchr2(b' ', b'@', &text[at + 1..])?;
    let is_end = text[end] == b' ' && matches!(text.get(end + 1), None | Some(b' ' | b'[' | b'(' | b'^'));
    // All blanks, and the quote, are among these. Without an early end, this is done for many bytes at a time.
    let has_dividers = text[..end].iter().fold(false, |has, byte| has | (*byte <= b'"'));
    let (user, host) = (&text[..at], &text[at + 1..end]);
    (is_end && !has_dividers).then_some(Client { user, host, tail: &text[end..], is_plain: true })
}

/// Splits any names.
#[inline(never)]
fn any_client(text: &[u8]) -> Result<Client<'_>, &'static str> {
    let (mut at, mut end, mut is_plain) = (None, None, true);
    let mut from = 0;
    while let Some(found) = text[from..].iter().position(|byte| DIVIDES[usize::from(*byte)]) {
        let found = from + found;
        from = found + 1;
        match text[found] {
            b'@' => {
                is_plain &= at.is_none();
                at = Some(found);
            }
            b'\t' => end = Some(found),
            b' ' if at.is_some() && matches!(text.get(from), None | Some(b' ' | b'[' | b'(' | b'^')) => {
                end = Some(found)
            }
            b' ' if at.is_none() && ends_user(&text[from..]) => end = Some(found),
            _ => is_plain = false,
        }
        if end.is_some() {
            break;
        }
    }
    let names = &text[..end.unwrap_or(text.len())];
    let tail = &text[names.len()..];
    let Some(at) = at else {
        // A name to which nothing follows can be the beginning of a longer one, in a line that was cut.
        return if end.is_none() {
            Err("an event without user@host")
        } else if names.is_empty() {
            Err("an event without a user")
        } else {
            Ok(Client { user: names, host: b"", tail, is_plain })
        };
    };
    Ok(Client { user: names[..at].trim_ascii(), host: names[at + 1..].trim_ascii(), tail, is_plain })
}

/// The bytes at which names can end or divide, and the quote of another event.
const DIVIDES: [bool; 256] = {
    let mut table = [false; 256];
    table[b'@' as usize] = true;
    table[b' ' as usize] = true;
    table[b'\t' as usize] = true;
    table[b'"' as usize] = true;
    table
};

/// Whether a user without a host ends before a blank to which this text follows.
fn ends_user(text: &[u8]) -> bool {
    match text {
        [] | [b' ' | b'\t' | b'[' | b'^', ..] => true,
        [b'(', inside @ ..] => licenses(inside).is_some() || error_code(inside).is_some(),
        _ => false,
    }
}

/// Reads the seats and the error code from the text after `user@host`. Brackets and suffixes are ignored.
fn read_tail(tail: &[u8], usage: &mut Use<'_>) {
    let mut from = 0;
    while let Some(found) = memchr2(b'(', b'^', &tail[from..]) {
        let start = from + found;
        if tail[start] == b'^' {
            break;
        }
        let inside = &tail[start + 1..];
        if let Some((before, seats)) = licenses(inside) {
            usage.seats = seats;
            if usage.kind == Kind::Upgrade {
                usage.detail = before.into();
            }
        } else if matches!(usage.kind, Kind::Denial | Kind::Unsupported)
            && let Some(code) = error_code(inside)
        {
            usage.detail = code;
        }
        from = start + 1;
    }
}

/// Parses `20 licenses)` or `5->6 licenses)`. Returns the seats before (0 if not told) and now.
fn licenses(text: &[u8]) -> Option<(u32, u32)> {
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let first = digits(text);
    let (before, text) = match text.get(first..first + 2) {
        Some(b"->") => (number(&text[..first])?, &text[first + 2..]),
        _ => (0, text),
    };
    let length = digits(text);
    text[length..].strip_prefix(b" license")?;
    Some((u32::try_from(before).ok()?, u32::try_from(number(&text[..length])?).ok()?))
}

/// Parses `-4,342)` or `-18,327:10054 "")`. Returns the major code.
fn error_code(text: &[u8]) -> Option<i64> {
    let (sign, text) = match text {
        [b'-', text @ ..] => (-1, text),
        text => (1, text),
    };
    let comma = memchr(b',', &text[..text.len().min(10)])?;
    Some(sign * i64::from(number(&text[..comma])?))
}

/// Skips the parenthesis with a key that some servers write between feature and user: `(00F2 6F5A 8ADE F6BD )`,
/// `(BF04C1B183DD400E147F)`, `(PORT_AT_HOST_PLUS   )`. A parenthesis with small letters is a part of the user's name.
#[inline(always)]
fn after_key(rest: &[u8]) -> &[u8] {
    match rest {
        [b' ', next, ..] if !matches!(next, b'(' | b' ' | b'\t') => rest,
        _ => after_any_key(rest),
    }
}

#[inline(never)]
fn after_any_key(rest: &[u8]) -> &[u8] {
    let blanks = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let Some(inside) = rest[blanks..].strip_prefix(b"(") else { return rest };
    let is_of_key = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || b" _-.".contains(byte);
    match memchr(b')', inside) {
        Some(end) if inside[..end].iter().all(is_of_key) => &inside[end + 1..],
        _ => rest,
    }
}

/// Returns the user from `^^^ ver user ip pid ...`, for a verbose line that has no user before its host. The user can
/// consist of several words: it ends before the address.
fn verbose_user(tail: &[u8]) -> Option<&[u8]> {
    let start = memmem::find(tail, b"^^^ ")? + 4;
    let text = &tail[start..];
    let user = &text[memchr(b' ', text)? + 1..];
    let end = memchr::memchr_iter(b' ', user).find(|blank| is_address(&user[blank + 1..]))?;
    Some(&user[..end]).filter(|user| !user.is_empty())
}

/// Whether a text begins with an IP address and a process number.
fn is_address(text: &[u8]) -> bool {
    let mut words = text.split(|byte| *byte == b' ');
    let address = words.next().and_then(|word| std::str::from_utf8(word).ok());
    address.is_some_and(|address| address.parse::<core::net::IpAddr>().is_ok())
        && words.next().is_some_and(|process| number(process).is_some())
}

fn first_word(text: &[u8]) -> Option<&[u8]> {
    text.split(|byte| matches!(byte, b' ' | b'\t')).find(|word| !word.is_empty())
}

/// Parses `m/d/yyyy` or `m/d/yy`. Servers of every language write the US order.
fn us_date(text: &[u8]) -> Option<Day> {
    let mut parts = text.split(|byte| *byte == b'/');
    let (month, day, year) = (number(parts.next()?)?, number(parts.next()?)?, number(parts.next()?)?);
    if parts.next().is_some() {
        return None;
    }
    let century = match year {
        0..=79 => 2000,
        80..=99 => 1900,
        _ => 0,
    };
    civil(century + year, month, day)
}

/// Parses `Fri Jul 27 2018 15:49:07 Eastern Daylight Time`. The zone is ignored, because it is in the language of the
/// system.
fn moment(text: &[u8]) -> Option<Anchor> {
    const MONTHS: [&[u8]; 12] =
        [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
    let mut words = text.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    let (_weekday, month, day, year) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let month = MONTHS.iter().position(|name| *name == month)? as i32 + 1;
    let (time, rest) = time(words.next()?)?;
    if !rest.is_empty() {
        return None;
    }
    Some(Anchor::Moment { day: civil(number(year)?, month, number(day)?)?, time })
}

/// Returns the last date in parentheses.
fn last_date(message: &[u8]) -> Option<Day> {
    memchr::memrchr_iter(b'(', message).find_map(|start| {
        let inside = &message[start + 1..];
        us_date(&inside[..memchr(b')', inside)?])
    })
}
