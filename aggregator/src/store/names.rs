//! Identities, devices and features, each name stored once.

use super::StoreError;
use super::engine::Connection;

use super::sql::statements;

statements! {
    SELECT_IDENTITIES = "SELECT id, realm, name, name_key FROM identity WHERE id >= $1 ORDER BY id";
    SELECT_DEVICES = "SELECT id, realm, name, name_key FROM device WHERE id >= $1 ORDER BY id";
    INSERT_IDENTITY = "INSERT INTO identity (id, realm, name, name_key) VALUES ($1, $2, $3, $4)";
    INSERT_DEVICE = "INSERT INTO device (id, realm, name, name_key) VALUES ($1, $2, $3, $4)";
    SELECT_FEATURES = "SELECT id, daemon, name FROM feature WHERE id >= $1 ORDER BY id";
    INSERT_FEATURE = "INSERT INTO feature (id, daemon, name) VALUES ($1, $2, $3)";
}

/// The kind of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NameKind {
    /// A user name.
    Identity,
    /// The name of a host.
    Device,
}

/// A name in its realm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The id, assigned by the program. Ids grow with each new name, and can have gaps.
    pub id: u32,
    /// The realm in which the name was seen.
    pub realm: String,
    /// The name, as first written.
    pub name: String,
    /// The case-folded name.
    pub key: String,
}

/// The id of a device in place of a host that is not told.
pub const NO_DEVICE: u32 = u32::MAX;

/// A user on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Client {
    /// The id of the user's identity.
    pub identity: u32,
    /// The id of the host's device; [`NO_DEVICE`] if the host is not told.
    pub device: u32,
}

/// A feature of a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// The id, assigned by the program. Ids grow with each new feature, and can have gaps.
    pub id: u32,
    /// The vendor daemon.
    pub daemon: String,
    /// The feature's code; empty for the vendor daemon itself.
    pub name: String,
}

/// Returns the names from an id on, ordered by id.
pub fn names_from(connection: &mut dyn Connection, kind: NameKind, from: u32) -> Result<Vec<Name>, StoreError> {
    let sql = match kind {
        NameKind::Identity => SELECT_IDENTITIES,
        NameKind::Device => SELECT_DEVICES,
    };
    let mut found = Vec::new();
    connection.query(sql, &[from.into()], &mut |row| {
        found.push(Name {
            id: row.int(0)? as u32,
            realm: row.text(1)?.into(),
            name: row.text(2)?.into(),
            key: row.text(3)?.into(),
        });
        Ok(())
    })?;
    Ok(found)
}

/// Adds names.
pub fn add_names(connection: &mut dyn Connection, kind: NameKind, names: &[Name]) -> Result<(), StoreError> {
    let sql = match kind {
        NameKind::Identity => INSERT_IDENTITY,
        NameKind::Device => INSERT_DEVICE,
    };
    let values: Vec<_> = names
        .iter()
        .flat_map(|name| [name.id.into(), (*name.realm).into(), (*name.name).into(), (*name.key).into()])
        .collect();
    connection.bulk(sql, 4, &values)
}

/// Returns the features from an id on, ordered by id.
pub fn features_from(connection: &mut dyn Connection, from: u32) -> Result<Vec<Feature>, StoreError> {
    let mut found = Vec::new();
    connection.query(SELECT_FEATURES, &[from.into()], &mut |row| {
        found.push(Feature { id: row.int(0)? as u32, daemon: row.text(1)?.into(), name: row.text(2)?.into() });
        Ok(())
    })?;
    Ok(found)
}

/// Adds features.
pub fn add_features(connection: &mut dyn Connection, features: &[Feature]) -> Result<(), StoreError> {
    let values: Vec<_> = features
        .iter()
        .flat_map(|feature| [feature.id.into(), (*feature.daemon).into(), (*feature.name).into()])
        .collect();
    connection.bulk(INSERT_FEATURE, 3, &values)
}
