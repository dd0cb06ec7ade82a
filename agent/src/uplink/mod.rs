//! The stream to the aggregator: batches up, acknowledgements down.
//!
//! - Several batches are in flight at once. The agent deletes a batch from the buffer only after the aggregator's
//!   result says that the batch is durable.
//! - A batch that exceeds a limit of the aggregator is split, and sent in parts.
//! - After a connection fault, the agent waits before the next attempt. The wait doubles each time, up to a limit, and
//!   is randomised, so that the agents of a fleet do not all reconnect at once. Capture goes on meanwhile.
//! - If the aggregator lacks a part of a stream, the agent reads the stream again from its log. If the log is gone, the
//!   agent accepts the gap and the aggregator records it.

mod backoff;
mod ended;
mod flight;
mod offer;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use seatmeter_proto::split;
use seatmeter_proto::transport::{Dialer, WINDOW};
use seatmeter_proto::v1::ingest_request::Message as Up;
use seatmeter_proto::v1::ingest_response::Message as Down;
use seatmeter_proto::v1::ingest_service_client::IngestServiceClient;
use seatmeter_proto::v1::{
    BatchOutcome, BatchResult, Heartbeat, Hello, IngestRequest, IngestResponse, Limits, Welcome,
};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::buffer::{Buffer, BufferError};
use crate::capture::Capture;
use crate::checkpoint::{Rewind, RewindCause};
use crate::codes;
use crate::health::{self, UplinkState, UplinkStatus};
use crate::identity::keeper::Ties;
use backoff::Backoff;
use ended::{Ended, reason_in_words};
use flight::{Flight, Part, Sent};

/// How often the agent reports its state to the aggregator.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// How long the agent waits for any answer while batches are in flight, before it closes the connection.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The agent sends no further batch once this many bytes are in flight, whatever the number of batches.
const BYTES_IN_FLIGHT: usize = WINDOW as usize;

/// The limit on batches in flight, if the aggregator names none.
const BATCHES_IN_FLIGHT: usize = 8;

/// Delivers the batches in the buffer until told to stop.
pub struct Uplink {
    /// The dialer that connects to the aggregator.
    pub dialer: Dialer,
    /// The agent's Hello message; clock and epoch are filled in for each connection.
    pub hello: Hello,
    /// The buffer with the batches to deliver.
    pub buffer: Arc<Buffer>,
    /// The capture, which reads a stream again if the aggregator lacks a part of it.
    pub capture: Arc<Capture>,
    /// The channel that publishes the state of delivery.
    pub status: watch::Sender<UplinkStatus>,
    /// What there is to tell, and to hear, of the agent's certificate.
    pub ties: Ties,
    /// What the key of pseudonyms is known by; empty if names are sent.
    pub pseudonym_key_id: String,
}

/// An open stream to the aggregator.
struct Session {
    requests: mpsc::Sender<IngestRequest>,
    answers: Streaming<IngestResponse>,
    limits: Limits,
    /// The buffer's epoch when the stream was opened.
    epoch: String,
    /// The incarnation of the aggregator's database.
    incarnation: String,
    /// Whether the aggregator's database has all that was acknowledged.
    is_delivered: bool,
    flight: Flight,
}

