//! The projections of all logs, and the facts that are not written yet.

use std::collections::BTreeSet;

use hashbrown::HashMap;
use jiff::tz::TimeZone;
use seatmeter_count::Calendar;
use seatmeter_proto::batch;
use seatmeter_proto::v1::Columns;

use super::horizon::Horizon;
use super::log_projection::{Dated, LogProjection};
use super::name_registry::NameRegistry;
use super::pending_facts::PendingFacts;
use crate::store::engine::Connection;
use crate::store::log_state::LogState;
use crate::store::projections::{self, Projected};
use crate::store::received::{self, Archived, Log};
use crate::store::streams::{self, Stream};
use crate::store::{Failure, StoreError, facts, facts_schema, pools, usage};

/// The number of pending facts at which they are written without waiting for more.
const MANY_FACTS: usize = 1_000_000;

/// The projections of all logs, with the part of their facts that is not written yet.
pub(super) struct Projection {
    names: NameRegistry,
    /// The last moment that counts.
    horizon: Horizon,
    logs: HashMap<i64, LogProjection>,
    pending: PendingFacts,
    projected: HashMap<i64, Projected>,
    /// The last batch that was looked at: those before it are in the facts, unless their log waits for a rebuild.
    through: i64,
    /// The logs that are projected further than the facts in the database.
    unwritten: BTreeSet<i64>,
}

impl Projection {
    /// Creates a projection of nothing.
    pub(super) fn new(calendar: Calendar, names: NameRegistry, horizon: Horizon) -> Self {
        Self {
            names,
            horizon,
            logs: HashMap::new(),
            pending: PendingFacts::new(calendar),
            projected: HashMap::new(),
            through: 0,
            unwritten: BTreeSet::new(),
        }
    }

    /// Reads the projections as the facts have them.
    pub(super) fn load(facts: &mut dyn Connection, calendar: Calendar, horizon: Horizon) -> Result<Self, StoreError> {
        let mut read = Self::new(calendar, NameRegistry::load(facts)?, horizon);
        for (log_id, projected) in projections::projections(facts)? {
            let saved = LogState::read(&projected.state)?;
            let restored = LogProjection::restore(&saved, projected.last_line_at, &mut read.names);
            read.logs.insert(log_id, restored);
            read.projected.insert(log_id, projected);
        }
        read.through = facts_schema::projected_through(facts)?;
        Ok(read)
    }

    /// Returns the last batch that was looked at.
    pub(super) fn through(&self) -> i64 {
        self.through
    }

    /// Returns the logs that the facts have something of.
    pub(super) fn logs(&self) -> impl Iterator<Item = i64> {
        self.projected.keys().copied()
    }

    /// Whether the facts have nothing of a log yet.
    pub(super) fn is_new(&self, log_id: i64) -> bool {
        !self.projected.contains_key(&log_id)
    }

    /// Whether the facts of a log must be rebuilt.
    pub(super) fn must_rebuild(&self, log: &Log) -> bool {
        self.projected.get(&log.id).map_or(0, |projected| projected.rebuilds) != log.rebuilds
    }

    /// Moves the last moment that counts. Returns the logs whose facts change by it.
    pub(super) fn move_horizon(&mut self, horizon: Horizon) -> Vec<i64> {
        self.horizon = horizon;
        self.logs.iter().filter(|(_, log)| log.changes_with(horizon)).map(|(id, _)| *id).collect()
    }

    /// Whether so many facts are not written that they should be.
    pub(super) fn is_large(&self) -> bool {
        self.pending.facts() > MANY_FACTS
    }

    /// Takes a batch that came after all others of its log, unless the facts have it already.
    pub(super) fn follow(
        &mut self,
        archived: &Archived,
        columns: Option<Columns>,
        log: &Log,
        stream: &Stream,
    ) -> Result<(), StoreError> {
        self.through = archived.id;
        let projected = self.projected.entry(log.id).or_default();
        if archived.id <= projected.through || stream.first_day.is_none() {
            return Ok(());
        }
        projected.through = archived.id;
        let columns = columns.map_or_else(|| open(archived), Ok)?;
        self.take((archived, &columns), log, stream);
        Ok(())
    }

