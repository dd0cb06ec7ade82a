//! Tells who is not let in, and not so often that it drowns everything else.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::trail::{Entry, Trail};
use crate::codes;

/// How often the refusals of one address, or of one operator and method, are told.
const EVERY: Duration = Duration::from_secs(10);

/// The most of them that are remembered.
const MOST: usize = 10_000;

/// The refusals of late.
pub struct Refusals {
    told: Mutex<HashMap<String, (Instant, u64)>>,
    trail: Trail,
}

impl Refusals {
    /// Writes those that are told into a trail.
    pub fn new(trail: Trail) -> Self {
        Self { told: Mutex::default(), trail }
    }

    /// Writes down a refusal that is to be told.
    pub fn write(&self, entry: Entry) {
        if let Err(error) = self.trail.write(entry) {
            tracing::error!(code = codes::AUDIT_FAILED, reason = %error, "a refusal is not in the audit trail");
        }
    }

    /// Takes note of a refusal of an address, or of whatever else it is known by. Returns how many of the same were not told before it,
    /// if this one is to be told.
    pub fn note(&self, of: &str) -> Option<u64> {
        let (mut told, now) = (self.told.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
        if told.len() >= MOST {
            told.clear();
        }
        match told.get_mut(of) {
            Some((last, untold)) if now.duration_since(*last) < EVERY => {
                *untold += 1;
                None
            }
            known => {
                let untold = known.map_or(0, |(_, untold)| *untold);
                told.insert(of.to_owned(), (now, 0));
                Some(untold)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::registrar::Registrar;
    use crate::store::Store;

    #[test]
    fn an_address_is_told_of_once_in_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let registrar = Registrar::open(&Store::open_embedded(folder.path()).unwrap()).unwrap();
        let refusals = Refusals::new(Trail::new(registrar));
        let (one, other) = ("127.0.0.1", "::1");
        assert_eq!([one, one, other, one].map(|address| refusals.note(address)), [Some(0), None, Some(0), None]);
    }
}
