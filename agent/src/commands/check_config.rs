//! `seatmeter-agent check-config`.

use std::process::ExitCode;

use anyhow::Result;
use seatmeter_agent::config::Config;
use seatmeter_agent::source::file::content::Content;
use seatmeter_agent::source::file::discover::candidates;

use crate::Configured;

#[allow(clippy::print_stdout, reason = "the answer goes to standard output")]
pub(crate) fn run(configured: &Configured) -> Result<ExitCode> {
    let config = Config::load(&configured.config)?;
    println!("license server  {}", config.license_server);
    println!("realm           {}", if config.realm.is_empty() { "(default)" } else { &config.realm });
    println!("aggregator      {}", config.aggregator.url());
    println!("state folder    {}", config.state.display());
    println!("buffer quota    {} MiB", config.quota >> 20);
    let mut is_well = true;
    for log in &config.logs {
        let zone = log.zone.iana_name().unwrap_or("the machine's own zone");
        let parts =
            candidates(&log.path, &log.archives).map_or(0, |found| found.iter().filter(|c| !c.is_current).count());
        println!("log             {} ({zone}, {parts} rotated or archived parts)", log.path.display());
        if let Err(error) = Content::open(&log.path) {
            println!("                {error}");
            is_well = false;
        }
    }
    Ok(super::exit(is_well))
}
