//! The people behind a number of unique users.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashMap;
use roaring::RoaringBitmap;
use seatmeter_count::Month;

use super::completeness::{Completeness, completeness};
use super::in_force::InForce;
use super::monthly::free_of;
use super::open_sessions::{OpenPart, open_in, usages};
use super::sources::{seen_elsewhere, who};
use super::{Filter, Scope, UsageError, UsageQuestions, now};
use crate::rules::people::People;
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
    /// The user names as the logs wrote them.
    pub identities: Vec<String>,
    /// The ids of the SKUs used.
    pub skus: Vec<String>,
    /// The person's figures over all selected SKUs.
    pub figures: FactFigures,
    /// Whether all that the person used of them is free.
    pub is_free: bool,
}

/// A page of people.
pub struct UsersPage {
    /// The people on this page, ordered by realm and name.
    pub users: Vec<UserUsage>,
    /// The person after whom the next page begins; `None` on the last page.
    pub next: Option<(String, String)>,
    /// The number of people on all pages.
    pub total: u64,
    /// How complete the month is, for the license servers selected.
    pub completeness: Completeness,
}

/// The usage of one person, summed over facts and open sessions.
struct Sum {
    figures: FactFigures,
    skus: BTreeSet<String>,
}

/// The people of a month, in order.
struct UserList {
    in_force: Arc<InForce>,
    wanted: Vec<Wanted>,
    /// The people who used anything that is not free.
    paid: RoaringBitmap,
    /// All identities that count.
    who: RoaringBitmap,
    /// The people, by realm and name.
    order: Vec<u32>,
    /// The parts of the open sessions of the wanted features, by identity.
    open: HashMap<u32, Vec<OpenPart>>,
    completeness: Completeness,
}

/// A feature in a log and a month that matches the filter, with its SKU and the identities that count.
struct Wanted {
    key: UsageKey,
    sku: String,
    who: RoaringBitmap,
    /// Those of them whose use of it is not free.
    paid: RoaringBitmap,
    /// Whether its seats are to be added: no other source saw more of them.
    has_seats: bool,
}

impl UsageQuestions {
    /// Returns a page of the people who used SKUs in a month. The page begins after the realm and name in `after`.
    pub fn users(
        &self,
        month: Month,
        filter: &Filter,
        after: Option<&(String, String)>,
        page_size: usize,
    ) -> Result<UsersPage, UsageError> {
        self.refuse_future(month)?;
        self.store.read(|connection| {
            let list = self.user_list(connection, month, filter)?;
            let from = match after {
                None => 0,
                Some((realm, name)) => {
                    let known = list.in_force.people();
                    let people = &known.known;
                    list.order.partition_point(|person| key(people, *person) <= (realm.as_str(), name.as_str()))
                }
            };
            let until = list.order.len().min(from.saturating_add(page_size));
            let users = self.users_of(connection, &list, from..until)?;
            let is_last = until == list.order.len();
            let next = users.last().filter(|_| !is_last).map(|user| (user.realm.clone(), user.person.clone()));
            Ok(UsersPage { users, next, total: list.order.len() as u64, completeness: list.completeness })
        })
    }

    /// Calls `wants_more` with all people who used SKUs in a month, page by page, from one consistent state. Stops when
    /// `wants_more` returns `false`.
    pub fn each_page_of_users(
        &self,
        month: Month,
        filter: &Filter,
        page_size: usize,
        wants_more: &mut dyn FnMut(UsersPage) -> bool,
    ) -> Result<(), UsageError> {
        self.refuse_future(month)?;
        self.store.read(|connection| {
            let list = self.user_list(connection, month, filter)?;
            let total = list.order.len();
            let mut from = 0;
            loop {
                let until = total.min(from + page_size);
                let users = self.users_of(connection, &list, from..until)?;
                let completeness = list.completeness.clone();
                let page = UsersPage { users, next: None, total: total as u64, completeness };
                if !wants_more(page) || until == total {
                    return Ok(());
                }
                from = until;
            }
        })
    }

    /// Finds the people who used SKUs in a month.
    fn user_list(
        &self,
        connection: &mut dyn Connection,
        month: Month,
        filter: &Filter,
    ) -> Result<UserList, UsageError> {
        let scope = self.scope(connection, filter, (month, month))?;
        let server_id = scope.selection.server_id();
        let completeness = completeness(&scope.fleet, server_id, &self.calendar, month, now());
        let wanted = self.wanted(connection, &scope, month)?;
        let union =
            |sets: &mut dyn Iterator<Item = &RoaringBitmap>| sets.fold(RoaringBitmap::new(), |all, set| all | set);
        let who = union(&mut wanted.iter().map(|wanted| &wanted.who));
        let paid = union(&mut wanted.iter().map(|wanted| &wanted.paid));
        let current = self.current_month();
        let in_force = scope.of(month).ok_or(UsageError::FutureMonth { month, current })?.clone();
        let (order, paid) = {
            let known = in_force.people();
            let people = &known.known;
            let mut order: Vec<u32> = people.of(&who).iter().collect();
            order.sort_by_key(|person| key(people, *person));
            (order, people.of(&paid))
        };
        let open = open_by_identity(&wanted, open_in(&scope.fleet, month, &self.calendar));
        Ok(UserList { in_force, wanted, paid, who, order, open, completeness })
    }

