//! Unique users by SKU, in a month and over months.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use roaring::RoaringBitmap;
use seatmeter_count::Month;

use super::completeness::{Completeness, completeness};
use super::in_force::InForce;
use super::open_sessions::usages;
use super::peak::{Peak, peak};
use super::sources::{seen_elsewhere, who};
use super::{Filter, Scope, UsageError, UsageQuestions, now};
use crate::fleet::snapshot::FleetSnapshot;
use crate::rules::catalogue::Sku;
use crate::store::StoreError;
use crate::store::engine::Connection;
use crate::store::usage::{self, Usage, UsageKey};

/// The usage of one SKU in one month.
#[derive(Clone, Debug)]
pub struct SkuUsage {
    /// The month.
    pub month: Month,
    /// The SKU.
    pub sku: Sku,
    /// The license server; `None` if the row covers all and the question does not ask for rows by server.
    pub license_server: Option<String>,
    /// The number of people who count.
    pub unique_users: u64,
    /// Those of them who are free: all that they used of it is.
    pub free_users: u64,
    /// The number of hosts on which seats were held.
    pub devices: u64,
    /// The number of checkout lines.
    pub checkouts: u64,
    /// The number of denials; a retry counts with the denial that it repeats.
    pub denials: u64,
    /// The number of denial lines in the logs, retries included.
    pub denial_lines: u64,
    /// Seats times the seconds they were held.
    pub seat_seconds: u64,
    /// The most seats in use at once.
    pub peak: Peak,
    /// Whether the month is complete for the license servers behind the row.
    pub is_complete: bool,
    /// Whether any license server behind the row has reported in the month.
    pub is_reported: bool,
}

/// The answer for a month.
pub struct MonthlyUsage {
    /// The rows, ordered by SKU, then by license server.
    pub rows: Vec<SkuUsage>,
    /// The number of people who count in any row, each counted once.
    pub total_users: u64,
    /// Those of them who are free: all that they used is.
    pub free_users: u64,
    /// How complete the month is, for the license servers selected.
    pub completeness: Completeness,
    /// The last month with any usage; `None` if no month has any.
    pub latest_month: Option<Month>,
}

impl UsageQuestions {
    /// Returns the usage of a month, by SKU, or by SKU and license server.
    pub fn monthly(&self, month: Month, filter: &Filter, by_server: bool) -> Result<MonthlyUsage, UsageError> {
        self.refuse_future(month)?;
        self.store.read(|connection| {
            let scope = self.scope(connection, filter, (month, month))?;
            let server_id = scope.selection.server_id();
            let completeness = completeness(&scope.fleet, server_id, &self.calendar, month, now());
            let groups = self.groups(connection, &scope, (month, month), by_server)?;
            let (mut total_users, mut free_users) = (0, 0);
            if let Some(in_force) = scope.of(month) {
                total_users = in_force.count(groups.values().map(|group| &group.who));
                free_users = total_users - in_force.count(groups.values().map(|group| &group.paid));
            }
            let mut rows = self.rows(connection, groups)?;
            let judgement = Judgement::of(&completeness);
            rows.iter_mut().for_each(|row| judgement.pass_on(row));
            let latest_month = usage::months(connection)?.and_then(|(_, last)| Month::from_number(last));
            Ok(MonthlyUsage { rows, total_users, free_users, completeness, latest_month })
        })
    }

    /// Returns the usage of a range of months, both included, ordered by SKU, then by month. Every SKU has a row for
    /// every month.
    pub fn trend(&self, from: Month, through: Month, filter: &Filter) -> Result<Vec<SkuUsage>, UsageError> {
        self.refuse_future(through)?;
        self.store.read(|connection| {
            let scope = self.scope(connection, filter, (from, through))?;
            let groups = self.groups(connection, &scope, (from, through), false)?;
            let Scope { fleet, selection, .. } = scope;
            let mut rows = with_every_month(self.rows(connection, groups)?, from, through);
            let months = std::iter::successors(Some(from), |month| (*month < through).then(|| month.next()));
            let judgements: BTreeMap<Month, Judgement> = months
                .map(|month| {
                    let completeness = completeness(&fleet, selection.server_id(), &self.calendar, month, now());
                    (month, Judgement::overall(&completeness))
                })
                .collect();
            for row in &mut rows {
                if let Some(judgement) = judgements.get(&row.month) {
                    judgement.pass_on(row);
                }
            }
            Ok(rows)
        })
    }

