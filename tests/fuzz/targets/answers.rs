//! Any bytes as the answer of a license manager, in each format: it is read, or is none, in peace.

#![no_main]

use libfuzzer_sys::fuzz_target;
use seatmeter_agent::format::answer::{AnswerFormat, Reading};

fuzz_target!(|bytes: &[u8]| {
    for format in AnswerFormat::ALL {
        if let Ok(answer) = Reading::Known(format).read(bytes) {
            assert_eq!(answer.seats.len() as u64, answer.lines.events);
            assert!(answer.unrecognised.len() as u64 <= answer.lines.unrecognised);
        }
    }
    let _ = Reading::ByContent.read(bytes);
});
