//! What the archiver tells the projector. The archiver never waits for it.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::horizon::Horizon;

/// The news that the projector has not taken yet.
#[derive(Default)]
pub struct News {
    waiting: Mutex<Waiting>,
    came: Condvar,
}

#[derive(Default)]
struct Waiting {
    has_batches: bool,
    rebuilds: BTreeSet<i64>,
    horizon: Option<Horizon>,
    stops: bool,
}

/// News, taken.
pub(super) struct Taken {
    /// Whether batches were archived.
    pub(super) has_batches: bool,
    /// The logs whose facts must be rebuilt.
    pub(super) rebuilds: BTreeSet<i64>,
    /// The last moment that counts, if it has moved.
    pub(super) horizon: Option<Horizon>,
    /// Whether the projector must stop.
    pub(super) stops: bool,
}

impl News {
    /// Tells what a commit of the archive has brought.
    pub(super) fn tell(&self, has_batches: bool, rebuilds: Vec<i64>, horizon: Option<Horizon>) {
        if !has_batches && rebuilds.is_empty() && horizon.is_none() {
            return;
        }
        let mut waiting = self.waiting();
        waiting.has_batches |= has_batches;
        waiting.rebuilds.extend(rebuilds);
        waiting.horizon = horizon.or(waiting.horizon);
        self.came.notify_one();
    }

    /// Tells the projector to stop.
    pub fn stop(&self) {
        self.waiting().stops = true;
        self.came.notify_one();
    }

    /// Whether the projector must stop.
    pub(super) fn stops(&self) -> bool {
        self.waiting().stops
    }

    /// Takes the news. Waits until some come, for `patience` at most, or for ever without one.
    pub(super) fn take(&self, patience: Option<Duration>) -> Taken {
        let is_quiet = |waiting: &mut Waiting| {
            !waiting.has_batches && waiting.rebuilds.is_empty() && waiting.horizon.is_none() && !waiting.stops
        };
        let waiting = self.waiting();
        let mut waiting = match patience {
            None => self.came.wait_while(waiting, is_quiet).unwrap_or_else(PoisonError::into_inner),
            Some(patience) => {
                self.came.wait_timeout_while(waiting, patience, is_quiet).unwrap_or_else(PoisonError::into_inner).0
            }
        };
        let Waiting { has_batches, rebuilds, horizon, stops } = std::mem::take(&mut *waiting);
        // A stop stays one, whoever asks.
        waiting.stops = stops;
        Taken { has_batches, rebuilds, horizon, stops }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
