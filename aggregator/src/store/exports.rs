//! The exports of agents without a network that were taken in.

use super::StoreError;
use super::engine::Connection;
use super::sql::statements;

statements! {
    SELECT_EXPORTS = "SELECT number, sha256 FROM export WHERE enrolment_id = $1 AND epoch = $2 ORDER BY number, sha256";
    INSERT_EXPORT = "INSERT INTO export (enrolment_id, epoch, number, sha256, imported_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (enrolment_id, epoch, number, sha256) DO UPDATE SET imported_at = excluded.imported_at";
}

/// An export that was taken in.
pub struct Export {
    /// Its number: it counts the exports of a buffer, from 1.
    pub number: u64,
    /// The hash of the file.
    pub sha256: Vec<u8>,
}

/// Returns the exports of an agent's buffer, known by its epoch, that were taken in.
pub fn of_buffer(connection: &mut dyn Connection, enrolment: &str, epoch: &str) -> Result<Vec<Export>, StoreError> {
    let mut found = Vec::new();
    connection.query(SELECT_EXPORTS, &[enrolment.into(), epoch.into()], &mut |row| {
        found.push(Export { number: row.int(0)? as u64, sha256: row.blob(1)?.into() });
        Ok(())
    })?;
    Ok(found)
}

/// Takes note of an export that was taken in at a moment.
pub fn add(
    connection: &mut dyn Connection,
    enrolment: &str,
    epoch: &str,
    export: &Export,
    now: i64,
) -> Result<(), StoreError> {
    let values = [enrolment.into(), epoch.into(), export.number.into(), (*export.sha256).into(), now.into()];
    connection.execute(INSERT_EXPORT, &values).map(drop)
}
