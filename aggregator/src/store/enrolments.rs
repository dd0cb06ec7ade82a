//! Invitations, the agents that were enrolled by them, and their certificates.

use super::StoreError;
use super::engine::{Connection, Row, Value};
use super::sql::statements;

statements! {
    INSERT_INVITATION = "INSERT INTO invitation (secret_hash, license_server, realm, expires_at, uses_left, needs_approval)
         VALUES ($1, $2, $3, $4, $5, $6)";
    SELECT_INVITATION = "SELECT license_server, realm, expires_at, uses_left, needs_approval FROM invitation WHERE secret_hash = $1";
    USE_INVITATION = "UPDATE invitation SET uses_left = uses_left - 1 WHERE secret_hash = $1";
    DELETE_INVITATIONS = "DELETE FROM invitation WHERE expires_at < $1";
    INSERT_ENROLMENT = "INSERT INTO enrolment (id, secret_hash, license_server, name_key, realm, host, enrolled_at, recoveries_left, waits)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    SELECT_ENROLMENTS = "SELECT e.id, e.license_server, e.realm, e.host, e.enrolled_at, e.seen_at, e.revoked_at, e.recoveries_left,
         e.secret_hash, (SELECT MAX(c.expires_at) FROM certificate c WHERE c.enrolment_id = e.id), e.waits
         FROM enrolment e ORDER BY e.name_key, e.enrolled_at, e.id";
    SELECT_ENROLMENT = "SELECT e.id, e.license_server, e.realm, e.host, e.enrolled_at, e.seen_at, e.revoked_at, e.recoveries_left,
         e.secret_hash, (SELECT MAX(c.expires_at) FROM certificate c WHERE c.enrolment_id = e.id), e.waits
         FROM enrolment e WHERE e.id = $1";
    SET_SEEN = "UPDATE enrolment SET seen_at = $1 WHERE id = $2";
    SET_REVOKED = "UPDATE enrolment SET revoked_at = $1 WHERE id = $2 AND revoked_at IS NULL";
    SET_ACCEPTED = "UPDATE enrolment SET waits = 0 WHERE id = $1";
    SET_RECOVERIES = "UPDATE enrolment SET recoveries_left = $1 WHERE id = $2";
    INSERT_CERTIFICATE = "INSERT INTO certificate (sha256, enrolment_id, number, public_key, der, expires_at, state)
         VALUES ($1, $2, (SELECT COALESCE(MAX(number), 0) + 1 FROM certificate WHERE enrolment_id = $2), $3, $4, $5, 0)";
    SELECT_BY_HASH = "SELECT enrolment_id, public_key, der, expires_at, state FROM certificate WHERE sha256 = $1";
    SELECT_BY_KEY = "SELECT enrolment_id, public_key, der, expires_at, state FROM certificate WHERE public_key = $1";
    SELECT_USED = "SELECT enrolment_id, der FROM certificate WHERE state = 1 ORDER BY enrolment_id, number";
    USE_CERTIFICATE = "UPDATE certificate SET state = 1 WHERE sha256 = $1";
    SUPERSEDE = "UPDATE certificate SET state = 2 WHERE enrolment_id = $1
         AND number < (SELECT number FROM certificate WHERE sha256 = $2)";
    DELETE_UNUSED = "DELETE FROM certificate WHERE enrolment_id = $1 AND state = 0
         AND number > (SELECT number FROM certificate WHERE sha256 = $2)";
    DELETE_ENDED = "DELETE FROM certificate WHERE enrolment_id = $1 AND state = 2 AND expires_at < $2";
}

/// An invitation, as it is kept.
pub struct Invitation {
    /// The license server that agents may speak for; empty if they say it.
    pub license_server: String,
    /// The realm of the license server's user names.
    pub realm: String,
    /// When it can no longer be used, in seconds since 1970 UTC.
    pub expires_at: i64,
    /// How many agents can still use it.
    pub uses_left: i64,
    /// Whether an operator must accept whoever enrols by it.
    pub needs_approval: bool,
}

