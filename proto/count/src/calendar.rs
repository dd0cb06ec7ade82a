//! Days and months of one time zone, looked up fast.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, date};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Unit};

/// A calendar day, as the number of days since 1970-01-01.
pub type Day = i32;

const SECONDS_A_DAY: i64 = 86_400;

/// The range of a [`Calendar`], in seconds since 1970 UTC: the years 1 to 9998, so that a day and its neighbours are
/// always representable.
const EARLIEST: i64 = -62_135_596_800 + SECONDS_A_DAY;
const LATEST: i64 = 253_370_764_800;

/// A calendar month, written `YYYY-MM`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month(i32);

impl Month {
    /// Returns the month of a date.
    pub fn of(date: Date) -> Self {
        Self(i32::from(date.year()) * 12 + i32::from(date.month()) - 1)
    }

    /// Returns the month with this number, as [`Month::number`] defines it. `None` outside the years 1 to 9998.
    pub fn from_number(number: i32) -> Option<Self> {
        (12..9_999 * 12).contains(&number).then_some(Self(number))
    }

    /// Returns the month's number: twelve times the year, plus 0 for January to 11 for December. Consecutive months
    /// have consecutive numbers.
    pub fn number(self) -> i32 {
        self.0
    }

    /// Returns the next month.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// Returns the previous month.
    pub fn previous(self) -> Self {
        Self(self.0 - 1)
    }

    /// Returns the first day of the month.
    pub fn first_day(self) -> Date {
        // Both parts are in range for every number that `of` and `from_number` accept.
        date((self.0.div_euclid(12)) as i16, (self.0.rem_euclid(12) + 1) as i8, 1)
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.0.div_euclid(12), self.0.rem_euclid(12) + 1)
    }
}

/// A month as a stretch of time. The month begins when the clock first shows midnight of its first day, even if the
/// clock then goes back across that midnight, as in St. John's in November 2009.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The month.
    pub month: Month,
    /// The first day of the month.
    pub first_day: Day,
    /// The first second of the month, in seconds since 1970 UTC.
    pub from: i64,
    /// The first second after the month, in seconds since 1970 UTC; `i64::MAX` if there is none.
    pub until: i64,
}

/// The error for a text that is not a month.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a month: write YYYY-MM, for example 2026-11")]
pub struct NotAMonth(String);

impl FromStr for Month {
    type Err = NotAMonth;

    fn from_str(text: &str) -> Result<Self, NotAMonth> {
        let parse = || {
            let (year, month) = text.split_once('-')?;
            if year.len() != 4 || month.len() != 2 || !(year.to_owned() + month).bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            let month: i32 = month.parse().ok().filter(|m| (1..=12).contains(m))?;
            Self::from_number(year.parse::<i32>().ok()? * 12 + month - 1)
        };
        parse().ok_or_else(|| NotAMonth(text.to_owned()))
    }
}

/// Finds the day and month of a time in one time zone. It remembers the last answer, because the next time is almost
/// always in the same month; such a lookup is two comparisons.
#[derive(Clone, Debug)]
pub struct Calendar {
    zone: TimeZone,
    /// The last stretch of time with one offset from UTC: its first second, the first second after it, and the offset
    /// in seconds.
    offset: (i64, i64, i64),
    /// The month of the last lookup.
    span: Span,
}

impl Calendar {
    /// Returns a calendar of this time zone.
    pub fn new(zone: TimeZone) -> Self {
        Self { zone, offset: (0, 0, 0), span: Span { month: Month(0), first_day: 0, from: 0, until: 0 } }
    }

    /// Returns a calendar of Coordinated Universal Time.
    pub fn utc() -> Self {
        Self::new(TimeZone::UTC)
    }

    /// Returns the time zone.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// Returns the day of a time (seconds since 1970 UTC). A time before the year 1 or after 9998 counts as the first
    /// or the last day of that range.
    pub fn day(&mut self, at: i64) -> Day {
        let at = at.clamp(EARLIEST, LATEST);
        ((at + self.offset_at(at)).div_euclid(SECONDS_A_DAY)) as Day
    }

    /// Returns the month of a time (seconds since 1970 UTC).
    #[inline]
    pub fn month(&mut self, at: i64) -> Month {
        // Nearly always, it is that of the time before.
        if self.span.from <= at && at < self.span.until { self.span.month } else { self.span(at).month }
    }

    /// Returns the month of a time (seconds since 1970 UTC), with the month's bounds.
    #[inline]
    pub fn span(&mut self, at: i64) -> Span {
        let at = at.clamp(EARLIEST, LATEST);
        if at < self.span.from || self.span.until <= at {
            self.span = self.find_span(at);
        }
        self.span
    }

    /// Returns a bit mask of the days from one time through another, both in this month. Bit 0 is the month's first
    /// day.
    pub fn days(&mut self, month: Span, from: i64, through: i64) -> u32 {
        // A clock that goes back across midnight can show the day before the month's first.
        let mut of_month = |at| (self.day(at) - month.first_day).clamp(0, 30);
        let (first, last) = (of_month(from), of_month(through));
        (u32::MAX << first) & (u32::MAX >> (31 - last.max(first)))
    }

