//! The figures of a month, for each customer and SKU: what is reported and billed.
//!
//! One person used by two customers counts for each, and once in the total. What is seen both free and paid is paid. Whoever uses several
//! editions of a product counts for the highest one.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use roaring::RoaringBitmap;
use seatmeter_count::Month;

use super::completeness::{Completeness, completeness};
use super::in_force::InForce;
use super::monthly::{free_of, unite};
use super::open_sessions::usages;
use super::peak::{Peak, peak};
use super::sources::{seen_elsewhere, who};
use super::{UsageError, UsageQuestions, now};
use crate::fleet::snapshot::FleetSnapshot;
use crate::rules::catalogue::Sku;
use crate::rules::rule::Unit;
use crate::rules::set::RuleSet;
use crate::store::StoreError;
use crate::store::engine::Connection;
use crate::store::names;
use crate::store::usage::UsageKey;

/// The figures of a month.
pub struct Report {
    /// The month.
    pub month: Month,
    /// A line for each customer and SKU: by customer, those of nobody last, then by SKU.
    pub lines: Vec<Line>,
    /// A line for each SKU, over all customers: each person once.
    pub totals: Vec<Line>,
    /// The people who used anything, each once, and those of them who used anything that is not free.
    pub everybody: RoaringBitmap,
    /// Those of them who used anything that is not free.
    pub paid: RoaringBitmap,
    /// How complete the month is.
    pub completeness: Completeness,
    /// The rules that were applied.
    pub in_force: Arc<InForce>,
}

impl Report {
    /// Returns realm and name of each of these people.
    pub fn names(&self, people: &RoaringBitmap) -> Vec<(String, String)> {
        let known = self.in_force.people();
        let name = |person: u32| {
            let person = known.known.get(person);
            (person.realm.clone(), person.key.clone())
        };
        people.iter().map(name).collect()
    }

    /// Returns those of these names, each after its realm, that are of nobody among these people.
    pub fn not_among(&self, mut names: Vec<(String, String)>, people: &RoaringBitmap) -> Vec<(String, String)> {
        let known = self.in_force.people();
        names.retain(|(realm, name)| known.known.find(realm, name).is_none_or(|person| !people.contains(person)));
        names
    }

    /// Returns the person of a name in a realm, if there is one.
    pub fn person(&self, realm: &str, name: &str) -> Option<u32> {
        self.in_force.people().known.find(realm, name)
    }
}

/// The use of a SKU by a customer, or by all. The sets are of people.
#[derive(Clone, Debug)]
pub struct Line {
    /// The index of the customer; `None` if it is nobody's use, or that of all.
    pub customer: Option<usize>,
    /// The SKU.
    pub sku: Sku,
    /// The people who used it.
    pub users: RoaringBitmap,
    /// Those of them whose use of it is not all free.
    pub paid: RoaringBitmap,
    /// Those of them who count for a higher edition of the product.
    pub elsewhere: RoaringBitmap,
    /// The hosts on which seats were held that are not free.
    pub devices: u64,
    /// The most such seats in use at once.
    pub peak: Peak,
    /// Seats times the seconds they were held, of those that are not free.
    pub seat_seconds: u64,
}

impl Line {
    /// Returns what is charged, before any adjustment.
    pub fn quantity(&self) -> u64 {
        let people = self.paid.len() - self.elsewhere.len();
        match self.sku.unit {
            Unit::User => people,
            Unit::Device => self.devices,
            Unit::UserOrDevice => people.min(self.devices),
            Unit::Concurrent => self.peak.seats,
            Unit::SeatHour => self.seat_seconds.div_ceil(3600),
        }
    }

    /// Returns the people who are charged.
    pub fn charged(&self) -> RoaringBitmap {
        &self.paid - &self.elsewhere
    }
}

/// What adds up to a line. The sets are of identities.
#[derive(Default)]
struct Sum {
    who: RoaringBitmap,
    paid: RoaringBitmap,
    devices: RoaringBitmap,
    seat_seconds: u64,
    peaks: Vec<(UsageKey, u64, i64)>,
}

impl Sum {
    fn add(&mut self, who: &RoaringBitmap, paid: &RoaringBitmap) {
        unite(&mut self.who, who.clone());
        unite(&mut self.paid, paid.clone());
    }

    /// Adds what cannot be told by person.
    fn add_seats(&mut self, seats: &Seats) {
        unite(&mut self.devices, seats.devices.clone());
        self.seat_seconds += seats.seconds;
        self.peaks.extend(seats.peak);
    }

    fn is_empty(&self) -> bool {
        self.who.is_empty() && self.seat_seconds == 0 && self.peaks.is_empty() && self.devices.is_empty()
    }
}

/// The seats of a feature of a log, in a month.
struct Seats {
    devices: RoaringBitmap,
    seconds: u64,
    peak: Option<(UsageKey, u64, i64)>,
}

/// The use of a SKU: of all, and by customer.
struct OfSku {
    sku: Sku,
    all: Sum,
    by_customer: BTreeMap<Option<usize>, Sum>,
}

