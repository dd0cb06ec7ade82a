//! Identifies the stream of each file of a log, and the day on which it begins.
//!
//! A file holds a known stream if it begins as the stream does, and has its check value where the stream was read to. A
//! file that begins alike and has another content is a stream of its own.

use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use ring::digest::{Context, SHA256};
use seatmeter_count::Day;

use super::{LogTailer, lock};
use crate::buffer::BufferError;
use crate::checkpoint::{CheckValue, Checkpoint, Fingerprint};
use crate::format::Format;
use crate::format::timeline::ClockPosition;
use crate::source::file::chain::Chain;
use crate::source::file::content::{Content, ContentError};
use crate::source::file::discover::Candidate;
use crate::source::file::head::{FileHead, read_head};
use crate::source::file::identity::{Head, Identity};
use crate::source::file::stream::{Resumption, StreamError};
use crate::source::file::watched::WINDOW;

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
    pub(super) content: Known,
    pub(super) begins: i64,
}

/// What is known of a file's content.
pub(super) enum Known {
    /// The file's stream is new.
    Nothing,
    /// The file holds what was read of its stream, and perhaps more.
    Through(Box<Resumption>),
    /// The file is an older copy: it ends before the position to which its stream was read.
    Everything,
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
        let known = head.head().map(|name| self.streams_beginning(&name)).transpose()?.unwrap_or_default();
        let values = Values::read(candidate, &known)?;
        let proven = known.iter().find(|stream| values.prove(stream));
        let date = match proven {
            Some(stream) => Some(stream.file().first_day),
            None => {
                let before = before.filter(|_| !head.head().is_some_and(|name| waiting.contains(&name)));
                self.date_of(candidate, &head, before, &known, &values)?
            }
        };
        let (Some(identity), Some(format)) = (head.identity(date), format) else {
            let lines = if head.has_uses() { head.stamped_lines() } else { 0 };
            return Ok(Err(Undated { lines, head: head.head() }));
        };
        let (fingerprint, content) = match proven {
            Some(stream) => (stream.fingerprint, values.resumption(candidate, stream)?),
            None => self.unproven(candidate, &identity, &known, &values)?,
        };
        let begins = identity.begins;
        Ok(Ok(Part { candidate: candidate.clone(), fingerprint, format, begins, identity, content }))
    }

    /// Returns the streams with this beginning that a file of this log may hold, those that were read furthest first.
    /// Streams of other configured logs are not among them: logs beside each other can begin alike.
    fn streams_beginning(&self, head: &Fingerprint) -> Result<Vec<Checkpoint>, BufferError> {
        let mut known = self.buffer.streams_beginning(head)?;
        known.retain(|stream| !self.source.others.iter().any(|other| other.name == stream.log));
        // The sort is stable: of streams that were read as far, the newest comes first.
        known.sort_by_key(|stream| std::cmp::Reverse(stream.file().proof.map_or(0, |proof| proof.position)));
        Ok(known)
    }

    /// Returns the day of a file's first line from other sources; `None` if the file itself tells it, or if it is
    /// unknown.
    fn date_of(
        &self,
        candidate: &Candidate,
        head: &Head,
        before: Option<ClockPosition>,
        known: &[Checkpoint],
        values: &Values,
    ) -> Result<Option<Day>, StreamError> {
        if head.is_dated() {
            return Ok(None);
        }
        if let (Some(clock), Some(time)) = (before, head.first_time()) {
            return Ok(Some(day_after(clock, time)));
        }
        // Many days can begin alike. An older copy is taken for one of the newest that is longer.
        if let Some(stream) = known.iter().find(|stream| !candidate.is_current && values.end_before(stream)) {
            return Ok(Some(stream.file().first_day));
        }
        let is_first = self.buffer.last_stream(&self.source.name)?.is_none();
        Ok(self.source.date.filter(|_| is_first))
    }

    /// Returns the stream of a file that holds no known one, with what is known of the file's content.
    fn unproven(
        &self,
        candidate: &Candidate,
        identity: &Identity,
        known: &[Checkpoint],
        values: &Values,
    ) -> Result<(Fingerprint, Known), StreamError> {
        let is_longer = |stream: &&Checkpoint| {
            stream.file().first_day == identity.first_day && !candidate.is_current && values.end_before(stream)
        };
        if let Some(longer) = known.iter().find(is_longer) {
            let tells_date = identity.beginning == identity.head;
            if tells_date && is_being_made(candidate) {
                return Err(StreamError::Incomplete(candidate.path.clone()));
            }
            if !tells_date {
                return Ok((longer.fingerprint, Known::Everything));
            }
            // It may as well be another stream that begins alike. The aggregator counts once what both have in common.
        }
        let mut fingerprint = identity.beginning;
        while self.buffer.checkpoint(&fingerprint)?.is_some() {
            fingerprint = another_name(&fingerprint, &values.last);
        }
        Ok((fingerprint, Known::Nothing))
    }
}

