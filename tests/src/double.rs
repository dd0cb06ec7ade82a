//! A double of an agent: what it sends.

use seatmeter_count::{Event, Kind};
use seatmeter_proto::batch;
use seatmeter_proto::v1::{Batch, Columns, Stream};

/// A batch with a checkout at each tenth byte of its range.
pub fn batch(sequence: u64, start: u64, end: u64) -> Batch {
    let mut columns = Columns {
        strings: ["d", "f", "u", "h"].map(String::from).to_vec(),
        feature_daemons: vec![0],
        feature_names: vec![1],
        client_users: vec![2],
        client_hosts: vec![3],
        ..Columns::default()
    };
    let (mut last_at, mut last) = (0, start);
    for position in (start..end).filter(|position| position % 10 == 0) {
        let at = 1_767_254_400 + position as i64;
        let event = Event { kind: Kind::Checkout, at, feature: 0, client: 0, seats: 1, detail: 0 };
        batch::push(&mut columns, &mut last_at, (position - last) as u32, event);
        last = position;
    }
    let (sealed, columns_size) = batch::seal(&columns).unwrap();
    Batch {
        sequence,
        stream: Some(Stream {
            fingerprint: vec![9; 32],
            log: "log".into(),
            first_line_time: 1_767_254_400,
            ..Stream::default()
        }),
        start_position: start,
        end_position: end,
        last_line_time: 1_767_254_400 + end as i64,
        event_count: columns.kinds.len() as u32,
        columns_size,
        columns: sealed.into(),
        ..Batch::default()
    }
}
