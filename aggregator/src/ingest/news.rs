//! What the archiver tells the projector. The archiver never waits for it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use seatmeter_proto::v1::Columns;

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
    /// The columns of batches that were archived last, by the batches' ids: opening them twice would cost a tenth.
    opened: VecDeque<(i64, Columns)>,
    rebuilds: BTreeSet<i64>,
    horizon: Option<Horizon>,
    stops: bool,
}

/// The most batches whose columns are kept, and the most events in them: some 30 MB.
const MANY_BATCHES: usize = 64;
const MANY_EVENTS: usize = 1 << 20;

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
    /// Tells what a commit of the archive has brought: batches with their columns, logs whose facts must be rebuilt, and
    /// another last moment that counts.
    pub(super) fn tell(&self, batches: Vec<(i64, Columns)>, rebuilds: Vec<i64>, horizon: Option<Horizon>) {
        if batches.is_empty() && rebuilds.is_empty() && horizon.is_none() {
            return;
        }
        let mut waiting = self.waiting();
        waiting.has_batches |= !batches.is_empty();
        waiting.opened.extend(batches);
        let mut events = 0;
        let size = |(_, columns): &(i64, Columns)| columns.kinds.len();
        let kept = waiting.opened.iter().rev().take(MANY_BATCHES).take_while(|opened| {
            events += size(opened);
            events <= MANY_EVENTS
        });
        let dropped = waiting.opened.len() - kept.count();
        waiting.opened.drain(..dropped);
        waiting.rebuilds.extend(rebuilds);
        waiting.horizon = horizon.or(waiting.horizon);
        self.came.notify_one();
    }

    /// Returns the columns of a batch, if they are still kept. Those of batches before it are dropped.
    pub(super) fn columns(&self, batch: i64) -> Option<Columns> {
        let mut waiting = self.waiting();
        while waiting.opened.front().is_some_and(|(id, _)| *id < batch) {
            waiting.opened.pop_front();
        }
        let is_first = waiting.opened.front().is_some_and(|(id, _)| *id == batch);
        if is_first { waiting.opened.pop_front().map(|(_, columns)| columns) } else { None }
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
        let has_batches = std::mem::take(&mut waiting.has_batches);
        let (rebuilds, horizon) = (std::mem::take(&mut waiting.rebuilds), waiting.horizon.take());
        // A stop stays one, whoever asks.
        Taken { has_batches, rebuilds, horizon, stops: waiting.stops }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