/// Returns a name for a stream that begins as the stream of a name does, and has this check value where both differ.
pub(crate) fn another_name(name: &Fingerprint, check: &CheckValue) -> Fingerprint {
    let mut hash = Context::new(&SHA256);
    hash.update(name);
    hash.update(check);
    let mut fingerprint = Fingerprint::default();
    fingerprint.copy_from_slice(hash.finish().as_ref());
    fingerprint
}

/// The check values of a file at the positions to which known streams were read.
struct Values {
    /// The positions that the file reaches, in order, each with the chain there.
    chains: Vec<(u64, Chain)>,
    /// The check value of the last of them, or of the file's end if it comes before all of them.
    last: CheckValue,
}

impl Values {
    fn read(candidate: &Candidate, known: &[Checkpoint]) -> Result<Self, ContentError> {
        let failed = |source| ContentError::of(&candidate.path, source);
        let mut positions: Vec<u64> = known
            .iter()
            .flat_map(|stream| [stream.position, stream.file().proof.map_or(0, |proof| proof.position)])
            .collect();
        positions.sort_unstable();
        positions.dedup();
        let mut values = Self { chains: Vec::new(), last: CheckValue::default() };
        if positions.is_empty() {
            return Ok(values);
        }
        let (mut content, _) = Content::open(&candidate.path)?;
        let mut chain = Chain::default();
        let mut reached = 0;
        for position in positions {
            // A compressed file that is still being made is an error, not a file that ends here.
            reached += chain.read(&mut content, position - reached).map_err(failed)?;
            values.last = chain.value();
            if reached < position {
                break;
            }
            values.chains.push((position, chain.clone()));
        }
        Ok(values)
    }

    fn chain(&self, position: u64) -> Option<&Chain> {
        self.chains.iter().find(|(reached, _)| *reached == position).map(|(_, chain)| chain)
    }

    /// Whether the file holds what was read of a stream. Of a stream without a proof, which is to be read from its
    /// beginning, every file that begins so is taken to.
    fn prove(&self, stream: &Checkpoint) -> bool {
        let proof = stream.file().proof;
        proof.is_none_or(|proof| self.chain(proof.position).is_some_and(|chain| chain.value() == proof.check))
            && self.chain(stream.position).is_some()
    }

    /// Whether the file ends before the position to which a stream is known.
    fn end_before(&self, stream: &Checkpoint) -> bool {
        self.chain(stream.file().proof.map_or(stream.position, |proof| proof.position)).is_none()
    }

    /// Returns the state to resume reading a stream that the file holds.
    fn resumption(&self, candidate: &Candidate, stream: &Checkpoint) -> Result<Known, StreamError> {
        let window = window_before(candidate, stream.position)?;
        match (self.chain(stream.position).cloned(), window) {
            (Some(chain), Some(window)) => {
                Ok(Known::Through(Box::new(Resumption { checkpoint: stream.clone(), chain, window })))
            }
            _ => Err(StreamError::Replaced(candidate.path.clone())),
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
        let is_read = match &part.content {
            Known::Through(known) => known.checkpoint.position == size,
            Known::Nothing | Known::Everything => false,
        };
        match is_read {
            true => self.note_read(&part.fingerprint)?,
            false => (self.before, self.last_is_unread, self.all_are_read) = (None, true, false),
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

/// Whether a file was renamed, removed, or read under its name by another log, since it was identified.
pub(super) fn is_moved(error: &StreamError) -> bool {
    matches!(
        error,
        StreamError::Replaced(_) | StreamError::Overtaken(_) | StreamError::Content(ContentError::Missing(_))
    )
}

/// Returns the day of a line at this time of day that follows a stream at this clock position.
fn day_after(clock: ClockPosition, time: u32) -> Day {
    if clock.time - i64::from(time) > 43_200 { clock.day + 1 } else { clock.day }
}

/// Returns the last bytes before a position of a file; `None` if the file ends before the position.
fn window_before(candidate: &Candidate, position: u64) -> Result<Option<Vec<u8>>, ContentError> {
    let failed = |source| ContentError::of(&candidate.path, source);
    let (mut content, _) = Content::open(&candidate.path)?;
    let start = position.saturating_sub(WINDOW as u64);
    if content.skip_to(start).map_err(failed)? < start {
        return Ok(None);
    }
    let length = (position - start) as usize;
    let mut window = Vec::with_capacity(length);
    io::Read::read_to_end(&mut io::Read::take(content, length as u64), &mut window).map_err(failed)?;
    Ok(Some(window).filter(|window| window.len() == length))
}
