//! How the audit trail holds together: the hash of each record, and the proof that none was removed, altered or moved.

use ring::digest::{Context, SHA256};

use crate::v1::AuditRecord;

/// The hash before the first record.
const NOTHING: [u8; 32] = [0; 32];

/// Returns the moment of a record, in microseconds since 1970 UTC.
pub fn micros(record: &AuditRecord) -> i64 {
    let at = record.at.unwrap_or_default();
    at.seconds.saturating_mul(1_000_000).saturating_add(i64::from(at.nanos / 1000))
}

/// Returns a moment in microseconds since 1970 UTC as the contract has it.
pub fn timestamp(micros: i64) -> prost_types::Timestamp {
    let nanos = micros.rem_euclid(1_000_000) * 1000;
    prost_types::Timestamp { seconds: micros.div_euclid(1_000_000), nanos: i32::try_from(nanos).unwrap_or_default() }
}

/// Returns the hash of a record that follows one with the hash `before`, as the contract has it. Its own is not looked at.
pub fn hash(before: &[u8], record: &AuditRecord) -> Vec<u8> {
    let mut context = Context::new(&SHA256);
    context.update(before);
    context.update(&record.number.to_be_bytes());
    context.update(&micros(record).to_be_bytes());
    for text in [&record.who, &record.address, &record.action, &record.detail, &record.result] {
        context.update(&(text.len() as u64).to_be_bytes());
        context.update(text.as_bytes());
    }
    context.update(&record.result_of.to_be_bytes());
    context.finish().as_ref().to_vec()
}

/// Why a trail is not the one that was written.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The number is not the one that follows.
    #[error("record {expected} is missing: record {found} stands in its place")]
    Missing {
        /// The number that should stand there.
        expected: i64,
        /// The number that does.
        found: i64,
    },
    /// The hash is not that of the record and all before it.
    #[error("record {0} was altered, or one before it: its hash is another one")]
    Altered(i64),
    /// The record has not got the hash that was noted.
    #[error("record {0} is not the one that was noted: the trail was written anew from there, or before")]
    NotAsNoted(i64),
    /// The trail ends before the record that was noted.
    #[error("the trail ends with record {last}, before the noted one, {noted}: its end is missing")]
    CutOff {
        /// The last record.
        last: i64,
        /// The record that was noted.
        noted: i64,
    },
}

/// The number of a record and its hash, as noted elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    /// The number.
    pub number: i64,
    /// The hash.
    pub hash: Vec<u8>,
}

/// Goes through a trail from its first record on, and finds the first place that is not as it was written.
pub struct Verifier {
    last: Noted,
    noted: Vec<Noted>,
}

impl Verifier {
    /// Begins before the first record. `noted` are records that must be found.
    pub fn new(noted: Vec<Noted>) -> Self {
        Self { last: Noted { number: 0, hash: NOTHING.to_vec() }, noted }
    }

    /// Takes the next record.
    pub fn next(&mut self, record: &AuditRecord) -> Result<(), Broken> {
        let expected = self.last.number + 1;
        if record.number != expected {
            return Err(Broken::Missing { expected, found: record.number });
        }
        let hash = hash(&self.last.hash, record);
        if hash != record.hash {
            return Err(Broken::Altered(record.number));
        }
        self.last = Noted { number: record.number, hash };
        let is_other = |noted: &Noted| noted.number == self.last.number && noted.hash != self.last.hash;
        if self.noted.iter().any(is_other) { Err(Broken::NotAsNoted(record.number)) } else { Ok(()) }
    }

    /// Returns the last record, once all were taken.
    pub fn end(self) -> Result<Noted, Broken> {
        let last = self.last;
        match self.noted.iter().find(|noted| noted.number > last.number) {
            Some(noted) => Err(Broken::CutOff { last: last.number, noted: noted.number }),
            None => Ok(last),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn trail(texts: &[String]) -> Vec<AuditRecord> {
        let mut before = NOTHING.to_vec();
        let records = texts.iter().zip(1..).map(|(text, number)| {
            let at = Some(timestamp(number * 999_999));
            let mut record = AuditRecord { number, at, who: text.clone(), ..AuditRecord::default() };
            record.hash = hash(&before, &record);
            before.clone_from(&record.hash);
            record
        });
        records.collect()
    }

    fn verified(records: &[AuditRecord], noted: &[Noted]) -> Result<Noted, Broken> {
        let mut verifier = Verifier::new(noted.to_vec());
        records.iter().try_for_each(|record| verifier.next(record))?;
        verifier.end()
    }

    proptest! {
        /// Whatever is done to a trail of which the end was noted, it is found.
        #[test]
        fn what_is_removed_altered_or_moved_is_found(texts in proptest::collection::vec("[a-c]{0,3}", 2..8), at in 0_usize..8, what in 0..5) {
            let whole = trail(&texts);
            let end = verified(&whole, &[]).unwrap();
            prop_assert_eq!(end.number, whole.len() as i64);
            let (mut harmed, at) = (whole.clone(), at % whole.len());
            match what {
                0 => drop(harmed.remove(at)),
                1 => harmed[at].who.push('x'),
                2 => harmed.swap(at, (at + 1) % whole.len()),
                3 => harmed.truncate(at),
                // Written anew from there on, with all hashes right.
                _ => {
                    let mut texts = texts.clone();
                    texts[at].push('x');
                    harmed = trail(&texts);
                }
            }
            prop_assert!(verified(&harmed, std::slice::from_ref(&end)).is_err());
        }
    }

    #[test]
    fn a_text_cannot_pass_for_two() {
        let record = |who: &str, address: &str| AuditRecord {
            who: who.into(),
            address: address.into(),
            ..AuditRecord::default()
        };
        assert_ne!(hash(&NOTHING, &record("ab", "c")), hash(&NOTHING, &record("a", "bc")));
    }
}
