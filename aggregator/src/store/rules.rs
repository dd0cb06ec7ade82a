//! Rules and their versions.

use super::StoreError;
use super::engine::{Connection, Row};
use super::sql::statements;

statements! {
    INSERT_RULE = "INSERT INTO rule (number, origin, body, added_in, removed_in) VALUES ($1, $2, $3, $4, NULL)";
    REMOVE_RULE = "UPDATE rule SET removed_in = $1 WHERE number = $2 AND removed_in IS NULL";
    SELECT_RULES_AT = "SELECT number, origin, body, added_in, removed_in FROM rule
         WHERE added_in <= $1 AND (removed_in IS NULL OR removed_in > $1) ORDER BY number";
    SELECT_RULES_OF_VERSION = "SELECT number, origin, body, added_in, removed_in FROM rule
         WHERE added_in = $1 OR removed_in = $1 ORDER BY number";
    SELECT_LAST_RULE = "SELECT coalesce(max(number), 0) FROM rule";
    INSERT_RULE_VERSION = "INSERT INTO rule_version (number, hash, author, reason, at, undoes) VALUES ($1, $2, $3, $4, $5, $6)";
    SELECT_RULE_VERSIONS = "SELECT number, hash, author, reason, at, undoes,
             (SELECT count(*) FROM rule WHERE added_in = rule_version.number),
             (SELECT count(*) FROM rule WHERE removed_in = rule_version.number)
         FROM rule_version ORDER BY number";
}

/// A rule, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRule {
    /// The number.
    pub number: u64,
    /// What it was imported from; empty if an operator says it.
    pub origin: String,
    /// Its canonical form.
    pub body: String,
    /// The version that has it first.
    pub added_in: u64,
    /// The first version that has it no more.
    pub removed_in: Option<u64>,
}

/// A version of the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredVersion {
    /// Counts the versions, from 1.
    pub number: u64,
    /// SHA-256 of the rules' canonical form.
    pub hash: Vec<u8>,
    /// Who has made it; empty if the configuration has.
    pub author: String,
    /// Why.
    pub reason: String,
    /// When, in seconds since 1970 UTC.
    pub at: i64,
    /// The version that it takes back.
    pub undoes: Option<u64>,
    /// How many rules it has that the version before has not.
    pub added: u64,
    /// How many it has not that the version before has.
    pub removed: u64,
}

/// Keeps a new rule.
pub fn add(connection: &mut dyn Connection, rule: &StoredRule) -> Result<(), StoreError> {
    let values = [rule.number.into(), (*rule.origin).into(), (*rule.body).into(), rule.added_in.into()];
    connection.execute(INSERT_RULE, &values).map(drop)
}

/// Says that a rule is not in a version, and in none after it.
pub fn remove(connection: &mut dyn Connection, number: u64, version: u64) -> Result<(), StoreError> {
    connection.execute(REMOVE_RULE, &[version.into(), number.into()]).map(drop)
}

/// Returns the rules of a version.
pub fn rules_at(connection: &mut dyn Connection, version: u64) -> Result<Vec<StoredRule>, StoreError> {
    select(connection, SELECT_RULES_AT, version)
}

/// Returns the rules that a version has added or removed.
pub fn rules_of(connection: &mut dyn Connection, version: u64) -> Result<Vec<StoredRule>, StoreError> {
    select(connection, SELECT_RULES_OF_VERSION, version)
}

fn select(connection: &mut dyn Connection, sql: &str, version: u64) -> Result<Vec<StoredRule>, StoreError> {
    let mut found = Vec::new();
    connection.query(sql, &[version.into()], &mut |row: &dyn Row| {
        found.push(StoredRule {
            number: row.int(0)? as u64,
            origin: row.text(1)?.into(),
            body: row.text(2)?.into(),
            added_in: row.int(3)? as u64,
            removed_in: row.int_or_null(4)?.map(|version| version as u64),
        });
        Ok(())
    })?;
    Ok(found)
}

/// Returns the highest number that a rule ever had; 0 if there was none.
pub fn last_number(connection: &mut dyn Connection) -> Result<u64, StoreError> {
    let mut last = 0;
    connection.query(SELECT_LAST_RULE, &[], &mut |row| {
        last = row.int(0)? as u64;
        Ok(())
    })?;
    Ok(last)
}

/// Keeps a new version.
pub fn add_version(connection: &mut dyn Connection, version: &StoredVersion) -> Result<(), StoreError> {
    let undoes = version.undoes.map_or(super::engine::Value::Null, Into::into);
    let values = [
        version.number.into(),
        (*version.hash).into(),
        (*version.author).into(),
        (*version.reason).into(),
        version.at.into(),
        undoes,
    ];
    connection.execute(INSERT_RULE_VERSION, &values).map(drop)
}

/// Returns all versions, in order.
pub fn versions(connection: &mut dyn Connection) -> Result<Vec<StoredVersion>, StoreError> {
    let mut found = Vec::new();
    connection.query(SELECT_RULE_VERSIONS, &[], &mut |row| {
        found.push(StoredVersion {
            number: row.int(0)? as u64,
            hash: row.blob(1)?.into(),
            author: row.text(2)?.into(),
            reason: row.text(3)?.into(),
            at: row.int(4)?,
            undoes: row.int_or_null(5)?.map(|version| version as u64),
            added: row.int(6)? as u64,
            removed: row.int(7)? as u64,
        });
        Ok(())
    })?;
    Ok(found)
}
