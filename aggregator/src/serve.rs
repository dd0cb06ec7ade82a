//! Runs the aggregator: two listeners and two workers, until it is told to stop.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use seatmeter_proto::accept::accept;
use seatmeter_proto::batch::MAX_BATCH;
use seatmeter_proto::transport::WINDOW;
use seatmeter_proto::v1::DESCRIPTOR;
use seatmeter_proto::v1::access_service_server::AccessServiceServer;
use seatmeter_proto::v1::audit_service_server::AuditServiceServer;
use seatmeter_proto::v1::authority_service_server::AuthorityServiceServer;
use seatmeter_proto::v1::enrolment_service_server::EnrolmentServiceServer;
use seatmeter_proto::v1::fleet_service_server::FleetServiceServer;
use seatmeter_proto::v1::ingest_service_server::IngestServiceServer;
use seatmeter_proto::v1::operator_service_server::OperatorServiceServer;
use seatmeter_proto::v1::report_service_server::ReportServiceServer;
use seatmeter_proto::v1::rule_service_server::RuleServiceServer;
use seatmeter_proto::v1::sealed_service_server::SealedServiceServer;
use seatmeter_proto::v1::usage_service_server::UsageServiceServer;
use seatmeter_service::manager;
use seatmeter_service::state::{self, StateError};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::transport::Server;
use tonic::transport::server::Router;
use tonic_health::server::HealthReporter;
use tower::layer::util::{Identity, Stack};

use crate::access::authority::{self, Authority, AuthorityError};
use crate::access::door::Door;
use crate::access::enrolment::{EnrolmentError, Enrolments};
use crate::access::operators::Operators;
use crate::access::refusals::Refusals;
use crate::access::registrar::Registrar;
use crate::access::sealing;
use crate::access::tls::{Clients, Files, PortTls, Source};
use crate::access::trail::Trail;
use crate::api::ConcurrencyLimit;
use crate::api::access::{AccessApi, Sealed, settle_copies};
use crate::api::audit::AuditApi;
use crate::api::authority::AuthorityApi;
use crate::api::enrolment::EnrolmentApi;
use crate::api::fleet::FleetApi;
use crate::api::gate::{Gate, GateLayer};
use crate::api::ingest::IngestApi;
use crate::api::operators::{Address, OperatorsApi};
use crate::api::reports::ReportsApi;
use crate::api::rules::RulesApi;
use crate::api::sealed::SealedApi;
use crate::api::usage::UsageApi;
use crate::codes;
use crate::config::{Config, Endpoint};
use crate::fleet::Fleet;
use crate::fleet::watcher::watch_fleet;
use crate::ingest::projector::Steps;
use crate::month::evidence::Evidence;
use crate::month::ledger::Ledger;
use crate::month::statement::Statements;
use crate::rules::book::{RuleBook, RuleError};
use crate::store::{self, Store, StoreError};
use crate::usage::UsageQuestions;
use crate::workers::Workers;

/// The most connections of agents, and of operators, at a time.
const MAX_AGENTS: usize = 10_000;
const MAX_OPERATORS: usize = 1_000;

/// The most calls on a connection: an agent has one stream, and asks for certificates by others.
const CALLS_OF_AGENTS: u32 = 8;
const CALLS_OF_OPERATORS: u32 = 64;

/// The most questions that are answered at a time.
const MAX_REQUESTS: usize = 64;

/// The most bytes of a request of an operator that can hold many rules.
const LARGEST_REQUEST: usize = 32 << 20;

/// The most calls for certificates that are answered at a time.
const MAX_ENROLLING: usize = 32;

