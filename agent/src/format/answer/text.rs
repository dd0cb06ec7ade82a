//! What the parsers of text have in common: lines, words and times.

use jiff::civil::Date;
use seatmeter_count::calendar::day_of;

use crate::format::Stamp;

/// Returns the lines of a text, without their ends; those that are empty are left out. A byte order mark is skipped.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end).filter(|line| !line.is_empty())
}

/// Returns what stands before and behind the first occurrence of a text; `None` if it does not occur.
pub(super) fn cut<'a>(line: &'a [u8], at: &str) -> Option<(&'a [u8], &'a [u8])> {
    let place = memchr::memmem::find(line, at.as_bytes())?;
    Some((&line[..place], &line[place + at.len()..]))
}

/// Returns what stands before and behind the last occurrence of a text; `None` if it does not occur.
pub(super) fn cut_last<'a>(line: &'a [u8], at: &str) -> Option<(&'a [u8], &'a [u8])> {
    let place = memchr::memmem::rfind(line, at.as_bytes())?;
    Some((&line[..place], &line[place + at.len()..]))
}

/// Returns the words of a line.
pub(super) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

/// Returns a number that a text is.
pub(super) fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text.trim_ascii()).ok()?.parse().ok()
}

/// Returns a time of day that a text is, `14:12` or `14:12:30`, in seconds since midnight.
pub(super) fn time(text: &[u8]) -> Option<u32> {
    let mut parts = text.split(|byte| *byte == b':').map(number::<u32>);
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next().unwrap_or(Some(0))?);
    (parts.next().is_none() && hours < 24 && minutes < 60 && seconds < 61)
        .then(|| hours * 3600 + minutes * 60 + seconds.min(59))
}

/// Returns the month and the day that a text is, `10/20`, or the date, `10/20/2017`, with a time of day.
pub(super) fn american(date: &[u8], time: u32) -> Option<Stamp> {
    let mut parts = date.split(|byte| *byte == b'/').map(number::<i16>);
    let (month, day, year) = (parts.next()??, parts.next()??, parts.next());
    if parts.next().is_some() {
        return None;
    }
    let (month, day) = (i8::try_from(month).ok()?, i8::try_from(day).ok()?);
    match year {
        Some(year) => stamp(year?, month, day, time),
        // In a leap year, every day that there is.
        None => stamp(2000, month, day, time).map(|_| Stamp::MonthDay { month, day, time }),
    }
}

/// Returns the date that a text is, `2022-02-18`, with a time of day.
pub(super) fn iso(date: &[u8], time: u32) -> Option<Stamp> {
    let mut parts = date.split(|byte| *byte == b'-').map(number::<i16>);
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    stamp(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?, time).filter(|_| parts.next().is_none())
}

/// Returns a date with a time of day.
pub(super) fn stamp(year: i16, month: i8, day: i8, time: u32) -> Option<Stamp> {
    let date = Date::new(year, month, day).ok().filter(|_| (1970..3000).contains(&year))?;
    Some(Stamp::DateTime { day: day_of(date), time, offset: None })
}

/// Returns the number of a month by its English name's first three letters.
pub(super) fn month(name: &[u8]) -> Option<i8> {
    const NAMES: [&[u8; 3]; 12] =
        [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];
    let name = name.get(..3)?.to_ascii_lowercase();
    NAMES.iter().position(|known| known[..] == name).map(|index| index as i8 + 1)
}
