//! `seatmeter-agent check-config`.

use std::process::ExitCode;

use anyhow::Result;
use seatmeter_agent::config::Config;
use seatmeter_agent::source::file::content::Content;
use seatmeter_agent::source::file::discover::candidates;
use seatmeter_proto::answer;

use crate::Configured;

pub(crate) fn run(configured: &Configured) -> Result<ExitCode> {
    let config = Config::load(&configured.config)?;
    answer!("license server  {}", config.license_server);
    answer!("realm           {}", if config.realm.is_empty() { "(default)" } else { &config.realm });
    answer!("aggregator      {}", config.aggregator.url());
    answer!("state folder    {}", config.state.display());
    answer!("buffer quota    {} MiB", config.quota >> 20);
    let mut is_well = true;
    for log in &config.logs {
        let zone = log.zone.iana_name().unwrap_or("the machine's own zone");
        let parts =
            candidates(&log.path, &log.archives).map_or(0, |found| found.iter().filter(|c| !c.is_current).count());
        answer!("log             {} ({zone}, {parts} rotated or archived parts)", log.path.display());
        if let Err(error) = Content::open(&log.path) {
            answer!("                {error}");
            is_well = false;
        }
    }
    Ok(super::exit(is_well))
}
