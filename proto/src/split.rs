//! Splits a batch that exceeds the aggregator's limits into parts that do not.
//!
//! The parts cover the batch's range in order and without gaps, and they all have the batch's sequence: the agent
//! deletes the batch when the aggregator acknowledges the last part. Names that are too long are cut. Nothing else is
//! lost.

use std::collections::HashMap;
use std::io;

use prost::Message;
use seatmeter_count::timeline::Told;
use seatmeter_count::{Event, Kind};

use crate::batch::{self, InvalidBatch, block_ends, events, open, push, seal};
use crate::v1::{Batch, Columns, Limits, LineCounts};

/// Why a batch cannot be split.
#[derive(Debug, thiserror::Error)]
pub enum SplitError {
    /// The batch is invalid.
    #[error(transparent)]
    Invalid(#[from] InvalidBatch),
    /// A part cannot be compressed.
    #[error("a part of the batch cannot be compressed: {0}")]
    Compression(#[from] io::Error),
    /// A single event exceeds the limits: its names alone make the columns too large.
    #[error("the aggregator takes columns of at most {limit} bytes, and one event alone needs {needed}")]
    OneEvent {
        /// The largest columns that the aggregator takes, in bytes.
        limit: u32,
        /// The size of the columns with this event alone, in bytes.
        needed: u32,
    },
}

/// Returns the batches to send in place of `batch`: the batch itself if it is within the limits.
pub fn within(batch: Batch, limits: &Limits) -> Result<Vec<Batch>, SplitError> {
    let exceeds = |value: u32, limit: u32| limit > 0 && value > limit;
    let is_large =
        exceeds(batch.event_count, limits.max_batch_events) || exceeds(batch.columns_size, limits.max_columns_bytes);
    // Names need checking only if the aggregator takes shorter names than this version does.
    let may_have_long_names = limits.max_name_bytes > 0 && (limits.max_name_bytes as usize) < crate::batch::MAX_NAME;
    if !is_large && !may_have_long_names {
        return Ok(vec![batch]);
    }
    let mut columns = open(&batch)?;
    let has_cut = limits.max_name_bytes > 0 && cut_names(&mut columns, limits.max_name_bytes as usize);
    if !is_large && !has_cut {
        return Ok(vec![batch]);
    }
    let list: Vec<(u64, Event)> = events(&columns, batch.start_position).collect();
    let mut parts = Vec::new();
    divide(&batch, &columns, &list, limits, &mut parts)?;
    // No gaps: each part ends where the next one begins, and the last part ends where the batch ends.
    for index in 1..parts.len() {
        parts[index - 1].end_position = parts[index].start_position;
    }
    for part in &mut parts {
        part.block_checks = block_checks_of(&batch, part);
        let told = told_before(&batch, &list, part.start_position);
        (part.told_first_day, part.told_offset) = (told.first_day, told.offset);
    }
    if let Some(first) = parts.first_mut() {
        first.start_check = batch.start_check;
        first.lost_before = batch.lost_before;
        first.replaces_tail = batch.replaces_tail;
        // Line counts cannot be divided among the parts, so the first part carries all of them.
        first.lines = batch.lines;
    }
    if let Some(last) = parts.last_mut() {
        last.end_position = batch.end_position;
        last.end_check = batch.end_check;
        last.last_line_time = batch.last_line_time;
        last.licenses = batch.licenses;
    }
    Ok(parts)
}

/// Returns what the lines before a position tell of the date.
fn told_before(batch: &Batch, list: &[(u64, Event)], position: u64) -> Told {
    let mut told = batch::told_before(batch);
    for (_, event) in list.iter().take_while(|(at, _)| *at < position) {
        told.take(event);
    }
    told
}

/// Returns the check values of the blocks' ends in the range of a part.
fn block_checks_of(batch: &Batch, part: &Batch) -> Vec<u32> {
    let ends = block_ends(batch.start_position, batch.end_position).zip(&batch.block_checks);
    let range = part.start_position + 1..=part.end_position;
    ends.filter(|(end, _)| range.contains(end)).map(|(_, check)| *check).collect()
}

/// Halves the events until each part is within the limits.
fn divide(
    batch: &Batch,
    columns: &Columns,
    list: &[(u64, Event)],
    limits: &Limits,
    parts: &mut Vec<Batch>,
) -> Result<(), SplitError> {
    // The first part starts where the batch starts, even if no event is there.
    let base = if parts.is_empty() { batch.start_position } else { list.first().map_or(0, |(position, _)| *position) };
    let part = columns_of(columns, list, base);
    let size = part.encoded_len() as u32;
    let fits = |value: usize, limit: u32| limit == 0 || value <= limit as usize;
    if fits(list.len(), limits.max_batch_events) && fits(size as usize, limits.max_columns_bytes) {
        let (sealed, columns_size) = seal(&part)?;
        parts.push(Batch {
            start_position: base,
            end_position: batch.end_position,
            lost_before: false,
            replaces_tail: false,
            last_line_time: list.last().map_or(batch.last_line_time, |(_, event)| event.at),
            event_count: list.len() as u32,
            columns_size,
            columns: sealed.into(),
            lines: Some(LineCounts::default()),
            // Only the ends of the whole batch have a check value.
            start_check: Vec::new(),
            end_check: Vec::new(),
            block_checks: Vec::new(),
            // They are told at the end of the last part.
            licenses: None,
            ..batch.clone()
        });
        return Ok(());
    }
    // A part ends where the next one begins, so events at the same position must stay in one part.
    let between = |index: &usize| list[*index - 1].0 < list[*index].0;
    let middle = list.len() / 2;
    let cut =
        (middle..list.len()).find(|index| *index > 0 && between(index)).or_else(|| (1..middle).rev().find(between));
    let Some(cut) = cut else { return Err(SplitError::OneEvent { limit: limits.max_columns_bytes, needed: size }) };
    let (left, right) = list.split_at(cut);
    divide(batch, columns, left, limits, parts)?;
    divide(batch, columns, right, limits, parts)
}

/// Builds columns of these events alone, with only the names, features and clients that they refer to. Positions are
/// relative to `base`.
fn columns_of(all: &Columns, list: &[(u64, Event)], base: u64) -> Columns {
    let mut made = Made {
        all,
        columns: Columns::default(),
        strings: HashMap::new(),
        features: HashMap::new(),
        clients: HashMap::new(),
    };
    let (mut last_at, mut last_position) = (0, base);
    for (position, event) in list {
        let event = made.event(*event);
        // The delta fits 32 bits: positions of one batch differ by less than its range.
        let delta = (position - last_position) as u32;
        push(&mut made.columns, &mut last_at, delta, event);
        last_position = *position;
    }
    made.columns
}

/// New columns, built from events of `all`. The maps translate indexes into the tables of `all` to indexes into the new
/// tables.
struct Made<'a> {
    all: &'a Columns,
    columns: Columns,
    strings: HashMap<u32, u32>,
    features: HashMap<u32, u32>,
    clients: HashMap<u32, u32>,
}

impl Made<'_> {
    fn event(&mut self, mut event: Event) -> Event {
        if event.kind.has_feature() {
            event.feature = self.feature(event.feature);
        }
        if event.kind.has_client() {
            event.client = self.client(event.client);
        } else if event.kind == Kind::Unrecognised {
            event.client = self.string(event.client);
        }
        event
    }

