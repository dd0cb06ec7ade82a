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

/// How many lines that tell the date are looked back to: as many daemons can share a log.
const RECENT: usize = 4;

/// Takes a line at a moment. Returns a silence that this line proves: the moments of the lines around it.
pub(super) fn follow(ticks: &mut Ticks, kind: Kind, at: i64) -> Option<(i64, i64)> {
    let is_near = at - ticks.silent_before <= START;
    let proven = match ticks.silent_after {
        // A daemon has started: nothing ran meanwhile.
        Some(_) if kind.is_start() && is_near => {
            ticks.silent_after = None;
            None
        }
        // More lines of the same kind, which do not tell whether a daemon has started.
        Some(_) if kind.is_mark() && is_near => None,
        Some(after) => {
            ticks.silent_after = None;
            Some((after, ticks.silent_before))
        }
        None => None,
    };
    let before = std::mem::replace(&mut ticks.last, at);
    let is_silence = ticks.are_regular() && at - before > LONGEST_SILENCE && ticks.silent_after.is_none();
    let found = match kind {
        _ if !is_silence || kind.is_start() => None,
        // Whether a daemon has started is told by the lines that follow.
        _ if kind.is_mark() => {
            (ticks.silent_after, ticks.silent_before) = (Some(before), at);
            None
        }
        _ => Some((before, at)),
    };
    if kind.is_start() {
        // Its own lines tell the date, too, and are none of those that come every six hours.
        (ticks.regular, ticks.recent) = (0, Vec::new());
    } else if kind == Kind::Date {
        ticks.regular += u32::from(ticks.recent.iter().any(|recent| TICK.contains(&(at - recent))));
        if ticks.recent.len() == RECENT {
            ticks.recent.remove(0);
        }
        ticks.recent.push(at);
    }
    proven.or(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Follows lines, hour by hour; returns the silences in hours.
    fn silences(lines: &[(i64, Kind)]) -> Vec<(i64, i64)> {
        let (mut ticks, mut found) = (Ticks::default(), Vec::new());
        for (hour, kind) in lines {
            found.extend(follow(&mut ticks, *kind, 1_800_000_000 + hour * 3600));
        }
        found.into_iter().map(|(from, to)| ((from - 1_800_000_000) / 3600, (to - 1_800_000_000) / 3600)).collect()
    }

    #[test]
    fn a_silence_is_proven_where_lines_came_every_six_hours() {
        use Kind::{Checkout, Date, ManagerStart as Start};
        let regular = [(0, Date), (6, Date), (12, Date)];
        let after = |lines: &[(i64, Kind)]| silences(&[&regular, lines].concat());
        assert_eq!(after(&[(13, Checkout), (26, Checkout)]), [(13, 26)]);
        assert_eq!(after(&[(36, Date), (42, Date)]), [(12, 36)]);
        assert_eq!(after(&[(36, Date), (37, Checkout)]), [(12, 36)]);
        // A daemon has started after it: nothing ran meanwhile.
        assert_eq!(after(&[(36, Date), (36, Start), (37, Checkout)]), []);
        assert_eq!(after(&[(36, Start), (37, Checkout), (66, Checkout)]), []);
        // Two daemons, each with lines of its own.
        let two = [(0, Date), (2, Date), (6, Date), (8, Date), (12, Date), (30, Checkout)];
        assert_eq!(silences(&two), [(12, 30)]);
        // Such lines have never come, not every six hours, or only once by chance.
        assert_eq!(silences(&[(0, Checkout), (48, Checkout)]), []);
        assert_eq!(silences(&[(0, Date), (10, Date), (20, Date), (48, Checkout)]), []);
        assert_eq!(silences(&[(0, Date), (6, Date), (48, Checkout)]), []);
        let restarts = [(0, Date), (0, Start), (6, Date), (6, Start), (12, Date), (12, Start), (30, Checkout)];
        assert_eq!(silences(&restarts), []);
    }
}
