//! Questions about usage, and the rules by which they are answered.
//!
//! Facts record which identity used which feature, on which license server and when. Which identities are one person
//! ([`people`](crate::rules::people)), which SKU a feature belongs to ([`catalogue`](crate::rules::catalogue)), who counts and who is free
//! are rules. The rules of a month are applied when a question is asked: a changed rule changes every answer at once, and no fact.
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
//! | [`report`] | the figures of a month, for each customer |
//! | [`realm_preview`] | how many people there would be if a license server belonged to another realm |
//! | [`in_force`] | the rules of a month, applied to what the facts hold |
//! | [`open_sessions`] | usage that no fact contains yet |
//! | `sources` | which source's measure counts, where several saw the same seats |

pub mod activity;
pub mod completeness;
pub mod entitlements;
pub mod held_now;
pub mod in_force;
pub mod monthly;
pub mod open_sessions;
pub mod peak;
pub mod realm_preview;
pub mod report;
mod sources;
pub mod users;

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use jiff::Timestamp;
use seatmeter_count::name::fold_case;
use seatmeter_count::{Calendar, Day, Month};

use crate::fleet::snapshot::{FleetSnapshot, UnknownServer};
use crate::rules::book::RuleBook;
use crate::rules::catalogue::Sku;
use crate::rules::rule::{DomainRule, PersonRule};
use crate::rules::set::RuleSet;
use crate::store::engine::Connection;
use crate::store::names::{self, Feature};
use crate::store::received::LicenseServer;
use crate::store::{Store, StoreError, usage};
use completeness::{Completeness, completeness};
use in_force::{InForce, Register};

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
    selection: Selection,
    /// The rules of each month that the question is about, applied.
    months: BTreeMap<Month, Arc<InForce>>,
}

impl Scope {
    /// Returns the rules of a month, which is one that the question is about.
    fn of(&self, month: Month) -> Option<&Arc<InForce>> {
        self.months.get(&month)
    }
}

/// The rules behind an answer.
#[derive(Clone, Debug)]
pub struct Basis {
    /// The IANA name of the time zone of days and months.
    pub time_zone: String,
    /// The rule that says who counts.
    pub person: PersonRule,
    /// The rule for the domains of user names.
    pub domains: DomainRule,
    /// The version of the rules, which changes whenever the rules or the built-in catalogue change.
    pub version: String,
}

/// Answers questions about usage.
#[derive(Clone)]
pub struct UsageQuestions {
    store: Store,
    calendar: Calendar,
    book: RuleBook,
    register: Arc<Register>,
}

impl UsageQuestions {
    /// Creates the questions over a store, answered by the rules in a book and with the days of this calendar.
    pub fn new(store: Store, calendar: Calendar, book: RuleBook) -> Self {
        Self { store, calendar, book, register: Arc::default() }
    }

    /// Returns the rules behind the answers about a month.
    pub fn basis(&self, month: Month) -> Basis {
        let set = self.book.current();
        let rules = set.of(month);
        Basis {
            time_zone: self.time_zone(),
            person: rules.person,
            domains: rules.identity.domains(),
            version: set.version(),
        }
    }

    /// Returns the first month with any usage; `None` if no month has any.
    pub fn first_month(&self) -> Result<Option<Month>, UsageError> {
        let months = self.store.read(usage::months)?;
        let first = months.and_then(|(first, _)| Month::from_number(first));
        // Of a session that is open since long ago, facts know later.
        Ok(first.map(|first| first.min(self.current_month())))
    }

    /// Returns the IANA name of the billing time zone.
    pub fn time_zone(&self) -> String {
        self.calendar.zone().iana_name().unwrap_or("UTC").to_owned()
    }

    /// Returns the month of a day.
    pub fn month_of(&self, day: Day) -> Month {
        let mut calendar = self.calendar.clone();
        let begins = calendar.start_of_day(day);
        calendar.month(begins)
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

    /// Reads what every question about the usage of some months begins with.
    fn scope(
        &self,
        connection: &mut dyn Connection,
        filter: &Filter,
        (from, through): (Month, Month),
    ) -> Result<Scope, UsageError> {
        let features = names::features_from(connection, 0)?;
        let months = self.in_force(connection, &self.book.current(), &features, (from, through))?;
        let fleet = FleetSnapshot::read(connection)?.counted();
        let selection = self.select(&fleet, &months, filter)?;
        Ok(Scope { fleet, selection, months })
    }

    /// Applies the rules of each month of a range.
    fn in_force(
        &self,
        connection: &mut dyn Connection,
        set: &RuleSet,
        features: &[Feature],
        (from, through): (Month, Month),
    ) -> Result<BTreeMap<Month, Arc<InForce>>, StoreError> {
        let mut months: BTreeMap<Month, Arc<InForce>> = BTreeMap::new();
        let mut month = from;
        while month <= through {
            let rules = set.of(month);
            // Of months that follow one another, most have the same rules.
            let last = months.last_key_value().map(|(_, last)| last.clone());
            let applied = match last.filter(|last| Arc::ptr_eq(&last.rules, rules)) {
                Some(last) => last,
                None => Arc::new(self.register.apply(connection, rules, features)?),
            };
            months.insert(month, applied);
            month = month.next();
        }
        Ok(months)
    }

    /// Finds the license server and the SKU that a filter names.
    fn select(
        &self,
        fleet: &FleetSnapshot,
        months: &BTreeMap<Month, Arc<InForce>>,
        filter: &Filter,
    ) -> Result<Selection, UsageError> {
        let server = fleet.named(&filter.license_server)?.cloned();
        if filter.sku.is_empty() {
            return Ok(Selection { server, sku: None });
        }
        let used = || months.values().flat_map(|in_force| in_force.skus.values()).map(|sku| sku.id.as_str());
        let catalogued = months.values().flat_map(|in_force| in_force.rules.catalogue.ids());
        let mut known: Vec<&str> = used().chain(catalogued).collect();
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
            used().map(str::to_owned).collect()
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
