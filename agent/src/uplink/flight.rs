//! Tracks the batches that are in flight to the aggregator.

use std::collections::VecDeque;

use seatmeter_proto::v1::Batch;

/// A batch to be sent, or a part of a batch that was split.
pub(super) struct Part {
    pub(super) batch: Batch,
    /// Whether this is the last part of its batch: the whole batch is durable once this part is.
    pub(super) is_last: bool,
}

/// A part that was sent and that the aggregator has not answered yet.
pub(super) struct Sent {
    pub(super) sequence: u64,
    pub(super) is_last: bool,
    pub(super) fingerprint: Vec<u8>,
    bytes: usize,
}

/// Parts to be sent, and parts sent, in the order of the buffer.
#[derive(Default)]
pub(super) struct Flight {
    pub(super) next: VecDeque<Part>,
    sent: VecDeque<Sent>,
    /// The sequence number of the last batch taken from the buffer; 0 before the first.
    pub(super) last_sequence: u64,
}

impl Flight {
    /// Returns the number of parts sent and not answered.
    pub(super) fn len(&self) -> usize {
        self.sent.len()
    }

    /// Whether no part waits for an answer.
    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// Returns the number of bytes sent and not answered.
    pub(super) fn bytes(&self) -> usize {
        self.sent.iter().map(|sent| sent.bytes).sum()
    }

    /// Records that a part is sent.
    pub(super) fn note(&mut self, part: &Part) {
        let fingerprint = part.batch.stream.as_ref().map(|stream| stream.fingerprint.clone()).unwrap_or_default();
        let (sequence, bytes) = (part.batch.sequence, part.batch.columns.len());
        self.sent.push_back(Sent { sequence, is_last: part.is_last, fingerprint, bytes });
    }

    /// Removes and returns the first part sent of a batch; `None` if there is none. Answers to the parts of a batch
    /// arrive in order.
    pub(super) fn take(&mut self, sequence: u64) -> Option<Sent> {
        let index = self.sent.iter().position(|sent| sent.sequence == sequence)?;
        self.sent.remove(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_done_when_its_last_part_is_answered() {
        let part = |sequence, is_last| Part { batch: Batch { sequence, ..Batch::default() }, is_last };
        let mut flight = Flight::default();
        for part in [part(1, false), part(1, true), part(2, true)] {
            flight.note(&part);
        }
        assert!(!flight.take(1).unwrap().is_last);
        assert!(flight.take(2).unwrap().is_last);
        assert!(flight.take(1).unwrap().is_last);
        assert!(flight.take(1).is_none() && flight.is_empty());
    }
}
