//! The beginning of a file: its format, and which stream it is.

use std::path::Path;

use super::content::{Content, ContentError};
use super::identity::Head;
use super::lines::{Line, Lines, MAX_LINE};
use crate::checkpoint::FileMark;
use crate::format::looks::looks_like;
use crate::format::{Format, Message, Record};

/// A file whose first lines of so many bytes hold none of a known format is no license log.
const ENOUGH: usize = 1 << 20;

/// So many bytes of a file that is no license log are looked at, to say what it is.
const SAMPLE: usize = 4096;

/// What the beginning of a file tells.
pub struct FileHead {
    /// The format; `None` where there is no line yet.
    pub format: Option<Format>,
    /// The stream.
    pub head: Head,
    /// The file, as it was when it was opened.
    pub mark: FileMark,
}

/// Reads a file until its first line is dated, or to its end. `is_final` says that the file will not grow, so that a last
/// line without a line feed is one. A file that has lines, and none of a known format, is an error.
pub fn read_head(path: &Path, format: Option<Format>, is_final: bool) -> Result<FileHead, ContentError> {
    let failed = |source| ContentError::of(path, source);
    let (content, metadata) = Content::open(path)?;
    let mark = super::discover::mark(path, &metadata).map_err(failed)?;
    let mut lines = Lines::new(content, 0);
    let mut reader = HeadReader { configured: format, format: None, head: Head::default(), passed: 0, sample: Vec::new() };
    while !reader.is_done() {
        match lines.next_line().map_err(failed)? {
            Some(Line::Whole(line)) => reader.follow(line),
            // A truncation without append leaves NULs in front of the next line.
            Some(Line::Overlong) => {
                if !lines.overlong_was_nul() {
                    reader.passed += MAX_LINE;
                }
            }
            None => {
                if let (true, Some(Line::Whole(line))) = (is_final, lines.last_line()) {
                    reader.follow(line);
                }
                break;
            }
        }
    }
    if reader.format.is_none() && reader.passed > 0 {
        return Err(ContentError::NotALog {
            path: path.to_owned(),
            what: looks_like(&reader.sample),
            remedy: "name a log that a license manager writes",
        });
    }
    Ok(FileHead { format: reader.format, head: reader.head, mark })
}

struct HeadReader {
    configured: Option<Format>,
    format: Option<Format>,
    head: Head,
    /// Bytes of lines in no known format, ahead of the first that is in one.
    passed: usize,
    sample: Vec<u8>,
}

impl HeadReader {
    fn is_done(&self) -> bool {
        self.head.is_dated() || (self.format.is_none() && self.passed > ENOUGH)
    }

    fn follow(&mut self, line: &[u8]) {
        if self.format.is_none() {
            self.format = match self.configured {
                Some(format) => Some(format).filter(|format| format.parse(line).stamp.is_some()),
                None => Format::of_line(line),
            };
        }
        match self.format {
            Some(format) => self.head.follow(line, &format.parse(line)),
            None => {
                // A blank line tells nothing: `echo > debug.log` is a common way to empty a log.
                if !line.trim_ascii().is_empty() {
                    self.passed += line.len() + 1;
                }
                if self.sample.len() < SAMPLE {
                    self.sample.extend_from_slice(&line[..line.len().min(SAMPLE)]);
                    self.sample.push(b'\n');
                }
                self.head.follow(line, &Record { stamp: None, daemon: b"", message: Message::Ignored });
            }
        }
    }
}
