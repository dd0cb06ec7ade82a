//! Stores pairs of names, each pair once, and numbers them: features of daemons, users on hosts.

use std::hash::{BuildHasher, Hasher};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// Interner of pairs of names. The first pair gets the number 0, the next new pair 1, and so on.
///
/// A busy log names tens of thousands of clients in random order, so cache misses determine the cost of a lookup. A
/// lookup has two: the slot in the table, and the entry, whose number and lengths are stored right before its names.
#[derive(Default)]
pub struct Interner {
    /// The start of each entry in `entries`, in units of [`UNIT`] bytes. This limits the entries to 64 GiB.
    table: HashTable<u32>,
    /// The entries, back to back. An entry is a number, two lengths, and the two names.
    entries: Vec<u8>,
    /// The start of each number's entry, in units of [`UNIT`] bytes.
    starts: Vec<u32>,
    hasher: foldhash::fast::RandomState,
}

/// The size of an entry's header, in bytes: three numbers of four bytes.
const HEAD: usize = 12;

/// The alignment of entries, in bytes.
const UNIT: usize = 16;

/// A pair of names.
#[derive(Clone, Copy)]
struct Names<'a> {
    left: &'a [u8],
    right: &'a [u8],
}

impl PartialEq for Names<'_> {
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        is_same(self.left, other.left) && is_same(self.right, other.right)
    }
}

/// Returns whether two names are equal. Most names are short: comparing their first and last 4 or 8 bytes is faster
/// than calling a comparison function.
#[inline(always)]
fn is_same(name: &[u8], other: &[u8]) -> bool {
    fn ends_are_same<const N: usize>(name: &[u8], other: &[u8]) -> bool {
        name.first_chunk::<N>() == other.first_chunk() && name.last_chunk::<N>() == other.last_chunk()
    }
    name.len() == other.len()
        && match name.len() {
            4..=7 => ends_are_same::<4>(name, other),
            8..=16 => ends_are_same::<8>(name, other),
            _ => name == other,
        }
}

/// The result of interning a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interned {
    /// The number of the pair.
    pub number: u32,
    /// Whether the pair is new.
    pub is_new: bool,
}

impl Interner {
    /// Returns the number of a pair, assigning the next free number if the pair is new.
    pub fn intern(&mut self, left: &[u8], right: &[u8]) -> Interned {
        let names = Names { left, right };
        let hash = hash(&self.hasher, names);
        self.numbered(self.guess(hash), hash, names)
    }

    /// Returns the pair with this number.
    pub fn get(&self, number: u32) -> (&[u8], &[u8]) {
        let Names { left, right } = names(&self.entries, self.starts[number as usize]);
        (left, right)
    }

    /// Returns the number of pairs.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Returns whether there are no pairs.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Returns the size of all entries, in bytes, including their headers.
    pub fn size(&self) -> usize {
        self.entries.len()
    }

    /// Removes all pairs, but keeps the allocated memory.
    pub fn clear(&mut self) {
        self.table.clear();
        self.entries.clear();
        self.starts.clear();
    }

    /// Guesses the number of a pair from its hash alone, without comparing names. The guess is almost always right.
    fn guess(&self, hash: u64) -> Option<Guess> {
        let start = *self.table.find(hash, |_| true)?;
        Some(Guess { start, number: field(&self.entries, start as usize * UNIT) })
    }

    /// Returns the number of the pair `asked`. If the guess is wrong, looks the pair up in full.
    #[inline(always)]
    fn numbered(&mut self, guess: Option<Guess>, hash: u64, asked: Names<'_>) -> Interned {
        match guess {
            Some(Guess { start, number }) if names(&self.entries, start) == asked => Interned { number, is_new: false },
            _ => self.number_of(hash, asked),
        }
    }

    fn number_of(&mut self, hash_of_asked: u64, asked: Names<'_>) -> Interned {
        let (entries, hasher) = (&self.entries, &self.hasher);
        let entry = self.table.entry(
            hash_of_asked,
            |start| names(entries, *start) == asked,
            |start| hash(hasher, names(entries, *start)),
        );
        match entry {
            Entry::Occupied(entry) => Interned { number: field(entries, *entry.get() as usize * UNIT), is_new: false },
            Entry::Vacant(entry) => {
                let (number, start) = (self.starts.len() as u32, (self.entries.len() / UNIT) as u32);
                entry.insert(start);
                self.starts.push(start);
                for field in [number, asked.left.len() as u32, asked.right.len() as u32] {
                    self.entries.extend_from_slice(&field.to_le_bytes());
                }
                self.entries.extend_from_slice(asked.left);
                self.entries.extend_from_slice(asked.right);
                self.entries.resize(self.entries.len().next_multiple_of(UNIT), 0);
                Interned { number, is_new: true }
            }
        }
    }
}

#[inline(always)]
fn hash(hasher: &foldhash::fast::RandomState, names: Names<'_>) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write(names.left);
    hasher.write(names.right);
    hasher.finish()
}

