//! Which stream each file of a log is, and on which day it begins.

use std::io;

use ring::digest::{Context, SHA256};
use seatmeter_count::Day;

use super::{Follower, lock};
use crate::buffer::{BufferError, Checkpoint};
use crate::format::timeline::Standing;
use crate::source::file::content::{Content, ContentError};
use crate::source::file::discover::Candidate;
use crate::source::file::identity::{Fingerprint, Head, Identity};
use crate::source::file::status::LogState;
use crate::source::file::stream::{StreamError, read_head};

/// A file whose lines cannot be dated.
pub(super) struct Undated {
    /// How many they are.
    lines: u64,
    /// The name of its beginning, where that is complete.
    head: Option<Fingerprint>,
}

/// A file that a survey has identified.
pub(super) struct Part {
    pub(super) candidate: Candidate,
    pub(super) fingerprint: Fingerprint,
    pub(super) identity: Option<Identity>,
    pub(super) checkpoint: Option<Checkpoint>,
    pub(super) begins: i64,
}

impl Follower {
    /// Identifies every file that is not known to be read to its end; in the order of their beginnings.
    pub(super) fn identify_all(
        &self,
        found: Vec<Candidate>,
        problem: &mut Option<StreamError>,
    ) -> Result<Vec<Part>, BufferError> {
        let mut parts: Vec<Part> = Vec::new();
        let mut undated = 0;
        let mut last_is_unread = false;
        // The stream that is certainly the one before the next file, and where it ends. A file of a stream that is not the
        // last one is a copy, or was written again: nothing comes between the last one and the next by it.
        let mut before = None;
        // Whether all files so far are read: only then is the file that was open before the current one.
        let mut all_are_read = true;
        // The beginnings of files that wait for a date: a copy of one that is being made has no old file's time yet.
        let mut waiting: Vec<Fingerprint> = Vec::new();
        for candidate in found {
            if candidate.is_current && all_are_read {
                before = before.or(self.before);
            }
            if let Some(fingerprint) = self.buffer.known_file(&candidate.mark)? {
                if let Some(last) = self.standing_of_last(&fingerprint)? {
                    (before, last_is_unread) = (Some(last), false);
                }
                continue;
            }
            match self.identify(&candidate, before, &waiting) {
                Ok(Ok(part)) => {
                    match part.checkpoint.as_ref().filter(|known| known.position == candidate.mark.size) {
                        Some(read) => {
                            if let Some(last) = self.standing_of_last(&read.fingerprint)? {
                                (before, last_is_unread) = (Some(last), false);
                            }
                        }
                        None => (before, last_is_unread, all_are_read) = (None, true, false),
                    }
                    parts.push(part);
                }
                Ok(Err(Undated { lines, head })) => {
                    undated += lines;
                    all_are_read = false;
                    waiting.extend(head);
                    if last_is_unread {
                        // Dated by the part before it, once that is read: nothing after it is read before.
                        break;
                    }
                    before = None;
                }
                Err(StreamError::Buffer(error)) => return Err(error),
                Err(error) => {
                    let is_moved = is_moved(&error);
                    *problem = Some(error);
                    if is_moved {
                        // What comes after it could be read before it.
                        break;
                    }
                    (before, all_are_read) = (None, false);
                }
            }
        }
        parts.sort_by_key(|part| (part.candidate.is_current, part.begins));
        let mut status = lock(&self.status);
        status.undated_lines = undated;
        if undated > 0 {
            status.state = LogState::Undated;
            status.message =
                format!("{undated} lines wait for a line that tells their date, or for `date` in the configuration");
        }
        Ok(parts)
    }

    /// Where a stream stands that was the last of this log to be read; `None` where it was not the last.
    fn standing_of_last(&self, fingerprint: &Fingerprint) -> Result<Option<Standing>, BufferError> {
        if self.buffer.last_stream(&self.source.name)? != Some(*fingerprint) {
            return Ok(None);
        }
        let checkpoint = self.buffer.checkpoint(fingerprint)?;
        Ok(checkpoint.map(|checkpoint| checkpoint.state.bookmark.standing()))
    }

