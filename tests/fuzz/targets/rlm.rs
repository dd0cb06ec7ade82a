//! Any bytes as RLM's report log and debug log.

#![no_main]

mod lines;

use libfuzzer_sys::fuzz_target;
use seatmeter_agent::format::Format;

fuzz_target!(|bytes: &[u8]| lines::read(Format::Rlm, bytes));
