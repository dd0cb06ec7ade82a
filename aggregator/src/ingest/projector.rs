//! The projector: the only writer of the facts.
//!
//! It follows the archive in the order in which batches came, with a mark of its own, and writes facts a little later, with the
//! mark, in one transaction. After a crash, the batches after the mark are projected again: no event counts twice, and none is
//! left out.
//!
//! Batches of a log normally come in the order of its streams. Where they do not (an old file is read after a newer one), and
//! where something dates or relates streams otherwise, the archiver requests a rebuild: the log is projected from nothing, in
//! one transaction. Until that is committed, questions are answered from the facts as they were.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::{HashMap, HashSet};
use jiff::Timestamp;
use seatmeter_count::Calendar;

use super::horizon::Horizon;
use super::news::News;
use super::projection::Projection;
use crate::codes;
use crate::store::engine::Connection;
use crate::store::facts_schema::{self, Discarded, Origin};
use crate::store::received::{self, Archived, Log};
use crate::store::streams::{self, Stream};
use crate::store::{Failure, Store, StoreError, in_transaction};

/// How long no news must come before facts are written.
const IDLE: Duration = Duration::from_millis(100);
/// The longest that a fact waits before it is written. Facts are written earlier if there are many.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long the projector waits before it tries again to use facts that failed.
const RECOVERY: Duration = Duration::from_secs(1);

/// How long no batch of a log must come before the log is rebuilt.
const REBUILD_QUIET: Duration = Duration::from_secs(1);
/// The longest that a log waits for its rebuild.
const REBUILD_PATIENCE: Duration = Duration::from_secs(60);

/// The number of batches that are read at a time: at most a few megabytes.
const SLICE: u32 = 64;

/// How many batches are projected between two words about it.
const WORD_AFTER: u64 = 32;

/// How far the facts are brought up to date after a start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// The logs whose facts are made again.
    pub logs: u64,
    /// Those that are done.
    pub logs_done: u64,
    /// The batches of these logs.
    pub batches: u64,
    /// Those that are done.
    pub batches_done: u64,
}

impl Steps {
    /// Returns how much is done, from 0 to 100.
    pub fn percent(&self) -> u64 {
        (self.batches_done * 100).checked_div(self.batches).unwrap_or(0).min(100)
    }
}

/// Takes how far the facts are brought up to date after a start, again and again; `None` once they are.
pub type Tell = Box<dyn FnMut(Option<Steps>) + Send>;

/// Follows the archive until it is told to stop.
pub struct Projector {
    store: Store,
    facts: Box<dyn Connection>,
    calendar: Calendar,
    origin: Origin,
    projection: Projection,
    news: Arc<News>,
    /// How far the start is; `None` once the facts are up to date.
    steps: Option<Steps>,
    tell: Tell,
    /// The logs that wait for a rebuild, by id: when the wait began, and when the log's last batch came.
    rebuilds: HashMap<i64, (Instant, Instant)>,
    /// When the first fact was made that is not written; `None` if all are.
    waiting_since: Option<Instant>,
    /// Whether the archive has batches that were not looked at.
    has_more: bool,
    /// Whether the state in memory follows from the facts in the database: not before the first start, and not after a
    /// failure.
    is_sound: bool,
    /// Whether damaged facts were discarded since the start. If the next ones are damaged, too, it is no use.
    has_discarded: bool,
}

