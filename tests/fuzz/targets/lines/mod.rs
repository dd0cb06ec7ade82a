//! Any bytes as a log of a format: every line is accounted for, and dated or not, in peace.

use seatmeter_agent::batcher::Batcher;
use seatmeter_agent::format::Format;
use seatmeter_agent::format::interpreter::{LineInterpreter, Outcome};
use seatmeter_agent::source::file::identity::Head;
use seatmeter_agent::source::file::lines::{Line, Lines};
use seatmeter_count::timeline::Told;
use seatmeter_proto::batch;
use seatmeter_proto::v1::Stream;

pub fn read(format: Format, bytes: &[u8]) {
    let mut lines = Lines::new(bytes, 0);
    let mut head = Head::default();
    let mut interpreter = LineInterpreter::default();
    let stream = Stream { fingerprint: vec![0; 32], log: "log".into(), first_line_time: 0, ..Stream::default() };
    let mut batcher = Batcher::new(stream, 0, Told::default(), None);
    let (mut read, mut marks) = (0, 0);
    loop {
        let position = lines.position();
        let Ok(Some(line)) = lines.next_line() else { break };
        let Line::Whole(line) = line else {
            read += 1;
            interpreter.overlong();
            continue;
        };
        let mut end = 0;
        format.each_record(line, |start, text, record| {
            assert_eq!(start, end);
            end = start + text.len();
            read += 1;
            head.follow(text, record);
            let outcome = interpreter.line(record);
            for mark in interpreter.marks() {
                batcher.mark(position + start as u64, mark);
                marks += 1;
            }
            match outcome {
                Outcome::Event(event) => batcher.event(position + start as u64, &event, interpreter.daemon()),
                Outcome::Ignored => {}
                Outcome::Unrecognised(_) => batcher.unrecognised(position + start as u64, 0, text),
            }
        });
        assert_eq!(end, line.len());
    }
    assert_eq!(interpreter.counts().total(), read);
    head.identity();
    let batch = batcher.seal(lines.position(), (interpreter.state().last_time(), interpreter.state().told()), interpreter.counts()).unwrap();
    let columns = batch::open(&batch).unwrap();
    let counts = interpreter.counts();
    assert_eq!(batch::events(&columns, 0).count() as u64, counts.events + counts.unrecognised + marks);
}
