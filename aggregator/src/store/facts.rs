//! Facts: the usage of each feature by each identity, by month and log.
//!
//! Ten million events can give a million facts. Writing a million small rows took a quarter of the time of counting.
//! So the facts of neighbouring identities share a row, with their figures column by column, which also takes half the
//! space.

use prost::Message;

use super::engine::{Connection, Row, Value};
use super::usage::UsageKey;
use super::{Failure, StoreError};

use super::sql::statements;

statements! {
    UPSERT_BLOCK = "INSERT INTO fact (log_id, month, feature_id, block, figures) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (log_id, month, feature_id, block) DO UPDATE SET figures = excluded.figures";
    SELECT_BLOCKS = "SELECT block, figures FROM fact
         WHERE log_id = $1 AND month = $2 AND feature_id = $3 AND block >= $4 AND block <= $5";
    SELECT_BLOCK = "SELECT figures FROM fact WHERE log_id = $1 AND month = $2 AND feature_id = $3 AND block = $4";
    SELECT_FACTS = "SELECT month, feature_id, block, figures FROM fact WHERE log_id = $1 ORDER BY month, feature_id, block";
    DELETE_FACTS = "DELETE FROM fact WHERE log_id = $1";
}

/// The number of neighbouring identities that share a row. Their figures take about 400 bytes, so that a page holds
/// several rows and a small batch rewrites little.
const BLOCK: usize = u32::BITS as usize;

/// The usage of one feature by one identity, in one month, from one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// The log, the month and the feature.
    pub key: UsageKey,
    /// The id of the identity.
    pub identity: u32,
    /// The figures of the usage.
    pub figures: FactFigures,
}

/// The figures of a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FactFigures {
    /// The days of the month with usage, as bits; bit 0 is the 1st.
    pub days: u32,
    /// The first moment of use, in seconds since 1970 UTC; `i64::MAX` if there was no use.
    pub first_at: i64,
    /// The last moment of use, in seconds since 1970 UTC; `i64::MIN` if there was no use.
    pub last_at: i64,
    /// The number of checkout lines.
    pub checkouts: u64,
    /// The seats times the seconds they were held.
    pub seat_seconds: u64,
    /// The flags [`ESTIMATED`] and [`MOMENT`]; 0 if neither applies.
    pub flags: u32,
}

/// A flag of a fact: the end of a session was not seen.
pub const ESTIMATED: u32 = 1;
/// A flag of a fact: a use was seen, but not its beginning.
pub const MOMENT: u32 = 2;

impl FactFigures {
    /// The figures of no use.
    pub const NOTHING: Self =
        Self { days: 0, first_at: i64::MAX, last_at: i64::MIN, checkouts: 0, seat_seconds: 0, flags: 0 };

    /// Returns whether there was no use.
    pub fn is_nothing(&self) -> bool {
        self.first_at > self.last_at
    }

    /// Adds a use on these days, from the moment `first` through the moment `last`.
    pub fn touch(&mut self, days: u32, first: i64, last: i64) {
        self.days |= days;
        self.first_at = self.first_at.min(first);
        self.last_at = self.last_at.max(last);
    }

    /// Adds other figures of the same fact.
    pub fn add(&mut self, other: &Self) {
        self.touch(other.days, other.first_at, other.last_at);
        self.checkouts = self.checkouts.saturating_add(other.checkouts);
        self.seat_seconds = self.seat_seconds.saturating_add(other.seat_seconds);
        self.flags |= other.flags;
    }
}

/// The figures of neighbouring identities.
#[derive(Clone, Debug)]
struct Block([FactFigures; BLOCK]);

impl Default for Block {
    fn default() -> Self {
        Self([FactFigures::NOTHING; BLOCK])
    }
}

impl Block {
    /// Returns the number of the block that contains an identity.
    fn number_of(identity: u32) -> u32 {
        identity / BLOCK as u32
    }

