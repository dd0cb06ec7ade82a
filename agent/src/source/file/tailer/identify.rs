//! Identifies the stream of each file of a log, and which comes after which.
//!
//! A file holds a known stream if it begins as the stream does, and has its check value where the stream was read to. A
//! file that begins alike and has another content is a stream of its own.
//!
//! Files are listed in the order of their last write. Those behind the file of the log's last stream follow it, one after
//! the other: rotation deletes the oldest file first, so no file between two of them can be missing, unless their numbers
//! say so. A file that cannot be read breaks the chain. Files before the last stream's are older parts and copies; which of them comes after which is
//! not certain.

use std::io;
use std::time::Duration;

use super::LogTailer;
use crate::buffer::BufferError;
use crate::checkpoint::{CheckValue, Checkpoint, Fingerprint, another_name};
use crate::format::Format;
use crate::source::file::chain::Chain;
use crate::source::file::content::{Content, ContentError};
use crate::source::file::discover::Candidate;
use crate::source::file::head::{FileHead, read_head};
use crate::source::file::identity::Identity;
use crate::source::file::parts::Claim;
use crate::source::file::status::UnreadPart;
use crate::source::file::stream::{Resumption, StreamError};
use crate::source::file::watched::WINDOW;

/// A file whose stream is identified.
pub(super) struct Part {
    pub(super) candidate: Candidate,
    pub(super) fingerprint: Fingerprint,
    pub(super) format: Format,
    pub(super) identity: Identity,
    /// What was read of the file's stream; `None` if the stream is new.
    pub(super) known: Option<Box<Resumption>>,
    /// The stream that certainly comes before the file's stream; `None` if none does, or if the stream is known.
    pub(super) after: Option<Fingerprint>,
    /// Whether the file's stream is the last one of the log, or one that follows it.
    pub(super) is_last: bool,
}

/// The result of identifying the files of a log.
pub(super) struct Identified {
    /// The parts that may have new lines, in the order of their last write.
    pub(super) parts: Vec<Part>,
    /// The error of a file that could not be read; `None` if there is none.
    pub(super) problem: Option<StreamError>,
    /// Whether all files were identified; false if some must wait for another one, or are still being made.
    pub(super) is_complete: bool,
    /// Files that have the name of a part, and are none or cannot be read.
    pub(super) unread: Vec<UnreadPart>,
}

/// The number of a part, as its rotation counts; 0 for the file being written, `None` for a part without a number.
type Number = Option<u32>;

/// A file of the log, in the order of last writes.
enum File {
    /// It is read to its end.
    Read(Fingerprint),
    /// It may have new lines.
    Part(Box<Part>),
    /// It holds nothing to count yet.
    Unbegun,
    /// What it holds is not known.
    Unknown,
}

impl LogTailer {
    /// Identifies every file that is not known to be read to its end. A file that cannot be read does not delay the
    /// others.
    pub(super) fn identify_files(&self, found: Vec<Candidate>) -> Result<Identified, BufferError> {
        let mut files = Vec::new();
        let (mut problem, mut unread) = (None, Vec::new());
        let (mut is_complete, mut is_settled) = (true, true);
        for candidate in found {
            let number = match candidate.claim {
                Some(Claim::Number(number)) => Some(number),
                _ => candidate.is_current.then_some(0),
            };
            let read = self
                .moved_stream(&candidate)
                .map_or_else(|| self.buffer.known_file(&candidate.mark), |read| Ok(Some(read)))?;
            let file = match read {
                Some(fingerprint) => Ok(Some(File::Read(fingerprint))),
                None => self.identify(&candidate).map(|part| part.map(|part| File::Part(Box::new(part)))),
            };
            let file = match file {
                Ok(file) => file.unwrap_or(File::Unbegun),
                Err(StreamError::Buffer(error)) => return Err(error),
                Err(StreamError::Content(error @ ContentError::NotALog { .. })) if !candidate.is_current => {
                    // The file may be a compressed part.
                    unread.push(UnreadPart::new(&candidate.path, error.to_string()));
                    File::Unknown
                }
                Err(error) if !is_moved(&error) && is_being_made(&candidate) => {
                    is_settled = false;
                    File::Unknown
                }
                Err(error) if concerns_part_alone(&error, &candidate) => {
                    unread.push(UnreadPart::new(&candidate.path, error.to_string()));
                    File::Unknown
                }
                Err(error) => {
                    let is_moved = is_moved(&error);
                    problem = Some(error);
                    if is_moved {
                        // Later files must not be read before the moved one.
                        is_complete = false;
                        break;
                    }
                    File::Unknown
                }
            };
            files.push((number, file));
        }
        let mut parts = self.chain(files)?;
        if !is_settled {
            // What comes before a file that tells no date of its own will be known once the copy is made.
            parts.retain(|part| part.known.is_some() || part.identity.tells_date);
        }
        Ok(Identified { parts, problem, is_complete: is_complete && is_settled, unread })
    }

