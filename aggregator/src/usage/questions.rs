//! Monthly usage, trends and activity.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use hashbrown::HashMap;
use jiff::Timestamp;
use roaring::RoaringBitmap;
use seatmeter_count::Month;
use seatmeter_proto::timestamp;
use seatmeter_proto::v1::{Activity, Basis, Completeness, SkuUsage};

use super::catalogue::Sku;
use super::month::{self, Fleet};
use super::people::{DomainRule, People};
use super::rules::PersonRule;
use super::{Usage, complete, is_named};
use crate::store::engine::Connection;
use crate::store::names;
use crate::store::received::LicenseServer;
use crate::store::usage::{self, UsageKey};
use crate::store::{StoreError, received};

/// What of the usage is asked for.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only this license server, whatever the case of its name; empty is all.
    pub license_server: String,
    /// Only this SKU; empty is all.
    pub sku: String,
}

impl Filter {
    pub(super) fn lets_through(&self, server: &LicenseServer, sku: &Sku) -> bool {
        is_named(&self.license_server, server) && (self.sku.is_empty() || self.sku == sku.id)
    }
}

/// A month's answer.
pub struct MonthAnswer {
    /// By SKU, then license server.
    pub rows: Vec<SkuUsage>,
    /// How complete the month is.
    pub completeness: Completeness,
    /// The last month with any usage.
    pub latest_month: Option<Month>,
}

impl Usage {
    /// The month that is now.
    pub fn current_month(&self) -> Month {
        self.calendar.clone().month(Timestamp::now().as_second())
    }