    /// Returns the last batch that the facts of all logs contain, where they should; `i64::MAX` if there are no facts.
    pub(super) fn least_through(&self) -> i64 {
        self.projected.values().map(|projected| projected.through).min().unwrap_or(i64::MAX)
    }

    /// Looks no more at batches through this one: they are in the facts.
    pub(super) fn skip(&mut self, through: i64) {
        self.through = through;
    }

    /// Projects a log from nothing, in the order of its streams: all its batches up to the batch id `through`. Reads batches
    /// on `archive`, so that facts can be written on `facts` between them, and calls `each` after each batch.
    pub(super) fn project(
        &mut self,
        archive: &mut dyn Connection,
        facts: &mut dyn Connection,
        log: &Log,
        through: i64,
        each: &mut dyn FnMut() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let projected = Projected { rebuilds: log.rebuilds, through, ..Projected::default() };
        self.projected.insert(log.id, projected);
        self.logs.insert(log.id, LogProjection::default());
        self.unwritten.insert(log.id);
        for stream in streams::streams_of_log(archive, log.id)? {
            if stream.first_day.is_none() {
                continue;
            }
            received::each_batch(archive, stream.id, through, &mut |archived| {
                self.take((&archived, &open(&archived)?), log, &stream);
                if self.is_large() {
                    self.write(facts)?;
                    self.written();
                }
                each()
            })?;
        }
        Ok(())
    }

    fn take(&mut self, (archived, columns): (&Archived, &Columns), log: &Log, stream: &Stream) {
        let zone = log.configured.zone().unwrap_or(TimeZone::UTC);
        let dated = Dated { stream, zone: &zone, horizon: self.horizon };
        let projection = self.logs.entry(log.id).or_default();
        let known = self.names.identities();
        projection.take((&archived.batch, columns), archived.start, dated, &mut self.names, &mut self.pending);
        self.pending.new_names(log.id, archived.received_at, u64::from(self.names.identities() - known));
        self.unwritten.insert(log.id);
    }

    /// Writes what is not written, within the caller's transaction. Once that is committed, [`Projection::written`] must be
    /// called.
    pub(super) fn write(&mut self, facts: &mut dyn Connection) -> Result<(), StoreError> {
        self.names.save(facts)?;
        self.pending.write(facts)?;
        for log_id in &self.unwritten {
            if let (Some(projected), Some(log)) = (self.projected.get_mut(log_id), self.logs.get(log_id)) {
                projected.last_line_at = log.last_line_at;
                projected.state = log.save(&self.names);
                projections::save_projection(facts, *log_id, projected)?;
            }
        }
        facts_schema::set_projected_through(facts, self.through)
    }

    /// Takes note that what [`Projection::write`] wrote is durable.
    pub(super) fn written(&mut self) {
        self.names.saved();
        self.pending.clear();
        self.unwritten.clear();
    }

    /// Deletes the facts of a log, within the caller's transaction.
    pub(super) fn forget(&mut self, facts: &mut dyn Connection, log_id: i64) -> Result<(), StoreError> {
        facts::forget(facts, log_id)?;
        usage::forget(facts, log_id)?;
        projections::forget(facts, log_id)?;
        pools::forget(facts, log_id)?;
        self.logs.remove(&log_id);
        self.projected.remove(&log_id);
        self.unwritten.remove(&log_id);
        self.pending.forget(log_id);
        Ok(())
    }

    /// Returns how far the facts of a log go; nothing if there are none.
    pub(super) fn projected(&self, log_id: i64) -> Projected {
        self.projected.get(&log_id).cloned().unwrap_or_default()
    }
}

fn open(archived: &Archived) -> Result<Columns, StoreError> {
    batch::open(&archived.batch).map_err(|error| {
        let reason = format!("batch {} in the archive is damaged: {error}; restore a backup", archived.id);
        StoreError::new(Failure::Permanent, reason)
    })
}
