//! Dates for lines that carry only a time of day.
//!
//! - If the time of day falls by more than 12 hours, midnight has passed. Smaller backward steps are a corrected clock,
//!   threads out of order, or the end of daylight saving.
//! - A line stamped just before midnight that follows a line stamped just after midnight belongs to the day before.
//! - An anchor tells the date of its line, and overrides the reckoned date.
//! - A local time that occurs twice is taken as the first occurrence, until the clock steps back by more than half of
//!   the change. A local time that never occurs is taken as if the clock had not changed.
//! - No code in this module knows today's date. A timeline starts with the day of its first line, which [`Opening`]
//!   reckons backwards from the first anchor.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use seatmeter_count::Day;
use seatmeter_count::calendar::date_of;
use serde::{Deserialize, Serialize};

use super::{Anchor, Stamp};

const DAY: i64 = 86_400;
const HALF_A_DAY: i64 = DAY / 2;

/// How far, in seconds, lines can be out of order at midnight: a line stamped this long before midnight can follow a
/// line stamped this long after it.
const MIDNIGHT_DISORDER: i64 = 300;

/// The maximum difference between the time that a statistics line tells and its stamp, in seconds. Beyond it, the line
/// tells of another moment.
const ANCHOR_TOLERANCE: i64 = 600;

/// A moment, as shown by the server's clock and in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// Seconds since 1970-01-01 00:00 of the server's wall clock.
    pub local: i64,
    /// Seconds since 1970 UTC.
    pub utc: i64,
}

/// The position of a timeline, sufficient to resume after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockPosition {
    /// The day of the last line.
    pub day: Day,
    /// The last line's time of day, in seconds since midnight.
    pub time: i64,
    /// The last line's moment, in seconds since 1970 UTC.
    pub utc: i64,
}

/// Dates the lines of one stream, in their order.
#[derive(Clone, Debug)]
pub struct Timeline {
    zone: Zone,
    /// The day and the time of the last line. Before the first line, the day is that of the first line and the time is
    /// `None`.
    day: Day,
    time: Option<i64>,
    utc: i64,
}

impl Timeline {
    /// Creates a timeline whose first line was written on this day.
    pub fn starting(zone: TimeZone, day: Day) -> Self {
        Self { zone: Zone::new(zone), day, time: None, utc: i64::MIN }
    }

    /// Creates a timeline that resumes at a clock position.
    pub fn resuming(zone: TimeZone, clock: ClockPosition) -> Self {
        Self { zone: Zone::new(zone), day: clock.day, time: Some(clock.time), utc: clock.utc }
    }

    /// Returns the clock position of the last line; `None` before the first line.
    pub fn clock(&self) -> Option<ClockPosition> {
        self.time.map(|time| ClockPosition { day: self.day, time, utc: self.utc })
    }

    /// Returns the moment of the next line, and advances the timeline to it.
    pub fn date(&mut self, stamp: Stamp, anchor: Option<Anchor>) -> Moment {
        let step = reckon(self.day, self.time, stamp, anchor);
        if step.advances {
            (self.day, self.time) = (step.day, Some(step.time));
        }
        let local = i64::from(step.day) * DAY + step.time;
        let utc = match stamp {
            Stamp::DateTime { offset: Some(offset), .. } => local - i64::from(offset),
            _ => self.zone.utc(local, self.utc),
        };
        if step.advances {
            self.utc = utc;
        }
        Moment { local, utc }
    }
}

struct Step {
    day: Day,
    time: i64,
    /// Whether the timeline advances to this line.
    advances: bool,
}

/// Reckons the day and the time of a line that follows a line at `day` and `last`.
fn reckon(day: Day, last: Option<i64>, stamp: Stamp, anchor: Option<Anchor>) -> Step {
    let time = match stamp {
        Stamp::DateTime { day, time, .. } => return Step { day, time: time.into(), advances: true },
        Stamp::Time(time) => i64::from(time),
    };
    if let Some(day) = anchor.and_then(|anchor| anchored_day(anchor, time)) {
        return Step { day, time, advances: true };
    }
    match last {
        Some(last) if last - time > HALF_A_DAY => Step { day: day + 1, time, advances: true },
        Some(last) if last < MIDNIGHT_DISORDER && time >= DAY - MIDNIGHT_DISORDER => {
            Step { day: day - 1, time, advances: false }
        }
        _ => Step { day, time, advances: true },
    }
}

