//! `seatmeter.v1.IngestService`: the protocol of one agent's stream. The agent sends a Hello first, then batches and
//! heartbeats. The aggregator answers each batch once.

use std::future::pending;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use seatmeter_proto::connection::Peer;
use seatmeter_proto::v1::ingest_request::Message as Up;
use seatmeter_proto::v1::ingest_response::Message as Down;
use seatmeter_proto::v1::ingest_service_server::IngestService;
use seatmeter_proto::v1::{
    Acknowledgement, Batch, BatchOutcome, BatchResult, Heartbeat, Hello, IngestRequest, IngestResponse, Marks, Offer,
    RefusalReason, Welcome,
};
use seatmeter_proto::{MAX_OFFER, batch};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::say;
use super::status::{ApiError, reason_of};
use crate::access::door::Door;
use crate::access::enrolment::{Admitted, EnrolmentError};
use crate::access::holders::{Arrival, PROBATION};
use crate::access::refusals::Refusals;
use crate::access::trail::Entry;
use crate::codes;
use crate::ingest::archiver::{Command, Word};
use crate::ingest::{Answer, Answers, Delivery, Outcome, Refusal};
use crate::quarantine::{self, Copy};
use crate::store::holders::{Holder, Standing};

/// The most batches of one agent that may be in flight.
const MAX_IN_FLIGHT: u32 = 8;

/// The longest text of a Hello, in bytes.
pub(super) const MAX_TEXT: usize = 255;

/// How long an agent may take to say who it is.
const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// The longest generation, in bytes.
pub(super) const MAX_GENERATION: usize = 32;

/// The most answers that wait for one agent. Answers beyond this are dropped, since the agent does not read them.
const MAX_ANSWERS: usize = 256;

/// Serves the streams of agents.
pub struct IngestApi {
    commands: mpsc::Sender<Command>,
    incarnation: String,
    door: Door,
    refusals: Arc<Refusals>,
}

impl IngestApi {
    /// Creates the service. It passes the messages of agents that the door lets in to the archiver as commands. `incarnation` is that
    /// of the database.
    pub fn new(commands: mpsc::Sender<Command>, incarnation: String, door: Door, refusals: Arc<Refusals>) -> Self {
        Self { commands, incarnation, door, refusals }
    }
}

/// Takes the messages to an agent that do not answer a batch: the Welcome, and the error that ends the stream.
type Control = mpsc::Sender<Result<IngestResponse, Status>>;

#[tonic::async_trait]
impl IngestService for IngestApi {
    type IngestStream = Pin<Box<dyn Stream<Item = Result<IngestResponse, Status>> + Send>>;

    async fn ingest(&self, request: Request<Streaming<IngestRequest>>) -> Result<Response<Self::IngestStream>, Status> {
        let peer = request.extensions().get::<Peer>().cloned().unwrap_or_default();
        let mut requests = request.into_inner();
        let (answers, answered) = mpsc::channel(MAX_ANSWERS);
        let (control, controlled) = mpsc::channel(2);
        let (commands, incarnation, door) = (self.commands.clone(), self.incarnation.clone(), self.door.clone());
        let refusals = self.refusals.clone();
        tokio::spawn(async move {
            let mut conversation =
                Conversation { commands, incarnation, door, refusals, peer, answers, control: control.clone() };
            if let Err(status) = conversation.run(&mut requests).await {
                // The agent may have disconnected already.
                let _ = control.send(Err(status)).await;
            }
        });
        let answered = ReceiverStream::new(answered).map(|answers| Ok(acknowledgement(answers)));
        Ok(Response::new(Box::pin(ReceiverStream::new(controlled).merge(answered))))
    }
}

struct Conversation {
    commands: mpsc::Sender<Command>,
    incarnation: String,
    door: Door,
    refusals: Arc<Refusals>,
    peer: Peer,
    answers: Answers,
    control: Control,
}

