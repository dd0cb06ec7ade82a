//! The licenses that a license manager has, as its license files or its answers tell them.

use seatmeter_count::Day;

use super::Name;
use super::text::{iso, month, number, stamp, words};
use crate::format::Stamp;

/// Licenses of one feature: one line of a license file, or what an answer tells of them together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pool<'a> {
    /// The vendor daemon; empty if the license manager has none.
    pub daemon: Name<'a>,
    /// The feature.
    pub feature: Name<'a>,
    /// The highest version that they are for; for Citrix, the date through which new versions are. Empty if it is not told.
    pub version: Name<'a>,
    /// How many there are; `None` if they are not counted.
    pub licenses: Option<u32>,
    /// Through when they can be used; `None` if it is not told.
    pub expires: Option<Expiry>,
    /// The first day on which they can be used; `None` if it is not told.
    pub starts: Option<Day>,
    /// What tells them from others of the same feature: a serial number, or the package that they are a part of.
    pub serial: Name<'a>,
}

/// Through when licenses can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// For ever.
    Never,
    /// Through this day.
    On(Day),
}

/// Returns through when licenses can be used, as license managers write it: `permanent`, `1-jan-0`, `31-dec-2026`,
/// `2022-12-31 23:59:59`. `None` if it is none of these.
pub(super) fn expiry(text: &[u8]) -> Option<Expiry> {
    let first = words(text).next()?;
    let is = |word: &str| first.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()));
    if ["permanent", "never", "perpetual", "unlimited"].into_iter().any(is) {
        return Some(Expiry::Never);
    }
    // The year 0, as FlexNet writes it; and one that nobody will see, as others do.
    let year = first.split(|byte| *byte == b'-').filter_map(number::<u16>).find(|part| *part == 0 || *part > 2999);
    if year.is_some() && first.split(|byte| *byte == b'-').count() == 3 {
        return Some(Expiry::Never);
    }
    day(first).map(Expiry::On)
}

/// Returns the day that a text is, `31-dec-2026` or `2026-12-31`.
pub(super) fn day(text: &[u8]) -> Option<Day> {
    match iso(text, 0).or_else(|| english(text))? {
        Stamp::DateTime { day, .. } => Some(day),
        Stamp::MonthDay { .. } | Stamp::Time(_) => None,
    }
}

/// Reads `31-dec-2026`, or with a year of two digits, as license files of the last century have it.
fn english(text: &[u8]) -> Option<Stamp> {
    let mut parts = text.split(|byte| *byte == b'-');
    let (day, month, year) = (number(parts.next()?)?, month(parts.next()?)?, number::<i16>(parts.next()?)?);
    let year = match year {
        1..70 => 2000 + year,
        70..100 => 1900 + year,
        year => year,
    };
    stamp(year, month, day, 0).filter(|_| parts.next().is_none())
}

/// Returns the number of licenses that a text is: `None` if they are not counted, which some license managers write as a word,
/// and others as a number that nobody has.
pub(super) fn licenses(text: &[u8]) -> Option<Option<u32>> {
    /// What LM-X writes.
    const UNLIMITED: u32 = i32::MAX as u32;
    if text.eq_ignore_ascii_case(b"uncounted") || text.eq_ignore_ascii_case(b"unlimited") {
        return Some(None);
    }
    number::<u32>(text).map(|count| Some(count).filter(|count| *count < UNLIMITED))
}
