//! Invitations, the agents that were enrolled by them, and their certificates.
//!
//! An invitation's secret is known by its hash alone. To use it, to note the agent's key and to keep its certificate is one
//! transaction, so that a lost answer costs nothing: who asks again with the same key gets the same certificate. A certificate is
//! valid until the next one is *used*; who comes with it after that is a copy ([`holders`](super::holders)), and renews it no more.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rustls::pki_types::CertificateDer;
use seatmeter_count::name::fold_case;
use seatmeter_proto::invitation::Invitation;
use seatmeter_proto::tls::sha256;
use time::OffsetDateTime;
use tokio::sync::watch;

use super::authority::{Authority, AuthorityError, RequestedKey};
use super::holders::{Arrival, Connections, REMEMBERED, UNDECIDED, place};
use super::registrar::Registrar;
use super::trail::{self, Entry, OK};
use crate::store::engine;
use crate::store::enrolments::{self as store, Certificate, CertificateState, Enrolment};
use crate::store::holders::{self, Holder, Standing};
pub use error::EnrolmentError;

mod error;
mod kept;
pub mod sealed;

/// How often an agent may renew a certificate that has expired, until an operator accepts it again.
const RECOVERIES: u32 = 10;

/// How many digits of an enrolment's id are shown where it is to be typed.
const ID_DIGITS: usize = 8;

/// An agent that is let in.
#[derive(Debug)]
pub struct Admitted {
    /// Its enrolment's id.
    pub enrolment: String,
    /// The license server that it speaks for.
    pub license_server: String,
    /// The realm of the license server's user names.
    pub realm: String,
    /// When its certificate ends, in seconds since 1970 UTC.
    pub expires_at: i64,
    /// Which of the holders of the enrolment it is, and what becomes of what it sends.
    pub holder: Holder,
    /// Changes when another connection takes the place of this one.
    pub turn: watch::Receiver<()>,
}

/// A certificate that was issued.
pub struct Issued {
    /// The id of the enrolment.
    pub enrolment: String,
    /// The certificate.
    pub certificate: Vec<u8>,
    /// When it ends, in seconds since 1970 UTC.
    pub expires_at: i64,
    /// The license server that the agent speaks for.
    pub license_server: String,
    /// The realm of the license server's user names.
    pub realm: String,
    /// Whether it is for one that had expired.
    pub is_recovery: bool,
}

/// What an operator asks of an invitation.
pub struct Wanted {
    /// The license server; empty if the agent says it.
    pub license_server: String,
    /// The realm of its user names.
    pub realm: String,
    /// How long it can be used.
    pub valid_for: Duration,
    /// How many agents can use it.
    pub uses: u32,
    /// The aggregator's address, as agents reach it.
    pub url: String,
    /// Whether an operator must accept whoever enrols.
    pub needs_approval: bool,
}

/// All enrolments.
#[derive(Clone)]
pub struct Enrolments {
    authority: Arc<Authority>,
    registrar: Registrar,
    /// How long a certificate of an agent lasts.
    life: Duration,
    /// Changes whenever an enrolment is revoked.
    revoked: Arc<watch::Sender<()>>,
    connections: Connections,
}

impl Enrolments {
    /// Keeps enrolments in a database; certificates are signed by an authority, and last for `life`.
    pub fn new(authority: Arc<Authority>, registrar: Registrar, life: Duration) -> Self {
        Self {
            authority,
            registrar,
            life,
            revoked: Arc::new(watch::channel(()).0),
            connections: Connections::default(),
        }
    }

    fn write<T>(
        &self,
        task: impl FnOnce(&mut dyn engine::Connection) -> Result<T, EnrolmentError>,
    ) -> Result<T, EnrolmentError> {
        self.registrar.write(task)
    }

    /// Makes an invitation. Returns it with the moment at which it can no longer be used.
    pub fn invite(&self, wanted: &Wanted) -> Result<(Invitation, i64), EnrolmentError> {
        let mut secret = [0; 32];
        SystemRandom::new().fill(&mut secret).map_err(|_| AuthorityError::Random)?;
        let now = Timestamp::now().as_second();
        let expires_at = now.saturating_add_unsigned(wanted.valid_for.as_secs());
        let invitation = store::Invitation {
            license_server: wanted.license_server.clone(),
            realm: wanted.realm.clone(),
            expires_at,
            uses_left: wanted.uses.into(),
            needs_approval: wanted.needs_approval,
        };
        self.write(|connection| Ok(store::add_invitation(connection, &hash(&secret), &invitation, now)?))?;
        Ok((Invitation { secret, authority: Some(self.authority.sha256()), url: wanted.url.clone() }, expires_at))
    }

