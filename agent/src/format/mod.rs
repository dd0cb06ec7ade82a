//! What license managers write. Pure parsers: bytes in, records out; no clock, no I/O, no state outside their arguments.
//!
//! A format is a module with a function from a line to a [`Record`]. What follows ([`timeline`], [`reading`]) knows
//! records only, so that a further format with lines needs a parser and nothing else.

pub mod flexnet;
pub mod reading;
pub mod timeline;

use seatmeter_count::{Day, Kind};

/// What one line says. Slices point into the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// When it was written, as far as the line tells; `None` for a line without a stamp.
    pub stamp: Option<Stamp>,
    /// The process that wrote it, without the suffix of a forked daemon; empty where there is none.
    pub daemon: &'a [u8],
    /// What it says.
    pub message: Message<'a>,
}

impl Record<'_> {
    /// The date that the line tells of itself.
    pub fn anchor(&self) -> Option<Anchor> {
        match self.message {
            Message::Anchor(anchor) => Some(anchor),
            Message::ManagerStart(day) => day.map(Anchor::Day),
            _ => None,
        }
    }
}

/// A line's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamp {
    /// A time of day, in seconds since midnight of some day.
    Time(u32),
    /// A date and time.
    DateTime {
        /// The day.
        day: Day,
        /// Seconds since midnight.
        time: u32,
        /// Seconds east of UTC, where the stamp tells.
        offset: Option<i32>,
    },
}

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Somebody took, returned, asked for or waits for seats.
    Use(Use<'a>),
    /// The license manager started, on this day.
    ManagerStart(Option<Day>),
    /// This vendor daemon started.
    DaemonStart(&'a [u8]),
    /// A line that tells its date.
    Anchor(Anchor),
    /// A line that is known to mean nothing for a count.
    Noise,
    /// A line that no rule understands, and why.
    Unrecognised(&'static str),
}

/// One use of a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use<'a> {
    /// What was done.
    pub kind: Kind,
    /// To which feature.
    pub feature: &'a [u8],
    /// By whom; never empty.
    pub user: &'a [u8],
    /// On which host; empty where the line does not tell.
    pub host: &'a [u8],
    /// How many seats.
    pub seats: u32,
    /// For an upgrade the seats before, for a denial the license manager's error code.
    pub detail: i64,
}

/// The date that a line tells of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// The day on which the line was written.
    Day(Day),
    /// A moment told by the line's text, which can be a little before or after its stamp.
    Moment {
        /// The day.
        day: Day,
        /// Seconds since midnight.
        time: u32,
    },
}
