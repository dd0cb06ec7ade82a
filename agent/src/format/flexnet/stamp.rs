//! The head of a line: its time, a date in front of it where there is one, and the process that wrote it.

use jiff::civil::Date;
use seatmeter_count::Day;
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
#[inline(always)]
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
    // The name of a process has no blank.
    let end = memchr::memchr2(b')', b' ', &rest[..rest.len().min(MAX_DAEMON + 1)])?;
    let daemon = &rest[..end];
    if daemon.is_empty() || rest[end] == b' ' {
        return None;
    }
    let message = &rest[end + 1..];
    Some(Head { stamp, daemon: without_fork(daemon), message: message.strip_prefix(b" ").unwrap_or(message) })
}

/// Finds a head after a byte order mark, `lmgrd_1    | `, `[root@host dir]# `, NULs of a crash, a line that was cut
/// before its end, or a date.
#[inline(never)]
fn head_within(line: &[u8]) -> Option<Head<'_>> {
    let searched = &line[..line.len().min(MAX_PREFIX)];
    // Every head contains `:mm:ss (`, so each such parenthesis is examined.
    memchr::memmem::find_iter(searched, b" (").find_map(|parenthesis| {
        let before = &line[..parenthesis];
        LENGTHS.into_iter().find_map(|length| {
            let start = before.len().checked_sub(length)?;
            let boundary = start == 0 || !line[start - 1].is_ascii_alphanumeric();
            let head = head_at(&line[start..]).filter(|_| boundary)?;
            Some(Head { stamp: with_date(head.stamp, &line[..start]), ..head })
        })
    })
}

/// Returns where the stamp of the head begins that ends before the verb at `verb`; `None` if there is no head. What
/// stands before the stamp can be glued to it, so the longest valid stamp is taken.
pub(super) fn start_before(text: &[u8], verb: usize) -> Option<usize> {
    let before = text[..verb].trim_ascii_end();
    let parenthesis = memchr::memmem::rfind(before, b" (").filter(|_| before.ends_with(b")"))?;
    LENGTHS.into_iter().find_map(|length| {
        let start = parenthesis.checked_sub(length)?;
        head_at(&text[start..]).map(|_| start)
    })
}

/// The lengths of stamps, the longest first, so that no stamp is cut: `yyyy-mm-ddThh:mm:ss+hh:mm` with and without its
/// offset, `hh:mm:ss`, and `h:mm:ss`.
const LENGTHS: [usize; 7] = [28, 25, 24, 20, 19, 8, 7];

/// Adds to a time of day the last date in the text before it.
fn with_date(stamp: Stamp, before: &[u8]) -> Stamp {
    let Stamp::Time(time) = stamp else { return stamp };
    let words = before.rsplit(|byte| matches!(byte, b' ' | b'\t' | b'[' | b']' | b'|'));
    match words.filter(|word| word.len() >= MIN_DATE).find_map(|word| day_in(word, time)) {
        Some(day) => Stamp::DateTime { day, time, offset: None },
        None => stamp,
    }
}

/// The length of the shortest date, `1/2/2026`.
const MIN_DATE: usize = 8;

/// Returns the day of a line that was written at this time of day, from a date before its stamp.
///
/// A date alone is the line's own: `2013-03-14`, `2013/03/14`, `14.03.2013`, or `3/14/2013` in US order, as FlexNet
/// writes all dates. A stamp of another program's (`2013-03-14T11:55:52.003Z`) can be of another zone: the line was
/// written on the day on which its own time is nearest to that stamp.
fn day_in(word: &[u8], time: u32) -> Option<Day> {
    let (date, other) = match memchr::memchr(b'T', word) {
        Some(at) => (&word[..at], Some(self::time(&word[at + 1..])?.0)),
        None => (word, None),
    };
    let numbers = |separator: u8| {
        let mut parts = date.split(|byte| *byte == separator);
        let numbers = (number(parts.next()?)?, number(parts.next()?)?, number(parts.next()?)?);
        parts.next().is_none().then_some(numbers)
    };
    let day = if let Some((year, month, day)) = numbers(b'-') {
        civil(year, month, day)
    } else if let Some((day, month, year)) = numbers(b'.') {
        civil(year, month, day)
    } else {
        let (first, second, third) = numbers(b'/')?;
        if first > 31 { civil(first, second, third) } else { civil(third, first, second) }
    }?;
    const HALF_A_DAY: i64 = 43_200;
    Some(match other.map(|other| i64::from(time) - i64::from(other)) {
        Some(later) if later > HALF_A_DAY => day - 1,
        Some(later) if later < -HALF_A_DAY => day + 1,
        _ => day,
    })
}

/// Returns the day with this year, month and day of the month. FlexNet did not exist before 1988. Years after 2055 are
/// garbage, too: the times of two events of a batch may differ by 68 years at most.
pub(super) fn civil(year: i32, month: i32, day: i32) -> Option<Day> {
    let year = i16::try_from(year).ok().filter(|year| (1988..=2055).contains(year))?;
    Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok().map(day_of)
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

/// Parses `yyyy-mm-ddThh:mm:ss` or `yyyy-mm-dd hh:mm:ss`, followed by nothing, `Z`, `+hhmm` or `+hh:mm`.
fn date_time(line: &[u8]) -> Option<(Stamp, &[u8])> {
    if !matches!(line.get(..11)?, [_, _, _, _, b'-', _, _, b'-', _, _, b'T' | b' ']) {
        return None;
    }
    let day = civil(number(&line[..4])?, number(&line[5..7])?, number(&line[8..10])?)?;
    let (time, rest) = time(&line[11..])?;
    let (offset, rest) = match rest {
        [b'Z', rest @ ..] => (Some(0), rest),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2, rest @ ..] | [sign @ (b'+' | b'-'), h1, h2, m1, m2, rest @ ..] => {
            let seconds = number(&[*h1, *h2])? * 3600 + number(&[*m1, *m2])? * 60;
            (Some(if *sign == b'-' { -seconds } else { seconds }), rest)
        }
        rest => (None, rest),
    };
    Some((Stamp::DateTime { day, time, offset }, rest))
}

/// Parses a number that consists of 1 to 9 digits and nothing else.
pub(super) fn number(digits: &[u8]) -> Option<i32> {
    if digits.is_empty() || digits.len() > 9 {
        return None;
    }
    digits.iter().try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i32::from(digit - b'0')))
}

/// Whether a line begins with a time of day, after a date or blanks.
pub(super) fn has_time(line: &[u8]) -> bool {
    let searched = &line[..line.len().min(32)];
    memchr::memchr_iter(b':', searched).any(|colon| {
        [2, 1].into_iter().any(|digits| {
            let start = colon.checked_sub(digits);
            start.is_some_and(|start| time(&line[start..]).is_some())
        })
    })
}

/// Whether a line begins like a head, but with an invalid time, such as `12:49:3a9 (ugslmd) `.
pub(super) fn has_broken_time(line: &[u8]) -> bool {
    let Some(parenthesis) = memchr::memmem::find(&line[..line.len().min(32)], b" (") else { return false };
    let time = line[..parenthesis].trim_ascii_start();
    time.first().is_some_and(u8::is_ascii_digit)
        && time.iter().filter(|byte| **byte == b':').count() == 2
        && line[parenthesis..].contains(&b')')
}
