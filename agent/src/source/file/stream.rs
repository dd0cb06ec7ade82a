//! Reading one stream into batches, and noticing when the file is no longer the same.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use seatmeter_count::Day;
use seatmeter_proto::v1::{Batch, Stream};

use super::content::{Content, ContentError};
use super::discover::Candidate;
use super::identity::{Fingerprint, Head, Identity};
use super::lines::{Line, Lines};
use crate::batcher::Batcher;
use crate::buffer::{Buffer, BufferError, Checkpoint, FileMark, ReadState};
use crate::format::flexnet;
use crate::format::reading::{LineCounts, Outcome, Reading};
use crate::format::timeline::Timeline;

/// So many bytes before a position prove that a file is still the one that was read.
const WINDOW: usize = 256;

/// A batch is committed this long after its first line at the latest.
pub const BATCH_DELAY: Duration = Duration::from_secs(1);

/// A batch of this many events is committed as soon as there is nothing more to read, without waiting for company: it is
/// as large as what a busy log brings within [`BATCH_DELAY`].
const ENOUGH_EVENTS: usize = 1 << 14;

/// A last line without a line feed is taken for whole when the file has not grown for this long. Should it grow after
/// all, the line is taken back.
const SETTLED: Duration = Duration::from_secs(10);

/// Why reading a stream stopped.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The file's content was replaced, cut or removed: what follows is another stream.
    #[error("{0} was truncated or replaced")]
    Replaced(PathBuf),
    /// The file cannot be read.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// What was read cannot be buffered.
    #[error(transparent)]
    Buffer(#[from] BufferError),
}

/// A stream being read.
pub struct OpenStream {
    path: PathBuf,
    mark: FileMark,
    fingerprint: Fingerprint,
    log: String,
    begins_at: i64,
    first_day: Day,
    head: Fingerprint,
    /// The beginning must be compared once more, now that it has been read.
    is_unproven: bool,
    lines: Lines<Watched>,
    zone: TimeZone,
    reading: Reading,
    /// What of the reading's counts is in batches already.
    counted: LineCounts,
    batcher: Batcher,
    /// When the first line was read that is not in a batch yet.
    pending_since: Option<Instant>,
    tail: Option<(u64, crate::format::reading::Bookmark)>,
    replaces_tail: bool,
    /// A batch that the buffer has not taken yet.
    sealed: Option<(Batch, Checkpoint)>,
    /// When bytes were last read.
    grew_at: Instant,
    /// The largest size that the file was seen to have.
    seen_size: u64,
}

/// How to begin reading a file.
pub enum Start<'a> {
    /// From its beginning, which is this.
    New(&'a Identity),
    /// From where it was read to.
    Resume(Box<Checkpoint>),
}

