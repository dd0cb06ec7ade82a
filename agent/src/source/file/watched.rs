//! A file's content, watched for being replaced under the reader: after each read, the bytes before it are compared with
//! what was there when they were read.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::time::Instant;

use super::content::Content;

/// So many bytes before a position prove that a file is still the one that was read.
const WINDOW: usize = 256;

/// The file's content is not what was read before.
#[derive(Debug, thiserror::Error)]
#[error("the content was truncated or replaced")]
pub(super) struct Replaced;

/// The content of a file that is being read.
pub(super) struct Watched {
    content: Content,
    offset: u64,
    /// The bytes before `offset`: at least [`WINDOW`], where there are so many.
    recent: Vec<u8>,
}

impl Watched {
    /// From a position on, before which these bytes must stand.
    pub(super) fn at(mut content: Content, position: u64, window: Vec<u8>) -> io::Result<Self> {
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

    /// Whether the file's bytes are the content's: then it can grow.
    pub(super) fn is_plain(&self) -> bool {
        self.content.is_plain()
    }

    /// The file's size now, where its bytes are the content's.
    pub(super) fn size(&self) -> u64 {
        match &self.content {
            Content::Plain(file) => file.metadata().map_or(0, |metadata| metadata.len()),
            _ => 0,
        }
    }

    /// When the file was last written.
    pub(super) fn written_at(&self) -> Instant {
        match &self.content {
            Content::Plain(file) => file.metadata().map_or_else(|_| Instant::now(), |metadata| written_at(&metadata)),
            _ => Instant::now(),
        }
    }

    /// The bytes before a position that is not far behind what was read.
    pub(super) fn window_before(&self, position: u64) -> Vec<u8> {
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

/// When a file was last written: a moment on the monotonic clock, as far as the system's clock tells.
pub(super) fn written_at(metadata: &Metadata) -> Instant {
    let age = metadata.modified().ok().and_then(|modified| modified.elapsed().ok()).unwrap_or_default();
    Instant::now().checked_sub(age).unwrap_or_else(Instant::now)
}
