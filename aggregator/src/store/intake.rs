//! How much comes of each license server in a day, to be held against quotas. Days are those of UTC, since 1970.

use super::StoreError;
use super::engine::Connection;
use super::sql::statements;

statements! {
    ADD_INTAKE = "INSERT INTO intake (server_id, day, batches, bytes) VALUES ($1, $2, $3, $4)
         ON CONFLICT (server_id, day) DO UPDATE SET batches = intake.batches + excluded.batches,
         bytes = intake.bytes + excluded.bytes";
    SELECT_INTAKE = "SELECT server_id, max(batches), max(bytes) FROM intake WHERE day >= $1 GROUP BY server_id";
    DELETE_INTAKE = "DELETE FROM intake WHERE day < $1";
    ADD_NEW_NAMES = "INSERT INTO new_names (log_id, day, names) VALUES ($1, $2, $3)
         ON CONFLICT (log_id, day) DO UPDATE SET names = new_names.names + excluded.names";
    SELECT_NEW_NAMES = "SELECT log_id, day, names FROM new_names WHERE day >= $1";
}

/// What came of a license server in a day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Intake {
    /// The batches.
    pub batches: u64,
    /// Their bytes, as they came.
    pub bytes: u64,
}

/// Adds to what came of a license server on a day.
pub fn add(connection: &mut dyn Connection, server_id: i64, day: i64, more: Intake) -> Result<(), StoreError> {
    let values = [server_id.into(), day.into(), more.batches.into(), more.bytes.into()];
    connection.execute(ADD_INTAKE, &values).map(drop)
}

/// Returns the most that came of each license server in a day, of the days from this one on.
pub fn most_since(connection: &mut dyn Connection, day: i64) -> Result<Vec<(i64, Intake)>, StoreError> {
    let mut found = Vec::new();
    connection.query(SELECT_INTAKE, &[day.into()], &mut |row| {
        found.push((row.int(0)?, Intake { batches: row.int(1)? as u64, bytes: row.int(2)? as u64 }));
        Ok(())
    })?;
    Ok(found)
}

/// Forgets the days before this one.
pub fn forget_before(connection: &mut dyn Connection, day: i64) -> Result<(), StoreError> {
    connection.execute(DELETE_INTAKE, &[day.into()]).map(drop)
}

/// Adds to the names that nobody had before, of those that came with a log on a day.
pub fn add_new_names(connection: &mut dyn Connection, log_id: i64, day: i64, names: u64) -> Result<(), StoreError> {
    connection.execute(ADD_NEW_NAMES, &[log_id.into(), day.into(), names.into()]).map(drop)
}

/// Returns the new names that came with each log on each day from this one on: log, day, names.
pub fn new_names_since(connection: &mut dyn Connection, day: i64) -> Result<Vec<(i64, i64, u64)>, StoreError> {
    let mut found = Vec::new();
    connection.query(SELECT_NEW_NAMES, &[day.into()], &mut |row| {
        found.push((row.int(0)?, row.int(1)?, row.int(2)? as u64));
        Ok(())
    })?;
    Ok(found)
}
