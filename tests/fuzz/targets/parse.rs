//! Any bytes as a log: every line is accounted for, and dated or not, in peace.

#![no_main]

use jiff::tz::TimeZone;
use libfuzzer_sys::fuzz_target;
use seatmeter_agent::batcher::Batcher;
use seatmeter_agent::format::Format;
use seatmeter_agent::format::interpreter::{Outcome, LineInterpreter};
use seatmeter_agent::format::timeline::Timeline;
use seatmeter_agent::source::file::identity::Head;
use seatmeter_agent::source::file::lines::{Line, Lines};
use seatmeter_proto::batch;
use seatmeter_proto::v1::Stream;

fuzz_target!(|bytes: &[u8]| {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let mut lines = Lines::new(bytes, 0);
    let mut head = Head::default();
    let mut interpreter = LineInterpreter::new(Timeline::starting(zone, 17_000));
    let stream = Stream { fingerprint: vec![0; 32], log: "log".into(), begins_at: 0, ..Stream::default() };
    let mut batcher = Batcher::new(stream, 0);
    let mut read = 0;
    loop {
        let position = lines.position();
        let Ok(Some(line)) = lines.next_line() else { break };
        let Line::Whole(line) = line else {
            read += 1;
            interpreter.overlong();
            continue;
        };
        let mut end = 0;
        Format::ALL[0].each_record(line, |start, text, record| {
            assert_eq!(start, end);
            end = start + text.len();
            read += 1;
            head.follow(text, record);
            match interpreter.line(record) {
                Outcome::Event(event) => batcher.event(position + start as u64, &event),
                Outcome::Ignored => {}
                Outcome::Unrecognised(_) => batcher.unrecognised(position + start as u64, 0, text),
            }
        });
        assert_eq!(end, line.len());
    }
    assert_eq!(interpreter.counts().total(), read);
    head.identity(None);
    let batch = batcher.seal(lines.position(), 0, interpreter.counts()).unwrap();
    let columns = batch::open(&batch).unwrap();
    let counts = interpreter.counts();
    assert_eq!(batch::events(&columns, 0).count() as u64, counts.events + counts.unrecognised);
});
