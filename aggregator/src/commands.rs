//! The commands: each loads the configuration, calls the library, and prints the result.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use seatmeter_aggregator::access::authority::Authority;
use seatmeter_aggregator::access::operators::Operators;
use seatmeter_aggregator::access::registrar::Registrar;
use seatmeter_aggregator::access::tls::{Files, PortTls};
use seatmeter_aggregator::access::trail::{ASKED, Entry, OK, Trail};
use seatmeter_aggregator::codes;
use seatmeter_aggregator::config::{Config, Endpoint};
use seatmeter_aggregator::fleet::Fleet;
use seatmeter_aggregator::ingest::verify;
use seatmeter_aggregator::rules::book::RuleBook;
use seatmeter_aggregator::serve::{self, Listening};
use seatmeter_aggregator::store::Store;
use seatmeter_aggregator::store::backup::{self, database, facts};
use seatmeter_aggregator::workers::{self, WORKERS};
use seatmeter_proto::invitation::Invitation;
use seatmeter_proto::transport::Dialer;
use seatmeter_service::answer;
use seatmeter_service::health::code::as_markdown;
use seatmeter_service::health::{self, Service};
use seatmeter_service::screen::stdout;
use seatmeter_service::screen::text::{count, size, thousands, utc};
use seatmeter_service::state::{self, asked_to_stop};
use tokio::sync::watch;

/// Exit code: the command succeeded, but something needs attention.
const ATTENTION: u8 = 3;

fn exit(is_well: bool) -> ExitCode {
    if is_well { ExitCode::SUCCESS } else { ExitCode::from(ATTENTION) }
}

