//! The high-water rule: which part of a batch is new.

use seatmeter_proto::v1::Batch;

/// The position of a batch relative to the mark of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// The batch begins at the mark, or after a gap that can no longer be filled.
    New {
        /// The number of lost bytes, from the mark to the start of the batch; 0 if none are lost.
        lost: u64,
    },
    /// The whole batch is known.
    Duplicate,
    /// The part of the batch before the mark is known; the rest is new.
    Trimmed,
    /// The batch begins after the mark: something before it is missing.
    Gap,
}

/// Compares a batch with the mark of its stream.
pub fn place(mark: u64, batch: &Batch) -> Placement {
    if batch.start_position > mark {
        return if batch.lost_before { Placement::New { lost: batch.start_position - mark } } else { Placement::Gap };
    }
    if batch.end_position <= mark {
        Placement::Duplicate
    } else if batch.start_position < mark {
        Placement::Trimmed
    } else {
        Placement::New { lost: 0 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn batch(start: u64, end: u64, lost_before: bool) -> Batch {
        Batch { start_position: start, end_position: end, lost_before, ..Batch::default() }
    }

    #[test]
    fn replay_overlap_and_gap() {
        assert_eq!(place(0, &batch(0, 10, false)), Placement::New { lost: 0 });
        assert_eq!(place(10, &batch(0, 10, false)), Placement::Duplicate);
        assert_eq!(place(10, &batch(5, 10, true)), Placement::Duplicate);
        assert_eq!(place(10, &batch(5, 15, false)), Placement::Trimmed);
        assert_eq!(place(10, &batch(11, 15, false)), Placement::Gap);
        assert_eq!(place(10, &batch(11, 15, true)), Placement::New { lost: 1 });
        assert_eq!(place(10, &batch(15, 15, true)), Placement::New { lost: 5 });
    }

    proptest! {
        /// However a stream is cut into batches, and however often and in whatever order they come: each byte is taken
        /// once, in order, and none is left out.
        #[test]
        fn every_byte_is_taken_once(
            cuts in prop::collection::vec((0u64..100, 1u64..30), 1..200),
        ) {
            let mut mark = 0;
            for (start, length) in cuts {
                let batch = batch(start, start + length, false);
                let before = mark;
                match place(mark, &batch) {
                    Placement::New { lost } => {
                        prop_assert_eq!((lost, batch.start_position), (0, mark));
                        mark = batch.end_position;
                    }
                    Placement::Trimmed => {
                        prop_assert!(batch.start_position < mark);
                        mark = batch.end_position;
                    }
                    Placement::Duplicate => prop_assert!(batch.end_position <= mark),
                    Placement::Gap => prop_assert!(batch.start_position > mark),
                }
                prop_assert!(mark >= before);
            }
        }
    }
}
