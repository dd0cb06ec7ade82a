//! Names the stream of a file by its beginning.
//!
//! A stream's name is a hash of its beginning, through the first line that tells a date or reports a use. The same content
//! gets the same name, whether it is read from the file or from a rotated or compressed copy, today or after a new
//! installation. A growing file keeps its name. If the beginning contains no date, the day of the first line is hashed as
//! well: a job that runs at the same second every night gives many files the same beginning.
//!
//! Two streams can begin alike: two license managers that start in the same second, or a snapshot that is restored. The
//! check values of their content tell them apart, and the second one gets another name.

use ring::digest::{Context, SHA256};
use seatmeter_count::Day;

use crate::checkpoint::Fingerprint;
use crate::format::timeline::Opening;
use crate::format::{Message, Record, Stamp};

/// The identity of a stream, taken from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The name that the beginning gives: the stream's fingerprint, unless another stream has that name.
    pub beginning: Fingerprint,
    /// The day of the first line with a time.
    pub first_day: Day,
    /// The time of the first line with a time, in seconds since 1970-01-01 00:00 of the server's wall clock.
    pub begins: i64,
    /// The hash of the beginning alone, without the day.
    pub head: Fingerprint,
}

impl Identity {
    /// Returns the stamp of the first line with a time.
    pub fn first_stamp(&self) -> Stamp {
        Stamp::Time(self.begins.rem_euclid(86_400) as u32)
    }
}

/// Reads the beginning of a stream, line by line, until its identity is known.
pub struct Head {
    opening: Opening,
    hash: Context,
    /// Whether the beginning contains a date; `None` until the beginning is complete.
    complete: Option<bool>,
    first_time: Option<u32>,
    first_day: Option<Day>,
    stamped_lines: u64,
}

impl Default for Head {
    fn default() -> Self {
        Self {
            opening: Opening::default(),
            hash: Context::new(&SHA256),
            complete: None,
            first_time: None,
            first_day: None,
            stamped_lines: 0,
        }
    }
}

impl Head {
    /// Adds the next line.
    pub fn follow(&mut self, line: &[u8], record: &Record<'_>) {
        if self.complete.is_none() {
            self.hash.update(line);
            self.hash.update(b"\n");
        }
        let Some(stamp) = record.stamp else { return };
        self.stamped_lines += 1;
        let (Stamp::Time(time) | Stamp::DateTime { time, .. }) = stamp;
        self.first_time.get_or_insert(time);
        let told = self.opening.follow(stamp, record.anchor());
        self.first_day = self.first_day.or(told);
        if self.complete.is_none() && (told.is_some() || matches!(record.message, Message::Use(_))) {
            self.complete = Some(told.is_some());
        }
    }

    /// Returns the stream's identity; `None` until its beginning is complete and its date is known. The date comes from
    /// the stream's own lines, or else from `day`, the day of the first line with a time.
    pub fn identity(&self, day: Option<Day>) -> Option<Identity> {
        let has_date = self.complete?;
        let first_day = self.first_day.or(day)?;
        let mut hash = self.hash.clone();
        if !has_date {
            hash.update(&first_day.to_le_bytes());
        }
        let begins = i64::from(first_day) * 86_400 + i64::from(self.first_time?);
        Some(Identity { beginning: finish(hash), first_day, begins, head: self.head()? })
    }

    /// Returns the hash of the beginning alone, without the day; `None` until the beginning is complete.
    pub fn head(&self) -> Option<Fingerprint> {
        self.complete.map(|_| finish(self.hash.clone()))
    }

    /// Whether the beginning is complete and one of the stream's own lines has told the date.
    pub fn is_dated(&self) -> bool {
        self.first_day.is_some() && self.complete.is_some()
    }

    /// Whether a line has reported a use or told a date.
    pub fn has_uses(&self) -> bool {
        self.complete.is_some()
    }

    /// Returns the time of day of the first line with a time, in seconds since midnight.
    pub fn first_time(&self) -> Option<u32> {
        self.first_time
    }

    /// Returns the number of lines with a time that were added.
    pub fn stamped_lines(&self) -> u64 {
        self.stamped_lines
    }
}

fn finish(hash: Context) -> Fingerprint {
    let mut fingerprint = Fingerprint::default();
    fingerprint.copy_from_slice(hash.finish().as_ref());
    fingerprint
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Format;

    fn head(text: &str) -> Head {
        let mut head = Head::default();
        for line in text.lines() {
            head.follow(line.as_bytes(), &Format::ALL[0].parse(line.as_bytes()));
        }
        head
    }

    const USE: &str = " 0:00:01 (d) OUT: \"f\" batch@host\n";
    const STAMP: &str = " 0:05:00 (lmgrd) TIMESTAMP 7/27/2018\n";

    #[test]
    fn a_growing_file_keeps_its_name() {
        let name = |text: &str| head(text).identity(None).map(|identity| identity.beginning);
        let begun = format!("{USE}{STAMP}");
        assert_eq!(name(USE), None, "not dated yet");
        assert!(name(&begun).is_some());
        assert_eq!(
            name(&begun),
            name(&format!("{begun} 0:06:00 (d) OUT: \"f\" x@y\n 1:00:00 (lmgrd) TIMESTAMP 7/28/2018\n"))
        );
        assert_eq!(name(&begun), head(USE).identity(Some(17_739)).map(|i| i.beginning), "however it is dated");
    }

    #[test]
    fn the_same_first_use_on_another_day_is_another_stream() {
        let monday = head(&format!("{USE}{STAMP}")).identity(None).unwrap();
        let tuesday = head(&format!("{USE} 0:05:00 (lmgrd) TIMESTAMP 7/28/2018\n")).identity(None).unwrap();
        assert_ne!(monday.beginning, tuesday.beginning);
        assert_eq!(tuesday.begins - monday.begins, 86_400);
    }
}