pub(crate) fn serve(config: &Path) -> Result<ExitCode> {
    let config = Config::load(config)?;
    let service = Service { name: "seatmeter-aggregator", codes: codes::ALL };
    health::start(&service, &config.health_log, &config.state)?;
    // Without the workers nothing is stored. A question that panics harms no other.
    health::report_panics(codes::PANICKED, |thread| thread.is_some_and(|name| WORKERS.contains(&name)));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let done = runtime.block_on(async {
        let (stopper, stop) = watch::channel(false);
        tokio::spawn(async move {
            asked_to_stop().await;
            // The send fails if the aggregator has already stopped by itself.
            let _ = stopper.send(true);
            // A second request ends the process at once.
            asked_to_stop().await;
            std::process::exit(1);
        });
        serve::serve(config, stop).await
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    if let Err(error) = &done {
        tracing::error!(code = codes::FAILED, reason = %error, "the aggregator ends");
    }
    done?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn check_config(path: &Path) -> Result<ExitCode> {
    let config = Config::load(path)?;
    answer!("configuration   {} is valid", path.display());
    answer!("state folder    {}", config.state.display());
    answer!("time zone       {}", config.calendar.zone().iana_name().unwrap_or("UTC"));
    for (name, endpoint) in [("agents", &config.agents), ("operators", &config.operators)] {
        answer!("{name:<15} {}, {}", endpoint.address, security(name, endpoint));
    }
    answer!("rules           {} of the configuration", config.rules.len());
    Ok(ExitCode::SUCCESS)
}

fn security(name: &str, endpoint: &Endpoint) -> &'static str {
    match &endpoint.tls {
        PortTls::Plain => "plain text",
        PortTls::Own if name == "agents" => "TLS 1.3, agents are enrolled",
        PortTls::Own => "TLS 1.3",
        PortTls::Files(Files { client_authority: None, .. }) => "TLS 1.3",
        PortTls::Files(Files { client_authority: Some(_), .. }) => "TLS 1.3, clients need a certificate",
    }
}

/// The answer of `status`. The field names are part of the JSON output and must not change.
#[derive(serde::Serialize)]
struct Status {
    running: bool,
    well: bool,
    pid: Option<u32>,
    agents: Option<String>,
    operators: Option<String>,
    database_bytes: u64,
    facts_bytes: u64,
    license_servers: u64,
    reporting: u64,
}

pub(crate) fn status(config: &Path, json: bool) -> Result<ExitCode> {
    let config = Config::load(config)?;
    let running = state::is_locked(&config.state);
    let listening = listening(&config);
    let file = database(&config.state);
    let bytes_of = |file: &Path| std::fs::metadata(file).map_or(0, |meta| meta.len());
    let (database_bytes, facts_bytes) = (bytes_of(&file), bytes_of(&facts(&config.state)));
    let servers = if file.exists() {
        {
            let store = Store::open_current(&config.state)?;
            let book = RuleBook::open(&store)?;
            Fleet::new(store, config.calendar.clone(), config.limits.clone(), book)
        }
        .license_servers("")?
    } else {
        Vec::new()
    };
    let reporting = servers.iter().filter(|server| server.state.is_well()).count() as u64;
    let status = Status {
        running,
        well: running && reporting == servers.len() as u64,
        pid: listening.map(|listening| listening.pid),
        agents: listening.map(|listening| listening.agents.to_string()),
        operators: listening.map(|listening| listening.operators.to_string()),
        database_bytes,
        facts_bytes,
        license_servers: servers.len() as u64,
        reporting,
    };
    if json {
        answer!("{}", serde_json::to_string_pretty(&status)?);
        return Ok(exit(status.well));
    }
    match (running, listening) {
        (true, Some(listening)) => {
            answer!("aggregator       running (process {})", listening.pid);
            answer!("agents           {}", listening.agents);
            answer!("operators        {}", listening.operators);
        }
        (true, None) => answer!("aggregator       starting"),
        (false, _) => answer!("aggregator       not running"),
    }
    answer!("archive          {} ({})", file.display(), size(database_bytes));
    answer!("figures          {} ({})", facts(&config.state).display(), size(facts_bytes));
    answer!(
        "license servers  {} of {} report; see `seatmeter servers`",
        thousands(reporting),
        thousands(status.license_servers)
    );
    Ok(exit(status.well))
}

pub(crate) fn verify(config: &Path) -> Result<ExitCode> {
    let config = Config::load(config)?;
    let store = Store::open_current(&config.state)?;
    let scratch = config.state.join(format!("verify-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).with_context(|| format!("cannot create {}", scratch.display()))?;
    let found = verify::verify(&store, &config.calendar, &scratch);
    std::fs::remove_dir_all(&scratch).with_context(|| format!("cannot remove {}", scratch.display()))?;
    let found = found?;
    for log in &found.pending {
        answer!("not verified: {log}: its figures are being rebuilt");
    }
    for difference in &found.differences {
        answer!("differs: {difference}");
    }
    answer!("{} verified, {} differ", count(found.compared, "figure"), thousands(found.differences.len() as u64));
    let is_well = found.differences.is_empty() && found.pending.is_empty();
    if !is_well {
        eprintln!("To rebuild the figures, stop the service and run `seatmeter-aggregator rebuild`.");
    }
    Ok(exit(is_well))
}

pub(crate) fn backup(config: &Path, file: &Path) -> Result<ExitCode> {
    let config = Config::load(config)?;
    let bytes = backup::backup(&config.state, file)?;
    answer!("{}: written and checked, {}", file.display(), size(bytes));
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn restore(config: &Path, file: &Path) -> Result<ExitCode> {
    let config = Config::load(config)?;
    let _lock = state::lock(&config.state)?;
    let kept = backup::restore(&config.state, file)?;
    answer!("{}: restored; now start the aggregator", file.display());
    if let Some(kept) = kept.archive {
        answer!("The previous database is kept as {}.", kept.display());
    }
    if kept.has_access {
        answer!(
            "Who may report and ask is as it was then, also who was disabled or revoked since: look at `seatmeter operators list`,"
        );
        answer!("`seatmeter tokens list` and `seatmeter agents enrolled`.");
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn rebuild(config: &Path) -> Result<ExitCode> {
    let config = Config::load(config)?;
    let _lock = state::lock(&config.state)?;
    let store = Store::open_embedded(&config.state)?;
    store.discard_facts()?;
    workers::rebuild(&store, config.calendar, |steps| {
        eprintln!("{} of {} rebuilt, {} %", steps.logs_done, count(steps.logs, "log"), steps.percent());
    })?;
    answer!("All figures were rebuilt.");
    Ok(ExitCode::SUCCESS)
}

/// How long an administrator's invitation can be used.
const INVITATION: Duration = Duration::from_secs(60 * 60);

pub(crate) fn administrator(config: &Path, name: &str, url: Option<String>) -> Result<ExitCode> {
    let config = Config::load(config)?;
    let store = Store::open_current(&config.state)?;
    let url = match (url, listening(&config)) {
        (Some(url), _) => url,
        (None, Some(listening)) => config.operators_url(listening.operators.port()),
        (None, None) => config.operators_url(config.operators.address.port()),
    };
    Dialer::check(&url)?;
    let authority = match (&config.operators.tls, &config.authority.files) {
        (PortTls::Own, Some(files)) => Some(Authority::load(&files.certificate, &files.key)?.sha256()),
        (PortTls::Own, None) => Some(Authority::trusted_in(&config.state)?),
        (PortTls::Plain | PortTls::Files(_), _) => None,
    };
    let registrar = Registrar::open(&store)?;
    // Before it is done, as all that the trail tells.
    let detail = format!("name: {name:?}");
    let trail = Trail::new(registrar.clone());
    let entry = Entry { action: "Administrator".into(), detail, result: ASKED.into(), ..Entry::default() };
    let asked = trail.write(entry.clone())?;
    let invited = Operators::open(registrar)?.administrator(name, INVITATION)?;
    trail.write(Entry { result: OK.into(), result_of: asked, ..entry })?;
    let invitation = Invitation { secret: invited.secret, authority, url };
    if std::io::stdout().is_terminal() {
        eprintln!(
            "Log in with this line, until {}. It is for one login, and whoever has it can:\n",
            utc(invited.expires_at)
        );
    }
    answer!("seatmeter login {invitation}");
    Ok(ExitCode::SUCCESS)
}

/// Returns where the aggregator listens, if it runs.
fn listening(config: &Config) -> Option<Listening> {
    let text = std::fs::read(Listening::file(&config.state)).ok().filter(|_| state::is_locked(&config.state))?;
    serde_json::from_slice(&text).ok()
}

pub(crate) fn codes() -> Result<ExitCode> {
    stdout::bytes(as_markdown(codes::ALL).as_bytes());
    Ok(ExitCode::SUCCESS)
}
