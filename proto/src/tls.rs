//! Who trusts whom: certificates and keys from PEM files, TLS 1.3 with them. Nothing older is negotiated, though license managers are
//! asked over TLS 1.2 too.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};

const VERSIONS: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// Why TLS cannot be set up as configured.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file cannot be read.
    #[error("cannot read {what} from {path}: {reason}")]
    Pem {
        /// The items expected in the file, for example `certificates`.
        what: &'static str,
        /// The path of the file.
        path: PathBuf,
        /// Why the file cannot be read.
        reason: String,
    },
    /// Everybody on the machine can read the key.
    #[error("every account of this machine can read {path}: run `chmod o= {path}`, and replace it if others may have")]
    OpenKey {
        /// The path of the key.
        path: PathBuf,
    },
    /// The certificate, the key and the authority do not match.
    #[error("the TLS files do not match: {0}")]
    Mismatch(String),
}

/// A certificate chain and its private key, in PEM files.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The PEM file with the certificate, followed by the authorities between it and the root.
    pub certificate: PathBuf,
    /// The PEM file with the private key.
    pub key: PathBuf,
}

impl Identity {
    /// Reads the files.
    pub fn load(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
        refuse_open(&self.key)?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| TlsError::Pem {
            what: "a private key",
            path: self.key.clone(),
            reason: pem_reason(error),
        })?;
        Ok((certificates(&self.certificate)?, key))
    }
}

/// Refuses a key, or another secret, that every account of the machine can read.
#[cfg(unix)]
pub fn refuse_open(key: &Path) -> Result<(), TlsError> {
    use std::os::unix::fs::PermissionsExt;
    // A key that is missing is reported when it is read.
    let is_open = std::fs::metadata(key).is_ok_and(|metadata| metadata.permissions().mode() & 0o007 != 0);
    if is_open { Err(TlsError::OpenKey { path: key.to_owned() }) } else { Ok(()) }
}

/// On Windows, the access list of the folder decides, which the installer sets.
#[cfg(not(unix))]
pub fn refuse_open(_key: &Path) -> Result<(), TlsError> {
    Ok(())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |reason: String| TlsError::Pem { what: "certificates", path: path.to_owned(), reason };
    let list: Vec<_> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|error| failed(pem_reason(error)))?;
    if list.is_empty() { Err(failed("the file contains none".into())) } else { Ok(list) }
}

fn pem_reason(error: rustls::pki_types::pem::Error) -> String {
    use rustls::pki_types::pem::Error;
    match error {
        Error::Io(error) => error.to_string(),
        Error::NoItemsFound => "the file contains none".into(),
        other => other.to_string(),
    }
}

/// Returns whether the authorities that an aggregator shows are others than those in a PEM file, by which it was trusted. Of what it
/// shows, one must be held: what it shows beside its own authority can be others that have signed that one.
pub fn are_others(path: &Path, shown: &[CertificateDer<'_>]) -> bool {
    certificates(path).is_ok_and(|held| held != shown && held.iter().any(|one| shown.contains(one)))
}

/// Returns the authorities in a PEM file.
pub fn authority(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| TlsError::Mismatch(error.to_string()))?;
    }
    Ok(roots)
}

fn tls_error(error: impl std::fmt::Display) -> TlsError {
    TlsError::Mismatch(error.to_string())
}

/// Returns the cryptography that all TLS of the programs uses.
pub fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Which certificates clients present to a server.
pub enum ClientCertificates {
    /// None.
    None,
    /// One that an authority has signed, or none: what it does without one is for each method to say.
    Perhaps(RootCertStore),
    /// One that an authority has signed.
    Required(RootCertStore),
}

/// Returns the TLS configuration of a server with a certificate from files.
pub fn server_tls(identity: &Identity, clients: ClientCertificates) -> Result<Arc<ServerConfig>, TlsError> {
    let (chain, key) = identity.load()?;
    server_tls_with(chain, key, clients)
}

/// Returns the TLS configuration of a server with a certificate, followed by the authorities that have signed it.
pub fn server_tls_with(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    clients: ClientCertificates,
) -> Result<Arc<ServerConfig>, TlsError> {
    let builder =
        ServerConfig::builder_with_provider(provider()).with_protocol_versions(VERSIONS).map_err(tls_error)?;
    let verifier = |roots| WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let builder = match clients {
        ClientCertificates::None => builder.with_no_client_auth(),
        ClientCertificates::Perhaps(roots) => {
            let verifier = verifier(roots).allow_unauthenticated().build().map_err(tls_error)?;
            builder.with_client_cert_verifier(verifier)
        }
        ClientCertificates::Required(roots) => {
            builder.with_client_cert_verifier(verifier(roots).build().map_err(tls_error)?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(tls_error)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// What a client trusts, and who it is, in files.
#[derive(Clone, Debug)]
pub struct Trust {
    /// The authorities that sign the server's certificate.
    pub authority: PathBuf,
    /// The client's own certificate.
    pub identity: Option<Identity>,
}

impl Trust {
    /// Reads the files.
    pub fn load(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let builder = client()?.with_root_certificates(authority(&self.authority)?);
        let mut config = match &self.identity {
            Some(identity) => {
                let (chain, key) = identity.load()?;
                builder.with_client_auth_cert(chain, key).map_err(tls_error)?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }
}

fn client() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, TlsError> {
    ClientConfig::builder_with_provider(provider()).with_protocol_versions(VERSIONS).map_err(tls_error)
}

/// Trusts a server whose certificate was signed by one authority, of which nothing is known but its hash: the server shows it. It
/// keeps the authority, once a server has shown it.
#[derive(Debug)]
pub struct PinnedAuthority {
    /// The SHA-256 of the authority's certificate, in DER.
    sha256: [u8; 32],
    shown: Mutex<Option<CertificateDer<'static>>>,
}

impl PinnedAuthority {
    /// Trusts the authority with this hash.
    pub fn new(sha256: [u8; 32]) -> Arc<Self> {
        Arc::new(Self { sha256, shown: Mutex::default() })
    }

    /// Returns the authority, if a server has shown it and was trusted.
    pub fn shown(&self) -> Option<CertificateDer<'static>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the TLS configuration of a client that trusts no other authority.
    pub fn tls(self: Arc<Self>) -> Result<Arc<ClientConfig>, TlsError> {
        let builder = client()?.dangerous().with_custom_certificate_verifier(self);
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }
}

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        shown: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let is_meant = |shown: &&CertificateDer<'_>| sha256(shown) == self.sha256;
        let authority = shown.iter().find(is_meant).ok_or(rustls::CertificateError::UnknownIssuer)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build();
        let verifier = verifier.map_err(|error| rustls::Error::General(error.to_string()))?;
        let verified = verifier.verify_server_cert(certificate, shown, name, ocsp, now)?;
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(authority.clone().into_owned());
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Returns the hash by which a certificate is known.
pub fn sha256(certificate: &CertificateDer<'_>) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, certificate).as_ref());
    hash
}