impl Projector {
    /// Opens the facts for writing. Facts that are of no use any more are discarded, and made again by [`Projector::run`].
    pub fn open(
        store: Store,
        calendar: Calendar,
        incarnation: String,
        news: Arc<News>,
        tell: Tell,
    ) -> Result<Self, StoreError> {
        let time_zone = calendar.zone().iana_name().unwrap_or("UTC").to_owned();
        let origin = Origin { incarnation, time_zone };
        let (mut facts, mut discarded) = store.projector(&origin)?;
        let through = facts_schema::projected_through(facts.as_mut())?;
        if through > store.read(received::last_batch_id)? {
            // Somebody has put back an older copy of the archive.
            drop(facts);
            store.discard_facts()?;
            facts = store.projector(&origin)?.0;
            discarded = Some(Discarded::OtherArchive);
        }
        report_discarded(discarded, &origin);
        let horizon = Horizon::at(Timestamp::now().as_second());
        let projection = Projection::new(calendar.clone(), Default::default(), horizon);
        Ok(Self {
            store,
            facts,
            calendar,
            origin,
            projection,
            news,
            steps: Some(Steps::default()),
            tell,
            rebuilds: HashMap::new(),
            waiting_since: None,
            has_more: false,
            is_sound: false,
            has_discarded: false,
        })
    }

    /// Follows the archive until it is told to stop. Then writes the facts that are not written.
    pub fn run(mut self) {
        // The last failure that was told: not each time that it is tried again.
        let mut told = String::new();
        loop {
            let outcome = match self.is_sound {
                true => self.work(),
                false => self.start().map(|()| true),
            };
            match outcome {
                Ok(true) => told.clear(),
                Ok(false) => break,
                // What is not written is projected again at the next start.
                Err(error) if error.failure == Failure::Stopped => return,
                Err(error) if error.failure == Failure::Corrupt && !self.has_discarded => {
                    (self.has_discarded, self.is_sound) = (true, false);
                    if let Err(error) = self.discard(error) {
                        tracing::error!(code = codes::FACTS_FAILED, reason = %error, "the figures stand still; trying again");
                    }
                }
                Err(error) => {
                    if std::mem::replace(&mut told, error.reason.clone()) != error.reason {
                        tracing::error!(code = codes::FACTS_FAILED, reason = %error, "the figures stand still; trying again");
                    }
                    self.is_sound = false;
                    if self.news.take(Some(RECOVERY)).stops {
                        return;
                    }
                }
            }
        }
        if let Err(error) = self.flush() {
            tracing::warn!(code = codes::FACTS_UNSAVED, reason = %error, "the last facts are projected again at the next start");
        }
    }

    /// Brings the facts up to date.
    pub fn bring_up_to_date(mut self) -> Result<(), StoreError> {
        self.start()
    }

    /// Discards damaged facts, which are made of the archive again.
    fn discard(&mut self, error: StoreError) -> Result<(), StoreError> {
        report_discarded(Some(Discarded::Damaged(error.reason)), &self.origin);
        self.store.discard_facts()?;
        self.facts = self.store.projector(&self.origin)?.0;
        self.steps = Some(Steps::default());
        (self.tell)(self.steps);
        Ok(())
    }

    /// Reads how far the facts go, and brings them up to date.
    fn start(&mut self) -> Result<(), StoreError> {
        self.facts.rollback();
        let (horizon, logs, batches, last) = self.store.read(|archive| {
            let horizon = Horizon::stored(archive)?.unwrap_or(Horizon::at(Timestamp::now().as_second()));
            let batches: HashMap<i64, u64> = received::batches_by_log(archive)?.into_iter().collect();
            Ok::<_, StoreError>((horizon, received::logs(archive)?, batches, received::last_batch_id(archive)?))
        })?;
        self.projection = Projection::load(self.facts.as_mut(), self.calendar.clone(), horizon)?;
        let changed = self.projection.move_horizon(horizon);
        let batches_of = |log: &Log| batches.get(&log.id).copied().unwrap_or(0);
        let must_rebuild = |log: &Log| {
            let is_new = self.projection.is_new(log.id) && batches_of(log) > 0;
            is_new || self.projection.must_rebuild(log) || changed.contains(&log.id)
        };
        let due: Vec<&Log> = logs.iter().filter(|log| must_rebuild(log)).collect();
        let all = due.iter().map(|log| batches_of(log)).sum();
        let mut due: Vec<i64> = due.iter().map(|log| log.id).collect();
        let known: HashSet<i64> = logs.iter().map(|log| log.id).collect();
        due.extend(self.projection.logs().filter(|id| !known.contains(id)));
        // Only the first start is told of: after a failure, the facts that there are stay in use.
        if self.steps.is_some() {
            self.steps = Some(Steps { logs: due.len() as u64, batches: all, ..Steps::default() });
            (self.tell)(self.steps);
        }
        due.into_iter().try_for_each(|log| self.rebuild(log))?;
        if self.projection.through() == 0 {
            // Each log has been rebuilt, now or before this start was interrupted: all have their batches through this one.
            self.projection.skip(self.projection.least_through().min(last));
        }
        while self.follow()? {
            if self.projection.is_large() {
                self.flush()?;
            }
            self.stop_if_told()?;
        }
        self.flush()?;
        (self.is_sound, self.has_discarded) = (true, false);
        if self.steps.take().is_some() {
            (self.tell)(None);
        }
        Ok(())
    }

