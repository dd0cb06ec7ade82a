//! Writes the audit trail: what was asked before it is done, and what came of it.

use jiff::Timestamp;
use seatmeter_proto::audit::{Noted, hash, timestamp};
use seatmeter_proto::v1::AuditRecord;

use super::registrar::Registrar;
use crate::store::engine::Connection;
use crate::store::{StoreError, audit as store};

/// The most bytes of what a record says of a request.
const MOST_DETAIL: usize = 1000;

/// The result of what is about to be done, and of what was done.
pub const ASKED: &str = "asked";
/// See [`ASKED`].
pub const OK: &str = "ok";

/// What to write down.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// Who: an operator, or the license server of an agent; empty where nobody is known.
    pub who: String,
    /// The address; empty for what is done at the aggregator itself.
    pub address: String,
    /// The method, without its service.
    pub action: String,
    /// The fields of the request, without secrets.
    pub detail: String,
    /// What came of it.
    pub result: String,
    /// The number of the record that this one is the result of; 0 if it is none.
    pub result_of: i64,
}

/// The audit trail.
#[derive(Clone)]
pub struct Trail {
    registrar: Registrar,
}

impl Trail {
    /// Writes into this database.
    pub fn new(registrar: Registrar) -> Self {
        Self { registrar }
    }

    /// Writes a record. Once this returns, it is on disk. Returns its number.
    pub fn write(&self, entry: Entry) -> Result<i64, StoreError> {
        self.registrar.write(|connection| append(connection, entry))
    }

    /// Returns the last record's number and hash; `None` if there is none.
    pub fn head(&self) -> Result<Option<Noted>, StoreError> {
        let last = self.registrar.write(|connection| store::last(connection))?;
        Ok(last.map(|last| Noted { number: last.number, hash: last.hash }))
    }

    /// Returns up to `most` records after a number, the earliest first.
    pub fn after(&self, number: i64, most: u32) -> Result<Vec<AuditRecord>, StoreError> {
        self.registrar.write(|connection| store::after(connection, number, most))
    }

    /// Returns up to `most` records before a number, the latest first.
    pub fn before(&self, number: i64, most: u32) -> Result<Vec<AuditRecord>, StoreError> {
        self.registrar.write(|connection| store::before(connection, number, most))
    }
}

/// Writes a record in a transaction, with what it is about. Returns its number.
pub fn append(connection: &mut dyn Connection, entry: Entry) -> Result<i64, StoreError> {
    let last = store::last(connection)?;
    let (before, number) = last.map_or((vec![0; 32], 0), |last| (last.hash, last.number));
    let mut record = AuditRecord {
        number: number + 1,
        at: Some(timestamp(Timestamp::now().as_microsecond())),
        who: storable(entry.who),
        address: entry.address,
        action: entry.action,
        detail: storable(entry.detail),
        result: entry.result,
        result_of: entry.result_of,
        hash: Vec::new(),
    };
    record.hash = hash(&before, &record);
    store::add(connection, &record)?;
    Ok(record.number)
}

/// Returns a text that every database can keep, and that is not too long.
fn storable(text: String) -> String {
    let mut text = if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text };
    if text.len() > MOST_DETAIL {
        text.truncate(text.floor_char_boundary(MOST_DETAIL));
        text.push('…');
    }
    text
}
