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

    /// Returns the requests that are open, but for those of which the source of this name has said that it does not have the stream.
    pub fn wanted_of(&self, source: &str) -> Vec<Rewind> {
        let is_open =
            |wanted: &&Wanted| self.is_left_to(wanted, source) || !wanted.without.iter().any(|one| one == source);
        self.lock().iter().filter(is_open).map(|wanted| wanted.rewind).collect()
    }

    /// Whether every request is fulfilled.
    pub fn are_fulfilled(&self) -> bool {
        self.lock().is_empty()
    }

    /// Whether no source has a stream, and this one was the last to say so: it is to say that the stream is gone.
    fn is_left_to(&self, wanted: &Wanted, source: &str) -> bool {
        let is_last = wanted.without.last().is_some_and(|last| last == source);
        is_last && self.sources.iter().all(|known| wanted.without.contains(known))
    }

    /// Whether a stream of `log` can be the task of the source of this name: it is its own, or of no source that is configured. A
    /// log can have got another name in the configuration, and its file another content.
    pub fn can_be_of(&self, log: &str, source: &str) -> bool {
        log == source || self.sources.iter().all(|known| known != log)
    }

    /// Takes note that a source does not have a stream. Returns whether no other one has it either, to the last one that says so.
    pub fn nobody_has(&self, rewind: &Rewind, source: &str) -> bool {
        let mut wanted = self.lock();
        let Some(found) = wanted.iter_mut().find(|known| known.rewind == *rewind) else { return false };
        if found.without.iter().all(|known| known != source) {
            found.without.push(source.to_owned());
        }
        self.is_left_to(found, source)
    }

    /// Takes a request away: it is fulfilled.
    pub fn fulfilled(&self, rewind: &Rewind) {
        self.lock().retain(|known| known.rewind != *rewind);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Wanted>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::RewindCause;

    #[test]
    fn a_stream_of_no_source_is_left_to_one_of_them_and_disturbs_no_other() {
        let rewinds = Rewinds::new(vec!["a".into(), "b".into(), "c".into()]);
        let rewind = Rewind { fingerprint: [7; 32], cause: RewindCause::Lacking, mark: 0 };
        rewinds.request(rewind);
        assert!(!rewinds.nobody_has(&rewind, "a"));
        assert!(rewinds.wanted_of("a").is_empty(), "it has looked");
        assert!(!rewinds.nobody_has(&rewind, "c"));
        assert!(rewinds.nobody_has(&rewind, "b"));
        // Until it is done, the last one tries again, and no other one does.
        assert_eq!(rewinds.wanted_of("b"), [rewind]);
        assert!(rewinds.nobody_has(&rewind, "b"));
        assert!(rewinds.wanted_of("a").is_empty() && rewinds.wanted_of("c").is_empty());
        rewinds.fulfilled(&rewind);
        assert!(rewinds.are_fulfilled());
    }
}
