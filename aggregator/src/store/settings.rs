//! Settings that the database keeps about itself.

use super::StoreError;
use super::engine::Connection;
use super::sql::statements;

statements! {
    SELECT_SETTING = "SELECT value FROM setting WHERE name = $1";
    UPSERT_SETTING = "INSERT INTO setting (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
}

/// Returns the value of a setting; `None` if it is not set.
pub fn setting(connection: &mut dyn Connection, name: &str) -> Result<Option<String>, StoreError> {
    let mut value = None;
    connection.query(SELECT_SETTING, &[name.into()], &mut |row| {
        value = Some(row.text(0)?.to_owned());
        Ok(())
    })?;
    Ok(value)
}

/// Saves a setting, replacing an earlier value.
pub fn set_setting(connection: &mut dyn Connection, name: &str, value: &str) -> Result<(), StoreError> {
    connection.execute(UPSERT_SETTING, &[name.into(), value.into()]).map(drop)
}

/// Returns the database's incarnation. Makes one if the database has none yet.
pub fn incarnation(connection: &mut dyn Connection) -> Result<String, StoreError> {
    match setting(connection, INCARNATION)? {
        Some(incarnation) => Ok(incarnation),
        None => renew_incarnation(connection),
    }
}

/// Makes a new incarnation, by which agents notice that the database is not the one that they have delivered to.
pub fn renew_incarnation(connection: &mut dyn Connection) -> Result<String, StoreError> {
    let incarnation = uuid::Uuid::new_v4().to_string();
    set_setting(connection, INCARNATION, &incarnation)?;
    Ok(incarnation)
}

const INCARNATION: &str = "incarnation";
