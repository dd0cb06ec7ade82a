//! Identifies the stream of each file of a log, and the day on which it begins.

use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use ring::digest::{Context, SHA256};
use seatmeter_count::Day;

use super::{LogTailer, lock};
use crate::buffer::BufferError;
use crate::checkpoint::{Checkpoint, Fingerprint};
use crate::format::Format;
use crate::format::timeline::ClockPosition;
use crate::source::file::content::{Content, ContentError};
use crate::source::file::discover::Candidate;
use crate::source::file::head::{FileHead, read_head};
use crate::source::file::identity::{Head, Identity};
use crate::source::file::stream::StreamError;

/// A file whose lines cannot be dated.
pub(super) struct Undated {
    /// The number of lines that have a time; 0 if none of them reports a use.
    lines: u64,
    /// The hash of the file's beginning; `None` until the beginning is complete.
    head: Option<Fingerprint>,
}

/// A file whose stream is identified.
pub(super) struct Part {
    pub(super) candidate: Candidate,
    pub(super) fingerprint: Fingerprint,
    pub(super) format: Format,
    pub(super) identity: Identity,
    pub(super) checkpoint: Option<Checkpoint>,
    pub(super) begins: i64,
}

/// Identifies the files of a log, one after the other, the oldest first.
struct Identification<'a> {
    tailer: &'a LogTailer,
    parts: Vec<Part>,
    undated: u64,
    /// Whether the last part found is not read to its end yet.
    last_is_unread: bool,
    /// The clock position at the end of the stream that certainly precedes the next file; `None` if no stream does. A
    /// file whose stream is not the log's last one is a copy or was written again, so it cannot date the next file.
    before: Option<ClockPosition>,
    /// Whether all files so far are read. Only then does the file that was open precede the current one.
    all_are_read: bool,
    /// The beginnings of files that wait for a date. A copy of such a file that is still being made does not have the
    /// original's modification time yet, so no predecessor may date it.
    waiting: Vec<Fingerprint>,
    /// Whether no part is still being made.
    is_settled: bool,
    /// The error of a file that could not be read; `None` if there is none.
    problem: Option<StreamError>,
    /// Files that have the name of a part, but are not a license log, or are compressed in a format that the agent
    /// cannot read.
    foreign: Vec<(PathBuf, String)>,
}

/// The result of identifying the files of a log.
pub(super) struct Identified {
    /// The parts that may have new lines, in the order of their beginnings.
    pub(super) parts: Vec<Part>,
    /// The error of a file that could not be read; `None` if there is none.
    pub(super) problem: Option<StreamError>,
    /// Whether all files were identified; false if some must wait for another one, or are still being made.
    pub(super) is_complete: bool,
    /// Files that are not a part of the log, each with the reason.
    pub(super) foreign: Vec<(PathBuf, String)>,
}

impl LogTailer {
    /// Identifies every file that is not known to be read to its end. A file that cannot be read does not delay the
    /// others.
    pub(super) fn identify_files(&self, found: Vec<Candidate>) -> Result<Identified, BufferError> {
        let mut files = Identification {
            tailer: self,
            parts: Vec::new(),
            undated: 0,
            last_is_unread: false,
            before: None,
            all_are_read: true,
            waiting: Vec::new(),
            is_settled: true,
            problem: None,
            foreign: Vec::new(),
        };
        let mut is_complete = true;
        for candidate in found {
            if files.take(candidate)?.is_break() {
                is_complete = false;
                break;
            }
        }
        let Identification { mut parts, undated, is_settled, problem, foreign, .. } = files;
        let is_complete = is_complete && is_settled;
        parts.sort_by_key(|part| (part.candidate.is_current, part.begins));
        let mut status = lock(&self.status);
        status.undated_lines = undated;
        if undated > 0 {
            status.set_followed();
        }
        Ok(Identified { parts, problem, is_complete, foreign })
    }

    /// Returns the clock position of a stream if it is the last one of this log; `None` if it is not.
    fn clock_of_last(&self, fingerprint: &Fingerprint) -> Result<Option<ClockPosition>, BufferError> {
        if self.buffer.last_stream(&self.source.name)? != Some(*fingerprint) {
            return Ok(None);
        }
        let checkpoint = self.buffer.checkpoint(fingerprint)?;
        Ok(checkpoint.map(|checkpoint| checkpoint.file().parser_state.clock()))
    }