impl OpenStream {
    /// Opens a file that was found to be a stream.
    pub fn open(
        candidate: &Candidate,
        log: &str,
        zone: &TimeZone,
        fingerprint: Fingerprint,
        start: Start<'_>,
    ) -> Result<Self, StreamError> {
        let path = &candidate.path;
        let (content, metadata) = Content::open(path)?;
        let failed = |source| ContentError::of(path, source);
        let mark = super::discover::mark(path, &metadata).map_err(failed)?;
        if !mark.is_same_file(&candidate.mark) {
            return Err(StreamError::Replaced(path.clone()));
        }
        let from_beginning = |first_day| Timeline::starting(zone.clone(), first_day);
        let (position, window, reading, begins_at, tail, first_day, head) = match start {
            Start::New(identity) => {
                let timeline = from_beginning(identity.first_day);
                let begins_at = timeline.clone().date(identity.first_stamp(), None).utc;
                (0, Vec::new(), Reading::new(timeline), begins_at, None, identity.first_day, identity.head)
            }
            Start::Resume(checkpoint) => {
                let Checkpoint { position, state, .. } = *checkpoint;
                let reading = match position {
                    0 => Reading::new(from_beginning(state.first_day)),
                    _ => Reading::resume(zone.clone(), state.bookmark),
                };
                (position, state.window, reading, state.begins_at, state.tail, state.first_day, state.head)
            }
        };
        let watched = Watched::at(content, position, window).map_err(|error| Self::read_error(path, error))?;
        let stream = Stream { fingerprint: fingerprint.to_vec(), log: log.to_owned(), begins_at };
        Ok(Self {
            path: path.clone(),
            mark,
            fingerprint,
            log: log.to_owned(),
            begins_at,
            first_day,
            head,
            is_unproven: position == 0,
            lines: Lines::new(watched, position),
            zone: zone.clone(),
            reading,
            counted: LineCounts::default(),
            batcher: Batcher::new(stream, position),
            pending_since: None,
            tail,
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

    /// Reads what there is, and commits every batch that is full. Returns whether there was anything.
    pub fn read(&mut self, buffer: &Buffer) -> Result<bool, StreamError> {
        self.hand_over(buffer)?;
        let before = self.lines.position() + self.lines.unfinished();
        self.continue_tail()?;
        loop {
            let position = self.lines.position();
            if self.batcher.is_full(position) {
                self.commit(buffer)?;
            }
            match self.lines.next_line() {
                Ok(Some(line)) => take(&mut self.reading, &mut self.batcher, position, line),
                Ok(None) => break,
                Err(error) => return Err(Self::read_error(&self.path, error)),
            }
            if self.pending_since.is_none() {
                self.pending_since = Some(Instant::now());
            }
        }
        let grew = self.lines.position() + self.lines.unfinished() > before;
        if grew {
            self.grew_at = self.lines.reader().written_at();
        }
        self.seen_size = self.seen_size.max(self.read_through()).max(self.lines.reader().size());
        self.settle(buffer)?;
        Ok(grew)
    }

    /// Where the line that had no line feed goes on: with its line feed it is done, with more text it is taken back.
    fn continue_tail(&mut self) -> Result<(), StreamError> {
        let Some((start, bookmark)) = &self.tail else { return Ok(()) };
        let (start, bookmark) = (*start, bookmark.clone());
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
        let (content, _) = Content::open(&self.path)?;
        let watched = Watched::at(content, start, Vec::new()).map_err(|error| Self::read_error(&self.path, error))?;
        self.lines = Lines::new(watched, start);
        self.reading = Reading::resume(self.zone.clone(), bookmark);
        self.counted = LineCounts::default();
        let stream =
            Stream { fingerprint: self.fingerprint.to_vec(), log: self.log.clone(), begins_at: self.begins_at };
        self.batcher = Batcher::new(stream, start);
        (self.tail, self.replaces_tail, self.pending_since) = (None, true, None);
        Ok(())
    }

    /// Takes a last line without a line feed for whole, where nothing suggests that it will grow.
    fn settle(&mut self, buffer: &Buffer) -> Result<(), StreamError> {
        let is_final = !self.lines.reader().content.is_plain() || self.grew_at.elapsed() >= SETTLED;
        if self.lines.unfinished() == 0 || !is_final {
            return Ok(());
        }
        // What comes before must be in a batch of its own: the tail's batch can be taken back.
        self.commit(buffer)?;
        let (position, bookmark) = (self.lines.position(), self.reading.bookmark());
        if let (Some(line), Some(bookmark)) = (self.lines.last_line(), bookmark) {
            take(&mut self.reading, &mut self.batcher, position, line);
            self.tail = Some((position, bookmark));
            self.pending_since = Some(Instant::now());
            self.commit(buffer)?;
        }
        Ok(())
    }

    /// Commits what was read since the last batch, if there is anything.
    pub fn commit(&mut self, buffer: &Buffer) -> Result<(), StreamError> {
        self.hand_over(buffer)?;
        let end = self.lines.position();
        let Some(bookmark) = self.reading.bookmark() else { return Ok(()) };
        if end == self.batcher.start() {
            return Ok(());
        }
        self.prove_beginning()?;
        let counts = self.reading.counts();
        let lines = LineCounts {
            events: counts.events - self.counted.events,
            noise: counts.noise - self.counted.noise,
            unrecognised: counts.unrecognised - self.counted.unrecognised,
        };
        let mut batch: Batch = self
            .batcher
            .seal(end, self.last_line_at(), lines)
            .map_err(|source| ContentError::of(&self.path, source))?;
        batch.replaces_tail = self.replaces_tail;
        let window = self.lines.reader().window_before(end);
        let checkpoint = Checkpoint {
            fingerprint: self.fingerprint,
            log: self.log.clone(),
            position: end,
            state: ReadState {
                window,
                bookmark,
                tail: self.tail.clone(),
                begins_at: self.begins_at,
                first_day: self.first_day,
                head: self.head,
            },
        };
        (self.counted, self.pending_since, self.replaces_tail) = (counts, None, false);
        self.sealed = Some((batch, checkpoint));
        self.hand_over(buffer)
    }

    /// Makes sure that what was read from the beginning is the stream that it was found to be: between the finding and
    /// the reading, the file could have been emptied and written anew.
    fn prove_beginning(&mut self) -> Result<(), StreamError> {
        if self.is_unproven {
            let (head, mark) = read_head(&self.path)?;
            // Renamed meanwhile: the file read is still the one that was found, and cannot be emptied by its old name.
            if mark.is_same_file(&self.mark) && head.head() != Some(self.head) {
                return Err(StreamError::Replaced(self.path.clone()));
            }
            self.is_unproven = false;
        }
        Ok(())
    }

    /// Hands a sealed batch to the buffer. While the buffer is full, the batch stays here, and nothing more is read.
    fn hand_over(&mut self, buffer: &Buffer) -> Result<(), StreamError> {
        if let Some((batch, checkpoint)) = &self.sealed {
            buffer.append(batch, checkpoint)?;
            self.sealed = None;
        }
        Ok(())
    }

    /// When the lines read so far must be committed.
    pub fn deadline(&self) -> Option<Instant> {
        let delay = if self.batcher.events() < ENOUGH_EVENTS { BATCH_DELAY } else { Duration::ZERO };
        self.pending_since.map(|since| since + delay)
    }

    /// When a last line without a line feed will be taken for whole.
    pub fn settles_at(&self) -> Option<Instant> {
        (self.lines.unfinished() > 0).then(|| self.grew_at + SETTLED)
    }

    /// Which stream.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// Which file, as it was when it was opened.
    pub fn mark(&self) -> &FileMark {
        &self.mark
    }

    /// The moment of its first line, in seconds since 1970 UTC.
    pub fn begins_at(&self) -> i64 {
        self.begins_at
    }

    /// Where the next line begins.
    pub fn position(&self) -> u64 {
        self.lines.position()
    }

    /// The largest size that the file was seen to have.
    pub fn seen_size(&self) -> u64 {
        self.seen_size
    }

    /// How many bytes of the file are read, those of a half-written last line included.
    pub fn read_through(&self) -> u64 {
        self.lines.position() + self.lines.unfinished()
    }

    /// What became of the lines read since it was opened.
    pub fn counts(&self) -> LineCounts {
        self.reading.counts()
    }

    /// The last dated line, in seconds since 1970 UTC; 0 before the first.
    pub fn last_line_at(&self) -> i64 {
        self.reading.last_line().map_or(0, |moment| moment.utc)
    }

    /// Where the timeline stands.
    pub fn standing(&self) -> Option<crate::format::timeline::Standing> {
        self.reading.bookmark().map(|bookmark| bookmark.standing())
    }
}

/// When a file was last written: a moment on the monotonic clock, as far as the system's clock tells.
fn written_at(metadata: &Metadata) -> Instant {
    let age = metadata.modified().ok().and_then(|modified| modified.elapsed().ok()).unwrap_or_default();
    Instant::now().checked_sub(age).unwrap_or_else(Instant::now)
}

/// Reads a file until its first line is dated, or to its end.
pub fn read_head(path: &Path) -> Result<(Head, FileMark), ContentError> {
    let failed = |source| ContentError::of(path, source);
    let (content, metadata) = Content::open(path)?;
    let mark = super::discover::mark(path, &metadata).map_err(failed)?;
    let mut lines = Lines::new(content, 0);
    let mut head = Head::default();
    while !head.is_dated() {
        match lines.next_line().map_err(failed)? {
            Some(Line::Whole(line)) => head.follow(line, &flexnet::parse(line)),
            Some(Line::Overlong) => {}
            None => break,
        }
    }
    Ok((head, mark))
}

fn take(reading: &mut Reading, batcher: &mut Batcher, position: u64, line: Line<'_>) {
    let text = match line {
        Line::Whole(text) => text,
        Line::Overlong => {
            reading.overlong();
            let near = reading.last_line().map_or(0, |moment| moment.utc);
            return batcher.unrecognised(position, near, b"(a line of more than a megabyte)");
        }
    };
    match reading.line(&flexnet::parse(text)) {
        Outcome::Event(event) => batcher.event(position, &event),
        Outcome::Noise => {}
        Outcome::Unrecognised(_) => {
            let near = reading.last_line().map_or(0, |moment| moment.utc);
            batcher.unrecognised(position, near, text);
        }
    }
}

/// The file's content is not what was read before.
#[derive(Debug, thiserror::Error)]
#[error("the content was truncated or replaced")]
struct Replaced;

/// A file's content, watched for being replaced under the reader: after each read, the bytes before it are compared
/// with what was there when they were read.
struct Watched {
    content: Content,
    offset: u64,
    /// The bytes before `offset`: at least [`WINDOW`], where there are so many.
    recent: Vec<u8>,
}

impl Watched {
    /// From a position on, before which these bytes must stand.
    fn at(mut content: Content, position: u64, window: Vec<u8>) -> io::Result<Self> {
        let before = position - window.len() as u64;
        if content.skip_to(before)? < before {
            return Err(io::Error::other(Replaced));
        }
        let mut found = vec![0; window.len()];
        match content.read_exact(&mut found) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(io::Error::other(Replaced)),
            result => result?,
        }
        if found != window {
            return Err(io::Error::other(Replaced));
        }
        Ok(Self { content, offset: position, recent: window })
    }

    /// The file's size now, where its bytes are the content's.
    fn size(&self) -> u64 {
        match &self.content {
            Content::Plain(file) => file.metadata().map_or(0, |metadata| metadata.len()),
            _ => 0,
        }
    }

    /// When the file was last written.
    fn written_at(&self) -> Instant {
        match &self.content {
            Content::Plain(file) => file.metadata().map_or_else(|_| Instant::now(), |metadata| written_at(&metadata)),
            _ => Instant::now(),
        }
    }

    /// The bytes before a position that is not far behind what was read.
    fn window_before(&self, position: u64) -> Vec<u8> {
        let after = (self.offset - position) as usize;
        let end = self.recent.len().saturating_sub(after);
        self.recent[end.saturating_sub(WINDOW)..end].to_vec()
    }

    fn is_unchanged(&self) -> io::Result<bool> {
        let Content::Plain(file) = &self.content else { return Ok(true) };
        let window = &self.recent[self.recent.len().saturating_sub(WINDOW)..];
        let mut found = [0; WINDOW];
        let found = &mut found[..window.len()];
        let read = read_at(file, found, self.offset - window.len() as u64)?;
        Ok(read == window.len() && found == window)
    }
}

/// What is kept of the bytes read: a batch ends before a half-written line, which is at most this long.
const RECENT: usize = super::lines::MAX_LINE + (512 << 10);

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.content.read(buffer)?;
        if !self.is_unchanged()? {
            return Err(io::Error::other(Replaced));
        }
        self.offset += read as u64;
        if read >= WINDOW && buffer[..read].ends_with(b"\n") {
            // The usual case: nothing before these bytes will be asked for.
            self.recent.clear();
        } else if self.recent.len() > RECENT {
            self.recent.drain(..self.recent.len() - RECENT / 2);
        }
        self.recent.extend_from_slice(&buffer[..read]);
        Ok(read)
    }
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, offset)
}

/// Moves the file's own position: put back by the caller's next read being sequential is not given on Windows.
#[cfg(windows)]
fn read_at(mut file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    use std::io::{Seek, SeekFrom};
    let position = file.stream_position()?;
    let read = std::os::windows::fs::FileExt::seek_read(file, buffer, offset)?;
    file.seek(SeekFrom::Start(position))?;
    Ok(read)
}