/// How long a stopping aggregator waits for answers under way. The limit is needed since an agent's stream can last for
/// ever.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why the aggregator cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Another process uses the state folder, or the folder cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The aggregator cannot listen on an address.
    #[error("cannot listen on {address}: {source}; is another aggregator running?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The file `listening.json` cannot be written.
    #[error("cannot write {path}: {source}")]
    Listening {
        /// The file's path.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A gRPC server failed.
    #[error("the server failed: {0}")]
    Server(#[from] tonic::transport::Error),
    /// The service descriptors are damaged.
    #[error("cannot start the reflection service: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The authority, or a port's certificate, cannot be used.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The agents that are enrolled cannot be told.
    #[error(transparent)]
    Enrolments(#[from] EnrolmentError),
    /// The operating system cannot start a worker's thread.
    #[error("cannot start a worker: {0}")]
    Worker(std::io::Error),
}

/// Serves agents and operators until `stop` becomes true.
pub async fn serve(config: Config, stop: watch::Receiver<bool>) -> Result<(), ServeError> {
    let _lock = state::lock(&config.state)?;
    // What an earlier process listened on is no answer to where this one does. If it stays, it is overwritten later.
    let _ = std::fs::remove_file(Listening::file(&config.state));
    let agents = listen(&config.agents).await?;
    let operators = listen(&config.operators).await?;
    let listening = Listening::of(&agents, &operators)?;
    let store = Store::open_embedded(&config.state)?;
    let access = Access::open(&config, &store)?;
    let book = open_book(&config, &store)?;
    let agents_tls = port_tls(&config, &config.agents, access.authority.as_ref(), Clients::Agents)?;
    let operators_tls = port_tls(&config, &config.operators, access.authority.as_ref(), Clients::None)?;
    let workers = Workers::start(&store, config.calendar.clone())?;
    listening.save(&config.state)?;
    manager::ready("serving");
    let living = tokio::spawn(manager::keep_alive());
    report_start(&config, &listening);
    let for_agents = agents_server(&config, &workers, &access).await;
    let for_operators = operators_server(&store, &book, &config, &workers, access, &listening).await?;
    let for_agents =
        for_agents.serve_with_incoming_shutdown(accept(agents, agents_tls, MAX_AGENTS), stopped(stop.clone()));
    let for_operators = for_operators
        .serve_with_incoming_shutdown(accept(operators, operators_tls, MAX_OPERATORS), stopped(stop.clone()));
    let both = async { tokio::try_join!(for_agents, for_operators).map(drop) };
    tokio::select! {
        served = both => served?,
        () = async { stopped(stop).await; tokio::time::sleep(FAREWELL).await } => {}
    }
    manager::stopping();
    living.abort();
    workers.stop().await;
    tracing::info!(code = codes::STOPPED, "the aggregator has stopped");
    Ok(())
}

/// Opens the book of rules, and makes those of the configuration a version of their own, if they are others than before. Where they
/// contradict what operators have said since, the ones before stay in force.
fn open_book(config: &Config, store: &Store) -> Result<RuleBook, StoreError> {
    let book = RuleBook::open(store)?;
    match book.configure(config.rules.clone()) {
        Err(RuleError::Store(error)) => return Err(error),
        Err(error) => {
            tracing::error!(code = codes::RULES_REFUSED, reason = %error, "the rules of the configuration before stay in force");
        }
        Ok(()) => {}
    }
    Ok(book)
}

/// Who may speak with the aggregator.
struct Access {
    /// The aggregator's own authority; `None` if both ports have certificates from elsewhere, or none.
    authority: Option<Arc<Authority>>,
    /// `None` if agents are not enrolled here.
    enrolments: Option<Enrolments>,
    operators: Operators,
    trail: Trail,
}

impl Access {
    fn open(config: &Config, store: &Store) -> Result<Self, ServeError> {
        let registrar = Registrar::open(store)?;
        let is_own = |endpoint: &Endpoint| matches!(endpoint.tls, PortTls::Own);
        let authority = match is_own(&config.agents) || is_own(&config.operators) {
            true => Some(own_authority(config, &registrar)?),
            false => None,
        };
        let enrolling = authority.clone().filter(|_| is_own(&config.agents));
        let life = config.authority.agents_life;
        let enrolments = enrolling.map(|authority| Enrolments::new(authority, registrar.clone(), life));
        let operators = Operators::open(registrar.clone())?;
        if !operators.has_admin() {
            tracing::warn!(code = codes::NO_ADMINISTRATOR, "run `seatmeter-aggregator administrator NAME`");
        }
        let trail = Trail::new(registrar);
        tell_head(&trail)?;
        tokio::spawn(tell_head_daily(trail.clone()));
        Ok(Self { authority, enrolments, operators, trail })
    }
}

/// Opens the authority that signs the aggregator's own certificate, and those of its agents.
fn own_authority(config: &Config, registrar: &Registrar) -> Result<Arc<Authority>, ServeError> {
    let was_there = config.state.join(authority::FOLDER).exists();
    let agents = registrar.write(store::enrolments::enrolments)?.len();
    if was_there && agents == 0 && matches!(config.agents.tls, PortTls::Own) {
        tracing::warn!(code = codes::NOBODY_ENROLLED, "no agent is enrolled");
    }
    Ok(Arc::new(match &config.authority.files {
        Some(files) => Authority::load(&files.certificate, &files.key)?,
        None => Authority::open(&config.state, agents)?,
    }))
}

/// Tells the last record of the audit trail, so that it stands elsewhere, too.
fn tell_head(trail: &Trail) -> Result<(), StoreError> {
    if let Some(head) = trail.head()? {
        let hash = data_encoding::HEXLOWER.encode(&head.hash);
        tracing::info!(code = codes::AUDIT_HEAD, number = head.number, hash, "the last record of the audit trail");
    }
    Ok(())
}

async fn tell_head_daily(trail: Trail) {
    loop {
        tokio::time::sleep(Duration::from_secs(86_400)).await;
        let trail = trail.clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || tell_head(&trail)).await {
            tracing::error!(code = codes::AUDIT_FAILED, reason = %error, "the audit trail cannot be read");
        }
    }
}

/// Returns the TLS configuration of a port, which is kept up to date; `None` for plain text.
fn port_tls(
    config: &Config,
    endpoint: &Endpoint,
    authority: Option<&Arc<Authority>>,
    clients: Clients,
) -> Result<Option<watch::Receiver<Arc<ServerConfig>>>, ServeError> {
    let source = match (&endpoint.tls, authority) {
        (PortTls::Files(files), _) => Source::Files(files.clone()),
        (PortTls::Own, Some(authority)) => {
            Source::Own { authority: authority.clone(), names: config.authority.names.clone(), clients }
        }
        (PortTls::Own | PortTls::Plain, _) => return Ok(None),
    };
    Ok(Some(source.keep()?))
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

/// Returns the IANA name of the billing time zone.
fn time_zone(config: &Config) -> &str {
    config.calendar.zone().iana_name().unwrap_or("UTC")
}

/// Builds the services on the agents' port. Each port has its own health service, so that a client that asks about its
/// service learns whether it has connected to the right port.
async fn agents_server(config: &Config, workers: &Workers, access: &Access) -> Router {
    let enrolments = access.enrolments.clone();
    let door = match (&config.agents.tls, enrolments.clone()) {
        (_, Some(enrolments)) => Door::Enrolled(enrolments),
        (PortTls::Files(Files { client_authority: Some(_), .. }), None) => Door::Named,
        _ => Door::Open,
    };
    let refusals = Arc::new(Refusals::new(access.trail.clone()));
    let enrolment = enrolments.map(|enrolments| {
        let limit = ConcurrencyLimit::new(MAX_ENROLLING);
        EnrolmentServiceServer::new(EnrolmentApi::new(enrolments, limit, refusals.clone()))
            .max_decoding_message_size(64 << 10)
    });
    let ingest = IngestServiceServer::new(IngestApi::new(workers.commands(), workers.incarnation(), door, refusals))
        .max_decoding_message_size(MAX_BATCH + (64 << 10))
        .max_encoding_message_size(1 << 20);
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<IngestServiceServer<IngestApi>>().await;
    server(CALLS_OF_AGENTS).add_service(ingest).add_service(health).add_optional_service(enrolment)
}

/// Builds the services on the operators' port.
async fn operators_server(
    store: &Store,
    book: &RuleBook,
    config: &Config,
    workers: &Workers,
    access: Access,
    listening: &Listening,
) -> Result<Router<Stack<GateLayer, Identity>>, ServeError> {
    let limit = ConcurrencyLimit::new(MAX_REQUESTS);
    let questions = UsageQuestions::new(store.clone(), config.calendar.clone(), book.clone());
    let usage = UsageServiceServer::new(UsageApi::new(questions.clone(), limit.clone()));
    let statements = Statements::new(questions, book.clone());
    let fleet = Fleet::new(store.clone(), config.calendar.clone(), config.limits.clone(), book.clone());
    let watched = (watch_fleet(fleet.clone(), config.look_every), access.operators.clone());
    let zone = time_zone(config).to_owned();
    let fleet = FleetApi::new(fleet, zone.clone(), limit.clone(), workers.commands(), workers.progress(), watched);
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<FleetServiceServer<FleetApi>>().await;
    tokio::spawn(report_progress(workers.progress(), reporter));
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTOR)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let gate = GateLayer(Gate::new(access.operators.clone(), access.trail.clone()));
    let authority = match &config.operators.tls {
        PortTls::Own => access.authority.clone(),
        PortTls::Plain | PortTls::Files(_) => None,
    };
    let address = Address { url: config.operators_url(listening.operators.port()), authority };
    let operators = OperatorsApi::new(access.operators, address, zone.clone(), limit.clone());
    let ledger = Ledger::new(book.writer(), statements.clone(), config.two_people);
    let evidence = Evidence::open(&config.state, ledger.clone(), book.clone(), access.trail.clone())?;
    let audit = AuditApi::new(access.trail, zone.clone(), limit.clone());
    let own = access.authority.clone();
    let authority = AuthorityApi::new(access.authority, access.enrolments.clone(), zone.clone(), limit.clone());
    let url = format!("https://{}:{}", config.authority.names[0], listening.agents.port());
    let (sealed, known_by) = match (&access.enrolments, &own) {
        (Some(enrolments), Some(authority)) => {
            let key = sealing::key(&config.state, enrolments.without_network()?)?;
            let known_by = Sealed { authority: authority.clone(), key: key.public() };
            let parts = (authority.clone(), enrolments.clone(), key);
            let archiver = (workers.commands(), workers.incarnation());
            let api = SealedApi::new(parts, &config.state, archiver, zone.clone(), limit.clone());
            (api, Some(known_by))
        }
        _ => (SealedApi::without_agents(limit.clone()), None),
    };
    if let Some(enrolments) = &access.enrolments {
        tokio::spawn(settle_copies(enrolments.clone(), workers.commands()));
    }
    let report_limit = limit.clone();
    let rules = RulesApi::new(book.clone(), statements.clone(), &zone, limit.clone());
    let rules = RuleServiceServer::new(rules).max_decoding_message_size(LARGEST_REQUEST);
    let access = AccessApi::new(access.enrolments, (url, known_by), zone, limit, workers.commands());
    Ok(server(CALLS_OF_OPERATORS)
        .layer(gate)
        .add_service(usage)
        .add_service(FleetServiceServer::new(fleet))
        .add_service(rules)
        .add_service(ReportServiceServer::new(ReportsApi::new(ledger, evidence, report_limit)))
        .add_service(AccessServiceServer::new(access))
        .add_service(AuthorityServiceServer::new(authority))
        .add_service(SealedServiceServer::new(sealed))
        .add_service(OperatorServiceServer::new(operators))
        .add_service(AuditServiceServer::new(audit))
        .add_service(health)
        .add_service(reflection))
}

/// Says that usage is served once the figures are up to date after a start, and how far they are until then.
async fn report_progress(mut progress: watch::Receiver<Option<Steps>>, reporter: HealthReporter) {
    loop {
        let steps = *progress.borrow_and_update();
        if let Some(steps) = steps {
            let (Steps { logs, logs_done, .. }, percent) = (steps, steps.percent());
            manager::status(&format!("rebuilding the figures: {logs_done} of {logs} logs, {percent} %"));
            reporter.set_not_serving::<UsageServiceServer<UsageApi>>().await;
        } else {
            manager::status("serving");
            reporter.set_serving::<UsageServiceServer<UsageApi>>().await;
        }
        // Without the projector, the process ends.
        if progress.changed().await.is_err() {
            return;
        }
    }
}

/// Returns a server that limits every resource a peer could otherwise use without end.
/// Returns a server whose clients have at most so many calls under way on a connection.
fn server(calls: u32) -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_concurrent_streams(calls)
        .concurrency_limit_per_connection(calls as usize)
        .http2_max_header_list_size(16 << 10)
        .tcp_nodelay(true)
}

/// The addresses that an aggregator listens on. With port 0 in the configuration, the operating system chooses a port;
/// the file `listening.json` in the state folder then contains the chosen one.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub struct Listening {
    /// The address for agents.
    pub agents: SocketAddr,
    /// The address for operators.
    pub operators: SocketAddr,
    /// The process id of the aggregator.
    pub pid: u32,
}

impl Listening {
    /// Returns the path of the file in a state folder.
    pub fn file(state: &Path) -> PathBuf {
        state.join("listening.json")
    }

    fn of(agents: &TcpListener, operators: &TcpListener) -> Result<Self, ServeError> {
        let address = |listener: &TcpListener| {
            listener.local_addr().map_err(|source| ServeError::Listen { address: ([0, 0, 0, 0], 0).into(), source })
        };
        Ok(Self { agents: address(agents)?, operators: address(operators)?, pid: std::process::id() })
    }

    /// Writes the file atomically.
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
    // Without a sender, no stop can come: wait for ever.
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending().await
    }
}