impl Conversation {
    /// Takes an agent's messages until the agent ends the stream.
    async fn run(&mut self, requests: &mut Streaming<IngestRequest>) -> Result<(), Status> {
        let first = timeout(HELLO_WITHIN, requests.next()).await;
        let first = first.map_err(|_| Status::from(ApiError::Protocol("a Hello must come within ten seconds")))?;
        let hello = match first.transpose()?.and_then(|request| request.message) {
            Some(Up::Hello(hello)) => hello,
            None => return Ok(()),
            Some(_) => return Err(ApiError::Protocol("the first message of a stream must be a Hello").into()),
        };
        validate(&hello)?;
        let admitted = self.admit(&hello).await?;
        let hello = Arc::new(match &admitted {
            Some(admitted) => self.in_its_place(hello, admitted).await?,
            None => hello,
        });
        self.welcome(&hello, admitted.as_ref()).await?;
        let mut given = admitted.as_ref().map(|admitted| (admitted.enrolment.clone(), admitted.holder.clone()));
        let mut leave = pin!(self.must_leave(admitted));
        loop {
            let request = tokio::select! {
                request = requests.next() => request.transpose()?,
                status = &mut leave => return Err(status),
            };
            let Some(request) = request else { return Ok(()) };
            if let Some((enrolment, holder)) = given.take() {
                self.has_generation(enrolment, holder).await;
            }
            match request.message {
                Some(Up::Batch(batch)) => self.deliver(batch, &hello).await?,
                Some(Up::Heartbeat(mut heartbeat)) => {
                    bound(&mut heartbeat);
                    let ahead = clock_ahead(heartbeat.clock.as_ref().map(|clock| clock.seconds));
                    self.enqueue(Command::Heartbeat(hello.clone(), Box::new(heartbeat), ahead)).await?;
                }
                Some(Up::Offer(offer)) => self.answer_offer(offer, &hello).await?,
                Some(Up::Hello(_)) => {
                    return Err(ApiError::Protocol("only the first message of a stream may be a Hello").into());
                }
                // A message of a later version, which this version does not know.
                None => {}
            }
        }
    }

    /// Takes note that the agent has got the generation that it was given. Where the database fails, a copy of it is known a little later.
    async fn has_generation(&self, enrolment: String, holder: Holder) {
        let Door::Enrolled(enrolments) = self.door.clone() else { return };
        let _ = spawn_blocking(move || enrolments.has_generation(&enrolment, &holder)).await;
    }

    /// Lets the agent in, or says why not.
    async fn admit(&self, hello: &Hello) -> Result<Option<Admitted>, Status> {
        let address = self.peer.address.map(|address| address.ip().to_string()).unwrap_or_default();
        let (door, shown) = (self.door.clone(), self.peer.certificate.clone());
        let (license_server, realm) = (hello.license_server.clone(), hello.realm.clone());
        let generation = hello.generation.clone();
        let arrival = Arrival { generation, host: hello.host.clone(), address: address.clone() };
        let admit = move || door.admit(shown.as_ref(), &license_server, &realm, &arrival);
        let admitted = spawn_blocking(admit).await.map_err(|_| Status::from(ApiError::Internal))?;
        let refused = match admitted {
            Ok(admitted) => return Ok(admitted),
            Err(refused) => refused,
        };
        let untold = self.refusals.note(&address);
        if let Some(untold) = untold {
            tracing::warn!(
                code = codes::AGENT_REFUSED,
                agent_id = hello.agent_id,
                license_server = hello.license_server,
                host = hello.host,
                address,
                untold,
                reason = %refused,
                "an agent is not let in"
            );
        }
        let status = Status::from(ApiError::from(refused));
        if untold.is_some() {
            let entry = Entry {
                who: hello.license_server.clone(),
                address,
                action: "Ingest".into(),
                result: reason_of(&status),
                ..Entry::default()
            };
            let refusals = self.refusals.clone();
            // If the process ends first, the health log has it.
            let _ = spawn_blocking(move || refusals.write(entry)).await;
        }
        Err(status)
    }

    /// Returns the Hello as it counts: a copy in quarantine speaks for a license server of its own.
    async fn in_its_place(&self, hello: Hello, admitted: &Admitted) -> Result<Hello, Status> {
        let number = admitted.holder.number;
        let copy = Copy { enrolment: &admitted.enrolment, number, since: admitted.holder.since };
        let (copy, agent_id) = (copy.name(&hello.license_server), copy.agent_id(&hello.agent_id));
        if admitted.holder.standing == Standing::Quarantined {
            tracing::error!(
                code = codes::AGENT_QUARANTINED,
                enrolment = admitted.enrolment,
                license_server = hello.license_server,
                copy = number,
                host = hello.host,
                address = admitted.holder.address,
                "two agents have one identity: what the later one sends is kept, and counts nowhere until an operator says what it is"
            );
        }
        match admitted.holder.standing {
            Standing::Quarantined | Standing::Rejected | Standing::Probation => {
                return Ok(Hello { license_server: copy, agent_id, ..hello });
            }
            // What it has sent as a copy, or on probation, is the license server's.
            standing if standing == Standing::Accepted || number > 1 => {
                say(&self.commands, Word::Renamed(copy, hello.license_server.clone())).await?;
            }
            _ => {}
        }
        Ok(if admitted.holder.standing == Standing::Accepted { Hello { agent_id, ..hello } } else { hello })
    }

