//! The one writer.
//!
//! What agents send is made durable first: each group of batches is committed with the marks of their streams, and only
//! then answered. What it means is folded in memory, and written a little later with the fold's own mark, all in one
//! transaction. After a crash, the batches after that mark are folded again: the archive is the log of which the facts
//! are the sum, and no event can count twice or not at all.
//!
//! Batches of a log normally come in the order of its streams. Where they do not (an old log is read after a newer one),
//! the log's facts are made again from the archive, in the right order, as soon as nothing more comes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use seatmeter_count::Calendar;
use seatmeter_proto::v1::ingest_response::Message as Down;
use seatmeter_proto::v1::{
    Acknowledgement, Batch, BatchOutcome, BatchResult, Columns, Heartbeat, Hello, IngestResponse,
};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::directory::Directory;
use super::fold::{LogFold, Saved};
use super::ledger::{Facts, MANY_FACTS};
use super::received::{Delivery, Received};
use crate::codes;
use crate::store::engine::Connection;
use crate::store::received::{self, Log, Stream};
use crate::store::{Failure, Store, StoreError, facts, in_transaction, set_setting, setting, usage};

/// Facts are written when nothing has come for this long, ...
const IDLE: Duration = Duration::from_millis(100);
/// ... when the oldest has been waiting for this long, or when there are many.
const PATIENCE: Duration = Duration::from_secs(3);

/// A log's facts are made again when nothing more of it has come for this long, ...
const REFOLD_QUIET: Duration = Duration::from_secs(1);
/// ... or when it has waited for this long.
const REFOLD_PATIENCE: Duration = Duration::from_secs(60);

/// At most this many batches are committed together.
const GROUP: usize = 32;

/// What the writer is asked to do.
pub enum Order {
    /// An agent says who it is.
    Hello(Arc<Hello>, i64),
    /// An agent says how it is.
    Heartbeat(Arc<Hello>, Box<Heartbeat>, i64),
    /// An agent sends a batch, checked and opened.
    Batch(Box<Delivery>),
    /// The aggregator stops. Streams of agents that are still open have a way to the writer, which does not wait for them.
    Stop,
}

/// Takes orders until it is told to stop.
pub struct Writer {
    store: Store,
    connection: Box<dyn Connection>,
    calendar: Calendar,
    received: Received,
    facts: Facts,
}

impl Writer {
    /// Opens the store for writing, and brings its facts up to date with what was received.
    pub fn open(store: Store, calendar: Calendar) -> Result<Self, StoreError> {
        let mut connection = store.writer()?;
        let zone = calendar.zone().iana_name().unwrap_or("UTC").to_owned();
        let stored = setting(connection.as_mut(), "time_zone")?;
        if stored.as_deref() != Some(zone.as_str()) {
            in_transaction(connection.as_mut(), |connection| {
                for log in received::logs(connection)? {
                    received::demand_refold(connection, log.id)?;
                }
                set_setting(connection, "time_zone", &zone)
            })?;
            if let Some(before) = stored {
                tracing::warn!(
                    code = codes::TIME_ZONE_CHANGED,
                    before,
                    now = zone,
                    "all facts are made again: days are of another time zone"
                );
            }
        }
        let facts = Facts::new(calendar.clone(), Directory::default());
        let mut writer = Self { store, connection, calendar, received: Received::default(), facts };
        writer.reload()?;
        Ok(writer)
    }

    /// Takes orders.
    pub fn run(mut self, timers: &Handle, mut orders: mpsc::Receiver<Order>) {
        while let Some(group) = self.next_group(timers, &mut orders) {
            let stops = group.iter().any(|order| matches!(order, Order::Stop));
            if let Err(error) = self.work(group) {
                tracing::error!(code = codes::STORE_FAILED, reason = %error, "nothing is acknowledged; trying again with the next batch");
                self.recover();
            }
            if stops {
                break;
            }
        }
        if let Err(error) = self.flush() {
            tracing::warn!(code = codes::FACTS_UNSAVED, reason = %error, "the last facts are made again at the next start");
        }
    }