    /// Returns the usage of the people in a range of the list.
    fn users_of(
        &self,
        connection: &mut dyn Connection,
        list: &UserList,
        range: std::ops::Range<usize>,
    ) -> Result<Vec<UserUsage>, StoreError> {
        let known = list.in_force.people();
        let people = &known.known;
        let mut users = Vec::with_capacity(range.len());
        for person in &list.order[range] {
            let is_free = !list.paid.contains(*person);
            let person = people.get(*person);
            let mut sum = Sum { figures: FactFigures::NOTHING, skus: BTreeSet::new() };
            let used: Vec<u32> =
                person.identities.iter().copied().filter(|identity| list.who.contains(*identity)).collect();
            for identity in &used {
                add_facts(connection, &list.wanted, *identity, &mut sum)?;
                for part in list.open.get(identity).into_iter().flatten() {
                    self.add_open(part, &mut sum);
                }
            }
            users.push(UserUsage {
                person: person.key.clone(),
                realm: person.realm.clone(),
                identities: used.iter().map(|identity| people.name(*identity).to_owned()).collect(),
                skus: sum.skus.into_iter().collect(),
                figures: sum.figures,
                is_free,
            });
        }
        Ok(users)
    }

    fn wanted(&self, connection: &mut dyn Connection, scope: &Scope, month: Month) -> Result<Vec<Wanted>, StoreError> {
        let Scope { fleet, selection, .. } = scope;
        let Some(in_force) = scope.of(month) else { return Ok(Vec::new()) };
        let mut wanted = Vec::new();
        let found = usages(connection, fleet, &self.calendar, month, month)?;
        let seen_elsewhere = seen_elsewhere(&found, fleet);
        let free = free_of(in_force, fleet, month, &found);
        for (key, usage) in found {
            let Some(server) = fleet.server_of(key.0) else { continue };
            let Some(sku) = in_force.skus.get(&key.2).filter(|sku| selection.has(server, sku)) else { continue };
            let who = who(&usage, in_force.rules.person, fleet.is_asked(key.0)).clone();
            let is_free = in_force.attributes().known.rules().is_free(in_force.place(server, key.2));
            let paid = if is_free { RoaringBitmap::new() } else { &who - &free };
            let has_seats = !seen_elsewhere.contains(&key);
            wanted.push(Wanted { key, sku: sku.id.clone(), who, paid, has_seats });
        }
        Ok(wanted)
    }

    /// Adds the part of an open session to a person's sum.
    fn add_open(&self, part: &OpenPart, sum: &mut Sum) {
        let mut calendar = self.calendar.clone();
        let span = calendar.span(part.from);
        sum.figures.touch(calendar.days(span, part.from, part.through), part.from, part.through);
        sum.figures.seat_seconds += part.seat_seconds();
    }
}

/// Returns the parts of the open sessions of the wanted features, by identity.
fn open_by_identity(wanted: &[Wanted], parts: Vec<OpenPart>) -> HashMap<u32, Vec<OpenPart>> {
    let features: HashMap<(i64, u32), bool> =
        wanted.iter().map(|wanted| ((wanted.key.0, wanted.key.2), wanted.has_seats)).collect();
    let mut open: HashMap<u32, Vec<OpenPart>> = HashMap::new();
    for mut part in parts {
        if let Some(has_seats) = features.get(&(part.log_id, part.session.feature)) {
            if !has_seats {
                part.session.seats = 0;
            }
            open.entry(part.session.client.identity).or_default().push(part);
        }
    }
    open
}

/// Returns the realm and the name of a person, by which people are ordered.
fn key(people: &People, person: u32) -> (&str, &str) {
    let person = people.get(person);
    (&person.realm, &person.key)
}

fn add_facts(
    connection: &mut dyn Connection,
    wanted: &[Wanted],
    identity: u32,
    sum: &mut Sum,
) -> Result<(), StoreError> {
    for Wanted { key, sku, has_seats, .. } in wanted.iter().filter(|wanted| wanted.who.contains(identity)) {
        sum.skus.insert(sku.clone());
        if let Some(mut fact) = facts::fact(connection, *key, identity)? {
            if !has_seats {
                fact.seat_seconds = 0;
            }
            sum.figures.add(&fact);
        }
    }
    Ok(())
}
