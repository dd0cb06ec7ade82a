//! The aggregator's own authority: a key that never leaves its folder, with which it signs its own certificate and those of its
//! agents. Before it ends, or when its key may be known to others, another one takes its place ([`renewal`]).

pub mod renewal;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData,
    SerialNumber, SigningKey,
};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};
use seatmeter_proto::tls::{TlsError, refuse_open, sha256};
use seatmeter_service::state;
use time::OffsetDateTime;
use tokio::sync::watch;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

/// How long an authority lasts.
const LIFE: Duration = Duration::from_secs(20 * 365 * 86_400);

/// How long a certificate of the aggregator lasts. It is made anew at each start, and each day.
const SERVER_LIFE: Duration = Duration::from_secs(90 * 86_400);

/// How far the clocks of those who check a certificate may be behind.
const SLACK: Duration = Duration::from_secs(3600);

/// Why the authority cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file cannot be read or written.
    #[error("cannot use {path}: {source}")]
    File {
        /// The file's path.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// A file can be read by others, or is no certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// One file of two is missing: nothing is made in its place, since every agent trusts the old one.
    #[error(
        "{missing} is missing, and {there} is there: restore it from a backup, or move {there} away to begin anew, and enrol every agent again"
    )]
    Half {
        /// What is missing.
        missing: PathBuf,
        /// What is there.
        there: PathBuf,
    },
    /// There is no authority, and agents that trust one.
    #[error(
        "{missing} is missing, and the agents that are enrolled ({agents}) trust it: restore it from a backup; or move `access.db` away to begin anew, and enrol \
         every agent again"
    )]
    Lost {
        /// What is missing.
        missing: PathBuf,
        /// How many agents are enrolled.
        agents: usize,
    },
    /// The certificate or the key cannot be used to sign.
    #[error("{path} cannot be used to sign: {reason}: restore it from a backup")]
    Unusable {
        /// The file's path.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The step of the renewal is not the next one.
    #[error("{0}")]
    Step(&'static str),
    /// Agents would be left behind.
    #[error(
        "{count} of the agents are not ready, such as that of {first:?}: `seatmeter authority` lists them; wait until they have renewed \
         their certificates, or revoke those that are gone (`seatmeter agents revoke`)"
    )]
    LeftBehind {
        /// How many.
        count: usize,
        /// The license server of the first one.
        first: String,
    },
    /// The operating system has no random numbers.
    #[error("the operating system gives no random numbers: a secret cannot be made")]
    Random,
    /// A name cannot stand in a certificate.
    #[error("cannot issue a certificate: {0}")]
    Issue(#[from] rcgen::Error),
}

/// A signing request that cannot be granted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signing request must be PKCS #10, in DER, for an ECDSA key on P-256, and signed by it")]
pub struct BadRequest;

/// A certificate that can sign, with its key.
struct Signer {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

/// The authority: one that everybody trusts, and perhaps one that is to take its place.
pub struct Authority {
    /// Its folder; `None` if it comes from elsewhere, in files.
    folder: Option<PathBuf>,
    signers: RwLock<Signers>,
    changed: watch::Sender<()>,
}

struct Signers {
    /// The one that agents and operators know.
    trusted: Signer,
    next: Option<Next>,
}

/// The authority that is to take the place of the one that is trusted.
struct Next {
    signer: Signer,
    /// Whether it signs the certificates of agents already.
    signs: bool,
}

/// What stands in a certificate that the authority has issued to an agent.
pub struct OwnCertificate {
    /// The enrolment that it is for.
    pub enrolment: String,
    /// The key, as a point on P-256.
    pub public_key: Vec<u8>,
    /// When it ends, in seconds since 1970 UTC.
    pub expires_at: i64,
}

/// The key of a signing request: the point on P-256, and the request that names it.
pub struct RequestedKey {
    request: CertificateSigningRequestParams,
}

impl RequestedKey {
    /// Takes the key of a signing request (PKCS #10, DER), and nothing else of it.
    pub fn of(signing_request: &[u8]) -> Result<Self, BadRequest> {
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(signing_request));
        let request = request.map_err(|_| BadRequest)?;
        let is_p256 = request.public_key.algorithm() == &PKCS_ECDSA_P256_SHA256;
        if is_p256 { Ok(Self { request }) } else { Err(BadRequest) }
    }