    /// Waits until the agent must leave: its enrolment is revoked, its certificate ends, or another connection takes the place of
    /// this one. Returns what it is told.
    fn must_leave(&self, admitted: Option<Admitted>) -> impl Future<Output = Status> + use<> {
        let door = self.door.clone();
        async move {
            let (Door::Enrolled(enrolments), Some(mut admitted)) = (door, admitted) else { return pending().await };
            let now = Timestamp::now().as_second();
            let left = admitted.expires_at.saturating_sub(now);
            let left = match admitted.holder.standing {
                // It comes again, and counts if nobody else has.
                Standing::Probation => left.min(admitted.holder.since + PROBATION - now),
                _ => left,
            };
            let mut end = pin!(sleep(Duration::from_secs(left.try_into().unwrap_or(0))));
            let mut revocations = enrolments.revocations();
            loop {
                tokio::select! {
                    () = &mut end => {
                        let has_expired = admitted.expires_at <= now + left;
                        let expired = ApiError::Enrolment(EnrolmentError::Expired);
                        return if has_expired { expired } else { ApiError::Displaced }.into();
                    }
                    _ = admitted.turn.changed() => return ApiError::Displaced.into(),
                    _ = revocations.changed() => {}
                }
                let (enrolments, asked) = (enrolments.clone(), admitted.enrolment.clone());
                // Where the database does not say, the agent stays: it is asked again when it connects.
                if let Ok(Ok(false)) = spawn_blocking(move || enrolments.may_stay(&asked)).await {
                    return ApiError::Enrolment(EnrolmentError::Revoked(admitted.license_server)).into();
                }
            }
        }
    }

    async fn welcome(&self, hello: &Arc<Hello>, admitted: Option<&Admitted>) -> Result<(), Status> {
        let ahead = clock_ahead(hello.clock.as_ref().map(|clock| clock.seconds));
        self.enqueue(Command::Hello(hello.clone(), ahead)).await?;
        tracing::info!(
            code = codes::AGENT_CONNECTED,
            agent_id = hello.agent_id,
            license_server = hello.license_server,
            version = hello.agent_version,
            "an agent has connected"
        );
        let welcome = Welcome {
            aggregator_version: env!("CARGO_PKG_VERSION").into(),
            clock: Some(seatmeter_proto::timestamp(Timestamp::now().as_second())),
            limits: Some(batch::limits(MAX_IN_FLIGHT)),
            incarnation: self.incarnation.clone(),
            generation: admitted.map(|admitted| admitted.holder.issued.clone()).unwrap_or_default(),
        };
        let response = IngestResponse { message: Some(Down::Welcome(welcome)) };
        self.control.send(Ok(response)).await.map_err(|_| gone())
    }

    async fn answer_offer(&self, offer: Offer, hello: &Arc<Hello>) -> Result<(), Status> {
        if offer.fingerprints.len() > MAX_OFFER || offer.fingerprints.iter().any(|name| name.len() != 32) {
            return Err(ApiError::Protocol("an Offer has at most 1000 fingerprints, of 32 bytes each").into());
        }
        let (answer, marks) = oneshot::channel();
        self.enqueue(Command::Marks(hello.clone(), offer.fingerprints, answer)).await?;
        // Without an answer, the database failed: the agent offers its streams again.
        let marks = marks.await.map_err(|_| Status::from(ApiError::Stopping))?;
        let (positions, checks) = marks.into_iter().unzip();
        let response = IngestResponse { message: Some(Down::Marks(Marks { positions, checks })) };
        self.control.send(Ok(response)).await.map_err(|_| gone())
    }

    /// Checks a batch and hands it to the archiver, or refuses it.
    async fn deliver(&self, batch: Batch, hello: &Arc<Hello>) -> Result<(), Status> {
        match batch::open(&batch) {
            Ok(columns) => {
                let delivery = Delivery { hello: hello.clone(), batch, columns, answers: self.answers.clone() };
                self.enqueue(Command::Batch(Box::new(delivery))).await
            }
            Err(error) => {
                tracing::warn!(
                    code = codes::BATCH_INVALID,
                    agent_id = hello.agent_id,
                    license_server = hello.license_server,
                    sequence = batch.sequence,
                    reason = %error,
                    "a batch was refused"
                );
                let outcome = Outcome::Refused(Refusal::Invalid(error));
                let answer = Answer { sequence: batch.sequence, outcome, expected_start_position: 0 };
                self.answers.send(vec![answer]).await.map_err(|_| gone())
            }
        }
    }

