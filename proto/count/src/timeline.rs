//! When lines were written: from the time that a license server's wall clock showed to a moment.
//!
//! A reader of a log tells *stream times*: the seconds that the wall clock showed since the midnight before the stream's
//! first line, with each later midnight counted. It also tells each date that stands in the log. What both mean is said
//! here:
//!
//! - A date holds from its line on, until another line tells another one. Lines ahead of the first date are dated
//!   backwards from it.
//! - A local time that occurs twice is taken as the first occurrence, until the clock steps back by more than half of
//!   the change. A local time that never occurs is taken as if the clock had not changed.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};

use crate::calendar::{Day, date_of};
use crate::event::{Event, Kind};

/// A day, in seconds.
pub const DAY: i64 = 86_400;

/// How far, in seconds, lines can be out of order at midnight: a line stamped this long before midnight can follow a
/// line stamped this long after it.
pub const MIDNIGHT_DISORDER: i64 = 300;

/// The range of days that a date in a log can be: the years 1900 to 2999. A day outside is damage.
const DAYS: std::ops::Range<Day> = -25_567..376_200;

/// Where a reader stands in a stream: what the lines before tell of the date.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The day of the stream's first line, reckoned back from the last date told; `None` if none was told.
    pub first_day: Option<Day>,
    /// The offset east of UTC that the last stamp told, in seconds; `None` if it told none.
    pub offset: Option<i32>,
}

impl Told {
    /// Takes note of an event, whose time is a stream time.
    pub fn take(&mut self, event: &Event) {
        match event.kind {
            Kind::Date => drop(self.tell(event.at, event.detail.clamp(i32::MIN.into(), i32::MAX.into()) as Day)),
            Kind::Offset => self.offset = i32::try_from(event.detail).ok(),
            _ => {}
        }
    }

    /// Takes note of a line at a stream time that tells this day. Returns whether that is news.
    pub fn tell(&mut self, time: i64, day: Day) -> bool {
        let first_day = first_day(time, day);
        self.first_day.replace(first_day) != Some(first_day)
    }
}

/// Returns the day of a stream's first line, if a line at this stream time was written on this day.
pub fn first_day(time: i64, day: Day) -> Day {
    i64::from(day).saturating_sub(time.div_euclid(DAY)).clamp(i32::MIN.into(), i32::MAX.into()) as Day
}

/// Returns the day of a stream's first line, at this time of day, if the stream goes on from one that ends at this local
/// time (seconds since 1970). A time of day before that is one of the next day, unless lines are only a little out of order.
pub fn day_after(end: i64, first_time: i64) -> Day {
    let (day, time) = (end.div_euclid(DAY), end.rem_euclid(DAY));
    let day = if time - first_time.rem_euclid(DAY) > MIDNIGHT_DISORDER { day + 1 } else { day };
    day.clamp(i32::MIN.into(), i32::MAX.into()) as Day
}

/// Whether a day is one on which a log can have been written.
pub fn is_possible(day: Day) -> bool {
    DAYS.contains(&day)
}

/// Dates the lines of a stream, in their order.
#[derive(Clone, Debug)]
pub struct Timeline {
    zone: Zone,
    told: Told,
    /// The days from the first day that dates reckon to the first day that is meant.
    correction: Day,
    /// The day of the first line, where no date tells it.
    first_day: Day,
    last: Option<Last>,
}

/// The last line.
#[derive(Clone, Copy, Debug)]
struct Last {
    time: i64,
    utc: i64,
}

impl Timeline {
    /// Creates a timeline of a stream whose first line was written on this day. `first_told` is the first day that the
    /// first date in the stream reckons, if there is one: where it is another day, all dates of the stream are corrected
    /// by the difference.
    pub fn new(zone: TimeZone, first_day: Day, first_told: Option<Day>) -> Self {
        let correction = first_told.map_or(0, |told| first_day.saturating_sub(told));
        Self { zone: Zone::new(zone), told: Told::default(), correction, first_day, last: None }
    }

    /// Goes on behind lines that told this, the last of which has this stream time and moment (seconds since 1970 UTC).
    pub fn resume(&mut self, told: Told, last: Option<(i64, i64)>) {
        self.told = told;
        self.last = last.map(|(time, utc)| Last { time, utc });
    }

    /// Returns the moment of the next event, in seconds since 1970 UTC, and takes note of what it tells. The event's time
    /// is a stream time.
    pub fn follow(&mut self, event: &Event) -> i64 {
        self.told.take(event);
        self.date(event.at)
    }

