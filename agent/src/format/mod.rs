//! Parsers for the logs of license managers. They are pure: bytes in, records out; no clock, no I/O, no state outside
//! their arguments.
//!
//! A format is a module with a function from a line to a [`Record`], and an entry in [`Format`]. The later stages
//! ([`clock`], [`interpreter`]) use records only. What license managers answer when they are asked is read in [`answer`].

pub mod answer;
pub mod clock;
mod flexnet;
pub mod interpreter;
pub mod looks;
mod rlm;

use seatmeter_count::{Day, Kind};

/// The formats of logs that the agent can read. A file has one format, which its content or the configuration
/// determines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The debug log of FlexNet license managers.
    FlexNet,
    /// The report log and the debug log of RLM license servers.
    Rlm,
}

impl Format {
    /// All formats, in the order in which content is tried.
    pub const ALL: [Self; 2] = [Self::FlexNet, Self::Rlm];

    /// Returns the name of the format in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::FlexNet => "flexnet",
            Self::Rlm => "rlm",
        }
    }

    /// Returns the names of all formats.
    pub fn names() -> Vec<&'static str> {
        Self::ALL.iter().map(|format| format.name()).collect()
    }

    /// Returns the format with this name; `None` if there is none.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// Returns the format of which a line is; `None` if there is none. Such a line determines the format of its file.
    pub fn of_line(line: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.determines(&format.parse_own(line)))
    }

    /// Whether a record is of this format alone.
    fn determines(self, record: &Record<'_>) -> bool {
        match self {
            Self::FlexNet => record.stamp.is_some(),
            // A date and a time alone can stand in any file.
            Self::Rlm => record.stamp.is_some() && (record.message != Message::Ignored || !record.daemon.is_empty()),
        }
    }

    /// Parses one line, without its line feed, and each line that was glued to its end. Calls `each` with where each of
    /// them begins, its text, and its record.
    #[inline(always)]
    pub fn each_record<'a>(self, line: &'a [u8], mut each: impl FnMut(usize, &'a [u8], &Record<'a>)) {
        let mut start = 0;
        loop {
            let record = self.parse(&line[start..]);
            let end = line.len() - record.rest.len();
            each(start, &line[start..end], &record);
            if record.rest.is_empty() {
                return;
            }
            start = end;
        }
    }

    /// Parses one line, without its line feed. A use that another format reports is not ignored.
    #[inline(always)]
    pub fn parse(self, line: &[u8]) -> Record<'_> {
        let record = self.parse_own(line);
        if record.stamp.is_none() && record.message == Message::Ignored && self.is_anothers_use(line) {
            return Record { message: Message::Unrecognised("an event of another license manager's log"), ..record };
        }
        record
    }

    /// Whether a line reports a use in another format.
    #[inline(never)]
    fn is_anothers_use(self, line: &[u8]) -> bool {
        let mut others = Self::ALL.into_iter().filter(|other| *other != self);
        others.any(|other| matches!(other.parse_own(line).message, Message::Use(_)))
    }

    // A match and not a function pointer, so that the parser can be inlined into the loop over lines.
    #[inline(always)]
    fn parse_own(self, line: &[u8]) -> Record<'_> {
        match self {
            Self::FlexNet => flexnet::parse(line),
            Self::Rlm => rlm::parse(line),
        }
    }
}

/// The content of one line. The slices point into the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// When the line was written, as far as the line tells; `None` for a line without a stamp.
    pub stamp: Option<Stamp>,
    /// The process that wrote the line, without the suffix of a forked daemon; empty if the line names none, as where one
    /// process alone writes the log.
    pub daemon: &'a [u8],
    /// The message of the line.
    pub message: Message<'a>,
    /// Another line that was glued to the end of this one, beginning with its stamp; empty if there is none.
    pub rest: &'a [u8],
}

impl Record<'_> {
    /// Returns the date at which the line says it was written; `None` if it does not say.
    pub fn anchor(&self) -> Option<Anchor> {
        match self.message {
            Message::Anchor(anchor) => Some(anchor),
            Message::ManagerStart(day, _) => day.map(Anchor::Day),
            _ => None,
        }
    }
}

/// A line's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stamp {
    /// A time of day, in seconds since midnight of some day.
    Time(u32),
    /// A date and time.
    DateTime {
        /// The day.
        day: Day,
        /// Seconds since midnight.
        time: u32,
        /// The offset east of UTC, in seconds; `None` if the stamp does not tell.
        offset: Option<i32>,
    },
    /// A date without a year, and a time.
    MonthDay {
        /// The month, 1 to 12.
        month: i8,
        /// The day of the month, 1 to 31.
        day: i8,
        /// Seconds since midnight.
        time: u32,
    },
}

impl Stamp {
    /// Returns the time of day, in seconds since midnight.
    #[inline(always)]
    pub fn time_of_day(self) -> u32 {
        let (Self::Time(time) | Self::DateTime { time, .. } | Self::MonthDay { time, .. }) = self;
        time
    }
}

/// The message of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A user took, returned, requested or waits for seats.
    Use(Use<'a>),
    /// The license manager started on this day; `None` if the line does not tell the day.
    ManagerStart(Option<Day>, &'a [u8]),
    /// The vendor daemon with this name started; empty means the process that wrote the line.
    DaemonStart(&'a [u8]),
    /// The license manager ended.
    ManagerExit,
    /// The vendor daemon with this name ended; empty means the process that wrote the line.
    DaemonExit(&'a [u8]),
    /// The lines that follow are those of the vendor daemon with this name, where they name none.
    Daemon(&'a [u8]),
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
    /// The kind of use.
    pub kind: Kind,
    /// The feature; empty only for starts.
    pub feature: &'a [u8],
    /// The user; empty only for starts.
    pub user: &'a [u8],
    /// The host; empty if the line does not tell.
    pub host: &'a [u8],
    /// The number of seats.
    pub seats: u32,
    /// For a checkout, a checkin, seats in use and the end of a session, its [`seatmeter_count::SessionKey`] or 0; for an
    /// upgrade, the seats before; for a denial or an unsupported feature, the license manager's error code; for a start, the seconds on the wall clock since the last line of the stream or of the vendor daemon, or
    /// [`seatmeter_count::NO_LINE_BEFORE`]; otherwise 0.
    pub detail: i64,
}

/// The date at which a line says it was written.
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
