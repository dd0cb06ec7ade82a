//! Interprets the records of one stream, one after the other: counts midnights, and accounts for every line.

use jiff::tz::TimeZone;
use seatmeter_count::calendar::date_of;
use seatmeter_count::timeline::{DAY, Timeline, Told, day_after, is_late};
use seatmeter_count::{Day, Event, Kind, NO_LINE_BEFORE, NO_OFFSET};
use serde::{Deserialize, Serialize};

use super::clock::{WallClock, anchored_day, days_between, last_day, next_day};
use super::{Message, Record, Stamp, Use};

/// The maximum number of daemons to remember. A log names few; names beyond this many are garbage, and the oldest is
/// dropped.
const MAX_DAEMONS: usize = 64;

/// Lines by outcome. The three add up to the lines read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineCounts {
    /// Lines that became events.
    pub events: u64,
    /// Lines that report no usage.
    pub ignored: u64,
    /// Lines that the parser does not recognise.
    pub unrecognised: u64,
}

impl LineCounts {
    /// Returns the number of lines read.
    pub fn total(&self) -> u64 {
        self.events + self.ignored + self.unrecognised
    }
}

impl std::ops::AddAssign for LineCounts {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.ignored += other.ignored;
        self.unrecognised += other.unrecognised;
    }
}

/// An event with its time; its names are slices of the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timed<'a> {
    /// The stream time: seconds on the server's clock since the midnight before the stream's first line.
    pub time: i64,
    /// The vendor daemon; empty if the license manager started, or if the line names none.
    pub daemon: &'a [u8],
    /// The usage. For starts and exits, all names are empty.
    pub usage: Use<'a>,
}

impl<'a> Timed<'a> {
    /// Returns the vendor daemon; where the line names none, the one that lines before it have named.
    pub fn daemon_or(&self, named_before: &'a [u8]) -> &'a [u8] {
        if self.daemon.is_empty() { named_before } else { self.daemon }
    }
}

/// The outcome of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// The line is an event.
    Event(Timed<'a>),
    /// The line reports no usage.
    Ignored,
    /// The parser does not recognise the line, for this reason.
    Unrecognised(&'static str),
}

/// What the lines up to an event tell of their dates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// [`Kind::Date`], [`Kind::Offset`] or [`Kind::Clock`].
    pub kind: Kind,
    /// The stream time of the line.
    pub time: i64,
    /// For a date, the day; for an offset, the seconds east of UTC.
    pub detail: i64,
}

impl Mark {
    /// Returns the mark as an event.
    pub fn event(&self) -> Event {
        let Self { kind, time, detail } = *self;
        Event { kind, at: time, feature: 0, client: 0, seats: 1, detail }
    }
}

/// The most seconds between two lines that a process writes in one go: a start is announced by several lines.
const ONE_GO: i64 = 10;

/// The state of an interpreter after a line, sufficient to resume after a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParserState {
    clock: WallClock,
    told_first_day: Option<Day>,
    told_offset: Option<i32>,
    last: Option<LastLine>,
    /// The last line of any process.
    #[serde(default)]
    lines: Lines,
    /// The last line of each process, and which of them wrote last.
    daemons: Vec<(Vec<u8>, Lines)>,
    #[serde(default)]
    writer: usize,
    /// The daemon of lines that name none; empty if nothing tells it.
    #[serde(default)]
    daemon: Vec<u8>,
    /// The name and the version of the license manager that started last, as it wrote them; empty if none did.
    #[serde(default)]
    manager: Vec<u8>,
    /// The month and the day of the last line that told them without their year.
    #[serde(default)]
    month_day: Option<(i8, i8)>,
    /// The days from the first line to that one: lines between that tell a time of day alone count midnights, too.
    #[serde(default)]
    month_day_on: Option<i64>,
    /// The last month and day of which the year was found, and that day: most lines tell the same one.
    #[serde(skip)]
    found_day: Option<((i8, i8), Day)>,
}

/// When lines were written, in stream times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Lines {
    last: Option<Written>,
    /// The last line before those that were written in one go with the last one: where that one is a start, sessions end
    /// there.
    before: Option<Written>,
}

/// When a line was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Written {
    /// The stream time, by the date that was told last.
    time: i64,
    /// The stream time, as it was read.
    read: i64,
}

impl Lines {
    #[inline(always)]
    fn note(&mut self, time: i64, goes_on: bool) {
        if !goes_on || !self.is_in_one_go(time) {
            self.before = self.last;
        }
        self.last = Some(Written { time, read: time });
    }

