//! The check values of a stream: for each position, a hash of all bytes before it.
//!
//! The hash is BLAKE3, chained over blocks, as the contract describes it (`Batch.start_check`). Any reader can compute
//! the value of any position, and two readers that cut a stream differently still share the values of the blocks' ends.

use std::io::{self, Read};

use blake3::Hasher;
use seatmeter_proto::batch::CHECK_BLOCK;

use crate::checkpoint::CheckValue;

/// Computes the check values of a stream, from its beginning.
#[derive(Clone)]
pub struct Chain {
    /// Has hashed the bytes of the current block so far.
    block: Hasher,
    /// The number of bytes of the current block so far, less than a block.
    filled: usize,
    /// The value of the current block's start.
    start: CheckValue,
    /// The first four bytes of the value of each block's end since the last call of [`Chain::take_blocks`].
    blocks: Vec<u32>,
}

impl Default for Chain {
    fn default() -> Self {
        let start = CheckValue::default();
        Self { block: Hasher::new_keyed(&start), filled: 0, start, blocks: Vec::new() }
    }
}

impl Chain {
    /// Reads a stream up to a position. Returns the chain there; `None` if the stream ends before.
    pub fn through(mut stream: impl Read, position: u64) -> io::Result<Option<Self>> {
        let mut chain = Self::default();
        let read = chain.read(&mut stream, position)?;
        Ok((read == position).then_some(chain))
    }

    /// Reads the next bytes of a stream, at most `length`. Returns their number, which is smaller if the stream ends.
    /// The values of the blocks' ends in it are not kept.
    pub fn read(&mut self, stream: &mut impl Read, length: u64) -> io::Result<u64> {
        let mut left = length;
        let mut buffer = vec![0; left.clamp(1, 256 << 10) as usize];
        while left > 0 {
            let wanted = left.min(buffer.len() as u64) as usize;
            match stream.read(&mut buffer[..wanted]) {
                Ok(0) => break,
                Ok(read) => {
                    self.add(&buffer[..read]);
                    self.blocks.clear();
                    left -= read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(length - left)
    }

    /// Adds the next bytes of the stream.
    pub fn add(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(CHECK_BLOCK - self.filled));
            self.block.update(now);
            self.filled += now.len();
            if self.filled == CHECK_BLOCK {
                self.start = self.block.finalize().into();
                let [a, b, c, d, ..] = self.start;
                self.blocks.push(u32::from_le_bytes([a, b, c, d]));
                (self.block, self.filled) = (Hasher::new_keyed(&self.start), 0);
            }
            bytes = later;
        }
    }

    /// Returns the check value of the position reached.
    pub fn value(&self) -> CheckValue {
        if self.filled == 0 { self.start } else { self.block.finalize().into() }
    }

    /// Returns the first four bytes of the value of each block's end that was passed since the last call.
    pub fn take_blocks(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.blocks)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(bytes: &[u8]) -> CheckValue {
        Chain::through(bytes, bytes.len() as u64).unwrap().unwrap().value()
    }

    #[test]
    fn the_value_is_that_of_the_contract() {
        let bytes: Vec<u8> = (0..2 * CHECK_BLOCK + 5).map(|index| (index % 251) as u8).collect();
        let first = blake3::keyed_hash(&[0; 32], &bytes[..CHECK_BLOCK]);
        let second = blake3::keyed_hash(first.as_bytes(), &bytes[CHECK_BLOCK..2 * CHECK_BLOCK]);
        let third = blake3::keyed_hash(second.as_bytes(), &bytes[2 * CHECK_BLOCK..]);
        assert_eq!(value(&[]), [0; 32]);
        assert_eq!(value(&bytes[..CHECK_BLOCK]), *first.as_bytes());
        assert_eq!(value(&bytes), *third.as_bytes());
        assert!(Chain::through(&bytes[..7], 8).unwrap().is_none(), "the stream ends before");
    }

    proptest! {
        /// However a stream comes in pieces, the values are the same; and one other byte changes them.
        #[test]
        fn pieces_make_no_difference(sizes in prop::collection::vec(1usize..40_000, 1..8), other in any::<prop::sample::Index>()) {
            let length = sizes.iter().sum();
            let bytes: Vec<u8> = (0..length).map(|index| (index * 7 % 256) as u8).collect();
            let (mut chain, mut from) = (Chain::default(), 0);
            for size in sizes {
                chain.add(&bytes[from..from + size]);
                from += size;
            }
            prop_assert_eq!(chain.value(), value(&bytes));
            prop_assert_eq!(chain.take_blocks().len(), length / CHECK_BLOCK);
            let mut changed = bytes.clone();
            changed[other.index(length)] ^= 1;
            prop_assert_ne!(value(&changed), value(&bytes));
        }
    }
}
