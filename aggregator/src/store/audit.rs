//! The audit trail: records that are only ever added.

use seatmeter_proto::v1::AuditRecord;

use super::StoreError;
use super::engine::{Connection, Row};
use super::sql::statements;

statements! {
    INSERT_RECORD = "INSERT INTO audit (number, at_micros, who, address, action, detail, result, result_of, hash)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    SELECT_LAST = "SELECT number, at_micros, who, address, action, detail, result, result_of, hash FROM audit
         WHERE number = (SELECT MAX(number) FROM audit)";
    SELECT_AFTER = "SELECT number, at_micros, who, address, action, detail, result, result_of, hash FROM audit
         WHERE number > $1 ORDER BY number LIMIT $2";
    SELECT_BEFORE = "SELECT number, at_micros, who, address, action, detail, result, result_of, hash FROM audit
         WHERE number < $1 ORDER BY number DESC LIMIT $2";
}

/// Adds a record.
pub fn add(connection: &mut dyn Connection, record: &AuditRecord) -> Result<(), StoreError> {
    let values = [
        record.number.into(),
        seatmeter_proto::audit::micros(record).into(),
        (*record.who).into(),
        (*record.address).into(),
        (*record.action).into(),
        (*record.detail).into(),
        (*record.result).into(),
        record.result_of.into(),
        (*record.hash).into(),
    ];
    connection.execute(INSERT_RECORD, &values).map(drop)
}

/// Returns the last record.
pub fn last(connection: &mut dyn Connection) -> Result<Option<AuditRecord>, StoreError> {
    let mut found = None;
    connection.query(SELECT_LAST, &[], &mut |row| {
        found = Some(record_of(row)?);
        Ok(())
    })?;
    Ok(found)
}

/// Returns up to `most` records after a number, the earliest first.
pub fn after(connection: &mut dyn Connection, number: i64, most: u32) -> Result<Vec<AuditRecord>, StoreError> {
    some(connection, SELECT_AFTER, number, most)
}

/// Returns up to `most` records before a number, the latest first.
pub fn before(connection: &mut dyn Connection, number: i64, most: u32) -> Result<Vec<AuditRecord>, StoreError> {
    some(connection, SELECT_BEFORE, number, most)
}

fn some(connection: &mut dyn Connection, sql: &str, number: i64, most: u32) -> Result<Vec<AuditRecord>, StoreError> {
    let mut found = Vec::new();
    connection.query(sql, &[number.into(), most.into()], &mut |row| {
        found.push(record_of(row)?);
        Ok(())
    })?;
    Ok(found)
}

fn record_of(row: &dyn Row) -> Result<AuditRecord, StoreError> {
    Ok(AuditRecord {
        number: row.int(0)?,
        at: Some(seatmeter_proto::audit::timestamp(row.int(1)?)),
        who: row.text(2)?.into(),
        address: row.text(3)?.into(),
        action: row.text(4)?.into(),
        detail: row.text(5)?.into(),
        result: row.text(6)?.into(),
        result_of: row.int(7)?,
        hash: row.blob(8)?.into(),
    })
}
