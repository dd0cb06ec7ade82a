//! Questions about usage, and the rules by which they are answered.
//!
//! Facts record which identity used which feature, on which license server and when. Which identities are one person
//! ([`people`]), which SKU a feature belongs to ([`catalogue`]) and who counts ([`rules`]) are rules. The rules are
//! applied when a question is asked: a changed rule changes every answer at once, and no fact.
//!
//! | module | one idea |
//! |---|---|
//! | [`monthly`] | unique users by SKU, in a month and over months |
//! | [`peak`] | the most seats in use at once |
//! | [`users`] | the people behind a number of unique users |
//! | [`activity`] | the figures of the logs, without any rule |
//! | [`held_now`] | who holds seats now |
//! | [`entitlements`] | which licenses there are, how many are used, when they expire |
//! | [`mod@completeness`] | what is known to be missing |
//! | [`realm_preview`] | how many people there would be if a license server belonged to another realm |
//! | [`open_sessions`] | usage that no fact contains yet |
//! | `sources` | which source's measure counts, where several saw the same seats |

pub mod activity;
pub mod catalogue;
pub mod completeness;
pub mod entitlements;
pub mod held_now;
pub mod monthly;
pub mod open_sessions;
pub mod peak;
pub mod people;
pub mod realm_preview;
pub mod rules;
mod sources;
pub mod users;

use std::sync::{Arc, PoisonError, RwLock};

use hashbrown::HashMap;
use jiff::Timestamp;
use seatmeter_count::name::fold_case;
use seatmeter_count::{Calendar, Month};

use crate::fleet::snapshot::{FleetSnapshot, UnknownServer};
use crate::store::engine::Connection;
use crate::store::names::{self, NameKind};
use crate::store::received::LicenseServer;
use crate::store::{Store, StoreError, facts_schema};
use catalogue::Sku;
use completeness::{Completeness, completeness};
use people::People;
use rules::{Basis, Rules};

/// Why a question about usage has no answer.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No license server has the name.
    #[error("there is no license server {:?}", .0.name)]
    UnknownServer(UnknownServer),
    /// No SKU has the id.
    #[error("there is no SKU {id:?}")]
    UnknownSku {
        /// The id that was asked for.
        id: String,
        /// The ids of the SKUs in use.
        known: Vec<String>,
    },
    /// The month has not begun.
    #[error("{month} has not begun; the current month is {current}")]
    FutureMonth {
        /// The month that was asked for.
        month: Month,
        /// The current month, in the billing time zone.
        current: Month,
    },
}

impl From<UnknownServer> for UsageError {
    fn from(error: UnknownServer) -> Self {
        Self::UnknownServer(error)
    }
}

/// The part of the usage that a question is about.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The name of the license server, ignoring case; empty selects all.
    pub license_server: String,
    /// The id of the SKU, ignoring case; empty selects all.
    pub sku: String,
}

/// A filter, resolved to known names. `None` selects all.
struct Selection {
    server: Option<LicenseServer>,
    sku: Option<String>,
}

impl Selection {
    fn server_id(&self) -> Option<i64> {
        self.server.as_ref().map(|server| server.id)
    }

    fn has(&self, server: &LicenseServer, sku: &Sku) -> bool {
        self.server.as_ref().is_none_or(|wanted| wanted.id == server.id)
            && self.sku.as_ref().is_none_or(|wanted| *wanted == sku.id)
    }
}

/// The SKU of each feature, by the feature's id. A feature that never counts has none.
type Skus = HashMap<u32, Sku>;

/// What a question about usage is about.
struct Scope {
    fleet: FleetSnapshot,
    skus: Skus,
    selection: Selection,
}

/// Answers questions about usage.
#[derive(Clone)]
pub struct UsageQuestions {
    store: Store,
    calendar: Calendar,
    rules: Arc<Rules>,
    people: Arc<RwLock<KnownPeople>>,
}

/// The people of the facts of a generation.
struct KnownPeople {
    generation: Option<String>,
    people: People,
}

impl UsageQuestions {
    /// Creates the questions over a store, answered by these rules and with the days of this calendar.
    pub fn new(store: Store, calendar: Calendar, rules: Rules) -> Self {
        let people = KnownPeople { generation: None, people: People::new(rules.identity.clone()) };
        let people = Arc::new(RwLock::new(people));
        Self { store, calendar, rules: Arc::new(rules), people }
    }

