//! Names, each kept once and known by a small number: features of daemons, users on hosts.

use std::hash::BuildHasher;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// Pairs of names. The first seen has the number 0, the next 1, and so on.
///
/// A busy log names a few ten thousand clients in no order, so that a lookup costs what it misses of the cache: two
/// lines here, the table's slot and the entry, whose number and lengths stand right before its names.
#[derive(Default)]
pub struct Pairs {
    /// Where entries start in `entries`.
    table: HashTable<u32>,
    /// A number, two lengths, and the two names; one entry after the other.
    entries: Vec<u8>,
    /// For each number, where its entry starts.
    starts: Vec<u32>,
    hasher: foldhash::fast::RandomState,
}

/// What stands before an entry's names: three numbers of four bytes.
const HEAD: usize = 12;

impl Pairs {
    /// What [`Pairs::find`] finds a pair by.
    pub fn hash(&self, left: &[u8], right: &[u8]) -> u64 {
        self.hasher.hash_one((left, right))
    }

    /// The number of a pair, where it has one. One after the other, in a loop that does nothing else, several pairs are
    /// found in hardly more time than one: the processor waits for the memory of all of them at once.
    pub fn find(&self, hash: u64, left: &[u8], right: &[u8]) -> Option<u32> {
        let found = self.table.find(hash, |start| names(&self.entries, *start) == (left, right));
        found.map(|start| field(&self.entries, *start as usize))
    }

    /// The number of a pair, and whether it is new.
    pub fn number(&mut self, left: &[u8], right: &[u8]) -> (u32, bool) {
        let hash = self.hash(left, right);
        let entries = &self.entries;
        let entry = self.table.entry(
            hash,
            |start| names(entries, *start) == (left, right),
            |start| self.hasher.hash_one(names(entries, *start)),
        );
        match entry {
            Entry::Occupied(entry) => (field(entries, *entry.get() as usize), false),
            Entry::Vacant(entry) => {
                let (number, start) = (self.starts.len() as u32, self.entries.len() as u32);
                entry.insert(start);
                self.starts.push(start);
                for field in [number, left.len() as u32, right.len() as u32] {
                    self.entries.extend_from_slice(&field.to_le_bytes());
                }
                self.entries.extend_from_slice(left);
                self.entries.extend_from_slice(right);
                (number, true)
            }
        }
    }

    /// The pair with this number.
    pub fn get(&self, number: u32) -> (&[u8], &[u8]) {
        names(&self.entries, self.starts[number as usize])
    }

    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// The bytes that all names take.
    pub fn size(&self) -> usize {
        self.entries.len()
    }

    /// Forgets all, and keeps the memory for the next ones.
    pub fn clear(&mut self) {
        self.table.clear();
        self.entries.clear();
        self.starts.clear();
    }
}

fn field(entries: &[u8], at: usize) -> u32 {
    // Four bytes are four bytes.
    entries[at..at + 4].try_into().map_or(0, u32::from_le_bytes)
}

fn names(entries: &[u8], start: u32) -> (&[u8], &[u8]) {
    let head = start as usize;
    let (left, right) = (field(entries, head + 4) as usize, field(entries, head + 8) as usize);
    let (left, rest) = entries[head + HEAD..].split_at(left);
    (left, &rest[..right])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_keeps_its_number() {
        let mut pairs = Pairs::default();
        let names: Vec<(String, String)> = (0..5000).map(|n| (format!("user{n}"), format!("{}", n % 7))).collect();
        for (index, (left, right)) in names.iter().enumerate() {
            assert_eq!(pairs.number(left.as_bytes(), right.as_bytes()), (index as u32, true));
        }
        for (index, (left, right)) in names.iter().enumerate() {
            assert_eq!(pairs.number(left.as_bytes(), right.as_bytes()), (index as u32, false));
            assert_eq!(pairs.get(index as u32), (left.as_bytes(), right.as_bytes()));
        }
        assert_eq!(pairs.number(b"user", b"10"), (5000, true), "where one name ends and the next begins matters");
        assert_eq!(pairs.number(b"user1", b"0"), (5001, true));
        pairs.clear();
        assert!(pairs.is_empty());
        assert_eq!(pairs.number(b"", b""), (0, true));
    }
}