    /// Identifies the stream of a file.
    pub(super) fn identify(
        &self,
        candidate: &Candidate,
        before: Option<ClockPosition>,
        waiting: &[Fingerprint],
    ) -> Result<Result<Part, Undated>, StreamError> {
        let FileHead { format, head, mark } = read_head(&candidate.path, self.source.format, false)?;
        if !mark.is_same_file(&candidate.mark) {
            return Err(StreamError::Replaced(candidate.path.clone()));
        }
        let before = before.filter(|_| !head.head().is_some_and(|name| waiting.contains(&name)));
        let date = self.date_of(candidate, &head, before)?;
        let (Some(identity), Some(format)) = (head.identity(date), format) else {
            let lines = if head.has_uses() { head.stamped_lines() } else { 0 };
            return Ok(Err(Undated { lines, head: head.head() }));
        };
        let (fingerprint, checkpoint) = self.variant_of(candidate, identity.fingerprint)?;
        Ok(Ok(Part {
            candidate: candidate.clone(),
            fingerprint,
            format,
            begins: identity.begins,
            identity,
            checkpoint,
        }))
    }

    /// Returns the day of a file's first line from other sources; `None` if the file itself tells it, or if it is
    /// unknown.
    fn date_of(
        &self,
        candidate: &Candidate,
        head: &Head,
        before: Option<ClockPosition>,
    ) -> Result<Option<Day>, StreamError> {
        if head.is_dated() {
            return Ok(None);
        }
        let known = head.head().map(|name| self.buffer.streams_beginning(&name)).transpose()?.unwrap_or_default();
        // Two days can begin alike, so the same beginning is not enough: the file must also contain the bytes that were
        // last read of the stream. A stream that is to be read again from its beginning has no such bytes.
        for stream in known.iter().filter(|stream| !stream.file().window.is_empty()) {
            if window_at(candidate, stream.position, stream.file().window.len())?.as_ref()
                == Some(&stream.file().window)
            {
                return Ok(Some(stream.file().first_day));
            }
        }
        if let (Some(clock), Some(time)) = (before, head.first_time()) {
            return Ok(Some(day_after(clock, time)));
        }
        if let Some(stream) = known.first() {
            return Ok(Some(stream.file().first_day));
        }
        let is_first = self.buffer.last_stream(&self.source.name)?.is_none();
        Ok(self.source.date.filter(|_| is_first))
    }

    /// Returns the stream of a file by its beginning. If the file differs from what was read of that stream, it is
    /// another stream that begins alike, and its fingerprint also covers the bytes that differ.
    fn variant_of(
        &self,
        candidate: &Candidate,
        fingerprint: Fingerprint,
    ) -> Result<(Fingerprint, Option<Checkpoint>), StreamError> {
        let mut fingerprint = fingerprint;
        loop {
            let Some(checkpoint) = self.buffer.checkpoint(&fingerprint)? else { return Ok((fingerprint, None)) };
            let found = window_at(candidate, checkpoint.position, checkpoint.file().window.len())?;
            // A copy that ends earlier is recognised by its length when it is read.
            let Some(found) = found.filter(|found| *found != checkpoint.file().window) else {
                return Ok((fingerprint, Some(checkpoint)));
            };
            let mut hash = Context::new(&SHA256);
            hash.update(&fingerprint);
            hash.update(&found);
            fingerprint.copy_from_slice(hash.finish().as_ref());
        }
    }
}