    /// Returns the figures of an identity in this block.
    fn figures(&mut self, identity: u32) -> &mut FactFigures {
        &mut self.0[identity as usize % BLOCK]
    }

    /// Returns the identities with usage, in order. `number` is the number of this block.
    fn known(&self, number: u32) -> impl Iterator<Item = (u32, &FactFigures)> {
        let first = number.saturating_mul(BLOCK as u32);
        (first..=u32::MAX).zip(&self.0).filter(|(_, figures)| !figures.is_nothing())
    }

    fn add(&mut self, other: &Self) {
        for (figures, others) in self.0.iter_mut().zip(&other.0) {
            figures.add(others);
        }
    }
}

/// A [`Block`] in the database: a column for each figure, with an entry for each identity that has any.
#[derive(Clone, PartialEq, prost::Message)]
struct Encoded {
    /// Bit 0: the first identity has figures.
    #[prost(fixed32, tag = "1")]
    known: u32,
    /// The first moment of the first identity with figures. Other moments are stored relative to it, as small numbers.
    #[prost(sint64, tag = "2")]
    base: i64,
    #[prost(uint32, repeated, tag = "3")]
    days: Vec<u32>,
    /// Seconds since `base`.
    #[prost(sint64, repeated, tag = "4")]
    first_at: Vec<i64>,
    /// Seconds since the first moment of the same identity.
    #[prost(sint64, repeated, tag = "5")]
    last_at: Vec<i64>,
    #[prost(uint64, repeated, tag = "6")]
    checkouts: Vec<u64>,
    #[prost(uint64, repeated, tag = "7")]
    seat_seconds: Vec<u64>,
    #[prost(uint32, repeated, tag = "8")]
    flags: Vec<u32>,
}

impl Encoded {
    /// Encodes a block, and appends its bytes.
    fn write(&mut self, block: &Block, bytes: &mut Vec<u8>) {
        self.clear();
        for (index, figures) in block.known(0) {
            if self.known == 0 {
                self.base = figures.first_at;
            }
            self.known |= 1 << index;
            self.days.push(figures.days);
            self.first_at.push(figures.first_at.wrapping_sub(self.base));
            self.last_at.push(figures.last_at.wrapping_sub(figures.first_at));
            self.checkouts.push(figures.checkouts);
            self.seat_seconds.push(figures.seat_seconds);
            self.flags.push(figures.flags);
        }
        // Encoding into a vector cannot fail.
        let _ = self.encode(bytes);
    }

    /// Decodes the bytes that [`Encoded::write`] appended.
    fn read(&mut self, bytes: &[u8]) -> Result<Block, StoreError> {
        self.clear();
        self.merge(bytes).map_err(|error| damaged(&error.to_string()))?;
        let entries = self.known.count_ones() as usize;
        let moments = [self.first_at.len(), self.last_at.len()];
        let counts = [self.days.len(), self.checkouts.len(), self.seat_seconds.len(), self.flags.len()];
        if moments.iter().chain(&counts).any(|length| *length != entries) {
            return Err(damaged("its columns differ in length"));
        }
        let mut block = Block::default();
        let known = (0..BLOCK).filter(|index| self.known >> index & 1 == 1);
        for (entry, index) in known.enumerate() {
            let first_at = self.base.wrapping_add(self.first_at[entry]);
            block.0[index] = FactFigures {
                days: self.days[entry],
                first_at,
                last_at: first_at.wrapping_add(self.last_at[entry]),
                checkouts: self.checkouts[entry],
                seat_seconds: self.seat_seconds[entry],
                flags: self.flags[entry],
            };
        }
        Ok(block)
    }
}

fn damaged(reason: &str) -> StoreError {
    StoreError::new(
        Failure::Corrupt,
        format!("a block of facts cannot be read: {reason}; run `seatmeter-aggregator rebuild`"),
    )
}

/// The number of blocks handed to the database at a time, so that their bytes take little memory.
const PORTION: usize = 256;