    /// Tells which parts follow the log's last stream, and each other.
    fn chain(&self, files: Vec<(Number, File)>) -> Result<Vec<Part>, BufferError> {
        let last = self.buffer.last_stream(&self.source.name)?;
        let fingerprint_of = |file: &File| match file {
            File::Read(fingerprint) => Some(*fingerprint),
            File::Part(part) => Some(part.fingerprint),
            File::Unbegun | File::Unknown => None,
        };
        let place = files.iter().rposition(|(_, file)| last.is_some() && fingerprint_of(file) == last);
        let numbers: Vec<u32> = files.iter().filter_map(|(number, _)| *number).filter(|number| *number > 0).collect();
        let is_rising = numbers.len() > 1 && numbers.is_sorted();
        let is_open = self.open.as_ref().is_some_and(|open| Some(*open.fingerprint()) == last);
        // A stream that was read to its end and whose file is gone is followed by the next new file, if that is the only
        // one.
        let is_new =
            |file: &File| matches!(file, File::Unknown) || matches!(file, File::Part(part) if part.known.is_none());
        let gone = self.before.filter(|before| {
            place.is_none() && Some(*before) == last && files.iter().filter(|(_, file)| is_new(file)).count() == 1
        });
        let (mut before, mut number_before, mut parts) = (gone, None, Vec::new());
        for (index, (number, file)) in files.into_iter().enumerate() {
            let follows = !is_open && place.is_none_or(|place| index > place);
            match file {
                _ if Some(index) == place => {
                    // A file that was open until now was seen to be followed by another one, whatever it is named now.
                    (before, number_before) = (last, number.filter(|_| self.before != last));
                    if let File::Part(mut part) = file {
                        part.is_last = true;
                        parts.push(*part);
                    }
                }
                File::Part(mut part) => {
                    if part.known.is_none() && follows && before != Some(part.fingerprint) {
                        part.after = before.filter(|_| !lacks_one_between(number_before, number, is_rising));
                        part.is_last = true;
                        (before, number_before) = (Some(part.fingerprint), number);
                    }
                    parts.push(*part);
                }
                File::Unknown if follows => before = None,
                // Daemons tell the date every six hours: what tells none and reports no use is a short time, and is not missing.
                File::Unbegun if follows && !lacks_one_between(number_before, number, is_rising) => {
                    number_before = number
                }
                File::Unknown | File::Read(_) | File::Unbegun => {}
            }
        }
        Ok(parts)
    }

    /// Identifies the stream of a file; `None` if the file holds nothing to count yet.
    pub(super) fn identify(&self, candidate: &Candidate) -> Result<Option<Part>, StreamError> {
        let FileHead { format, head, mark } = read_head(&candidate.path, self.source.format, false)?;
        if !mark.is_same_file(&candidate.mark) {
            return Err(StreamError::Replaced(candidate.path.clone()));
        }
        let (Some(identity), Some(format)) = (head.identity(), format) else { return Ok(None) };
        let known = self.streams_beginning(&identity.beginning)?;
        let values = Values::read(candidate, &known)?;
        let (fingerprint, known) = match known.iter().find(|stream| values.prove(stream)) {
            Some(stream) => (stream.fingerprint, Some(values.resumption(candidate, stream)?)),
            None => (self.new_name(candidate, &identity, &known, &values)?, None),
        };
        let candidate = candidate.clone();
        Ok(Some(Part { candidate, fingerprint, format, identity, known, after: None, is_last: false }))
    }