    /// Whether a line at this time was written in one go with the last one.
    #[inline(always)]
    fn is_in_one_go(&self, time: i64) -> bool {
        self.last.is_some_and(|last| (0..=ONE_GO).contains(&(time - last.read)))
    }

    fn shift(&mut self, seconds: i64) {
        for written in [&mut self.last, &mut self.before].into_iter().flatten() {
            written.time -= seconds;
        }
    }
}

impl ParserState {
    /// Returns the stream time of the last line with a time; 0 before it.
    pub fn last_time(&self) -> i64 {
        self.last.map_or(0, |last| last.time)
    }

    /// Returns the name and the version of the license manager, as it wrote them; empty if no line tells them.
    pub fn manager(&self) -> &[u8] {
        &self.manager
    }

    /// Whether no line with a time was read yet.
    pub fn is_new(&self) -> bool {
        self.last.is_none()
    }

    /// Whether a file goes on where this one ends, if a time of day that falls is the next day's: its first line tells this month
    /// and day, and this time of day in seconds.
    pub fn goes_on(&self, (month_day, first_time): ((i8, i8), u32)) -> bool {
        let last = self.last_time();
        let day = i64::from(day_after(last, first_time.into()));
        match self.told_first_day {
            Some(first) => {
                let date = date_of((i64::from(first) + day) as Day);
                (date.month(), date.day()) == month_day
            }
            None => {
                let days = day - last.div_euclid(DAY) + self.days_since_month_day();
                self.month_day.is_some_and(|before| days_between(before, month_day) == days)
            }
        }
    }

    /// Returns what the lines so far tell of the date.
    pub fn told(&self) -> Told {
        Told { first_day: self.told_first_day, offset: self.told_offset }
    }

    /// Returns the moment of the last line, in seconds since 1970 UTC; `None` if no line tells a date.
    pub fn moment(&self, zone: &TimeZone) -> Option<i64> {
        let mut timeline = Timeline::new(zone.clone(), self.told_first_day?, self.told_first_day);
        timeline.resume(self.told(), None);
        Some(timeline.date(self.last?.time))
    }
}

/// The last line with a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct LastLine {
    time: i64,
    /// Whether its time is in an event or a mark.
    is_told: bool,
}

/// Interprets the lines of one stream.
#[derive(Clone, Debug, Default)]
pub struct LineInterpreter {
    state: ParserState,
    counts: LineCounts,
    marks: Vec<Mark>,
}

impl LineInterpreter {
    /// Creates an interpreter that resumes from a state; the state before the first line is the default one.
    pub fn resume(state: ParserState) -> Self {
        Self { state, counts: LineCounts::default(), marks: Vec::new() }
    }

    /// Creates an interpreter for a stream that begins on this day, and counts its days from 1970 on.
    pub fn starting(day: Day) -> Self {
        let clock = WallClock::starting(day);
        Self::resume(ParserState { clock, told_first_day: Some(0), ..ParserState::default() })
    }

    /// Takes note that the first line was written on this day: lines that tell their month and day are of its year, or of those
    /// after it.
    pub fn begin_on(&mut self, day: Day) {
        self.state.told_first_day = Some(day);
    }

    /// Goes on with the next stream of the same log. What stood before its first line stays known; `shift` is what the
    /// new stream's times are less than those of the stream before, in seconds.
    pub fn next_stream(&mut self, shift: i64) {
        let mut state = std::mem::take(&mut self.state);
        state.shift(shift);
        let ParserState { lines, daemons, writer, daemon, manager, .. } = state;
        self.state = ParserState { lines, daemons, writer, daemon, manager, ..ParserState::default() };
    }

    /// Returns the state after the last line.
    pub fn state(&self) -> &ParserState {
        &self.state
    }

    /// Returns the vendor daemon of a line that names none; empty if nothing tells it.
    pub fn daemon(&self) -> &[u8] {
        &self.state.daemon
    }

    /// Returns the lines interpreted so far, by outcome.
    pub fn counts(&self) -> LineCounts {
        self.counts
    }

    /// Returns what the last line, and the lines before it, tell of dates; most lines tell nothing. It stands before the
    /// line's event.
    #[inline(always)]
    pub fn marks(&self) -> &[Mark] {
        &self.marks
    }