    /// Which stream a file is.
    pub(super) fn identify(
        &self,
        candidate: &Candidate,
        before: Option<Standing>,
        waiting: &[Fingerprint],
    ) -> Result<Result<Part, Undated>, StreamError> {
        let (head, mark) = read_head(&candidate.path)?;
        if !mark.is_same_file(&candidate.mark) {
            return Err(StreamError::Replaced(candidate.path.clone()));
        }
        let before = before.filter(|_| !head.head().is_some_and(|name| waiting.contains(&name)));
        let date = self.date_of(candidate, &head, before)?;
        let Some(identity) = head.identity(date) else {
            let lines = if head.has_uses() { head.stamped_lines() } else { 0 };
            return Ok(Err(Undated { lines, head: head.head() }));
        };
        let (fingerprint, checkpoint) = self.variant_of(candidate, identity.fingerprint)?;
        Ok(Ok(Part {
            candidate: candidate.clone(),
            fingerprint,
            begins: identity.begins,
            identity: Some(identity),
            checkpoint,
        }))
    }

    /// The day of a file's first line, where the file itself does not tell.
    fn date_of(
        &self,
        candidate: &Candidate,
        head: &Head,
        before: Option<Standing>,
    ) -> Result<Option<Day>, StreamError> {
        if head.is_dated() {
            return Ok(None);
        }
        let known = head.head().map(|name| self.buffer.streams_beginning(&name)).transpose()?.unwrap_or_default();
        // Days can begin alike, so that the same beginning is not enough: what was read of the stream last must be there.
        // Of a stream that is to be read again from its beginning, nothing was.
        for stream in known.iter().filter(|stream| !stream.state.window.is_empty()) {
            if window_at(candidate, stream.position, stream.state.window.len())?.as_ref() == Some(&stream.state.window)
            {
                return Ok(Some(stream.state.first_day));
            }
        }
        if let (Some(standing), Some(time)) = (before, head.first_time()) {
            return Ok(Some(day_after(standing, time)));
        }
        if let Some(stream) = known.first() {
            return Ok(Some(stream.state.first_day));
        }
        let is_first = self.buffer.last_stream(&self.source.name)?.is_none();
        Ok(self.source.date.filter(|_| is_first))
    }

    /// The stream of a file by its beginning, unless it differs from what was read of that stream: then it is another
    /// one that begins alike, and its name says where they part.
    fn variant_of(
        &self,
        candidate: &Candidate,
        fingerprint: Fingerprint,
    ) -> Result<(Fingerprint, Option<Checkpoint>), StreamError> {
        let mut fingerprint = fingerprint;
        loop {
            let Some(checkpoint) = self.buffer.checkpoint(&fingerprint)? else { return Ok((fingerprint, None)) };
            let found = window_at(candidate, checkpoint.position, checkpoint.state.window.len())?;
            // A copy that ends before is told by its length when it is read.
            let Some(found) = found.filter(|found| *found != checkpoint.state.window) else {
                return Ok((fingerprint, Some(checkpoint)));
            };
            let mut hash = Context::new(&SHA256);
            hash.update(&fingerprint);
            hash.update(&found);
            fingerprint.copy_from_slice(hash.finish().as_ref());
        }
    }
}

/// Whether a file was renamed or removed since its folder was listed.
pub(super) fn is_moved(error: &StreamError) -> bool {
    matches!(error, StreamError::Replaced(_) | StreamError::Content(ContentError::Missing(_)))
}

/// The day of a line at this time of day that follows a stream which stands there.
fn day_after(standing: Standing, time: u32) -> Day {
    if standing.time - i64::from(time) > 43_200 { standing.day + 1 } else { standing.day }
}

/// The bytes before a position of a file; `None` where it ends before.
fn window_at(candidate: &Candidate, position: u64, length: usize) -> Result<Option<Vec<u8>>, ContentError> {
    let failed = |source| ContentError::of(&candidate.path, source);
    let (mut content, _) = Content::open(&candidate.path)?;
    let start = position - length as u64;
    if content.skip_to(start).map_err(failed)? < start {
        return Ok(None);
    }
    let mut window = Vec::with_capacity(length);
    // A compressed file that is still being made is an error, and not one that ends here.
    io::Read::read_to_end(&mut io::Read::take(content, length as u64), &mut window).map_err(failed)?;
    Ok(Some(window).filter(|window| window.len() == length))
}