impl Identification<'_> {
    /// Identifies the next file. A break means that later files must not be read before this one.
    fn take(&mut self, candidate: Candidate) -> Result<ControlFlow<()>, BufferError> {
        if candidate.is_current && self.all_are_read {
            self.before = self.before.or(self.tailer.before);
        }
        if let Some(fingerprint) = self.tailer.buffer.known_file(&candidate.mark)? {
            self.note_read(&fingerprint)?;
            return Ok(ControlFlow::Continue(()));
        }
        match self.tailer.identify(&candidate, self.before, &self.waiting) {
            Ok(Ok(part)) => {
                self.take_part(part, candidate.mark.size)?;
                Ok(ControlFlow::Continue(()))
            }
            Ok(Err(undated)) => Ok(self.take_undated(undated)),
            Err(StreamError::Buffer(error)) => Err(error),
            Err(StreamError::Content(error @ ContentError::NotALog { .. })) if !candidate.is_current => {
                self.foreign.push((candidate.path, error.to_string()));
                // The file may be a compressed part, so no file is known to precede the next one.
                (self.before, self.all_are_read) = (None, false);
                Ok(ControlFlow::Continue(()))
            }
            Err(error) if !is_moved(&error) && is_being_made(&candidate) => {
                (self.before, self.all_are_read, self.is_settled) = (None, false, false);
                Ok(ControlFlow::Continue(()))
            }
            Err(error) => Ok(self.take_problem(error)),
        }
    }

    /// Records that a stream is read to its end.
    fn note_read(&mut self, fingerprint: &Fingerprint) -> Result<(), BufferError> {
        if let Some(last) = self.tailer.clock_of_last(fingerprint)? {
            (self.before, self.last_is_unread) = (Some(last), false);
        }
        Ok(())
    }

    fn take_part(&mut self, part: Part, size: u64) -> Result<(), BufferError> {
        match part.checkpoint.as_ref().filter(|known| known.position == size) {
            Some(read) => self.note_read(&read.fingerprint)?,
            None => (self.before, self.last_is_unread, self.all_are_read) = (None, true, false),
        }
        self.parts.push(part);
        Ok(())
    }

    fn take_undated(&mut self, Undated { lines, head }: Undated) -> ControlFlow<()> {
        self.undated += lines;
        self.all_are_read = false;
        self.waiting.extend(head);
        if self.last_is_unread {
            // The predecessor dates this file once the predecessor is read; later files must wait.
            return ControlFlow::Break(());
        }
        self.before = None;
        ControlFlow::Continue(())
    }

    fn take_problem(&mut self, error: StreamError) -> ControlFlow<()> {
        let is_moved = is_moved(&error);
        self.problem = Some(error);
        if is_moved {
            // Later files must not be read before the moved one.
            return ControlFlow::Break(());
        }
        (self.before, self.all_are_read) = (None, false);
        ControlFlow::Continue(())
    }
}

/// How long a part that cannot be read may be a copy that is still being made.
pub(super) const BEING_MADE: Duration = Duration::from_secs(60);

/// Whether a part was written so recently that a packer may still be at work on it.
pub(super) fn is_being_made(candidate: &Candidate) -> bool {
    let written = std::fs::metadata(&candidate.path).and_then(|metadata| metadata.modified());
    // A time of last write that is ahead of the clock is no sign of work.
    !candidate.is_current && written.is_ok_and(|at| at.elapsed().is_ok_and(|age| age < BEING_MADE))
}

/// Whether a file was renamed or removed since its folder was listed.
pub(super) fn is_moved(error: &StreamError) -> bool {
    matches!(error, StreamError::Replaced(_) | StreamError::Content(ContentError::Missing(_)))
}

/// Returns the day of a line at this time of day that follows a stream at this clock position.
fn day_after(clock: ClockPosition, time: u32) -> Day {
    if clock.time - i64::from(time) > 43_200 { clock.day + 1 } else { clock.day }
}

/// Returns the bytes before a position of a file; `None` if the file ends before the position.
fn window_at(candidate: &Candidate, position: u64, length: usize) -> Result<Option<Vec<u8>>, ContentError> {
    let failed = |source| ContentError::of(&candidate.path, source);
    let (mut content, _) = Content::open(&candidate.path)?;
    let start = position - length as u64;
    if content.skip_to(start).map_err(failed)? < start {
        return Ok(None);
    }
    let mut window = Vec::with_capacity(length);
    // A compressed file that is still being made is an error, not a file that ends here.
    io::Read::read_to_end(&mut io::Read::take(content, length as u64), &mut window).map_err(failed)?;
    Ok(Some(window).filter(|window| window.len() == length))
}
