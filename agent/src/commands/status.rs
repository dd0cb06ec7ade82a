//! `seatmeter-agent status`.

use std::process::ExitCode;

use anyhow::{Context, Result};
use seatmeter_agent::config::Config;
use seatmeter_agent::health::{LogReport, Status, at, status_file};
use seatmeter_proto::answer;
use seatmeter_service::state;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) configured: crate::Configured,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// An agent that has not said how it is for longer than this (in seconds) is not well. It does so every ten.
const STALE: i64 = 60;

/// What is printed as JSON: what the agent said last, and what can be seen without it.
#[derive(serde::Serialize)]
struct Seen<'a> {
    /// A process works on this state.
    running: bool,
    /// All logs are followed, and batches are delivered.
    well: bool,
    #[serde(flatten)]
    said: &'a Status,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let config = Config::load(&arguments.configured.config)?;
    let path = status_file(&config.state);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("{} cannot be read: has the agent run with this configuration?", path.display()))?;
    let status: Status = serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))?;
    let is_running = state::is_locked(&config.state);
    let is_fresh = jiff::Timestamp::now().as_second() - status.at <= STALE;
    let is_well =
        is_running && is_fresh && status.uplink == "connected" && status.logs.iter().all(LogReport::is_followed);
    if arguments.json {
        let seen = Seen { running: is_running, well: is_well, said: &status };
        answer!("{}", serde_json::to_string_pretty(&seen)?);
        return Ok(super::exit(is_well));
    }
    let life = match (is_running, is_fresh) {
        (true, true) => "running",
        (true, false) => "running, but silent: it hangs, or its disk does",
        (false, _) => "not running; what follows is what it said last",
    };
    answer!("agent       {life}");
    answer!("version     {} (process {})", status.version, status.pid);
    answer!("said so     {}", at(status.at));
    answer!("aggregator  {}: {}", status.aggregator, status.uplink);
    answer!("last ack    {}", at(status.acknowledged_at));
    answer!(
        "buffer      {} batches, {} of {} KiB, the oldest waits for {} s",
        status.buffered_batches,
        status.buffered_bytes >> 10,
        status.buffer_quota_bytes >> 10,
        status.oldest_batch_age_seconds
    );
    for LogReport { log, status } in &status.logs {
        let message = if status.message.is_empty() { String::new() } else { format!(": {}", status.message) };
        answer!("log         {log}: {}{message}", status.state);
        answer!(
            "            read to {} of {} bytes, last line {}",
            status.position,
            status.size,
            at(status.last_line_at)
        );
        answer!(
            "            {} events, {} lines known to mean nothing, {} not understood, {} undated",
            status.lines.events,
            status.lines.noise,
            status.lines.unrecognised,
            status.undated_lines
        );
    }
    Ok(super::exit(is_well))
}
