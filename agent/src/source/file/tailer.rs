//! Reads all files of one log in order, and follows the log.
//!
//! The file being written stays open, so that lines written after it is renamed or deleted are still read. The folder
//! is scanned whenever the log's path holds another file, and now and then for safety. Each file that is new or has
//! changed is identified by its content and read from the position to which its stream was read, the oldest file first.
//! The method of rotation makes no difference, so there is no list of methods.
//!
//! Nothing waits for a date, and nothing is dated here: each stream is sent as it stands there, with the stream that
//! certainly came before it.

mod identify;
mod moved;
mod rewind;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::content::{Content, ContentError};
use super::discover::{Candidate, Listing, candidates, mark};
use super::status::{LogSource, LogState, SharedStatus, UnreadPart};
use super::stream::{OpenStream, Start, StreamError};
use crate::buffer::Buffer;
use crate::checkpoint::{Checkpoint, Fingerprint};
use crate::codes;
use crate::format::interpreter::LineCounts;
use crate::source::rewinds::Rewinds;
use identify::{BEING_MADE, Identified, Part, concerns_part_alone, is_being_made, is_moved};
use moved::Moved;

/// Follows one log.
pub struct LogTailer {
    source: LogSource,
    buffer: Arc<Buffer>,
    status: SharedStatus,
    /// The file being written; `None` while it is not open.
    open: Option<OpenStream>,
    /// Files that were moved away, and are read on for as long as somebody writes to them.
    moved: Vec<Moved>,
    /// The stream that this process had open last, if it was read to its end.
    before: Option<Fingerprint>,
    /// The open stream's counts that are already in the status.
    counted: LineCounts,
    /// Streams to read again from their beginning.
    rewinds: Arc<Rewinds>,
    /// Files beside the log that were already reported as not being a part of it.
    reported: HashSet<PathBuf>,
    /// Streams whose file was closed, and may be gone, before all of it was committed.
    cuts: HashMap<Fingerprint, Cut>,
}

/// The most parts that cannot be read which are listed.
const MOST_UNREAD: usize = 20;

/// A file that was closed and is not at the log's path any more.
struct Cut {
    /// The largest size seen of the file, in bytes.
    size: u64,
    /// When the file was closed.
    at: Instant,
}

impl LogTailer {
    /// Creates a tailer that reads a log into a buffer.
    pub fn new(source: LogSource, buffer: Arc<Buffer>, status: SharedStatus, rewinds: Arc<Rewinds>) -> Self {
        Self {
            source,
            buffer,
            status,
            open: None,
            moved: Vec::new(),
            before: None,
            counted: LineCounts::default(),
            rewinds,
            reported: HashSet::new(),
            cuts: HashMap::new(),
        }
    }

    /// Reads new lines. `scan_files` requests a scan of all files, whether or not the current one seems to have
    /// changed.
    pub fn poll(&mut self, scan_files: bool) -> Result<(), StreamError> {
        lock(&self.status).asked_since = Some(Instant::now());
        let outcome = self.rewind().and_then(|rewound| {
            self.read_moved()?;
            self.poll_current(scan_files || rewound)
        });
        lock(&self.status).asked_since = None;
        match &outcome {
            Ok(()) => {}
            // The stream keeps the batch that the buffer could not take.
            Err(StreamError::Buffer(error)) if error.is_pressure() => {
                self.set_state(LogState::BufferFull, error.to_string(), String::new());
            }
            // Reading resumes from the checkpoint that the buffer holds.
            Err(error) => {
                // The lines read of the current file are valid even if another file has a problem, so they are
                // committed if possible. After an error of the buffer, its checkpoint alone tells what it holds.
                let is_overtaken =
                    !matches!(error, StreamError::Buffer(_)) && matches!(self.commit(), Err(StreamError::Overtaken(_)));
                if !is_overtaken {
                    self.note_cut();
                }
                self.open = None;
                self.set_state(state_of(error), error.to_string(), detail_of(error, &self.source.path));
            }
        }
        outcome
    }

    /// Commits the lines read so far.
    pub fn commit(&mut self) -> Result<(), StreamError> {
        match &mut self.open {
            Some(open) => open.commit(&self.buffer),
            None => Ok(()),
        }
    }

    /// Returns the state of the log.
    pub fn state(&self) -> LogState {
        lock(&self.status).state
    }