    /// Returns the selected usage by SKU, month and, if asked for, license server.
    fn groups(
        &self,
        connection: &mut dyn Connection,
        scope: &Scope,
        (from, through): (Month, Month),
        by_server: bool,
    ) -> Result<BTreeMap<GroupKey, Group>, StoreError> {
        let Scope { fleet, selection, .. } = scope;
        let mut groups: BTreeMap<GroupKey, Group> = BTreeMap::new();
        let found = usages(connection, fleet, &self.calendar, from, through)?;
        let seen_elsewhere = seen_elsewhere(&found, fleet);
        let free = free_of_months(scope, &found);
        for (key, mut usage) in found {
            if seen_elsewhere.contains(&key) {
                (usage.seat_seconds, usage.peak) = (0, 0);
            }
            let (Some(server), Some(month)) = (fleet.server_of(key.0), Month::from_number(key.1)) else { continue };
            let Some(in_force) = scope.of(month) else { continue };
            let Some(sku) = in_force.skus.get(&key.2).filter(|sku| selection.has(server, sku)) else { continue };
            let who = who(&usage, in_force.rules.person, fleet.is_asked(key.0)).clone();
            let is_free = in_force.attributes().known.rules().is_free(in_force.place(server, key.2));
            let paid = match free.get(&month) {
                _ if is_free => RoaringBitmap::new(),
                Some(free) => &who - free,
                None => who.clone(),
            };
            let server = (by_server || selection.server.is_some()).then(|| server.name.clone());
            groups
                .entry((sku.id.clone(), month, server))
                .or_insert_with(|| Group::new(sku.clone(), in_force.clone()))
                .add(key, usage, who, paid);
        }
        Ok(groups)
    }

    fn rows(
        &self,
        connection: &mut dyn Connection,
        groups: BTreeMap<GroupKey, Group>,
    ) -> Result<Vec<SkuUsage>, StoreError> {
        let mut rows = Vec::new();
        for ((_, month, license_server), group) in groups {
            let hour = |month: Month| self.calendar.start_of(month).div_euclid(3600);
            let peak = peak(connection, (hour(month), hour(month.next())), &group.peaks)?;
            let unique_users = group.in_force.count([&group.who].into_iter());
            if unique_users + group.sum.outs + group.sum.denial_lines > 0 {
                rows.push(group.row(month, license_server, unique_users, peak));
            }
        }
        Ok(rows)
    }
}

/// SKU, month and license server.
type GroupKey = (String, Month, Option<String>);

/// The usage that makes up a row.
struct Group {
    sku: Sku,
    /// The rules of its month.
    in_force: Arc<InForce>,
    sum: Usage,
    /// The identities that count.
    who: RoaringBitmap,
    /// Those of them that used anything that is not free.
    paid: RoaringBitmap,
    /// The peak of each feature of each log, and its moment.
    peaks: Vec<(UsageKey, u64, i64)>,
}

impl Group {
    fn new(sku: Sku, in_force: Arc<InForce>) -> Self {
        let [who, paid] = Default::default();
        Self { sku, in_force, sum: Usage::default(), who, paid, peaks: Vec::new() }
    }

    fn add(&mut self, key: UsageKey, usage: Usage, who: RoaringBitmap, paid: RoaringBitmap) {
        // A feature of which no seat was in use does not make the peak of others less exact.
        if usage.peak > 0 {
            self.peaks.push((key, usage.peak, usage.peak_at));
        }
        unite(&mut self.who, who);
        unite(&mut self.paid, paid);
        let sum = &mut self.sum;
        sum.outs += usage.outs;
        sum.denial_lines += usage.denial_lines;
        sum.denials += usage.denials;
        sum.seat_seconds += usage.seat_seconds;
        unite(&mut sum.devices, usage.devices);
    }

    fn row(self, month: Month, license_server: Option<String>, unique_users: u64, peak: Peak) -> SkuUsage {
        SkuUsage {
            month,
            license_server,
            unique_users,
            free_users: unique_users - self.in_force.count([&self.paid].into_iter()),
            sku: self.sku,
            devices: self.sum.devices.len(),
            checkouts: self.sum.outs,
            denials: self.sum.denials,
            denial_lines: self.sum.denial_lines,
            seat_seconds: self.sum.seat_seconds,
            peak,
            is_complete: false,
            is_reported: true,
        }
    }
}