fn field(entries: &[u8], at: usize) -> u32 {
    // The slice is always four bytes long.
    entries[at..at + 4].try_into().map_or(0, u32::from_le_bytes)
}

fn names(entries: &[u8], start: u32) -> Names<'_> {
    let head = start as usize * UNIT;
    let (left, right) = (field(entries, head + 4) as usize, field(entries, head + 8) as usize);
    let (left, rest) = entries[head + HEAD..].split_at(left);
    Names { left, right: &rest[..right] }
}

#[derive(Clone, Copy)]
struct Guess {
    start: u32,
    number: u32,
}

/// A queue of pairs to look up together, in hardly more time than one pair takes. The queue first guesses the numbers
/// of all pairs. Since no guess depends on another, the processor waits for the memory of many pairs at once.
#[derive(Default)]
pub struct InternQueue {
    /// The names of the queued pairs, back to back.
    names: Vec<u8>,
    pairs: Vec<Lookup>,
    guesses: Vec<Option<Guess>>,
    numbered: Vec<Interned>,
}

struct Lookup {
    hash: u64,
    left: u32,
    right: u32,
}

/// The number of pairs at which a queue is full: enough lookups to keep the processor busy.
const MANY: usize = 64;

/// The size of the queued names at which a queue is full, in bytes. Only the last pair can exceed it, so the names stay
/// in the processor's cache.
pub const MAX_WAITING: usize = 16 << 10;

impl InternQueue {
    /// Adds a pair, to be looked up in `pairs`.
    pub fn push(&mut self, pairs: &Interner, left: &[u8], right: &[u8]) {
        self.names.extend_from_slice(left);
        self.names.extend_from_slice(right);
        let hash = hash(&pairs.hasher, Names { left, right });
        self.pairs.push(Lookup { hash, left: left.len() as u32, right: right.len() as u32 });
    }

    /// Returns whether the queue is full, so that the caller must look the pairs up.
    pub fn is_full(&self) -> bool {
        self.pairs.len() >= MANY || self.names.len() >= MAX_WAITING
    }

    /// Looks up the pairs added since the last call. Returns their numbers in `interner`, in the order of the queue, as
    /// if each pair had been looked up alone.
    pub fn intern(&mut self, interner: &mut Interner) -> &[Interned] {
        self.guesses.clear();
        self.guesses.extend(self.pairs.iter().map(|pair| interner.guess(pair.hash)));
        self.numbered.clear();
        self.numbered.extend(
            each(&self.pairs, &self.names)
                .zip(&self.guesses)
                .map(|((hash, names), guess)| interner.numbered(*guess, hash, names)),
        );
        self.pairs.clear();
        self.names.clear();
        &self.numbered
    }
}

fn each<'a>(pairs: &'a [Lookup], names: &'a [u8]) -> impl Iterator<Item = (u64, Names<'a>)> {
    let mut rest = names;
    pairs.iter().map(move |&Lookup { hash, left, right }| {
        let (left, after) = rest.split_at(left as usize);
        let (right, after) = after.split_at(right as usize);
        rest = after;
        (hash, Names { left, right })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn new(number: u32) -> Interned {
        Interned { number, is_new: true }
    }

    #[test]
    fn a_pair_keeps_its_number() {
        let mut pairs = Interner::default();
        let names: Vec<(String, String)> = (0..5000).map(|n| (format!("user{n}"), format!("{}", n % 7))).collect();
        for (index, (left, right)) in names.iter().enumerate() {
            assert_eq!(pairs.intern(left.as_bytes(), right.as_bytes()), new(index as u32));
        }
        for (index, (left, right)) in names.iter().enumerate() {
            let known = Interned { number: index as u32, is_new: false };
            assert_eq!(pairs.intern(left.as_bytes(), right.as_bytes()), known);
            assert_eq!(pairs.get(index as u32), (left.as_bytes(), right.as_bytes()));
        }
        assert_eq!(pairs.intern(b"user", b"10"), new(5000), "where one name ends and the next begins matters");
        assert_eq!(pairs.intern(b"user1", b"0"), new(5001));
        pairs.clear();
        assert!(pairs.is_empty());
        assert_eq!(pairs.intern(b"", b""), new(0));
    }

    proptest! {
        #[test]
        fn together_or_alone_pairs_have_the_same_numbers(names in prop::collection::vec("[ab]{0,3}@[ab]{0,2}|[ab]{2}[a-d]{0,20}@(host)?[ab]{1,3}[.a-d]{0,14}", 0..200)) {
            let (mut alone, mut together, mut queue) = (Interner::default(), Interner::default(), InternQueue::default());
            let (mut expected, mut found) = (Vec::new(), Vec::new());
            for name in &names {
                let (left, right) = name.split_once('@').unwrap();
                expected.push(alone.intern(left.as_bytes(), right.as_bytes()));
                queue.push(&together, left.as_bytes(), right.as_bytes());
                if queue.is_full() {
                    found.extend_from_slice(queue.intern(&mut together));
                }
            }
            found.extend_from_slice(queue.intern(&mut together));
            prop_assert_eq!(found, expected);
        }
    }
}
