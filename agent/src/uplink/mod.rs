//! The stream to the aggregator: batches up, acknowledgements down.
//!
//! - Several batches are on their way at once. One is deleted from the buffer when its result says that it is durable
//!   over there, and not before.
//! - After a connection fault, the next attempt waits: twice as long each time, up to a limit, and for a random part of
//!   it, so that a fleet does not come back as a stampede. Capture knows nothing of it.
//! - Where the aggregator lacks a part of a stream, the stream is read again from its log; where it is gone there, the
//!   gap is accepted and remembered by the aggregator.

mod backoff;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use seatmeter_proto::transport::{Dialer, TransportError, WINDOW};
use seatmeter_proto::v1::ingest_request::Message as Up;
use seatmeter_proto::v1::ingest_response::Message as Down;
use seatmeter_proto::v1::ingest_service_client::IngestServiceClient;
use seatmeter_proto::v1::{BatchOutcome, BatchResult, Hello, IngestRequest, IngestResponse};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::buffer::{Buffer, BufferError};
use crate::capture::Capture;
use crate::codes;
use crate::health::{self, Uplink as UplinkStatus};
use backoff::Backoff;

/// How often the agent says how it is.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// An aggregator that answers nothing at all for this long, while batches wait for an answer, is taken for gone.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// No more of the buffer than this is on its way at once, whatever the number of batches.
const BYTES_IN_FLIGHT: usize = WINDOW as usize;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    /// It could not be set up.
    #[error(transparent)]
    Connect(#[from] TransportError),
    /// The aggregator or the network ended it.
    #[error("the connection to the aggregator ended: {0}")]
    Status(#[from] tonic::Status),
    /// The aggregator closed it without a reason.
    #[error("the aggregator closed the connection")]
    Closed,
    /// The aggregator does not answer.
    #[error("the aggregator has not answered for {} seconds", ANSWER_TIMEOUT.as_secs())]
    Silent,
    /// The aggregator cannot store batches now.
    #[error("the aggregator cannot store batches now: {0}")]
    Unavailable(String),
    /// Batches must be sent from the beginning.
    #[error("batches are sent again from where the aggregator asked for")]
    Resend,
    /// The buffer failed.
    #[error(transparent)]
    Buffer(#[from] BufferError),
    /// The agent stops.
    #[error("the agent stops")]
    Stop,
}

/// Delivers what is in the buffer, until told to stop.
pub struct Uplink {
    /// The way to the aggregator.
    pub dialer: Dialer,
    /// Who speaks; clock and epoch are filled in for each connection.
    pub hello: Hello,
    /// What is delivered.
    pub buffer: Arc<Buffer>,
    /// Where it is captured.
    pub capture: Arc<Capture>,
    /// Where it is said how delivery is.
    pub status: watch::Sender<UplinkStatus>,
}

impl Uplink {
    /// Delivers until `stop` says so.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut backoff = Backoff::default();
        let mut is_down = false;
        loop {
            let before = self.acknowledged_at();
            let ended = self.session(&mut stop, &mut is_down).await;
            let reason = ended.to_string();
            if self.acknowledged_at() != before {
                backoff = Backoff::default();
            }
            match ended {
                Ended::Stop => return,
                Ended::Resend => {
                    tracing::warn!(code = codes::UPLINK_RESEND, reason, "delivery begins again");
                }
                _ => {
                    if !is_down {
                        tracing::error!(code = codes::UPLINK_DOWN, reason, "batches wait in the buffer; trying again");
                    }
                    if !is_down {
                        let since = Timestamp::now().strftime("%Y-%m-%d %H:%M:%S UTC");
                        self.status.send_modify(|status| status.state = format!("down since {since}: {reason}"));
                    }
                    is_down = true;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next()) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    fn acknowledged_at(&self) -> i64 {
        self.status.borrow().acknowledged_at
    }

    async fn session(&self, stop: &mut watch::Receiver<bool>, is_down: &mut bool) -> Ended {
        match self.deliver(stop, is_down).await {
            Ok(()) => Ended::Stop,
            Err(ended) => ended,
        }
    }

    async fn deliver(&self, stop: &mut watch::Receiver<bool>, is_down: &mut bool) -> Result<(), Ended> {
        let channel = tokio::select! {
            channel = self.dialer.connect() => channel?,
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        };
        let mut client = IngestServiceClient::new(channel);
        let (sender, requests) = mpsc::channel(64);
        let epoch = self.buffer.epoch();
        let clock = Some(seatmeter_proto::timestamp(Timestamp::now().as_second()));
        let hello = Hello { epoch: epoch.clone(), clock, ..self.hello.clone() };
        send(&sender, Up::Hello(hello)).await?;
        let opening = tokio::time::timeout(ANSWER_TIMEOUT, client.ingest(ReceiverStream::new(requests)));
        let mut answers = opening.await.map_err(|_| Ended::Silent)??.into_inner();
        let Some(Down::Welcome(welcome)) = answer(&mut answers).await? else { return Err(Ended::Closed) };
        if *is_down || self.acknowledged_at() == 0 {
            tracing::info!(
                code = codes::UPLINK_UP,
                aggregator = self.dialer.url(),
                version = welcome.aggregator_version,
                "delivering"
            );
        }
        *is_down = false;
        self.status.send_modify(|status| status.state = "connected".into());

        let window = welcome.max_batches_in_flight.clamp(1, 64) as usize;
        let mut flight = Flight::default();
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.buffer.epoch() != epoch {
                return Err(Ended::Resend);
            }
            while flight.sent.len() < window && flight.bytes() < BYTES_IN_FLIGHT {
                if !self.send_next(&sender, &mut flight).await? {
                    break;
                }
            }
            tokio::select! {
                message = answer(&mut answers) => match message? {
                    Some(Down::Acknowledgement(acknowledgement)) => {
                        self.settle(&acknowledgement.results, &mut flight).await?;
                        // No news: it is said with the next.
                        self.status.send_if_modified(|status| {
                            status.acknowledged_at = Timestamp::now().as_second();
                            false
                        });
                    }
                    Some(Down::Welcome(_)) | None => {}
                },
                () = self.buffer.appended() => {}
                () = tokio::time::sleep(ANSWER_TIMEOUT), if !flight.sent.is_empty() => return Err(Ended::Silent),
                _ = heartbeat.tick() => {
                    let buffer = self.buffer.clone();
                    let depth = blocking(move || buffer.depth()).await?;
                    let beat = health::heartbeat(depth, self.buffer.quota(), &self.capture);
                    send(&sender, Up::Heartbeat(beat)).await?;
                }
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
            }
        }
    }

    /// Sends the next batch that is not on its way yet. Returns whether there was one.
    async fn send_next(&self, sender: &mpsc::Sender<IngestRequest>, flight: &mut Flight) -> Result<bool, Ended> {
        if flight.next.is_empty() {
            let (buffer, after) = (self.buffer.clone(), flight.last_sequence);
            let batches = blocking(move || buffer.batches_after(after, BYTES_IN_FLIGHT / 2)).await?;
            flight.next.extend(batches);
        }
        let Some(batch) = flight.next.pop_front() else { return Ok(false) };
        flight.last_sequence = batch.sequence;
        let fingerprint = batch.stream.as_ref().map(|stream| stream.fingerprint.clone()).unwrap_or_default();
        flight.sent.push_back(Sent { sequence: batch.sequence, bytes: batch.columns.len(), fingerprint });
        send(sender, Up::Batch(batch)).await?;
        Ok(true)
    }

    /// Does what the aggregator's results ask for.
    async fn settle(&self, results: &[BatchResult], flight: &mut Flight) -> Result<(), Ended> {
        let mut done = Vec::new();
        let mut trouble = None;
        for result in results {
            let Some(sent) = flight.take(result.sequence) else { continue };
            match result.outcome() {
                BatchOutcome::Committed | BatchOutcome::Duplicate | BatchOutcome::Trimmed => done.push(result.sequence),
                BatchOutcome::Gap => {
                    tracing::warn!(
                        code = codes::STREAM_GAP,
                        sequence = result.sequence,
                        expected = result.expected_start,
                        "the aggregator lacks a part of a stream: its log is read again"
                    );
                    if let Ok(fingerprint) = sent.fingerprint.as_slice().try_into() {
                        self.capture.rewind(fingerprint);
                    }
                    trouble = Some(Ended::Resend);
                }
                BatchOutcome::Invalid => {
                    tracing::error!(
                        code = codes::BATCH_REFUSED,
                        sequence = result.sequence,
                        reason = result.message,
                        "the aggregator will never take this batch: it is kept aside in the buffer; report it as a bug"
                    );
                    let (buffer, sequence) = (self.buffer.clone(), result.sequence);
                    blocking(move || buffer.set_aside(sequence)).await?;
                    trouble = Some(Ended::Resend);
                }
                BatchOutcome::Unavailable | BatchOutcome::Unspecified => {
                    trouble = Some(Ended::Unavailable(result.message.clone()));
                }
            }
        }
        let buffer = self.buffer.clone();
        blocking(move || buffer.acknowledge(&done)).await?;
        trouble.map_or(Ok(()), Err)
    }
}

/// What is on its way.
#[derive(Default)]
struct Flight {
    next: std::collections::VecDeque<seatmeter_proto::v1::Batch>,
    sent: std::collections::VecDeque<Sent>,
    last_sequence: u64,
}

struct Sent {
    sequence: u64,
    bytes: usize,
    fingerprint: Vec<u8>,
}

impl Flight {
    fn bytes(&self) -> usize {
        self.sent.iter().map(|sent| sent.bytes).sum()
    }

    fn take(&mut self, sequence: u64) -> Option<Sent> {
        let index = self.sent.iter().position(|sent| sent.sequence == sequence)?;
        self.sent.remove(index)
    }
}

async fn send(sender: &mpsc::Sender<IngestRequest>, message: Up) -> Result<(), Ended> {
    sender.send(IngestRequest { message: Some(message) }).await.map_err(|_| Ended::Closed)
}

/// The next answer; an end of the stream is an error.
async fn answer(answers: &mut Streaming<IngestResponse>) -> Result<Option<Down>, Ended> {
    match answers.next().await {
        Some(response) => Ok(response?.message),
        None => Err(Ended::Closed),
    }
}

/// SQLite blocks: it never runs on the runtime's own thread.
async fn blocking<T: Send + 'static>(
    task: impl FnOnce() -> Result<T, BufferError> + Send + 'static,
) -> Result<T, Ended> {
    match spawn_blocking(task).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Ended::Stop),
    }
}
