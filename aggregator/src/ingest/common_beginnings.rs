//! Streams that begin alike: two license managers that started in the same second, a snapshot that was restored, a copy.
//!
//! How much of their beginning two of them have in common is found out here; what follows from it is not.

use hashbrown::HashMap;

use super::content::{Archived, Common, compare};
use crate::store::StoreError;
use crate::store::engine::Connection;
use crate::store::streams::{self, CommonBeginning, Stream};

/// The streams that begin alike, and what they have in common.
#[derive(Default)]
pub(super) struct CommonBeginnings {
    /// The streams that have another name than their beginning gives, by license server and beginning.
    variants: HashMap<(i64, Vec<u8>), Vec<Vec<u8>>>,
    /// What a stream has in common with one before it, by the ids of both.
    known: HashMap<(i64, i64), Common>,
}

impl CommonBeginnings {
    pub(super) fn load(connection: &mut dyn Connection) -> Result<Self, StoreError> {
        let found = streams::common_beginnings(connection)?.into_iter();
        let known = found.map(|CommonBeginning { stream_id, other_id, through, parted }| {
            ((stream_id, other_id), Common { through, parted })
        });
        Ok(Self { variants: HashMap::new(), known: known.collect() })
    }

    /// Adds a stream.
    pub(super) fn add(&mut self, stream: &Stream) {
        if stream.is_variant() {
            let variants = self.variants.entry((stream.server_id, stream.beginning.clone())).or_default();
            if !variants.contains(&stream.fingerprint) {
                variants.push(stream.fingerprint.clone());
            }
        }
    }

    /// Returns the names of the other streams that begin as a stream does.
    pub(super) fn others(&self, stream: &Stream) -> Vec<Vec<u8>> {
        let Some(variants) = self.variants.get(&(stream.server_id, stream.beginning.clone())) else {
            return Vec::new();
        };
        let names = std::iter::once(&stream.beginning).chain(variants);
        names.filter(|name| **name != stream.fingerprint).cloned().collect()
    }

    /// Returns what a stream has in common with one before it.
    pub(super) fn of(&self, stream: &Stream, before: &Stream) -> Common {
        self.known.get(&(stream.id, before.id)).copied().unwrap_or_default()
    }

    /// Compares what came of a stream, or of one before it, since both were last compared.
    pub(super) fn compare(
        &mut self,
        connection: &mut dyn Connection,
        stream: &Stream,
        before: &Stream,
    ) -> Result<(), StoreError> {
        let known = self.of(stream, before);
        let to = stream.mark.min(before.mark);
        if known.parted || to <= known.through {
            return Ok(());
        }
        let ours = Archived::read(connection, stream.id, known.through, to)?;
        let theirs = Archived::read(connection, before.id, known.through, to)?;
        // What the one before has lost cannot count in it. After a gap, both count for themselves.
        let whole = to.min(theirs.whole_through(known.through));
        let mut common = compare(&ours.pieces(), &theirs.pieces(), known.through, whole);
        common.parted |= whole < to;
        self.known.insert((stream.id, before.id), common);
        let Common { through, parted } = common;
        let saved = CommonBeginning { stream_id: stream.id, other_id: before.id, through, parted };
        streams::save_common_beginning(connection, &saved)
    }

    /// Forgets what a stream has in common with others, because a part of it is replaced.
    pub(super) fn forget(&mut self, connection: &mut dyn Connection, stream: &Stream) -> Result<(), StoreError> {
        let before = self.known.len();
        self.known.retain(|(id, other), _| *id != stream.id && *other != stream.id);
        match self.known.len() == before {
            true => Ok(()),
            false => streams::forget_common_beginnings(connection, stream.id),
        }
    }
}
