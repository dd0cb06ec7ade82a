//! Which stream each file of a log is, and on which day it begins.

use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;

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
use crate::source::file::status::LogState;
use crate::source::file::stream::StreamError;

/// A file whose lines cannot be dated.
pub(super) struct Undated {
    /// The number of its lines that have a time.
    lines: u64,
    /// The name of its beginning, where that is complete.
    head: Option<Fingerprint>,
}

/// A file that was identified.
pub(super) struct Part {
    pub(super) candidate: Candidate,
    pub(super) fingerprint: Fingerprint,
    pub(super) format: Format,
    pub(super) identity: Option<Identity>,
    pub(super) checkpoint: Option<Checkpoint>,
    pub(super) begins: i64,
}

/// The files of a log while they are identified, one after the other, the oldest first.
struct Identification<'a> {
    tailer: &'a LogTailer,
    parts: Vec<Part>,
    undated: u64,
    /// Whether the last part found is not read to its end.
    last_is_unread: bool,
    /// Where the stream ends that is certainly the one before the next file. A file of a stream that is not the last one
    /// is a copy, or was written again: nothing follows from it for the next file.
    before: Option<ClockPosition>,
    /// Whether all files so far are read: only then is the file that was open before the current one.
    all_are_read: bool,
    /// The beginnings of files that wait for a date: a copy of one that is being made has no old file's time yet.
    waiting: Vec<Fingerprint>,
    /// A file that could not be read.
    problem: Option<StreamError>,
    /// Files with the name of a part that are none, or are packed so that nothing here can read them.
    foreign: Vec<(PathBuf, String)>,
}

/// The files of a log, identified.
pub(super) struct Identified {
    /// The parts that have something new, in the order of their beginnings.
    pub(super) parts: Vec<Part>,
    /// A file that could not be read.
    pub(super) problem: Option<StreamError>,
    /// Files that are no part, each with the reason.
    pub(super) foreign: Vec<(PathBuf, String)>,
}

impl LogTailer {
    /// Identifies every file that is not known to be read to its end; in the order of their beginnings. A file that cannot
    /// be read is the problem; it holds up no other.
    pub(super) fn identify_files(&self, found: Vec<Candidate>) -> Result<Identified, BufferError> {
        let mut files = Identification {
            tailer: self,
            parts: Vec::new(),
            undated: 0,
            last_is_unread: false,
            before: None,
            all_are_read: true,
            waiting: Vec::new(),
            problem: None,
            foreign: Vec::new(),
        };
        for candidate in found {
            if files.take(candidate)?.is_break() {
                break;
            }
        }
        let Identification { mut parts, undated, problem, foreign, .. } = files;
        parts.sort_by_key(|part| (part.candidate.is_current, part.begins));
        let mut status = lock(&self.status);
        status.undated_lines = undated;
        if undated > 0 {
            status.state = LogState::Undated;
            status.message =
                format!("{undated} lines wait for a line that tells their date, or for `date` in the configuration");
        }
        Ok(Identified { parts, problem, foreign })
    }

    /// Where a stream stands that was the last of this log to be read; `None` where it was not the last.
    fn clock_of_last(&self, fingerprint: &Fingerprint) -> Result<Option<ClockPosition>, BufferError> {
        if self.buffer.last_stream(&self.source.name)? != Some(*fingerprint) {
            return Ok(None);
        }
        let checkpoint = self.buffer.checkpoint(fingerprint)?;
        Ok(checkpoint.map(|checkpoint| checkpoint.file().parser_state.clock()))
    }

    /// Which stream a file is.
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
            identity: Some(identity),
            checkpoint,
        }))
    }

    /// The day of a file's first line, where the file itself does not tell.
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
        // Days can begin alike, so that the same beginning is not enough: what was read of the stream last must be there.
        // Of a stream that is to be read again from its beginning, nothing was.
        for stream in known.iter().filter(|stream| !stream.file().window.is_empty()) {
            if window_at(candidate, stream.position, stream.file().window.len())?.as_ref() == Some(&stream.file().window)
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
            let found = window_at(candidate, checkpoint.position, checkpoint.file().window.len())?;
            // A copy that ends before is told by its length when it is read.
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
    /// Takes the next file. A break means that later files must not be read before this one is.
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
                // It can be a part that is packed: nothing is known to be the one before the next.
                (self.before, self.all_are_read) = (None, false);
                Ok(ControlFlow::Continue(()))
            }
            Err(error) => Ok(self.take_problem(error)),
        }
    }

    /// Notes a stream that is read to its end.
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
            // Dated by the part before it, once that is read: nothing after it is read before.
            return ControlFlow::Break(());
        }
        self.before = None;
        ControlFlow::Continue(())
    }

    fn take_problem(&mut self, error: StreamError) -> ControlFlow<()> {
        let is_moved = is_moved(&error);
        self.problem = Some(error);
        if is_moved {
            // What comes after it could be read before it.
            return ControlFlow::Break(());
        }
        (self.before, self.all_are_read) = (None, false);
        ControlFlow::Continue(())
    }
}

/// Whether a file was renamed or removed since its folder was listed.
pub(super) fn is_moved(error: &StreamError) -> bool {
    matches!(error, StreamError::Replaced(_) | StreamError::Content(ContentError::Missing(_)))
}

/// The day of a line at this time of day that follows a stream which stands there.
fn day_after(clock: ClockPosition, time: u32) -> Day {
    if clock.time - i64::from(time) > 43_200 { clock.day + 1 } else { clock.day }
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
