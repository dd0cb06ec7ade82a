//! Compares the content of streams: a stream and a batch that claims to be a part of it, or two streams that begin alike.
//!
//! The check values decide where both sides have one of the same position. Between those positions, the events decide.

use std::collections::BTreeMap;

use seatmeter_count::{Event, Kind};
use seatmeter_proto::batch::{self, block_ends};
use seatmeter_proto::v1::{Batch, Columns};

use crate::store::engine::Connection;
use crate::store::received;
use crate::store::streams::LineTime;
use crate::store::{Failure, StoreError};

/// A batch of a stream, decompressed.
pub(super) struct Piece<'a> {
    /// The batch counts from this position on.
    start: u64,
    batch: &'a Batch,
    columns: &'a Columns,
}

/// What two streams have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Common {
    /// The position through which both have the same content, as far as that is known.
    pub(super) through: u64,
    /// Whether they differ after it.
    pub(super) parted: bool,
}

/// The archived batches of a stream that cover a range.
pub(super) struct Archived(Vec<(u64, Batch, Columns)>);

impl Archived {
    /// Reads the batches that cover the positions from `from` to `to`.
    pub(super) fn read(
        connection: &mut dyn Connection,
        stream_id: i64,
        from: u64,
        to: u64,
    ) -> Result<Self, StoreError> {
        let mut found = Vec::new();
        received::each_batch_between(connection, stream_id, (from, to), &mut |archived| {
            let columns = batch::open(&archived.batch).map_err(|error| {
                StoreError::new(Failure::Corrupt, format!("batch {} in the archive: {error}", archived.id))
            })?;
            found.push((archived.start, archived.batch, columns));
            Ok(())
        })?;
        Ok(Self(found))
    }

    /// Returns the position through which nothing is lost from a position on.
    pub(super) fn whole_through(&self, from: u64) -> u64 {
        self.0.iter().fold(
            from,
            |reached, (start, batch, _)| {
                if *start <= reached { reached.max(batch.end_position) } else { reached }
            },
        )
    }

    /// Returns the first event from a position on for which `counts` holds; `None` if there is none.
    pub(super) fn first_line(&self, position: u64, counts: impl Fn(&LineTime) -> bool) -> Option<LineTime> {
        self.0.iter().find_map(|(_, batch, columns)| {
            let mut told = batch::told_before(batch);
            batch::events(columns, batch.start_position).find_map(|(at, event)| {
                told.take(&event);
                let is_event = at >= position && !event.kind.is_mark() && event.kind != Kind::Unrecognised;
                is_event.then_some(LineTime { time: event.at, told }).filter(&counts)
            })
        })
    }

    /// Returns the batches in their order.
    pub(super) fn pieces(&self) -> Vec<Piece<'_>> {
        self.0.iter().map(|(start, batch, columns)| Piece { start: *start, batch, columns }).collect()
    }
}

impl<'a> Piece<'a> {
    /// Takes a batch whole.
    pub(super) fn whole(batch: &'a Batch, columns: &'a Columns) -> Self {
        Self { start: batch.start_position, batch, columns }
    }

    /// Whether the batch says which lines tell a date. Agents that dated lines themselves did not.
    fn tells_dates(&self) -> bool {
        self.batch.stream.as_ref().is_some_and(|stream| !stream.time_zone.is_empty())
    }

    fn covers(&self, position: u64) -> bool {
        self.start <= position && position < self.batch.end_position
    }
}

/// Compares two streams from a position where they are the same to another one that both reach. What one of them has
/// lost is not compared.
pub(super) fn compare(ours: &[Piece<'_>], theirs: &[Piece<'_>], from: u64, to: u64) -> Common {
    if to <= from {
        return Common { through: from, parted: false };
    }
    let known = checks(theirs);
    let (mut same, mut limit, mut parted) = (from, to, false);
    for (position, check) in checks(ours).range(from + 1..=to) {
        match known.get(position) {
            Some(other) if other == check => same = *position,
            Some(_) => {
                (limit, parted) = (*position, true);
                break;
            }
            None => {}
        }
    }
    if same == limit {
        return Common { through: limit, parted };
    }
    // A block can end within a line, which then differs after a check value that is the same: that line is compared whole.
    let begin = line_at(ours, same).min(line_at(theirs, same)).max(from);
    let (mut our_events, mut their_events) = (entries(ours, theirs, begin, limit), entries(theirs, ours, begin, limit));
    loop {
        match (our_events.next(), their_events.next()) {
            (None, None) => return Common { through: limit, parted },
            (our, their) if our == their => {}
            (our, their) => {
                let first = [our, their].into_iter().flatten().map(|entry| entry.position).min();
                return Common { through: first.unwrap_or(same), parted: true };
            }
        }
    }
}

