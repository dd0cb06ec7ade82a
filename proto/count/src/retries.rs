//! Recognises denials that are only retries: client programs ask again every few seconds, and each refusal is a line of
//! its own.

use hashbrown::HashMap;

use crate::event::{ClientId, FeatureId};

/// The longest time between a denial and its retry, in seconds. A denial of the same feature to the same client within
/// this time of the previous one is a retry.
pub const RETRY_WINDOW: i64 = 300;

/// Distinguishes first denials from their retries. A run of retries, each within [`RETRY_WINDOW`] of the previous one,
/// is one denial however long the run lasts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Retries {
    last: HashMap<(FeatureId, ClientId), i64>,
    prune_at: usize,
}

impl Retries {
    /// Records a denial line. Returns whether it is a retry.
    pub fn is_retry(&mut self, feature: FeatureId, client: ClientId, at: i64) -> bool {
        if self.last.len() >= self.prune_at.max(1024) {
            self.forget_before(at - RETRY_WINDOW);
            self.prune_at = 2 * self.last.len();
        }
        let before = self.last.insert((feature, client), at);
        before.is_some_and(|before| (at - before).abs() <= RETRY_WINDOW)
    }

    /// Returns the denials that can still have a retry at `now`, sorted. [`Retries::restore`] needs nothing else.
    pub fn pending(&self, now: i64) -> Vec<(FeatureId, ClientId, i64)> {
        let mut pending: Vec<_> = self
            .last
            .iter()
            .filter(|(_, at)| **at >= now - RETRY_WINDOW)
            .map(|((feature, client), at)| (*feature, *client, *at))
            .collect();
        pending.sort_unstable();
        pending
    }

    /// Restores the denials that [`Retries::pending`] returned.
    pub fn restore(pending: impl IntoIterator<Item = (FeatureId, ClientId, i64)>) -> Self {
        let last = pending.into_iter().map(|(feature, client, at)| ((feature, client), at)).collect();
        Self { last, prune_at: 0 }
    }

    /// Forgets the denials that can have no retry any more at `now`, whatever the clock does: those that
    /// [`Retries::pending`] leaves out.
    pub fn settle(&mut self, now: i64) {
        self.forget_before(now - RETRY_WINDOW);
    }

    fn forget_before(&mut self, moment: i64) {
        self.last.retain(|_, at| *at >= moment);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_retries_is_one_denial() {
        let mut retries = Retries::default();
        assert!(!retries.is_retry(1, 1, 1000));
        assert!(retries.is_retry(1, 1, 1300));
        assert!(retries.is_retry(1, 1, 1600));
        assert!(!retries.is_retry(1, 2, 1600), "another client");
        assert!(!retries.is_retry(2, 1, 1600), "another feature");
        assert!(!retries.is_retry(1, 1, 1901), "after the window");
    }

    #[test]
    fn what_is_pending_survives_a_restart() {
        let mut retries = Retries::default();
        retries.is_retry(1, 1, 1000);
        retries.is_retry(1, 2, 5000);
        let mut restored = Retries::restore(retries.pending(5100));
        assert_eq!(restored.pending(0), vec![(1, 2, 5000)]);
        assert!(restored.is_retry(1, 2, 5200));
    }
}
