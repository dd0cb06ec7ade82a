//! Proves that the facts are the sum of the batches: recomputes them beside the store, and compares both.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use seatmeter_count::Calendar;

use super::horizon::Horizon;
use super::name_registry::NameRegistry;
use super::projection::Projection;
use crate::store::engine::Connection;
use crate::store::facts::{self, Fact};
use crate::store::facts_schema::{self, Origin};
use crate::store::projections::{self, Projected};
use crate::store::streams::{self, Stream};
use crate::store::usage::{self, UsageKey};
use crate::store::{Failure, Store, StoreError, in_transaction, pools, received};

/// The result of a verification.
#[derive(Debug, Default)]
pub struct Verification {
    /// The number of facts, usages and hours compared.
    pub compared: u64,
    /// The differences in words, for people; at most [`MAX_DIFFERENCES`] per log.
    pub differences: Vec<String>,
    /// The names of the logs that were not verified, since their facts are being rebuilt.
    pub pending: Vec<String>,
}

/// The most differences listed per log.
pub const MAX_DIFFERENCES: usize = 10;

/// Recomputes the facts of all logs in the empty folder `scratch`, and compares them with those of the store. Works on
/// one consistent state, and can run beside a running aggregator.
pub fn verify(store: &Store, calendar: &Calendar, scratch: &Path) -> Result<Verification, StoreError> {
    let beside = Store::open_embedded(scratch)?;
    let zone = calendar.zone().iana_name().unwrap_or("UTC").to_owned();
    let (mut facts, _) = beside.projector(&Origin { incarnation: String::new(), time_zone: zone.clone() })?;
    let mut verification = Verification::default();
    store.read(|stored| {
        let stored_zone = facts_schema::time_zone(stored)?;
        if stored_zone.as_ref().is_some_and(|stored| *stored != zone) {
            let reason = format!(
                "the figures are of the time zone {}, and the configuration says {zone}: restart the aggregator, which \
                 rebuilds them, then verify",
                stored_zone.unwrap_or_default()
            );
            return Err(StoreError::new(Failure::Permanent, reason));
        }
        let registry = NameRegistry::load(stored)?;
        let now = Timestamp::now().as_second();
        let horizon = Horizon::stored(stored)?.unwrap_or(Horizon::at(now));
        let mut again = Projection::new(calendar.clone(), registry, horizon);
        let followed = facts_schema::projected_through(stored)?;
        let projected: BTreeMap<i64, Projected> = projections::projections(stored)?.into_iter().collect();
        for log in received::logs(stored)? {
            let kept = projected.get(&log.id).cloned().unwrap_or_default();
            let is_dated = |stream: &Stream| stream.first_day.is_some() && stream.mark > 0;
            let is_new = !projected.contains_key(&log.id);
            let is_due = is_new && streams::streams_of_log(stored, log.id)?.iter().any(is_dated);
            if kept.rebuilds != log.rebuilds || is_due {
                verification.pending.push(log.name.clone());
                continue;
            }
            let through = followed.max(kept.through);
            in_transaction(facts.as_mut(), |facts| {
                again.project(stored, facts, &log, through, &mut || Ok(()))?;
                again.write(facts)
            })?;
            again.written();
            let made = again.projected(log.id);
            let mut report = Report { log: &log.name, verification: &mut verification, told: 0 };
            report.check(kept.state == made.state || kept == Projected::default(), || "open sessions differ".into());
            report.check(kept.last_line_at == made.last_line_at, || "the last line differs".into());
            compare(stored, facts.as_mut(), log.id, &mut report)?;
        }
        Ok::<_, StoreError>(())
    })?;
    Ok(verification)
}

struct Report<'a> {
    log: &'a str,
    verification: &'a mut Verification,
    told: usize,
}

impl Report<'_> {
    fn check(&mut self, is_same: bool, what: impl FnOnce() -> String) {
        self.verification.compared += 1;
        if !is_same && self.told < MAX_DIFFERENCES {
            self.told += 1;
            self.verification.differences.push(format!("{}: {}", self.log, what()));
        }
    }
}

fn compare(
    archive: &mut dyn Connection,
    again: &mut dyn Connection,
    id: i64,
    report: &mut Report<'_>,
) -> Result<(), StoreError> {
    let mut facts_again: BTreeMap<(UsageKey, u32), Fact> = BTreeMap::new();
    facts::each_fact(again, id, &mut |fact| {
        facts_again.insert((fact.key, fact.identity), fact);
        Ok(())
    })?;
    facts::each_fact(archive, id, &mut |fact| {
        let made = facts_again.remove(&(fact.key, fact.identity));
        report.check(made.as_ref() == Some(&fact), || format!("stored {fact:?}, recomputed {made:?}"));
        Ok(())
    })?;
    for fact in facts_again.into_values() {
        report.check(false, || format!("missing: {fact:?}"));
    }

    let (stored_licenses, made_licenses) = (pools::all(archive, id)?, pools::all(again, id)?);
    report.check(stored_licenses == made_licenses, || "the licenses differ".into());

    let of_log = |connection: &mut dyn Connection| -> Result<_, StoreError> {
        let mut usages = usage::usage_of_months(connection, i32::MIN, i32::MAX)?;
        usages.retain(|((log, _, _), _)| *log == id);
        Ok((usages, usage::peaks(connection, id, i64::MIN, i64::MAX)?))
    };
    let (stored_usages, stored_hours) = of_log(archive)?;
    let (made_usages, made_hours) = of_log(again)?;
    report.check(stored_usages.len() == made_usages.len(), || "the number of features and months differs".into());
    for (stored, made) in stored_usages.iter().zip(&made_usages) {
        report.check(stored == made, || format!("feature {} in month {}: the sums differ", stored.0.2, stored.0.1));
    }
    report.check(stored_hours.len() == made_hours.len(), || "the number of hours differs".into());
    for (stored, made) in stored_hours.iter().zip(&made_hours) {
        report.check(stored == made, || {
            format!("hour {:?}: the peaks differ: stored {:?}, recomputed {:?}", stored.0, stored.1, made.1)
        });
    }
    Ok(())
}
