//! Tells which files of a scan follow one another, and which were written side by side.
//!
//! A file goes on from another one if it begins where that one ends: its checkins end the other's sessions, and a start
//! in its first line ends those that are still open. Files that were written at the same time (the license manager's
//! log beside its vendor daemon's) are logs of their own: the start of one ends nothing of the other.

use std::path::Path;

use crate::format::interpreter::LineInterpreter;
use crate::format::timeline::Timeline;

/// How much later than the next file's first line a file of the same log can end, in seconds: processes write their
/// lines a little out of order.
const DISORDER: i64 = 300;

/// The files that follow one another, with the interpreter of their lines.
pub(super) struct Sequence {
    log: String,
    /// The interpreter, at the end of the last file.
    pub(super) interpreter: LineInterpreter,
}

/// Returns the number of the sequence to which the next file belongs, which begins at `begins` (seconds since 1970 of
/// the server's clock), and sets its interpreter to the beginning of that file.
pub(super) fn continue_with(sequences: &mut Vec<Sequence>, path: &Path, begins: i64, timeline: Timeline) -> usize {
    let log = log_of(path);
    let end = |sequence: &Sequence| sequence.interpreter.last_line().map_or(i64::MIN, |last| last.local);
    let goes_on = |sequence: &Sequence| {
        let disorder = if sequence.log == log { DISORDER } else { 0 };
        end(sequence) <= begins.saturating_add(disorder)
    };
    let candidates = sequences.iter().enumerate().filter(|(_, sequence)| goes_on(sequence));
    let best = candidates.max_by_key(|(_, sequence)| (sequence.log == log, end(sequence))).map(|(number, _)| number);
    match best {
        Some(number) => {
            sequences[number].interpreter.next_stream(timeline);
            number
        }
        None => {
            sequences.push(Sequence { log, interpreter: LineInterpreter::new(timeline) });
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
