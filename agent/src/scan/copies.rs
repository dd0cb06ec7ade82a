//! Finds files that are copies of others, or begin as they do: their lines would count twice.

use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use memchr::memrchr;

use crate::source::file::content::{Content, ContentError};

/// Two files that begin alike.
pub struct Alike {
    /// The file that has no line of its own, or the later one of two that differ.
    pub path: PathBuf,
    /// The other file.
    pub other: PathBuf,
    /// The byte from which the two differ, counted from 0; `None` if `path` is a copy of `other` or of its beginning.
    pub differ_at: Option<u64>,
    /// Where the first line begins in which the two differ, in bytes.
    pub(super) same_lines: u64,
    /// Whether the lines that both have count once: a date stands in them.
    pub count_once: bool,
}

/// Compares two files. If one is a copy of the other, or of its beginning, it is `path` in the result.
pub(super) fn compare(first: &Path, second: &Path, tells_date: bool) -> Result<Alike, ContentError> {
    let (mut one, mut two) = (Reader::open(first)?, Reader::open(second)?);
    let (mut position, mut same_lines) = (0, 0);
    let alike = |path: &Path, other: &Path, differ_at, same_lines| Alike {
        path: path.into(),
        other: other.into(),
        differ_at,
        same_lines,
        count_once: tells_date || differ_at.is_none(),
    };
    loop {
        let (a, b) = (one.fill()?, two.fill()?);
        let common = a.len().min(b.len());
        let different = a[..common].iter().zip(&b[..common]).position(|(a, b)| a != b);
        if let Some(last) = memrchr(b'\n', &a[..different.unwrap_or(common)]) {
            same_lines = position + last as u64 + 1;
        }
        if let Some(different) = different {
            return Ok(alike(second, first, Some(position + different as u64), same_lines));
        }
        if common == 0 {
            // The longer one is kept; of two that are the same, the first one.
            let (copy, other) = if b.is_empty() { (second, first) } else { (first, second) };
            return Ok(alike(copy, other, None, same_lines));
        }
        one.consume(common);
        two.consume(common);
        position += common as u64;
    }
}

struct Reader<'a> {
    path: &'a Path,
    content: BufReader<Content>,
}

impl<'a> Reader<'a> {
    fn open(path: &'a Path) -> Result<Self, ContentError> {
        let (content, _) = Content::open(path)?;
        Ok(Self { path, content: BufReader::with_capacity(1 << 16, content) })
    }

    /// Returns the next bytes; none at the end of the file.
    fn fill(&mut self) -> Result<&[u8], ContentError> {
        io::BufRead::fill_buf(&mut self.content).map_err(|source| ContentError::of(self.path, source))
    }

    fn consume(&mut self, bytes: usize) {
        io::BufRead::consume(&mut self.content, bytes);
    }
}
