//! The archiver: the only writer of the archive.
//!
//! Batches are made durable: each group is committed with the marks of its streams, and only then answered. What follows from
//! them is the projector's, which is told that there is news, and which the archiver never waits for.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use seatmeter_count::Day;
use seatmeter_proto::v1::{Heartbeat, Hello};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::horizon::Horizon;
use super::news::News;
use super::stream_registry::{Placed, StreamRegistry};
use super::{Answer, Answers, Delivery, Outcome, Refusal};
use crate::codes;
use crate::store::engine::Connection;
use crate::store::{Failure, Store, StoreError, agents, in_transaction, settings};

/// How long the archiver waits before it tries again to use a database that failed, if no command comes.
const RECOVERY: Duration = Duration::from_secs(1);

/// The most commands that are committed together.
const GROUP: usize = 32;

/// A command to the archiver.
pub enum Command {
    /// Record that an agent has connected. The number is the seconds by which its clock is ahead.
    Hello(Arc<Hello>, i64),
    /// Record the state of an agent. The number is the seconds by which its clock is ahead.
    Heartbeat(Arc<Hello>, Box<Heartbeat>, i64),
    /// Archive a batch and answer it.
    Batch(Box<Delivery>),
    /// Answer with the marks of these streams of an agent, and the check value of each; empty where it is not known.
    Marks(Arc<Hello>, Vec<Vec<u8>>, oneshot::Sender<Vec<(u64, Vec<u8>)>>),
    /// Record what an operator says. The answer comes once that is durable.
    Say(Word, oneshot::Sender<()>),
    /// Stop. Streams of agents that are still open do not keep the archiver alive.
    Stop,
}

/// What an operator says. Without a day, it takes back what was said before.
pub enum Word {
    /// The day on which the first line of the stream with this id was written.
    DateOf(i64, Option<Day>),
    /// The first day on which the license server of this name must report.
    ExpectedFrom(String, Option<Day>),
    /// The first day on which the license server of this name need not report any more.
    RetiredFrom(String, Option<Day>),
    /// The license server of the first name has the second one.
    Renamed(String, String),
}

/// Executes commands until it is told to stop.
pub struct Archiver {
    store: Store,
    connection: Box<dyn Connection>,
    incarnation: String,
    streams: StreamRegistry,
    news: Arc<News>,
    /// Whether the state in memory is that of the database; false after a failure, until the state is reloaded.
    is_sound: bool,
}

impl Archiver {
    /// Opens the archive for writing.
    pub fn open(store: Store, news: Arc<News>) -> Result<Self, StoreError> {
        let mut connection = store.archiver()?;
        let horizon = Horizon::load(connection.as_mut(), Timestamp::now().as_second())?;
        let incarnation = settings::incarnation(connection.as_mut())?;
        let streams = StreamRegistry::load(connection.as_mut(), horizon)?;
        Ok(Self { store, connection, incarnation, streams, news, is_sound: true })
    }

    /// Returns the incarnation of the archive.
    pub fn incarnation(&self) -> &str {
        &self.incarnation
    }

    /// Executes commands until [`Command::Stop`] comes or all senders are gone.
    pub fn run(mut self, timers: &Handle, mut commands: mpsc::Receiver<Command>) {
        while let Some(group) = self.next_group(timers, &mut commands) {
            let stops = group.iter().any(|command| matches!(command, Command::Stop));
            if !self.is_sound
                && let Err(error) = self.recover()
            {
                tracing::error!(code = codes::STORE_FAILED, reason = %error, "the database cannot be used; trying again");
                refuse(&group, &error);
            } else if let Err(error) = self.receive(group) {
                tracing::error!(code = codes::STORE_FAILED, reason = %error, "nothing is acknowledged; trying again with the next batch");
                self.is_sound = false;
            }
            if stops {
                break;
            }
        }
    }

    /// Returns the waiting commands; waits for the first one. After a failure, returns an empty group if none comes in time.
    /// Returns `None` when all senders are gone.
    fn next_group(&self, timers: &Handle, commands: &mut mpsc::Receiver<Command>) -> Option<Vec<Command>> {
        let mut group = Vec::new();
        let first = if self.is_sound {
            commands.blocking_recv()
        } else {
            match timers.block_on(async { timeout(RECOVERY, commands.recv()).await }) {
                Ok(first) => first,
                Err(_) => return Some(group),
            }
        };
        group.push(first?);
        while group.len() < GROUP
            && let Ok(command) = commands.try_recv()
        {
            group.push(command);
        }
        Some(group)
    }

