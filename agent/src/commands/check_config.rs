//! `seatmeter-agent check-config`.

use std::error::Error as _;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;
use seatmeter_agent::checkpoint::FileMark;
use seatmeter_agent::config::{Config, Reach};
use seatmeter_agent::format::Format;
use seatmeter_agent::format::answer::Holding;
use seatmeter_agent::source::file::discover::{candidates, mark};
use seatmeter_agent::source::file::head::read_head;
use seatmeter_agent::source::file::status::LogSource;
use seatmeter_agent::source::poll::PollSource;
use seatmeter_agent::source::poll::monitor::Known;
use seatmeter_proto::transport::{Dialer, with_causes};
use seatmeter_service::answer;
use seatmeter_service::screen::text::{count, duration, size};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::Configured;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    configured: Configured,
    /// Do not try to reach the aggregator
    #[arg(long)]
    offline: bool,
}

/// How long to wait for an answer of the aggregator.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let config = Config::load(&arguments.configured.config)?;
    answer!("license server  {}", config.license_server);
    answer!("realm           {}", if config.realm.is_empty() { "(default)" } else { &config.realm });
    answer!("state folder    {}", config.state.display());
    answer!("buffer quota    {}", size(config.quota));
    if let Some(key) = &config.pseudonyms {
        answer!("names           pseudonyms, with the key {}", key.id());
    }
    let mut is_well = true;
    let mut known: Vec<(&LogSource, FileMark)> = Vec::new();
    for source in &config.sources {
        is_well &= check_source(source);
        let Ok(mark) = std::fs::metadata(&source.path).and_then(|metadata| mark(&source.path, &metadata)) else {
            continue;
        };
        if let Some((twin, _)) = known.iter().find(|(_, other)| other.is_same_file(&mark)) {
            answer!("                the same file as {}: leave one of them out", twin.path.display());
            is_well = false;
        }
        known.push((source, mark));
    }
    for source in &config.polls {
        is_well &= check_poll(source, arguments.offline);
    }
    match &config.aggregator {
        Reach::Network(dialer) if !arguments.offline => is_well &= check_aggregator(dialer)?,
        Reach::Network(dialer) => answer!("aggregator      {} (not tried)", dialer.url()),
        Reach::Sealed(_) => answer!("aggregator      not over the network: `seatmeter-agent export`"),
    }
    Ok(super::exit(is_well))
}

fn check_source(source: &LogSource) -> bool {
    let zone = source.zone.iana_name().unwrap_or("the machine's own zone");
    let (files, unlisted) = match candidates(source) {
        Ok(found) => (found.files, found.problem),
        Err(problem) => (Vec::new(), Some(problem)),
    };
    answer!("source          {} ({zone})", source.path.display());
    let head = read_head(&source.path, source.format, false);
    if let Ok(found) = &head {
        answer!("                {}", found.format.map_or("empty; nothing to count yet", Format::name));
    }
    for (file, claim) in files.iter().filter_map(|file| Some((file, file.claim.as_ref()?))) {
        answer!("  with          {} ({claim})", file.path.display());
    }
    let problems = unlisted.into_iter().chain(head.err());
    let printed = problems.map(|problem| answer!("                {problem}")).count();
    printed == 0
}

/// Asks a license manager once, unless nothing is to be reached.
fn check_poll(source: &PollSource, is_offline: bool) -> bool {
    let every = duration(source.interval.as_secs());
    answer!("source          {} (every {every})", source.name);
    if is_offline {
        answer!("                (not tried)");
        return true;
    }
    match ask(source) {
        Ok(told) => answer!("                {told}"),
        Err(problem) => {
            answer!("                {problem}");
            return false;
        }
    }
    true
}

/// Asks, and says what is answered. Of a history, the last day is enough.
fn ask(source: &PollSource) -> Result<String, String> {
    let known = Known { changed_through: None, answered_at: Some(Timestamp::now().as_second()) };
    let told = source.asker.ask(known, &AtomicBool::new(false)).map_err(|error| error.to_string())?;
    let answer = told.read().map_err(|error| error.to_string())?;
    if let Some(trouble) = answer.troubles.first() {
        return Err(format!("not all of it answers: {trouble}"));
    }
    let held = answer.seats.iter().filter(|seat| seat.holding == Holding::Held).count() as u64;
    let unknown = match answer.unknown.len() as u64 {
        0 => String::new(),
        features => format!("; who holds {} is not told", count(features, "feature")),
    };
    let pools = answer.pools.as_ref().map_or(0, Vec::len) as u64;
    if answer.knows_nobody {
        return Ok(format!("tells {}", count(pools, "license pool")));
    }
    Ok(format!("answers: {}{unknown}", count(held, "session")))
}

fn check_aggregator(dialer: &Dialer) -> Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        tokio::time::timeout(PATIENCE, reach(dialer)).await.unwrap_or_else(|_| Err("no answer in time".into()))
    });
    match &outcome {
        Ok(()) => answer!("aggregator      {}: reached", dialer.url()),
        Err(reason) => {
            answer!("aggregator      {}", dialer.url());
            answer!("                {reason}");
        }
    }
    Ok(outcome.is_ok())
}

/// Asks the aggregator whether it accepts batches.
async fn reach(dialer: &Dialer) -> Result<(), String> {
    let channel = dialer.connect().await.map_err(|error| error.to_string())?;
    let request = HealthCheckRequest { service: "seatmeter.v1.IngestService".into() };
    match HealthClient::new(channel).check(request).await {
        Ok(_) => Ok(()),
        Err(status) if status.code() == Code::NotFound => {
            Err("this is the port for operators: agents connect to another (by default 7470)".into())
        }
        Err(status) => {
            let why = status.source().map_or_else(|| status.message().to_owned(), with_causes);
            Err(format!("the aggregator closed the connection ({why})"))
        }
    }
}
