//! The only writer to the database.
//!
//! Batches are made durable first: each group is committed with the marks of its streams, and only then answered. Facts
//! are projected in memory and written a little later, with the projection's own mark, in one transaction. After a
//! crash, the batches after that mark are projected again: no event counts twice, and none is left out.
//!
//! Batches of a log normally come in the order of its streams. Where they do not (an old file is read after a newer
//! one), the log's facts are rebuilt from the archive, in the right order, once no more batches of the log come.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use seatmeter_count::{Calendar, Day};
use seatmeter_proto::v1::{Heartbeat, Hello};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::horizon::Horizon;
use super::log_projection::LogProjection;
use super::name_registry::NameRegistry;
use super::projection::{MANY_FACTS, Projection};
use super::stream_registry::{NewPart, Placed, StreamRegistry};
use super::{Answer, Answers, Delivery, Outcome, Refusal};
use crate::codes;
use crate::store::engine::Connection;
use crate::store::log_state::LogState;
use crate::store::received::{self, Log};
use crate::store::settings::{self, set_setting, setting};
use crate::store::{Failure, Store, StoreError, facts, in_transaction, usage};

/// How long no command must come before facts are written.
const IDLE: Duration = Duration::from_millis(100);
/// The longest that a fact waits before it is written. Facts are written earlier if there are [`MANY_FACTS`].
const PATIENCE: Duration = Duration::from_secs(3);

/// How long the writer waits before it tries again to use a database that failed, if no command comes.
const RECOVERY: Duration = Duration::from_secs(1);

/// How long no batch of a log must come before the log is rebuilt.
const REBUILD_QUIET: Duration = Duration::from_secs(1);
/// The longest that a log waits for its rebuild.
const REBUILD_PATIENCE: Duration = Duration::from_secs(60);

/// The most commands that are committed together.
const GROUP: usize = 32;

/// A command to the writer.
pub enum Command {
    /// Record that an agent has connected. The number is the seconds by which its clock is ahead.
    Hello(Arc<Hello>, i64),
    /// Record the state of an agent. The number is the seconds by which its clock is ahead.
    Heartbeat(Arc<Hello>, Box<Heartbeat>, i64),
    /// Archive a batch and answer it.
    Batch(Box<Delivery>),
    /// Answer with the marks of these streams of an agent.
    Marks(Arc<Hello>, Vec<Vec<u8>>, oneshot::Sender<Vec<u64>>),
    /// Record the day on which the first line of the stream with this id was written, as an operator says; `None` takes it
    /// back. The answer comes once that is durable.
    SetDate(i64, Option<Day>, oneshot::Sender<()>),
    /// Stop. Streams of agents that are still open do not keep the writer alive.
    Stop,
}

/// Executes commands until it is told to stop.
pub struct Writer {
    store: Store,
    connection: Box<dyn Connection>,
    calendar: Calendar,
    streams: StreamRegistry,
    projection: Projection,
    /// Whether the state in memory is that of the database; false after a failure, until the state is reloaded.
    is_sound: bool,
}

impl Writer {
    /// Opens the store for writing, and brings its facts up to date with the archived batches.
    pub fn open(store: Store, calendar: Calendar) -> Result<Self, StoreError> {
        let mut connection = store.writer()?;
        let zone = zone_of(&calendar);
        settings::incarnation(connection.as_mut())?;
        let stored = setting(connection.as_mut(), "time_zone")?;
        if stored.as_deref() != Some(zone) {
            in_transaction(connection.as_mut(), |connection| {
                request_rebuilds(connection)?;
                set_setting(connection, "time_zone", zone)
            })?;
            if let Some(before) = stored {
                tracing::warn!(
                    code = codes::TIME_ZONE_CHANGED,
                    before,
                    now = zone,
                    "the billing time zone has changed: all facts are rebuilt"
                );
            }
        }
        let mut writer = Self::empty(store, connection, calendar);
        writer.reload(&mut |_, _| {})?;
        Ok(writer)
    }

