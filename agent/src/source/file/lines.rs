//! Splits bytes into lines, in one reused buffer.
//!
//! NULs before a line are no part of it: they are left where a log was truncated that is not written in append mode, or
//! where a machine crashed.

use std::io::{self, Read};

use memchr::memchr;

use super::chain::Chain;

/// The maximum length of a line, in bytes. The bytes of a longer line are skipped and not kept.
pub const MAX_LINE: usize = 1 << 20;

/// Bytes requested per read. Large enough that system calls do not matter, small enough to stay in the cache.
const READ_SIZE: usize = 256 << 10;

/// A line, without its line feed.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// The complete line.
    Whole(&'a [u8]),
    /// A line longer than [`MAX_LINE`].
    Overlong,
}

/// Splits the bytes of a reader into lines.
pub struct Lines<R> {
    reader: R,
    buffer: Vec<u8>,
    /// The bytes `start..end` of the buffer are not split yet.
    start: usize,
    end: usize,
    /// The position of `start` in the stream.
    position: u64,
    /// Whether the current line is too long; its bytes so far are discarded.
    overlong: bool,
    /// The NULs that were skipped.
    nuls: u64,
    /// The check values of the bytes before `start`; `None` if nobody asks for them.
    chain: Option<Chain>,
    /// The bytes of the buffer before this one are in the chain.
    chained: usize,
}

impl<R: Read> Lines<R> {
    /// Starts at the reader's current position. `position` is that position in the stream, where a line begins.
    pub fn new(reader: R, position: u64) -> Self {
        Self {
            reader,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            position,
            overlong: false,
            nuls: 0,
            chain: None,
            chained: 0,
        }
    }

    /// Starts at the reader's current position, as [`Lines::new`] does. `chain` is the chain of the bytes before it.
    pub fn checked(reader: R, position: u64, chain: Chain) -> Self {
        Self { chain: Some(chain), ..Self::new(reader, position) }
    }

    /// Returns the chain of the bytes before the next line; `None` if the lines are not checked.
    pub fn chain(&mut self) -> Option<&mut Chain> {
        self.follow_chain();
        self.chain.as_mut()
    }

    /// Adds the bytes before `start` to the chain.
    fn follow_chain(&mut self) {
        if let Some(chain) = &mut self.chain {
            chain.add(&self.buffer[self.chained..self.start]);
            self.chained = self.start;
        }
    }

    /// Returns the position of the next line, in bytes from the beginning of the stream.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Returns the number of bytes that are read but not yet returned as lines.
    pub fn unfinished(&self) -> u64 {
        (self.end - self.start) as u64
    }

    /// Returns the bytes that are read but not split yet; reads more if there are none.
    pub fn ahead(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            self.fill()?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    /// Skips bytes that [`Lines::ahead`] returned.
    pub fn pass(&mut self, bytes: usize) {
        self.start += bytes;
        self.position += bytes as u64;
    }

    /// Returns the number of NULs that were skipped.
    pub fn nuls(&self) -> u64 {
        self.nuls
    }

    /// Returns the reader.
    pub fn reader(&self) -> &R {
        &self.reader
    }

    /// Returns the next line that ends with a line feed; `None` if the reader has no more bytes. The bytes after the
    /// last line feed are kept for a later call.
    pub fn next_line(&mut self) -> io::Result<Option<Line<'_>>> {
        self.skip_nuls();
        let mut searched = self.start;
        loop {
            if let Some(length) = memchr(b'\n', &self.buffer[searched..self.end]) {
                let (from, to) = (self.start, searched + length);
                self.start = to + 1;
                self.position += (to + 1 - from) as u64;
                let overlong = std::mem::take(&mut self.overlong) || to - from > MAX_LINE;
                return Ok(Some(if overlong { Line::Overlong } else { Line::Whole(&self.buffer[from..to]) }));
            }
            searched = self.end;
            if self.end - self.start > MAX_LINE {
                self.position += (self.end - self.start) as u64;
                self.start = self.end;
                self.overlong = true;
            }
            let (before, was_empty) = (self.start, self.start == self.end);
            if self.fill()? == 0 {
                return Ok(None);
            }
            searched -= before - self.start;
            if was_empty {
                self.skip_nuls();
                searched = self.start;
            }
        }
    }

