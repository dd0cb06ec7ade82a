//! Any bytes as the answer of a license manager, in each format: it is read, or is none, in peace.

#![no_main]

use libfuzzer_sys::fuzz_target;
use seatmeter_agent::format::answer::monitor::{Features, Sessions};
use seatmeter_agent::format::answer::{AnswerFormat, Reading};

fuzz_target!(|bytes: &[u8]| {
    for format in AnswerFormat::ALL {
        if let Ok(answer) = Reading::Known(format).read(bytes) {
            assert_eq!(answer.seats.len() as u64, answer.lines.events);
            assert!(answer.unrecognised.len() as u64 <= answer.lines.unrecognised);
        }
    }
    let _ = Reading::ByContent.read(bytes);
    let mut sessions = Sessions::default();
    let features = Features { site: "XDT_PLT_UD".into(), ..Features::default() };
    // The same page twice tells the same sessions.
    if sessions.add_page(bytes, &features).is_ok() && sessions.add_page(bytes, &features).is_ok() {
        let answer = sessions.into_answer();
        assert_eq!(answer.seats.len() as u64, answer.lines.events);
    }
});
