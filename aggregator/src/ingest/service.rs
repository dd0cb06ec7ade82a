//! The protocol of one agent's stream: Hello first, then batches and heartbeats; each batch is answered once.

use std::pin::Pin;
use std::sync::Arc;

use jiff::Timestamp;
use seatmeter_proto::batch;
use seatmeter_proto::v1::ingest_request::Message as Up;
use seatmeter_proto::v1::ingest_response::Message as Down;
use seatmeter_proto::v1::ingest_service_server::IngestService;
use seatmeter_proto::v1::{
    Acknowledgement, Batch, BatchOutcome, BatchResult, Hello, IngestRequest, IngestResponse, Welcome,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::received::Delivery;
use super::writer::Order;
use crate::api::status::invalid;
use crate::codes;

/// So many batches of one agent may be on their way.
const MAX_IN_FLIGHT: u32 = 8;

/// A name in a Hello is at most this many bytes long.
const MAX_NAME: usize = 255;

/// An agent whose answers pile up beyond this does not read them, and is let go.
const ANSWERS: usize = 256;

/// Takes agents' streams.
pub struct Ingest {
    orders: mpsc::Sender<Order>,
}

impl Ingest {
    /// Hands what agents send to a writer.
    pub fn new(orders: mpsc::Sender<Order>) -> Self {
        Self { orders }
    }
}

type Answers = mpsc::Sender<Result<IngestResponse, Status>>;

#[tonic::async_trait]
impl IngestService for Ingest {
    type IngestStream = Pin<Box<dyn Stream<Item = Result<IngestResponse, Status>> + Send>>;

    async fn ingest(&self, request: Request<Streaming<IngestRequest>>) -> Result<Response<Self::IngestStream>, Status> {
        let mut requests = request.into_inner();
        let (answers, stream) = mpsc::channel(ANSWERS);
        let orders = self.orders.clone();
        tokio::spawn(async move {
            if let Err(status) = converse(&mut requests, &orders, &answers).await {
                // The agent has gone: it will hear it another time.
                let _ = answers.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

async fn converse(
    requests: &mut Streaming<IngestRequest>,
    orders: &mpsc::Sender<Order>,
    answers: &Answers,
) -> Result<(), Status> {
    let hello = match requests.next().await.transpose()?.and_then(|request| request.message) {
        Some(Up::Hello(hello)) => hello,
        None => return Ok(()),
        Some(_) => return Err(invalid("hello", "the first message of a stream must be a Hello")),
    };
    check(&hello)?;
    let ahead = clock_ahead(hello.clock.as_ref().map(|clock| clock.seconds));
    let hello = Arc::new(hello);
    order(orders, Order::Hello(hello.clone(), ahead)).await?;
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
        max_batches_in_flight: MAX_IN_FLIGHT,
    };
    answer(answers, Down::Welcome(welcome)).await?;
    while let Some(request) = requests.next().await.transpose()? {
        match request.message {
            Some(Up::Batch(batch)) => deliver(batch, &hello, orders, answers).await?,
            Some(Up::Heartbeat(heartbeat)) => {
                let ahead = clock_ahead(heartbeat.clock.as_ref().map(|clock| clock.seconds));
                order(orders, Order::Heartbeat(hello.clone(), Box::new(heartbeat), ahead)).await?;
            }
            Some(Up::Hello(_)) => return Err(invalid("hello", "only the first message of a stream is a Hello")),
            // A message of a later version: what it says is not for us.
            None => {}
        }
    }
    Ok(())
}

async fn deliver(
    batch: Batch,
    hello: &Arc<Hello>,
    orders: &mpsc::Sender<Order>,
    answers: &Answers,
) -> Result<(), Status> {
    match batch::open(&batch) {
        Ok(columns) => {
            let delivery = Delivery { hello: hello.clone(), batch, columns, answer: answers.clone() };
            order(orders, Order::Batch(Box::new(delivery))).await
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
            let result = BatchResult {
                sequence: batch.sequence,
                outcome: BatchOutcome::Invalid.into(),
                expected_start: 0,
                message: error.to_string(),
            };
            answer(answers, Down::Acknowledgement(Acknowledgement { results: vec![result] })).await
        }
    }
}

fn check(hello: &Hello) -> Result<(), Status> {
    for (field, value) in [("agent_id", &hello.agent_id), ("license_server", &hello.license_server)] {
        if value.trim().is_empty() {
            return Err(invalid(field, "must not be empty"));
        }
    }
    for (field, value) in [
        ("agent_id", &hello.agent_id),
        ("agent_version", &hello.agent_version),
        ("license_server", &hello.license_server),
        ("realm", &hello.realm),
        ("epoch", &hello.epoch),
        ("host", &hello.host),
    ] {
        if value.len() > MAX_NAME {
            return Err(invalid(field, "must have at most 255 bytes"));
        }
    }
    Ok(())
}

fn clock_ahead(agents: Option<i64>) -> i64 {
    agents.map_or(0, |seconds| seconds.saturating_sub(Timestamp::now().as_second()))
}

async fn order(orders: &mpsc::Sender<Order>, order: Order) -> Result<(), Status> {
    orders.send(order).await.map_err(|_| Status::unavailable("the aggregator is stopping"))
}

async fn answer(answers: &Answers, message: Down) -> Result<(), Status> {
    let response = IngestResponse { message: Some(message) };
    answers.send(Ok(response)).await.map_err(|_| Status::cancelled("the agent has gone"))
}
