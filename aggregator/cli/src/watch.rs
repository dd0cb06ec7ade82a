//! Repeats a command: in place on a terminal, one answer after the other elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::Result;
use seatmeter_service::screen::stdout;
use tonic::{Code, Status};

use crate::explain::explain;

/// The argument `--watch`, for commands whose answer changes over time.
#[derive(Clone, Copy, clap::Args)]
pub(crate) struct Watch {
    /// Repeat every SECONDS seconds, until Ctrl-C
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = seconds)]
    watch: Option<u64>,
}

fn seconds(text: &str) -> Result<u64, String> {
    let seconds = text.parse().ok().filter(|seconds| *seconds > 0);
    seconds.ok_or_else(|| "write the seconds, or put other arguments before --watch".into())
}

/// Runs a command once, or repeatedly with `--watch`, whatever fails between, unless it is refused. Returns whether all is well.
pub(crate) async fn repeat(watch: Watch, command: impl AsyncFn() -> Result<bool>) -> Result<bool> {
    let Some(seconds) = watch.watch else { return command().await };
    loop {
        if std::io::stdout().is_terminal() {
            // Moves the cursor home and clears the screen, so that an unchanged answer stands still.
            stdout::bytes(b"\x1b[H\x1b[2J");
        }
        if let Err(error) = command().await {
            if !can_pass(&error) {
                return Err(error);
            }
            eprintln!("error: {}; asking again", explain(&error));
        }
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
}

/// Whether the same question can be answered later: not if it is refused.
pub(crate) fn can_pass(error: &anyhow::Error) -> bool {
    let refused = [Code::PermissionDenied, Code::Unauthenticated, Code::InvalidArgument, Code::Unimplemented];
    error.downcast_ref::<Status>().is_none_or(|status| !refused.contains(&status.code()))
}
