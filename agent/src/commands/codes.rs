//! `seatmeter-agent codes`.

use std::process::ExitCode;

use anyhow::Result;
use seatmeter_agent::codes;
use seatmeter_service::health::code::as_markdown;

#[allow(clippy::print_stdout, reason = "the answer goes to standard output")]
pub(crate) fn run() -> Result<ExitCode> {
    print!("{}", as_markdown(codes::ALL));
    Ok(ExitCode::SUCCESS)
}