    /// The orders that are there, after waiting for the first as long as nothing else is to be done; `None` at the end.
    fn next_group(&self, timers: &Handle, orders: &mut mpsc::Receiver<Order>) -> Option<Vec<Order>> {
        let mut group = Vec::new();
        let first = match self.patience() {
            None => orders.blocking_recv(),
            Some(patience) => match timers.block_on(async { timeout(patience, orders.recv()).await }) {
                Ok(first) => first,
                // Nothing came: there is other work.
                Err(_) => return Some(group),
            },
        };
        group.push(first?);
        while group.len() < GROUP
            && let Ok(order) = orders.try_recv()
        {
            group.push(order);
        }
        Some(group)
    }

    fn patience(&self) -> Option<Duration> {
        let refold = (!self.facts.refolds.is_empty()).then_some(REFOLD_QUIET / 4);
        let flush = self.facts.waiting_since.map(|_| IDLE);
        [refold, flush].into_iter().flatten().min()
    }

    fn work(&mut self, group: Vec<Order>) -> Result<(), StoreError> {
        let is_idle = group.is_empty();
        if !is_idle {
            self.receive(group)?;
        }
        if self.facts.waiting_since.is_some_and(|since| is_idle || since.elapsed() > PATIENCE) {
            self.flush()?;
        }
        let due: Vec<i64> =
            self.facts.refolds.iter().filter(|(_, times)| is_due(**times)).map(|(log, _)| *log).collect();
        due.into_iter().try_for_each(|log| self.refold(log))
    }

