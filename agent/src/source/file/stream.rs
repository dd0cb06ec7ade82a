//! Reads one stream into batches, and detects that its file was replaced.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use seatmeter_proto::pseudonym::Key;
use seatmeter_proto::v1::{Batch, Stream};

use super::chain::Chain;
use super::content::{Content, ContentError};
use super::discover::{Candidate, mark};
use super::head::HeadReader;
use super::identity::Identity;
use super::lines::{Line, Lines};
use super::status::LogSource;
use super::watched::{Replaced, Watched, written_at};
use crate::batcher::Batcher;
use crate::buffer::{Buffer, BufferError};
use crate::checkpoint::{CheckValue, Checkpoint, FileCheckpoint, FileMark, Fingerprint, Proof, SourceCheckpoint};
use crate::format::Format;
use crate::format::interpreter::{LineCounts, LineInterpreter, Outcome, ParserState};

/// The longest time between the first line of a batch and its commit.
const BATCH_DELAY: Duration = Duration::from_secs(1);

/// A batch of this many events is committed as soon as there is nothing more to read, without waiting for
/// [`BATCH_DELAY`]. A busy log writes about as many events within that delay.
const ENOUGH_EVENTS: usize = 1 << 14;

/// A last line without a line feed counts as complete once the file has not grown for this long. If the file grows
/// later, the line is read again and replaced.
const SETTLED: Duration = Duration::from_secs(10);

/// Why reading a stream stopped.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The file was truncated, replaced or removed. Its further content is another stream.
    #[error("{0} was truncated or replaced")]
    Replaced(PathBuf),
    /// Another reader has captured a stream of this name since the file was identified: the file is to be identified anew.
    #[error("another log has captured a stream that begins as {0}")]
    Overtaken(PathBuf),
    /// The file is a copy that is still being made.
    #[error("{0} is a copy that is still being made")]
    Incomplete(PathBuf),
    /// The file cannot be read.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The buffer cannot store the batch.
    #[error(transparent)]
    Buffer(#[from] BufferError),
}

/// A stream being read.
pub struct OpenStream {
    path: PathBuf,
    mark: FileMark,
    /// The checkpoint of the last batch; that of the stream's beginning before the first one.
    checkpoint: Checkpoint,
    stream: Stream,
    format: Format,
    /// The beginning as it was read, until it is proven to be that of the identified stream.
    unproven: Option<HeadReader>,
    lines: Lines<Watched>,
    /// The check value of the position where the next batch starts.
    check: CheckValue,
    interpreter: LineInterpreter,
    /// The interpreter's counts that are already in batches.
    counted: LineCounts,
    batcher: Batcher,
    /// Makes what is sent in place of names; `None` if names are sent.
    pseudonyms: Option<Arc<Key>>,
    /// When the first line that is not in a batch yet was read; `None` if there is no such line.
    pending_since: Option<Instant>,
    /// If the last line had no line feed: its position, and the interpreter's state before it.
    tail: Option<(u64, ParserState)>,
    replaces_tail: bool,
    /// A sealed batch that the buffer has not accepted yet.
    sealed: Option<Batch>,
    /// When the file last grew.
    grew_at: Instant,
    /// The largest size seen of the file, in bytes.
    seen_size: u64,
}

/// Where to begin reading a file.
pub enum Start {
    /// At the beginning of a stream with this identity, which comes certainly after another one.
    New(Identity, Option<Fingerprint>),
    /// At the position of a checkpoint.
    Resume(Box<Resumption>),
}

/// A checkpoint of a stream that a file holds, and what stands before its position.
pub struct Resumption {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// The chain of all bytes before the position.
    pub chain: Chain,
    /// The last bytes before the position.
    pub window: Vec<u8>,
}

impl Resumption {
    fn of(start: Start, fingerprint: Fingerprint, log: &str) -> Self {
        let (identity, after) = match start {
            Start::New(identity, after) => (identity, after),
            Start::Resume(resumption) => return *resumption,
        };
        let file = FileCheckpoint {
            proof: None,
            parser_state: ParserState::default(),
            tail: None,
            first_line_time: identity.first_time.into(),
            head: identity.beginning,
            after,
            beginning: None,
            first_day: None,
        };
        let source = SourceCheckpoint::File(Box::new(file));
        let checkpoint = Checkpoint { fingerprint, log: log.to_owned(), is_last: false, position: 0, source };
        Self { checkpoint, chain: Chain::default(), window: Vec::new() }
    }
}

