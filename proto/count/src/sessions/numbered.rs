//! The open sessions that a license manager numbers.

use std::collections::BTreeSet;
use std::num::NonZero;

use hashbrown::HashMap;

use super::Held;
use crate::event::{ClientId, FeatureId, SessionKey};

/// The most sessions that share the seats of one. It bounds the work at that one's end.
const MOST_SHARING: usize = 1000;

/// An open session with a number.
#[derive(Clone, Debug)]
pub(super) struct NumberedSession {
    pub(super) feature: FeatureId,
    pub(super) client: ClientId,
    /// Its own number, and that of the session that holds the seats which it shares: its own where it holds them itself.
    pub(super) key: SessionKey,
    /// Its seats are 0 while another session holds those that it shares.
    pub(super) held: Held,
    /// The number of the last answer that has stated it, or in which it began.
    pub(super) stated_by: u32,
}

impl NumberedSession {
    /// Whether its seats count as in use, while this answer is not at its end: it has stated the session.
    pub(super) fn counts(&self, answer: Option<u32>) -> bool {
        answer.is_none_or(|answer| self.stated_by == answer)
    }
}

/// The open sessions of each daemon, by their numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbered {
    open: HashMap<(u32, NonZero<u32>), NumberedSession>,
    /// By the number of a session that holds seats, those that share them.
    sharing: HashMap<(u32, NonZero<u32>), BTreeSet<NonZero<u32>>>,
}

impl Numbered {
    pub(super) fn get_mut(&mut self, daemon: u32, own: NonZero<u32>) -> Option<&mut NumberedSession> {
        self.open.get_mut(&(daemon, own))
    }

    /// Returns the daemons and the numbers of the sessions that an answer has not stated.
    pub(super) fn not_stated_by(&self, answer: u32) -> Vec<(u32, NonZero<u32>)> {
        let mut found: Vec<_> =
            self.open.iter().filter(|(_, session)| session.stated_by != answer).map(|(number, _)| *number).collect();
        found.sort_unstable();
        found
    }

    /// Returns the number of the session that holds the seats which a new session shares; `None` if it holds its own. A
    /// license manager names any session that shares the seats.
    pub(super) fn holder(&self, daemon: u32, key: SessionKey) -> Option<NonZero<u32>> {
        let named = self.open.get(&(daemon, key.shared)).filter(|_| key.shared != key.own)?;
        let holder = named.key.shared;
        let is_full = self.sharing.get(&(daemon, holder)).is_some_and(|sharing| sharing.len() >= MOST_SHARING);
        (!is_full).then_some(holder)
    }

    /// Adds a session whose number no open one has.
    pub(super) fn insert(&mut self, daemon: u32, session: NumberedSession) {
        let SessionKey { own, shared } = session.key;
        if shared != own {
            self.sharing.entry((daemon, shared)).or_default().insert(own);
        }
        self.open.insert((daemon, own), session);
    }

    /// Removes a session. If others share its seats, the one with the lowest number takes them over, and is returned too.
    pub(super) fn remove(
        &mut self,
        daemon: u32,
        number: NonZero<u32>,
    ) -> Option<(NumberedSession, Option<&mut NumberedSession>)> {
        let session = self.open.remove(&(daemon, number))?;
        let holder = session.key.shared;
        if holder != number {
            if let Some(sharing) = self.sharing.get_mut(&(daemon, holder)) {
                sharing.remove(&number);
                if sharing.is_empty() {
                    self.sharing.remove(&(daemon, holder));
                }
            }
            return Some((session, None));
        }
        let mut sharing = self.sharing.remove(&(daemon, number)).unwrap_or_default();
        let Some(heir) = sharing.pop_first() else { return Some((session, None)) };
        for own in sharing.iter().chain([&heir]) {
            if let Some(other) = self.open.get_mut(&(daemon, *own)) {
                other.key.shared = heir;
            }
        }
        if !sharing.is_empty() {
            self.sharing.insert((daemon, heir), sharing);
        }
        let heir = self.open.get_mut(&(daemon, heir));
        Some((session, heir))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &NumberedSession> {
        self.open.values()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut NumberedSession> {
        self.open.values_mut()
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Removes the sessions of some daemons, and returns them. Sessions of one daemon alone share seats.
    pub(super) fn extract(&mut self, ends: impl Fn(FeatureId) -> bool) -> Vec<NumberedSession> {
        let removed: Vec<_> = self.open.extract_if(|_, session| ends(session.feature)).collect();
        for ((daemon, number), _) in &removed {
            self.sharing.remove(&(*daemon, *number));
        }
        removed.into_iter().map(|(_, session)| session).collect()
    }
}