    /// Returns when the log must be polled again even if nothing changes; `None` if no such time is set.
    pub fn deadline(&self) -> Option<Instant> {
        let open = self.open.as_ref()?;
        [open.deadline(), open.settles_at()].into_iter().flatten().min()
    }

    fn poll_current(&mut self, scan_files: bool) -> Result<(), StreamError> {
        let mut is_replaced = false;
        if let Some(open) = &mut self.open {
            let outcome = open.read(&self.buffer).and_then(|()| {
                let is_due = open.deadline().is_some_and(|deadline| deadline <= Instant::now());
                if is_due { open.commit(&self.buffer) } else { Ok(()) }
            });
            match outcome {
                Ok(()) => {}
                Err(StreamError::Replaced(_)) => is_replaced = true,
                Err(StreamError::Overtaken(_)) => self.open = None,
                Err(error) => {
                    self.note_progress();
                    return Err(error);
                }
            }
            self.note_progress();
        }
        let is_gone = is_replaced || !self.is_at_path();
        if !scan_files && !is_gone {
            return Ok(());
        }
        if is_gone {
            self.close()?;
        }
        self.scan_files()
    }

    /// Whether the log's path still holds the open file, with at least as many bytes as were read.
    fn is_at_path(&self) -> bool {
        let Some(open) = &self.open else { return false };
        std::fs::metadata(&self.source.path)
            .and_then(|metadata| mark(&self.source.path, &metadata))
            .is_ok_and(|now| now.is_same_file(open.mark()) && now.size >= open.read_through())
    }

    /// Reads new lines of all files except the open one.
    fn scan_files(&mut self) -> Result<(), StreamError> {
        let Listing { files: mut found, problem: unlisted } = candidates(&self.source)?;
        // If the log was rotated since its path was checked, the open file is a part like the others.
        let is_open = |file: &Candidate, open: &OpenStream| file.mark.is_same_file(open.mark());
        if let Some(open) = &self.open
            && !found.iter().any(|file| file.is_current && is_open(file, open))
        {
            self.close()?;
        }
        if let Some(open) = &self.open {
            found.retain(|file| !is_open(file, open));
        }
        self.take_back_moved(&found);
        let has_current = self.open.is_some() || found.iter().any(|candidate| candidate.is_current);
        let current_size = found.iter().find(|candidate| candidate.is_current).map(|candidate| candidate.mark.size);
        let Identified { parts, problem, is_complete, mut unread } = self.identify_files(found)?;
        let mut problem = problem.or(unlisted.map(StreamError::from));
        if is_complete {
            self.report_lost(&parts, problem.is_some() || !unread.is_empty())?;
        }
        problem = self.read_parts(parts, &mut unread)?.or(problem);
        self.report_unread(&unread);
        self.note_unread(unread, problem.as_ref());
        match problem {
            // The file was renamed, truncated or overtaken between two checks; the next scan handles it.
            Some(StreamError::Replaced(_) | StreamError::Overtaken(_)) => Ok(()),
            Some(error) => Err(error),
            None if !has_current => match Content::open(&self.source.path) {
                Err(error) => Err(error.into()),
                // The file has appeared meanwhile.
                Ok(_) => Ok(()),
            },
            None => {
                if let Some(size) = current_size.filter(|_| self.open.is_none()) {
                    self.note_unopened(size);
                }
                Ok(())
            }
        }
    }

    /// Reads parts, the oldest first. Returns the error of one that could not be read, and notes those that are damaged.
    fn read_parts(
        &mut self,
        parts: Vec<Part>,
        damaged: &mut Vec<UnreadPart>,
    ) -> Result<Option<StreamError>, StreamError> {
        let (mut problem, mut unread) = (None, None);
        for mut part in parts {
            let (candidate, fingerprint) = (part.candidate.clone(), part.fingerprint);
            // What was not read to its end does not tell when the next one begins.
            part.after = part.after.filter(|after| Some(*after) != unread);
            if let (Some(after), Some(month_day)) = (part.after, part.identity.month_day) {
                // Its first line tells its month and day: there can be days between.
                let before = self.buffer.checkpoint(&after)?;
                let first = (month_day, part.identity.first_time);
                part.after = part.after.filter(|_| {
                    before.is_some_and(|before| before.file().is_some_and(|file| file.parser_state.goes_on(first)))
                });
            }
            match self.read_part(part) {
                Ok(()) => {}
                Err(error @ StreamError::Buffer(_)) => return Err(error),
                Err(error) if is_moved(&error) => return Ok(Some(error)),
                // It is tried again with the next scan.
                Err(_) if is_being_made(&candidate) => unread = Some(fingerprint),
                Err(error) if concerns_part_alone(&error, &candidate) => {
                    damaged.push(UnreadPart::new(&candidate.path, error.to_string()));
                    unread = Some(fingerprint);
                }
                // A file that cannot be read does not delay the others.
                Err(error) => (problem, unread) = (Some(error), Some(fingerprint)),
            }
        }
        Ok(problem)
    }

