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