/// Adds the set `other` to `sum`. Moves it instead of merging if `sum` is empty.
pub(super) fn unite(sum: &mut RoaringBitmap, other: RoaringBitmap) {
    if sum.is_empty() { *sum = other } else { *sum |= other }
}

/// Whether one or several license servers are complete, and whether any has reported, for a month.
type Verdict = (bool, bool);

/// The completeness of the rows of one month.
struct Judgement {
    /// The verdict for rows over all selected license servers.
    overall: Verdict,
    /// The verdict for rows of one license server, by the server's name.
    by_server: HashMap<String, Verdict>,
}

impl Judgement {
    fn overall(completeness: &Completeness) -> Self {
        Self { overall: (completeness.is_complete(), completeness.has_reported()), by_server: HashMap::new() }
    }

    fn of(completeness: &Completeness) -> Self {
        let servers = completeness.servers.iter();
        let by_server = servers
            .map(|server| (server.license_server.clone(), (server.is_complete(), server.has_reported)))
            .collect();
        Self { by_server, ..Self::overall(completeness) }
    }

    /// Sets whether a row is complete and reported. A row with figures counts as reported, even if a clock that was set
    /// back suggests otherwise.
    fn pass_on(&self, row: &mut SkuUsage) {
        let own = row.license_server.as_ref().and_then(|name| self.by_server.get(name));
        let (is_complete, has_reported) = *own.unwrap_or(&self.overall);
        row.is_complete = is_complete;
        row.is_reported = has_reported || row.unique_users + row.checkouts + row.denial_lines > 0;
    }
}

/// Adds an empty row for each month of a range that a SKU has no row for. The rows are ordered by SKU, then by month.
fn with_every_month(rows: Vec<SkuUsage>, from: Month, through: Month) -> Vec<SkuUsage> {
    let mut filled: Vec<SkuUsage> = Vec::new();
    for rows in rows.chunk_by(|a, b| a.sku.id == b.sku.id) {
        let mut known = rows.iter().peekable();
        let mut month = from;
        while month <= through {
            match known.next_if(|row| row.month == month) {
                Some(row) => filled.push(row.clone()),
                None => filled.push(without_usage(&rows[0], month)),
            }
            month = month.next();
        }
    }
    filled
}

fn without_usage(like: &SkuUsage, month: Month) -> SkuUsage {
    SkuUsage {
        month,
        sku: like.sku.clone(),
        license_server: like.license_server.clone(),
        unique_users: 0,
        free_users: 0,
        devices: 0,
        checkouts: 0,
        denials: 0,
        denial_lines: 0,
        seat_seconds: 0,
        peak: Peak::NONE,
        is_complete: false,
        is_reported: true,
    }
}

/// Returns the identities whose use is free wherever it is, of each month in which there are any.
fn free_of_months(scope: &Scope, found: &[(UsageKey, Usage)]) -> HashMap<Month, RoaringBitmap> {
    let months = scope.months.iter();
    let free = months.map(|(month, in_force)| (*month, free_of(in_force, &scope.fleet, *month, found)));
    free.filter(|(_, free)| !free.is_empty()).collect()
}

/// Returns the identities whose use is free wherever it is, in a month.
pub(super) fn free_of(
    in_force: &InForce,
    fleet: &FleetSnapshot,
    month: Month,
    found: &[(UsageKey, Usage)],
) -> RoaringBitmap {
    in_force.free(|| {
        let attributes = in_force.attributes();
        // Who uses what is free for everybody needs no place among those whom a cap lets be free.
        let is_paid = |key: &UsageKey| {
            let place = fleet.server_of(key.0).map(|server| in_force.place(server, key.2));
            place.is_some_and(|place| !attributes.known.rules().is_free(place))
        };
        let is_meant = |key: &UsageKey| key.1 == month.number() && in_force.skus.contains_key(&key.2) && is_paid(key);
        let of_month = found.iter().filter(|(key, _)| is_meant(key));
        let sets = of_month.map(|(key, usage)| who(usage, in_force.rules.person, fleet.is_asked(key.0)));
        sets.fold(RoaringBitmap::new(), |all, set| all | set)
    })
}