    /// Returns the local time of a line, in seconds since 1970-01-01 00:00 of the server's wall clock.
    pub fn local(&self, time: i64) -> i64 {
        let day = self.told.first_day.map_or(self.first_day, |told| told.saturating_add(self.correction));
        time.saturating_add(i64::from(day) * DAY)
    }

    /// Returns the moment of the next line, in seconds since 1970 UTC.
    #[inline]
    pub fn date(&mut self, time: i64) -> i64 {
        let local = self.local(time);
        let last = self.last.map_or(i64::MIN, |last| last.utc);
        let utc = match self.told.offset {
            Some(offset) => local - i64::from(offset),
            None => self.zone.utc(local, last),
        };
        if !self.last.is_some_and(|last| is_late(last.time, time)) {
            self.last = Some(Last { time, utc });
        }
        utc
    }

    /// Returns the moment of a line before the last one, in seconds since 1970 UTC.
    pub fn moment_before(&self, time: i64) -> i64 {
        self.zone.clone().utc(self.local(time), i64::MIN)
    }
}

/// Whether a line at a stream time is a late one of the day before the line before it.
pub fn is_late(before: i64, time: i64) -> bool {
    before.rem_euclid(DAY) < MIDNIGHT_DISORDER
        && time.rem_euclid(DAY) >= DAY - MIDNIGHT_DISORDER
        && time.div_euclid(DAY) + 1 == before.div_euclid(DAY)
}

/// A time zone, with the offset of the last lookup and the range of local time in which that offset certainly holds.
#[derive(Clone, Debug)]
struct Zone {
    zone: TimeZone,
    from: i64,
    until: i64,
    offset: i64,
}

impl Zone {
    fn new(zone: TimeZone) -> Self {
        Self { zone, from: 0, until: 0, offset: 0 }
    }

    /// Converts a local time to UTC. `last` is the UTC time of the line before.
    fn utc(&mut self, local: i64, last: i64) -> i64 {
        if self.from <= local && local < self.until {
            return local - self.offset;
        }
        let Some(civil) = civil(local) else { return local };
        match self.zone.to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Unambiguous { offset } => {
                self.remember(local, i64::from(offset.seconds()));
                local - i64::from(offset.seconds())
            }
            AmbiguousOffset::Gap { before, .. } => local - i64::from(before.seconds()),
            AmbiguousOffset::Fold { before, after } => {
                let (first, second) = (local - i64::from(before.seconds()), local - i64::from(after.seconds()));
                let stepped_back = first < last.saturating_sub((second - first) / 2);
                if stepped_back || last >= self.change_after(first) { second } else { first }
            }
        }
    }

    fn change_after(&self, utc: i64) -> i64 {
        let moment = Timestamp::from_second(utc).unwrap_or(Timestamp::MAX);
        self.zone.following(moment).next().map_or(i64::MAX, |change| change.timestamp().as_second())
    }

    /// Keeps the offset for the local day, if the zone does not change from the day before to the day after.
    fn remember(&mut self, local: i64, offset: i64) {
        let start = local.div_euclid(DAY) * DAY;
        if self.change_after(local - offset - 2 * DAY) > start - offset + 2 * DAY {
            (self.from, self.until, self.offset) = (start, start + DAY, offset);
        }
    }
}

