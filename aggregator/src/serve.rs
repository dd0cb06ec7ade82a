//! The aggregator at work: two listeners, one writer, until told to stop.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use seatmeter_proto::batch::MAX_BATCH;
use seatmeter_proto::transport::{WINDOW, accept};
use seatmeter_proto::v1::DESCRIPTOR;
use seatmeter_proto::v1::fleet_service_server::FleetServiceServer;
use seatmeter_proto::v1::ingest_service_server::IngestServiceServer;
use seatmeter_proto::v1::usage_service_server::UsageServiceServer;
use seatmeter_service::manager;
use seatmeter_service::state::{self, StateError};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tonic::transport::Server;
use tonic::transport::server::Router;

use crate::api::ConcurrencyLimit;
use crate::api::fleet::FleetApi;
use crate::api::ingest::IngestApi;
use crate::api::usage::UsageApi;
use crate::codes;
use crate::config::{Config, Endpoint};
use crate::fleet::Fleet;
use crate::ingest::writer::{Command, Writer};
use crate::store::{Store, StoreError};
use crate::usage::UsageQuestions;

/// So many agents and operators may be connected.
const MAX_AGENTS: usize = 10_000;
const MAX_OPERATORS: usize = 1_000;

/// So many questions may be answered at a time.
const MAX_REQUESTS: usize = 64;

/// Orders that wait for the writer: enough to keep it busy, few enough to take little memory.
const MAX_COMMANDS: usize = 32;

/// An agent's stream can last for ever; a stopping aggregator waits this long for answers under way.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why the aggregator cannot work.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The state folder is another's, or cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}; is another aggregator running?")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The addresses cannot be told to others.
    #[error("cannot write {path}: {source}")]
    Listening {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A server failed.
    #[error("the server failed: {0}")]
    Server(#[from] tonic::transport::Error),
    /// The descriptors are damaged.
    #[error("reflection cannot be offered: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The system gives no thread.
    #[error("the writer cannot be started: {0}")]
    Writer(std::io::Error),
}

/// Serves until `stop` says so.
pub async fn serve(config: Config, stop: watch::Receiver<bool>) -> Result<(), ServeError> {
    let _lock = state::lock(&config.state)?;
    let agents = listen(&config.agents).await?;
    let operators = listen(&config.operators).await?;
    let listening = Listening::of(&agents, &operators)?;
    let store = Store::open_embedded(&config.state)?;
    let writer = WriterThread::start(&store, &config)?;
    listening.save(&config.state)?;
    manager::ready("serving");
    let living = tokio::spawn(manager::keep_alive());
    report_start(&config, &listening);
    let for_agents = agents_server(writer.commands.clone()).await;
    let for_operators = operators_server(&store, &config).await?;
    let for_agents =
        for_agents.serve_with_incoming_shutdown(accept(agents, config.agents.tls, MAX_AGENTS), stopped(stop.clone()));
    let for_operators = for_operators
        .serve_with_incoming_shutdown(accept(operators, config.operators.tls, MAX_OPERATORS), stopped(stop.clone()));
    let both = async { tokio::try_join!(for_agents, for_operators).map(drop) };
    tokio::select! {
        served = both => served?,
        () = async { stopped(stop).await; tokio::time::sleep(FAREWELL).await } => {}
    }
    manager::stopping();
    living.abort();
    writer.stop().await;
    tracing::info!(code = codes::STOPPED, "the aggregator has stopped");
    Ok(())
}

/// The writer on a thread of its own.
struct WriterThread {
    commands: mpsc::Sender<Command>,
    thread: JoinHandle<()>,
}

impl WriterThread {
    fn start(store: &Store, config: &Config) -> Result<Self, ServeError> {
        let (commands, received) = mpsc::channel(MAX_COMMANDS);
        let writer = Writer::open(store.clone(), config.calendar.clone())?;
        let timers = Handle::current();
        let thread = std::thread::Builder::new()
            .name("writer".into())
            .spawn(move || writer.run(&timers, received))
            .map_err(ServeError::Writer)?;
        Ok(Self { commands, thread })
    }

    /// Has the writer write what it has, and waits until it has ended.
    async fn stop(self) {
        // A writer that has ended already needs no command.
        let _ = self.commands.send(Command::Stop).await;
        let _ = tokio::task::spawn_blocking(move || self.thread.join()).await;
    }
}

fn report_start(config: &Config, listening: &Listening) {
    tracing::info!(
        code = codes::STARTED,
        version = env!("CARGO_PKG_VERSION"),
        agents = %listening.agents,
        operators = %listening.operators,
        state = %config.state.display(),
        time_zone = time_zone(config),
        "the aggregator has started"
    );
}

/// The IANA name of the billing time zone.
fn time_zone(config: &Config) -> &str {
    config.calendar.zone().iana_name().unwrap_or("UTC")
}

/// The services on the agents' port. Each port has a health service of its own, so that a client that asks for its
/// service learns whether it came to the right port.
async fn agents_server(commands: mpsc::Sender<Command>) -> Router {
    let ingest = IngestServiceServer::new(IngestApi::new(commands))
        .max_decoding_message_size(MAX_BATCH + (64 << 10))
        .max_encoding_message_size(1 << 20);
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<IngestServiceServer<IngestApi>>().await;
    server().add_service(ingest).add_service(health)
}

/// The services on the operators' port.
async fn operators_server(store: &Store, config: &Config) -> Result<Router, ServeError> {
    let limit = ConcurrencyLimit::new(MAX_REQUESTS);
    let questions = UsageQuestions::new(store.clone(), config.calendar.clone(), config.rules.clone());
    let usage = UsageServiceServer::new(UsageApi::new(questions, limit.clone()));
    let fleet = FleetApi::new(Fleet::new(store.clone()), time_zone(config).to_owned(), limit);
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<UsageServiceServer<UsageApi>>().await;
    reporter.set_serving::<FleetServiceServer<FleetApi>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTOR)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let fleet = FleetServiceServer::new(fleet);
    Ok(server().add_service(usage).add_service(fleet).add_service(health).add_service(reflection))
}

