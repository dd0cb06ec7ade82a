//! Operators, how they log in, and their tokens.

use super::StoreError;
use super::engine::{Connection, Row};
use super::sql::statements;

statements! {
    INSERT_OPERATOR = "INSERT INTO operator (name_key, name, role, certificate_name, added_at, added_by, customer)
         VALUES ($1, $2, $3, $4, $5, $6, $7)";
    SELECT_OPERATORS = "SELECT name_key, name, role, certificate_name, added_at, added_by, seen_at, disabled_at, customer
         FROM operator ORDER BY name_key";
    SET_ROLE = "UPDATE operator SET role = $1 WHERE name_key = $2";
    SET_DISABLED = "UPDATE operator SET disabled_at = $1 WHERE name_key = $2";
    SET_OPERATOR_SEEN = "UPDATE operator SET seen_at = $1 WHERE name_key = $2";
    INSERT_LOGIN = "INSERT INTO login (secret_hash, name_key, expires_at, token_hash) VALUES ($1, $2, $3, $4)";
    SELECT_LOGIN = "SELECT name_key, expires_at, token_hash FROM login WHERE secret_hash = $1";
    USE_LOGIN = "UPDATE login SET token_hash = $1 WHERE secret_hash = $2";
    DELETE_ENDED_LOGINS = "DELETE FROM login WHERE expires_at < $1";
    DELETE_LOGINS = "DELETE FROM login WHERE name_key = $1";
    INSERT_TOKEN = "INSERT INTO token (sha256, name_key, label, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)";
    SELECT_TOKENS = "SELECT sha256, name_key, label, created_at, expires_at, used_at FROM token ORDER BY name_key, sha256";
    SET_USED = "UPDATE token SET used_at = $1 WHERE sha256 = $2";
    DELETE_TOKEN = "DELETE FROM token WHERE sha256 = $1";
    DELETE_TOKENS = "DELETE FROM token WHERE name_key = $1";
    DELETE_ENDED_TOKENS = "DELETE FROM token WHERE expires_at < $1";
}

/// An operator. Moments are in seconds since 1970 UTC.
#[derive(Clone, Debug)]
pub struct Operator {
    /// The name, case folded.
    pub name_key: String,
    /// The name, as it was given.
    pub name: String,
    /// The number of its role in the contract.
    pub role: i32,
    /// The name in a certificate that lets it in; empty for none.
    pub certificate_name: String,
    /// When it was added.
    pub added_at: i64,
    /// Who has added it; empty for who was made at the aggregator itself.
    pub added_by: String,
    /// When it last called; `None` if it never has.
    pub seen_at: Option<i64>,
    /// Since when it is not let in; `None` if it is.
    pub disabled_at: Option<i64>,
    /// The customer to whose reports it is confined; empty for none.
    pub customer: String,
}

/// An invitation to log in, as it is kept.
pub struct Login {
    /// The operator's name, case folded.
    pub name_key: String,
    /// When it can no longer be used, in seconds since 1970 UTC.
    pub expires_at: i64,
    /// The hash of the token that it was used for; empty if it was not used.
    pub token_hash: Vec<u8>,
}

/// A token. Moments are in seconds since 1970 UTC.
#[derive(Clone, Debug)]
pub struct Token {
    /// The SHA-256 of its text.
    pub sha256: Vec<u8>,
    /// The operator's name, case folded.
    pub name_key: String,
    /// What it is for.
    pub label: String,
    /// When it was made valid.
    pub created_at: i64,
    /// When it ends.
    pub expires_at: i64,
    /// When it was last used; `None` if it never was.
    pub used_at: Option<i64>,
}

/// Keeps a new operator.
pub fn add(connection: &mut dyn Connection, operator: &Operator) -> Result<(), StoreError> {
    let values = [
        (*operator.name_key).into(),
        (*operator.name).into(),
        operator.role.into(),
        (*operator.certificate_name).into(),
        operator.added_at.into(),
        (*operator.added_by).into(),
        (*operator.customer).into(),
    ];
    connection.execute(INSERT_OPERATOR, &values).map(drop)
}

/// Returns all operators, by name.
pub fn all(connection: &mut dyn Connection) -> Result<Vec<Operator>, StoreError> {
    let mut found = Vec::new();
    connection.query(SELECT_OPERATORS, &[], &mut |row| {
        found.push(Operator {
            name_key: row.text(0)?.into(),
            name: row.text(1)?.into(),
            role: i32::try_from(row.int(2)?).unwrap_or_default(),
            certificate_name: row.text(3)?.into(),
            added_at: row.int(4)?,
            added_by: row.text(5)?.into(),
            seen_at: row.int_or_null(6)?,
            disabled_at: row.int_or_null(7)?,
            customer: row.text(8)?.into(),
        });
        Ok(())
    })?;
    Ok(found)
}