    /// Makes a group of orders durable, answers them, and folds what is new.
    fn receive(&mut self, group: Vec<Order>) -> Result<(), StoreError> {
        let now = Timestamp::now().as_second();
        let received = &mut self.received;
        let outcome = in_transaction(self.connection.as_mut(), |connection| {
            let mut placed = Vec::new();
            for order in &group {
                placed.push(match order {
                    Order::Hello(hello, ahead) => {
                        let server = received.server(connection, hello)?;
                        received::save_agent(connection, server, hello, &Heartbeat::default(), now, *ahead)?;
                        None
                    }
                    Order::Heartbeat(hello, heartbeat, ahead) => {
                        let server = received.server(connection, hello)?;
                        received::save_agent(connection, server, hello, heartbeat, now, *ahead)?;
                        None
                    }
                    Order::Batch(delivery) => Some(received.place(connection, delivery, now)?),
                    Order::Stop => None,
                });
            }
            Ok(placed)
        });
        let placed = match outcome {
            Ok(placed) => placed,
            Err(error) => {
                refuse(&group, &error);
                return Err(error);
            }
        };
        let mut answers: Vec<(&Delivery, Vec<BatchResult>)> = Vec::new();
        let mut to_fold = Vec::new();
        for (order, placed) in group.iter().zip(placed) {
            let (Order::Batch(delivery), Some(placed)) = (order, placed) else { continue };
            let result = BatchResult {
                sequence: delivery.batch.sequence,
                outcome: placed.outcome.into(),
                expected_start: placed.expected,
                message: String::new(),
            };
            match answers.iter_mut().find(|(known, _)| known.answer.same_channel(&delivery.answer)) {
                Some((_, results)) => results.push(result),
                None => answers.push((delivery, vec![result])),
            }
            to_fold.extend(placed.fold.map(|fold| (delivery, fold)));
        }
        for (delivery, results) in answers {
            // An agent that has gone meanwhile sends its batches again, and is told that they are known.
            let _ = delivery.answer.try_send(Ok(acknowledgement(results)));
        }
        for (delivery, (id, stream, from)) in to_fold {
            self.fold_new(id, &stream, from, &delivery.batch, &delivery.columns);
            if self.facts.book.facts() > MANY_FACTS {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Folds a batch that has just been received, unless its log must be folded again anyway.
    fn fold_new(&mut self, id: i64, stream: &Stream, from: u64, batch: &Batch, columns: &Columns) {
        let Some(log) = self.received.logs.get(&stream.log_id) else { return };
        if log.needs_refold {
            let now = Instant::now();
            self.facts.refolds.entry(log.id).or_insert((now, now)).1 = now;
            return;
        }
        self.facts.take(id, stream, from, batch, columns);
        self.facts.waiting_since.get_or_insert_with(Instant::now);
    }

    /// Writes what was folded.
    fn flush(&mut self) -> Result<(), StoreError> {
        let (fold, logs) = (&mut self.facts, &mut self.received.logs);
        in_transaction(self.connection.as_mut(), |connection| fold.write(connection, logs))?;
        self.facts.written();
        Ok(())
    }

    /// Makes the facts of a log again, from its batches, in the order of its streams.
    fn refold(&mut self, log_id: i64) -> Result<(), StoreError> {
        self.flush()?;
        let began = Instant::now();
        let (fold, logs) = (&mut self.facts, &mut self.received.logs);
        let connection = self.connection.as_mut();
        self.store.read(|archive| {
            in_transaction(connection, |connection| {
                facts::forget(connection, log_id)?;
                usage::forget(connection, log_id)?;
                fold.forget(log_id);
                fold.take_archived(archive, connection, logs, log_id, i64::MAX)?;
                if let Some(log) = logs.get_mut(&log_id) {
                    log.needs_refold = false;
                }
                fold.write(connection, logs)
            })
        })?;
        self.facts.written();
        self.facts.refolds.remove(&log_id);
        tracing::info!(
            code = codes::LOG_REFOLDED,
            log_id,
            milliseconds = began.elapsed().as_millis() as u64,
            "facts were made again in the order of the log"
        );
        Ok(())
    }

    /// Makes the facts of all logs again.
    pub fn rebuild(&mut self, mut progress: impl FnMut(usize, usize)) -> Result<(), StoreError> {
        let ids: Vec<i64> = self.received.logs.keys().copied().collect();
        for (index, id) in ids.iter().enumerate() {
            progress(index, ids.len());
            self.refold(*id)?;
        }
        Ok(())
    }

    /// After a failure, what is in memory can be ahead of the database: it is read anew. Where that fails too, it is
    /// tried again before the next order.
    fn recover(&mut self) {
        self.connection.rollback();
        while let Err(error) =
            self.store.writer().map(|connection| self.connection = connection).and_then(|()| self.reload())
        {
            tracing::error!(code = codes::STORE_FAILED, reason = %error, "the database cannot be opened; trying again");
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    fn reload(&mut self) -> Result<(), StoreError> {
        let connection = self.connection.as_mut();
        self.received = Received::load(connection)?;
        self.facts = Facts::new(self.calendar.clone(), Directory::load(connection)?);
        let logs: Vec<Log> = self.received.logs.values().cloned().collect();
        for log in logs {
            if log.needs_refold {
                self.refold(log.id)?;
            } else {
                let saved = Saved::read(&log.state)?;
                let restored = LogFold::restore(&saved, log.last_line_at, &mut self.facts.directory);
                self.facts.logs.insert(log.id, restored);
                let (fold, logs) = (&mut self.facts, &mut self.received.logs);
                let connection = self.connection.as_mut();
                self.store.read(|archive| {
                    in_transaction(connection, |connection| {
                        fold.take_archived(archive, connection, logs, log.id, i64::MAX)?;
                        fold.write(connection, logs)
                    })
                })?;
                self.facts.written();
            }
        }
        Ok(())
    }
}

fn is_due((since, last): (Instant, Instant)) -> bool {
    last.elapsed() >= REFOLD_QUIET || since.elapsed() >= REFOLD_PATIENCE
}

fn acknowledgement(results: Vec<BatchResult>) -> IngestResponse {
    IngestResponse { message: Some(Down::Acknowledgement(Acknowledgement { results })) }
}

/// Tells agents that their batches could not be stored.
fn refuse(group: &[Order], error: &StoreError) {
    let message = match error.failure {
        Failure::DiskFull => "no space is left on the aggregator's disk".to_owned(),
        _ => error.to_string(),
    };
    for order in group {
        if let Order::Batch(delivery) = order {
            let result = BatchResult {
                sequence: delivery.batch.sequence,
                outcome: BatchOutcome::Unavailable.into(),
                expected_start: 0,
                message: message.clone(),
            };
            // An agent that has gone meanwhile sends its batches again.
            let _ = delivery.answer.try_send(Ok(acknowledgement(vec![result])));
        }
    }
}
