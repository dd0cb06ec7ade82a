//! Names, each kept once and known by a small number: features of daemons, users on hosts.

use std::hash::BuildHasher;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// Pairs of names. The first seen has the number 0, the next 1, and so on.
#[derive(Default)]
pub struct Pairs {
    numbers: HashTable<u32>,
    spans: Vec<Span>,
    bytes: Vec<u8>,
    hasher: foldhash::fast::RandomState,
}

#[derive(Clone, Copy)]
struct Span {
    start: u32,
    middle: u32,
    end: u32,
}

impl Pairs {
    /// The number of a pair, and whether it is new.
    pub fn number(&mut self, left: &[u8], right: &[u8]) -> (u32, bool) {
        let hash = self.hasher.hash_one((left, right));
        let (spans, bytes) = (&self.spans, &self.bytes);
        let entry = self.numbers.entry(
            hash,
            |number| {
                let (l, r) = pair(spans, bytes, *number);
                l == left && r == right
            },
            |number| self.hasher.hash_one(pair(spans, bytes, *number)),
        );
        match entry {
            Entry::Occupied(entry) => (*entry.get(), false),
            Entry::Vacant(entry) => {
                let number = self.spans.len() as u32;
                entry.insert(number);
                let start = self.bytes.len() as u32;
                self.bytes.extend_from_slice(left);
                let middle = self.bytes.len() as u32;
                self.bytes.extend_from_slice(right);
                self.spans.push(Span { start, middle, end: self.bytes.len() as u32 });
                (number, true)
            }
        }
    }

    /// The pair with this number.
    pub fn get(&self, number: u32) -> (&[u8], &[u8]) {
        pair(&self.spans, &self.bytes, number)
    }

    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The bytes of all names.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets all, and keeps the memory for the next ones.
    pub fn clear(&mut self) {
        self.numbers.clear();
        self.spans.clear();
        self.bytes.clear();
    }
}

fn pair<'a>(spans: &[Span], bytes: &'a [u8], number: u32) -> (&'a [u8], &'a [u8]) {
    let Span { start, middle, end } = spans[number as usize];
    (&bytes[start as usize..middle as usize], &bytes[middle as usize..end as usize])
}