impl OpenStream {
    /// Opens a file whose stream is identified. `is_last` says that it is the last one of its log.
    pub fn open(
        candidate: &Candidate,
        source: &LogSource,
        (fingerprint, format): (Fingerprint, Format),
        start: Start,
        is_last: bool,
    ) -> Result<Self, StreamError> {
        let path = &candidate.path;
        let (content, metadata) = Content::open(path)?;
        let mark = mark(path, &metadata).map_err(|source| ContentError::of(path, source))?;
        if !mark.is_same_file(&candidate.mark) {
            return Err(StreamError::Replaced(path.clone()));
        }
        let Resumption { mut checkpoint, chain, window } = Resumption::of(start, fingerprint, &source.name);
        checkpoint.is_last = is_last;
        let position = checkpoint.position;
        let interpreter = match (position, checkpoint.file()) {
            (0, Some(FileCheckpoint { first_day: Some(day), .. })) => LineInterpreter::starting(*day),
            (1.., Some(file)) => LineInterpreter::resume(file.parser_state.clone()),
            _ => LineInterpreter::default(),
        };
        let stream = checkpoint.stream(&source.configured());
        let watched = Watched::at(content, position, window).map_err(|error| Self::read_error(path, error))?;
        Ok(Self {
            path: path.clone(),
            mark,
            batcher: Batcher::new(stream.clone(), position, interpreter.state().told(), source.pseudonyms.clone()),
            pseudonyms: source.pseudonyms.clone(),
            stream,
            format,
            unproven: (position == 0).then(|| HeadReader::new(Some(format))),
            check: chain.value(),
            lines: Lines::checked(watched, position, chain),
            tail: checkpoint.file().and_then(|file| file.tail.clone()),
            checkpoint,
            interpreter,
            counted: LineCounts::default(),
            pending_since: None,
            replaces_tail: false,
            sealed: None,
            grew_at: written_at(&metadata),
            seen_size: position,
        })
    }

    fn read_error(path: &Path, error: io::Error) -> StreamError {
        if error.get_ref().is_some_and(|inner| inner.is::<Replaced>()) {
            StreamError::Replaced(path.to_owned())
        } else {
            ContentError::of(path, error).into()
        }
    }

    /// Reads all available lines, and commits every batch that is full.
    pub fn read(&mut self, buffer: &Buffer) -> Result<(), StreamError> {
        if let Err(error) = self.hand_over(buffer) {
            // While the buffer is full, too, what a truncation takes is known by its size.
            self.note_size();
            return Err(error);
        }
        let before = self.lines.position() + self.lines.unfinished();
        self.continue_tail()?;
        loop {
            let position = self.lines.position();
            if self.batcher.is_full(position) {
                self.commit(buffer)?;
            }
            match self.lines.next_line() {
                Ok(Some(line)) => {
                    if let Some(beginning) = &mut self.unproven {
                        beginning.line(&line);
                    }
                    take(self.format, &mut self.interpreter, &mut self.batcher, position, line);
                }
                Ok(None) => break,
                Err(error) => return Err(Self::read_error(&self.path, error)),
            }
            if self.pending_since.is_none() {
                self.pending_since = Some(Instant::now());
            }
        }
        if self.lines.position() + self.lines.unfinished() > before {
            self.grew_at = self.lines.reader().written_at();
        }
        self.note_size();
        self.settle(buffer)
    }

    fn note_size(&mut self) {
        if self.prove_beginning().is_err() {
            // What was written over the content has a size that is none of its own.
            return;
        }
        let size = self.lines.reader().size().unwrap_or(0);
        self.seen_size = self.seen_size.max(self.read_through()).max(size);
    }

    /// Checks what follows a last line that had no line feed. A line feed completes the line; if more text follows, the
    /// line is read again and replaced.
    fn continue_tail(&mut self) -> Result<(), StreamError> {
        let Some((start, state)) = self.tail.clone() else { return Ok(()) };
        let ahead = self.lines.ahead().map_err(|error| Self::read_error(&self.path, error))?;
        let line_end = match ahead {
            [] | [b'\r'] => return Ok(()),
            [b'\n', ..] => 1,
            [b'\r', b'\n', ..] => 2,
            _ => 0,
        };
        if line_end > 0 {
            self.lines.pass(line_end);
            self.tail = None;
            return Ok(());
        }
        let failed = |error| Self::read_error(&self.path, error);
        let chain = Chain::through(Content::open(&self.path)?.0, start).map_err(failed)?;
        let chain = chain.ok_or_else(|| StreamError::Replaced(self.path.clone()))?;
        let watched = Watched::at(Content::open(&self.path)?.0, start, Vec::new()).map_err(failed)?;
        self.check = chain.value();
        self.lines = Lines::checked(watched, start, chain);
        self.batcher = Batcher::new(self.stream.clone(), start, state.told(), self.pseudonyms.clone());
        self.interpreter = LineInterpreter::resume(state);
        self.counted = LineCounts::default();
        (self.tail, self.replaces_tail, self.pending_since) = (None, true, None);
        Ok(())
    }

