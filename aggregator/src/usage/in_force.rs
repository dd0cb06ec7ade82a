//! The rules that are in force in a month, applied to what the facts hold: SKUs of features, people of identities, who is free.
//!
//! What rules say of a million identities is worked out once, and kept for the next question with the same rules.

use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use hashbrown::HashMap;
use roaring::RoaringBitmap;

use super::Skus;
use crate::rules::attributes::{Attributes, Place};
use crate::rules::month_rules::MonthRules;
use crate::rules::people::People;
use crate::store::StoreError;
use crate::store::engine::Connection;
use crate::store::facts_schema;
use crate::store::names::{self, Feature, Name, NameKind};
use crate::store::received::LicenseServer;

/// For how many different rules what they say of all identities is kept.
const KEPT: usize = 6;

/// What rules say of identities, which are only added.
pub(super) trait Grows {
    fn next_identity(&self) -> u32;
    fn add(&mut self, names: &[Name]);
}

impl Grows for People {
    fn next_identity(&self) -> u32 {
        self.next_identity()
    }

    fn add(&mut self, names: &[Name]) {
        self.add(names);
    }
}

impl Grows for Attributes {
    fn next_identity(&self) -> u32 {
        self.next_identity()
    }

    fn add(&mut self, names: &[Name]) {
        self.add(names);
    }
}

/// What rules say of the identities in the facts of a generation.
pub(super) struct Grown<T> {
    pub(super) known: T,
}

type Shared<T> = Arc<RwLock<Grown<T>>>;

/// What rules say of identities, of the last generations of facts and rules: by generation, and hash of the rules.
struct Kept<T>(Mutex<Vec<(Generation, Shared<T>)>>);

type Generation = (Option<String>, [u8; 32]);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Grows> Kept<T> {
    /// Returns what rules say of all identities in the database. Of facts that were made anew, it is worked out anew, and questions that are
    /// being answered keep what they have.
    fn get(
        &self,
        connection: &mut dyn Connection,
        hash: [u8; 32],
        empty: &dyn Fn() -> T,
    ) -> Result<Shared<T>, StoreError> {
        let generation = facts_schema::generation(connection)?;
        let shared = {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let place = (generation, hash);
            let found = kept.iter().position(|(known, _)| *known == place);
            let entry = found
                .map(|index| kept.remove(index))
                .unwrap_or_else(|| (place, Arc::new(RwLock::new(Grown { known: empty() }))));
            kept.truncate(KEPT - 1);
            kept.insert(0, entry.clone());
            entry.1
        };
        let next = shared.read().unwrap_or_else(PoisonError::into_inner).known.next_identity();
        let new = names::names_from(connection, NameKind::Identity, next)?;
        if new.is_empty() {
            // The usual case.
            return Ok(shared);
        }
        let mut grown = shared.write().unwrap_or_else(PoisonError::into_inner);
        // Another question may have added some of these identities meanwhile.
        let next = grown.known.next_identity();
        let from = new.partition_point(|name| name.id < next);
        grown.known.add(&new[from..]);
        drop(grown);
        Ok(shared)
    }
}

/// What the last rules say of all identities.
#[derive(Default)]
pub(super) struct Register {
    people: Kept<People>,
    attributes: Kept<Attributes>,
}

impl Register {
    /// Applies rules to what is in the database.
    pub(super) fn apply(
        &self,
        connection: &mut dyn Connection,
        rules: &Arc<MonthRules>,
        features: &[Feature],
    ) -> Result<InForce, StoreError> {
        let people = self.people.get(connection, rules.identity.hash(), &|| People::new(rules.identity.clone()))?;
        let new = || Attributes::new(rules.attributes.clone());
        let attributes = self.attributes.get(connection, rules.attributes.hash(), &new)?;
        let codes = features.iter().map(|feature| (feature.id, feature.name.clone())).collect();
        Ok(InForce { skus: rules.catalogue.assign(features), codes, rules: rules.clone(), people, attributes })
    }
}

/// The rules of a month, applied.
pub struct InForce {
    /// The rules.
    pub rules: Arc<MonthRules>,
    /// The SKU of each feature, by the feature's id. A feature that never counts has none.
    pub(super) skus: Skus,
    /// The code of each feature, by its id.
    codes: HashMap<u32, String>,
    people: Shared<People>,
    attributes: Shared<Attributes>,
}

impl InForce {
    /// Returns the people.
    pub(super) fn people(&self) -> RwLockReadGuard<'_, Grown<People>> {
        self.people.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what rules say of identities.
    pub(super) fn attributes(&self) -> RwLockReadGuard<'_, Grown<Attributes>> {
        self.attributes.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of people in any of these sets of identities, each person counted once.
    pub(super) fn count<'a>(&self, sets: impl Iterator<Item = &'a RoaringBitmap>) -> u64 {
        let all = sets.fold(RoaringBitmap::new(), |all, set| all | set);
        self.people().known.count(&all)
    }

    /// Returns where a feature of a license server is used.
    pub(super) fn place<'a>(&'a self, server: &'a LicenseServer, feature: u32) -> Place<'a> {
        let feature = self.codes.get(&feature).map_or("", String::as_str);
        Place { feature, server: &server.name, realm: &server.realm }
    }

    /// Returns the identities whose use is free wherever it is, of those that have used anything in the month. Where a rule lets only so
    /// many people be free, those are the first by realm and name.
    pub(super) fn free(&self, used: impl FnOnce() -> RoaringBitmap) -> RoaringBitmap {
        // Before anything is locked: it locks the same.
        let has_caps = self.rules.attributes.free_rules().iter().any(|rule| rule.cap.is_some());
        let counted = if has_caps { used() } else { RoaringBitmap::new() };
        let attributes = self.attributes();
        let mut free = RoaringBitmap::new();
        for (rule, identities) in attributes.known.free().filter(|(_, identities)| !identities.is_empty()) {
            let Some(cap) = rule.cap else {
                free |= identities;
                continue;
            };
            let people = self.people();
            let mut first: Vec<u32> = people.known.of(&(identities & &counted)).iter().collect();
            first.sort_by_cached_key(|person| {
                let person = people.known.get(*person);
                (person.realm.clone(), person.key.clone())
            });
            first.truncate(usize::try_from(cap).unwrap_or(usize::MAX));
            free |= people.known.identities_of(&first.into_iter().collect(), identities);
        }
        free
    }
}
