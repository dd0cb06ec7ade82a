//! Reads streams again from their beginning, because the aggregator lacks a part of them or knows others by their names.

use std::collections::HashSet;

use super::LogTailer;
use crate::checkpoint::{Checkpoint, Fingerprint, Rewind, RewindCause};
use crate::source::file::discover::candidates;
use crate::source::file::stream::StreamError;

impl LogTailer {
    /// Rewinds the streams that were requested, so that they are read again from the beginning. Accepts the gap of a
    /// stream that is no longer on disk. Returns whether any was.
    pub(super) fn rewind(&mut self) -> Result<bool, StreamError> {
        let mut mine = Vec::new();
        for rewind in self.rewinds.wanted_of(&self.source.name) {
            match self.buffer.checkpoint(&rewind.fingerprint)? {
                Some(checkpoint) if !self.rewinds.can_be_of(&checkpoint.log, &self.source.name) => {}
                checkpoint => mine.push((rewind, checkpoint)),
            }
        }
        if mine.is_empty() {
            return Ok(false);
        }
        let Some(on_disk) = self.streams_on_disk()? else { return Ok(false) };
        let mut has_rewound = false;
        for (rewind, checkpoint) in mine {
            if let Some(checkpoint) = checkpoint {
                let is_on_disk = on_disk.contains(&rewind.fingerprint);
                let is_foreign = checkpoint.log != self.source.name;
                if is_foreign && !is_on_disk && !self.rewinds.nobody_has(&rewind, &self.source.name) {
                    // Another source may have it.
                    continue;
                }
                (self.open, self.before) = (None, None);
                self.moved.clear();
                has_rewound = true;
                self.rewind_stream(rewind, checkpoint, is_on_disk)?;
            }
            // Only now is the request fulfilled, even if the process ends here.
            self.rewinds.fulfilled(&rewind);
        }
        Ok(has_rewound)
    }

    fn rewind_stream(
        &self,
        Rewind { cause, mark, .. }: Rewind,
        mut checkpoint: Checkpoint,
        is_on_disk: bool,
    ) -> Result<(), StreamError> {
        let before = checkpoint.fingerprint;
        // What the buffer still has need not be read again.
        if cause == RewindCause::Lacking && self.buffer.deliver_again(&before, mark, !is_on_disk)? {
            return Ok(());
        }
        if is_on_disk {
            self.buffer.rewind(&before)?;
        }
        if cause == RewindCause::OtherContent {
            checkpoint = self.buffer.name_anew(&checkpoint)?;
        }
        if !is_on_disk && !self.buffer.accept_gap(&checkpoint.fingerprint)? {
            let end = checkpoint.position;
            self.append_gap(checkpoint, end)?;
        }
        Ok(())
    }

    /// Returns the streams that can be read; `None` while a folder cannot be listed, since nothing in it is known to be
    /// gone.
    fn streams_on_disk(&self) -> Result<Option<HashSet<Fingerprint>>, StreamError> {
        let found = candidates(&self.source)?;
        if found.problem.is_some() {
            return Ok(None);
        }
        let mut streams = HashSet::new();
        for candidate in found.files {
            if let Some(known) = self.buffer.known_file(&candidate.mark)? {
                streams.insert(known);
            } else if let Ok(Some(part)) = self.identify(&candidate) {
                streams.insert(part.fingerprint);
            }
        }
        Ok(Some(streams))
    }
}
