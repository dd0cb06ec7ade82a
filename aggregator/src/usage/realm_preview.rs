//! How many people there would be if a license server belonged to another realm.

use hashbrown::HashSet;
use seatmeter_count::Month;

use super::open_sessions::usages;
use super::sources::who;
use super::{Filter, UsageError, UsageQuestions};
use crate::store::usage;

/// What changes if a license server belongs to another realm.
#[derive(Clone, Debug)]
pub struct RealmPreview {
    /// The realm so far.
    pub realm: String,
    /// The months in which there are other people than before: how many before, and how many after. The latest first.
    pub months: Vec<(Month, u64, u64)>,
}

impl UsageQuestions {
    /// Returns what changes if a license server belongs to another realm: the people of all license servers together.
    pub fn realm_preview(&self, license_server: &str, realm: &str) -> Result<RealmPreview, UsageError> {
        self.store.read(|connection| {
            let last = self.current_month();
            let first = usage::months(connection)?.and_then(|(first, _)| Month::from_number(first)).unwrap_or(last);
            let scope = self.scope(connection, &Filter::default(), (first.min(last), last))?;
            let fleet = &scope.fleet;
            let moved = fleet.must_be_named(license_server)?;
            let mut preview = RealmPreview { realm: moved.realm.clone(), months: Vec::new() };
            for (month, in_force) in scope.months.iter().rev() {
                let month = *month;
                let found = usages(connection, fleet, &self.calendar, month, month)?;
                let known = in_force.people();
                let (mut before, mut after) = (HashSet::new(), HashSet::new());
                for (key, usage) in &found {
                    let Some(server) = fleet.server_of(key.0).filter(|_| in_force.skus.contains_key(&key.2)) else {
                        continue;
                    };
                    for person in &known.known.of(who(usage, in_force.rules.person, fleet.is_asked(key.0))) {
                        let person = known.known.get(person);
                        before.insert((person.realm.as_str(), person.key.as_str()));
                        let realm = if server.id == moved.id { realm } else { person.realm.as_str() };
                        after.insert((realm, person.key.as_str()));
                    }
                }
                if before.len() != after.len() {
                    preview.months.push((month, before.len() as u64, after.len() as u64));
                }
            }
            Ok(preview)
        })
    }
}
