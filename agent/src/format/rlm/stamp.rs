//! Dates and times, as RLM writes them.

use jiff::civil::Date;
use seatmeter_count::calendar::day_of;

use crate::format::Stamp;

/// Parses a date in US order, with or without a year, and a time of day.
pub(super) fn stamp(date: &[u8], time: &[u8]) -> Option<Stamp> {
    let time = time_of_day(time)?;
    let mut parts = date.split(|byte| *byte == b'/');
    let (month, day, year) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?, parts.next());
    if parts.next().is_some() {
        return None;
    }
    let (month, day) = (i8::try_from(month).ok()?, i8::try_from(day).ok()?);
    match year {
        Some(year) => {
            // RLM did not exist before 2006; years after 2055 are garbage.
            let year = number(year, 4).filter(|year| (2000..=2055).contains(year))?;
            let date = Date::new(i16::try_from(year).ok()?, month, day).ok()?;
            Some(Stamp::DateTime { day: day_of(date), time, offset: None })
        }
        // A leap year has all days that there are.
        None => Date::new(2024, month, day).is_ok().then_some(Stamp::MonthDay { month, day, time }),
    }
}

/// Parses `hh:mm`, `hh:mm:ss` or `hh:mm:ss.f`, the hour with one or two digits. Returns the seconds since midnight.
pub(super) fn time_of_day(text: &[u8]) -> Option<u32> {
    let mut parts = text.split(|byte| *byte == b':');
    let (hours, minutes) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    let seconds = match parts.next() {
        Some(seconds) => number(seconds.split(|byte| *byte == b'.').next()?, 2)?,
        None => 0,
    };
    let is_time = parts.next().is_none() && hours < 24 && minutes < 60 && seconds <= 60;
    is_time.then(|| hours * 3600 + minutes * 60 + seconds.min(59))
}

/// Parses a number of at most this many digits.
pub(super) fn number(digits: &[u8], longest: usize) -> Option<u32> {
    if digits.is_empty() || digits.len() > longest.min(9) {
        return None;
    }
    digits.iter().try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u32::from(digit - b'0')))
}