/// Returns a local time as a date and a time of day; `None` if it is far outside of what a log can hold.
fn civil(local: i64) -> Option<DateTime> {
    let day = Day::try_from(local.div_euclid(DAY)).ok().filter(|day| is_possible(*day))?;
    let time = local.rem_euclid(DAY);
    // All three are in range: the remainder is below a day.
    Some(date_of(day).at((time / 3600) as i8, (time / 60 % 60) as i8, (time % 60) as i8, 0))
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use proptest::prelude::*;

    use super::*;
    use crate::calendar::day_of;
    use crate::event::NO_OFFSET;

    fn timeline(zone: &str, year: i16, month: i8, day: i8) -> Timeline {
        Timeline::new(TimeZone::get(zone).unwrap(), day_of(date(year, month, day)), None)
    }

    fn mark(kind: Kind, at: i64, detail: i64) -> Event {
        Event { kind, at, feature: 0, client: 0, seats: 1, detail }
    }

    fn told(time: i64, day: Day) -> Event {
        mark(Kind::Date, time, day.into())
    }

    fn offset(seconds: i64) -> Event {
        mark(Kind::Offset, 0, seconds)
    }

    fn at(text: &str) -> i64 {
        let mut parts = text.split(':').map(|part| part.parse::<i64>().unwrap());
        let mut next = || parts.next().unwrap();
        next() * 3600 + next() * 60 + next()
    }

    fn utc(moment: i64) -> String {
        Timestamp::from_second(moment).unwrap().to_string()
    }

    #[test]
    fn the_hour_that_occurs_twice_is_told_by_its_order() {
        let mut line = timeline("Europe/Berlin", 2026, 10, 25);
        assert_eq!(utc(line.date(at("1:59:00"))), "2026-10-24T23:59:00Z");
        assert_eq!(utc(line.date(at("2:30:00"))), "2026-10-25T00:30:00Z");
        assert_eq!(utc(line.date(at("2:29:50"))), "2026-10-25T00:29:50Z", "a corrected clock");
        assert_eq!(utc(line.date(at("2:55:00"))), "2026-10-25T00:55:00Z");
        assert_eq!(utc(line.date(at("2:05:00"))), "2026-10-25T01:05:00Z", "the second time");
        assert_eq!(utc(line.date(at("2:50:00"))), "2026-10-25T01:50:00Z");
        assert_eq!(utc(line.date(at("3:00:00"))), "2026-10-25T02:00:00Z");
    }

    #[test]
    fn the_hour_that_never_occurs_is_as_if_the_clock_had_not_changed() {
        let mut line = timeline("Europe/Berlin", 2026, 3, 29);
        assert_eq!(utc(line.date(at("1:59:59"))), "2026-03-29T00:59:59Z");
        assert_eq!(utc(line.date(at("2:30:00"))), "2026-03-29T01:30:00Z");
        assert_eq!(utc(line.date(at("3:30:00"))), "2026-03-29T01:30:00Z");
    }

    #[test]
    fn a_date_holds_until_another_one_is_told() {
        let mut line = timeline("UTC", 2018, 7, 27);
        assert_eq!(utc(line.date(at("10:00:00"))), "2018-07-27T10:00:00Z");
        line.follow(&told(at("10:00:00"), day_of(date(2018, 8, 3))));
        assert_eq!(utc(line.date(at("10:00:01"))), "2018-08-03T10:00:01Z");
        assert_eq!(utc(line.date(at("26:00:00"))), "2018-08-04T02:00:00Z");
    }

    #[test]
    fn what_the_operator_says_of_the_first_day_moves_all_dates() {
        let wrong = day_of(date(2036, 7, 27));
        let mut line = Timeline::new(TimeZone::UTC, day_of(date(2026, 7, 27)), Some(wrong));
        line.follow(&told(at("10:00:00"), wrong));
        assert_eq!(utc(line.date(at("10:00:01"))), "2026-07-27T10:00:01Z");
        line.follow(&told(at("10:00:00"), wrong + 3));
        assert_eq!(utc(line.date(at("10:00:01"))), "2026-07-30T10:00:01Z");
    }

    #[test]
    fn an_offset_in_the_stamp_goes_before_the_zone() {
        let mut line = timeline("America/New_York", 2023, 9, 7);
        line.follow(&offset(7200));
        assert_eq!(utc(line.date(at("12:11:00"))), "2023-09-07T10:11:00Z");
        line.follow(&offset(NO_OFFSET));
        assert_eq!(utc(line.date(at("12:11:00"))), "2023-09-07T16:11:00Z");
    }

    #[test]
    fn the_next_file_begins_on_the_day_on_which_the_one_before_ends_or_the_next() {
        let end = |text: &str| i64::from(day_of(date(2026, 3, 1))) * DAY + at(text);
        let first_of_march = day_of(date(2026, 3, 1));
        assert_eq!(day_after(end("10:00:00"), at("10:00:01")), first_of_march);
        assert_eq!(day_after(end("23:59:00"), at("0:00:01")), first_of_march + 1);
        assert_eq!(day_after(end("10:00:00"), at("9:59:00")), first_of_march, "processes write out of order");
        assert_eq!(day_after(end("17:00:00"), at("9:00:00")), first_of_march + 1, "the next day at work");
    }

    proptest! {
        /// Whatever times and days come from outside, each has a moment, and nothing overflows.
        #[test]
        fn damage_has_a_moment(times in prop::collection::vec(-(1i64 << 40)..1 << 40, 1..9), day in any::<i32>(), told in any::<i32>()) {
            let mut line = Timeline::new(TimeZone::get("Europe/Berlin").unwrap(), day, Some(told));
            for time in times {
                line.follow(&super::tests::told(time, day));
                line.moment_before(time);
                day_after(time, time);
            }
        }
    }
}
