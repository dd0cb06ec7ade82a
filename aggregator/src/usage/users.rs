//! The people behind a number.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use hashbrown::HashMap;
use roaring::RoaringBitmap;
use seatmeter_count::Month;
use seatmeter_proto::timestamp;
use seatmeter_proto::v1::UserUsage;

use super::Usage;
use super::month::{self, Fleet};
use super::questions::Filter;
use super::rules::PersonRule;
use crate::store::StoreError;
use crate::store::engine::Connection;
use crate::store::facts::{self, ESTIMATED, FactFigures};
use crate::store::usage::UsageKey;

/// A page of people.
pub struct UsersPage {
    /// In the order of realm and name.
    pub users: Vec<UserUsage>,
    /// After whom the next page begins; `None` on the last page.
    pub next: Option<(String, String)>,
    /// How many there are on all pages.
    pub total: u64,
}

/// What a person did, as facts are put together.
struct Sum {
    figures: FactFigures,
    skus: BTreeSet<String>,
}

impl Usage {
    /// A page of the people who used SKUs in a month, after this one.
    pub fn users(
        &self,
        month: Month,
        filter: &Filter,
        after: Option<&(String, String)>,
        page_size: usize,
    ) -> Result<UsersPage, StoreError> {
        self.store.read(|connection| {
            self.meet(connection)?;
            let fleet = Fleet::read(connection)?;
            let wanted = self.wanted(connection, &fleet, month, filter)?;
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
                    identities: used.iter().map(|identity| people.name(*identity).to_owned()).collect(),
                    realm: person.realm.clone(),
                    skus: sum.skus.into_iter().collect(),
                    first_used: Some(timestamp(sum.figures.first_at)),
                    last_used: Some(timestamp(sum.figures.last_at)),
                    days: sum.figures.days.count_ones(),
                    checkouts: sum.figures.checkouts,
                    seat_seconds: sum.figures.seat_seconds,
                    estimated: sum.figures.flags & ESTIMATED != 0,
                });
            }
            let is_last = page.len() == order.len();
            let next = page.last().filter(|_| !is_last).map(|person| {
                let (realm, name) = key(*person);
                (realm.to_owned(), name.to_owned())
            });
            Ok(UsersPage { users, next, total: all.len() })
        })
    }

    /// The usages that the filter lets through, each with its SKU and the identities that count.
    fn wanted(
        &self,
        connection: &mut dyn Connection,
        fleet: &Fleet,
        month: Month,
        filter: &Filter,
    ) -> Result<Vec<(UsageKey, String, RoaringBitmap)>, StoreError> {
        let skus = self.skus(connection)?;
        let mut wanted = Vec::new();
        for (key, usage) in month::usages(connection, fleet, &self.calendar, month, month)? {
            let Some(server) = fleet.server_of(key.0) else { continue };
            let Some(Some(sku)) = skus.get(key.2 as usize) else { continue };
            if filter.lets_through(server, sku) {
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
        fleet: &Fleet,
        month: Month,
        wanted: &[(UsageKey, String, RoaringBitmap)],
        identity: u32,
        sum: &mut Sum,
    ) {
        let mut calendar = self.calendar.clone();
        let features: HashMap<(i64, u32), ()> =
            wanted.iter().map(|((log, _, feature), _, _)| ((*log, *feature), ())).collect();
        for part in fleet.open_in(month, &self.calendar) {
            if part.seat.client.identity != identity || !features.contains_key(&(part.log_id, part.seat.feature)) {
                continue;
            }
            let span = calendar.span(part.from);
            sum.figures.touch(calendar.days(span, part.from, part.through), part.from, part.through);
            sum.figures.seat_seconds += part.seat_seconds();
        }
    }
}
