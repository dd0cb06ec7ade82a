//! What license managers write. Pure parsers: bytes in, records out; no clock, no I/O, no state outside their arguments.
//!
//! A format is a module with a function from a line to a [`Record`], and an entry in [`Format`]. What follows
//! ([`timeline`], [`interpreter`]) knows records only.

mod flexnet;
pub mod interpreter;
pub mod looks;
pub mod timeline;

use seatmeter_count::{Day, Kind};

/// The formats of logs that can be read. One file, one format: chosen by its content, or by the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The debug log of FlexNet license managers.
    FlexNet,
}

impl Format {
    /// All formats, in the order in which content is tried.
    pub const ALL: [Self; 1] = [Self::FlexNet];

    /// The name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::FlexNet => "flexnet",
        }
    }

    /// The format of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// The format in which a line has a stamp: such a line tells the format of its file.
    pub fn of_line(line: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.parse(line).stamp.is_some())
    }

    /// Parses one line, without its line feed.
    // A match and not a function pointer, so that the parser can be inlined into the loop over lines.
    #[inline(always)]
    pub fn parse(self, line: &[u8]) -> Record<'_> {
        match self {
            Self::FlexNet => flexnet::parse(line),
        }
    }
}

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
    /// A line that reports no usage.
    Ignored,
    /// A line that the parser does not recognise, and why.
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
