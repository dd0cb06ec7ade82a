//! What the facts say of a month, sessions that are still open included.

use hashbrown::HashMap;
use seatmeter_count::{Calendar, Month};

use crate::ingest::fold::{OpenSeat, Saved};
use crate::store::StoreError;
use crate::store::engine::Connection;
use crate::store::received::{self, Gaps, LicenseServer, Log, Stream};
use crate::store::usage::{self, Usage, UsageKey};

/// The license servers with their logs, and the sessions that are open: read once for a question.
pub struct Fleet {
    /// In the order of their names.
    pub servers: Vec<LicenseServer>,
    /// All logs.
    pub logs: Vec<Log>,
    /// All streams.
    pub streams: Vec<Stream>,
    /// How many gaps each stream has.
    pub gaps: Gaps,
    open: HashMap<i64, Vec<OpenSeat>>,
}

impl Fleet {
    /// Reads it.
    pub fn read(connection: &mut dyn Connection) -> Result<Self, StoreError> {
        let logs = received::logs(connection)?;
        let mut open = HashMap::new();
        for log in &logs {
            open.insert(log.id, Saved::read(&log.state)?.open().collect());
        }
        Ok(Self {
            servers: received::servers(connection)?,
            logs,
            streams: received::streams(connection)?,
            gaps: received::gaps(connection)?,
            open,
        })
    }

    /// The license server of a log.
    pub fn server_of(&self, log_id: i64) -> Option<&LicenseServer> {
        let log = self.logs.iter().find(|log| log.id == log_id)?;
        self.servers.iter().find(|server| server.id == log.server_id)
    }

    /// The sessions of a log that are open at its last line.
    pub fn open(&self, log_id: i64) -> &[OpenSeat] {
        self.open.get(&log_id).map_or(&[], Vec::as_slice)
    }

    /// The parts of open sessions that lie in a month.
    pub fn open_in(&self, month: Month, calendar: &Calendar) -> Vec<OpenPart> {
        let (start, end) = (calendar.start_of(month), calendar.start_of(month.next()));
        let mut parts = Vec::new();
        for log in &self.logs {
            for seat in self.open(log.id) {
                let through = log.last_line_at.max(seat.from);
                if seat.from < end && through >= start {
                    let (from, until) = (seat.from.max(start), through.min(end));
                    parts.push(OpenPart {
                        log_id: log.id,
                        seat: *seat,
                        from,
                        through: until.min(end - 1).max(from),
                        until,
                    });
                }
            }
        }
        parts
    }
}

/// The part of an open session that lies in a month.
pub struct OpenPart {
    /// In which log.
    pub log_id: i64,
    /// The session.
    pub seat: OpenSeat,
    /// Its first moment in the month.
    pub from: i64,
    /// Its last moment in the month.
    pub through: i64,
    /// Where it ends, or the month does.
    until: i64,
}

impl OpenPart {
    /// Seconds times seats.
    pub fn seat_seconds(&self) -> u64 {
        (self.until - self.from).max(0) as u64 * u64::from(self.seat.seats)
    }
}

/// The usage of all features in a range of months, open sessions included; by month, log and feature.
pub fn usages(
    connection: &mut dyn Connection,
    fleet: &Fleet,
    calendar: &Calendar,
    from: Month,
    through: Month,
) -> Result<Vec<(UsageKey, Usage)>, StoreError> {
    let mut found = usage::usage_of_months(connection, from.number(), through.number())?;
    let mut index: HashMap<UsageKey, usize> = found.iter().enumerate().map(|(index, (key, _))| (*key, index)).collect();
    let mut month = from;
    while month <= through {
        for part in fleet.open_in(month, calendar) {
            let key = (part.log_id, month.number(), part.seat.feature);
            let index = *index.entry(key).or_insert_with(|| {
                found.push((key, Usage::default()));
                found.len() - 1
            });
            let usage = &mut found[index].1;
            usage.seat_seconds += part.seat_seconds();
            usage.held.insert(part.seat.client.identity);
            usage.devices.insert(part.seat.client.device);
        }
        month = month.next();
    }
    found.sort_by_key(|((log, month, feature), _)| (*month, *log, *feature));
    Ok(found)
}
