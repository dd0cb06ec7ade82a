use proptest::prelude::*;

use super::*;
use crate::v1::Stream;

fn batch_of(columns: &Columns, end: u64) -> Batch {
    let (sealed, size) = seal(columns).unwrap();
    Batch {
        stream: Some(Stream {
            fingerprint: vec![7; 32],
            log: "debug.log".into(),
            first_line_time: 0,
            ..Stream::default()
        }),
        end_position: end,
        event_count: columns.kinds.len() as u32,
        columns_size: size,
        columns: sealed.into(),
        ..Batch::default()
    }
}

fn any_event() -> impl Strategy<Value = (u32, Event)> {
    (1u32..=11, 0u32..5000, -100_000i64..4_000_000_000, 0u32..4, 0u32..3, 0u32..4, -500i64..500).prop_map(
        |(kind, step, at, feature, client, seats, detail)| {
            let kind = Kind::from_number(kind).unwrap();
            (step, Event { kind, at, feature, client, seats, detail })
        },
    )
}

fn tables() -> Columns {
    Columns {
        strings: ["", "adskflex", "f1", "f2", "Mª Luz", "host"].map(String::from).to_vec(),
        feature_daemons: vec![1, 1, 1, 1],
        feature_names: vec![0, 2, 3, 2],
        client_users: vec![4, 4, 5],
        client_hosts: vec![5, 0, 5],
        ..Columns::default()
    }
}

proptest! {
    #[test]
    fn what_is_pushed_comes_out(list in prop::collection::vec(any_event(), 4..200)) {
        let (mut columns, mut last_at, mut end) = (tables(), 0, 0u64);
        let mut expected = Vec::new();
        for (step, event) in list {
            end += u64::from(step);
            push(&mut columns, &mut last_at, step, event);
            expected.push((1000 + end, Event { at: last_at, ..event }));
        }
        let mut batch = batch_of(&columns, 0);
        batch.start_position = 1000;
        batch.end_position = 1000 + end + 1;
        let opened = open(&batch).unwrap();
        prop_assert_eq!(events(&opened, 1000).collect::<Vec<_>>(), expected);
    }

    /// Opening arbitrary bytes as columns either succeeds or returns an error; it never panics.
    #[test]
    fn garbage_is_refused_in_peace(garbage in prop::collection::vec(any::<u8>(), 0..300), size in 0u32..1000, count in 0u32..50) {
        let compressed = zstd::bulk::compress(&garbage, 1).unwrap();
        for columns in [garbage.clone(), compressed] {
            let mut batch = batch_of(&tables(), 100);
            batch.columns = columns.into();
            batch.columns_size = size.min(garbage.len() as u32);
            batch.event_count = count;
            if let Ok(columns) = open(&batch) {
                prop_assert_eq!(events(&columns, 0).count(), count as usize);
            }
        }
    }
}

#[test]
fn lying_lengths_are_refused() {
    let (mut columns, mut last_at) = (tables(), 0);
    let event = Event { kind: Kind::Checkout, at: 5, feature: 1, client: 1, seats: 1, detail: 0 };
    for _ in 0..4 {
        push(&mut columns, &mut last_at, 10, event);
    }
    let good = batch_of(&columns, 100);
    assert!(open(&good).is_ok());

    let refused = |change: &dyn Fn(&mut Batch)| {
        let mut batch = good.clone();
        change(&mut batch);
        open(&batch).unwrap_err().to_string()
    };
    assert_eq!(refused(&|b| b.event_count = 2), "column kinds has 4 entries for 2 events");
    assert!(refused(&|b| b.columns_size -= 1).starts_with("the columns do not decompress"));
    assert!(refused(&|b| b.columns_size += 1).contains("not the"));
    assert!(refused(&|b| b.columns_size = u32::MAX).contains("limit"));
    assert!(refused(&|b| b.end_position = 10).contains("outside the range"));
    assert!(refused(&|b| b.start_position = 101).contains("limit"));
    assert!(refused(&|b| b.end_position = u64::MAX).contains("limit"));
    assert!(refused(&|b| b.stream = None).contains("missing"));

    let mut wrong = columns.clone();
    wrong.clients[0] = 3;
    assert_eq!(open(&batch_of(&wrong, 100)).unwrap_err().to_string(), "an index in clients points nowhere");
    let mut wrong = columns.clone();
    wrong.client_users = vec![4; 5];
    wrong.client_hosts = vec![5; 5];
    let refused = open(&batch_of(&wrong, 100)).unwrap_err().to_string();
    assert_eq!(refused, "the number of clients is 5, and 4 is the limit");
    let mut wrong = columns.clone();
    wrong.kinds[0] = 99;
    assert!(open(&batch_of(&wrong, 100)).unwrap_err().to_string().contains("newer"));
}

/// Millions of empty names would take a hundred times their bytes.
#[test]
fn more_names_than_events_can_have_are_refused() {
    let mut columns = Columns { strings: vec![String::new(); 17], ..Columns::default() };
    assert!(matches!(open(&batch_of(&columns, 1)), Err(InvalidBatch::Limit { field: "the number of names", .. })));
    columns.strings.truncate(16);
    assert!(open(&batch_of(&columns, 1)).is_ok());
}
