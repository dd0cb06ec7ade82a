//! `seatmeter-agent run`.

use std::process::ExitCode;

use anyhow::Result;
use seatmeter_agent::config::Config;
use seatmeter_proto::state::asked_to_stop;
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

use crate::Configured;

pub(crate) fn run(configured: &Configured) -> Result<ExitCode> {
    let config = Config::load(&configured.config)?;
    // The health log: a JSON object a line, with a stable `code`.
    let filter = EnvFilter::try_from_env("SEATMETER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build()?;
    runtime.block_on(async {
        let (stopper, stop) = watch::channel(false);
        tokio::spawn(async move {
            asked_to_stop().await;
            // Nobody listens: the agent has stopped by itself.
            let _ = stopper.send(true);
        });
        seatmeter_agent::run::run(config, stop).await
    })?;
    Ok(ExitCode::SUCCESS)
}
