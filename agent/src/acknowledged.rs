//! What an aggregator can lack: how far each stream was acknowledged, beside the marks of an aggregator whose database is another one
//! than before.

use std::cmp::Ordering;

use crate::buffer::{Buffer, BufferError};
use crate::capture::Capture;
use crate::checkpoint::{CheckValue, Checkpoint, Fingerprint};

/// Returns the streams of the configured logs, as far as they were acknowledged.
pub fn acknowledged(buffer: &Buffer, capture: &Capture) -> Result<Vec<Acknowledged>, BufferError> {
    let waiting = buffer.waiting_from()?;
    let streams = buffer.streams()?.into_iter();
    let streams = streams.filter(|stream| capture.logs.iter().any(|log| log.name == stream.log));
    Ok(streams.map(|stream| Acknowledged::of(&stream, waiting.get(&stream.fingerprint).copied())).collect())
}

/// A stream, as far as it was acknowledged.
pub struct Acknowledged {
    /// The stream.
    pub fingerprint: Fingerprint,
    /// The position through which it was.
    through: u64,
    /// The check value of that position, if it is known.
    check: Option<CheckValue>,
    /// Whether more waits for delivery, which proves by itself what goes before it.
    has_more: bool,
    /// Whether other content can have the same name. Each run of a poller has a name of its own.
    can_have_twins: bool,
}

impl Acknowledged {
    /// Returns how far a stream was acknowledged whose batches wait from a position on, if any do.
    pub fn of(stream: &Checkpoint, waiting_from: Option<u64>) -> Self {
        let through = waiting_from.unwrap_or(stream.position);
        Self {
            fingerprint: stream.fingerprint,
            through,
            check: stream.proof().filter(|proof| proof.position == through).map(|proof| proof.check),
            has_more: waiting_from.is_some(),
            can_have_twins: stream.file().is_some(),
        }
    }

    /// Returns from where on an aggregator lacks the stream whose mark of this name is there, with this check value; `None` if it
    /// has all of it. Where it can have other content, all is sent again: that shows it, and gets another name.
    pub fn lacks_from(&self, mark: u64, check: &[u8]) -> Option<u64> {
        let is_proven = self.has_more || !self.can_have_twins;
        match (mark.cmp(&self.through), self.check) {
            (Ordering::Less, _) => Some(mark),
            (_, _) if is_proven => None,
            (Ordering::Equal, Some(own)) => (!check.is_empty() && own != check).then_some(0),
            (Ordering::Equal, None) => None,
            // Another agent has sent more under this name, of this content or another one.
            (Ordering::Greater, _) => Some(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_alone_is_no_proof() {
        let (own, other) = ([1; 32], [2; 32]);
        let sent = |has_more, can_have_twins| Acknowledged {
            fingerprint: [0; 32],
            through: 10,
            check: Some(own),
            has_more,
            can_have_twins,
        };
        for (mark, check, expected) in [
            (9, &other[..], Some(9)),
            (10, &own[..], None),
            (10, &[], None),
            (10, &other[..], Some(0)),
            (11, &other[..], Some(0)),
        ] {
            assert_eq!(sent(false, true).lacks_from(mark, check), expected, "{mark}");
            let expected = (mark < 10).then_some(mark);
            assert_eq!(sent(true, true).lacks_from(mark, check), expected, "{mark}, and more");
            assert_eq!(sent(false, false).lacks_from(mark, check), expected, "{mark}, of a poller");
        }
    }
}