    async fn enqueue(&self, command: Command) -> Result<(), Status> {
        self.commands.send(command).await.map_err(|_| ApiError::Stopping.into())
    }
}

fn gone() -> Status {
    Status::cancelled("the agent has closed the stream")
}

pub(super) fn validate(hello: &Hello) -> Result<(), ApiError> {
    for (field, value) in [("hello.agent_id", &hello.agent_id), ("hello.license_server", &hello.license_server)] {
        if value.trim().is_empty() {
            return Err(ApiError::invalid(field, "must not be empty"));
        }
    }
    for (field, value) in [
        ("hello.agent_id", &hello.agent_id),
        ("hello.agent_version", &hello.agent_version),
        ("hello.license_server", &hello.license_server),
        ("hello.realm", &hello.realm),
        ("hello.epoch", &hello.epoch),
        ("hello.host", &hello.host),
    ] {
        if value.len() > MAX_TEXT {
            return Err(ApiError::invalid(field, "must have at most 255 bytes"));
        }
        if value.contains('\0') {
            return Err(ApiError::invalid(field, "must not contain NUL"));
        }
    }
    if quarantine::is_name(&hello.license_server) {
        return Err(ApiError::invalid("hello.license_server", "ends as the names that copies of agents get"));
    }
    if hello.generation.len() > MAX_GENERATION {
        return Err(ApiError::invalid("hello.generation", "must have at most 32 bytes"));
    }
    Ok(())
}

/// The most sources of a heartbeat that are kept, and the most bytes of each of their texts.
const MAX_SOURCES: usize = 1000;
const MAX_SOURCE_TEXT: usize = 1024;
/// The most parts of a source that are kept, of those that the agent cannot read.
const MAX_UNREAD_PARTS: usize = 20;

/// Truncates the sources in a heartbeat, so that they fit into answers.
pub(super) fn bound(heartbeat: &mut Heartbeat) {
    heartbeat.sources.truncate(MAX_SOURCES);
    for source in &mut heartbeat.sources {
        source.unread_parts.truncate(MAX_UNREAD_PARTS);
        let parts = source.unread_parts.iter_mut().flat_map(|part| [&mut part.path, &mut part.detail]);
        for text in [&mut source.log, &mut source.detail, &mut source.time_zone].into_iter().chain(parts) {
            text.truncate(text.floor_char_boundary(MAX_SOURCE_TEXT));
        }
    }
}

fn clock_ahead(agents: Option<i64>) -> i64 {
    agents.map_or(0, |seconds| seconds.saturating_sub(Timestamp::now().as_second()))
}

fn acknowledgement(answers: Vec<Answer>) -> IngestResponse {
    let results = answers.into_iter().map(BatchResult::from).collect();
    IngestResponse { message: Some(Down::Acknowledgement(Acknowledgement { results })) }
}

impl From<Answer> for BatchResult {
    fn from(answer: Answer) -> Self {
        let (outcome, reason, detail) = match answer.outcome {
            Outcome::Committed => (BatchOutcome::Committed, RefusalReason::Unspecified, String::new()),
            Outcome::Duplicate => (BatchOutcome::Duplicate, RefusalReason::Unspecified, String::new()),
            Outcome::Trimmed => (BatchOutcome::Trimmed, RefusalReason::Unspecified, String::new()),
            Outcome::Gap => (BatchOutcome::Gap, RefusalReason::Unspecified, String::new()),
            Outcome::OtherContent => (BatchOutcome::OtherContent, RefusalReason::Unspecified, String::new()),
            Outcome::Refused(refusal) => {
                let (outcome, reason) = match &refusal {
                    Refusal::Invalid(error) => (BatchOutcome::Invalid, error.reason()),
                    Refusal::DiskFull => (BatchOutcome::Unavailable, RefusalReason::DiskFull),
                    Refusal::DatabaseFailed => (BatchOutcome::Unavailable, RefusalReason::DatabaseFailed),
                };
                (outcome, reason, refusal.to_string())
            }
        };
        Self {
            sequence: answer.sequence,
            outcome: outcome.into(),
            expected_start_position: answer.expected_start_position,
            reason: reason.into(),
            detail,
        }
    }
}