    /// Enrols an agent by an invitation's secret, and writes it into the audit trail, with the address that it came from.
    pub fn enrol(
        &self,
        secret: &[u8],
        signing_request: &[u8],
        said: (&str, &str),
        address: Option<IpAddr>,
    ) -> Result<Issued, EnrolmentError> {
        let key = RequestedKey::of(signing_request)?;
        self.enrol_by(secret, &key, said, address, |connection, enrolment, now| {
            self.issue(connection, &key, enrolment, &[], now)
        })
    }

    /// Enrols an agent with a key, which says the license server that it wants to speak for, and its host. `issue` makes its first
    /// certificate.
    fn enrol_by(
        &self,
        secret: &[u8],
        key: &RequestedKey,
        (license_server, host): (&str, &str),
        address: Option<IpAddr>,
        issue: impl FnOnce(&mut dyn engine::Connection, &str, i64) -> Result<Certificate, EnrolmentError>,
    ) -> Result<Issued, EnrolmentError> {
        let secret_hash = hash(secret);
        let now = Timestamp::now().as_second();
        self.write(|connection| {
            let invitation = store::invitation(connection, &secret_hash)?;
            let invitation = invitation.filter(|invitation| now < invitation.expires_at);
            let invitation = invitation.ok_or(EnrolmentError::Invitation)?;
            if let Some(known) = store::certificate_of_key(connection, key.point())? {
                // It was enrolled, and has not got the answer.
                let enrolment = store::enrolment(connection, &known.enrolment)?;
                let enrolment = enrolment.filter(|enrolment| enrolment.secret_hash == secret_hash);
                let enrolment = enrolment.ok_or(EnrolmentError::Invitation)?;
                if enrolment.revoked_at.is_some() {
                    return Err(EnrolmentError::Revoked(enrolment.license_server));
                }
                return Ok(issued(known, enrolment, false));
            }
            if invitation.uses_left < 1 {
                return Err(EnrolmentError::Invitation);
            }
            let license_server = match (&*invitation.license_server, license_server) {
                ("", "") => return Err(EnrolmentError::NoServer),
                ("", own) => own.to_owned(),
                (invited, _) => invited.to_owned(),
            };
            store::use_invitation(connection, &secret_hash)?;
            let enrolment = Enrolment {
                id: uuid::Uuid::new_v4().to_string(),
                license_server,
                realm: invitation.realm,
                host: host.to_owned(),
                enrolled_at: now,
                seen_at: None,
                revoked_at: None,
                recoveries_left: RECOVERIES,
                secret_hash: secret_hash.clone(),
                expires_at: None,
                waits: invitation.needs_approval,
            };
            store::add_enrolment(connection, &enrolment, &fold_case(&enrolment.license_server))?;
            let entry = Entry {
                who: enrolment.license_server.clone(),
                address: address.map(|address| address.to_string()).unwrap_or_default(),
                action: "Enrol".into(),
                detail: format!("host: {host:?}, enrolment: {:?}", enrolment.id),
                result: OK.into(),
                result_of: 0,
            };
            trail::append(connection, entry)?;
            let certificate = issue(connection, &enrolment.id, now)?;
            Ok(issued(certificate, enrolment, false))
        })
    }

