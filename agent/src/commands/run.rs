//! `seatmeter-agent run`.

use std::future::Future;
use std::process::ExitCode;

use anyhow::Result;
use seatmeter_agent::codes;
use seatmeter_agent::config::Config;
use seatmeter_service::health::{self, Service};
use seatmeter_service::state::asked_to_stop;
use tokio::sync::watch;

use crate::Configured;

/// The service that writes the health log.
pub(crate) const SERVICE: Service = Service { name: "seatmeter-agent", codes: codes::ALL };

/// Follows the logs until a person or the system asks the process to stop.
pub(crate) fn run(configured: &Configured) -> Result<ExitCode> {
    work(Config::load(&configured.config)?, asked_to_stop())?;
    Ok(ExitCode::SUCCESS)
}

/// Follows the logs until `stop` completes.
pub(crate) fn work(config: Config, stop: impl Future<Output = ()> + Send + 'static) -> Result<()> {
    health::start(&SERVICE, &config.health_log, &config.state)?;
    // Every thread is vital: one captures a log, another delivers.
    health::report_panics(codes::PANICKED, |_| true);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build()?;
    let done = runtime.block_on(async {
        let (stopper, stopped) = watch::channel(false);
        tokio::spawn(async move {
            stop.await;
            // Sending fails only if the agent has already stopped by itself.
            let _ = stopper.send(true);
        });
        seatmeter_agent::run::run(config, stopped).await
    });
    if let Err(error) = &done {
        tracing::error!(code = codes::FAILED, reason = %error, "the agent ends");
    }
    Ok(done?)
}