    /// Reports, once each, files that have the name of a part but are not one, or cannot be read. They do not delay the others.
    fn report_unread(&mut self, unread: &[UnreadPart]) {
        for UnreadPart { path, reason, .. } in unread {
            if self.reported.insert(path.clone()) {
                tracing::warn!(code = codes::PART_SKIPPED, log = %self.source.name, reason, "a file beside the log is not read");
            }
        }
    }

    /// Records the state of a current file that has no complete line yet, and therefore no stream.
    fn note_unopened(&self, size: u64) {
        let mut status = lock(&self.status);
        (status.position, status.size) = (0, size);
        status.set_followed();
    }

    /// Closes the open file after committing what was read.
    fn close(&mut self) -> Result<(), StreamError> {
        let is_whole = match self.commit() {
            Ok(()) => true,
            // The lines read belong to another stream; none of them are kept.
            Err(StreamError::Replaced(_)) => false,
            // The file itself is unread, and nothing of it is lost.
            Err(StreamError::Overtaken(_)) => {
                (self.open, self.before) = (None, None);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        self.note_cut();
        let Some(open) = self.open.take() else { return Ok(()) };
        // Only a stream that was read to its end tells when the next one begins.
        self.before = Some(*open.fingerprint()).filter(|_| open.seen_size() <= open.position());
        if is_whole {
            self.keep_moved(open);
        }
        Ok(())
    }

    /// Records the parts that cannot be read.
    fn note_unread(&self, mut unread: Vec<UnreadPart>, problem: Option<&StreamError>) {
        if let Some(StreamError::Content(error)) = problem
            && error.path() != self.source.path
        {
            unread.push(UnreadPart::new(error.path(), error.to_string()));
        }
        unread.truncate(MOST_UNREAD);
        lock(&self.status).unread_parts = unread;
    }

    /// Notes how large the open file was, before it is closed.
    fn note_cut(&mut self) {
        if let Some(open) = &self.open {
            let cut = self.cuts.entry(*open.fingerprint()).or_insert(Cut { size: 0, at: Instant::now() });
            cut.size = cut.size.max(open.seen_size());
        }
    }

    /// Reports the bytes of closed files that were not committed, if no file holds a copy of them.
    fn report_lost(&mut self, parts: &[Part], has_problem: bool) -> Result<(), StreamError> {
        let known: Vec<Fingerprint> = self.cuts.keys().copied().collect();
        for fingerprint in known {
            // Another log may have captured a stream under the name that this one had for its own.
            let checkpoint = self.buffer.checkpoint(&fingerprint)?.filter(|found| found.log == self.source.name);
            let Some(Cut { size, at }) = self.cuts.get(&fingerprint) else { continue };
            let checkpoint = checkpoint.filter(|checkpoint| checkpoint.position < *size);
            // The file that cannot be read may be the copy.
            let may_be_copied = has_problem && at.elapsed() < BEING_MADE;
            let is_open = self.open.as_ref().is_some_and(|open| *open.fingerprint() == fingerprint);
            let is_open = is_open || self.moved.iter().any(|moved| *moved.stream.fingerprint() == fingerprint);
            let is_there = is_open || parts.iter().any(|part| part.fingerprint == fingerprint);
            match checkpoint {
                Some(_) if may_be_copied || is_there => continue,
                Some(checkpoint) => self.report_gap(checkpoint, *size)?,
                None => {}
            }
            self.cuts.remove(&fingerprint);
        }
        Ok(())
    }

    /// Reports that a stream's bytes from its checkpoint to `known_size` are lost.
    fn report_gap(&self, checkpoint: Checkpoint, known_size: u64) -> Result<(), StreamError> {
        tracing::error!(
            code = codes::LOG_TRUNCATED,
            log = %self.source.name,
            lost_bytes = known_size - checkpoint.position,
            "the log was truncated before these bytes could be read; copy it before truncating it, or rename it"
        );
        self.append_gap(checkpoint, known_size)
    }

    /// Appends an empty batch at `end`, which says that the bytes before it cannot be read any more.
    fn append_gap(&self, mut checkpoint: Checkpoint, end: u64) -> Result<(), StreamError> {
        let batch = crate::batcher::gap(&checkpoint, &self.source.configured(), end)
            .map_err(|source| ContentError::of(&self.source.path, source))?;
        checkpoint.position = end;
        Ok(self.buffer.append(&batch, &checkpoint)?)
    }

    fn read_part(&mut self, part: Part) -> Result<(), StreamError> {
        let Part { candidate, fingerprint, format, identity, known, after, is_last } = part;
        let start = known.map_or(Start::New(identity, after), Start::Resume);
        let mut stream = OpenStream::open(&candidate, &self.source, (fingerprint, format), start, is_last)?;
        self.counted = LineCounts::default();
        if candidate.is_current {
            let outcome = stream.read(&self.buffer);
            self.open = Some(stream);
            self.note_progress();
            return match outcome {
                // The file was replaced meanwhile; the next scan identifies the new one.
                Ok(()) | Err(StreamError::Replaced(_)) => Ok(()),
                Err(error @ StreamError::Overtaken(_)) => {
                    self.open = None;
                    Err(error)
                }
                Err(error) => Err(error),
            };
        }
        stream.read(&self.buffer)?;
        stream.commit(&self.buffer)?;
        self.count(&stream);
        let is_whole = stream.settles_at().is_none();
        // A part with a half-written last line is checked again until the line is complete.
        if is_whole && candidate.mark == *stream.mark() {
            self.buffer.note_file(stream.mark(), &fingerprint)?;
        }
        Ok(())
    }

    fn note_progress(&mut self) {
        let Some(open) = self.open.take() else { return };
        self.count(&open);
        let mut status = lock(&self.status);
        status.position = open.position();
        status.last_line_at = open.last_line_at(&self.source.zone);
        status.size = open.seen_size();
        status.set_manager(open.manager());
        status.set_followed();
        drop(status);
        self.open = Some(open);
    }

    fn count(&mut self, stream: &OpenStream) {
        let counts = stream.counts();
        let mut status = lock(&self.status);
        // Counts start at zero again after a last line was read again.
        let new = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
        status.lines += LineCounts {
            events: new(counts.events, self.counted.events),
            ignored: new(counts.ignored, self.counted.ignored),
            unrecognised: new(counts.unrecognised, self.counted.unrecognised),
        };
        self.counted = counts;
    }

    fn set_state(&self, state: LogState, message: String, detail: String) {
        let mut status = lock(&self.status);
        (status.state, status.message, status.detail) = (state, message, detail);
    }
}

fn state_of(error: &StreamError) -> LogState {
    match error {
        StreamError::Content(ContentError::Missing(_)) => LogState::Missing,
        StreamError::Content(ContentError::Denied { .. }) => LogState::PermissionDenied,
        StreamError::Content(ContentError::NotALog { .. } | ContentError::NotAFile(_)) => LogState::NotALog,
        _ => LogState::Unreadable,
    }
}

/// Returns the part of an error that the state does not tell; empty if there is none.
fn detail_of(error: &StreamError, log: &Path) -> String {
    match error {
        StreamError::Content(ContentError::NotALog { what, .. }) => (*what).to_owned(),
        StreamError::Content(ContentError::NotAFile(_)) => "not a file".to_owned(),
        StreamError::Content(ContentError::Io { path, source }) if path == log => source.to_string(),
        StreamError::Content(ContentError::Io { path, source }) => format!("{}: {source}", path.display()),
        StreamError::Content(ContentError::Folder { path, source }) => format!("{}: {source}", path.display()),
        StreamError::Buffer(error) => error.to_string(),
        _ => String::new(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How often a log is polled without a change notification. Network drives send none.
pub const SAFETY_POLL: Duration = Duration::from_secs(5);
