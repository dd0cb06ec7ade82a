//! Reads the beginning of a file: its format, and the stream it belongs to.

use std::path::Path;

use super::content::{Content, ContentError};
use super::identity::Head;
use super::lines::{Line, Lines, MAX_LINE};
use crate::checkpoint::FileMark;
use crate::format::looks::looks_like;
use crate::format::{Format, Message, Record};

/// Bytes of lines to search for a line in a known format before a file is rejected.
const ENOUGH: usize = 1 << 20;

/// Bytes of a rejected file to examine, so that the error can say what the file is.
const SAMPLE: usize = 4096;

/// The format and the stream found at the beginning of a file.
pub struct FileHead {
    /// The format; `None` if the file has no line yet.
    pub format: Option<Format>,
    /// The beginning of the stream, which identifies it.
    pub head: Head,
    /// The file's identity, size and modification time when it was opened.
    pub mark: FileMark,
}

/// Reads a file until its beginning is complete, or to its end. `is_final` says that the file will not grow, so that a
/// last line without a line feed counts as a line. Returns an error if the file has lines, but none in a known format.
pub fn read_head(path: &Path, format: Option<Format>, is_final: bool) -> Result<FileHead, ContentError> {
    let failed = |source| ContentError::of(path, source);
    let (content, metadata) = Content::open(path)?;
    let mark = super::discover::mark(path, &metadata).map_err(failed)?;
    let mut lines = Lines::new(content, 0);
    let mut reader = HeadReader::new(format);
    while !reader.is_done() {
        match lines.next_line().map_err(failed)? {
            Some(line) => reader.line(&line),
            None => {
                if let (true, Some(line)) = (is_final, lines.last_line()) {
                    reader.line(&line);
                }
                break;
            }
        }
    }
    if reader.format.is_none() && reader.is_another {
        return Err(ContentError::NotALog {
            path: path.to_owned(),
            what: "a log of another format than the configured one",
            remedy: "correct `format`, or leave it out",
        });
    }
    if reader.format.is_none() && reader.passed > 0 {
        return Err(ContentError::NotALog {
            path: path.to_owned(),
            what: looks_like(&reader.sample),
            remedy: "name a log that a license manager writes; `seatmeter-agent try-source FILE` shows what other files tell",
        });
    }
    Ok(FileHead { format: reader.format, head: reader.head, mark })
}

/// Reads the beginning of a file, line by line.
pub(super) struct HeadReader {
    configured: Option<Format>,
    format: Option<Format>,
    /// Whether it has a line of a format.
    is_another: bool,
    head: Head,
    /// Bytes of the lines before the first one in a known format.
    passed: usize,
    sample: Vec<u8>,
}

impl HeadReader {
    /// Creates a reader of a file that has this format; `None` means that the content determines it.
    pub(super) fn new(configured: Option<Format>) -> Self {
        Self { configured, format: None, is_another: false, head: Head::default(), passed: 0, sample: Vec::new() }
    }

    fn is_done(&self) -> bool {
        self.head.is_complete() || (self.format.is_none() && self.passed > ENOUGH)
    }

    /// Takes the next line. Once the beginning is complete, further lines make no difference.
    pub(super) fn line(&mut self, line: &Line<'_>) {
        match line {
            _ if self.is_done() => {}
            Line::Whole(line) => self.follow(line),
            Line::Overlong => self.passed += MAX_LINE,
        }
    }

    /// Returns the beginning, so far.
    pub(super) fn head(&self) -> &Head {
        &self.head
    }

    fn follow(&mut self, line: &[u8]) {
        if self.format.is_none() {
            let found = Format::of_line(line);
            self.format = found.filter(|found| self.configured.is_none_or(|configured| configured == *found));
            self.is_another |= found.is_some();
        }
        match self.format {
            Some(format) => format.each_record(line, |_, text, record| self.head.follow(text, record)),
            None => {
                // A blank line does not count against the file: `echo > debug.log` is a common way to empty a log.
                if !line.trim_ascii().is_empty() {
                    self.passed += line.len() + 1;
                }
                if self.sample.len() < SAMPLE {
                    self.sample.extend_from_slice(&line[..line.len().min(SAMPLE)]);
                    self.sample.push(b'\n');
                }
                self.head.follow(line, &Record { stamp: None, daemon: b"", message: Message::Ignored, rest: b"" });
            }
        }
    }
}
