//! Reads on files that were moved away: a daemon that was not told to open its log anew goes on writing to the old one, wherever
//! that is now.

use std::time::Instant;

use super::LogTailer;
use crate::source::file::discover::Candidate;
use crate::source::file::stream::{OpenStream, StreamError};

/// A file that was moved away.
pub(super) struct Moved {
    pub(super) stream: OpenStream,
    /// When it last grew, or was moved.
    grew_at: Instant,
}

/// The most files that are read on. Of more, the oldest are closed.
const MOST: usize = 8;

impl LogTailer {
    /// Keeps a file open that is no longer at the log's path.
    pub(super) fn keep_moved(&mut self, mut stream: OpenStream) {
        stream.is_followed();
        if self.source.moved_quiet.is_zero() || !stream.can_grow() {
            return;
        }
        if self.moved.len() == MOST {
            self.moved.remove(0);
        }
        self.moved.push(Moved { stream, grew_at: Instant::now() });
    }

    /// Reads what was written to files since they were moved away. Closes those that have been quiet for long enough.
    pub(super) fn read_moved(&mut self) -> Result<(), StreamError> {
        let mut moved = std::mem::take(&mut self.moved);
        let mut outcome = Ok(());
        moved.retain_mut(|Moved { stream, grew_at }| {
            let before = stream.read_through();
            let read = stream.read(&self.buffer).and_then(|()| stream.commit(&self.buffer));
            if stream.read_through() > before {
                *grew_at = Instant::now();
            }
            if let Some(cut) = self.cuts.get_mut(stream.fingerprint()) {
                cut.size = cut.size.max(stream.seen_size());
            }
            match read {
                Ok(()) => grew_at.elapsed() < self.source.moved_quiet,
                Err(error @ StreamError::Buffer(_)) => {
                    outcome = Err(error);
                    true
                }
                // It was truncated, or another log has captured it: it is no longer what was read.
                Err(_) => false,
            }
        });
        self.moved = moved;
        outcome
    }

    /// Closes files that are back at the log's path: they are read as every other one.
    pub(super) fn take_back_moved(&mut self, found: &[Candidate]) {
        let current = found.iter().find(|file| file.is_current);
        self.moved.retain(|moved| !current.is_some_and(|file| file.mark.is_same_file(moved.stream.mark())));
    }

    /// Returns the stream of a file that was moved away and is still being read.
    pub(super) fn moved_stream(&self, file: &Candidate) -> Option<crate::checkpoint::Fingerprint> {
        let is_it = |moved: &&Moved| file.mark.is_same_file(moved.stream.mark());
        self.moved.iter().find(is_it).map(|moved| *moved.stream.fingerprint())
    }
}