    /// Archives a group of commands in one transaction, answers them, and tells the projector.
    fn receive(&mut self, group: Vec<Command>) -> Result<(), StoreError> {
        let horizon_before = self.streams.horizon();
        let placed = match self.archive(&group) {
            Ok(placed) => placed,
            Err(error) => {
                refuse(&group, &error);
                return Err(error);
            }
        };
        let mut deliveries = Vec::new();
        for command in group {
            match command {
                Command::Batch(delivery) => deliveries.push(delivery),
                Command::Marks(hello, fingerprints, answer) => {
                    // The agent may have disconnected.
                    let _ = answer.send(self.streams.marks(&hello, &fingerprints));
                }
                // The operator may have disconnected.
                Command::Say(_, answer) => drop(answer.send(())),
                _ => {}
            }
        }
        let ids: Vec<Option<i64>> = placed.iter().map(|placed| placed.batch_id).collect();
        answer_all(deliveries.iter().map(|delivery| &**delivery).zip(placed));
        let opened = ids.into_iter().zip(deliveries).filter_map(|(id, delivery)| Some((id?, delivery.columns)));
        let horizon = self.streams.horizon();
        let horizon = (horizon != horizon_before).then_some(horizon);
        self.news.tell(opened.collect(), self.streams.take_rebuilds(), horizon);
        Ok(())
    }

    /// Makes a group of commands durable. Returns the result of each batch, in the order of the batches.
    fn archive(&mut self, group: &[Command]) -> Result<Vec<Placed>, StoreError> {
        let now = Timestamp::now().as_second();
        let streams = &mut self.streams;
        in_transaction(self.connection.as_mut(), |connection| {
            let mut placed = Vec::new();
            for command in group {
                match command {
                    Command::Hello(hello, ahead) => {
                        let server = streams.server(connection, hello, now)?;
                        agents::save_agent(connection, server, hello, &Heartbeat::default(), now, *ahead)?;
                        streams.move_horizon(connection, now, *ahead)?;
                    }
                    Command::Heartbeat(hello, heartbeat, ahead) => {
                        let server = streams.server(connection, hello, now)?;
                        agents::save_agent(connection, server, hello, heartbeat, now, *ahead)?;
                        streams.hear(connection, server, hello, heartbeat, now)?;
                        streams.find_own(connection, (hello, heartbeat), now)?;
                        streams.move_horizon(connection, now, *ahead)?;
                    }
                    Command::Batch(delivery) => placed.push(streams.place(connection, delivery, now)?),
                    Command::Say(word, _) => match word {
                        Word::DateOf(stream, day) => streams.set_date(connection, *stream, *day)?,
                        Word::ExpectedFrom(name, day) => streams.expect(connection, name, *day)?,
                        Word::RetiredFrom(name, day) => streams.retire(connection, name, *day)?,
                        Word::Renamed(name, new_name) => streams.rename(connection, name, new_name)?,
                    },
                    Command::Marks(..) | Command::Stop => {}
                }
            }
            streams.save_intake(connection, now)?;
            Ok(placed)
        })
    }

    /// Reloads the state in memory, which can be ahead of the database after a failure.
    fn recover(&mut self) -> Result<(), StoreError> {
        self.connection.rollback();
        *self = Self::open(self.store.clone(), self.news.clone())?;
        Ok(())
    }
}

/// Answers each agent once for all its batches in a group.
fn answer_all<'a>(placed: impl Iterator<Item = (&'a Delivery, Placed)>) {
    let mut by_agent: Vec<(&Answers, Vec<Answer>)> = Vec::new();
    for (delivery, Placed { outcome, expected_start_position, .. }) in placed {
        let answer = Answer { sequence: delivery.batch.sequence, outcome, expected_start_position };
        match by_agent.iter_mut().find(|(known, _)| known.same_channel(&delivery.answers)) {
            Some((_, answers)) => answers.push(answer),
            None => by_agent.push((&delivery.answers, vec![answer])),
        }
    }
    for (channel, answers) in by_agent {
        // An agent that has disconnected sends its batches again later, and then learns that they are known.
        let _ = channel.try_send(answers);
    }
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
