//! Repeats a command in place.

use std::time::Duration;

use anyhow::Result;
use seatmeter_service::screen::stdout;

/// The argument `--watch`, for commands whose answer changes over time.
#[derive(Clone, Copy, clap::Args)]
pub(crate) struct Watch {
    /// Repeat every SECONDS seconds, until Ctrl-C
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = clap::value_parser!(u64).range(1..))]
    watch: Option<u64>,
}

/// Runs a command once, or repeatedly with `--watch`. Returns whether all is well.
pub(crate) async fn repeat(watch: Watch, command: impl AsyncFn() -> Result<bool>) -> Result<bool> {
    let Some(seconds) = watch.watch else { return command().await };
    loop {
        // Moves the cursor home and clears the screen, so that an unchanged answer stands still.
        stdout::bytes(b"\x1b[H\x1b[2J");
        command().await?;
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
}