    /// Skips NULs at the beginning of a line.
    #[inline(always)]
    fn skip_nuls(&mut self) {
        if self.buffer.get(self.start) == Some(&0) && !self.overlong {
            let count = self.buffer[self.start..self.end].iter().take_while(|byte| **byte == 0).count();
            self.pass(count);
            self.nuls += count as u64;
        }
    }

    /// Returns the bytes after the last line feed as a line, for a stream that will not grow; `None` if there are none.
    pub fn last_line(&mut self) -> Option<Line<'_>> {
        if self.start == self.end && !self.overlong {
            return None;
        }
        let from = self.start;
        self.position += (self.end - from) as u64;
        self.start = self.end;
        let overlong = std::mem::take(&mut self.overlong);
        Some(if overlong { Line::Overlong } else { Line::Whole(&self.buffer[from..self.end]) })
    }

    fn fill(&mut self) -> io::Result<usize> {
        self.follow_chain();
        self.chained = 0;
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.buffer.len() < self.end + READ_SIZE {
            self.buffer.resize(self.end + READ_SIZE, 0);
        }
        loop {
            match self.reader.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => {
                    let read = result?;
                    self.end += read;
                    return Ok(read);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A reader that returns its bytes in pieces of the given sizes.
    struct Pieces {
        bytes: Vec<u8>,
        sizes: Vec<usize>,
    }

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let size = self.sizes.pop().unwrap_or(usize::MAX).min(self.bytes.len()).min(buffer.len());
            buffer[..size].copy_from_slice(&self.bytes[..size]);
            self.bytes.drain(..size);
            Ok(size)
        }
    }

    proptest! {
        #[test]
        fn lines_are_those_of_the_bytes(
            bytes in prop::collection::vec(prop::sample::select(b"ab\r\n".to_vec()), 0..200),
            sizes in prop::collection::vec(1usize..9, 0..100),
        ) {
            let mut lines = Lines::new(Pieces { bytes: bytes.clone(), sizes }, 7);
            let mut found = Vec::new();
            while let Some(line) = lines.next_line().unwrap() {
                let Line::Whole(line) = line else { panic!() };
                found.extend_from_slice(line);
                found.push(b'\n');
                prop_assert_eq!(lines.position(), 7 + found.len() as u64);
            }
            if let Some(Line::Whole(line)) = lines.last_line() { found.extend_from_slice(line); }
            prop_assert_eq!(lines.position(), 7 + bytes.len() as u64);
            prop_assert_eq!(found, bytes);
        }
    }

    #[test]
    fn nuls_before_a_line_are_no_part_of_it() {
        let text = [b"first\n".to_vec(), vec![0; 3 * MAX_LINE], b"second\n\0\0\nth\0rd\n\0".to_vec()].concat();
        let mut lines = Lines::new(text.as_slice(), 0);
        for expected in [&b"first"[..], b"second", b"", b"th\0rd"] {
            assert_eq!(lines.next_line().unwrap(), Some(Line::Whole(expected)));
        }
        assert_eq!(lines.next_line().unwrap(), None);
        assert_eq!((lines.position(), lines.nuls()), (text.len() as u64, 3 * MAX_LINE as u64 + 3));
        assert_eq!(lines.last_line(), None);
    }

    #[test]
    fn an_overlong_line_costs_no_memory_and_no_neighbour() {
        let text = [b"first\n".to_vec(), vec![b'x'; 5 * MAX_LINE], b"\nlast\n".to_vec()].concat();
        let mut lines = Lines::new(text.as_slice(), 0);
        assert_eq!(lines.next_line().unwrap(), Some(Line::Whole(b"first")));
        assert_eq!(lines.next_line().unwrap(), Some(Line::Overlong));
        assert_eq!(lines.next_line().unwrap(), Some(Line::Whole(b"last")));
        assert_eq!(lines.next_line().unwrap(), None);
        assert_eq!(lines.position(), text.len() as u64);
        assert!(lines.buffer.len() < 2 * MAX_LINE);
    }
}
