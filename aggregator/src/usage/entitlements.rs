//! Which licenses there are, how many of them are used, and when they expire.

use std::collections::BTreeMap;

use hashbrown::{HashMap, HashSet};
use roaring::RoaringBitmap;
use seatmeter_count::name::fold_case;
use seatmeter_count::{Day, Month};
use seatmeter_proto::v1::LicensePool;

use super::in_force::InForce;
use super::monthly::unite;
use super::open_sessions::usages;
use super::peak::peak;
use super::sources::{seen_elsewhere, who};
use super::{Filter, Scope, UsageError, UsageQuestions, now};
use crate::fleet::report::Voices;
use crate::rules::catalogue::Catalogue;
use crate::store::StoreError;
use crate::store::engine::Connection;
use crate::store::names::{self, Feature};
use crate::store::pools;
use crate::store::usage::{Usage, UsageKey};

/// Licenses of one feature, of one version and one expiry, as one source tells them.
#[derive(Clone, Debug)]
pub struct Entitlement {
    /// The license server.
    pub license_server: String,
    /// The vendor daemon.
    pub daemon: String,
    /// The feature.
    pub feature: String,
    /// The SKU of the feature; empty if it never counts.
    pub sku: String,
    /// The log that tells them.
    pub log: String,
    /// The last day on which they can be used; `None` if it is not told, or if there is none.
    pub expires_on: Option<Day>,
    /// Whether they can be used for ever.
    pub permanent: bool,
    /// The highest version that they are for.
    pub version: String,
    /// How many there are; `None` if they are not counted.
    pub licenses: Option<u64>,
    /// Whether they cannot be used any more.
    pub is_expired: bool,
    /// The number of pools that make up these licenses.
    pub pools: u32,
    /// When the source last told other licenses than before, in seconds since 1970 UTC.
    pub told_at: i64,
    /// When the source last told anything, in seconds since 1970 UTC.
    pub last_told_at: i64,
    /// Whether that is so long ago that the licenses can be others by now.
    pub is_stale: bool,
    /// Whether nothing tells who uses licenses of the license server.
    pub is_use_unknown: bool,
    /// The licenses of the feature that the source tells and that can be used; `None` if some are not counted.
    pub usable: Option<u64>,
    /// The seats of the feature in use now; `None` for another day.
    pub in_use: Option<u64>,
    /// The most seats in use at once, in the month.
    pub peak: u64,
    /// The people who used the feature in the month.
    pub users: u64,
}

/// The licenses at the end of a day.
pub struct Entitlements {
    /// The day, in the billing time zone.
    pub day: Day,
    /// By license server, vendor daemon, feature, log, expiry and version.
    pub rows: Vec<Entitlement>,
}

/// A license server, and the case-folded name of a feature: a license file and a log can name the vendor daemon otherwise.
type FeatureName = (i64, String);

/// What tells the licenses of a feature apart: when they expire, and for which versions they are.
type Kind = (Option<Day>, bool, String);

/// The use of a feature in a month.
#[derive(Default)]
struct Use {
    who: RoaringBitmap,
    peaks: Vec<(UsageKey, u64, i64)>,
}

/// Licenses that are alike.
#[derive(Clone, Copy)]
struct Sum {
    licenses: Option<u64>,
    pools: u32,
}

impl Sum {
    const NOTHING: Self = Self { licenses: Some(0), pools: 0 };

    fn add(&mut self, licenses: Option<u32>) {
        self.licenses = self.licenses.zip(licenses).map(|(sum, more)| sum + u64::from(more));
        self.pools += 1;
    }
}

