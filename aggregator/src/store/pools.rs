//! The licenses that sources tell: what each told, and when.

use hashbrown::HashMap;
use prost::Message;
use seatmeter_count::Day;
use seatmeter_proto::v1::Licenses;

use super::engine::{Connection, Value};
use super::sql::statements;
use super::{Failure, StoreError, streams};

statements! {
    INSERT_LICENSES = "INSERT INTO licenses (log_id, told_at, knows_nobody, expires_on, pools) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (log_id, told_at) DO UPDATE SET knows_nobody = excluded.knows_nobody,
         expires_on = excluded.expires_on, pools = excluded.pools";
    SELECT_LAST_LICENSES = "SELECT told_at, pools FROM licenses WHERE log_id = $1 AND told_at <= $2
         ORDER BY told_at DESC LIMIT 1";
    SELECT_LICENSES_OF_LOG = "SELECT told_at, pools FROM licenses WHERE log_id = $1 ORDER BY told_at";
    SELECT_LOGS_WITHOUT_USE = "SELECT DISTINCT log_id FROM licenses WHERE knows_nobody = 1 ORDER BY log_id";
    SELECT_EXPIRIES = "SELECT log_id, pools FROM licenses AS told WHERE expires_on IS NOT NULL AND told_at =
         (SELECT max(told_at) FROM licenses WHERE licenses.log_id = told.log_id)";
    DELETE_LICENSES = "DELETE FROM licenses WHERE log_id = $1";
}

/// The licenses that a source told at a moment (seconds since 1970 UTC): all that there were.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// The moment.
    pub at: i64,
    /// The licenses.
    pub licenses: Licenses,
}

/// Saves what a source told, if it is not what it told before.
pub fn add(connection: &mut dyn Connection, log_id: i64, told: &Told) -> Result<(), StoreError> {
    if last(connection, log_id, told.at)?.is_some_and(|before| before.licenses == told.licenses) {
        return Ok(());
    }
    let pools = told.licenses.encode_to_vec();
    let knows_nobody = i64::from(told.licenses.knows_nobody);
    let expires_on = told.licenses.pools.iter().filter_map(|pool| pool.expires_on).min();
    let values = [log_id.into(), told.at.into(), knows_nobody.into(), expires_on.into(), Value::Blob(&pools)];
    connection.execute(INSERT_LICENSES, &values).map(drop)
}

/// Returns what a source told last, at a moment or before it; `None` if it told nothing.
pub fn last(connection: &mut dyn Connection, log_id: i64, at: i64) -> Result<Option<Told>, StoreError> {
    Ok(read(connection, SELECT_LAST_LICENSES, &[log_id.into(), at.into()])?.pop())
}

/// Returns all that a source told, in order.
pub fn all(connection: &mut dyn Connection, log_id: i64) -> Result<Vec<Told>, StoreError> {
    read(connection, SELECT_LICENSES_OF_LOG, &[log_id.into()])
}

fn read(connection: &mut dyn Connection, sql: &'static str, values: &[Value<'_>]) -> Result<Vec<Told>, StoreError> {
    let mut found = Vec::new();
    connection.query(sql, values, &mut |row| {
        found.push(Told { at: row.int(0)?, licenses: decode(row.blob(1)?)? });
        Ok(())
    })?;
    Ok(found)
}

/// Returns the logs that tell licenses and nothing of who uses them, by id.
pub fn logs_without_use(connection: &mut dyn Connection) -> Result<Vec<i64>, StoreError> {
    let mut found = Vec::new();
    connection.query(SELECT_LOGS_WITHOUT_USE, &[], &mut |row| {
        found.push(row.int(0)?);
        Ok(())
    })?;
    Ok(found)
}

/// Returns the days through which licenses can be used, of those that each source told last, the first one first; sources whose
/// licenses never expire have none.
pub fn expiries(connection: &mut dyn Connection) -> Result<HashMap<i64, Vec<Day>>, StoreError> {
    let mut found = HashMap::new();
    connection.query(SELECT_EXPIRIES, &[], &mut |row| {
        let days =
            decode(row.blob(1)?)?.pools.into_iter().filter_map(|pool| streams::day(pool.expires_on.map(i64::from)));
        let mut days: Vec<Day> = days.collect();
        days.sort_unstable();
        days.dedup();
        found.insert(row.int(0)?, days);
        Ok(())
    })?;
    Ok(found)
}

fn decode(licenses: &[u8]) -> Result<Licenses, StoreError> {
    Licenses::decode(licenses)
        .map_err(|error| StoreError::new(Failure::Corrupt, format!("licenses do not decode: {error}")))
}

/// Forgets what a source told.
pub fn forget(connection: &mut dyn Connection, log_id: i64) -> Result<(), StoreError> {
    connection.execute(DELETE_LICENSES, &[log_id.into()]).map(drop)
}