    /// Returns the streams with this beginning that a file of this log may hold, those that were read furthest first.
    /// Streams of other configured logs are not among them: logs beside each other can begin alike.
    fn streams_beginning(&self, head: &Fingerprint) -> Result<Vec<Checkpoint>, BufferError> {
        let mut known = self.buffer.streams_beginning(head)?;
        known.retain(|stream| !self.source.others.iter().any(|other| other.name == stream.log));
        // The sort is stable: of streams that were read as far, the newest comes first.
        known.sort_by_key(|stream| std::cmp::Reverse(stream.proof().map_or(0, |proof| proof.position)));
        Ok(known)
    }

    /// Returns a name for the stream of a file that holds no known one. Where it is an older copy of one, or another
    /// stream that begins alike, the aggregator counts once what both have in common.
    fn new_name(
        &self,
        candidate: &Candidate,
        identity: &Identity,
        known: &[Checkpoint],
        values: &Values,
    ) -> Result<Fingerprint, StreamError> {
        if known.iter().any(|stream| values.end_before(stream)) && is_being_made(candidate) {
            return Err(StreamError::Incomplete(candidate.path.clone()));
        }
        let mut fingerprint = identity.beginning;
        while self.buffer.checkpoint(&fingerprint)?.is_some() {
            fingerprint = another_name(&fingerprint, &values.last);
        }
        Ok(fingerprint)
    }
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
            .flat_map(|stream| [stream.position, stream.proof().map_or(0, |proof| proof.position)])
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
        let proof = stream.proof();
        proof.is_none_or(|proof| self.chain(proof.position).is_some_and(|chain| chain.value() == proof.check))
            && self.chain(stream.position).is_some()
    }

    /// Whether the file ends before the position to which a stream is known.
    fn end_before(&self, stream: &Checkpoint) -> bool {
        self.chain(stream.proof().map_or(stream.position, |proof| proof.position)).is_none()
    }

    /// Returns the state to resume reading a stream that the file holds.
    fn resumption(&self, candidate: &Candidate, stream: &Checkpoint) -> Result<Box<Resumption>, StreamError> {
        let window = window_before(candidate, stream.position)?;
        match (self.chain(stream.position).cloned(), window) {
            (Some(chain), Some(window)) => Ok(Box::new(Resumption { checkpoint: stream.clone(), chain, window })),
            _ => Err(StreamError::Replaced(candidate.path.clone())),
        }
    }
}

/// Whether the numbers of two parts say that one between them is missing. Most rotations give the newest part the number 1
/// and raise the others; `is_rising` is for those that count on.
fn lacks_one_between(before: Number, next: Number, is_rising: bool) -> bool {
    match (before, next) {
        (Some(_), Some(0)) if is_rising => false,
        (Some(before), Some(next)) if is_rising => next != before + 1,
        (Some(before), Some(next)) => before != next + 1,
        _ => false,
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

/// Whether an error is that of a rotated part alone, such as one that is damaged: the log itself can be read.
pub(super) fn concerns_part_alone(error: &StreamError, candidate: &Candidate) -> bool {
    let is_of_file = matches!(error, StreamError::Content(ContentError::Io { .. } | ContentError::Denied { .. }));
    is_of_file && !candidate.is_current
}

/// Whether a file was renamed, removed, or read under its name by another log, since it was identified.
pub(super) fn is_moved(error: &StreamError) -> bool {
    matches!(
        error,
        StreamError::Replaced(_) | StreamError::Overtaken(_) | StreamError::Content(ContentError::Missing(_))
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_tell_that_a_part_is_missing() {
        let lacks = |before: u32, next: u32, is_rising| lacks_one_between(Some(before), Some(next), is_rising);
        assert!(!lacks(2, 1, false) && !lacks(1, 0, false), "raised by each rotation");
        assert!(lacks(2, 0, false) && lacks(4, 2, false));
        assert!(!lacks(2, 3, true) && !lacks(3, 0, true), "counted on");
        assert!(lacks(2, 4, true));
        assert!(!lacks_one_between(None, Some(0), false), "names with dates tell nothing");
    }
}