/// Neighbouring blocks whose numbers differ by at most this are read in one query.
const NEAR: u32 = 4;

/// Adds facts to those in the database. The facts must be ordered by identity.
pub fn add_facts(
    connection: &mut dyn Connection,
    key: UsageKey,
    facts: &[(u32, FactFigures)],
) -> Result<(), StoreError> {
    let mut blocks: Vec<(u32, Block)> = Vec::new();
    for neighbours in facts.chunk_by(|(left, _), (right, _)| Block::number_of(*left) == Block::number_of(*right)) {
        if blocks.len() == PORTION {
            add_blocks(connection, key, &mut blocks)?;
            blocks.clear();
        }
        let mut block = Block::default();
        for (identity, figures) in neighbours {
            *block.figures(*identity) = *figures;
        }
        blocks.push((Block::number_of(neighbours[0].0), block));
    }
    add_blocks(connection, key, &mut blocks)
}

fn add_blocks(
    connection: &mut dyn Connection,
    (log_id, month, feature): UsageKey,
    blocks: &mut [(u32, Block)],
) -> Result<(), StoreError> {
    let mut encoded = Encoded::default();
    for near in blocks.chunk_by_mut(|(left, _), (right, _)| right - left <= NEAR) {
        add_stored(connection, (log_id, month, feature), near, &mut encoded)?;
    }
    let (mut bytes, mut ends) = (Vec::new(), Vec::with_capacity(blocks.len()));
    for (_, block) in &*blocks {
        encoded.write(block, &mut bytes);
        ends.push(bytes.len());
    }
    let mut values = Vec::with_capacity(5 * blocks.len());
    let mut start = 0;
    for ((number, _), end) in blocks.iter().zip(ends) {
        let figures = Value::Blob(&bytes[start..end]);
        values.extend([log_id.into(), month.into(), feature.into(), (*number).into(), figures]);
        start = end;
    }
    connection.bulk(UPSERT_BLOCK, 5, &values)
}

/// Adds the stored figures of these blocks to the blocks.
fn add_stored(
    connection: &mut dyn Connection,
    (log_id, month, feature): UsageKey,
    blocks: &mut [(u32, Block)],
    encoded: &mut Encoded,
) -> Result<(), StoreError> {
    let (Some((first, _)), Some((last, _))) = (blocks.first(), blocks.last()) else { return Ok(()) };
    let values = [log_id.into(), month.into(), feature.into(), (*first).into(), (*last).into()];
    connection.query(SELECT_BLOCKS, &values, &mut |row| {
        let stored = row.int(0)?;
        if let Ok(index) = blocks.binary_search_by_key(&stored, |(number, _)| (*number).into()) {
            blocks[index].1.add(&encoded.read(row.blob(1)?)?);
        }
        Ok(())
    })
}

/// Returns the fact of one identity; `None` if there is none.
pub fn fact(
    connection: &mut dyn Connection,
    (log_id, month, feature): UsageKey,
    identity: u32,
) -> Result<Option<FactFigures>, StoreError> {
    let mut found = FactFigures::NOTHING;
    let block = Block::number_of(identity);
    connection.query(SELECT_BLOCK, &[log_id.into(), month.into(), feature.into(), block.into()], &mut |row| {
        found = *Encoded::default().read(row.blob(0)?)?.figures(identity);
        Ok(())
    })?;
    Ok((!found.is_nothing()).then_some(found))
}

/// Calls `each` with every fact of a log, in the order of their keys.
pub fn each_fact(
    connection: &mut dyn Connection,
    log_id: i64,
    each: &mut dyn FnMut(Fact) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut encoded = Encoded::default();
    connection.query(SELECT_FACTS, &[log_id.into()], &mut |row: &dyn Row| {
        let key = (log_id, row.int(0)? as i32, row.int(1)? as u32);
        let block = encoded.read(row.blob(3)?)?;
        block
            .known(row.int(2)? as u32)
            .try_for_each(|(identity, figures)| each(Fact { key, identity, figures: *figures }))
    })
}

