//! The figures of the logs, without any rule: those of `seatmeter-agent scan`, by license server.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use seatmeter_count::Month;

use super::monthly::unite;
use super::open_sessions::usages;
use super::{UsageError, UsageQuestions};
use crate::fleet::snapshot::FleetSnapshot;
use crate::store::names::{self, Feature};
use crate::store::usage::{self, Usage};

/// The usage of one feature in one month, from the logs of one license server.
#[derive(Clone, Debug)]
pub struct Activity {
    /// The license server.
    pub license_server: String,
    /// The month.
    pub month: Month,
    /// The vendor daemon.
    pub daemon: String,
    /// The feature.
    pub feature: String,
    /// The number of user names, ignoring case, that checked out a seat.
    pub users_checked_out: u64,
    /// The number of user names, ignoring case, that held a seat.
    pub users_held: u64,
    /// Checkout lines.
    pub checkouts: u64,
    /// Checkin lines.
    pub checkins: u64,
    /// Denial lines.
    pub denial_lines: u64,
    /// Denials; a retry counts with the one that it repeats.
    pub denials: u64,
}

impl UsageQuestions {
    /// Returns the activity of one license server, or of all if the name is empty; in one month, or in all if `month`
    /// is `None`. Ordered by license server, month, daemon and feature.
    pub fn activity(&self, license_server: &str, month: Option<Month>) -> Result<Vec<Activity>, UsageError> {
        if let Some(month) = month {
            self.refuse_future(month)?;
        }
        self.store.read(|connection| {
            let fleet = FleetSnapshot::read(connection)?.counted();
            let named = fleet.named(license_server)?.map(|server| server.id);
            let Some((from, through)) = self.range(&fleet, month, usage::months(connection)?) else {
                return Ok(Vec::new());
            };
            let mut sums: BTreeMap<(&str, Month, u32), Usage> = BTreeMap::new();
            for ((log, number, feature), usage) in usages(connection, &fleet, &self.calendar, from, through)? {
                let (Some(server), Some(month)) = (fleet.server_of(log), Month::from_number(number)) else { continue };
                if named.is_none_or(|id| id == server.id) {
                    let sum = sums.entry((&server.name, month, feature)).or_default();
                    sum.outs += usage.outs;
                    sum.ins += usage.ins;
                    sum.denial_lines += usage.denial_lines;
                    sum.denials += usage.denials;
                    unite(&mut sum.held, usage.held);
                    unite(&mut sum.checked_out, usage.checked_out);
                }
            }
            let features: HashMap<u32, Feature> =
                names::features_from(connection, 0)?.into_iter().map(|feature| (feature.id, feature)).collect();
            let mut rows: Vec<Activity> = sums
                .into_iter()
                .filter_map(|((server, month, id), usage)| Some(row(server, month, features.get(&id)?, &usage)))
                .filter(|row| row.users_held + row.checkouts + row.checkins + row.denial_lines > 0)
                .collect();
            rows.sort_by(|a, b| a.key().cmp(&b.key()));
            Ok(rows)
        })
    }

    /// Returns the first and the last month to read: the month asked for, or all months with facts or open sessions.
    fn range(&self, fleet: &FleetSnapshot, asked: Option<Month>, facts: Option<(i32, i32)>) -> Option<(Month, Month)> {
        if let Some(month) = asked {
            return Some((month, month));
        }
        let (first, last) = facts?;
        // A log with open sessions can go on after the last fact.
        let mut calendar = self.calendar.clone();
        let open = fleet.logs.iter().filter(|log| !fleet.open(log.id).is_empty());
        let last = open.map(|log| calendar.month(fleet.last_line_at(log.id))).chain(Month::from_number(last)).max()?;
        Some((Month::from_number(first)?, last))
    }
}

impl Activity {
    /// Returns the key by which rows are ordered.
    pub fn key(&self) -> (&str, Month, &str, &str) {
        (&self.license_server, self.month, &self.daemon, &self.feature)
    }
}

fn row(license_server: &str, month: Month, feature: &Feature, usage: &Usage) -> Activity {
    Activity {
        license_server: license_server.to_owned(),
        month,
        daemon: feature.daemon.clone(),
        feature: feature.name.clone(),
        users_checked_out: usage.checked_out.len(),
        users_held: usage.held.len(),
        checkouts: usage.outs,
        checkins: usage.ins,
        denial_lines: usage.denial_lines,
        denials: usage.denials,
    }
}
