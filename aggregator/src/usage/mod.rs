//! The questions about use, and the opinions by which they are answered.
//!
//! Facts say who held what where when. Who is one person ([`people`]), what is sold ([`catalogue`]), and what counts are
//! rules, applied to the facts of [`month`] when a question is asked: a changed rule changes every answer at once, and
//! no fact.

pub mod catalogue;
pub mod complete;
pub mod month;
pub mod people;
pub mod questions;
pub mod rules;
pub mod users;

use std::sync::{Arc, PoisonError, RwLock};

use seatmeter_count::Calendar;
use seatmeter_count::name::fold_case;

use crate::store::engine::Connection;
use crate::store::names::{self, NameKind};
use crate::store::received::LicenseServer;
use crate::store::{Store, StoreError};
use catalogue::Sku;
use people::People;
use rules::Rules;

/// Whether a license server is the one asked for, whatever the case of its name; an empty name is all of them.
pub fn is_named(asked: &str, server: &LicenseServer) -> bool {
    asked.is_empty() || fold_case(asked) == server.key
}

/// Answers questions about use.
#[derive(Clone)]
pub struct Usage {
    store: Store,
    calendar: Calendar,
    rules: Arc<Rules>,
    people: Arc<RwLock<People>>,
}

impl Usage {
    /// Answers from this store, by these rules, with the days of this calendar.
    pub fn new(store: Store, calendar: Calendar, rules: Rules) -> Self {
        let people = Arc::new(RwLock::new(People::new(rules.identity.clone())));
        Self { store, calendar, rules: Arc::new(rules), people }
    }

    /// Brings the people up to the identities that are there.
    fn meet(&self, connection: &mut dyn Connection) -> Result<(), StoreError> {
        let known = self.people.read().unwrap_or_else(PoisonError::into_inner).known();
        let new = names::names_from(connection, NameKind::Identity, known)?;
        if !new.is_empty() {
            let mut people = self.people.write().unwrap_or_else(PoisonError::into_inner);
            // Another question may have added some of them meanwhile.
            let known = people.known();
            people.add(new.into_iter().filter(|name| name.id >= known).collect());
        }
        Ok(())
    }

    /// The SKU of each feature; `None` for what never counts.
    fn skus(&self, connection: &mut dyn Connection) -> Result<Vec<Option<Sku>>, StoreError> {
        Ok(self.rules.catalogue.assign(&names::features_from(connection, 0)?))
    }
}