    /// Interprets the next line.
    #[inline(always)]
    pub fn line<'a>(&mut self, record: &Record<'a>) -> Outcome<'a> {
        let outcome = self.interpret(record);
        match outcome {
            Outcome::Event(_) => self.counts.events += 1,
            Outcome::Ignored => self.counts.ignored += 1,
            Outcome::Unrecognised(_) => self.counts.unrecognised += 1,
        }
        outcome
    }

    /// Counts a line as not recognised, because it is too long to parse.
    pub fn overlong(&mut self) {
        self.marks.clear();
        self.counts.unrecognised += 1;
    }

    #[inline(always)]
    fn interpret<'a>(&mut self, record: &Record<'a>) -> Outcome<'a> {
        if !self.marks.is_empty() {
            self.marks.clear();
        }
        let Some(stamp) = record.stamp else {
            return match record.message {
                Message::Unrecognised(reason) => Outcome::Unrecognised(reason),
                Message::Daemon(name) => {
                    self.state.daemon = name.to_vec();
                    Outcome::Ignored
                }
                _ => Outcome::Ignored,
            };
        };
        let time_of_day = stamp.time_of_day();
        let (stamp, time) = match stamp {
            Stamp::MonthDay { month, day, time } => match self.state.read_month_day((month, day), time) {
                Some(read) => read,
                None => return Outcome::Unrecognised("a day that its year does not have"),
            },
            Stamp::DateTime { day, time, .. } if self.state.month_day.is_some() => {
                (stamp, self.state.read_first_year(day, time))
            }
            _ => (stamp, self.state.clock.read(time_of_day)),
        };
        let stepped_back = self.state.last.is_some_and(|last| time < last.time && !is_late(last.time, time));
        if stepped_back && let Some(LastLine { time, is_told: false }) = self.state.last {
            self.marks.push(Mark { kind: Kind::Clock, time, detail: 0 });
        }
        self.take_date(stamp, record, time, time_of_day);
        self.state.note(record.daemon, time);
        let outcome = match record.message {
            Message::Use(usage) => Outcome::Event(Timed { time, daemon: record.daemon, usage }),
            Message::ManagerStart(_, name) => {
                if !name.is_empty() {
                    self.state.manager = name.to_vec();
                }
                self.start(Kind::ManagerStart, time, self.state.lines.before, b"")
            }
            Message::DaemonStart(name) => {
                let daemon = if name.is_empty() { record.daemon } else { name };
                let known = self.state.daemons.iter().find(|(known, _)| known == daemon).map(|(_, lines)| *lines);
                let is_own = daemon == record.daemon;
                let last = known.and_then(|lines| if is_own { lines.before } else { lines.last });
                self.start(Kind::DaemonStart, time, last, daemon)
            }
            Message::ManagerExit => lifecycle(Kind::ManagerExit, time, 0, b""),
            Message::DaemonExit(name) => {
                let daemon = if name.is_empty() { record.daemon } else { name };
                lifecycle(Kind::DaemonExit, time, 0, daemon)
            }
            Message::Anchor(_) | Message::Daemon(_) | Message::Ignored => Outcome::Ignored,
            Message::Unrecognised(reason) => Outcome::Unrecognised(reason),
        };
        if matches!(record.message, Message::ManagerExit | Message::DaemonExit(_)) {
            self.state.note_exit();
        }
        let is_event = matches!(outcome, Outcome::Event(_));
        if stepped_back && !is_event {
            self.marks.push(Mark { kind: Kind::Clock, time, detail: 0 });
        }
        self.state.last = Some(LastLine { time, is_told: is_event || stepped_back || !self.marks.is_empty() });
        outcome
    }

    /// Takes note of the date and the offset that a line tells.
    #[inline(always)]
    fn take_date(&mut self, stamp: Stamp, record: &Record<'_>, time: i64, time_of_day: u32) {
        let (day, offset) = match stamp {
            Stamp::DateTime { day, offset, .. } => (Some(day), offset),
            Stamp::Time(_) | Stamp::MonthDay { .. } => {
                (record.anchor().and_then(|anchor| anchored_day(anchor, time_of_day)), None)
            }
        };
        if let Some(day) = day {
            self.tell(time, day);
        }
        // A daemon that tells the date does so every six hours: that it did proves that the log lacks nothing.
        if let (Stamp::Time(_), Some(day), false) = (stamp, day, self.marks.iter().any(|mark| mark.kind == Kind::Date))
        {
            self.marks.push(Mark { kind: Kind::Date, time, detail: day.into() });
        }
        if self.state.told_offset != offset {
            self.state.told_offset = offset;
            self.marks.push(Mark { kind: Kind::Offset, time, detail: offset.map_or(NO_OFFSET, i64::from) });
        }
    }

    fn tell(&mut self, time: i64, day: Day) {
        let mut told = self.state.told();
        let before = told.first_day;
        if told.tell(time, day) {
            // The clock may have been set: this is the last line before it was.
            let lines = &self.state.lines;
            let last = if lines.is_in_one_go(time) { lines.before } else { lines.last };
            if let (Some(Written { read, .. }), true) = (last, before.is_some() && self.marks.is_empty()) {
                self.marks.push(Mark { kind: Kind::Clock, time: read, detail: 0 });
            }
            self.marks.push(Mark { kind: Kind::Date, time, detail: day.into() });
            if let (Some(before), Some(now)) = (before, told.first_day) {
                self.state.shift((i64::from(now) - i64::from(before)) * DAY);
            }
            self.state.told_first_day = told.first_day;
        }
    }

    fn start<'a>(&self, kind: Kind, time: i64, last: Option<Written>, daemon: &'a [u8]) -> Outcome<'a> {
        lifecycle(kind, time, last.map_or(NO_LINE_BEFORE, |last| time - last.time), daemon)
    }
}

