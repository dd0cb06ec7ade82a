//! The people behind a number.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use hashbrown::HashMap;
use roaring::RoaringBitmap;
use seatmeter_count::Month;

use super::completeness::{Completeness, completeness};
use super::open_sessions::{open_in, usages};
use super::rules::PersonRule;
use super::{Filter, Selection, Skus, UsageError, UsageQuestions, now};
use crate::fleet::snapshot::FleetSnapshot;
use crate::store::StoreError;
use crate::store::engine::Connection;
use crate::store::facts::{self, FactFigures};
use crate::store::usage::UsageKey;

/// The usage of one person in a month.
#[derive(Clone, Debug)]
pub struct UserUsage {
    /// The person's name by the identity rules.
    pub person: String,
    /// The realm.
    pub realm: String,
    /// The names that the sources wrote.
    pub identities: Vec<String>,
    /// The ids of the SKUs used.
    pub skus: Vec<String>,
    /// What the person did.
    pub figures: FactFigures,
}

/// A page of people.
pub struct UsersPage {
    /// In the order of realm and name.
    pub users: Vec<UserUsage>,
    /// The person after whom the next page begins; `None` on the last page.
    pub next: Option<(String, String)>,
    /// How many there are on all pages.
    pub total: u64,
    /// How complete the month is, for the license servers selected.
    pub completeness: Completeness,
}

/// What a person did, as facts are put together.
struct Sum {
    figures: FactFigures,
    skus: BTreeSet<String>,
}

impl UsageQuestions {
    /// A page of the people who used SKUs in a month, after this one.
    pub fn users(
        &self,
        month: Month,
        filter: &Filter,
        after: Option<&(String, String)>,
        page_size: usize,
    ) -> Result<UsersPage, UsageError> {
        self.refuse_future(month)?;
        self.store.read(|connection| {
            self.refresh_people(connection)?;
            let fleet = FleetSnapshot::read(connection)?;
            let skus = self.skus(connection)?;
            let selection = match self.select(&fleet, &skus, filter) {
                Ok(selection) => selection,
                Err(error) => return Ok(Err(error)),
            };
            let completeness = completeness(&fleet, selection.server_id(), &self.calendar, month, now());
            let wanted = self.wanted(connection, &fleet, &skus, month, &selection)?;
            let people = self.people.read().unwrap_or_else(PoisonError::into_inner);
            let who: RoaringBitmap = wanted.iter().fold(RoaringBitmap::new(), |mut all, (_, _, identities)| {
                all |= identities;
                all
            });
            let all = people.of(&who);
            let key = |person: u32| (people.get(person).realm.as_str(), people.get(person).key.as_str());
            let mut order: Vec<u32> =
                all.iter().filter(|person| after.is_none_or(|(realm, name)| key(*person) > (realm, name))).collect();
            order.sort_by_key(|person| key(*person));
            let page = &order[..order.len().min(page_size)];
            let mut users = Vec::with_capacity(page.len());
            for person in page {
                let person = people.get(*person);
                let mut sum = Sum { figures: FactFigures::NOTHING, skus: BTreeSet::new() };
                let used: Vec<u32> =
                    person.identities.iter().copied().filter(|identity| who.contains(*identity)).collect();
                for identity in &used {
                    self.add_facts(connection, &wanted, *identity, &mut sum)?;
                    self.add_open(&fleet, month, &wanted, *identity, &mut sum);
                }
                users.push(UserUsage {
                    person: person.key.clone(),
                    realm: person.realm.clone(),
                    identities: used.iter().map(|identity| people.name(*identity).to_owned()).collect(),
                    skus: sum.skus.into_iter().collect(),
                    figures: sum.figures,
                });
            }
            let is_last = page.len() == order.len();
            let next = page.last().filter(|_| !is_last).map(|person| {
                let (realm, name) = key(*person);
                (realm.to_owned(), name.to_owned())
            });
            Ok(Ok(UsersPage { users, next, total: all.len(), completeness }))
        })?
    }

    /// The usages that the filter lets through, each with its SKU and the identities that count.
    fn wanted(
        &self,
        connection: &mut dyn Connection,
        fleet: &FleetSnapshot,
        skus: &Skus,
        month: Month,
        selection: &Selection,
    ) -> Result<Vec<(UsageKey, String, RoaringBitmap)>, StoreError> {
        let mut wanted = Vec::new();
        for (key, usage) in usages(connection, fleet, &self.calendar, month, month)? {
            let Some(server) = fleet.server_of(key.0) else { continue };
            let Some(sku) = skus.get(&key.2) else { continue };
            if selection.has(server, sku) {
                let who = match self.rules.person {
                    PersonRule::Held => usage.held,
                    PersonRule::CheckedOut => usage.checked_out,
                };
                wanted.push((key, sku.id.clone(), who));
            }
        }
        Ok(wanted)
    }

    fn add_facts(
        &self,
        connection: &mut dyn Connection,
        wanted: &[(UsageKey, String, RoaringBitmap)],
        identity: u32,
        sum: &mut Sum,
    ) -> Result<(), StoreError> {
        for (key, sku, _) in wanted.iter().filter(|(_, _, who)| who.contains(identity)) {
            sum.skus.insert(sku.clone());
            if let Some(fact) = facts::fact(connection, *key, identity)? {
                sum.figures.add(&fact);
            }
        }
        Ok(())
    }

    /// Sessions that are still open.
    fn add_open(
        &self,
        fleet: &FleetSnapshot,
        month: Month,
        wanted: &[(UsageKey, String, RoaringBitmap)],
        identity: u32,
        sum: &mut Sum,
    ) {
        let mut calendar = self.calendar.clone();
        let features: HashMap<(i64, u32), ()> =
            wanted.iter().map(|((log, _, feature), _, _)| ((*log, *feature), ())).collect();
        for part in open_in(fleet, month, &self.calendar) {
            if part.session.client.identity != identity || !features.contains_key(&(part.log_id, part.session.feature)) {
                continue;
            }
            let span = calendar.span(part.from);
            sum.figures.touch(calendar.days(span, part.from, part.through), part.from, part.through);
            sum.figures.seat_seconds += part.seat_seconds();
        }
    }
}
