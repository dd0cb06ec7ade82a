//! What the lines of one stream mean, one after the other: records dated, and each accounted for.

use seatmeter_count::Kind;
use serde::{Deserialize, Serialize};

use super::timeline::{Moment, Standing, Timeline};
use super::{Message, Record, Use};

/// A log names few daemons. Names beyond this many are garbage, and the oldest is forgotten.
const MAX_DAEMONS: usize = 64;

/// What became of lines. The three add up to the lines read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineCounts {
    /// Lines that became events.
    pub events: u64,
    /// Lines known to mean nothing for a count.
    pub noise: u64,
    /// Lines that no rule understands.
    pub unrecognised: u64,
}

impl LineCounts {
    /// The lines read.
    pub fn total(&self) -> u64 {
        self.events + self.noise + self.unrecognised
    }
}

impl std::ops::AddAssign for LineCounts {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.noise += other.noise;
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
    /// It is known to mean nothing.
    Noise,
    /// No rule understands it.
    Unrecognised(&'static str),
}

/// Where a reading stands. Enough to go on from, after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bookmark {
    timeline: Standing,
    last_line: Moment,
    daemons: Vec<(Vec<u8>, Moment)>,
}

impl Bookmark {
    /// Where the timeline stands.
    pub fn standing(&self) -> Standing {
        self.timeline
    }

    /// The last dated line.
    pub fn last_line(&self) -> Moment {
        self.last_line
    }
}

/// Reads one stream.
#[derive(Clone, Debug)]
pub struct Reading {
    timeline: Timeline,
    last_line: Option<Moment>,
    /// The last line of each process, since the restart of one ends its sessions there.
    daemons: Vec<(Vec<u8>, Moment)>,
    counts: LineCounts,
}

impl Reading {
    /// Reads with this timeline from the beginning of a stream.
    pub fn new(timeline: Timeline) -> Self {
        Self { timeline, last_line: None, daemons: Vec::new(), counts: LineCounts::default() }
    }

    /// Goes on from a bookmark.
    pub fn resume(zone: jiff::tz::TimeZone, bookmark: Bookmark) -> Self {
        Self {
            timeline: Timeline::resuming(zone, bookmark.timeline),
            last_line: Some(bookmark.last_line),
            daemons: bookmark.daemons,
            counts: LineCounts::default(),
        }
    }

    /// Where it stands; `None` before the first dated line.
    pub fn bookmark(&self) -> Option<Bookmark> {
        Some(Bookmark {
            timeline: self.timeline.standing()?,
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
            Outcome::Noise => self.counts.noise += 1,
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
                _ => Outcome::Noise,
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
            Message::Anchor(_) | Message::Noise => Outcome::Noise,
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
