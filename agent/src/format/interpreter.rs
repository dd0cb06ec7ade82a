//! Interprets the records of one stream, one after the other: dates them, and accounts for every line.

use seatmeter_count::{Kind, NO_LINE_BEFORE};
use serde::{Deserialize, Serialize};

use super::timeline::{ClockPosition, Moment, Timeline};
use super::{Message, Record, Use};

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

/// An event with its moment; its names are slices of the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dated<'a> {
    /// The time of the event.
    pub at: Moment,
    /// The vendor daemon; empty if the license manager started.
    pub daemon: &'a [u8],
    /// The usage. For starts and exits, all names are empty.
    pub usage: Use<'a>,
}

/// The outcome of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// The line is an event.
    Event(Dated<'a>),
    /// The line reports no usage.
    Ignored,
    /// The parser does not recognise the line, for this reason.
    Unrecognised(&'static str),
}

/// The state of an interpreter after a line, sufficient to resume after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParserState {
    timeline: ClockPosition,
    last_line: Moment,
    daemons: Vec<(Vec<u8>, Moment)>,
}

impl ParserState {
    /// Returns the clock position of the last dated line.
    pub fn clock(&self) -> ClockPosition {
        self.timeline
    }

    /// Returns the time of the last dated line.
    pub fn last_line(&self) -> Moment {
        self.last_line
    }
}

/// Interprets the lines of one stream.
#[derive(Clone, Debug)]
pub struct LineInterpreter {
    timeline: Timeline,
    last_line: Option<Moment>,
    /// The time of each process's last line. If a process restarts, its sessions end at that time.
    daemons: Vec<(Vec<u8>, Moment)>,
    counts: LineCounts,
}

impl LineInterpreter {
    /// Creates an interpreter that starts at the beginning of a stream, with this timeline.
    pub fn new(timeline: Timeline) -> Self {
        Self { timeline, last_line: None, daemons: Vec::new(), counts: LineCounts::default() }
    }

    /// Creates an interpreter that resumes from a state.
    pub fn resume(zone: jiff::tz::TimeZone, state: ParserState) -> Self {
        Self {
            timeline: Timeline::resuming(zone, state.timeline),
            last_line: Some(state.last_line),
            daemons: state.daemons,
            counts: LineCounts::default(),
        }
    }

    /// Goes on with the next stream of the same log, whose timeline begins anew. What stood before its first line stays
    /// known.
    pub fn next_stream(&mut self, timeline: Timeline) {
        self.timeline = timeline;
    }

    /// Returns the state after the last line; `None` before the first dated line.
    pub fn state(&self) -> Option<ParserState> {
        Some(ParserState {
            timeline: self.timeline.clock()?,
            last_line: self.last_line?,
            daemons: self.daemons.clone(),
        })
    }

    /// Returns the lines interpreted so far, by outcome.
    pub fn counts(&self) -> LineCounts {
        self.counts
    }

    /// Returns the time of the last dated line; `None` before the first dated line.
    pub fn last_line(&self) -> Option<Moment> {
        self.last_line
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
        self.counts.unrecognised += 1;
    }

    #[inline(always)]
    fn interpret<'a>(&mut self, record: &Record<'a>) -> Outcome<'a> {
        let Some(stamp) = record.stamp else {
            return match record.message {
                Message::Unrecognised(reason) => Outcome::Unrecognised(reason),
                _ => Outcome::Ignored,
            };
        };
        let at = self.timeline.date(stamp, record.anchor());
        let outcome = match record.message {
            Message::Use(usage) => Outcome::Event(Dated { at, daemon: record.daemon, usage }),
            Message::ManagerStart(_) => self.start(Kind::ManagerStart, at, self.last_line, b""),
            Message::DaemonStart(name) => {
                let daemon = if name.is_empty() { record.daemon } else { name };
                let last = self.daemons.iter().find(|(known, _)| known == daemon).map(|(_, moment)| *moment);
                self.start(Kind::DaemonStart, at, last, daemon)
            }
            Message::ManagerExit => self.lifecycle(Kind::ManagerExit, at, 0, b""),
            Message::DaemonExit(name) => {
                let daemon = if name.is_empty() { record.daemon } else { name };
                self.lifecycle(Kind::DaemonExit, at, 0, daemon)
            }
            Message::Anchor(_) | Message::Ignored => Outcome::Ignored,
            Message::Unrecognised(reason) => Outcome::Unrecognised(reason),
        };
        self.last_line = Some(at);
        self.note(record.daemon, at);
        outcome
    }

    fn start<'a>(&self, kind: Kind, at: Moment, last: Option<Moment>, daemon: &'a [u8]) -> Outcome<'a> {
        self.lifecycle(kind, at, last.map_or(NO_LINE_BEFORE, |last| at.utc - last.utc), daemon)
    }

    fn lifecycle<'a>(&self, kind: Kind, at: Moment, detail: i64, daemon: &'a [u8]) -> Outcome<'a> {
        let usage = Use { kind, feature: b"", user: b"", host: b"", seats: 1, detail };
        Outcome::Event(Dated { at, daemon, usage })
    }

    fn note(&mut self, daemon: &[u8], at: Moment) {
        if let Some((_, last)) = self.daemons.iter_mut().find(|(known, _)| known == daemon) {
            *last = at;
            return;
        }
        if self.daemons.len() == MAX_DAEMONS {
            self.daemons.remove(0);
        }
        self.daemons.push((daemon.to_vec(), at));
    }
}