    /// Returns the rules behind the answers.
    pub fn basis(&self) -> Basis {
        Basis {
            time_zone: self.calendar.zone().iana_name().unwrap_or("UTC").to_owned(),
            person: self.rules.person,
            domains: self.rules.identity.domains,
            version: self.rules.version.clone(),
        }
    }

    /// Returns the current month, in the billing time zone.
    pub fn current_month(&self) -> Month {
        self.calendar.clone().month(now())
    }

    /// Returns how complete a month is, for one license server, or for all if the name is empty.
    pub fn completeness(&self, month: Month, license_server: &str) -> Result<Completeness, UsageError> {
        self.refuse_future(month)?;
        let fleet = self.store.read(FleetSnapshot::read)?.counted();
        let only = fleet.named(license_server)?.map(|server| server.id);
        Ok(completeness(&fleet, only, &self.calendar, month, now()))
    }

    fn refuse_future(&self, month: Month) -> Result<(), UsageError> {
        let current = self.current_month();
        if month > current { Err(UsageError::FutureMonth { month, current }) } else { Ok(()) }
    }

    /// Reads what every question about usage begins with.
    fn scope(&self, connection: &mut dyn Connection, filter: &Filter) -> Result<Scope, UsageError> {
        self.refresh_people(connection)?;
        let fleet = FleetSnapshot::read(connection)?.counted();
        let skus = self.skus(connection)?;
        let selection = self.select(&fleet, &skus, filter)?;
        Ok(Scope { fleet, skus, selection })
    }

    /// Adds the identities that are new in the database to the people.
    fn refresh_people(&self, connection: &mut dyn Connection) -> Result<(), StoreError> {
        let generation = facts_schema::generation(connection)?;
        let (is_same, next) = {
            let known = self.people.read().unwrap_or_else(PoisonError::into_inner);
            (known.generation == generation, known.people.next_identity())
        };
        let new = names::names_from(connection, NameKind::Identity, if is_same { next } else { 0 })?;
        if is_same && new.is_empty() {
            // The usual case.
            return Ok(());
        }
        let mut known = self.people.write().unwrap_or_else(PoisonError::into_inner);
        if known.generation != generation {
            *known = KnownPeople { generation, people: People::new(self.rules.identity.clone()) };
        }
        // Another question may have added some of these identities meanwhile.
        let next = known.people.next_identity();
        known.people.add(new.into_iter().filter(|name| name.id >= next).collect());
        Ok(())
    }

    fn skus(&self, connection: &mut dyn Connection) -> Result<Skus, StoreError> {
        Ok(self.rules.catalogue.assign(&names::features_from(connection, 0)?))
    }

    /// Finds the license server and the SKU that a filter names.
    fn select(&self, fleet: &FleetSnapshot, skus: &Skus, filter: &Filter) -> Result<Selection, UsageError> {
        let server = fleet.named(&filter.license_server)?.cloned();
        if filter.sku.is_empty() {
            return Ok(Selection { server, sku: None });
        }
        let mut known: Vec<&str> = skus.values().map(|sku| sku.id.as_str()).chain(self.rules.catalogue.ids()).collect();
        known.sort_unstable();
        known.dedup();
        let key = fold_case(&filter.sku);
        let alike: Vec<&str> = known.into_iter().filter(|id| fold_case(id) == key).collect();
        // If several ids differ only in case, only the exact spelling selects one.
        let found = alike.iter().find(|id| **id == filter.sku).or(if alike.len() == 1 { alike.first() } else { None });
        if let Some(id) = found {
            return Ok(Selection { server, sku: Some((*id).to_owned()) });
        }
        let mut known: Vec<String> = if alike.is_empty() {
            skus.values().map(|sku| sku.id.clone()).collect()
        } else {
            alike.into_iter().map(str::to_owned).collect()
        };
        known.sort_unstable();
        known.dedup();
        Err(UsageError::UnknownSku { id: filter.sku.clone(), known })
    }
}

fn now() -> i64 {
    Timestamp::now().as_second()
}
