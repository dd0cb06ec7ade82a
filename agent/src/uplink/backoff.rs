//! How long to wait before the next attempt.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);
const LAST: Duration = Duration::from_secs(60);

/// Computes waits that double, each shortened by a random amount.
pub(super) struct Backoff {
    limit: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { limit: FIRST }
    }
}

impl Backoff {
    /// Returns the next wait: between half and all of a limit that doubles each time, up to a minute.
    pub(super) fn next(&mut self) -> Duration {
        let wait = self.limit.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.limit = (self.limit * 2).min(LAST);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit_and_differ() {
        let mut backoff = Backoff::default();
        let waits: Vec<Duration> = (0..12).map(|_| backoff.next()).collect();
        for (index, wait) in waits.iter().enumerate() {
            let limit = (FIRST * 2u32.pow(index as u32)).min(LAST);
            assert!(limit / 2 <= *wait && *wait <= limit, "{index}: {wait:?}");
        }
        assert_ne!(waits[10], waits[11]);
    }
}