impl ParserState {
    /// Reads the clock at a line that tells its month and day, but no year. Returns the stamp, with the date if the lines
    /// before tell which year it is, and the stream time; `None` if there is no such day in that year.
    fn read_month_day(&mut self, month_day: (i8, i8), time: u32) -> Option<(Stamp, i64)> {
        let (month, day) = month_day;
        if let Some(first) = self.told_first_day {
            let today = i64::from(first) + self.clock.day();
            let day = match self.found_day {
                Some((found, found_day)) if found == (month, day) && i64::from(found_day) == today => found_day,
                _ => next_day(month, day, today as Day)?,
            };
            self.found_day = Some((month_day, day));
            let read = self.clock.read_days_later(i64::from(day) - today, time);
            return Some((Stamp::DateTime { day, time, offset: None }, read));
        }
        let Some(before) = self.month_day else {
            // Only the time of day tells how far the lines before are away.
            let read = self.clock.read(time);
            (self.month_day, self.month_day_on) = (Some(month_day), Some(read.div_euclid(DAY)));
            return Some((Stamp::Time(time), read));
        };
        let days = days_between(before, month_day) - self.days_since_month_day();
        let read = self.clock.read_days_later(days, time);
        if days >= 0 {
            (self.month_day, self.month_day_on) = (Some(month_day), Some(self.clock.day()));
        }
        Some((Stamp::Time(time), read))
    }

    /// Returns the days from the last line that told its month and day without a year to the last line of all.
    fn days_since_month_day(&self) -> i64 {
        self.month_day_on.map_or(0, |on| self.clock.day() - on)
    }

    /// Reads the clock at the first line that tells its date whole, behind lines that told a month and day.
    fn read_first_year(&mut self, day: Day, time: u32) -> i64 {
        let since = self.days_since_month_day();
        let before = self.month_day.take().and_then(|(month, day_of_month)| last_day(month, day_of_month, day));
        self.clock.read_days_later(before.map_or(0, |before| i64::from(day) - i64::from(before) - since), time)
    }

    /// Expresses the times of lines before in stream times that are less by `seconds`.
    fn shift(&mut self, seconds: i64) {
        self.lines.shift(seconds);
        for (_, lines) in &mut self.daemons {
            lines.shift(seconds);
        }
    }

    /// Notes that the last line told of an end: what the process writes next belongs to another start.
    fn note_exit(&mut self) {
        self.lines.before = self.lines.last;
        if let Some((_, lines)) = self.daemons.get_mut(self.writer) {
            lines.before = lines.last;
        }
    }

    /// Notes the time of a process's line. If a process restarts, its sessions end at the last line before.
    #[inline(always)]
    fn note(&mut self, daemon: &[u8], time: i64) {
        let number = match self.daemons.iter().position(|(known, _)| known == daemon) {
            Some(number) => number,
            None => {
                if self.daemons.len() == MAX_DAEMONS {
                    self.daemons.remove(0);
                }
                self.daemons.push((daemon.to_vec(), Lines::default()));
                self.daemons.len() - 1
            }
        };
        self.lines.note(time, number == self.writer);
        self.daemons[number].1.note(time, true);
        self.writer = number;
    }
}

fn lifecycle(kind: Kind, time: i64, detail: i64, daemon: &[u8]) -> Outcome<'_> {
    let usage = Use { kind, feature: b"", user: b"", host: b"", seats: 1, detail };
    Outcome::Event(Timed { time, daemon, usage })
}

#[cfg(test)]
mod tests;
