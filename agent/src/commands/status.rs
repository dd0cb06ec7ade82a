//! `seatmeter-agent status`.

use std::process::ExitCode;

use anyhow::{Context, Result};
use seatmeter_agent::config::Config;
use seatmeter_agent::health::{Status, status_file};
use seatmeter_agent::run::at;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    configured: crate::Configured,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// An agent that has not said how it is for longer than this (in seconds) is not well. It does so every 30.
const STALE: i64 = 90;

#[allow(clippy::print_stdout, reason = "the answer goes to standard output")]
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let config = Config::load(&arguments.configured.config)?;
    let path = status_file(&config.state);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("{} cannot be read: has the agent run with this configuration?", path.display()))?;
    let status: Status = serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))?;
    let is_fresh = jiff::Timestamp::now().as_second() - status.at <= STALE;
    let is_well = is_fresh && status.uplink == "connected" && status.logs.iter().all(|log| log.state == "following");
    if arguments.json {
        println!("{text}");
        return Ok(super::exit(is_well));
    }
    println!("agent       {} (process {})", status.version, status.pid);
    println!("said so     {}{}", at(status.at), if is_fresh { "" } else { ": it is not running, or hangs" });
    println!("aggregator  {}: {}", status.aggregator, status.uplink);
    println!("last ack    {}", at(status.acknowledged_at));
    println!(
        "buffer      {} batches, {} of {} KiB, the oldest waits for {} s",
        status.buffered_batches,
        status.buffered_bytes >> 10,
        status.buffer_quota_bytes >> 10,
        status.oldest_batch_age_seconds
    );
    for log in &status.logs {
        println!(
            "log         {}: {}{}",
            log.log,
            log.state,
            if log.message.is_empty() { String::new() } else { format!(": {}", log.message) }
        );
        println!("            read to {} of {} bytes, last line {}", log.position, log.size, at(log.last_line_at));
        println!(
            "            {} events, {} lines known to mean nothing, {} not understood, {} undated",
            log.lines.events, log.lines.noise, log.lines.unrecognised, log.undated_lines
        );
    }
    Ok(super::exit(is_well))
}
