//! Detects that a file is replaced while it is being read: after each read, the bytes before it are compared with the
//! bytes read earlier.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::time::Instant;

use super::content::Content;

/// The number of bytes before a position that prove that a file is still the one that was read.
pub(super) const WINDOW: usize = 256;

/// The file no longer contains the bytes that were read before.
#[derive(Debug, thiserror::Error)]
#[error("the content was truncated or replaced")]
pub(super) struct Replaced;

/// The content of a file that is being read.
pub(super) struct Watched {
    content: Content,
    offset: u64,
    /// The last [`WINDOW`] bytes before `offset`; fewer if fewer were read.
    recent: Vec<u8>,
}

impl Watched {
    /// Starts reading at a position. Fails with [`Replaced`] if the bytes before the position differ from `window`.
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

    /// Whether the file is not compressed. Only such a file can grow.
    pub(super) fn is_plain(&self) -> bool {
        self.content.is_plain()
    }

    /// Returns the size of the file, in bytes, at a moment when it was still the one that was read; `None` if it is another
    /// one meanwhile, or cannot be read. Of a compressed file, it is what was read: it does not grow.
    pub(super) fn size(&self) -> Option<u64> {
        let Content::Plain(file) = &self.content else { return Some(self.offset) };
        let size = file.metadata().ok()?.len();
        // Looked at after the size: it may be that of what was written over the content in between.
        self.is_unchanged().ok()?.then_some(size)
    }

    /// Returns when the file was last written; the current time if the file is compressed.
    pub(super) fn written_at(&self) -> Instant {
        match &self.content {
            Content::Plain(file) => file.metadata().map_or_else(|_| Instant::now(), |metadata| written_at(&metadata)),
            _ => Instant::now(),
        }
    }

    /// Whether the file still contains the last bytes that were read.
    pub(super) fn is_unchanged(&self) -> io::Result<bool> {
        let Content::Plain(file) = &self.content else { return Ok(true) };
        let window = &self.recent[..];
        let mut found = [0; WINDOW];
        let found = &mut found[..window.len()];
        let read = read_at(file, found, self.offset - window.len() as u64)?;
        Ok(read == window.len() && found == window)
    }
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.content.read(buffer)?;
        if !self.is_unchanged()? {
            return Err(io::Error::other(Replaced));
        }
        self.offset += read as u64;
        let new = &buffer[..read][read.saturating_sub(WINDOW)..];
        let kept = self.recent.len().min(WINDOW - new.len());
        self.recent.drain(..self.recent.len() - kept);
        self.recent.extend_from_slice(new);
        Ok(read)
    }
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, offset)
}

/// Reads at an offset, then restores the file's position, which `seek_read` moves on Windows.
#[cfg(windows)]
fn read_at(mut file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    use std::io::{Seek, SeekFrom};
    let position = file.stream_position()?;
    let read = std::os::windows::fs::FileExt::seek_read(file, buffer, offset)?;
    file.seek(SeekFrom::Start(position))?;
    Ok(read)
}

/// Converts a file's modification time to the monotonic clock; the current time if it is unknown or in the future.
pub(super) fn written_at(metadata: &Metadata) -> Instant {
    let age = metadata.modified().ok().and_then(|modified| modified.elapsed().ok()).unwrap_or_default();
    Instant::now().checked_sub(age).unwrap_or_else(Instant::now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_written_over_tells_no_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("debug.log");
        std::fs::write(&path, b"one line\n").unwrap();
        let mut watched = Watched::at(Content::open(&path).unwrap().0, 0, Vec::new()).unwrap();
        watched.read_exact(&mut [0; 9]).unwrap();
        std::fs::write(&path, b"one line\nand another\n").unwrap();
        assert_eq!(watched.size(), Some(21), "it has grown");
        std::fs::write(&path, b"another one that is longer than before\n").unwrap();
        assert_eq!(watched.size(), None, "the size is that of another content");
    }
}
