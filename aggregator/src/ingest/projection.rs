//! The projections of all logs, and the facts that are not written yet.

use std::collections::BTreeMap;
use std::time::Instant;

use hashbrown::HashMap;
use jiff::tz::TimeZone;
use seatmeter_count::Calendar;
use seatmeter_proto::batch;
use seatmeter_proto::v1::{Batch, Columns};

use super::horizon::Horizon;
use super::log_projection::{Dated, LogProjection};
use super::name_registry::NameRegistry;
use super::pending_facts::PendingFacts;
use crate::store::engine::Connection;
use crate::store::received::{self, Log};
use crate::store::streams::{self, Stream};
use crate::store::{Failure, StoreError};

/// The number of pending facts at which they are written without waiting for more.
pub(super) const MANY_FACTS: usize = 1_000_000;

/// The part of the projection that is not written yet.
pub(super) struct Projection {
    pub(super) names: NameRegistry,
    /// The last moment that counts.
    pub(super) horizon: Horizon,
    pub(super) logs: HashMap<i64, LogProjection>,
    pub(super) pending: PendingFacts,
    /// The logs that are projected further than the database records: the last batch projected, by log id.
    pub(super) ahead: HashMap<i64, i64>,
    pub(super) waiting_since: Option<Instant>,
    /// The logs that wait for a rebuild, by id: when the wait began, and when the log's last batch came.
    pub(super) rebuilds: HashMap<i64, (Instant, Instant)>,
}

impl Projection {
    pub(super) fn new(calendar: Calendar, names: NameRegistry, horizon: Horizon) -> Self {
        Self {
            names,
            horizon,
            logs: HashMap::new(),
            pending: PendingFacts::new(calendar),
            ahead: HashMap::new(),
            waiting_since: None,
            rebuilds: HashMap::new(),
        }
    }

    pub(super) fn take(
        &mut self,
        id: i64,
        (stream, zone): (&Stream, &TimeZone),
        from: u64,
        batch: &Batch,
        columns: &Columns,
    ) {
        let dated = Dated { stream, zone, horizon: self.horizon };
        let log = self.logs.entry(stream.log_id).or_default();
        log.take((batch, columns), from, dated, &mut self.names, &mut self.pending);
        self.ahead.insert(stream.log_id, id);
    }

    /// Projects the archived batches of a log that are not projected yet, up to and including the batch id `through`.
    /// Reads batches on `archive`, so that facts can be written on `connection` between them.
    pub(super) fn take_archived(
        &mut self,
        archive: &mut dyn Connection,
        connection: &mut dyn Connection,
        logs: &mut BTreeMap<i64, Log>,
        log_id: i64,
        through: i64,
    ) -> Result<(), StoreError> {
        let Some(log) = logs.get(&log_id) else { return Ok(()) };
        let projected_through = log.projected_through;
        let zone = log.configured.zone().unwrap_or(TimeZone::UTC);
        let is_known = self.logs.contains_key(&log_id);
        let after = if is_known { projected_through } else { 0 };
        self.logs.entry(log_id).or_default();
        let mut last = projected_through;
        for stream in streams::streams_of_log(archive, log_id)? {
            if stream.first_day.is_none() {
                continue;
            }
            received::each_batch(archive, stream.id, after, &mut |archived| {
                if archived.id > through {
                    return Ok(());
                }
                let columns = batch::open(&archived.batch).map_err(|error| {
                    StoreError::new(Failure::Corrupt, format!("batch {} in the archive: {error}", archived.id))
                })?;
                last = last.max(archived.id);
                self.take(last, (&stream, &zone), archived.start, &archived.batch, &columns);
                if self.pending.facts() > MANY_FACTS {
                    self.write(connection, logs)?;
                    self.written();
                }
                Ok(())
            })?;
        }
        // Without a new batch there is nothing to write, so that a fleet of idle logs starts without a commit for each.
        if last > projected_through || !is_known {
            self.ahead.insert(log_id, last);
        }
        Ok(())
    }

    pub(super) fn write(
        &mut self,
        connection: &mut dyn Connection,
        logs: &mut BTreeMap<i64, Log>,
    ) -> Result<(), StoreError> {
        self.names.save(connection)?;
        self.pending.write(connection)?;
        for (log_id, through) in &self.ahead {
            if let (Some(log), Some(projection)) = (logs.get_mut(log_id), self.logs.get(log_id)) {
                log.projected_through = *through;
                log.last_line_at = projection.last_line_at;
                log.state = projection.save(&self.names);
                received::save_projection(connection, log)?;
            }
        }
        Ok(())
    }

    /// Returns the logs whose facts change since the horizon has moved.
    pub(super) fn logs_that_change(&self) -> Vec<i64> {
        let logs = self.logs.iter().filter(|(_, log)| log.changes_with(self.horizon));
        logs.map(|(id, _)| *id).collect()
    }

    pub(super) fn written(&mut self) {
        self.names.saved();
        self.pending.clear();
        self.ahead.clear();
        self.waiting_since = None;
    }

    pub(super) fn forget(&mut self, log_id: i64) {
        self.logs.remove(&log_id);
        self.ahead.remove(&log_id);
        self.pending.forget(log_id);
    }
}
