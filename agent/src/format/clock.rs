//! The license server's wall clock, as a log shows it: times of day, with the midnights between them counted.
//!
//! - If the time of day falls by more than 12 hours, midnight has passed. Smaller backward steps are a corrected clock,
//!   threads out of order, or the end of daylight saving.
//! - A line stamped just before midnight that follows a line stamped just after midnight belongs to the day before.
//!
//! Which day it was, and in which time zone, is not said here: the agent sends what stands in the log.

use jiff::civil::Date;
use seatmeter_count::Day;
use seatmeter_count::calendar::{date_of, day_of};
use seatmeter_count::timeline::{DAY, MIDNIGHT_DISORDER};
use serde::{Deserialize, Serialize};

use super::Anchor;

const HALF_A_DAY: i64 = DAY / 2;

/// The maximum difference between the time that a statistics line tells and its stamp, in seconds. Beyond it, the line
/// tells of another moment.
const ANCHOR_TOLERANCE: i64 = 600;

/// The clock at the last line of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WallClock {
    /// The midnights since the first line.
    day: i64,
    /// The time of day, in seconds since midnight; `None` before the first line.
    time: Option<i64>,
}

impl WallClock {
    /// Creates a clock whose first line counts as written this many days after day 0.
    pub fn starting(day: Day) -> Self {
        Self { day: day.into(), time: None }
    }

    /// Reads the clock at the next line, which was written at this time of day. Returns the line's stream time: the
    /// seconds since the midnight before the first line. It is smaller than that of the line before if the clock has
    /// stepped back, or if the line is a late one of the day before.
    #[inline(always)]
    pub fn read(&mut self, time: u32) -> i64 {
        let time = i64::from(time);
        match self.time {
            Some(last) if last - time > HALF_A_DAY => self.day += 1,
            Some(last) if last < MIDNIGHT_DISORDER && time >= DAY - MIDNIGHT_DISORDER => {
                return (self.day - 1) * DAY + time;
            }
            _ => {}
        }
        self.time = Some(time);
        self.day * DAY + time
    }

    /// Returns the days from the first line to the last one.
    pub fn day(&self) -> i64 {
        self.day
    }

    /// Reads the clock at the next line, which was written at this time of day, and this many days after the last one.
    /// Returns the line's stream time. A line of an earlier day is a late one.
    pub fn read_days_later(&mut self, days: i64, time: u32) -> i64 {
        let time = i64::from(time);
        if days < 0 {
            return (self.day + days) * DAY + time;
        }
        self.day += days;
        self.time = Some(time);
        self.day * DAY + time
    }
}

/// How many days a log's lines can step back, where a clock was set back. Beyond it, a month and day are those of the next year.
const STEPS_BACK: i64 = 31;

/// Returns the days from one month and day to another one, of which no year is known: forward, or a little back. Where a
/// February 29 lies between, it is not known to.
pub fn days_between((month, day): (i8, i8), (to_month, to_day): (i8, i8)) -> i64 {
    const BEFORE: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    const LEAP_DAY: (i8, i8) = (2, 29);
    let is_leap = (month, day) == LEAP_DAY || (to_month, to_day) == LEAP_DAY;
    let year = 365 + i64::from(is_leap);
    let number =
        |month: i8, day: i8| BEFORE[(month as usize - 1) % 12] + i64::from(day) + i64::from(is_leap && month > 2);
    let forward = (number(to_month, to_day) - number(month, day)).rem_euclid(year);
    if forward < year - STEPS_BACK { forward } else { forward - year }
}

/// Returns the day with a month and day of the month that a line can have after one of another day: forward, or a little back;
/// `None` if that year has no such day.
pub fn next_day(month: i8, day: i8, after: Day) -> Option<Day> {
    let year = date_of(after).year();
    let days =
        [year - 1, year, year + 1].into_iter().filter_map(|year| Some(day_of(Date::new(year, month, day).ok()?)));
    let first = i64::from(after) - STEPS_BACK;
    days.into_iter().find(|day| (first..first + 366).contains(&i64::from(*day)))
}

