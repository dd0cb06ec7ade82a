//! Interprets the records of one stream, one after the other: dates them, and accounts for every line.

use seatmeter_count::Kind;
use serde::{Deserialize, Serialize};

use super::timeline::{Moment, ClockPosition, Timeline};
use super::{Message, Record, Use};

/// A log names few daemons. Names beyond this many are garbage, and the oldest is forgotten.
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
    /// The lines read.
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
    /// When.
    pub at: Moment,
    /// By which vendor daemon; empty for what the manager does.
    pub daemon: &'a [u8],
    /// What. For starts, all names are empty.
    pub usage: Use<'a>,
}

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// It is an event.
    Event(Dated<'a>),
    /// It reports no usage.
    Ignored,
    /// The parser does not recognise it; this is why.
    Unrecognised(&'static str),
}

/// The state of an interpreter after a line. Enough to go on from, after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParserState {
    timeline: ClockPosition,
    last_line: Moment,
    daemons: Vec<(Vec<u8>, Moment)>,
}

impl ParserState {
    /// Where the timeline stands.
    pub fn clock(&self) -> ClockPosition {
        self.timeline
    }

    /// The last dated line.
    pub fn last_line(&self) -> Moment {
        self.last_line
    }
}

/// Interprets the lines of one stream.
#[derive(Clone, Debug)]
pub struct LineInterpreter {
    timeline: Timeline,
    last_line: Option<Moment>,
    /// The last line of each process, since the restart of one ends its sessions there.
    daemons: Vec<(Vec<u8>, Moment)>,
    counts: LineCounts,
}

impl LineInterpreter {
    /// Reads with this timeline from the beginning of a stream.
    pub fn new(timeline: Timeline) -> Self {
        Self { timeline, last_line: None, daemons: Vec::new(), counts: LineCounts::default() }
    }

    /// Goes on from a state.
    pub fn resume(zone: jiff::tz::TimeZone, state: ParserState) -> Self {
        Self {
            timeline: Timeline::resuming(zone, state.timeline),
            last_line: Some(state.last_line),
            daemons: state.daemons,
            counts: LineCounts::default(),
        }
    }

    /// The state after the last line; `None` before the first dated line.
    pub fn state(&self) -> Option<ParserState> {
        Some(ParserState {
            timeline: self.timeline.clock()?,
            last_line: self.last_line?,
            daemons: self.daemons.clone(),
        })
    }

    /// What became of the lines taken.
    pub fn counts(&self) -> LineCounts {
        self.counts
    }

    /// The moment of the last dated line.
    pub fn last_line(&self) -> Option<Moment> {
        self.last_line
    }

    /// Takes the next line.
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

    /// Accounts for a line too long to be looked at.
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
            Message::Anchor(_) | Message::Ignored => Outcome::Ignored,
            Message::Unrecognised(reason) => Outcome::Unrecognised(reason),
        };
        self.last_line = Some(at);
        self.note(record.daemon, at);
        outcome
    }

    fn start<'a>(&self, kind: Kind, at: Moment, last: Option<Moment>, daemon: &'a [u8]) -> Outcome<'a> {
        let detail = last.map_or(0, |last| at.utc - last.utc);
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
