//! `seatmeter-agent status`.

use std::process::ExitCode;

use anyhow::{Context, Result};
use seatmeter_agent::config::Config;
use seatmeter_agent::health::{LogReport, Status, UplinkState, at, status_file};
use seatmeter_service::answer;
use seatmeter_service::screen::text::{count, duration, size, thousands, utc, visible};
use seatmeter_service::state;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) configured: crate::Configured,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// The maximum age of the last report of an agent that is well, in seconds. The agent reports every 10 seconds.
const STALE: i64 = 60;

/// The JSON output: the agent's last report, and what this command observes itself.
#[derive(serde::Serialize)]
struct Seen<'a> {
    /// Whether a process uses this state folder.
    running: bool,
    /// Whether the agent runs and reports, all logs are followed, and batches are delivered.
    well: bool,
    #[serde(flatten)]
    said: &'a Status,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let config = Config::load(&arguments.configured.config)?;
    let path = status_file(&config.state);
    let text = std::fs::read_to_string(&path)
        .map_err(|error| super::unreadable(&path, &error, "the agent has not run with this configuration"))?;
    let status: Status = serde_json::from_str(&text)
        .with_context(|| format!("{} is from another version: has the agent run since its update?", path.display()))?;
    let is_running = state::is_locked(&config.state);
    let is_fresh = jiff::Timestamp::now().as_second() - status.at <= STALE;
    let is_well = is_running
        && is_fresh
        && matches!(status.uplink, UplinkState::Connected | UplinkState::Sealed)
        && status.logs.iter().all(LogReport::is_followed);
    if arguments.json {
        let seen = Seen { running: is_running, well: is_well, said: &status };
        answer!("{}", serde_json::to_string_pretty(&seen)?);
        return Ok(super::exit(is_well));
    }
    let life = match (is_running, is_fresh) {
        (true, true) => "running",
        (true, false) => "running, but silent: the process or its disk hangs",
        (false, _) => "not running; what follows is its last report",
    };
    answer!("agent       {life}");
    answer!("version     {} (process {})", status.version, status.pid);
    answer!("reported    {}", utc(status.at));
    answer!("aggregator  {}: {}", status.aggregator, status.uplink);
    answer!("last ack    {}", at(status.last_acknowledged_at));
    answer!("buffer      {}", buffer(&status));
    status.logs.iter().for_each(show_log);
    Ok(super::exit(is_well))
}

fn buffer(status: &Status) -> String {
    let used = format!("{} of {}", size(status.buffered_bytes), size(status.buffer_quota_bytes));
    match status.buffered_batches {
        0 => format!("0 batches, {used}"),
        batches => {
            format!("{}, {used}, the oldest for {}", count(batches, "batch"), duration(status.oldest_batch_age_seconds))
        }
    }
}

fn show_log(LogReport { log, status }: &LogReport) {
    let message = if status.message.is_empty() { String::new() } else { format!(": {}", status.message) };
    answer!("log         {log}: {}{message}", status.state);
    if !status.manager.is_empty() {
        answer!("            {}", visible(&status.manager));
    }
    if let Some(answers) = status.answers {
        answer!("            {}, the last one: {}", count(answers, "answer"), at(status.last_line_at));
    } else {
        let (read, all) = (thousands(status.position), count(status.size, "byte"));
        answer!("            read {read} of {all}, last line read: {}", at(status.last_line_at));
    }
    let lines = status.lines;
    answer!(
        "            {}, {} ignored (no usage), {} not recognised",
        count(lines.events, "event"),
        thousands(lines.ignored),
        thousands(lines.unrecognised)
    );
    for part in &status.unread_parts {
        answer!("            not read: {}", visible(&part.reason));
    }
}
