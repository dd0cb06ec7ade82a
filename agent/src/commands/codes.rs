//! `seatmeter-agent codes`.

use std::process::ExitCode;

use anyhow::Result;
use seatmeter_agent::codes;
use seatmeter_service::health::code::as_markdown;
use seatmeter_service::screen::stdout;

pub(crate) fn run() -> Result<ExitCode> {
    stdout::bytes(as_markdown(codes::ALL).as_bytes());
    Ok(ExitCode::SUCCESS)
}