/// An agent that was enrolled for a license server. Moments are in seconds since 1970 UTC.
#[derive(Clone, Debug)]
pub struct Enrolment {
    /// The id, a UUID.
    pub id: String,
    /// The license server that it speaks for.
    pub license_server: String,
    /// The realm of the license server's user names.
    pub realm: String,
    /// The machine that it said to run on.
    pub host: String,
    /// When it was enrolled.
    pub enrolled_at: i64,
    /// When it last connected; `None` if it never has.
    pub seen_at: Option<i64>,
    /// When it was revoked; `None` if it was not.
    pub revoked_at: Option<i64>,
    /// How often it may still renew an expired certificate.
    pub recoveries_left: u32,
    /// The hash of the secret of its invitation.
    pub secret_hash: Vec<u8>,
    /// When its last certificate ends; `None` if it has none.
    pub expires_at: Option<i64>,
    /// Whether no operator has accepted it yet, and one must.
    pub waits: bool,
}

/// How far a certificate has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateState {
    /// It was not used yet.
    Issued,
    /// It was used, and no later one was.
    Used,
    /// A later one was used.
    Superseded,
}

/// A certificate of an agent.
pub struct Certificate {
    /// The enrolment that it is for.
    pub enrolment: String,
    /// The key, as a point on P-256.
    pub public_key: Vec<u8>,
    /// The certificate.
    pub der: Vec<u8>,
    /// When it ends, in seconds since 1970 UTC.
    pub expires_at: i64,
    /// How far it has come.
    pub state: CertificateState,
}

/// Keeps an invitation, known by the hash of its secret. Invitations that ended before `now` are forgotten.
pub fn add_invitation(
    connection: &mut dyn Connection,
    secret_hash: &[u8],
    invitation: &Invitation,
    now: i64,
) -> Result<(), StoreError> {
    connection.execute(DELETE_INVITATIONS, &[now.into()])?;
    let values = [
        secret_hash.into(),
        (*invitation.license_server).into(),
        (*invitation.realm).into(),
        invitation.expires_at.into(),
        invitation.uses_left.into(),
        i64::from(invitation.needs_approval).into(),
    ];
    connection.execute(INSERT_INVITATION, &values).map(drop)
}

/// Returns the invitation whose secret has this hash.
pub fn invitation(connection: &mut dyn Connection, secret_hash: &[u8]) -> Result<Option<Invitation>, StoreError> {
    let mut found = None;
    connection.query(SELECT_INVITATION, &[secret_hash.into()], &mut |row| {
        found = Some(Invitation {
            license_server: row.text(0)?.into(),
            realm: row.text(1)?.into(),
            expires_at: row.int(2)?,
            uses_left: row.int(3)?,
            needs_approval: row.int(4)? != 0,
        });
        Ok(())
    })?;
    Ok(found)
}

/// Takes one of the uses of an invitation.
pub fn use_invitation(connection: &mut dyn Connection, secret_hash: &[u8]) -> Result<(), StoreError> {
    connection.execute(USE_INVITATION, &[secret_hash.into()]).map(drop)
}

/// Keeps a new enrolment. `name_key` is the license server's name, case folded.
pub fn add_enrolment(connection: &mut dyn Connection, enrolment: &Enrolment, name_key: &str) -> Result<(), StoreError> {
    let values: [Value<'_>; 9] = [
        (*enrolment.id).into(),
        (*enrolment.secret_hash).into(),
        (*enrolment.license_server).into(),
        name_key.into(),
        (*enrolment.realm).into(),
        (*enrolment.host).into(),
        enrolment.enrolled_at.into(),
        enrolment.recoveries_left.into(),
        i64::from(enrolment.waits).into(),
    ];
    connection.execute(INSERT_ENROLMENT, &values).map(drop)
}

/// Returns all enrolments, ordered by license server and age.
pub fn enrolments(connection: &mut dyn Connection) -> Result<Vec<Enrolment>, StoreError> {
    let mut found = Vec::new();
    connection.query(SELECT_ENROLMENTS, &[], &mut |row| {
        found.push(enrolment_of(row)?);
        Ok(())
    })?;
    Ok(found)
}

/// Returns an enrolment.
pub fn enrolment(connection: &mut dyn Connection, id: &str) -> Result<Option<Enrolment>, StoreError> {
    let mut found = None;
    connection.query(SELECT_ENROLMENT, &[id.into()], &mut |row| {
        found = Some(enrolment_of(row)?);
        Ok(())
    })?;
    Ok(found)
}