/// Sets an operator's role.
pub fn set_role(connection: &mut dyn Connection, name_key: &str, role: i32) -> Result<(), StoreError> {
    connection.execute(SET_ROLE, &[role.into(), name_key.into()]).map(drop)
}

/// Lets an operator in no longer, since a moment, and forgets its tokens and invitations; or, with `None`, lets it in again.
pub fn set_disabled(connection: &mut dyn Connection, name_key: &str, since: Option<i64>) -> Result<(), StoreError> {
    connection.execute(SET_DISABLED, &[since.map_or(super::engine::Value::Null, Into::into), name_key.into()])?;
    if since.is_some() {
        connection.execute(DELETE_TOKENS, &[name_key.into()])?;
        connection.execute(DELETE_LOGINS, &[name_key.into()])?;
    }
    Ok(())
}

/// Notes that an operator has called.
pub fn set_seen(connection: &mut dyn Connection, name_key: &str, now: i64) -> Result<(), StoreError> {
    connection.execute(SET_OPERATOR_SEEN, &[now.into(), name_key.into()]).map(drop)
}

/// Keeps an invitation to log in. Those that ended before `now` are forgotten, and tokens that have.
pub fn add_login(
    connection: &mut dyn Connection,
    secret_hash: &[u8],
    name_key: &str,
    expires_at: i64,
    now: i64,
) -> Result<(), StoreError> {
    connection.execute(DELETE_ENDED_LOGINS, &[now.into()])?;
    connection.execute(DELETE_ENDED_TOKENS, &[now.into()])?;
    let unused: &[u8] = &[];
    let values = [secret_hash.into(), name_key.into(), expires_at.into(), unused.into()];
    connection.execute(INSERT_LOGIN, &values).map(drop)
}

/// Returns the invitation to log in whose secret has this hash.
pub fn login(connection: &mut dyn Connection, secret_hash: &[u8]) -> Result<Option<Login>, StoreError> {
    let mut found = None;
    connection.query(SELECT_LOGIN, &[secret_hash.into()], &mut |row| {
        found = Some(Login { name_key: row.text(0)?.into(), expires_at: row.int(1)?, token_hash: row.blob(2)?.into() });
        Ok(())
    })?;
    Ok(found)
}

/// Notes for which token an invitation was used.
pub fn use_login(connection: &mut dyn Connection, secret_hash: &[u8], token_hash: &[u8]) -> Result<(), StoreError> {
    connection.execute(USE_LOGIN, &[token_hash.into(), secret_hash.into()]).map(drop)
}

/// Keeps a token.
pub fn add_token(connection: &mut dyn Connection, token: &Token) -> Result<(), StoreError> {
    let values = [
        (*token.sha256).into(),
        (*token.name_key).into(),
        (*token.label).into(),
        token.created_at.into(),
        token.expires_at.into(),
    ];
    connection.execute(INSERT_TOKEN, &values).map(drop)
}

/// Returns all tokens, by operator, then by hash.
pub fn tokens(connection: &mut dyn Connection) -> Result<Vec<Token>, StoreError> {
    let mut found = Vec::new();
    connection.query(SELECT_TOKENS, &[], &mut |row| {
        found.push(token_of(row)?);
        Ok(())
    })?;
    Ok(found)
}

fn token_of(row: &dyn Row) -> Result<Token, StoreError> {
    Ok(Token {
        sha256: row.blob(0)?.into(),
        name_key: row.text(1)?.into(),
        label: row.text(2)?.into(),
        created_at: row.int(3)?,
        expires_at: row.int(4)?,
        used_at: row.int_or_null(5)?,
    })
}

/// Notes that a token was used.
pub fn set_used(connection: &mut dyn Connection, sha256: &[u8], now: i64) -> Result<(), StoreError> {
    connection.execute(SET_USED, &[now.into(), sha256.into()]).map(drop)
}

/// Ends a token.
pub fn delete_token(connection: &mut dyn Connection, sha256: &[u8]) -> Result<(), StoreError> {
    connection.execute(DELETE_TOKEN, &[sha256.into()]).map(drop)
}