/// Returns the first four bytes of each check value, by its position.
fn checks(pieces: &[Piece<'_>]) -> BTreeMap<u64, u32> {
    let mut checks = BTreeMap::new();
    for Piece { batch, .. } in pieces {
        let (start, end) = (batch.start_position, batch.end_position);
        checks.extend(block_ends(start, end).zip(batch.block_checks.iter().copied()));
        for (position, check) in [(start, &batch.start_check), (end, &batch.end_check)] {
            if let Some(first) = check.first_chunk() {
                checks.insert(position, u32::from_le_bytes(*first));
            }
        }
    }
    checks
}

/// Returns where the last event that begins before a position begins; the position itself if there is none.
fn line_at(pieces: &[Piece<'_>], position: u64) -> u64 {
    let piece = pieces.iter().rfind(|piece| piece.start < position && position <= piece.batch.end_position);
    let before = piece.and_then(|piece| {
        let events = batch::events(piece.columns, piece.batch.start_position);
        events.map(|(start, _)| start).take_while(|start| *start < position).last()
    });
    before.unwrap_or(position)
}

/// What a line says, whether its agent dated it or not.
#[derive(PartialEq, Eq)]
struct Entry<'a> {
    position: u64,
    kind: Kind,
    /// Seconds since the last quarter of an hour: the same in every time zone.
    seconds: i64,
    /// The day or the offset that the line tells, or the number of its session; 0 for other lines.
    told: i64,
    seats: u32,
    names: [&'a str; 4],
}

/// Returns what the lines of a range say, in their order, as far as the other side has that part too.
fn entries<'a>(pieces: &'a [Piece<'a>], other: &'a [Piece<'a>], from: u64, to: u64) -> impl Iterator<Item = Entry<'a>> {
    pieces.iter().flat_map(move |piece| {
        let events = batch::events(piece.columns, piece.batch.start_position);
        events
            .filter(move |(position, event)| {
                let tells = |other: &Piece<'_>| !event.kind.is_mark() || (piece.tells_dates() && other.tells_dates());
                // Samples of lines that were not recognised are not sent for all of them.
                event.kind != Kind::Unrecognised
                    && (from..to).contains(position)
                    && piece.covers(*position)
                    && other.iter().any(|other| other.covers(*position) && tells(other))
            })
            .map(|(position, event)| entry(piece.columns, position, &event))
    })
}

fn entry<'a>(columns: &'a Columns, position: u64, event: &Event) -> Entry<'a> {
    let string = |index: u32| columns.strings[index as usize].as_str();
    let mut names = [""; 4];
    if event.kind.has_feature() {
        let feature = event.feature as usize;
        names[0] = string(columns.feature_daemons[feature]);
        names[1] = string(columns.feature_names[feature]);
    }
    if event.kind.has_client() {
        let client = event.client as usize;
        names[2] = string(columns.client_users[client]);
        names[3] = string(columns.client_hosts[client]);
    }
    let told = if event.kind.is_mark() || event.kind.has_session() { event.detail } else { 0 };
    Entry { position, kind: event.kind, seconds: event.at.rem_euclid(900), told, seats: event.seats, names }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use seatmeter_proto::batch::{CHECK_BLOCK, push};

    use super::*;

    /// A stream of lines of ten bytes, each with the number of its user, cut into batches at these lines.
    fn stream(users: &[u32], cuts: &[usize], has_checks: bool) -> Vec<(Batch, Columns)> {
        let cuts: Vec<usize> = std::iter::once(0).chain(cuts.iter().copied()).chain([users.len()]).collect();
        let check = |line: usize| {
            // Stands for a hash of all lines before.
            let mut hash = [0u8; 32];
            hash[..4].copy_from_slice(
                &users[..line].iter().fold(7u32, |sum, user| sum.wrapping_mul(31) + user).to_le_bytes(),
            );
            hash
        };
        cuts.windows(2)
            .filter(|cut| cut[0] < cut[1])
            .map(|cut| {
                let (start, end) = (cut[0] as u64 * 10, cut[1] as u64 * 10);
                let mut columns = Columns {
                    strings: vec!["d".into(), "f".into(), "h".into()],
                    feature_daemons: vec![0],
                    feature_names: vec![1],
                    ..Columns::default()
                };
                let (mut last_at, mut last) = (0, start);
                for (line, user) in users.iter().enumerate().take(cut[1]).skip(cut[0]) {
                    columns.client_users.push(columns.strings.len() as u32);
                    columns.client_hosts.push(2);
                    columns.strings.push(format!("u{user}"));
                    let client = columns.client_users.len() as u32 - 1;
                    let event = Event { kind: Kind::Checkout, at: 5, feature: 0, client, seats: 1, detail: 0 };
                    push(&mut columns, &mut last_at, (line as u64 * 10 - last) as u32, event);
                    last = line as u64 * 10;
                }
                let mut batch = Batch { start_position: start, end_position: end, ..Batch::default() };
                if has_checks {
                    (batch.start_check, batch.end_check) = (check(cut[0]).to_vec(), check(cut[1]).to_vec());
                    batch.block_checks = block_ends(start, end)
                        .map(|end| u32::from_le_bytes(*check((end / 10) as usize).first_chunk().unwrap()))
                        .collect();
                }
                (batch, columns)
            })
            .collect()
    }

    fn pieces(stream: &[(Batch, Columns)]) -> Vec<Piece<'_>> {
        stream.iter().map(|(batch, columns)| Piece::whole(batch, columns)).collect()
    }

    proptest! {
        /// However two streams are cut into batches, with or without check values: what they have in common ends where
        /// their lines first differ, or where the shorter one ends.
        #[test]
        fn streams_are_the_same_up_to_the_first_line_that_differs(
            lines in 1usize..4 * CHECK_BLOCK / 10,
            differ_at in any::<prop::sample::Index>(),
            is_same in any::<bool>(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
            other_cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
            has_checks in any::<(bool, bool)>(),
        ) {
            let sorted = |cuts: &[prop::sample::Index]| {
                let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(lines)).collect();
                cuts.sort_unstable();
                cuts
            };
            let users: Vec<u32> = (0..lines as u32).map(|line| line % 7).collect();
            let mut other_users = users.clone();
            let differs = differ_at.index(lines);
            if !is_same { other_users[differs] = 9; }
            let ours = stream(&users, &sorted(&cuts), has_checks.0);
            let theirs = stream(&other_users, &sorted(&other_cuts), has_checks.1);
            let to = lines as u64 * 10;
            let found = compare(&pieces(&ours), &pieces(&theirs), 0, to);
            let expected = if is_same { Common { through: to, parted: false } }
                else { Common { through: differs as u64 * 10, parted: true } };
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_line_that_differs_after_the_end_of_its_block_is_found() {
        let users = vec![1; 2 * CHECK_BLOCK / 10];
        let line = CHECK_BLOCK / 10;
        let mut other_users = users.clone();
        other_users[line] = 2;
        let (ours, theirs) = (stream(&users, &[], true), stream(&other_users, &[], true));
        let position = line as u64 * 10;
        assert!(position < CHECK_BLOCK as u64, "the block ends within the line");
        let found = compare(&pieces(&ours), &pieces(&theirs), 0, users.len() as u64 * 10);
        assert_eq!(found, Common { through: position, parted: true });
    }

    #[test]
    fn what_one_side_has_lost_is_not_compared() {
        let users = [1, 2, 3, 4, 5, 6];
        let whole = stream(&users, &[], false);
        let mut gapped = stream(&users, &[2, 4], false);
        gapped.remove(1);
        assert_eq!(compare(&pieces(&gapped), &pieces(&whole), 0, 60), Common { through: 60, parted: false });
        assert_eq!(compare(&pieces(&gapped), &pieces(&whole), 20, 20), Common { through: 20, parted: false });
    }
}
