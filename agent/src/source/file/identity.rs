//! Names the stream of a file by its beginning.
//!
//! A stream's name is a hash of its beginning, through the first line that tells a date or reports a use. The same content
//! gets the same name, whether it is read from the file or from a rotated or compressed copy, today or after a new
//! installation. A growing file keeps its name.
//!
//! Many streams can begin alike: a job that runs at the same second every night, two license managers that start in the
//! same second, a snapshot that is restored. The check values of their content tell them apart, and each further one gets
//! another name.

use ring::digest::{Context, SHA256};

use crate::checkpoint::Fingerprint;
use crate::format::clock::anchored_day;
use crate::format::{Message, Record, Stamp};

/// The identity of a stream, taken from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The hash of the beginning: the stream's name, unless another stream has that name.
    pub beginning: Fingerprint,
    /// The time of day of the first line with a time, in seconds since midnight.
    pub first_time: u32,
    /// Whether the beginning tells a date.
    pub tells_date: bool,
    /// The month and day of the first line with a time, where it tells them without their year.
    pub month_day: Option<(i8, i8)>,
}

/// Reads the beginning of a stream, line by line, until its identity is known.
pub struct Head {
    hash: Context,
    /// The stamp of the first line with a time.
    first: Option<Stamp>,
    /// Whether the beginning tells a date; `None` until the beginning is complete.
    tells_date: Option<bool>,
}

impl Default for Head {
    fn default() -> Self {
        Self { hash: Context::new(&SHA256), first: None, tells_date: None }
    }
}

impl Head {
    /// Adds the next line.
    pub fn follow(&mut self, line: &[u8], record: &Record<'_>) {
        if self.tells_date.is_some() {
            return;
        }
        self.hash.update(line);
        self.hash.update(b"\n");
        let Some(stamp) = record.stamp else { return };
        let time = stamp.time_of_day();
        self.first.get_or_insert(stamp);
        let tells_date = matches!(stamp, Stamp::DateTime { .. })
            || record.anchor().is_some_and(|anchor| anchored_day(anchor, time).is_some());
        if tells_date || matches!(record.message, Message::Use(_)) {
            self.tells_date = Some(tells_date);
        }
    }

    /// Whether the beginning is complete: further lines make no difference.
    pub fn is_complete(&self) -> bool {
        self.tells_date.is_some()
    }

    /// Returns the stream's identity; `None` until its beginning is complete.
    pub fn identity(&self) -> Option<Identity> {
        let (tells_date, first) = (self.tells_date?, self.first?);
        let month_day = match first {
            Stamp::MonthDay { month, day, .. } => Some((month, day)),
            Stamp::Time(_) | Stamp::DateTime { .. } => None,
        };
        let mut beginning = Fingerprint::default();
        beginning.copy_from_slice(self.hash.clone().finish().as_ref());
        Some(Identity { beginning, first_time: first.time_of_day(), tells_date, month_day })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Format;

    fn identity(text: &str) -> Option<Identity> {
        let mut head = Head::default();
        for line in text.lines() {
            head.follow(line.as_bytes(), &Format::ALL[0].parse(line.as_bytes()));
        }
        head.identity()
    }

    const USE: &str = " 0:00:01 (d) OUT: \"f\" batch@host\n";
    const STAMP: &str = " 0:05:00 (lmgrd) TIMESTAMP 7/27/2018\n";

    #[test]
    fn a_growing_file_keeps_its_name() {
        assert_eq!(identity(" 0:00:00 (d) a text\n"), None, "nothing to count yet");
        let begun = identity(USE);
        assert!(begun.is_some_and(|begun| !begun.tells_date && begun.first_time == 1));
        assert_eq!(begun, identity(&format!("{USE}{STAMP}")));
        let dated = identity(&format!("{STAMP}{USE}"));
        assert!(dated.is_some_and(|dated| dated.tells_date));
        assert_eq!(dated, identity(STAMP));
    }
}
