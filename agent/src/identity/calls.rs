//! How certificates are asked for: the first one with an invitation, each later one with the one before.

use std::time::Duration;

use jiff::Timestamp;
use rcgen::{CertificateParams, KeyPair};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustls::pki_types::CertificateDer;
use seatmeter_proto::invitation::Invitation;
use seatmeter_proto::tls::{PinnedAuthority, TlsError};
use seatmeter_proto::transport::{Credentials, Dialer, TransportError};
use seatmeter_proto::v1::enrolment_service_client::EnrolmentServiceClient;
use seatmeter_proto::v1::{EnrolRequest, RenewRequest};
use tokio::time::timeout;
use tonic::{Code, Status};

use super::files::{FileError, Files, Held};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why the agent has got no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The aggregator cannot be reached, or is not the one that was meant.
    #[error(transparent)]
    Connect(#[from] TransportError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The invitation is for operators.
    #[error(
        "the invitation is an operator's, for `seatmeter login`: one for an agent comes of `seatmeter agents invite`"
    )]
    NotForAgents,
    /// The aggregator refuses.
    #[error("the aggregator refuses: {}", .0.message())]
    Refused(Box<Status>),
    /// The aggregator does not answer.
    #[error("the aggregator has not answered within {} seconds", PATIENCE.as_secs())]
    Silent,
    /// The answer makes no sense.
    #[error("the aggregator's answer has no {0}")]
    Answer(&'static str),
    /// The files cannot be used.
    #[error(transparent)]
    Files(#[from] FileError),
    /// No signing request can be made.
    #[error("cannot make a signing request: {0}")]
    Request(String),
}

/// What an agent is enrolled as.
pub struct Enrolled {
    /// The license server that it speaks for.
    pub license_server: String,
    /// The realm of the license server's user names.
    pub realm: String,
    /// When its certificate ends.
    pub expires: Timestamp,
}

/// Enrols the agent, and keeps what it gets, with the key for the next time: until that is forgotten, the same invitation gives
/// the same certificate. `license_server` is what it wants to speak for, where the invitation leaves that open.
pub async fn enrol(
    invitation: &Invitation,
    files: &Files,
    license_server: &str,
    host: &str,
) -> Result<Enrolled, CallError> {
    let pinned = PinnedAuthority::new(invitation.authority.ok_or(CallError::NotForAgents)?);
    let dialer = Dialer::new(&invitation.url, Some(Credentials::Fixed(pinned.clone().tls()?)))?;
    let mut client = EnrolmentServiceClient::new(dialer.connect().await?);
    let mut key = files.next_key()?;
    let mut is_first = true;
    let answer = loop {
        let request = EnrolRequest {
            secret: invitation.secret.to_vec(),
            signing_request: signing_request(&key)?,
            license_server: license_server.to_owned(),
            host: host.to_owned(),
        };
        let answer = timeout(PATIENCE, client.enrol(request)).await.map_err(|_| CallError::Silent)?;
        match answer {
            Ok(answer) => break answer.into_inner(),
            // The key can be one that was left by an attempt with another invitation.
            Err(status) if is_first && status.code() == Code::PermissionDenied => {
                files.forget_next_key()?;
                (key, is_first) = (files.next_key()?, false);
            }
            Err(status) if status.code() == Code::Unimplemented => return Err(CallError::NotForAgents),
            Err(status) => return Err(CallError::Refused(Box::new(status))),
        }
    };
    let authority = pinned.shown().ok_or(CallError::Answer("authority"))?;
    let expires = moment(answer.expires_at)?;
    files.save_authorities(&[authority])?;
    let certificate = CertificateDer::from(answer.certificate);
    files.save(&Held { key, certificate, issued: Timestamp::now(), expires })?;
    Ok(Enrolled { license_server: answer.license_server, realm: answer.realm, expires })
}

/// Gets the agent's next certificate for the one that it has, whether that has expired or not. `generation` is what the aggregator gave at
/// the last connection. Returns when the next one ends.
pub async fn renew(url: &str, files: &Files, generation: Vec<u8>) -> Result<Timestamp, CallError> {
    let held = files.load()?;
    let next = files.next_key()?;
    let signing_request = signing_request(&next)?;
    let signature = sign(&held.key, &signing_request)?;
    let dialer = Dialer::new(url, Some(files.credentials_of_nobody()))?;
    let request = RenewRequest { certificate: held.certificate.to_vec(), signing_request, signature, generation };
    let mut client = EnrolmentServiceClient::new(dialer.connect().await?);
    let answer = timeout(PATIENCE, client.renew(request)).await.map_err(|_| CallError::Silent)?;
    let answer = answer.map_err(|status| CallError::Refused(Box::new(status)))?.into_inner();
    let expires = moment(answer.expires_at)?;
    let certificate = CertificateDer::from(answer.certificate);
    files.save(&Held { key: next, certificate, issued: Timestamp::now(), expires })?;
    files.forget_next_key()?;
    Ok(expires)
}

fn moment(at: Option<prost_types::Timestamp>) -> Result<Timestamp, CallError> {
    let at = at.and_then(|at| Timestamp::from_second(at.seconds).ok());
    at.ok_or(CallError::Answer("moment at which the certificate ends"))
}

/// Makes a signing request (PKCS #10, DER) for a key.
pub fn signing_request(key: &KeyPair) -> Result<Vec<u8>, CallError> {
    let failed = |error: rcgen::Error| CallError::Request(error.to_string());
    let request = CertificateParams::default().serialize_request(key).map_err(failed)?;
    Ok(request.der().to_vec())
}

/// Signs a text with a key (ECDSA with SHA-256, ASN.1).
pub fn sign(key: &KeyPair, text: &[u8]) -> Result<Vec<u8>, CallError> {
    let (random, pkcs8) = (SystemRandom::new(), key.serialize_der());
    let failed = |reason: &dyn std::fmt::Display| CallError::Request(reason.to_string());
    let key =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pkcs8, &random).map_err(|error| failed(&error))?;
    key.sign(&random, text).map(|signature| signature.as_ref().to_vec()).map_err(|error| failed(&error))
}
