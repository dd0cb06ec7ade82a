//! Fault 60: peers of every hostile kind at once, 300 connections of each, while an honest agent delivers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use seatmeter_proto::transport::Dialer;
use seatmeter_proto::v1::ingest_request::Message as Up;
use seatmeter_proto::v1::ingest_response::Message as Down;
use seatmeter_proto::v1::ingest_service_client::IngestServiceClient;
use seatmeter_proto::v1::{BatchOutcome, Hello, IngestRequest};
use seatmeter_tests::TestCluster;
use seatmeter_tests::double::batch;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

/// How many connections of each kind are kept open.
const EACH: u8 = 150;

/// The batches that the honest agent sends, one after the other is answered.
const BATCHES: u64 = 200;

/// How long an answer to it may take before the test fails: far longer than it should.
const PATIENCE: Duration = Duration::from_secs(60);

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A frame of HTTP/2 (RFC 9113, 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A call of the agents' service, in HPACK without a table (RFC 7541).
fn call() -> Vec<u8> {
    let path = b"/seatmeter.v1.IngestService/Ingest";
    let kind = b"application/grpc";
    [
        &[0x83, 0x86, 0x04, path.len() as u8][..],
        path,
        &[0x01, 1, b'x', 0x0f, 0x10, kind.len() as u8],
        kind,
        &[0x00, 2, b't', b'e', 8],
        b"trailers",
    ]
    .concat()
}

/// What hostile peers do, again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hostile {
    Silent,
    HalfPreface,
    Garbage,
    Pings,
    Settings,
    RapidReset,
    Continuation,
    OversizedFrame,
    HugeMessage,
    NeverReads,
}

const KINDS: [Hostile; 10] = [
    Hostile::Silent,
    Hostile::HalfPreface,
    Hostile::Garbage,
    Hostile::Pings,
    Hostile::Settings,
    Hostile::RapidReset,
    Hostile::Continuation,
    Hostile::OversizedFrame,
    Hostile::HugeMessage,
    Hostile::NeverReads,
];