    fn string(&mut self, index: u32) -> u32 {
        let (all, columns) = (self.all, &mut self.columns);
        *self.strings.entry(index).or_insert_with(|| {
            columns.strings.push(all.strings[index as usize].clone());
            columns.strings.len() as u32 - 1
        })
    }

    fn feature(&mut self, index: u32) -> u32 {
        if let Some(known) = self.features.get(&index) {
            return *known;
        }
        let daemon = self.string(self.all.feature_daemons[index as usize]);
        let name = self.string(self.all.feature_names[index as usize]);
        self.columns.feature_daemons.push(daemon);
        self.columns.feature_names.push(name);
        let own = self.columns.feature_names.len() as u32 - 1;
        self.features.insert(index, own);
        own
    }

    fn client(&mut self, index: u32) -> u32 {
        if let Some(known) = self.clients.get(&index) {
            return *known;
        }
        let user = self.string(self.all.client_users[index as usize]);
        let host = self.string(self.all.client_hosts[index as usize]);
        self.columns.client_users.push(user);
        self.columns.client_hosts.push(host);
        let own = self.columns.client_hosts.len() as u32 - 1;
        self.clients.insert(index, own);
        own
    }
}

/// Cuts names to at most `bytes` bytes, at a character boundary. Returns whether any name was cut.
fn cut_names(columns: &mut Columns, bytes: usize) -> bool {
    let mut has_cut = false;
    for name in columns.strings.iter_mut().filter(|name| name.len() > bytes) {
        name.truncate(name.floor_char_boundary(bytes));
        has_cut = true;
    }
    has_cut
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use seatmeter_count::Kind;

    use super::*;
    use crate::v1::Stream;

    fn batch_of(list: &[(u32, u32, u32)]) -> Batch {
        let mut columns = Columns {
            strings: (0..20).map(|n| "n".repeat(n)).collect(),
            feature_daemons: (0..5).collect(),
            feature_names: (5..10).collect(),
            client_users: (10..15).collect(),
            client_hosts: (15..20).collect(),
            ..Columns::default()
        };
        let mut last_at = 0;
        let mut end = 0u64;
        for (kind, index, step) in list {
            let kind = Kind::from_number(*kind).unwrap();
            let event = Event {
                kind,
                at: 1000 + i64::from(*step),
                feature: *index,
                client: *index,
                seats: *step % 3 + 1,
                detail: 0,
            };
            push(&mut columns, &mut last_at, *step, event);
            end += u64::from(*step);
        }
        let (sealed, columns_size) = seal(&columns).unwrap();
        Batch {
            sequence: 7,
            stream: Some(Stream {
                fingerprint: vec![1; 32],
                log: "log".into(),
                first_line_time: 5,
                ..Stream::default()
            }),
            start_position: 100,
            end_position: 100 + end + 50,
            event_count: list.len() as u32,
            columns_size,
            columns: sealed.into(),
            lost_before: true,
            last_line_time: 99_999,
            lines: Some(LineCounts { events: 3, ignored: 2, unrecognised: 1 }),
            ..Batch::default()
        }
    }

    /// Returns the events of the batches with their positions, and with names in place of indexes.
    fn told(batches: &[Batch]) -> Vec<(u64, Event, Vec<String>)> {
        let mut told = Vec::new();
        for batch in batches {
            let columns = open(batch).unwrap();
            let name = |index: u32| columns.strings[index as usize].clone();
            for (position, event) in events(&columns, batch.start_position) {
                let (feature, client) = (event.feature as usize, event.client as usize);
                let names = match event.kind {
                    Kind::ManagerStart => vec![],
                    Kind::DaemonStart => vec![name(columns.feature_daemons[feature])],
                    Kind::Unrecognised => vec![name(event.client)],
                    _ => vec![
                        name(columns.feature_daemons[feature]),
                        name(columns.feature_names[feature]),
                        name(columns.client_users[client]),
                        name(columns.client_hosts[client]),
                    ],
                };
                told.push((position, Event { feature: 0, client: 0, ..event }, names));
            }
        }
        told
    }

    proptest! {
        #[test]
        fn the_parts_say_what_the_batch_says(
            list in prop::collection::vec((1u32..=11, 0u32..5, 1u32..100), 5..60),
            max_batch_events in 1u32..20,
            max_columns_bytes in 200u32..400,
        ) {
            let batch = batch_of(&list);
            let limits = Limits { max_batch_events, max_columns_bytes, ..Limits::default() };
            let parts = within(batch.clone(), &limits).unwrap();
            prop_assert_eq!(told(&parts), told(std::slice::from_ref(&batch)));
            let mut position = batch.start_position;
            for part in &parts {
                prop_assert!(part.event_count <= max_batch_events && part.columns_size <= max_columns_bytes);
                prop_assert_eq!((part.start_position, part.sequence), (position, 7));
                position = part.end_position;
            }
            prop_assert_eq!(position, batch.end_position);
            prop_assert_eq!(parts.iter().map(|part| part.lines.as_ref().unwrap().events).sum::<u64>(), 3);
            prop_assert_eq!(parts.last().unwrap().last_line_time, batch.last_line_time);
        }
    }

    #[test]
    fn a_batch_within_the_limits_stays_as_it_is_and_long_names_are_cut() {
        let batch = batch_of(&[(1, 4, 5), (2, 4, 5), (3, 0, 5), (9, 0, 0), (10, 1, 1)]);
        assert_eq!(within(batch.clone(), &crate::batch::limits(8)).unwrap(), std::slice::from_ref(&batch));
        assert_eq!(within(batch.clone(), &Limits::default()).unwrap(), std::slice::from_ref(&batch));
        let short = Limits { max_name_bytes: 6, ..Limits::default() };
        let cut = within(batch, &short).unwrap();
        assert!(told(&cut).iter().all(|(_, _, names)| names.iter().all(|name| name.len() <= 6)));
        assert_eq!(told(&cut).len(), 5);
    }
}