/// Limits on everything that a peer could have without end.
fn server() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_concurrent_streams(64)
        .concurrency_limit_per_connection(64)
        .http2_max_header_list_size(16 << 10)
        .tcp_nodelay(true)
}

/// The addresses that an aggregator listens on. With port 0 in the configuration, the system chooses a port: the file
/// `listening.json` in the state folder says which.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub struct Listening {
    /// Where agents connect.
    pub agents: SocketAddr,
    /// Where operators connect.
    pub operators: SocketAddr,
    /// The process that listens.
    pub pid: u32,
}

impl Listening {
    /// The file in a state folder.
    pub fn file(state: &Path) -> PathBuf {
        state.join("listening.json")
    }

    fn of(agents: &TcpListener, operators: &TcpListener) -> Result<Self, ServeError> {
        let address = |listener: &TcpListener| {
            listener.local_addr().map_err(|source| ServeError::Listen { address: ([0, 0, 0, 0], 0).into(), source })
        };
        Ok(Self { agents: address(agents)?, operators: address(operators)?, pid: std::process::id() })
    }

    /// Writes the file: whole or not at all.
    fn save(&self, state: &Path) -> Result<(), ServeError> {
        let path = Self::file(state);
        let fresh = path.with_extension("json.new");
        let written = serde_json::to_vec(self).map_err(std::io::Error::from).and_then(|json| {
            std::fs::write(&fresh, json)?;
            std::fs::rename(&fresh, &path)
        });
        written.map_err(|source| ServeError::Listening { path, source })
    }
}

async fn listen(endpoint: &Endpoint) -> Result<TcpListener, ServeError> {
    let address = endpoint.address;
    TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // Where the sender is gone, nobody can say it any more: then this waits for ever.
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending().await
    }
}
