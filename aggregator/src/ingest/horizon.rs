//! The horizon: how far ahead of now a line can be dated.
//!
//! A clock that is years ahead writes dates into a log that cannot be right. Such lines are kept apart: archived, shown, and
//! counted nowhere, until their moment comes or an operator says on which day they were written. So that a wrong clock of
//! this machine or of an agent's moves no count either, the horizon moves only while both agree.

use crate::store::StoreError;
use crate::store::engine::Connection;
use crate::store::settings::{set_setting, setting};

/// How far ahead of now a line can be dated, in seconds: two days, for time zones and clocks that are a little off.
const AHEAD: i64 = 2 * 86_400;

/// The most seconds by which the clocks of an agent and of this machine differ if both are right.
const AGREEMENT: u64 = 86_400;

/// How far the horizon moves at least, in seconds: facts that move with it are rebuilt.
const STEP: u64 = 3600;

/// The first moment at which a license server can have written a line: 1990.
const EARLIEST: i64 = 631_152_000;

/// The last moment that counts, in seconds since 1970 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Horizon(i64);

impl Horizon {
    /// Returns the horizon of the moment `now`, in seconds since 1970 UTC.
    pub fn at(now: i64) -> Self {
        Self(now.saturating_add(AHEAD))
    }

    /// Reads the horizon from the database; where there is none yet, that of the moment `now` is set.
    pub fn load(connection: &mut dyn Connection, now: i64) -> Result<Self, StoreError> {
        match Self::stored(connection)? {
            Some(horizon) => Ok(horizon),
            None => Self::at(now).save(connection),
        }
    }

    /// Reads the horizon from the database; `None` if there is none yet.
    pub fn stored(connection: &mut dyn Connection) -> Result<Option<Self>, StoreError> {
        Ok(setting(connection, HORIZON)?.and_then(|text| text.parse().ok()).map(Self))
    }

    /// Saves the horizon.
    pub fn save(self, connection: &mut dyn Connection) -> Result<Self, StoreError> {
        set_setting(connection, HORIZON, &self.0.to_string())?;
        Ok(self)
    }

    /// Returns where the horizon should be, if an agent's clock is `ahead` seconds of this machine's; `None` if it is there
    /// already, or if the clocks do not agree.
    pub fn moved(self, now: i64, ahead: i64) -> Option<Self> {
        let wanted = Self::at(now);
        (ahead.unsigned_abs() <= AGREEMENT && wanted.0.abs_diff(self.0) >= STEP).then_some(wanted)
    }

    /// Whether a line at this moment can be right.
    pub fn reaches(self, at: i64) -> bool {
        (EARLIEST..=self.0).contains(&at)
    }
}

const HORIZON: &str = "horizon";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_horizon_moves_only_while_the_clocks_agree() {
        let now = 1_800_000_000;
        let horizon = Horizon::at(now);
        const YEARS: i64 = 10 * 365 * 86_400;
        assert_eq!(horizon.moved(now + 3600, 5), Some(Horizon::at(now + 3600)));
        assert_eq!(horizon.moved(now + 3599, 5), None, "it moves in steps");
        // This machine's clock goes wrong; the agent's is right.
        assert_eq!(horizon.moved(now + YEARS, -YEARS), None);
        assert_eq!(horizon.moved(now - YEARS, YEARS), None);
        // The horizon was made while this machine's clock was ahead.
        assert_eq!(Horizon::at(now + YEARS).moved(now, 0), Some(horizon));
        assert!(horizon.reaches(now) && !horizon.reaches(now + YEARS) && !horizon.reaches(0));
    }
}
