//! The open sessions that a license manager numbers.

use std::num::NonZero;

use hashbrown::HashMap;

use super::Held;
use crate::event::{ClientId, FeatureId, SessionKey};

/// An open session with a number.
#[derive(Clone, Debug)]
pub(super) struct NumberedSession {
    pub(super) feature: FeatureId,
    pub(super) client: ClientId,
    pub(super) key: SessionKey,
    /// Its seats are 0 while another session holds those that it shares.
    pub(super) held: Held,
}

/// The open sessions of each daemon, by their numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbered {
    open: HashMap<(u32, NonZero<u32>), NumberedSession>,
    /// The numbers of the sessions that share a seat, by the number of the first of them.
    groups: HashMap<(u32, NonZero<u32>), Vec<NonZero<u32>>>,
}

impl Numbered {
    pub(super) fn get(&self, daemon: u32, own: NonZero<u32>) -> Option<&NumberedSession> {
        self.open.get(&(daemon, own))
    }

    /// Adds a session whose number no open one has.
    pub(super) fn insert(&mut self, (daemon, key): (u32, SessionKey), session: NumberedSession) {
        self.groups.entry((daemon, key.shared)).or_default().push(key.own);
        self.open.insert((daemon, key.own), session);
    }

    pub(super) fn remove(&mut self, daemon: u32, own: NonZero<u32>) -> Option<NumberedSession> {
        let session = self.open.remove(&(daemon, own))?;
        self.leave_group(daemon, session.key);
        Some(session)
    }

    fn leave_group(&mut self, daemon: u32, key: SessionKey) {
        let group = (daemon, key.shared);
        if let Some(members) = self.groups.get_mut(&group) {
            members.retain(|member| *member != key.own);
            if members.is_empty() {
                self.groups.remove(&group);
            }
        }
    }

    /// Whether an open session shares this seat.
    pub(super) fn has_group(&self, daemon: u32, shared: NonZero<u32>) -> bool {
        self.groups.contains_key(&(daemon, shared))
    }

    /// Returns the session with the lowest number of those that share a seat; `None` if there is none.
    pub(super) fn first_of_group(&mut self, daemon: u32, shared: NonZero<u32>) -> Option<&mut NumberedSession> {
        let first = self.groups.get(&(daemon, shared))?.iter().min()?;
        self.open.get_mut(&(daemon, *first))
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

    /// Removes the sessions of some features, and returns them.
    pub(super) fn extract(&mut self, ends: impl Fn(FeatureId) -> bool) -> Vec<NumberedSession> {
        let removed: Vec<_> = self.open.extract_if(|_, session| ends(session.feature)).collect();
        for ((daemon, _), session) in &removed {
            self.leave_group(*daemon, session.key);
        }
        removed.into_iter().map(|(_, session)| session).collect()
    }
}