    /// Treats a last line without a line feed as complete, if the file is not expected to grow.
    fn settle(&mut self, buffer: &Buffer) -> Result<(), StreamError> {
        let is_final = !self.lines.reader().is_plain() || self.grew_at.elapsed() >= SETTLED;
        if self.lines.unfinished() == 0 || !is_final {
            return Ok(());
        }
        // The lines before the tail must be in a batch of their own, because the tail's batch can be replaced.
        self.commit(buffer)?;
        let (position, state) = (self.lines.position(), self.interpreter.state().clone());
        if let Some(line) = self.lines.last_line() {
            if let Some(beginning) = &mut self.unproven {
                beginning.line(&line);
            }
            take(self.format, &mut self.interpreter, &mut self.batcher, position, line);
            self.tail = Some((position, state));
            self.pending_since = Some(Instant::now());
            self.commit(buffer)?;
        }
        Ok(())
    }

    /// Commits the lines read since the last batch, if there are any.
    pub fn commit(&mut self, buffer: &Buffer) -> Result<(), StreamError> {
        self.hand_over(buffer)?;
        let end = self.lines.position();
        if end == self.batcher.start() {
            return Ok(());
        }
        self.prove_beginning()?;
        let counts = self.interpreter.counts();
        let lines = LineCounts {
            events: counts.events - self.counted.events,
            ignored: counts.ignored - self.counted.ignored,
            unrecognised: counts.unrecognised - self.counted.unrecognised,
        };
        if let Some(file) = self.checkpoint.file_mut() {
            file.parser_state = self.interpreter.state().clone();
            file.tail.clone_from(&self.tail);
        }
        let mut batch: Batch = self
            .batcher
            .seal(end, self.checkpoint.last_line(), lines)
            .map_err(|source| ContentError::of(&self.path, source))?;
        batch.replaces_tail = self.replaces_tail;
        self.prove(&mut batch);
        self.checkpoint.position = end;
        (self.counted, self.pending_since, self.replaces_tail) = (counts, None, false);
        self.sealed = Some(batch);
        self.hand_over(buffer)
    }

    /// Writes the check values of a batch's range into it, and keeps that of its end.
    fn prove(&mut self, batch: &mut Batch) {
        let Some(chain) = self.lines.chain() else { return };
        let check = chain.value();
        batch.block_checks = chain.take_blocks();
        batch.start_check = self.check.to_vec();
        batch.end_check = check.to_vec();
        self.check = check;
        let position = batch.end_position;
        // A stream that is read again is known further than it is read.
        if let Some(file) = self.checkpoint.file_mut() {
            file.proof = file.proof.filter(|proof| proof.position > position).or(Some(Proof { position, check }));
        }
    }

    /// Verifies that the beginning that was read is that of the identified stream, once all of it was read. The file could have
    /// been truncated and written anew after it was identified and before it was read, whatever its name is now.
    fn prove_beginning(&mut self) -> Result<(), StreamError> {
        let Some(beginning) = self.unproven.as_ref().and_then(|beginning| beginning.head().identity()) else {
            // All that is read so far is before a date or a use.
            return Ok(());
        };
        if beginning.beginning != self.checkpoint.head() {
            return Err(StreamError::Replaced(self.path.clone()));
        }
        self.unproven = None;
        Ok(())
    }

    /// Hands a sealed batch to the buffer. While the buffer is full, the batch stays here, and nothing more is read.
    fn hand_over(&mut self, buffer: &Buffer) -> Result<(), StreamError> {
        if let Some(batch) = &self.sealed {
            match buffer.append(batch, &self.checkpoint) {
                Err(BufferError::Overtaken) => return Err(StreamError::Overtaken(self.path.clone())),
                appended => appended?,
            }
            self.sealed = None;
        }
        Ok(())
    }