impl Uplink {
    /// Delivers until `stop` becomes true.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut backoff = Backoff::default();
        loop {
            let before = self.acknowledged_at();
            let ended = match self.deliver(&mut stop).await {
                Ok(()) => return,
                Err(ended) => ended,
            };
            if self.acknowledged_at() != before {
                backoff = Backoff::default();
            }
            match ended {
                Ended::Stop => return,
                Ended::Renewed => continue,
                Ended::Resend => {
                    tracing::warn!(code = codes::UPLINK_RESEND, reason = %ended, "delivery begins again");
                }
                ended => {
                    if ended.is_of_the_certificate() {
                        self.ties.refused.notify_one();
                    }
                    self.report_down(&ended);
                }
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next()) => {}
                () = self.ties.renewed.notified() => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    fn acknowledged_at(&self) -> Option<i64> {
        self.status.borrow().acknowledged_at
    }

    /// Reports that delivery fails, once for each reason, and records since when.
    fn report_down(&self, ended: &Ended) {
        // Of a certificate that is refused, the keeper knows more.
        let trouble = self.ties.trouble().filter(|_| ended.is_of_the_certificate());
        let reason = trouble.unwrap_or_else(|| ended.to_string());
        let since = match &self.status.borrow().state {
            UplinkState::Down { reason: told, .. } if *told == reason => return,
            UplinkState::Down { since, .. } => *since,
            _ => Timestamp::now().as_second(),
        };
        tracing::error!(
            code = codes::UPLINK_DOWN,
            reason,
            cause = ended.chain(),
            "batches wait in the buffer; trying again"
        );
        self.status.send_modify(|status| status.state = UplinkState::Down { since, reason });
    }

    /// Connects and delivers. Returns `Ok` if the agent stops.
    async fn deliver(&self, stop: &mut watch::Receiver<bool>) -> Result<(), Ended> {
        let mut session = tokio::select! {
            session = self.open() => session?,
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        };
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut changes = self.capture.changes();
        // The deadline for an answer. Only an answer, or the first batch in flight, moves it.
        let mut due = Instant::now() + ANSWER_TIMEOUT;
        loop {
            if self.buffer.epoch() != session.epoch {
                return Err(Ended::Resend);
            }
            if session.flight.is_empty() {
                due = Instant::now() + ANSWER_TIMEOUT;
            }
            tokio::select! {
                filled = self.fill(&mut session) => filled?,
                () = tokio::time::sleep_until(due) => return Err(Ended::Silent),
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
            }
            tokio::select! {
                message = session.answer() => {
                    due = Instant::now() + ANSWER_TIMEOUT;
                    if let Down::Acknowledgement(acknowledgement) = message? {
                        self.settle(&acknowledgement.results, &mut session.flight).await?;
                    }
                }
                () = self.buffer.appended() => {}
                () = tokio::time::sleep_until(due), if !session.flight.is_empty() => return Err(Ended::Silent),
                _ = heartbeat.tick() => {
                    self.note_delivered(&mut session).await?;
                    self.send_heartbeat(&session).await?;
                }
                Ok(()) = changes.changed() => self.send_heartbeat(&session).await?,
                () = self.ties.renewed.notified() => return Err(Ended::Renewed),
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
            }
        }
    }

    /// Opens a stream: sends Hello and waits for the aggregator's Welcome.
    async fn open(&self) -> Result<Session, Ended> {
        let mut client = IngestServiceClient::new(self.dialer.connect().await?);
        let (requests, stream) = mpsc::channel(64);
        let epoch = self.buffer.epoch();
        let clock = Some(seatmeter_proto::timestamp(Timestamp::now().as_second()));
        let buffer = self.buffer.clone();
        let generation = blocking(move || buffer.generation()).await?;
        self.ties.set_generation(&generation);
        let hello = Hello { epoch: epoch.clone(), clock, generation, ..self.hello.clone() };
        send(&requests, Up::Hello(hello)).await?;
        let opening = tokio::time::timeout(ANSWER_TIMEOUT, client.ingest(ReceiverStream::new(stream)));
        let answers = opening.await.map_err(|_| Ended::Silent)??.into_inner();
        let mut session = Session {
            requests,
            answers,
            limits: Limits::default(),
            epoch,
            incarnation: String::new(),
            is_delivered: false,
            flight: Flight::default(),
        };
        let Down::Welcome(welcome) = session.answer().await? else { return Err(Ended::Closed) };
        session.limits = welcome.limits.unwrap_or_default();
        session.incarnation.clone_from(&welcome.incarnation);
        if !welcome.generation.is_empty() {
            let (buffer, given) = (self.buffer.clone(), welcome.generation.clone());
            blocking(move || buffer.set_generation(&given)).await?;
            self.ties.set_generation(&welcome.generation);
        }
        self.offer(&mut session).await?;
        self.report_up(&welcome);
        Ok(session)
    }

    fn report_up(&self, welcome: &Welcome) {
        if self.status.borrow().state != UplinkState::Connected {
            tracing::info!(
                code = codes::UPLINK_UP,
                aggregator = self.dialer.url(),
                version = welcome.aggregator_version,
                "delivering"
            );
        }
        self.status.send_modify(|status| status.state = UplinkState::Connected);
    }

    /// Sends batches until the limit in flight is reached or the buffer has no more.
    async fn fill(&self, session: &mut Session) -> Result<(), Ended> {
        let window = match session.limits.max_batches_in_flight {
            0 => BATCHES_IN_FLIGHT,
            limit => limit.min(64) as usize,
        };
        while session.flight.len() < window && session.flight.bytes() < BYTES_IN_FLIGHT {
            if session.flight.next.is_empty() {
                self.load(session).await?;
            }
            let Some(part) = session.flight.next.pop_front() else { break };
            session.flight.note(&part);
            send(&session.requests, Up::Batch(part.batch)).await?;
        }
        Ok(())
    }

    /// Takes the next batches from the buffer, split where they exceed the aggregator's limits.
    async fn load(&self, session: &mut Session) -> Result<(), Ended> {
        let (buffer, after) = (self.buffer.clone(), session.flight.last_sequence);
        let loaded = match blocking(move || buffer.batches_after(after, BYTES_IN_FLIGHT / 2)).await {
            Err(Ended::Buffer(BufferError::Damaged { sequence })) => return self.replace_damaged(sequence).await,
            loaded => loaded?,
        };
        for batch in loaded {
            let sequence = batch.sequence;
            session.flight.last_sequence = sequence;
            match split::within(batch, &session.limits) {
                Ok(parts) => {
                    let last = parts.len() - 1;
                    let parts = parts.into_iter().enumerate();
                    session.flight.next.extend(parts.map(|(index, batch)| Part { batch, is_last: index == last }));
                }
                Err(error) => {
                    // The next batch of the stream is now marked as following a gap, so it must be loaded again.
                    self.set_aside(sequence, &error.to_string()).await?;
                    return Err(Ended::Resend);
                }
            }
        }
        Ok(())
    }

    /// Has the stream of a damaged batch read again.
    async fn replace_damaged(&self, sequence: u64) -> Result<(), Ended> {
        tracing::error!(
            code = codes::BATCH_DAMAGED,
            sequence,
            "a batch in the buffer is damaged: its log is read again, where it is still there"
        );
        let buffer = self.buffer.clone();
        if let Some(fingerprint) = blocking(move || buffer.drop_damaged(sequence)).await? {
            self.capture.rewind(Rewind { fingerprint, cause: RewindCause::Damaged, mark: 0 });
        }
        Err(Ended::Resend)
    }

    async fn send_heartbeat(&self, session: &Session) -> Result<(), Ended> {
        let buffer = self.buffer.clone();
        let depth = blocking(move || buffer.depth()).await?;
        let beat = health::heartbeat(&self.buffer, depth, &self.capture);
        let beat = Heartbeat { pseudonym_key_id: self.pseudonym_key_id.clone(), ..beat };
        // A full channel means that the aggregator does not read. This heartbeat is dropped; the next one reports the
        // state.
        let _ = session.requests.try_send(IngestRequest { message: Some(Up::Heartbeat(beat)) });
        Ok(())
    }

    /// Handles the aggregator's results: deletes durable batches, rewinds streams with a gap, and sets invalid batches
    /// aside.
    async fn settle(&self, results: &[BatchResult], flight: &mut Flight) -> Result<(), Ended> {
        let (mut done, mut has_durable) = (Vec::new(), false);
        let mut trouble = None;
        for result in results {
            let Some(sent) = flight.take(result.sequence) else { continue };
            match result.outcome() {
                BatchOutcome::Committed | BatchOutcome::Duplicate | BatchOutcome::Trimmed => {
                    has_durable = true;
                    done.extend(sent.is_last.then_some(result.sequence));
                }
                BatchOutcome::Gap => {
                    self.rewind(&sent, result, RewindCause::Lacking);
                    trouble = Some(Ended::Resend);
                }
                BatchOutcome::OtherContent => {
                    self.rewind(&sent, result, RewindCause::OtherContent);
                    trouble = Some(Ended::Resend);
                }
                BatchOutcome::Invalid => {
                    let reason = format!("{} ({})", reason_in_words(result.reason()), result.detail);
                    self.set_aside(result.sequence, &reason).await?;
                    trouble = Some(Ended::Resend);
                }
                BatchOutcome::Unavailable | BatchOutcome::Unspecified => {
                    let detail = result.detail.clone();
                    trouble = Some(Ended::Unavailable { reason: result.reason(), detail });
                }
            }
        }
        let buffer = self.buffer.clone();
        blocking(move || buffer.acknowledge(&done)).await?;
        if has_durable {
            // This alone does not notify the receivers; they see it with the next change.
            self.status.send_if_modified(|status| {
                status.acknowledged_at = Some(Timestamp::now().as_second());
                false
            });
        }
        trouble.map_or(Ok(()), Err)
    }

    /// Requests that a stream be read again.
    fn rewind(&self, sent: &Sent, result: &BatchResult, cause: RewindCause) {
        let (sequence, expected) = (result.sequence, result.expected_start_position);
        match cause {
            RewindCause::Lacking | RewindCause::Damaged => tracing::warn!(
                code = codes::STREAM_GAP,
                sequence,
                expected,
                "the aggregator lacks a part of a stream: its log is read again"
            ),
            RewindCause::OtherContent => tracing::info!(
                code = codes::STREAM_RENAMED,
                sequence,
                "the aggregator knows another file that begins as this one: the file is read again under another name"
            ),
        }
        if let Ok(fingerprint) = sent.fingerprint.as_slice().try_into() {
            self.capture.rewind(Rewind { fingerprint, cause, mark: expected });
        }
    }

    /// Sets aside a batch that the aggregator will never accept.
    async fn set_aside(&self, sequence: u64, reason: &str) -> Result<(), Ended> {
        tracing::error!(
            code = codes::BATCH_REFUSED,
            sequence,
            reason,
            "the aggregator will never take this batch: it is kept aside in the buffer; report it as a bug"
        );
        let buffer = self.buffer.clone();
        blocking(move || buffer.set_aside(sequence)).await
    }
}

impl Session {
    /// Returns the next answer. The end of the stream is an error; a message of a later version is skipped.
    async fn answer(&mut self) -> Result<Down, Ended> {
        loop {
            match self.answers.next().await {
                Some(response) => {
                    if let Some(message) = response?.message {
                        return Ok(message);
                    }
                }
                None => return Err(Ended::Closed),
            }
        }
    }
}

async fn send(sender: &mpsc::Sender<IngestRequest>, message: Up) -> Result<(), Ended> {
    sender.send(IngestRequest { message: Some(message) }).await.map_err(|_| Ended::Closed)
}

/// Runs a task on a blocking thread, because SQLite must not block the runtime's own thread.
async fn blocking<T: Send + 'static>(
    task: impl FnOnce() -> Result<T, BufferError> + Send + 'static,
) -> Result<T, Ended> {
    match spawn_blocking(task).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Ended::Stop),
    }
}
