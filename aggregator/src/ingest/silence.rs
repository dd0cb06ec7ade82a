//! Silence that proves a loss. FlexNet's daemons write a line with the date every six hours (lmgrd every 6:00, vendor daemons
//! every 6:05). Where a log has such lines, a longer time without any line means that lines are missing, unless a daemon's start
//! follows: then nothing ran meanwhile.

use seatmeter_count::Kind;

use crate::store::log_state::Ticks;

/// The shortest and the longest time between two lines that tell the date, in seconds.
const TICK: std::ops::RangeInclusive<i64> = 21_540..=22_200;

/// The longest time without a line that is no sign of a loss, in seconds: the longest tick, and as long as a busy machine may
/// take.
pub const LONGEST_SILENCE: i64 = 7 * 3600;

/// How long the start of a daemon can take, in seconds.
const START: i64 = 600;

/// Takes a line at a moment, which comes after the line at the moment `before` (0: after none). Returns a silence that this
/// line proves: the moments of the lines around it.
pub(super) fn follow(ticks: &mut Ticks, kind: Kind, at: i64, before: i64) -> Option<(i64, i64)> {
    let proven = match ticks.silent_after {
        Some(_) if kind.is_start() && at - ticks.silent_before <= START => {
            (ticks.silent_after, ticks.are_regular) = (None, false);
            None
        }
        // More lines of the same kind, which do not tell whether a daemon has started.
        Some(_) if kind.is_mark() && at - ticks.silent_before <= START => None,
        Some(after) => {
            ticks.silent_after = None;
            Some((after, ticks.silent_before))
        }
        None => None,
    };
    if ticks.are_regular && before != 0 && at - before > LONGEST_SILENCE && ticks.silent_after.is_none() {
        match kind {
            kind if kind.is_start() => ticks.are_regular = false,
            kind if kind.is_mark() => (ticks.silent_after, ticks.silent_before) = (Some(before), at),
            _ => return proven.or(Some((before, at))),
        }
    }
    if kind == Kind::Date {
        ticks.are_regular |= TICK.contains(&(at - ticks.last));
        ticks.last = at;
    }
    proven
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Follows lines, hour by hour; returns the silences in hours.
    fn silences(lines: &[(i64, Kind)]) -> Vec<(i64, i64)> {
        let (mut ticks, mut before, mut found) = (Ticks::default(), 0, Vec::new());
        for (hour, kind) in lines {
            let at = 1_800_000_000 + hour * 3600;
            found.extend(follow(&mut ticks, *kind, at, before));
            before = at;
        }
        found.into_iter().map(|(from, to)| ((from - 1_800_000_000) / 3600, (to - 1_800_000_000) / 3600)).collect()
    }

    #[test]
    fn a_silence_is_proven_where_lines_came_every_six_hours() {
        use Kind::{Checkout, Date, ManagerStart as Start};
        assert_eq!(silences(&[(0, Date), (6, Date), (7, Checkout), (20, Checkout)]), [(7, 20)]);
        assert_eq!(silences(&[(0, Date), (6, Date), (30, Date), (36, Date)]), [(6, 30)]);
        assert_eq!(silences(&[(0, Date), (6, Date), (30, Date), (31, Checkout)]), [(6, 30)]);
        // A daemon has started after it: nothing ran meanwhile.
        assert_eq!(silences(&[(0, Date), (6, Date), (30, Date), (30, Start), (31, Checkout)]), []);
        assert_eq!(silences(&[(0, Date), (6, Date), (30, Start), (31, Checkout), (60, Checkout)]), []);
        // Such lines have never come, or not every six hours.
        assert_eq!(silences(&[(0, Checkout), (48, Checkout)]), []);
        assert_eq!(silences(&[(0, Date), (10, Date), (48, Checkout)]), []);
    }
}