    /// Creates a writer that has read nothing yet.
    fn empty(store: Store, connection: Box<dyn Connection>, calendar: Calendar) -> Self {
        let horizon = Horizon::at(Timestamp::now().as_second());
        let projection = Projection::new(calendar.clone(), NameRegistry::default(), horizon);
        Self { store, connection, calendar, streams: StreamRegistry::empty(horizon), projection, is_sound: true }
    }

    /// Rebuilds the facts of all logs, whatever state they are in. Returns the number of logs.
    pub fn rebuild_all(
        store: Store,
        calendar: Calendar,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<usize, StoreError> {
        let mut connection = store.writer()?;
        in_transaction(connection.as_mut(), |connection| {
            request_rebuilds(connection)?;
            set_setting(connection, "time_zone", zone_of(&calendar))
        })?;
        let mut writer = Self::empty(store, connection, calendar);
        writer.reload(progress)?;
        Ok(writer.streams.logs.len())
    }

    /// Executes commands until [`Command::Stop`] comes or all senders are gone. Then writes the pending facts.
    pub fn run(mut self, timers: &Handle, mut commands: mpsc::Receiver<Command>) {
        while let Some(group) = self.next_group(timers, &mut commands) {
            let stops = group.iter().any(|command| matches!(command, Command::Stop));
            if !self.is_sound
                && let Err(error) = self.recover()
            {
                tracing::error!(code = codes::STORE_FAILED, reason = %error, "the database cannot be used; trying again");
                refuse(&group, &error);
            } else if let Err(error) = self.work(group) {
                tracing::error!(code = codes::STORE_FAILED, reason = %error, "nothing is acknowledged; trying again with the next batch");
                self.is_sound = false;
            }
            if stops {
                break;
            }
        }
        if let Err(error) = self.flush() {
            tracing::warn!(code = codes::FACTS_UNSAVED, reason = %error, "the last facts are projected again at the next start");
        }
    }

    /// Returns the waiting commands. Waits for the first one until other work is due, and then returns an empty group.
    /// Returns `None` when all senders are gone.
    fn next_group(&self, timers: &Handle, commands: &mut mpsc::Receiver<Command>) -> Option<Vec<Command>> {
        let mut group = Vec::new();
        let first = match self.patience() {
            None => commands.blocking_recv(),
            Some(patience) => match timers.block_on(async { timeout(patience, commands.recv()).await }) {
                Ok(first) => first,
                // No command came in time: other work is due.
                Err(_) => return Some(group),
            },
        };
        group.push(first?);
        while group.len() < GROUP
            && let Ok(command) = commands.try_recv()
        {
            group.push(command);
        }
        Some(group)
    }

    fn patience(&self) -> Option<Duration> {
        let recovery = (!self.is_sound).then_some(RECOVERY);
        let rebuild = (!self.projection.rebuilds.is_empty()).then_some(REBUILD_QUIET / 4);
        let flush = self.projection.waiting_since.map(|_| IDLE);
        [recovery, rebuild, flush].into_iter().flatten().min()
    }

    fn work(&mut self, group: Vec<Command>) -> Result<(), StoreError> {
        let is_idle = group.is_empty();
        if !is_idle {
            self.receive(group)?;
        }
        if self.projection.waiting_since.is_some_and(|since| is_idle || since.elapsed() > PATIENCE) {
            self.flush()?;
        }
        let due: Vec<i64> =
            self.projection.rebuilds.iter().filter(|(_, times)| is_due(**times)).map(|(log, _)| *log).collect();
        due.into_iter().try_for_each(|log| self.rebuild(log))
    }

    /// Archives a group of commands in one transaction, answers the batches, and projects their new parts.
    fn receive(&mut self, group: Vec<Command>) -> Result<(), StoreError> {
        let placed = match self.archive(&group) {
            Ok(placed) => placed,
            Err(error) => {
                refuse(&group, &error);
                return Err(error);
            }
        };
        let now = Instant::now();
        for log in self.streams.take_rebuilds() {
            self.projection.rebuilds.entry(log).or_insert((now, now));
        }
        let mut deliveries = Vec::new();
        for command in group {
            match command {
                Command::Batch(delivery) => deliveries.push(delivery),
                Command::Marks(hello, fingerprints, answer) => {
                    // The agent may have disconnected.
                    let _ = answer.send(self.streams.marks(&hello, &fingerprints));
                }
                // The operator may have disconnected.
                Command::SetDate(_, _, answer) => drop(answer.send(())),
                _ => {}
            }
        }
        let placed: Vec<(&Delivery, Placed)> = deliveries.iter().map(|delivery| &**delivery).zip(placed).collect();
        for (delivery, part) in answer_all(placed) {
            self.project_new(delivery, part);
            if self.projection.pending.facts() > MANY_FACTS {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Makes a group of commands durable. Returns the result of each batch, in the order of the batches.
    fn archive(&mut self, group: &[Command]) -> Result<Vec<Placed>, StoreError> {
        let now = Timestamp::now().as_second();
        let (streams, projection) = (&mut self.streams, &mut self.projection);
        in_transaction(self.connection.as_mut(), |connection| {
            let mut placed = Vec::new();
            let clocks = group.iter().filter_map(|command| match command {
                Command::Hello(_, ahead) | Command::Heartbeat(_, _, ahead) => Some(*ahead),
                _ => None,
            });
            if let Some(moved) = clocks.filter_map(|ahead| projection.horizon.moved(now, ahead)).next() {
                projection.horizon = moved.save(connection)?;
                streams.move_horizon(connection, moved, projection.logs_that_change())?;
            }
            for command in group {
                match command {
                    Command::Hello(hello, ahead) => {
                        let server = streams.server(connection, hello)?;
                        received::save_agent(connection, server, hello, &Heartbeat::default(), now, *ahead)?;
                    }
                    Command::Heartbeat(hello, heartbeat, ahead) => {
                        let server = streams.server(connection, hello)?;
                        received::save_agent(connection, server, hello, heartbeat, now, *ahead)?;
                        streams.hear(connection, server, hello, heartbeat, now)?;
                    }
                    Command::Batch(delivery) => placed.push(streams.place(connection, delivery, now)?),
                    Command::SetDate(stream, day, _) => streams.set_date(connection, *stream, *day)?,
                    Command::Marks(..) | Command::Stop => {}
                }
            }
            Ok(placed)
        })
    }

    /// Projects the new part of a batch, unless its log must be rebuilt anyway.
    fn project_new(&mut self, delivery: &Delivery, part: NewPart) {
        let Some(log) = self.streams.logs.get(&part.stream.log_id) else { return };
        if log.needs_rebuild {
            let now = Instant::now();
            self.projection.rebuilds.entry(log.id).or_insert((now, now)).1 = now;
            return;
        }
        let zone = log.configured.zone().unwrap_or(TimeZone::UTC);
        self.projection.take(part.batch_id, (&part.stream, &zone), part.from, &delivery.batch, &delivery.columns);
        self.projection.waiting_since.get_or_insert_with(Instant::now);
    }

    /// Writes the pending facts.
    fn flush(&mut self) -> Result<(), StoreError> {
        let (projection, logs) = (&mut self.projection, &mut self.streams.logs);
        in_transaction(self.connection.as_mut(), |connection| projection.write(connection, logs))?;
        self.projection.written();
        Ok(())
    }

    /// Rebuilds the facts of a log from its batches, in the order of its streams.
    fn rebuild(&mut self, log_id: i64) -> Result<(), StoreError> {
        self.flush()?;
        let began = Instant::now();
        let (projection, logs) = (&mut self.projection, &mut self.streams.logs);
        let connection = self.connection.as_mut();
        self.store.read(|archive| {
            in_transaction(connection, |connection| {
                facts::forget(connection, log_id)?;
                usage::forget(connection, log_id)?;
                projection.forget(log_id);
                projection.take_archived(archive, connection, logs, log_id, i64::MAX)?;
                if let Some(log) = logs.get_mut(&log_id) {
                    log.needs_rebuild = false;
                }
                projection.write(connection, logs)
            })
        })?;
        self.projection.written();
        self.projection.rebuilds.remove(&log_id);
        tracing::info!(
            code = codes::LOG_REBUILT,
            log_id,
            milliseconds = began.elapsed().as_millis() as u64,
            "the facts of a log were rebuilt in the order of its streams"
        );
        Ok(())
    }

    /// Reloads the state in memory, which can be ahead of the database after a failure.
    fn recover(&mut self) -> Result<(), StoreError> {
        self.connection.rollback();
        self.connection = self.store.writer()?;
        self.reload(&mut |_, _| {})?;
        self.is_sound = true;
        Ok(())
    }

    /// Reads the state from the database, and brings the facts up to date. `progress` gets the number of logs that are
    /// done, and of all.
    fn reload(&mut self, progress: &mut dyn FnMut(usize, usize)) -> Result<(), StoreError> {
        let connection = self.connection.as_mut();
        let horizon = Horizon::load(connection, Timestamp::now().as_second())?;
        self.streams = StreamRegistry::load(connection, horizon)?;
        self.projection = Projection::new(self.calendar.clone(), NameRegistry::load(connection)?, horizon);
        let logs: Vec<Log> = self.streams.logs.values().cloned().collect();
        let all = logs.len();
        for (done, log) in logs.into_iter().enumerate() {
            progress(done, all);
            if log.needs_rebuild {
                self.rebuild(log.id)?;
            } else {
                let saved = LogState::read(&log.state)?;
                let restored = LogProjection::restore(&saved, log.last_line_at, &mut self.projection.names);
                self.projection.logs.insert(log.id, restored);
                let (projection, logs) = (&mut self.projection, &mut self.streams.logs);
                let connection = self.connection.as_mut();
                self.store.read(|archive| {
                    in_transaction(connection, |connection| {
                        projection.take_archived(archive, connection, logs, log.id, i64::MAX)?;
                        projection.write(connection, logs)
                    })
                })?;
                self.projection.written();
            }
        }
        Ok(())
    }
}

/// Returns the name of the time zone whose days the facts are made of.
fn zone_of(calendar: &Calendar) -> &str {
    calendar.zone().iana_name().unwrap_or("UTC")
}

/// Requests that the facts of every log be rebuilt.
fn request_rebuilds(connection: &mut dyn Connection) -> Result<(), StoreError> {
    received::logs(connection)?.iter().try_for_each(|log| received::request_rebuild(connection, log.id))
}

fn is_due((since, last): (Instant, Instant)) -> bool {
    last.elapsed() >= REBUILD_QUIET || since.elapsed() >= REBUILD_PATIENCE
}

/// Answers each agent once for all its batches in a group. Returns the new parts, which must be projected.
fn answer_all(placed: Vec<(&Delivery, Placed)>) -> Vec<(&Delivery, NewPart)> {
    let mut by_agent: Vec<(&Answers, Vec<Answer>)> = Vec::new();
    let mut new = Vec::new();
    for (delivery, Placed { outcome, expected_start_position, new: part }) in placed {
        let answer = Answer { sequence: delivery.batch.sequence, outcome, expected_start_position };
        match by_agent.iter_mut().find(|(known, _)| known.same_channel(&delivery.answers)) {
            Some((_, answers)) => answers.push(answer),
            None => by_agent.push((&delivery.answers, vec![answer])),
        }
        new.extend(part.map(|part| (delivery, part)));
    }
    for (channel, answers) in by_agent {
        // An agent that has disconnected sends its batches again later, and then learns that they are known.
        let _ = channel.try_send(answers);
    }
    new
}

/// Tells agents that their batches could not be stored.
fn refuse(group: &[Command], error: &StoreError) {
    for command in group {
        if let Command::Batch(delivery) = command {
            let refusal = match error.failure {
                Failure::DiskFull => Refusal::DiskFull,
                _ => Refusal::DatabaseFailed,
            };
            let outcome = Outcome::Refused(refusal);
            let answer = Answer { sequence: delivery.batch.sequence, outcome, expected_start_position: 0 };
            // An agent that has disconnected sends its batches again later.
            let _ = delivery.answers.try_send(vec![answer]);
        }
    }
}