impl Hostile {
    fn greeting(self) -> Vec<u8> {
        let begun = || [PREFACE, &frame(1, 4, 1, &call())].concat();
        match self {
            Self::Silent => Vec::new(),
            Self::HalfPreface => PREFACE[..10].to_vec(),
            Self::Garbage => (0..4096_u32).map(|at| at.wrapping_mul(2_654_435_761) as u8).collect(),
            Self::Pings | Self::Settings | Self::RapidReset => PREFACE.to_vec(),
            // Headers that do not end.
            Self::Continuation => [PREFACE, &frame(1, 0, 1, &call())].concat(),
            Self::OversizedFrame => [PREFACE, &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]].concat(),
            // A message that says it has four gigabytes.
            Self::HugeMessage => [&begun()[..], &frame(0, 0, 1, &[0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3])].concat(),
            // No window: nothing can be answered.
            Self::NeverReads => {
                [&PREFACE[..24], &frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]), &frame(1, 4, 1, &call())].concat()
            }
        }
    }

    /// Returns what is written in the `round`th turn.
    fn turn(self, round: u32) -> Vec<u8> {
        match self {
            Self::Pings => frame(6, 0, 0, &[7; 8]).repeat(64),
            Self::Settings => frame(4, 0, 0, &[]).repeat(64),
            Self::RapidReset => (0..32)
                .flat_map(|at| {
                    let stream = (round * 32 + at) * 2 + 1;
                    [frame(1, 5, stream, &call()), frame(3, 0, stream, &8_u32.to_be_bytes())].concat()
                })
                .collect(),
            Self::Continuation => frame(9, 0, 1, &[0; 16_000]),
            Self::HugeMessage => frame(0, 0, 1, &[0; 16_000]),
            Self::NeverReads => frame(1, 4, round * 2 + 3, &call()),
            Self::Silent | Self::HalfPreface | Self::Garbage | Self::OversizedFrame => Vec::new(),
        }
    }

    /// Keeps one connection open, and makes a new one whenever it is sent away, until told to stop.
    async fn press(self, address: SocketAddr, source: [u8; 4], stop: Arc<AtomicBool>, made: Arc<AtomicU64>) {
        while !stop.load(Ordering::Relaxed) {
            if let Ok(mut peer) = connect(address, source).await {
                made.fetch_add(1, Ordering::Relaxed);
                let mut round = 0;
                let mut writes = peer.write_all(&self.greeting()).await.is_ok();
                while writes && !stop.load(Ordering::Relaxed) {
                    let turn = self.turn(round);
                    round += 1;
                    writes = match turn.is_empty() {
                        // Until it is sent away.
                        true => timeout(Duration::from_millis(500), peer.read(&mut [0; 64]))
                            .await
                            .map_or(true, |read| read.is_ok_and(|read| read > 0)),
                        false => timeout(Duration::from_millis(500), peer.write_all(&turn))
                            .await
                            .map_or(true, |done| done.is_ok()),
                    };
                    sleep(Duration::from_millis(50)).await;
                }
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn connect(address: SocketAddr, source: [u8; 4]) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((source, 0).into())?;
    socket.connect(address).await
}

fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() / 1024
}

/// The honest agent is answered, memory stays within bounds, and nothing panics.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_60_hostile_peers_of_every_kind_hold_no_honest_one_up() {
    let cluster = TestCluster::running();
    let address = SocketAddr::from(([127, 0, 0, 1], cluster.listening().unwrap().agents));
    let (stop, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut peers = tokio::task::JoinSet::new();
    for (number, kind) in KINDS.into_iter().enumerate() {
        for _ in 0..EACH {
            // Each kind from two addresses, none of them the honest agent's.
            for source in [[127, 0, 1, number as u8 + 1], [127, 0, 2, number as u8 + 1]] {
                peers.spawn(kind.press(address, source, stop.clone(), made.clone()));
            }
        }
    }
    let all = 2 * u64::from(EACH) * KINDS.len() as u64;
    let since = Instant::now();
    while made.load(Ordering::Relaxed) < all {
        assert!(since.elapsed() < PATIENCE, "only {made:?} hostile connections in a minute");
        sleep(Duration::from_millis(50)).await;
    }
    let channel = Dialer::new(&cluster.agents_url(), None).unwrap().connect().await.unwrap();
    let (sender, requests) = tokio::sync::mpsc::channel(4);
    let hello = Hello { agent_id: "double".into(), license_server: "LIC01".into(), ..Hello::default() };
    sender.send(IngestRequest { message: Some(Up::Hello(hello)) }).await.unwrap();
    let mut client = IngestServiceClient::new(channel);
    let opened = timeout(PATIENCE, client.ingest(ReceiverStream::new(requests))).await.expect("it is let in");
    let mut answers = opened.unwrap().into_inner();
    let mut took = Vec::new();
    for sequence in 1..=BATCHES {
        let sent = Instant::now();
        let next = batch(sequence, (sequence - 1) * 1000, sequence * 1000);
        sender.send(IngestRequest { message: Some(Up::Batch(next)) }).await.unwrap();
        let outcome = loop {
            let answer = timeout(PATIENCE, answers.next()).await.expect("it is answered").unwrap().unwrap();
            if let Some(Down::Acknowledgement(acknowledgement)) = answer.message {
                break acknowledgement.results[0].outcome();
            }
        };
        assert_eq!(outcome, BatchOutcome::Committed);
        took.push(sent.elapsed());
        sleep(Duration::from_millis(20)).await;
    }
    took.sort_unstable();
    let at = |part: usize| took[(took.len() - 1) * part / 100].as_millis();
    let memory = memory(cluster.aggregator_pid());
    println!(
        "{all} hostile connections at once, {} made in all: an honest batch is acknowledged within {} ms (median), {} ms (99 %), {} ms \
         (longest); the aggregator's memory was at most {memory} MB",
        made.load(Ordering::Relaxed),
        at(50),
        at(99),
        at(100)
    );
    assert!(memory < 500, "{memory} MB");
    stop.store(true, Ordering::Relaxed);
    while peers.join_next().await.is_some() {}
    assert!(!cluster.read("aggregator.err").contains("panicked"));
    seatmeter_tests::wait_until("operators are answered", || {
        cluster.seatmeter(&["servers"]).status.code().is_some_and(|code| code != 4)
    });
}
