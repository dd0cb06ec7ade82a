//! Any bytes as a log: every line is accounted for, and dated or not, in peace.

#![no_main]

use jiff::tz::TimeZone;
use libfuzzer_sys::fuzz_target;
use seatmeter_agent::batcher::Batcher;
use seatmeter_agent::format::flexnet::parse;
use seatmeter_agent::format::reading::{Outcome, Reading};
use seatmeter_agent::format::timeline::Timeline;
use seatmeter_agent::source::file::identity::Head;
use seatmeter_agent::source::file::lines::{Line, Lines};
use seatmeter_proto::batch;
use seatmeter_proto::v1::Stream;

fuzz_target!(|bytes: &[u8]| {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let mut lines = Lines::new(bytes, 0);
    let mut head = Head::default();
    let mut reading = Reading::new(Timeline::starting(zone, 17_000));
    let stream = Stream { fingerprint: vec![0; 32], log: "log".into(), begins_at: 0 };
    let mut batcher = Batcher::new(stream, 0);
    let mut read = 0;
    loop {
        let position = lines.position();
        let Ok(Some(line)) = lines.next_line() else { break };
        read += 1;
        let Line::Whole(line) = line else {
            reading.overlong();
            continue;
        };
        let record = parse(line);
        head.follow(line, &record);
        match reading.line(&record) {
            Outcome::Event(event) => batcher.event(position, &event),
            Outcome::Noise => {}
            Outcome::Unrecognised(_) => batcher.unrecognised(position, 0, line),
        }
    }
    assert_eq!(reading.counts().total(), read);
    head.identity(None);
    let batch = batcher.seal(lines.position(), 0, reading.counts()).unwrap();
    let columns = batch::open(&batch).unwrap();
    let counts = reading.counts();
    assert_eq!(batch::events(&columns, 0).count() as u64, counts.events + counts.unrecognised);
});