impl UsageQuestions {
    /// Returns the figures of a month, by the rules of a set.
    pub fn report(&self, month: Month, set: &RuleSet) -> Result<Report, UsageError> {
        self.refuse_future(month)?;
        self.store.read(|connection| {
            let features = names::features_from(connection, 0)?;
            let applied = self.in_force(connection, set, &features, (month, month))?.remove(&month);
            let in_force = applied.ok_or(UsageError::FutureMonth { month, current: self.current_month() })?;
            let fleet = FleetSnapshot::read(connection)?.counted();
            let completeness = completeness(&fleet, None, &self.calendar, month, now());
            let of_skus = self.use_of_skus(connection, &fleet, month, &in_force)?;
            let (mut lines, mut totals) = (Vec::new(), Vec::new());
            let (mut who, mut paid) = (RoaringBitmap::new(), RoaringBitmap::new());
            for OfSku { sku, all, by_customer } in of_skus.into_values() {
                who |= &all.who;
                paid |= &all.paid;
                totals.push(self.line(connection, month, &in_force, (None, &sku), all)?);
                for (customer, sum) in by_customer {
                    lines.push(self.line(connection, month, &in_force, (customer, &sku), sum)?);
                }
            }
            // Nobody's use comes last.
            let place = |line: &Line| (line.customer.is_none(), line.customer, line.sku.id.clone());
            lines.sort_by_cached_key(place);
            count_highest_editions(&mut lines);
            count_highest_editions(&mut totals);
            let (everybody, paid) = {
                let people = in_force.people();
                (people.known.of(&who), people.known.of(&paid))
            };
            Ok(Report { month, lines, totals, everybody, paid, completeness, in_force })
        })
    }

    fn use_of_skus(
        &self,
        connection: &mut dyn Connection,
        fleet: &FleetSnapshot,
        month: Month,
        in_force: &InForce,
    ) -> Result<BTreeMap<String, OfSku>, StoreError> {
        let found = usages(connection, fleet, &self.calendar, month, month)?;
        let seen_elsewhere = seen_elsewhere(&found, fleet);
        let free = free_of(in_force, fleet, month, &found);
        let attributes = in_force.attributes();
        let attributes = &attributes.known;
        let mut of_skus: BTreeMap<String, OfSku> = BTreeMap::new();
        for (key, usage) in found {
            let Some(server) = fleet.server_of(key.0) else { continue };
            let Some(sku) = in_force.skus.get(&key.2) else { continue };
            let place = in_force.place(server, key.2);
            let is_free = attributes.rules().is_free(place);
            let who = who(&usage, in_force.rules.person, fleet.is_asked(key.0));
            let paid = if is_free { RoaringBitmap::new() } else { who - &free };
            let counts = !is_free && !seen_elsewhere.contains(&key);
            let seats = Seats {
                devices: if is_free { RoaringBitmap::new() } else { usage.devices.clone() },
                seconds: if counts { usage.seat_seconds } else { 0 },
                peak: (counts && usage.peak > 0).then_some((key, usage.peak, usage.peak_at)),
            };
            let of_sku = of_skus.entry(sku.id.clone()).or_insert_with(|| OfSku {
                sku: sku.clone(),
                all: Sum::default(),
                by_customer: BTreeMap::new(),
            });
            of_sku.all.add(who, &paid);
            of_sku.all.add_seats(&seats);
            // Of those of whom nothing else is said, it is whose place it is.
            let rest = (who - attributes.assigned(), &paid - attributes.assigned());
            let customers = attributes.rules().customers_of(place);
            let of_place = customers.iter().map(|customer| Some(*customer)).chain(customers.is_empty().then_some(None));
            for customer in of_place {
                let sum = of_sku.by_customer.entry(customer).or_default();
                sum.add(&rest.0, &rest.1);
                sum.add_seats(&seats);
            }
        }
        for of_sku in of_skus.values_mut() {
            for customer in 0..in_force.rules.customers.len() {
                let own = attributes.of_customer(customer);
                let (who, paid) = (&of_sku.all.who & own, &of_sku.all.paid & own);
                if !who.is_empty() {
                    of_sku.by_customer.entry(Some(customer)).or_default().add(&who, &paid);
                }
            }
            of_sku.by_customer.retain(|_, sum| !sum.is_empty());
        }
        of_skus.retain(|_, of_sku| !of_sku.all.is_empty());
        Ok(of_skus)
    }

    fn line(
        &self,
        connection: &mut dyn Connection,
        month: Month,
        in_force: &InForce,
        (customer, sku): (Option<usize>, &Sku),
        sum: Sum,
    ) -> Result<Line, StoreError> {
        let hour = |month: Month| self.calendar.start_of(month).div_euclid(3600);
        let peak = peak(connection, (hour(month), hour(month.next())), &sum.peaks)?;
        let people = in_force.people();
        Ok(Line {
            customer,
            sku: sku.clone(),
            users: people.known.of(&sum.who),
            paid: people.known.of(&sum.paid),
            elsewhere: RoaringBitmap::new(),
            devices: sum.devices.len(),
            peak,
            seat_seconds: sum.seat_seconds,
        })
    }
}

/// Notes who counts for a higher edition of the same product, for the same customer.
fn count_highest_editions(lines: &mut [Line]) {
    let mut products: HashMap<(Option<usize>, String), Vec<usize>> = HashMap::new();
    for (index, line) in lines.iter().enumerate() {
        if !line.sku.edition_of.is_empty() && matches!(line.sku.unit, Unit::User | Unit::UserOrDevice) {
            products.entry((line.customer, line.sku.edition_of.clone())).or_default().push(index);
        }
    }
    for mut editions in products.into_values() {
        editions.sort_by_key(|index| (std::cmp::Reverse(lines[*index].sku.rank), lines[*index].sku.id.clone()));
        let mut counted = RoaringBitmap::new();
        for index in editions {
            let line = &mut lines[index];
            line.elsewhere = &line.paid & &counted;
            counted |= &line.paid;
        }
    }
}