    /// Waits for news, and does what is due. Returns whether to go on.
    fn work(&mut self) -> Result<bool, StoreError> {
        let news = self.news.take(self.patience());
        if news.stops {
            return Ok(false);
        }
        let now = Instant::now();
        let changed = news.horizon.map(|horizon| self.projection.move_horizon(horizon)).unwrap_or_default();
        for log in news.rebuilds.into_iter().chain(changed) {
            self.wait_for_rebuild(log, now);
        }
        let is_idle = !news.has_batches && !self.has_more;
        if !is_idle {
            self.has_more = self.follow()?;
        }
        let is_due = |since: Instant| is_idle || since.elapsed() > PATIENCE;
        if self.projection.is_large() || self.waiting_since.is_some_and(is_due) {
            self.flush()?;
        }
        let is_due =
            |(since, last): &(Instant, Instant)| last.elapsed() >= REBUILD_QUIET || since.elapsed() >= REBUILD_PATIENCE;
        let due: Vec<i64> = self.rebuilds.iter().filter(|(_, times)| is_due(times)).map(|(log, _)| *log).collect();
        due.into_iter().try_for_each(|log| self.rebuild(log))?;
        Ok(true)
    }

    /// Returns how long to wait for news; `None` if there is nothing else to do.
    fn patience(&self) -> Option<Duration> {
        let more = self.has_more.then_some(Duration::ZERO);
        let rebuild = (!self.rebuilds.is_empty()).then_some(REBUILD_QUIET / 4);
        let flush = self.waiting_since.map(|_| IDLE);
        [more, rebuild, flush].into_iter().flatten().min()
    }

    fn wait_for_rebuild(&mut self, log_id: i64, now: Instant) {
        self.rebuilds.entry(log_id).or_insert((now, now)).1 = now;
    }

    /// Projects some batches that were not looked at. Returns whether there are more.
    fn follow(&mut self) -> Result<bool, StoreError> {
        let after = self.projection.through();
        let (batches, logs, streams) = self.store.read(|archive| {
            let mut batches = Vec::new();
            received::each_batch_after(archive, after, SLICE, &mut |archived| {
                batches.push(archived);
                Ok(())
            })?;
            let (logs, streams) = origins(archive, &batches)?;
            Ok::<_, StoreError>((batches, logs, streams))
        })?;
        let now = Instant::now();
        for archived in &batches {
            let stream = streams.get(&archived.stream_id);
            let Some((stream, log)) = stream.and_then(|stream| Some((stream, logs.get(&stream.log_id)?))) else {
                // Nothing is known of its stream: it must not be looked at for ever.
                self.projection.skip(archived.id);
                continue;
            };
            if self.projection.must_rebuild(log) {
                self.projection.skip(archived.id);
                self.wait_for_rebuild(log.id, now);
            } else {
                self.projection.follow(archived, self.news.columns(archived.id), log, stream)?;
            }
        }
        if !batches.is_empty() {
            self.waiting_since.get_or_insert(now);
        }
        Ok(batches.len() as u64 == u64::from(SLICE))
    }

