//! What a whole answer of a license manager does to the sessions that answers before it have stated.

use std::collections::BTreeMap;
use std::num::NonZero;

use super::{Ending, Sessions, UsageSink};
use crate::event::FeatureId;

impl Sessions {
    /// Begins an answer: all numbered sessions are in doubt, and hold no seats that count, until it states them again. The answer before
    /// it still stated them, at the moment `through`.
    pub(super) fn doubt_all(&mut self, through: i64, sink: &mut impl UsageSink) {
        let answer = self.is_answering.then_some(self.answers);
        let mut doubted = BTreeMap::<FeatureId, i64>::new();
        for session in self.numbered.iter().filter(|session| session.counts(answer)) {
            *doubted.entry(session.feature).or_default() += i64::from(session.held.seats);
        }
        for (feature, seats) in doubted {
            self.change_in_use(feature, through, -seats, sink);
        }
        // What it does not state again has another answer's number.
        (self.answers, self.is_answering) = (self.answers.wrapping_add(1), true);
    }

    /// States a session again that began at a moment, or before it.
    pub(super) fn state_again(&mut self, (daemon, own): (u32, NonZero<u32>), at: i64, sink: &mut impl UsageSink) {
        let answer = self.is_answering.then_some(self.answers);
        let Some(known) = self.numbered.get_mut(daemon, own) else { return };
        let (did_count, feature, seats) = (known.counts(answer), known.feature, known.held.seats);
        known.stated_by = self.answers;
        if !did_count {
            let at = self.not_before.unwrap_or(at);
            self.change_in_use(feature, at, seats.into(), sink);
        }
    }

    /// Ends the sessions that an answer has not stated at the moment `through`.
    pub(super) fn end_doubtful(&mut self, through: i64, sink: &mut impl UsageSink) {
        for (daemon, own) in self.numbered.not_stated_by(self.answers) {
            let from = self.numbered.get_mut(daemon, own).map_or(through, |session| session.held.from);
            self.finish((daemon, own), through.max(from), Ending::Implicit, sink);
        }
    }
}
