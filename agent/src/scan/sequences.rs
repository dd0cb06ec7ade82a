//! Tells which files of a scan follow one another, and which were written side by side.
//!
//! A file goes on from another one if it begins where that one ends: its checkins end the other's sessions, and a start
//! in its first line ends those that are still open. Files that were written at the same time (the license manager's
//! log beside its vendor daemon's) are logs of their own: the start of one ends nothing of the other.

use std::path::Path;

use jiff::tz::TimeZone;
use seatmeter_count::Day;
use seatmeter_count::timeline::Timeline;

use crate::format::interpreter::LineInterpreter;

/// How much later than the next file's first line a file of the same log can end, in seconds: processes write their
/// lines a little out of order.
const DISORDER: i64 = 300;

/// The files that follow one another, with the interpreter of their lines.
pub(super) struct Sequence {
    log: String,
    /// The interpreter, at the end of the last file.
    pub(super) interpreter: LineInterpreter,
    /// The dates of the last file.
    pub(super) timeline: Timeline,
}

impl Sequence {
    /// Returns the local time of the last line, in seconds since 1970; `None` if no line has a time.
    pub(super) fn end(&self) -> Option<i64> {
        let state = self.interpreter.state();
        (!state.is_new()).then(|| self.timeline.local(state.last_time()))
    }
}

/// Returns the number of the sequence to which the next file belongs, which begins on a day at `begins` (seconds since
/// 1970 of the server's clock), and sets its interpreter to the beginning of that file.
pub(super) fn continue_with(sequences: &mut Vec<Sequence>, path: &Path, begins: i64, first_day: Day) -> usize {
    let log = log_of(path);
    // Months follow the log's own clock, so its local time is read as if it were UTC.
    let timeline = Timeline::new(TimeZone::UTC, first_day, Some(first_day));
    let end = |sequence: &Sequence| sequence.end().unwrap_or(i64::MIN);
    let goes_on = |sequence: &Sequence| {
        let disorder = if sequence.log == log { DISORDER } else { 0 };
        end(sequence) <= begins.saturating_add(disorder)
    };
    let candidates = sequences.iter().enumerate().filter(|(_, sequence)| goes_on(sequence));
    let best = candidates.max_by_key(|(_, sequence)| (sequence.log == log, end(sequence))).map(|(number, _)| number);
    match best {
        Some(number) => {
            let Sequence { interpreter, timeline: before, .. } = &mut sequences[number];
            interpreter.next_stream(timeline.local(0) - before.local(0));
            *before = timeline;
            number
        }
        None => {
            sequences.push(Sequence { log, interpreter: LineInterpreter::default(), timeline });
            sequences.len() - 1
        }
    }
}

/// Returns what the names of a log's files have in common: `debug` of `debug.log`, `debug.log.1.gz` and
/// `debug_20260101.log`.
fn log_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split(['.', '-', '_']).next().unwrap_or_default().to_lowercase()
}
