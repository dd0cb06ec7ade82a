//! Alerts: warnings that lasted, told when they are raised and when they are cleared, and not each time that something flickers.

use std::collections::BTreeMap;

use super::ServerReport;
use super::warnings::{Kind, Severity, Warning};

/// In how many looks in a row a warning must be found until it is an alert.
const RAISED_AFTER: u32 = 2;

/// In how many looks in a row it must be missing until the alert is cleared.
const CLEARED_AFTER: u32 = 3;

/// What an alert is known by: the license server's name, case folded, and what the warning speaks of.
pub type Key = (String, Kind, String, String);

/// A warning that lasted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// The license server.
    pub license_server: String,
    /// What it speaks of.
    pub warning: Warning,
    /// When it was raised, in seconds since 1970 UTC.
    pub raised_at: i64,
}

/// The alerts that are raised now.
pub type Open = BTreeMap<Key, Alert>;

/// What is looked at, look by look.
#[derive(Default)]
pub struct Alerts {
    open: Open,
    /// How often in a row each warning was found that is no alert, or an alert's was missing.
    looks: BTreeMap<Key, u32>,
    /// Whether there was a look before: of what the first one finds, nobody knows how long it has lasted.
    has_looked: bool,
}

impl Alerts {
    /// Takes a look at the fleet, at a moment in seconds since 1970 UTC. Returns the alerts that are raised now.
    pub fn look(&mut self, fleet: &[ServerReport], now: i64) -> &Open {
        let found = fleet.iter().flat_map(|server| {
            let urgent = server.warnings.iter().filter(|warning| warning.severity >= Severity::Warning);
            urgent.map(move |warning| {
                let key = (server.key.clone(), warning.kind, warning.subject.clone(), warning.other.clone());
                let (license_server, warning) = (server.name.clone(), warning.clone());
                (key, Alert { license_server, warning, raised_at: now })
            })
        });
        let found: Open = found.collect();
        self.looks.retain(|key, _| found.contains_key(key) != self.open.contains_key(key));
        let missing: Vec<Key> = self.open.keys().filter(|key| !found.contains_key(*key)).cloned().collect();
        for key in missing {
            if self.has_lasted(&key, CLEARED_AFTER) {
                self.open.remove(&key);
            }
        }
        for (key, alert) in found {
            if let Some(open) = self.open.get_mut(&key) {
                // The figures in it change; when it was raised does not.
                open.warning = alert.warning;
            } else if !self.has_looked || self.has_lasted(&key, RAISED_AFTER) {
                self.open.insert(key, alert);
            }
        }
        self.has_looked = true;
        &self.open
    }

    /// Counts a look. Returns whether there were so many in a row.
    fn has_lasted(&mut self, key: &Key, looks: u32) -> bool {
        let counted = self.looks.entry(key.clone()).or_default();
        *counted += 1;
        let has_lasted = *counted >= looks;
        if has_lasted {
            self.looks.remove(key);
        }
        has_lasted
    }
}

/// Returns the alerts that are in `after` and not in `before`.
pub fn added<'a>(before: &'a Open, after: &'a Open) -> impl Iterator<Item = &'a Alert> {
    after.iter().filter(|(key, _)| !before.contains_key(*key)).map(|(_, alert)| alert)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Came;
    use super::super::report::ReportState;
    use super::*;

    fn fleet(has_warning: bool) -> Vec<ServerReport> {
        let warning = Warning {
            kind: Kind::NoLines,
            severity: Severity::Warning,
            subject: "log".into(),
            count: 0,
            other: String::new(),
            detail: String::new(),
            since: None,
        };
        vec![ServerReport {
            came: Came::default(),
            concurrent_in_use: Vec::new(),
            name: "LIC01".into(),
            key: "lic01".into(),
            realm: String::new(),
            last_report: None,
            last_line: None,
            lines: [0; 3],
            open_sessions: 0,
            logs: Vec::new(),
            state: ReportState::Ok,
            expected_from: None,
            retired_from: None,
            namesakes: Vec::new(),
            warnings: has_warning.then_some(warning).into_iter().collect(),
        }]
    }

    proptest! {
        /// An alert is raised once its warning was found twice in a row, or in the first look, and cleared once it was missing three times
        /// in a row.
        #[test]
        fn alerts_do_not_flicker(looks in proptest::collection::vec(any::<bool>(), 0..40)) {
            let mut alerts = Alerts::default();
            let (mut is_raised, mut in_a_row) = (false, 0);
            for (now, found) in (0..).zip(looks) {
                in_a_row = if found == is_raised { 0 } else { in_a_row + 1 };
                if in_a_row >= if is_raised { 3 } else { 2 } || (now == 0 && found) {
                    (is_raised, in_a_row) = (!is_raised, 0);
                }
                prop_assert_eq!(alerts.look(&fleet(found), now).len(), usize::from(is_raised));
            }
        }
    }

    #[test]
    fn an_alert_keeps_the_moment_at_which_it_was_raised() {
        let mut alerts = Alerts::default();
        let mut open = Open::new();
        for now in 10..20 {
            open = alerts.look(&fleet(true), now).clone();
        }
        assert_eq!(open.values().map(|alert| alert.raised_at).collect::<Vec<_>>(), [10]);
    }
}
