//! Who holds seats now, as far as is known.

use hashbrown::HashMap;

use super::open_sessions::usages;
use super::sources::seen_elsewhere;
use super::{Filter, Scope, UsageError, UsageQuestions};
use crate::store::names::{self, Feature, NameKind};

/// A session that is not known to have ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeldNow {
    /// The license server.
    pub license_server: String,
    /// The vendor daemon.
    pub daemon: String,
    /// The feature.
    pub feature: String,
    /// The name that the source wrote.
    pub user: String,
    /// Since when the seats are held, in seconds since 1970 UTC.
    pub since: i64,
    /// The host; empty if no source tells it.
    pub host: String,
    /// The log that tells it.
    pub log: String,
    /// The number of seats; 0 where another session holds those that it shares.
    pub seats: u32,
    /// Through when that is known, in seconds since 1970 UTC.
    pub known_through: i64,
    /// The SKU of the feature; empty if it never counts.
    pub sku: String,
}

impl UsageQuestions {
    /// Returns who holds seats now, in order. Where several sources of a license server tell of a feature, it is the one whose seats count
    /// this month.
    pub fn held_now(&self, filter: &Filter) -> Result<Vec<HeldNow>, UsageError> {
        self.store.read(|connection| {
            let month = self.current_month();
            let Scope { fleet, selection, months } = self.scope(connection, filter, (month, month))?;
            let skus = months.get(&month).map(|in_force| &in_force.skus);
            let elsewhere = seen_elsewhere(&usages(connection, &fleet, &self.calendar, month, month)?, &fleet);
            let features = names::features_from(connection, 0)?.into_iter().map(|feature| (feature.id, feature));
            let features: HashMap<u32, Feature> = features.collect();
            let named = |names: Vec<names::Name>| names.into_iter().map(|name| (name.id, name.name)).collect();
            let users: HashMap<u32, String> = named(names::names_from(connection, NameKind::Identity, 0)?);
            let hosts: HashMap<u32, String> = named(names::names_from(connection, NameKind::Device, 0)?);
            let mut held = Vec::new();
            for log in &fleet.logs {
                let Some(server) = fleet.server_of(log.id) else { continue };
                for session in fleet.open(log.id) {
                    let sku = skus.and_then(|skus| skus.get(&session.feature));
                    let is_wanted = match sku {
                        Some(sku) => selection.has(server, sku),
                        None => selection.sku.is_none() && selection.server_id().is_none_or(|id| id == server.id),
                    };
                    if !is_wanted || elsewhere.contains(&(log.id, month.number(), session.feature)) {
                        continue;
                    }
                    let Some(feature) = features.get(&session.feature) else { continue };
                    held.push(HeldNow {
                        license_server: server.name.clone(),
                        daemon: feature.daemon.clone(),
                        feature: feature.name.clone(),
                        user: users.get(&session.client.identity).cloned().unwrap_or_default(),
                        since: session.from,
                        host: hosts.get(&session.client.device).cloned().unwrap_or_default(),
                        log: log.name.clone(),
                        seats: session.seats,
                        known_through: session.known_through(fleet.last_line_at(log.id)),
                        sku: sku.map(|sku| sku.id.clone()).unwrap_or_default(),
                    });
                }
            }
            held.sort();
            Ok(held)
        })
    }
}
