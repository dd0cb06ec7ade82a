//! Which source's measure counts, where several saw the same seats.
//!
//! The logs of a license server, and each license manager that is asked who holds what, can tell of the same sessions. People
//! and devices are those that any of them saw. Lines are counted in logs alone: an answer has none. But seats that two sources
//! saw were held once: of each feature and month, the source counts that saw the most, since none can see more than there was.

use std::collections::BTreeMap;

use hashbrown::HashSet;
use roaring::RoaringBitmap;

use crate::fleet::snapshot::FleetSnapshot;
use crate::rules::rule::PersonRule;
use crate::store::usage::{Usage, UsageKey};

/// A source of seats: all logs of a license server together, or one license manager that is asked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Logs,
    Asked(i64),
}

/// Returns the keys whose seats are not to be added, since another source of the same license server saw more of them.
pub(super) fn seen_elsewhere(usages: &[(UsageKey, Usage)], fleet: &FleetSnapshot) -> HashSet<UsageKey> {
    // The usual case.
    if usages.iter().all(|(key, _)| !fleet.is_asked(key.0)) {
        return HashSet::new();
    }
    let mut seats: BTreeMap<(i64, i32, u32), BTreeMap<Source, u64>> = BTreeMap::new();
    let place = |key: &UsageKey| {
        let source = if fleet.is_asked(key.0) { Source::Asked(key.0) } else { Source::Logs };
        Some(((fleet.server_of(key.0)?.id, key.1, key.2), source))
    };
    for (key, usage) in usages {
        if let Some((feature, source)) = place(key) {
            *seats.entry(feature).or_default().entry(source).or_default() += usage.seat_seconds;
        }
    }
    let best = |feature: &(i64, i32, u32)| {
        let sources = seats.get(feature)?;
        // Of equals, the first one: logs before answers.
        sources.iter().max_by_key(|(source, seats)| (**seats, std::cmp::Reverse(**source))).map(|(source, _)| *source)
    };
    let is_elsewhere = |key: &UsageKey| place(key).is_some_and(|(feature, source)| best(&feature) != Some(source));
    usages.iter().map(|(key, _)| *key).filter(is_elsewhere).collect()
}

/// Returns the identities of a usage that count by a rule. An answer tells who holds seats and no checkout: those who hold
/// them have checked them out.
pub(super) fn who(usage: &Usage, rule: PersonRule, is_asked: bool) -> &RoaringBitmap {
    match rule {
        PersonRule::CheckedOut if !is_asked => &usage.checked_out,
        _ => &usage.held,
    }
}