fn enrolment_of(row: &dyn Row) -> Result<Enrolment, StoreError> {
    Ok(Enrolment {
        id: row.text(0)?.into(),
        license_server: row.text(1)?.into(),
        realm: row.text(2)?.into(),
        host: row.text(3)?.into(),
        enrolled_at: row.int(4)?,
        seen_at: row.int_or_null(5)?,
        revoked_at: row.int_or_null(6)?,
        recoveries_left: u32::try_from(row.int(7)?).unwrap_or(0),
        secret_hash: row.blob(8)?.into(),
        expires_at: row.int_or_null(9)?,
        waits: row.int(10)? != 0,
    })
}

/// Notes that an agent has connected.
pub fn set_seen(connection: &mut dyn Connection, id: &str, now: i64) -> Result<(), StoreError> {
    connection.execute(SET_SEEN, &[now.into(), id.into()]).map(drop)
}

/// Revokes an enrolment. One that is revoked stays as it is.
pub fn revoke(connection: &mut dyn Connection, id: &str, now: i64) -> Result<(), StoreError> {
    connection.execute(SET_REVOKED, &[now.into(), id.into()]).map(drop)
}

/// Accepts an enrolment that waits for it.
pub fn accept(connection: &mut dyn Connection, id: &str) -> Result<(), StoreError> {
    connection.execute(SET_ACCEPTED, &[id.into()]).map(drop)
}

/// Sets how often an agent may still renew an expired certificate.
pub fn set_recoveries(connection: &mut dyn Connection, id: &str, left: u32) -> Result<(), StoreError> {
    connection.execute(SET_RECOVERIES, &[left.into(), id.into()]).map(drop)
}

/// Keeps a certificate that was issued at `now`, to follow the one with the hash `renewed` if there is one. Of the same enrolment,
/// others that were to follow it and were never used are forgotten, and those that are of no use any more.
pub fn add_certificate(
    connection: &mut dyn Connection,
    sha256: &[u8],
    certificate: &Certificate,
    renewed: &[u8],
    now: i64,
) -> Result<(), StoreError> {
    connection.execute(DELETE_UNUSED, &[(*certificate.enrolment).into(), renewed.into()])?;
    connection.execute(DELETE_ENDED, &[(*certificate.enrolment).into(), now.into()])?;
    let values = [
        sha256.into(),
        (*certificate.enrolment).into(),
        (*certificate.public_key).into(),
        (*certificate.der).into(),
        certificate.expires_at.into(),
    ];
    connection.execute(INSERT_CERTIFICATE, &values).map(drop)
}

/// Returns the certificate that has this hash.
pub fn certificate(connection: &mut dyn Connection, sha256: &[u8]) -> Result<Option<Certificate>, StoreError> {
    one_certificate(connection, SELECT_BY_HASH, sha256)
}

/// Returns the certificate that was issued for a key.
pub fn certificate_of_key(connection: &mut dyn Connection, key: &[u8]) -> Result<Option<Certificate>, StoreError> {
    one_certificate(connection, SELECT_BY_KEY, key)
}

fn one_certificate(
    connection: &mut dyn Connection,
    sql: &str,
    known_by: &[u8],
) -> Result<Option<Certificate>, StoreError> {
    let mut found = None;
    connection.query(sql, &[known_by.into()], &mut |row| {
        found = Some(Certificate {
            enrolment: row.text(0)?.into(),
            public_key: row.blob(1)?.into(),
            der: row.blob(2)?.into(),
            expires_at: row.int(3)?,
            state: match row.int(4)? {
                0 => CertificateState::Issued,
                1 => CertificateState::Used,
                _ => CertificateState::Superseded,
            },
        });
        Ok(())
    })?;
    Ok(found)
}

/// Notes that a certificate is used: those of its enrolment before it are not valid any more.
pub fn use_certificate(connection: &mut dyn Connection, enrolment: &str, sha256: &[u8]) -> Result<(), StoreError> {
    connection.execute(USE_CERTIFICATE, &[sha256.into()])?;
    connection.execute(SUPERSEDE, &[enrolment.into(), sha256.into()]).map(drop)
}

/// Returns the certificates that were used and have not been superseded, each with its enrolment, the last one of each last.
pub fn used_certificates(connection: &mut dyn Connection) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    let mut found = Vec::new();
    connection.query(SELECT_USED, &[], &mut |row| {
        found.push((row.text(0)?.to_owned(), row.blob(1)?.to_owned()));
        Ok(())
    })?;
    Ok(found)
}
