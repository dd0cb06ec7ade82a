//! The most seats in use at once.

use hashbrown::HashMap;

use crate::store::StoreError;
use crate::store::engine::Connection;
use crate::store::usage::{self, UsageKey};

/// The most seats in use at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peak {
    /// The number of seats.
    pub seats: u64,
    /// The first moment of the peak, in seconds since 1970 UTC; 0 where no seat was in use.
    pub at: i64,
    /// `true` if the number of seats is exact, `false` if it is an upper bound.
    pub is_exact: bool,
}

impl Peak {
    /// The peak if no seat was in use.
    pub const NONE: Self = Self { seats: 0, at: 0, is_exact: true };
}

/// The sum of the peaks of several features and logs within one hour.
#[derive(Default)]
struct Hour {
    sum: u64,
    largest: u64,
    largest_at: i64,
    parts: u32,
}

/// Returns the peak of features of logs within a range of hours, the last one excluded. The peak of one feature of one
/// log is exact. For several, the result is an upper bound: the largest sum of their peaks within one hour.
pub(super) fn peak(
    connection: &mut dyn Connection,
    (from, until): (i64, i64),
    peaks: &[(UsageKey, u64, i64)],
) -> Result<Peak, StoreError> {
    if let [(_, seats, at)] = peaks {
        return Ok(Peak { seats: *seats, at: *at, is_exact: true });
    }
    let mut logs: Vec<i64> = peaks.iter().map(|(key, _, _)| key.0).collect();
    logs.dedup();
    let mut hours: HashMap<i64, Hour> = HashMap::new();
    for log in logs {
        for ((_, hour, feature), (seats, at)) in usage::peaks(connection, log, from, until)? {
            if peaks.iter().any(|(key, _, _)| key.0 == log && key.2 == feature) {
                let hour = hours.entry(hour).or_default();
                hour.sum += seats;
                hour.parts += u32::from(seats > 0);
                if seats > hour.largest {
                    (hour.largest, hour.largest_at) = (seats, at);
                }
            }
        }
    }
    let best = hours.into_iter().max_by_key(|(number, hour)| (hour.sum, std::cmp::Reverse(*number)));
    Ok(best.map_or(Peak::NONE, |(_, hour)| Peak { seats: hour.sum, at: hour.largest_at, is_exact: hour.parts <= 1 }))
}