    fn find_span(&mut self, at: i64) -> Span {
        let mut month = Month::of(date_of(self.day(at)));
        let mut until = self.start_of(month.next());
        // The clock went back across the midnight at which the next month had already begun.
        if until <= at {
            month = month.next();
            until = self.start_of(month.next());
        }
        Span { month, first_day: day_of(month.first_day()), from: self.start_of(month), until }
    }

    /// Returns the time (seconds since 1970 UTC) at which a month begins; `i64::MAX` if that time is not representable.
    pub fn start_of(&self, month: Month) -> i64 {
        self.start_of_day(day_of(month.first_day()))
    }

    /// Returns the time (seconds since 1970 UTC) at which a day begins; `i64::MAX` if that time is not representable.
    pub fn start_of_day(&self, day: Day) -> i64 {
        self.zone
            .to_ambiguous_timestamp(date_of(day).to_datetime(jiff::civil::Time::midnight()))
            .compatible()
            .map_or(i64::MAX, Timestamp::as_second)
    }

    fn offset_at(&mut self, at: i64) -> i64 {
        let (from, until, offset) = self.offset;
        if from <= at && at < until {
            return offset;
        }
        let Ok(moment) = Timestamp::from_second(at) else { return 0 };
        let offset = i64::from(self.zone.to_offset(moment).seconds());
        let previous = self.zone.preceding(moment).next().map_or(i64::MIN, |t| t.timestamp().as_second());
        let next = self.zone.following(moment).next().map_or(i64::MAX, |t| t.timestamp().as_second());
        // `preceding` excludes the moment itself. If the moment is a transition, the stretch begins with it.
        let from = if self.is_transition(moment) { at } else { previous };
        self.offset = (from, next, offset);
        offset
    }

    fn is_transition(&self, moment: Timestamp) -> bool {
        jiff::Span::new()
            .try_seconds(1)
            .and_then(|second| moment.checked_sub(second))
            .is_ok_and(|before| self.zone.to_offset(before) != self.zone.to_offset(moment))
    }
}

/// Returns the date of a day.
pub fn date_of(day: Day) -> Date {
    let span = jiff::Span::new().try_days(day).unwrap_or_default();
    date(1970, 1, 1).saturating_add(span)
}

/// Returns the day of a date.
pub fn day_of(date_: Date) -> Day {
    date(1970, 1, 1).until((Unit::Day, date_)).map_or(0, |span| span.get_days())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn months_read_and_write_as_text() {
        let month: Month = "2026-11".parse().unwrap();
        assert_eq!(month.to_string(), "2026-11");
        assert_eq!(month.next().next().to_string(), "2027-01");
        assert_eq!(month.previous().to_string(), "2026-10");
        for wrong in ["2026", "2026-13", "2026-00", "26-11", "2026-1", "+026-11", "2026-11-01", "0000-01"] {
            assert!(wrong.parse::<Month>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_month_begins_at_local_midnight() {
        let mut berlin = Calendar::new(TimeZone::get("Europe/Berlin").unwrap());
        let midnight: Timestamp = "2026-06-30T22:00:00Z".parse().unwrap();
        assert_eq!(berlin.month(midnight.as_second()).to_string(), "2026-07");
        assert_eq!(berlin.month(midnight.as_second() - 1).to_string(), "2026-06");
        assert_eq!(Calendar::utc().month(midnight.as_second()).to_string(), "2026-06");
    }

    #[test]
    fn a_month_that_has_begun_goes_on_where_the_clock_goes_back_across_its_midnight() {
        let zone = TimeZone::get("America/St_Johns").unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap().as_second();
        // 00:00:30, then 23:01 of the day before, then 00:00 again.
        let (first, back, again) = (at("2009-11-01T02:30:30Z"), at("2009-11-01T02:31:00Z"), at("2009-11-01T03:30:00Z"));
        for order in [[first, back, again], [back, first, again], [back, again, first]] {
            let mut calendar = Calendar::new(zone.clone());
            for moment in order {
                assert_eq!(calendar.month(moment).to_string(), "2009-11");
            }
            assert_eq!(calendar.month(at("2009-11-01T02:29:59Z")).to_string(), "2009-10");
        }
    }

    proptest! {
        /// Remembered stretches never change an answer: every answer equals that of the time zone library.
        #[test]
        fn every_moment_has_the_day_the_zone_says(
            zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Seoul"]),
            start in -2_000_000_000i64..4_000_000_000,
            steps in prop::collection::vec(-90_000i64..90_000, 1..50),
        ) {
            let zone = TimeZone::get(zone).unwrap();
            let mut calendar = Calendar::new(zone.clone());
            let mut at = start;
            for step in steps {
                at += step;
                let expected = zone.to_datetime(Timestamp::from_second(at).unwrap()).date();
                prop_assert_eq!(date_of(calendar.day(at)), expected);
                prop_assert_eq!(day_of(expected), calendar.day(at));
                prop_assert_eq!(calendar.month(at), Month::of(expected));
            }
        }
    }
}
