//! The head of a line: its time and the process that wrote it.

use jiff::civil::Date;
use seatmeter_count::calendar::day_of;

use crate::format::Stamp;

/// The maximum length of the name of a process, in bytes.
const MAX_DAEMON: usize = 64;

/// How many bytes of a line are searched for a head, after a prefix that containers and shells add.
const MAX_PREFIX: usize = 512;

pub(super) struct Head<'a> {
    pub(super) stamp: Stamp,
    pub(super) daemon: &'a [u8],
    pub(super) message: &'a [u8],
}

/// Splits a line into its head and its message; `None` if the line has no head.
pub(super) fn head(line: &[u8]) -> Option<Head<'_>> {
    head_at(line).or_else(|| head_within(line))
}

/// Parses a head at the very beginning, where nearly all lines have it.
#[inline(always)]
fn head_at(line: &[u8]) -> Option<Head<'_>> {
    let (stamp, rest) = match time(line) {
        Some((time, rest)) => (Stamp::Time(time), rest),
        None => date_time(line)?,
    };
    let rest = rest.strip_prefix(b" (")?;
    let end = memchr::memchr(b')', &rest[..rest.len().min(MAX_DAEMON + 1)])?;
    let daemon = &rest[..end];
    if daemon.is_empty() || daemon.contains(&b' ') {
        return None;
    }
    let message = &rest[end + 1..];
    Some(Head { stamp, daemon: without_fork(daemon), message: message.strip_prefix(b" ").unwrap_or(message) })
}

/// Finds a head after a byte order mark, `lmgrd_1    | `, `[root@host dir]# `, NULs of a crash, or a line that was cut
/// before its end.
fn head_within(line: &[u8]) -> Option<Head<'_>> {
    let searched = &line[..line.len().min(MAX_PREFIX)];
    // Every head contains `:mm:ss (`, so each such parenthesis is examined.
    memchr::memmem::find_iter(searched, b" (").find_map(|parenthesis| {
        let before = &line[..parenthesis];
        // The longest form of a stamp is tried first, so that no stamp is cut.
        [28, 25, 24, 20, 19, 8, 7].into_iter().find_map(|length| {
            let start = before.len().checked_sub(length)?;
            let boundary = start == 0 || !line[start - 1].is_ascii_alphanumeric();
            if boundary { head_at(&line[start..]) } else { None }
        })
    })
}

/// Removes the suffix `_N` of a forked daemon, which is not part of its name.
fn without_fork(daemon: &[u8]) -> &[u8] {
    let digits = daemon.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let base = daemon.len() - digits;
    if digits > 0 && base > 1 && daemon[base - 1] == b'_' { &daemon[..base - 1] } else { daemon }
}

/// Parses `hh:mm:ss`; the hour has two digits, a blank and one digit, or one digit. Returns the seconds since midnight
/// and the rest of the line.
#[inline(always)]
pub(super) fn time(line: &[u8]) -> Option<(u32, &[u8])> {
    match line {
        [b' ', h, b':', m1, m2, b':', s1, s2, rest @ ..] => Some((clock(b'0', *h, *m1, *m2, *s1, *s2)?, rest)),
        [h1, h2, b':', m1, m2, b':', s1, s2, rest @ ..] => Some((clock(*h1, *h2, *m1, *m2, *s1, *s2)?, rest)),
        [h, b':', m1, m2, b':', s1, s2, rest @ ..] => Some((clock(b'0', *h, *m1, *m2, *s1, *s2)?, rest)),
        _ => None,
    }
}

fn clock(h1: u8, h2: u8, m1: u8, m2: u8, s1: u8, s2: u8) -> Option<u32> {
    let pair = |tens: u8, ones: u8| {
        let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
        if tens < 10 && ones < 10 { u32::from(tens) * 10 + u32::from(ones) } else { u32::MAX }
    };
    let (hours, minutes, seconds) = (pair(h1, h2), pair(m1, m2), pair(s1, s2));
    // A leap second counts as the last second of its minute.
    (hours < 24 && minutes < 60 && seconds <= 60).then(|| hours * 3600 + minutes * 60 + seconds.min(59))
}

/// Parses `yyyy-mm-ddThh:mm:ss`, followed by nothing, `Z`, `+hhmm` or `+hh:mm`.
fn date_time(line: &[u8]) -> Option<(Stamp, &[u8])> {
    if !matches!(line.get(..11)?, [_, _, _, _, b'-', _, _, b'-', _, _, b'T']) {
        return None;
    }
    let date = Date::new(
        i16::try_from(number(&line[..4])?).ok()?,
        i8::try_from(number(&line[5..7])?).ok()?,
        i8::try_from(number(&line[8..10])?).ok()?,
    )
    .ok()?;
    let (time, rest) = time(&line[11..])?;
    let (offset, rest) = match rest {
        [b'Z', rest @ ..] => (Some(0), rest),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2, rest @ ..] | [sign @ (b'+' | b'-'), h1, h2, m1, m2, rest @ ..] => {
            let seconds = number(&[*h1, *h2])? * 3600 + number(&[*m1, *m2])? * 60;
            (Some(if *sign == b'-' { -seconds } else { seconds }), rest)
        }
        rest => (None, rest),
    };
    Some((Stamp::DateTime { day: day_of(date), time, offset }, rest))
}

/// Parses a number that consists of 1 to 9 digits and nothing else.
pub(super) fn number(digits: &[u8]) -> Option<i32> {
    if digits.is_empty() || digits.len() > 9 {
        return None;
    }
    digits.iter().try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i32::from(digit - b'0')))
}

/// Whether a line begins like a head, but with an invalid time, such as `12:49:3a9 (ugslmd) `.
pub(super) fn has_broken_time(line: &[u8]) -> bool {
    let Some(parenthesis) = memchr::memmem::find(&line[..line.len().min(32)], b" (") else { return false };
    let time = line[..parenthesis].trim_ascii_start();
    time.first().is_some_and(u8::is_ascii_digit)
        && time.iter().filter(|byte| **byte == b':').count() == 2
        && line[parenthesis..].contains(&b')')
}
