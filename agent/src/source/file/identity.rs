//! Which stream a file is: told by its content alone.
//!
//! The beginning of a stream, through the first line that tells a date or reports a use, names it. Whoever reads the
//! same content, from the file, from a rotated or compressed copy of it, today or after a new installation, gets the
//! same name, and the file can grow without changing it. Where that beginning has no date in it, the day of the first
//! line is added: a job that runs at the same second every night must not make two files one.

use ring::digest::{Context, SHA256};
use seatmeter_count::Day;

use crate::checkpoint::Fingerprint;
use crate::format::timeline::Opening;
use crate::format::{Message, Record, Stamp};

/// What the beginning of a stream tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its name.
    pub fingerprint: Fingerprint,
    /// The day of its first line with a time.
    pub first_day: Day,
    /// That line's time, in seconds since 1970-01-01 00:00 of the server's wall clock.
    pub begins: i64,
    /// The beginning alone, whatever its date.
    pub head: Fingerprint,
}

impl Identity {
    /// The stamp of the first line with a time.
    pub fn first_stamp(&self) -> Stamp {
        Stamp::Time(self.begins.rem_euclid(86_400) as u32)
    }
}

/// Follows the beginning of a stream until it is known.
pub struct Head {
    opening: Opening,
    hash: Context,
    /// The beginning is complete; it holds a date or not.
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
    /// Takes the next line.
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

    /// Who the stream is, as soon as its date is known: from its own lines, or else from `day`, that of its first line
    /// with a time.
    pub fn identity(&self, day: Option<Day>) -> Option<Identity> {
        let has_date = self.complete?;
        let first_day = self.first_day.or(day)?;
        let mut hash = self.hash.clone();
        if !has_date {
            hash.update(&first_day.to_le_bytes());
        }
        let begins = i64::from(first_day) * 86_400 + i64::from(self.first_time?);
        Some(Identity { fingerprint: finish(hash), first_day, begins, head: self.head()? })
    }

    /// The name of the beginning alone, whatever its date; `None` before it is complete.
    pub fn head(&self) -> Option<Fingerprint> {
        self.complete.map(|_| finish(self.hash.clone()))
    }

    /// Whether a line of its own has told the date.
    pub fn is_dated(&self) -> bool {
        self.first_day.is_some() && self.complete.is_some()
    }

    /// Whether a line reported a use, or told a date.
    pub fn has_uses(&self) -> bool {
        self.complete.is_some()
    }

    /// The time of day of its first line with a time, in seconds.
    pub fn first_time(&self) -> Option<u32> {
        self.first_time
    }

    /// The lines with a time that it was shown.
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
        let name = |text: &str| head(text).identity(None).map(|identity| identity.fingerprint);
        let begun = format!("{USE}{STAMP}");
        assert_eq!(name(USE), None, "not dated yet");
        assert!(name(&begun).is_some());
        assert_eq!(
            name(&begun),
            name(&format!("{begun} 0:06:00 (d) OUT: \"f\" x@y\n 1:00:00 (lmgrd) TIMESTAMP 7/28/2018\n"))
        );
        assert_eq!(name(&begun), head(USE).identity(Some(17_739)).map(|i| i.fingerprint), "however it is dated");
    }

    #[test]
    fn the_same_first_use_on_another_day_is_another_stream() {
        let monday = head(&format!("{USE}{STAMP}")).identity(None).unwrap();
        let tuesday = head(&format!("{USE} 0:05:00 (lmgrd) TIMESTAMP 7/28/2018\n")).identity(None).unwrap();
        assert_ne!(monday.fingerprint, tuesday.fingerprint);
        assert_eq!(tuesday.begins - monday.begins, 86_400);
    }
}