/// Deletes all facts of a log.
pub fn forget(connection: &mut dyn Connection, log_id: i64) -> Result<(), StoreError> {
    connection.execute(DELETE_FACTS, &[log_id.into()]).map(drop)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::store::facts_schema::Origin;
    use crate::store::{Store, in_transaction};

    fn any_figures() -> impl Strategy<Value = FactFigures> {
        (any::<u32>(), any::<(i64, i64)>(), any::<u64>(), any::<u64>(), 0u32..4).prop_map(
            |(days, (one, other), checkouts, seat_seconds, flags)| FactFigures {
                days,
                first_at: one.min(other),
                last_at: one.max(other),
                checkouts,
                seat_seconds,
                flags,
            },
        )
    }

    proptest! {
        #[test]
        fn a_block_comes_back_as_it_was(known in prop::collection::btree_map(0u32..BLOCK as u32, any_figures(), 0..BLOCK)) {
            let mut block = Block::default();
            for (identity, figures) in &known {
                *block.figures(*identity) = *figures;
            }
            let (mut encoded, mut bytes) = (Encoded::default(), Vec::new());
            encoded.write(&block, &mut bytes);
            let read = encoded.read(&bytes).unwrap();
            prop_assert_eq!(read.known(0).map(|(identity, figures)| (identity, *figures)).collect::<Vec<_>>(),
                known.into_iter().collect::<Vec<_>>());
        }

        /// A damaged block gives an error or some figures, but never a panic.
        #[test]
        fn garbage_is_read_in_peace(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Encoded::default().read(&bytes);
        }
    }

    /// Some identities, near each other or far apart, each with a number of checkouts.
    fn any_uses() -> impl Strategy<Value = Vec<(u32, u64)>> {
        let near = (0u32..4, 0u32..200).prop_map(|(far, near)| far * 100_000 + near);
        prop::collection::vec((near, 1u64..5), 0..30)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn what_is_written_in_parts_adds_up(parts in prop::collection::vec(any_uses(), 1..5)) {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open_embedded(folder.path()).unwrap();
            let origin = Origin { incarnation: String::new(), time_zone: "UTC".into() };
            let (mut writer, _) = store.projector(&origin).unwrap();
            let key = (1, 24_000, 2);
            let mut truth: BTreeMap<u32, FactFigures> = BTreeMap::new();
            for part in &parts {
                let mut facts: BTreeMap<u32, FactFigures> = BTreeMap::new();
                for (identity, checkouts) in part {
                    for facts in [&mut facts, &mut truth] {
                        let figures = facts.entry(*identity).or_insert(FactFigures::NOTHING);
                        figures.touch(1, 5, 6);
                        figures.checkouts += checkouts;
                    }
                }
                let facts: Vec<(u32, FactFigures)> = facts.into_iter().collect();
                in_transaction(writer.as_mut(), |connection| add_facts(connection, key, &facts)).unwrap();
            }
            let mut found = BTreeMap::new();
            each_fact(writer.as_mut(), key.0, &mut |fact| {
                assert_eq!(fact.key, key);
                assert!(found.insert(fact.identity, fact.figures).is_none());
                Ok(())
            }).unwrap();
            prop_assert_eq!(&found, &truth);
            for identity in [0, 7, 300_199] {
                prop_assert_eq!(fact(writer.as_mut(), key, identity).unwrap(), truth.get(&identity).copied());
            }
        }
    }

    #[test]
    fn the_last_block_has_the_last_identity() {
        let mut block = Block::default();
        block.figures(u32::MAX).touch(1, 5, 6);
        let known: Vec<u32> = block.known(Block::number_of(u32::MAX)).map(|(identity, _)| identity).collect();
        assert_eq!(known, [u32::MAX]);
    }
}