/// Returns the last day with a month and day of the month that is not after another day, or only a little; `None` if there is
/// none within a year.
pub fn last_day(month: i8, day: i8, until: Day) -> Option<Day> {
    let year = date_of(until).year();
    let days =
        [year + 1, year, year - 1].into_iter().filter_map(|year| Some(day_of(Date::new(year, month, day).ok()?)));
    let last = i64::from(until) + STEPS_BACK;
    days.into_iter().find(|day| (last - 366..last).contains(&i64::from(*day)))
}

/// Returns the day on which a line at this time of day was written, from its anchor; `None` if the anchor tells of
/// another moment.
pub fn anchored_day(anchor: Anchor, time: u32) -> Option<Day> {
    match anchor {
        Anchor::Day(day) => Some(day),
        Anchor::Moment { day, time: told } => {
            let difference = i64::from(time) - i64::from(told);
            let (day, distance) = match difference {
                d if d > HALF_A_DAY => (day - 1, DAY - d),
                d if d < -HALF_A_DAY => (day + 1, DAY + d),
                d => (day, d.abs()),
            };
            (distance <= ANCHOR_TOLERANCE).then_some(day)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> u32 {
        let mut parts = text.split(':').map(|part| part.parse::<u32>().unwrap());
        let mut next = || parts.next().unwrap();
        next() * 3600 + next() * 60 + next()
    }

    #[test]
    fn a_fall_of_more_than_twelve_hours_is_midnight() {
        let mut clock = WallClock::default();
        let mut read = |text: &str| {
            let time = clock.read(at(text));
            (time.div_euclid(DAY), time.rem_euclid(DAY))
        };
        assert_eq!(read("23:50:00"), (0, 85_800));
        assert_eq!(read("23:49:44"), (0, 85_784), "a corrected clock");
        assert_eq!(read("0:00:01"), (1, 1));
        assert_eq!(read("23:59:59"), (0, 86_399), "a late line of the day before");
        assert_eq!(read("0:00:02"), (1, 2));
        assert_eq!(read("12:00:00"), (1, 43_200));
        assert_eq!(read("11:00:00"), (1, 39_600));
    }

    #[test]
    fn a_month_and_a_day_count_the_days_and_find_their_year() {
        assert_eq!(days_between((12, 31), (1, 1)), 1);
        assert_eq!(days_between((1, 1), (12, 31)), -1, "a late line");
        assert_eq!(days_between((5, 11), (5, 14)), 3);
        assert_eq!((days_between((2, 28), (2, 29)), days_between((2, 29), (3, 1))), (1, 1));
        let day = |year, month, day| day_of(Date::new(year, month, day).unwrap());
        assert_eq!(days_between((3, 28), (11, 30)), 247, "a log goes on, and not back");
        assert_eq!(next_day(1, 1, day(2012, 12, 31)), Some(day(2013, 1, 1)));
        assert_eq!(next_day(12, 31, day(2013, 1, 1)), Some(day(2012, 12, 31)), "a late line");
        assert_eq!(next_day(9, 5, day(2025, 1, 5)), Some(day(2025, 9, 5)));
        assert_eq!(next_day(2, 29, day(2024, 3, 1)), Some(day(2024, 2, 29)));
        assert_eq!(next_day(2, 29, day(2025, 2, 28)), None);
        assert_eq!(last_day(11, 28, day(2025, 12, 2)), Some(day(2025, 11, 28)));
        assert_eq!(last_day(2, 28, day(2025, 1, 1)), Some(day(2024, 2, 28)));
        let mut clock = WallClock::default();
        assert_eq!(clock.read_days_later(0, 80_000), 80_000);
        assert_eq!(clock.read_days_later(3, 100), 3 * DAY + 100);
        assert_eq!(clock.read_days_later(-1, 80_000), 2 * DAY + 80_000);
        assert_eq!(clock.read_days_later(0, 50), 3 * DAY + 50, "a clock that was set back");
    }

    #[test]
    fn a_moment_tells_the_day_of_a_line_near_it() {
        let before_midnight = Anchor::Moment { day: 100, time: 86_399 };
        assert_eq!(anchored_day(before_midnight, 0), Some(101));
        assert_eq!(anchored_day(Anchor::Moment { day: 100, time: 5 }, 86_399), Some(99));
        assert_eq!(anchored_day(Anchor::Moment { day: 100, time: 40_000 }, 3600), None, "tells of another moment");
        assert_eq!(anchored_day(Anchor::Day(100), 3600), Some(100));
    }
}