    /// By which rules answers are made.
    pub fn basis(&self) -> Basis {
        let domains = match self.rules.identity.domains {
            DomainRule::Keep => "keep",
            DomainRule::Truncate => "truncate",
            DomainRule::Map => "map",
        };
        Basis {
            time_zone: self.calendar.zone().iana_name().unwrap_or("UTC").to_owned(),
            person_rule: self.rules.person.name().to_owned(),
            domain_rule: domains.to_owned(),
            rules_version: self.rules.version.clone(),
            aggregator_version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// A month's usage by SKU, or by SKU and license server.
    pub fn monthly(&self, month: Month, filter: &Filter, by_server: bool) -> Result<MonthAnswer, StoreError> {
        self.store.read(|connection| {
            self.meet(connection)?;
            let fleet = Fleet::read(connection)?;
            let agents = received::agents(connection)?;
            let completeness = complete::completeness(&fleet, &agents, &self.calendar, month, Timestamp::now());
            let rows = self.rows(connection, &fleet, (month, month), filter, by_server)?;
            let rows = rows.into_iter().map(|row| with_completeness(row, &completeness)).collect();
            let latest_month = usage::months(connection)?.and_then(|(_, last)| Month::from_number(last));
            Ok(MonthAnswer { rows, completeness, latest_month })
        })
    }

    /// The usage of a range of months by SKU; a month in which a SKU was not used has a row with zeros, from its first
    /// use on.
    pub fn trend(&self, from: Month, through: Month, filter: &Filter) -> Result<Vec<SkuUsage>, StoreError> {
        self.store.read(|connection| {
            self.meet(connection)?;
            let fleet = Fleet::read(connection)?;
            let agents = received::agents(connection)?;
            let mut rows = self.rows(connection, &fleet, (from, through), filter, false)?;
            let mut complete: HashMap<String, Completeness> = HashMap::new();
            let mut month = from;
            while month <= through {
                let completeness = complete::completeness(&fleet, &agents, &self.calendar, month, Timestamp::now());
                complete.insert(month.to_string(), completeness);
                month = month.next();
            }
            rows.sort_by(|a, b| (&a.sku, &a.month).cmp(&(&b.sku, &b.month)));
            let rows = with_empty_months(rows, through);
            let judged = rows.into_iter().map(|row| match complete.get(&row.month) {
                Some(completeness) => with_completeness(row, completeness),
                None => row,
            });
            Ok(judged.collect())
        })
    }

    /// The figures of a scan, by license server, month, daemon and feature.
    pub fn activity(&self, license_server: &str, month: Option<Month>) -> Result<Vec<Activity>, StoreError> {
        self.store.read(|connection| {
            let fleet = Fleet::read(connection)?;
            let features = names::features_from(connection, 0)?;
            let Some((first, last)) = usage::months(connection)? else { return Ok(Vec::new()) };
            let bounds = (Month::from_number(first), Month::from_number(last));
            let (Some(from), Some(through)) = (month.or(bounds.0), month.or(self.last_month(&fleet, bounds.1))) else {
                return Ok(Vec::new());
            };
            let mut sums: BTreeMap<(String, Month, u32), usage::Usage> = BTreeMap::new();
            for ((log, number, feature), usage) in month::usages(connection, &fleet, &self.calendar, from, through)? {
                let (Some(server), Some(month)) = (fleet.server_of(log), Month::from_number(number)) else { continue };
                if !is_named(license_server, server) {
                    continue;
                }
                let sum = sums.entry((server.name.clone(), month, feature)).or_default();
                sum.outs += usage.outs;
                sum.ins += usage.ins;
                sum.denial_lines += usage.denial_lines;
                sum.held |= usage.held;
                sum.checked_out |= usage.checked_out;
            }
            let mut rows: Vec<Activity> = sums
                .into_iter()
                .map(|((license_server, month, feature), usage)| {
                    let (daemon, feature) = match features.get(feature as usize) {
                        Some(feature) => (feature.daemon.clone(), feature.name.clone()),
                        None => (String::new(), String::new()),
                    };
                    Activity {
                        license_server,
                        month: month.to_string(),
                        daemon,
                        feature,
                        users_checked_out: usage.checked_out.len(),
                        users_held: usage.held.len(),
                        outs: usage.outs,
                        ins: usage.ins,
                        denials: usage.denial_lines,
                    }
                })
                .filter(|row| row.users_held + row.outs + row.ins + row.denials > 0)
                .collect();
            let key = |row: &Activity| {
                (row.license_server.clone(), row.month.clone(), row.daemon.clone(), row.feature.clone())
            };
            rows.sort_by_cached_key(key);
            Ok(rows)
        })
    }

    /// The last month of facts, or of a log with open sessions, which can go on after the last fact.
    fn last_month(&self, fleet: &Fleet, of_facts: Option<Month>) -> Option<Month> {
        let mut calendar = self.calendar.clone();
        let open = fleet.logs.iter().filter(|log| !fleet.open(log.id).is_empty());
        open.map(|log| calendar.month(log.last_line_at)).chain(of_facts).max()
    }

    fn rows(
        &self,
        connection: &mut dyn Connection,
        fleet: &Fleet,
        (from, through): (Month, Month),
        filter: &Filter,
        by_server: bool,
    ) -> Result<Vec<SkuUsage>, StoreError> {
        let skus = self.skus(connection)?;
        let mut groups: BTreeMap<(Month, String, String), Group> = BTreeMap::new();
        for (key, usage) in month::usages(connection, fleet, &self.calendar, from, through)? {
            let (Some(server), Some(month)) = (fleet.server_of(key.0), Month::from_number(key.1)) else { continue };
            let Some(Some(sku)) = skus.get(key.2 as usize) else { continue };
            if !filter.lets_through(server, sku) {
                continue;
            }
            let server = if by_server { server.name.clone() } else { String::new() };
            groups.entry((month, sku.id.clone(), server)).or_insert_with(|| Group::new(sku.clone())).add(key, usage);
        }
        let people = self.people.read().unwrap_or_else(PoisonError::into_inner);
        let mut rows = Vec::new();
        for ((month, _, server), group) in groups {
            let peak = self.peak(connection, month, &group)?;
            let row = group.row(month, server, &people, self.rules.person, peak);
            if row.unique_users + row.checkouts + row.denial_lines > 0 {
                rows.push(row);
            }
        }
        Ok(rows)
    }

    fn peak(&self, connection: &mut dyn Connection, month: Month, group: &Group) -> Result<Peak, StoreError> {
        if let [(_, peak, at)] = group.peaks.as_slice() {
            return Ok(Peak { seats: *peak, at: *at, is_exact: true });
        }
        let hour = |month: Month| self.calendar.start_of(month).div_euclid(3600);
        let (from, until) = (hour(month), hour(month.next()));
        let mut logs: Vec<i64> = group.peaks.iter().map(|(key, _, _)| key.0).collect();
        logs.dedup();
        let mut hours: HashMap<i64, (u64, u64, i64, u32)> = HashMap::new();
        for log in logs {
            for ((_, hour, feature), (peak, at)) in usage::peaks(connection, log, from, until)? {
                if group.peaks.iter().any(|(key, _, _)| key.0 == log && key.2 == feature) {
                    let (sum, largest, largest_at, parts) = hours.entry(hour).or_default();
                    *sum += peak;
                    *parts += u32::from(peak > 0);
                    if peak > *largest {
                        (*largest, *largest_at) = (peak, at);
                    }
                }
            }
        }
        let best = hours.into_iter().max_by_key(|(hour, (sum, ..))| (*sum, std::cmp::Reverse(*hour)));
        Ok(best.map_or(Peak { seats: 0, at: 0, is_exact: true }, |(_, (sum, _, at, parts))| Peak {
            seats: sum,
            at,
            is_exact: parts <= 1,
        }))
    }
}

struct Peak {
    seats: u64,
    at: i64,
    is_exact: bool,
}

/// What makes up a row.
struct Group {
    sku: Sku,
    sum: usage::Usage,
    peaks: Vec<(UsageKey, u64, i64)>,
}

impl Group {
    fn new(sku: Sku) -> Self {
        Self { sku, sum: usage::Usage::default(), peaks: Vec::new() }
    }

    fn add(&mut self, key: UsageKey, usage: usage::Usage) {
        self.peaks.push((key, usage.peak, usage.peak_at));
        let sum = &mut self.sum;
        sum.outs += usage.outs;
        sum.denial_lines += usage.denial_lines;
        sum.denials += usage.denials;
        sum.seat_seconds += usage.seat_seconds;
        unite(&mut sum.held, usage.held);
        unite(&mut sum.checked_out, usage.checked_out);
        unite(&mut sum.devices, usage.devices);
    }

    fn row(self, month: Month, license_server: String, people: &People, rule: PersonRule, peak: Peak) -> SkuUsage {
        let who = match rule {
            PersonRule::Held => &self.sum.held,
            PersonRule::CheckedOut => &self.sum.checked_out,
        };
        let unique_users = people.count(who);
        SkuUsage {
            month: month.to_string(),
            sku: self.sku.id,
            product: self.sku.product,
            catalogued: self.sku.catalogued,
            license_server,
            unique_users,
            free_users: 0,
            paid_users: unique_users,
            devices: self.sum.devices.len(),
            checkouts: self.sum.outs,
            denials: self.sum.denials,
            denial_lines: self.sum.denial_lines,
            seat_seconds: self.sum.seat_seconds,
            peak_concurrent: peak.seats,
            peak_at: (peak.seats > 0).then(|| timestamp(peak.at)),
            peak_exact: peak.is_exact,
            complete: false,
            concurrent_model: self.sku.concurrent,
        }
    }
}

/// The union, without a copy where one of the two is empty.
fn unite(sum: &mut RoaringBitmap, other: RoaringBitmap) {
    if sum.is_empty() { *sum = other } else { *sum |= other }
}

fn with_completeness(mut row: SkuUsage, completeness: &Completeness) -> SkuUsage {
    row.complete = if row.license_server.is_empty() {
        completeness.complete
    } else {
        completeness.servers.iter().any(|server| server.license_server == row.license_server && server.complete)
    };
    row
}

/// Fills the months between a SKU's first use and the last month asked for.
fn with_empty_months(rows: Vec<SkuUsage>, through: Month) -> Vec<SkuUsage> {
    let mut filled: Vec<SkuUsage> = Vec::new();
    let mut rows = rows.into_iter().peekable();
    while let Some(row) = rows.next() {
        let next = rows.peek().filter(|next| next.sku == row.sku).and_then(|next| next.month.parse::<Month>().ok());
        let Ok(mut month) = row.month.parse::<Month>() else { continue };
        let empty = SkuUsage {
            sku: row.sku.clone(),
            product: row.product.clone(),
            catalogued: row.catalogued,
            concurrent_model: row.concurrent_model,
            peak_exact: true,
            ..SkuUsage::default()
        };
        filled.push(row);
        month = month.next();
        while month < next.unwrap_or(through.next()) {
            filled.push(SkuUsage { month: month.to_string(), ..empty.clone() });
            month = month.next();
        }
    }
    filled
}