    /// Gives an agent its next certificate. `signature` proves that it has the key of the one before, and `generation` says which of
    /// the holders of the identity it is: a copy gets none, and takes nothing from the agent that it was made of.
    pub fn renew(
        &self,
        certificate: &[u8],
        signing_request: &[u8],
        (signature, generation): (&[u8], &[u8]),
    ) -> Result<Issued, EnrolmentError> {
        let key = RequestedKey::of(signing_request)?;
        let renewed = sha256(&CertificateDer::from(certificate));
        let now = Timestamp::now().as_second();
        self.write(|connection| {
            let old = match store::certificate(connection, &renewed)? {
                // An agent without a network has a key, and no certificate.
                Some(known) if known.der.is_empty() => return Err(EnrolmentError::Unknown),
                Some(known) => known,
                None => self.newer_than_known(connection, certificate, now)?,
            };
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &old.public_key)
                .verify(signing_request, signature)
                .map_err(|_| EnrolmentError::Unknown)?;
            let enrolment = not_revoked(connection, &old)?;
            let known = holders::holders(connection, &enrolment.id)?;
            let holder = known.iter().find(|holder| holder.comes_with(generation));
            match holder.map(|holder| holder.standing) {
                Some(Standing::Counted | Standing::Accepted | Standing::Displaced) => {}
                Some(Standing::Quarantined | Standing::Probation) => {
                    return Err(EnrolmentError::Copy(enrolment.license_server));
                }
                Some(Standing::Rejected) => return Err(EnrolmentError::Rejected(enrolment.license_server)),
                None if old.state == CertificateState::Superseded => {
                    return Err(EnrolmentError::Superseded(enrolment.license_server));
                }
                // Which of them it is cannot be told.
                None if generation.is_empty() && known.iter().any(Holder::is_copy) => {
                    return Err(EnrolmentError::Copy(enrolment.license_server));
                }
                None => {}
            }
            if let Some(known) = store::certificate_of_key(connection, key.point())? {
                // It was renewed, and the agent has not got the answer.
                let is_own = known.enrolment == old.enrolment && known.state != CertificateState::Superseded;
                return if is_own { Ok(issued(known, enrolment, false)) } else { Err(EnrolmentError::Unknown) };
            }
            let is_recovery = now >= old.expires_at;
            if is_recovery {
                let left = enrolment.recoveries_left.checked_sub(1);
                let left = left.ok_or_else(|| EnrolmentError::TooOften(enrolment.license_server.clone()))?;
                store::set_recoveries(connection, &enrolment.id, left)?;
            }
            let certificate = self.issue(connection, &key, &enrolment.id, &renewed, now)?;
            Ok(issued(certificate, enrolment, is_recovery))
        })
    }

    /// Takes up a certificate of an enrolment that is later than all that are known of it: it was issued after the backup that this
    /// database was restored from.
    fn newer_than_known(
        &self,
        connection: &mut dyn engine::Connection,
        certificate: &[u8],
        now: i64,
    ) -> Result<Certificate, EnrolmentError> {
        let own = self.authority.read_own(certificate).ok_or(EnrolmentError::Unknown)?;
        let enrolment = store::enrolment(connection, &own.enrolment)?.ok_or(EnrolmentError::Unknown)?;
        if enrolment.expires_at.is_some_and(|known| own.expires_at <= known) {
            // Forgotten, since a later one was used.
            return Err(EnrolmentError::Superseded(enrolment.license_server));
        }
        let taken_up = Certificate {
            enrolment: own.enrolment,
            public_key: own.public_key,
            der: certificate.to_vec(),
            expires_at: own.expires_at,
            state: CertificateState::Issued,
        };
        store::add_certificate(connection, &sha256(&CertificateDer::from(certificate)), &taken_up, &[], now)?;
        Ok(taken_up)
    }

    fn issue(
        &self,
        connection: &mut dyn engine::Connection,
        key: &RequestedKey,
        enrolment: &str,
        renewed: &[u8],
        now: i64,
    ) -> Result<Certificate, EnrolmentError> {
        let moment = OffsetDateTime::from_unix_timestamp(now).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let der = self.authority.agent(key, enrolment, moment, self.life)?;
        let certificate = Certificate {
            enrolment: enrolment.to_owned(),
            public_key: key.point().to_vec(),
            der: der.to_vec(),
            expires_at: now.saturating_add_unsigned(self.life.as_secs()),
            state: CertificateState::Issued,
        };
        store::add_certificate(connection, &sha256(&der), &certificate, renewed, now)?;
        Ok(certificate)
    }

    /// Returns whom a certificate lets in that says that it speaks for a license server in a realm. Certificates of the same enrolment
    /// before it are outdated from now on: who comes with one of them is a copy.
    pub fn admit(
        &self,
        certificate: &CertificateDer<'_>,
        (license_server, realm): (&str, &str),
        arrival: &Arrival,
    ) -> Result<Admitted, EnrolmentError> {
        let (hash, now) = (sha256(certificate), Timestamp::now().as_second());
        let mut generation = vec![0; 16];
        SystemRandom::new().fill(&mut generation).map_err(|_| AuthorityError::Random)?;
        self.write(|connection| {
            let known = store::certificate(connection, &hash)?.ok_or(EnrolmentError::Unknown)?;
            let enrolment = not_revoked(connection, &known)?;
            if now >= known.expires_at {
                return Err(EnrolmentError::Expired);
            }
            admits(&enrolment, (license_server, realm))?;
            let is_outdated = known.state == CertificateState::Superseded;
            let mut found = holders::holders(connection, &enrolment.id)?;
            let before = found.clone();
            let is_open = |number| self.connections.is_open(&enrolment.id, number);
            let index = place(&mut found, arrival, generation, is_outdated, is_open, now);
            let is_undecided = |holder: &&Holder| holder.standing.is_undecided();
            if found.len() > before.len() && found.iter().filter(is_undecided).count() > UNDECIDED {
                return Err(EnrolmentError::TooManyCopies(enrolment.license_server));
            }
            for holder in found.iter().filter(|holder| !before.contains(holder)) {
                holders::save_holder(connection, &enrolment.id, holder)?;
            }
            let holder = found.swap_remove(index);
            let is_new = before.iter().all(|known| known.number != holder.number);
            let is_rival = is_new && matches!(holder.standing, Standing::Counted | Standing::Probation);
            for other in found.iter().filter(|other| is_rival || !before.contains(other)) {
                // It comes again, if it lives, and learns what has become of it.
                self.connections.end(&enrolment.id, other.number);
            }
            if holder.standing == Standing::Rejected {
                return Err(EnrolmentError::Rejected(enrolment.license_server));
            }
            holders::forget_displaced(connection, &enrolment.id, holder.number - REMEMBERED)?;
            if known.state == CertificateState::Issued {
                store::use_certificate(connection, &enrolment.id, &hash)?;
            }
            store::set_seen(connection, &enrolment.id, now)?;
            Ok(Admitted {
                turn: self.connections.enter(&enrolment.id, holder.number),
                enrolment: enrolment.id,
                license_server: enrolment.license_server,
                realm: enrolment.realm,
                expires_at: known.expires_at,
                holder,
            })
        })
    }

    /// Takes note that a holder has got the generation that it was given: it has sent something after it.
    pub fn has_generation(&self, enrolment: &str, holder: &Holder) -> Result<(), EnrolmentError> {
        self.write(|connection| Ok(holders::set_issued(connection, enrolment, holder.number, &holder.issued)?))
    }

    /// Returns whether an agent that was let in may stay.
    pub fn may_stay(&self, enrolment: &str) -> Result<bool, EnrolmentError> {
        self.write(|connection| {
            let enrolment = store::enrolment(connection, enrolment)?;
            Ok(enrolment.is_some_and(|enrolment| enrolment.revoked_at.is_none()))
        })
    }

    /// Tells whenever an enrolment is revoked.
    pub fn revocations(&self) -> watch::Receiver<()> {
        self.revoked.subscribe()
    }
}

