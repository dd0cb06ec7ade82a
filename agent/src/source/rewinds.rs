//! Which streams are to be read again, and whose task it is.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::checkpoint::Rewind;

/// What the aggregator lacks, until somebody has read it again, or knows that it is gone.
#[derive(Default)]
pub struct Rewinds {
    sources: Vec<String>,
    wanted: Mutex<Vec<Wanted>>,
}

struct Wanted {
    rewind: Rewind,
    /// The sources that do not have the stream, where it is of none that is configured.
    without: Vec<String>,
}

impl Rewinds {
    /// Creates an empty list for the sources of these names.
    pub fn new(sources: Vec<String>) -> Self {
        Self { sources, wanted: Mutex::default() }
    }

    /// Adds a request, if it is not there yet.
    pub fn request(&self, rewind: Rewind) {
        let mut wanted = self.lock();
        if wanted.iter().all(|known| known.rewind != rewind) {
            wanted.push(Wanted { rewind, without: Vec::new() });
        }
    }

    /// Returns the requests that are open.
    pub fn wanted(&self) -> Vec<Rewind> {
        self.lock().iter().map(|wanted| wanted.rewind).collect()
    }

    /// Whether a stream of `log` can be the task of the source of this name: it is its own, or of no source that is configured. A
    /// log can have got another name in the configuration, and its file another content.
    pub fn can_be_of(&self, log: &str, source: &str) -> bool {
        log == source || self.sources.iter().all(|known| known != log)
    }

    /// Takes note that a source does not have a stream. Returns whether no other one has it either.
    pub fn nobody_has(&self, rewind: &Rewind, source: &str) -> bool {
        let mut wanted = self.lock();
        let Some(found) = wanted.iter_mut().find(|known| known.rewind == *rewind) else { return false };
        if found.without.iter().all(|known| known != source) {
            found.without.push(source.to_owned());
        }
        self.sources.iter().all(|known| found.without.contains(known))
    }

    /// Takes a request away: it is fulfilled.
    pub fn fulfilled(&self, rewind: &Rewind) {
        self.lock().retain(|known| known.rewind != *rewind);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Wanted>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
