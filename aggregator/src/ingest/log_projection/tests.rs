use jiff::tz::TimeZone;
use proptest::prelude::*;
use seatmeter_count::{Calendar, Event, Kind, SessionKey};
use seatmeter_proto::batch;
use seatmeter_proto::v1::{Batch, Columns};

use super::*;
use crate::store::engine::Connection;
use crate::store::facts::{self, Fact};
use crate::store::facts_schema::Origin;
use crate::store::streams::LineTime;
use crate::store::usage::{self, Peak, Usage, UsageKey};
use crate::store::{Store, in_transaction};

/// 2026-01-01, in days since 1970.
const DAY: i32 = 20_454;

fn stream() -> Stream {
    Stream {
        id: 1,
        server_id: 1,
        log_id: 1,
        fingerprint: vec![1],
        realm: String::new(),
        mark: 0,
        lines: [0; 3],
        beginning: vec![1],
        check: Vec::new(),
        common_in_log: 0,
        common_elsewhere: 0,
        first_line_time: 0,
        after: Vec::new(),
        told_day: Some(DAY),
        told_position: 0,
        given_day: None,
        found_after: 0,
        begins: LineTime::default(),
        last: LineTime::default(),
        first_day: Some(DAY),
        begins_at: i64::from(DAY) * 86_400,
        last_line_at: 0,
    }
}

/// A batch of events, one at each position from `start` on. Ignored lines follow the last one for some seconds.
fn batch_of(events: &[Event], start: u64, ignored: i64) -> (Batch, Columns) {
    let mut columns = Columns {
        strings: ["", "d", "f1", "f2", "ann", "bob", "carl", "host"].map(String::from).to_vec(),
        feature_daemons: vec![1, 1, 1],
        feature_names: vec![0, 2, 3],
        client_users: vec![4, 5, 6],
        client_hosts: vec![7, 7, 7],
        ..Columns::default()
    };
    let (mut last, mut delta) = (0, 0);
    for event in events {
        batch::push(&mut columns, &mut last, delta, *event);
        delta = 1;
    }
    let batch = Batch {
        start_position: start,
        end_position: start + events.len() as u64,
        told_first_day: Some(DAY),
        last_line_time: last + ignored,
        stream: Some(seatmeter_proto::v1::Stream { time_zone: "UTC".into(), ..Default::default() }),
        ..Batch::default()
    };
    (batch, columns)
}

/// All that is known of the log in the end.
#[derive(Debug, PartialEq)]
struct Known {
    usage: Vec<(UsageKey, Usage)>,
    hours: Vec<Peak>,
    facts: Vec<Fact>,
    state: Vec<u8>,
}

fn known(facts: &mut dyn Connection, state: Vec<u8>) -> Known {
    let mut all = Vec::new();
    facts::each_fact(facts, 1, &mut |fact| {
        all.push(fact);
        Ok(())
    })
    .unwrap();
    let usage = usage::usage_of_months(facts, i32::MIN, i32::MAX).unwrap();
    Known { usage, hours: usage::peaks(facts, 1, i64::MIN, i64::MAX).unwrap(), facts: all, state }
}

/// Projects batches. After each batch for which `restarts` says so, what there is is written, and read again.
fn project(batches: &[(Batch, Columns)], restarts: &[bool]) -> Known {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin { incarnation: String::new(), time_zone: "UTC".into() };
    let store = Store::open_embedded(folder.path()).unwrap();
    let (mut facts, _) = store.projector(&origin).unwrap();
    let (mut names, mut pending) = (NameRegistry::default(), PendingFacts::new(Calendar::utc()));
    let (stream, horizon) = (stream(), Horizon::at(4_000_000_000));
    let mut log = LogProjection::default();
    for (index, (batch, columns)) in batches.iter().enumerate() {
        let dated = Dated { stream: &stream, zone: &TimeZone::UTC, horizon };
        log.take((batch, columns), batch.start_position, dated, &mut names, &mut pending);
        if restarts[index % restarts.len()] || index + 1 == batches.len() {
            in_transaction(facts.as_mut(), |facts| pending.write(facts)).unwrap();
            pending.clear();
            let saved = LogState::read(&log.save(&names)).unwrap();
            log = LogProjection::restore(&saved, log.last_line_at, &mut names);
        }
    }
    known(facts.as_mut(), log.save(&names))
}