/// Returns the day of a line at this time of day, from its anchor; `None` if the anchor tells of another moment.
fn anchored_day(anchor: Anchor, time: i64) -> Option<Day> {
    match anchor {
        Anchor::Day(day) => Some(day),
        Anchor::Moment { day, time: told } => {
            let difference = time - i64::from(told);
            let (day, distance) = match difference {
                d if d > HALF_A_DAY => (day - 1, DAY - d),
                d if d < -HALF_A_DAY => (day + 1, DAY + d),
                d => (day, d.abs()),
            };
            (distance <= ANCHOR_TOLERANCE).then_some(day)
        }
    }
}

/// Finds the day of a stream's first line: counts days from the first line until a line tells its date.
#[derive(Clone, Debug, Default)]
pub struct Opening {
    /// Days since the first line.
    days: Day,
    time: Option<i64>,
}

impl Opening {
    /// Adds the next line. Returns the day of the first line, if this line tells its date.
    pub fn follow(&mut self, stamp: Stamp, anchor: Option<Anchor>) -> Option<Day> {
        let time = match stamp {
            Stamp::Time(time) | Stamp::DateTime { time, .. } => i64::from(time),
        };
        // The line's day is counted by the clock alone, then read from the line itself. The difference is the first
        // line's day.
        let reckoned = reckon(self.days, self.time, Stamp::Time(time as u32), None);
        if reckoned.advances {
            (self.days, self.time) = (reckoned.day, Some(reckoned.time));
        }
        let told = match (stamp, anchor) {
            (Stamp::DateTime { day, .. }, _) => Some(day),
            (_, Some(anchor)) => anchored_day(anchor, time),
            (_, None) => None,
        };
        told.map(|day| day - reckoned.day)
    }
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
        match self.zone.to_ambiguous_timestamp(civil(local)).offset() {
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

fn civil(local: i64) -> DateTime {
    let day = date_of(local.div_euclid(DAY) as Day);
    let time = local.rem_euclid(DAY);
    // All three are in range: the remainder is below a day.
    day.at((time / 3600) as i8, (time / 60 % 60) as i8, (time % 60) as i8, 0)
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use proptest::prelude::*;
    use seatmeter_count::calendar::day_of;

    use super::*;

    fn at(text: &str) -> Stamp {
        let mut parts = text.split(':').map(|part| part.parse::<u32>().unwrap());
        let mut next = || parts.next().unwrap();
        Stamp::Time(next() * 3600 + next() * 60 + next())
    }

    fn local(moment: Moment) -> String {
        civil(moment.local).to_string()
    }

    fn utc(moment: Moment) -> String {
        Timestamp::from_second(moment.utc).unwrap().to_string()
    }

    fn timeline(zone: &str, year: i16, month: i8, day: i8) -> Timeline {
        Timeline::starting(TimeZone::get(zone).unwrap(), day_of(date(year, month, day)))
    }

    #[test]
    fn a_fall_of_more_than_twelve_hours_is_midnight() {
        let mut line = timeline("UTC", 2018, 7, 27);
        assert_eq!(local(line.date(at("23:50:00"), None)), "2018-07-27T23:50:00");
        assert_eq!(local(line.date(at("23:49:44"), None)), "2018-07-27T23:49:44", "a corrected clock");
        assert_eq!(local(line.date(at("0:00:01"), None)), "2018-07-28T00:00:01");
        assert_eq!(local(line.date(at("23:59:59"), None)), "2018-07-27T23:59:59", "a late line of the day before");
        assert_eq!(local(line.date(at("0:00:02"), None)), "2018-07-28T00:00:02");
        assert_eq!(local(line.date(at("12:00:00"), None)), "2018-07-28T12:00:00");
        assert_eq!(local(line.date(at("11:00:00"), None)), "2018-07-28T11:00:00");
    }

    #[test]
    fn an_anchor_overrides_what_was_reckoned() {
        let mut line = timeline("UTC", 2018, 7, 27);
        line.date(at("10:00:00"), None);
        let day = day_of(date(2018, 8, 3));
        assert_eq!(local(line.date(at("10:00:01"), Some(Anchor::Day(day)))), "2018-08-03T10:00:01");
        let before_midnight = Anchor::Moment { day, time: 86_399 };
        assert_eq!(local(line.date(at("0:00:00"), Some(before_midnight))), "2018-08-04T00:00:00");
        let other = Anchor::Moment { day, time: 40_000 };
        assert_eq!(local(line.date(at("1:00:00"), Some(other))), "2018-08-04T01:00:00", "tells of another moment");
    }

    #[test]
    fn the_hour_that_occurs_twice_is_told_by_its_order() {
        let mut line = timeline("Europe/Berlin", 2026, 10, 25);
        assert_eq!(utc(line.date(at("1:59:00"), None)), "2026-10-24T23:59:00Z");
        assert_eq!(utc(line.date(at("2:30:00"), None)), "2026-10-25T00:30:00Z");
        assert_eq!(utc(line.date(at("2:29:50"), None)), "2026-10-25T00:29:50Z", "a corrected clock");
        assert_eq!(utc(line.date(at("2:55:00"), None)), "2026-10-25T00:55:00Z");
        assert_eq!(utc(line.date(at("2:05:00"), None)), "2026-10-25T01:05:00Z", "the second time");
        assert_eq!(utc(line.date(at("2:50:00"), None)), "2026-10-25T01:50:00Z");
        assert_eq!(utc(line.date(at("3:00:00"), None)), "2026-10-25T02:00:00Z");
    }

    #[test]
    fn the_hour_that_never_occurs_is_as_if_the_clock_had_not_changed() {
        let mut line = timeline("Europe/Berlin", 2026, 3, 29);
        assert_eq!(utc(line.date(at("1:59:59"), None)), "2026-03-29T00:59:59Z");
        assert_eq!(utc(line.date(at("2:30:00"), None)), "2026-03-29T01:30:00Z");
        assert_eq!(utc(line.date(at("3:30:00"), None)), "2026-03-29T01:30:00Z");
    }

    #[test]
    fn a_stamp_with_date_and_offset_is_itself_an_anchor() {
        let mut line = timeline("Europe/Berlin", 2000, 1, 1);
        let stamp = Stamp::DateTime { day: day_of(date(2023, 9, 7)), time: 43_860, offset: Some(7200) };
        assert_eq!(utc(line.date(stamp, None)), "2023-09-07T10:11:00Z");
        assert_eq!(local(line.date(at("12:11:05"), None)), "2023-09-07T12:11:05");
    }

    #[test]
    fn lines_ahead_of_the_first_anchor_are_dated_from_it() {
        let mut opening = Opening::default();
        assert_eq!(opening.follow(at("20:00:00"), None), None);
        assert_eq!(opening.follow(at("3:00:00"), None), None);
        assert_eq!(opening.follow(at("1:00:00"), None), None);
        let anchor = Anchor::Day(day_of(date(2018, 3, 1)));
        assert_eq!(opening.follow(at("2:00:00"), Some(anchor)), Some(day_of(date(2018, 2, 28))));
    }

    proptest! {
        /// A server that writes every few minutes, and tells its date once, somewhere: every line gets the
        /// moment at which it was written, through month ends, leap days and both changes of daylight saving.
        #[test]
        fn every_line_gets_its_own_moment(
            zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
            start in 1_000_000_000i64..2_000_000_000,
            steps in prop::collection::vec(0i64..850, 1..400),
            anchor_line in 0usize..400,
        ) {
            let zone = TimeZone::get(zone).unwrap();
            let mut written = vec![start];
            for step in steps { written.push(written[written.len() - 1] + step); }
            let stamp = |utc: i64| {
                let local = zone.to_datetime(Timestamp::from_second(utc).unwrap());
                let time = u32::try_from(local.hour()).unwrap() * 3600 + u32::try_from(local.minute()).unwrap() * 60
                    + u32::try_from(local.second()).unwrap();
                (Stamp::Time(time), Anchor::Day(day_of(local.date())))
            };
            let anchor_line = anchor_line % written.len();
            let mut opening = Opening::default();
            let mut first = None;
            for (index, utc) in written.iter().enumerate() {
                let (stamp, day) = stamp(*utc);
                first = first.or(opening.follow(stamp, (index == anchor_line).then_some(day)));
            }
            // The first line can fall into an hour that occurs twice, and no line before it tells which. This test
            // skips that case.
            let ambiguous = zone.to_ambiguous_timestamp(zone.to_datetime(Timestamp::from_second(start).unwrap())).is_ambiguous();
            prop_assume!(!ambiguous);
            let mut timeline = Timeline::starting(zone.clone(), first.unwrap());
            for utc in written {
                let dated = timeline.date(stamp(utc).0, None);
                prop_assert_eq!(dated.utc, utc);
                let resumed = Timeline::resuming(zone.clone(), timeline.clock().unwrap());
                prop_assert_eq!(resumed.clock(), timeline.clock());
            }
        }
    }
}