/// Refuses an agent that waits, or speaks for another license server or realm than it is enrolled for.
fn admits(enrolment: &Enrolment, (license_server, realm): (&str, &str)) -> Result<(), EnrolmentError> {
    let enrolled = enrolment.license_server.clone();
    if enrolment.waits {
        let id = enrolment.id.chars().take(ID_DIGITS).collect();
        return Err(EnrolmentError::Waits { license_server: enrolled, id });
    }
    if fold_case(&enrolled) != fold_case(license_server) {
        return Err(EnrolmentError::OtherServer { enrolled, said: license_server.to_owned() });
    }
    if enrolment.realm != realm {
        return Err(EnrolmentError::OtherRealm { enrolled: enrolment.realm.clone(), said: realm.to_owned() });
    }
    Ok(())
}

fn hash(secret: &[u8]) -> Vec<u8> {
    digest(&SHA256, secret).as_ref().to_vec()
}

fn issued(certificate: Certificate, enrolment: Enrolment, is_recovery: bool) -> Issued {
    Issued {
        is_recovery,
        enrolment: enrolment.id,
        certificate: certificate.der,
        expires_at: certificate.expires_at,
        license_server: enrolment.license_server,
        realm: enrolment.realm,
    }
}

/// Returns the enrolment of a certificate, if it was not revoked.
fn not_revoked(
    connection: &mut dyn engine::Connection,
    certificate: &Certificate,
) -> Result<Enrolment, EnrolmentError> {
    let enrolment = store::enrolment(connection, &certificate.enrolment)?.ok_or(EnrolmentError::Unknown)?;
    match enrolment.revoked_at {
        Some(_) => Err(EnrolmentError::Revoked(enrolment.license_server)),
        None => Ok(enrolment),
    }
}

#[cfg(test)]
mod tests;
