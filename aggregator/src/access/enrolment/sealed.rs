//! Agents that have no network: they are known by their keys, and have no certificates.

use std::net::IpAddr;

use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use seatmeter_proto::v1::{Hello, SealedHead};

use super::{EnrolmentError, Enrolments, Issued, admits, hash, not_revoked};
use crate::access::authority::RequestedKey;
use crate::store::enrolments::{self as store, Certificate, CertificateState, Enrolment};
use crate::store::exports::{self, Export};

/// The end of the time for which an agent without a network is known: there is none.
pub const NO_END: i64 = 253_402_300_799;

/// What is known of an export that was let in.
pub struct LetIn {
    /// The enrolment of the agent that made it.
    pub enrolment: Enrolment,
    /// The exports of the same buffer before it that were never imported.
    pub missing: Vec<u64>,
    /// Whether another one of its number was imported before.
    pub differs: bool,
}

/// The most numbers of exports that are told to be missing.
const MOST_MISSING: usize = 100;

/// Returns the hash under which a key is kept that has no certificate.
fn name_of(point: &[u8]) -> Vec<u8> {
    digest(&SHA256, &[b"sealed:", point].concat()).as_ref().to_vec()
}

impl Enrolments {
    /// Returns whether a signature is of the key that an export names.
    pub fn has_signed(head: &SealedHead, hash: &[u8], signature: &[u8]) -> bool {
        RequestedKey::of(&head.signing_request).is_ok_and(|key| {
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.point()).verify(hash, signature).is_ok()
        })
    }

    /// Returns whether an export with this head can be of an agent: of one that is enrolled, or by an invitation that can be used.
    pub fn may_export(&self, head: &SealedHead) -> Result<(), EnrolmentError> {
        let key = RequestedKey::of(&head.signing_request)?;
        let now = Timestamp::now().as_second();
        self.write(|connection| {
            if let Some(known) = store::certificate(connection, &name_of(key.point()))? {
                return not_revoked(connection, &known).map(drop);
            }
            let invitation = store::invitation(connection, &hash(&head.secret))?;
            let can_be_used = |known: &store::Invitation| now < known.expires_at && known.uses_left > 0;
            invitation.filter(can_be_used).map(drop).ok_or(EnrolmentError::Invitation)
        })
    }

    /// Lets in what an agent has exported that has signed it, and says that it is `hello`. With its first export, it is enrolled.
    /// `sha256` is the file's.
    pub fn let_in(
        &self,
        head: &SealedHead,
        hello: &Hello,
        sha256: &[u8],
        address: Option<IpAddr>,
    ) -> Result<LetIn, EnrolmentError> {
        let key = RequestedKey::of(&head.signing_request)?;
        let known = self.write(|connection| Ok(store::certificate(connection, &name_of(key.point()))?))?;
        let id = match known {
            Some(known) => known.enrolment,
            None => self.enrol_sealed(head, &key, hello, address)?,
        };
        self.write(|connection| {
            let enrolment = store::enrolment(connection, &id)?.ok_or(EnrolmentError::Unknown)?;
            if enrolment.revoked_at.is_some() {
                return Err(EnrolmentError::Revoked(enrolment.license_server));
            }
            // It is known by its key: what it says of itself makes no difference.
            admits(&enrolment, (&enrolment.license_server, &enrolment.realm))?;
            let before = exports::of_buffer(connection, &id, &hello.epoch)?;
            let differs = before.iter().any(|known| known.number == head.number && known.sha256 != sha256);
            let is_missing = |number: &u64| before.iter().all(|known| known.number != *number);
            let missing = (1..head.number).rev().filter(is_missing).take(MOST_MISSING).collect();
            Ok(LetIn { enrolment, missing, differs })
        })
    }

    fn enrol_sealed(
        &self,
        head: &SealedHead,
        key: &RequestedKey,
        hello: &Hello,
        address: Option<IpAddr>,
    ) -> Result<String, EnrolmentError> {
        let issue = |enrolment: &str| Certificate {
            enrolment: enrolment.to_owned(),
            public_key: key.point().to_vec(),
            der: Vec::new(),
            expires_at: NO_END,
            state: CertificateState::Issued,
        };
        let name = name_of(key.point());
        let said = (hello.license_server.trim(), hello.host.as_str());
        let Issued { enrolment, certificate, .. } =
            self.enrol_by(&head.secret, key, said, address, |connection, id, now| {
                let certificate = issue(id);
                store::add_certificate(connection, &name, &certificate, &[], now)?;
                Ok(certificate)
            })?;
        // A key that has a certificate is of an agent that has a network.
        if certificate.is_empty() { Ok(enrolment) } else { Err(EnrolmentError::Invitation) }
    }

    /// Takes note that an export was taken in.
    pub fn note_import(&self, let_in: &LetIn, epoch: &str, export: &Export, now: i64) -> Result<(), EnrolmentError> {
        self.write(|connection| {
            store::set_seen(connection, &let_in.enrolment.id, now)?;
            Ok(exports::add(connection, &let_in.enrolment.id, epoch, export, now)?)
        })
    }
}
