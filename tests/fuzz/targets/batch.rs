//! Any bytes as a batch, and any columns inside a well-formed one: refused or read, in peace.

#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message;
use seatmeter_proto::batch;
use seatmeter_proto::v1::{Batch, Stream};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(batch) = Batch::decode(bytes) {
        check(&batch);
    }
    let columns = zstd::bulk::compress(bytes, 1).unwrap();
    for event_count in [0, 1, 3] {
        check(&Batch {
            stream: Some(Stream { fingerprint: vec![0; 32], log: String::new(), first_line_time: 0, ..Stream::default() }),
            end_position: 1 << 20,
            event_count,
            columns_size: bytes.len() as u32,
            columns: columns.clone().into(),
            ..Batch::default()
        });
    }
});

fn check(received: &Batch) {
    if let Ok(columns) = batch::open(received) {
        for (position, _) in batch::events(&columns, received.start_position) {
            assert!(received.start_position <= position && position < received.end_position);
        }
    }
}