    /// Returns when the lines read so far must be committed; `None` if there are none.
    pub fn deadline(&self) -> Option<Instant> {
        let delay = if self.batcher.events() < ENOUGH_EVENTS { BATCH_DELAY } else { Duration::ZERO };
        self.pending_since.map(|since| since + delay)
    }

    /// Returns when a last line without a line feed will count as complete; `None` if there is no such line.
    pub fn settles_at(&self) -> Option<Instant> {
        (self.lines.unfinished() > 0).then(|| self.grew_at + SETTLED)
    }

    /// Returns the stream's fingerprint.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.checkpoint.fingerprint
    }

    /// Returns the file's identity, size and modification time when it was opened.
    pub fn mark(&self) -> &FileMark {
        &self.mark
    }

    /// Takes note that another stream follows this one: it is no longer the last one of its log.
    pub fn is_followed(&mut self) {
        self.checkpoint.is_last = false;
    }

    /// Whether the file can grow: a compressed one cannot.
    pub fn can_grow(&self) -> bool {
        self.lines.reader().is_plain()
    }

    /// Returns the position of the next line, in bytes.
    pub fn position(&self) -> u64 {
        self.lines.position()
    }

    /// Returns the largest size seen of the file, in bytes.
    pub fn seen_size(&self) -> u64 {
        self.seen_size
    }

    /// Returns the number of bytes read, including those of a half-written last line.
    pub fn read_through(&self) -> u64 {
        self.lines.position() + self.lines.unfinished()
    }

    /// Returns the lines read since the stream was opened, by outcome.
    pub fn counts(&self) -> LineCounts {
        self.interpreter.counts()
    }

    /// Returns the moment of the last line, in seconds since 1970 UTC; `None` if no line tells a date.
    pub fn last_line_at(&self, zone: &TimeZone) -> Option<i64> {
        self.interpreter.state().moment(zone)
    }

    /// Returns the name and the version of the license manager, as it wrote them; empty if no line tells them.
    pub fn manager(&self) -> &[u8] {
        self.interpreter.state().manager()
    }
}

fn take(format: Format, interpreter: &mut LineInterpreter, batcher: &mut Batcher, position: u64, line: Line<'_>) {
    let text = match line {
        Line::Whole(text) => text,
        Line::Overlong => {
            interpreter.overlong();
            let previous = interpreter.state().last_time();
            return batcher.unrecognised(position, previous, b"(a line of more than a megabyte)");
        }
    };
    format.each_record(text, |start, text, record| {
        let position = position + start as u64;
        let outcome = interpreter.line(record);
        for mark in interpreter.marks() {
            batcher.mark(position, mark);
        }
        match outcome {
            Outcome::Event(event) => batcher.event(position, &event, interpreter.daemon()),
            Outcome::Ignored => {}
            Outcome::Unrecognised(_) => batcher.unrecognised(position, interpreter.state().last_time(), text),
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::file::head::read_head;

    /// Between the moment at which a file is identified and that at which it is read, another content takes its place. What
    /// happens to its name afterwards makes no difference.
    #[test]
    fn content_that_was_written_over_is_not_captured_as_the_content_before() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("debug.log"), folder.path().join("debug.log.1"));
        let buffer = Buffer::open(folder.path(), 1 << 30, 0).unwrap();
        std::fs::write(&path, " 8:00:00 (d) OUT: \"f\" ada@pc  \n").unwrap();
        let found = read_head(&path, None, false).unwrap();
        let identity = found.head.identity().unwrap();
        let source = LogSource {
            name: "debug.log".into(),
            path: path.clone(),
            archives: Vec::new(),
            others: Vec::new(),
            format: None,
            zone: TimeZone::UTC,
            date: None,
            moved_quiet: Duration::ZERO,
            pseudonyms: None,
        };
        let candidate = Candidate { path: path.clone(), mark: found.mark, is_current: true, claim: None };
        // Written over, in the same file.
        std::fs::write(&path, " 9:00:00 (d) OUT: \"f\" bob@pc  \n 9:00:01 (d) OUT: \"f\" cid@pc  \n").unwrap();
        let named = (identity.beginning, found.format.unwrap());
        let mut stream = OpenStream::open(&candidate, &source, named, Start::New(identity, None), true).unwrap();
        stream.read(&buffer).unwrap();
        std::fs::rename(&path, &moved).unwrap();
        assert_eq!(stream.seen_size(), 0, "nor is its size that of the content before");
        assert!(matches!(stream.commit(&buffer), Err(StreamError::Replaced(_))));
        assert_eq!(buffer.depth().unwrap().batches, 0);
    }
}
