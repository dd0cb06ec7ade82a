//! `seatmeter-agent codes`.

use std::process::ExitCode;

use anyhow::Result;
use seatmeter_agent::codes;
use seatmeter_proto::answer;
use seatmeter_service::health::code::as_markdown;

pub(crate) fn run() -> Result<ExitCode> {
    answer::bytes(as_markdown(codes::ALL).as_bytes());
    Ok(ExitCode::SUCCESS)
}