    /// Writes the facts that are not written.
    fn flush(&mut self) -> Result<(), StoreError> {
        let projection = &mut self.projection;
        in_transaction(self.facts.as_mut(), |facts| projection.write(facts))?;
        self.projection.written();
        self.waiting_since = None;
        Ok(())
    }

    /// Rebuilds the facts of a log from its batches, in the order of its streams.
    fn rebuild(&mut self, log_id: i64) -> Result<(), StoreError> {
        self.flush()?;
        let began = Instant::now();
        let (projection, facts, news) = (&mut self.projection, self.facts.as_mut(), &self.news);
        let (steps, tell) = (&mut self.steps, &mut self.tell);
        let mut done = 0;
        self.store.read(|archive| {
            let Some(log) = received::log(archive, log_id)? else {
                // It has become a part of another one.
                return in_transaction(facts, |facts| projection.forget(facts, log_id));
            };
            let through = received::last_batch_id(archive)?;
            in_transaction(facts, |facts| {
                projection.forget(facts, log_id)?;
                projection.project(archive, facts, &log, through, &mut || {
                    done += 1;
                    if let (Some(steps), 0) = (steps.as_mut(), done % WORD_AFTER) {
                        steps.batches_done += WORD_AFTER;
                        tell(Some(*steps));
                    }
                    if news.stops() { Err(told_to_stop()) } else { Ok(()) }
                })?;
                projection.write(facts)
            })
        })?;
        self.projection.written();
        self.rebuilds.remove(&log_id);
        if let Some(steps) = &mut self.steps {
            steps.logs_done += 1;
            steps.batches_done += done % WORD_AFTER;
            (self.tell)(Some(*steps));
        }
        tracing::info!(
            code = codes::LOG_REBUILT,
            log_id,
            batches = done,
            milliseconds = began.elapsed().as_millis() as u64,
            "the facts of a log were rebuilt in the order of its streams"
        );
        Ok(())
    }

    fn stop_if_told(&self) -> Result<(), StoreError> {
        if self.news.stops() { Err(told_to_stop()) } else { Ok(()) }
    }
}

fn told_to_stop() -> StoreError {
    StoreError::new(Failure::Stopped, "the aggregator was told to stop")
}

/// Returns the logs and the streams of batches, by their ids.
#[allow(clippy::type_complexity)]
fn origins(
    archive: &mut dyn Connection,
    batches: &[Archived],
) -> Result<(HashMap<i64, Log>, HashMap<i64, Stream>), StoreError> {
    let (mut logs, mut streams) = (HashMap::new(), HashMap::new());
    for archived in batches {
        if streams.contains_key(&archived.stream_id) {
            continue;
        }
        let Some(stream) = streams::stream(archive, archived.stream_id)? else { continue };
        if !logs.contains_key(&stream.log_id)
            && let Some(log) = received::log(archive, stream.log_id)?
        {
            logs.insert(log.id, log);
        }
        streams.insert(stream.id, stream);
    }
    Ok((logs, streams))
}

fn report_discarded(discarded: Option<Discarded>, origin: &Origin) {
    match discarded {
        None | Some(Discarded::Missing) => {}
        Some(Discarded::OtherTimeZone(before)) => tracing::warn!(
            code = codes::TIME_ZONE_CHANGED,
            before,
            now = origin.time_zone,
            "the billing time zone has changed: all facts are rebuilt"
        ),
        Some(why) => {
            let reason = match why {
                Discarded::Damaged(reason) => format!("they are damaged: {reason}"),
                Discarded::OtherVersion => "another version has made them".into(),
                _ => "they were made of another archive, or of a later state of this one".into(),
            };
            tracing::warn!(code = codes::FACTS_DISCARDED, reason, "all facts are made again");
        }
    }
}