    /// Returns the key, as a point on P-256.
    pub fn point(&self) -> &[u8] {
        self.request.public_key.der_bytes()
    }
}

/// The authority's folder in the state folder.
pub const FOLDER: &str = "authority";

impl Authority {
    /// Opens the authority in a state folder. Makes one if there is none, unless agents trust one already.
    pub fn open(state: &Path, agents: usize) -> Result<Self, AuthorityError> {
        let folder = &state.join(FOLDER);
        let (certificate, key) = (folder.join("authority.pem"), folder.join("authority.key"));
        match (certificate.exists(), key.exists()) {
            (true, true) => {}
            (false, false) if agents > 0 => return Err(AuthorityError::Lost { missing: certificate, agents }),
            (false, false) => make(folder, &certificate, &key)?,
            (true, false) => return Err(AuthorityError::Half { missing: key, there: certificate }),
            (false, true) => return Err(AuthorityError::Half { missing: certificate, there: key }),
        }
        renewal::finish(folder)?;
        let signers = Signers { trusted: Signer::load(&certificate, &key)?, next: renewal::load(folder)? };
        Ok(Self { folder: Some(folder.clone()), signers: RwLock::new(signers), changed: watch::channel(()).0 })
    }

    /// Returns the hash of the authority that an aggregator has made in its state folder, and that everybody trusts.
    pub fn trusted_in(state: &Path) -> Result<[u8; 32], AuthorityError> {
        let folder = state.join(FOLDER);
        Ok(sha256(&Signer::load(&folder.join("authority.pem"), &folder.join("authority.key"))?.certificate))
    }

    /// Reads an authority from files.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, AuthorityError> {
        let signers = Signers { trusted: Signer::load(certificate, key)?, next: None };
        Ok(Self { folder: None, signers: RwLock::new(signers), changed: watch::channel(()).0 })
    }

    /// Tells whenever the port's certificates must be made anew.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn signers(&self) -> RwLockReadGuard<'_, Signers> {
        self.signers.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the hash by which an agent that has seen nothing of it yet knows the authority.
    pub fn sha256(&self) -> [u8; 32] {
        sha256(&self.signers().trusted.certificate)
    }

    /// Returns the store that trusts the certificates which it signs, and has signed.
    pub fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in self.signers().certificates() {
            roots.add(certificate).map_err(|error| TlsError::Mismatch(error.to_string()))?;
        }
        Ok(roots)
    }

    /// Reads a certificate that this authority has issued to an agent; `None` if it has not.
    pub fn read_own(&self, certificate: &[u8]) -> Option<OwnCertificate> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let has_signed = |own: &CertificateDer<'_>| {
            let own = X509Certificate::from_der(own);
            own.is_ok_and(|(_, own)| parsed.verify_signature(Some(own.public_key())).is_ok())
        };
        self.signers().certificates().iter().find(|own| has_signed(own))?;
        let enrolment = parsed.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
        let public_key = parsed.public_key().subject_public_key.data.to_vec();
        Some(OwnCertificate { enrolment, public_key, expires_at: parsed.validity().not_after.timestamp() })
    }

    /// Issues a certificate for the aggregator itself, with a new key, for these host names and addresses. Returns the chain, through
    /// the authority itself, and the key. Behind it stands the authority that is to take its place: who trusts the one learns of the other.
    pub fn server(
        &self,
        names: &[String],
        now: OffsetDateTime,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut parameters = CertificateParams::new(names)?;
        leaf(&mut parameters, "Seatmeter aggregator", now, SERVER_LIFE, ExtendedKeyUsagePurpose::ServerAuth);
        let signers = self.signers();
        let certificate = parameters.signed_by(&key, &signers.trusted.issuer)?;
        let chain = std::iter::once(certificate.der().clone()).chain(signers.certificates()).collect();
        Ok((chain, PrivateKeyDer::Pkcs8(key.serialize_der().into())))
    }

    /// Signs a text as the authority that everybody trusts. Returns its certificate and the signature (ECDSA with SHA-256, ASN.1).
    pub fn sign(&self, text: &[u8]) -> Result<(Vec<u8>, Vec<u8>), AuthorityError> {
        let signers = self.signers();
        let signature = SigningKey::sign(signers.trusted.issuer.key(), text)?;
        Ok((signers.trusted.certificate.to_vec(), signature))
    }

    /// Issues a certificate for an agent's key. It names the enrolment, and opens no other door than the agents'.
    pub fn agent(
        &self,
        key: &RequestedKey,
        enrolment: &str,
        now: OffsetDateTime,
        life: Duration,
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        let mut parameters = CertificateParams::default();
        leaf(&mut parameters, enrolment, now, life, ExtendedKeyUsagePurpose::ClientAuth);
        let signers = self.signers();
        Ok(parameters.signed_by(&key.request.public_key, &signers.signing().issuer)?.der().clone())
    }
}