impl UsageQuestions {
    /// Returns the licenses that there were at the end of a day, or that there are now.
    pub fn entitlements(&self, filter: &Filter, day: Option<Day>) -> Result<Entitlements, UsageError> {
        let (now, mut calendar) = (now(), self.calendar.clone());
        let at = day.map_or(now, |day| now.min(calendar.start_of_day(day + 1) - 1));
        // Of a day to come, it is asked which of today's licenses can be used then.
        let (today, month) = (day.unwrap_or_else(|| calendar.day(at)), calendar.month(at));
        self.store.read(|connection| {
            let of_server = Filter { license_server: filter.license_server.clone(), sku: String::new() };
            let Scope { fleet, selection, months } = self.scope(connection, &of_server, (month, month))?;
            let Some(in_force) = months.get(&month) else { return Ok(Entitlements { day: today, rows: Vec::new() }) };
            let features = names::features_from(connection, 0)?;
            let found = usages(connection, &fleet, &self.calendar, month, month)?;
            let elsewhere = seen_elsewhere(&found, &fleet);
            let named: HashMap<u32, String> =
                features.iter().map(|feature| (feature.id, fold_case(&feature.name).into_owned())).collect();
            let mut used: HashMap<FeatureName, Use> = HashMap::new();
            for (key, usage) in &found {
                let Some((server, name)) = fleet.server_of(key.0).zip(named.get(&key.2)) else { continue };
                let of_feature = used.entry((server.id, name.clone())).or_default();
                let Usage { peak, peak_at, .. } = usage;
                if *peak > 0 && !elsewhere.contains(key) {
                    of_feature.peaks.push((*key, *peak, *peak_at));
                }
                unite(&mut of_feature.who, who(usage, in_force.rules.person, fleet.is_asked(key.0)).clone());
            }
            let mut in_use: HashMap<FeatureName, u64> = HashMap::new();
            for log in fleet.logs.iter().filter(|_| day.is_none()) {
                for session in fleet.open(log.id) {
                    let is_elsewhere = elsewhere.contains(&(log.id, month.number(), session.feature));
                    if let Some(name) = named.get(&session.feature).filter(|_| !is_elsewhere) {
                        *in_use.entry((log.server_id, name.clone())).or_default() += u64::from(session.seats);
                    }
                }
            }
            let mut rows = Vec::new();
            for server in &fleet.servers {
                let voices = Voices::of(&fleet, server, now);
                let is_use_unknown = fleet.logs_with_use(server.id).next().is_none();
                for log in fleet.logs_of(server.id) {
                    // What a source has told holds for as long as it is read.
                    let last_told_at = fleet.last_line_at(log.id);
                    let is_told = last_told_at >= at - fleet.late_after(log.id);
                    let told = pools::last(connection, log.id, at)?;
                    let Some(told) = told.filter(|_| is_told || !voices.leave_out(&log.name)) else { continue };
                    for ((daemon, feature), kinds) in by_feature(&told.licenses.pools, today) {
                        let usable = usable(&kinds, today);
                        for ((expires_on, permanent, version), sum) in kinds {
                            rows.push(Entitlement {
                                license_server: server.name.clone(),
                                daemon: daemon.clone(),
                                feature: feature.clone(),
                                sku: String::new(),
                                log: log.name.clone(),
                                expires_on,
                                permanent,
                                version,
                                licenses: sum.licenses,
                                is_expired: expires_on.is_some_and(|last| last < today),
                                pools: sum.pools,
                                told_at: told.at,
                                last_told_at: last_told_at.min(at),
                                is_stale: !is_told,
                                is_use_unknown,
                                usable,
                                in_use: None,
                                peak: 0,
                                users: 0,
                            });
                        }
                    }
                }
            }
            name_skus(&in_force.rules.catalogue, &mut rows, features);
            let wanted = fold_case(&filter.sku);
            if !rows.iter().any(|row| fold_case(&row.sku) == wanted) {
                // Of a SKU that is known otherwise, there are no licenses.
                self.select(&fleet, &months, filter)?;
            }
            rows.retain(|row| {
                selection.server.as_ref().is_none_or(|server| server.name == row.license_server)
                    && (wanted.is_empty() || fold_case(&row.sku) == wanted)
            });
            let servers: HashMap<&str, i64> = fleet.servers.iter().map(|server| (&*server.name, server.id)).collect();
            for row in &mut rows {
                let Some(server) = servers.get(&*row.license_server) else { continue };
                let name = (*server, fold_case(&row.feature).into_owned());
                row.in_use = (day.is_none() && !row.is_use_unknown).then(|| in_use.get(&name).copied().unwrap_or(0));
                if let Some(of_feature) = used.get(&name) {
                    (row.peak, row.users) = self.figures(connection, in_force, of_feature, month)?;
                }
            }
            rows.sort_by(|one, other| key(one).cmp(&key(other)));
            Ok(Entitlements { day: today, rows })
        })
    }

    /// Returns the peak and the people of a feature in a month.
    fn figures(
        &self,
        connection: &mut dyn Connection,
        in_force: &InForce,
        of: &Use,
        month: Month,
    ) -> Result<(u64, u64), StoreError> {
        let hour = |month: Month| self.calendar.start_of(month).div_euclid(3600);
        let peak = peak(connection, (hour(month), hour(month.next())), &of.peaks)?;
        Ok((peak.seats, in_force.count([&of.who].into_iter())))
    }
}

/// Sets the SKU of each row. A feature that nobody has used yet has one, too.
fn name_skus(catalogue: &Catalogue, rows: &mut [Entitlement], mut features: Vec<Feature>) {
    let known: HashSet<(String, String)> =
        features.iter().map(|feature| (feature.daemon.clone(), feature.name.clone())).collect();
    let unused: HashSet<(String, String)> =
        rows.iter().map(|row| (row.daemon.clone(), row.feature.clone())).filter(|row| !known.contains(row)).collect();
    let next = features.last().map_or(0, |feature| feature.id + 1);
    features.extend((next..).zip(unused).map(|(id, (daemon, name))| Feature { id, daemon, name }));
    let skus = catalogue.assign(&features);
    let skus: HashMap<(&str, &str), &str> = features
        .iter()
        .filter_map(|feature| Some(((&*feature.daemon, &*feature.name), &*skus.get(&feature.id)?.id)))
        .collect();
    for row in rows {
        row.sku = skus.get(&(&*row.daemon, &*row.feature)).map(|sku| (*sku).to_owned()).unwrap_or_default();
    }
}

fn key(row: &Entitlement) -> impl Ord {
    let names = [&row.license_server, &row.daemon, &row.feature, &row.log].map(|name| fold_case(name).into_owned());
    (names, row.expires_on.unwrap_or(Day::MAX), row.permanent, row.version.clone())
}

/// Adds up licenses by vendor daemon and feature, then by what tells them apart. Those that cannot be used yet are left out.
fn by_feature(pools: &[LicensePool], today: Day) -> BTreeMap<(String, String), BTreeMap<Kind, Sum>> {
    let mut found: BTreeMap<(String, String), BTreeMap<Kind, Sum>> = BTreeMap::new();
    for pool in pools.iter().filter(|pool| pool.starts_on.is_none_or(|first| first <= today)) {
        let kinds = found.entry((pool.daemon.clone(), pool.feature.clone())).or_default();
        let kind = (pool.expires_on, pool.permanent, pool.version.clone());
        kinds.entry(kind).or_insert(Sum::NOTHING).add(pool.licenses);
    }
    found
}

/// Returns how many licenses can be used; `None` if some are not counted.
fn usable(kinds: &BTreeMap<Kind, Sum>, today: Day) -> Option<u64> {
    let live = kinds.iter().filter(|((expires_on, ..), _)| expires_on.is_none_or(|last| last >= today));
    live.map(|(_, sum)| sum.licenses).sum()
}
