//! The usage of sessions that are still open, which no fact contains yet.

use hashbrown::HashMap;
use seatmeter_count::{Calendar, Month};

use crate::fleet::snapshot::FleetSnapshot;
use crate::store::StoreError;
use crate::store::engine::Connection;
use crate::store::log_state::StoredSession;
use crate::store::names::NO_DEVICE;
use crate::store::usage::{self, Usage, UsageKey};

/// The part of an open session that lies in a month.
pub struct OpenPart {
    /// The id of the log.
    pub log_id: i64,
    /// The session.
    pub session: StoredSession,
    /// The first moment of the session within the month, in seconds since 1970 UTC.
    pub from: i64,
    /// The last moment of the session within the month, in seconds since 1970 UTC.
    pub through: i64,
    /// The end of the part: the last known moment of the session, or the end of the month if that is earlier.
    until: i64,
}

impl OpenPart {
    /// Returns the seats times the seconds they were held.
    pub fn seat_seconds(&self) -> u64 {
        (self.until - self.from).max(0) as u64 * u64::from(self.session.seats)
    }
}

/// Returns the parts of all open sessions that lie in a month.
pub fn open_in(fleet: &FleetSnapshot, month: Month, calendar: &Calendar) -> Vec<OpenPart> {
    let (start, end) = (calendar.start_of(month), calendar.start_of(month.next()));
    let mut parts = Vec::new();
    for log in &fleet.logs {
        for session in fleet.open(log.id) {
            let known_through = session.known_through(fleet.last_line_at(log.id));
            if session.from < end && known_through >= start {
                let (from, until) = (session.from.max(start), known_through.min(end));
                let through = until.min(end - 1).max(from);
                parts.push(OpenPart { log_id: log.id, session: *session, from, through, until });
            }
        }
    }
    parts
}

/// Returns the usage of all features in a range of months, open sessions included. Ordered by month, log and feature.
pub fn usages(
    connection: &mut dyn Connection,
    fleet: &FleetSnapshot,
    calendar: &Calendar,
    from: Month,
    through: Month,
) -> Result<Vec<(UsageKey, Usage)>, StoreError> {
    let mut found = usage::usage_of_months(connection, from.number(), through.number())?;
    let mut index: HashMap<UsageKey, usize> = found.iter().enumerate().map(|(index, (key, _))| (*key, index)).collect();
    let mut month = from;
    while month <= through {
        for part in open_in(fleet, month, calendar) {
            let key = (part.log_id, month.number(), part.session.feature);
            let index = *index.entry(key).or_insert_with(|| {
                found.push((key, Usage::default()));
                found.len() - 1
            });
            let usage = &mut found[index].1;
            usage.seat_seconds += part.seat_seconds();
            usage.held.insert(part.session.client.identity);
            if part.session.client.device != NO_DEVICE {
                usage.devices.insert(part.session.client.device);
            }
        }
        month = month.next();
    }
    found.sort_by_key(|((log, month, feature), _)| (*month, *log, *feature));
    Ok(found)
}