impl Signers {
    /// Returns the one that signs the certificates of agents.
    fn signing(&self) -> &Signer {
        self.next.as_ref().filter(|next| next.signs).map_or(&self.trusted, |next| &next.signer)
    }

    fn certificates(&self) -> Vec<CertificateDer<'static>> {
        let all = std::iter::once(&self.trusted).chain(self.next.as_ref().map(|next| &next.signer));
        all.map(|signer| signer.certificate.clone()).collect()
    }
}

impl Signer {
    /// Reads one from its files.
    fn load(certificate: &Path, key: &Path) -> Result<Self, AuthorityError> {
        let wrong = |path: &Path, reason: String| AuthorityError::Unusable { path: path.to_owned(), reason };
        let unusable = |reason: String| wrong(certificate, reason);
        let read = |path: &Path| {
            fs::read_to_string(path).map_err(|source| AuthorityError::File { path: path.to_owned(), source })
        };
        refuse_open(key)?;
        let pair = KeyPair::from_pem(&read(key)?).map_err(|error| wrong(key, error.to_string()))?;
        let der = CertificateDer::from_pem_slice(read(certificate)?.as_bytes());
        let der = der.map_err(|error| unusable(error.to_string()))?;
        let is_of_the_key = X509Certificate::from_der(&der)
            .is_ok_and(|(_, parsed)| *parsed.public_key().subject_public_key.data == *pair.public_key_raw());
        if !is_of_the_key {
            return Err(unusable(format!("{} is not its key", key.display())));
        }
        let issuer = Issuer::from_ca_cert_der(&der, pair).map_err(|error| unusable(error.to_string()))?;
        Ok(Self { issuer, certificate: der.into_owned() })
    }
}

/// Fills in what all certificates have in common.
fn leaf(
    parameters: &mut CertificateParams,
    name: &str,
    now: OffsetDateTime,
    life: Duration,
    usage: ExtendedKeyUsagePurpose,
) {
    parameters.distinguished_name = named(name);
    parameters.not_before = now - SLACK;
    parameters.not_after = now + life;
    parameters.serial_number = Some(SerialNumber::from_slice(&uuid::Uuid::new_v4().into_bytes()));
    parameters.use_authority_key_identifier_extension = true;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![usage];
}

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    named
}

/// Makes an authority: first the key, then the certificate, each in its file whole or not at all.
fn make(folder: &Path, certificate: &Path, key: &Path) -> Result<(), AuthorityError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| AuthorityError::File { path, source }
    };
    state::make(folder).map_err(io::Error::other).map_err(failed(folder))?;
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let now = OffsetDateTime::now_utc();
    let mut parameters = CertificateParams::default();
    // The name tells authorities apart that are trusted side by side.
    let id = uuid::Uuid::new_v4().to_string();
    parameters.distinguished_name = named(&format!("Seatmeter authority {}", id.split('-').next().unwrap_or(&id)));
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (parameters.not_before, parameters.not_after) = (now - SLACK, now + LIFE);
    let made = parameters.self_signed(&pair)?;
    write_new(key, &pair.serialize_pem(), 0o600).map_err(failed(key))?;
    write_new(certificate, &made.pem(), 0o644).map_err(failed(certificate))
}

/// Writes a file that is not there yet, durably.
pub(crate) fn write_new(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let fresh = path.with_extension("new");
    // What an earlier attempt has left.
    let _ = fs::remove_file(&fresh);
    let mut options = fs::File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    let mut file = options.open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}