fn any_event() -> impl Strategy<Value = (u8, i64, u32, u32, u32)> {
    let step = prop_oneof![4 => 0i64..600, 2 => 0i64..40_000, 1 => -8_000i64..0];
    (0u8..10, step, 1u32..3, 0u32..3, 1u32..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 100, ..ProptestConfig::default() })]

    /// However often the projector starts anew, and whatever the clock does: the facts are the same.
    #[test]
    fn a_restart_changes_no_fact(
        lines in prop::collection::vec(any_event(), 1..120),
        sizes in prop::collection::vec((1usize..9, 0i64..9_000), 1..8),
        restarts in prop::collection::vec(any::<bool>(), 1..6),
    ) {
        let batches = divided(&events(&lines, &[(0, 0)]), &sizes);
        prop_assert_eq!(project(&batches, &restarts), project(&batches, &[false]));
    }

    /// The same where the license manager numbers some of its sessions.
    #[test]
    fn a_restart_changes_no_fact_of_sessions_with_numbers(
        lines in prop::collection::vec(any_event(), 1..120),
        numbers in prop::collection::vec((0u64..5, 1u64..5), 1..20),
        sizes in prop::collection::vec((1usize..9, 0i64..9_000), 1..8),
        restarts in prop::collection::vec(any::<bool>(), 1..6),
    ) {
        let batches = divided(&events(&lines, &numbers), &sizes);
        prop_assert_eq!(project(&batches, &restarts), project(&batches, &[false]));
    }
}

/// Returns events as lines tell them. Those of sessions have these numbers in turn: their own, and that of the session whose
/// seats they share.
fn events(lines: &[(u8, i64, u32, u32, u32)], numbers: &[(u64, u64)]) -> Vec<Event> {
    let mut at = 8 * 3600;
    let mut numbers = numbers.iter().cycle();
    let events = lines.iter().map(|&(kind, step, feature, client, seats)| {
        at += step;
        let (own, shared) = numbers.next().copied().unwrap_or_default();
        let key = SessionKey::new(own, shared).map_or(0, SessionKey::detail);
        let (kind, feature, detail) = match kind {
            0..=3 if key != 0 && step % 5 == 0 => (Kind::InUse, feature, key),
            0..=3 => (Kind::Checkout, feature, key),
            4 if key != 0 && step % 3 == 0 => (Kind::NoLongerInUse, feature, key),
            4 if key != 0 => (Kind::SessionEnd, 0, key),
            8 if key != 0 && step % 2 == 0 => {
                (Kind::AnswerBegin, 0, [NO_LINE_BEFORE, 7, -99][(step / 2).rem_euclid(3) as usize])
            }
            9 if key != 0 && step % 2 == 0 => {
                (Kind::AnswerEnd, 0, [NO_LINE_BEFORE, 5, -99][(step / 2).rem_euclid(3) as usize])
            }
            4..=6 => (Kind::Checkin, feature, key),
            7 => (Kind::Denial, feature, -4),
            8 => (Kind::DaemonStart, 0, 1),
            _ => (Kind::DaemonExit, 0, 0),
        };
        Event { kind, at, feature, client, seats, detail }
    });
    events.collect()
}

/// Divides events into batches of these sizes, in turn.
fn divided(events: &[Event], sizes: &[(usize, i64)]) -> Vec<(Batch, Columns)> {
    let (mut batches, mut rest, mut sizes) = (Vec::new(), events, sizes.iter().cycle());
    while let (Some((size, ignored)), false) = (sizes.next(), rest.is_empty()) {
        let (now, later) = rest.split_at((*size).min(rest.len()));
        batches.push(batch_of(now, (events.len() - rest.len()) as u64, *ignored));
        rest = later;
    }
    batches
}
