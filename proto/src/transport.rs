//! How agents, the aggregator and operators find and trust each other: TLS 1.3 with certificates from PEM files, plain text
//! only on loopback. Nothing older is negotiated, though license managers are asked over TLS 1.2 too.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::connection::{Connection, HANDSHAKE_TIMEOUT, within};

const VERSIONS: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a connection cannot be set up as configured.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
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
    Tls(String),
    /// The text is not the URL of an aggregator.
    #[error("{url:?} is not an aggregator's URL: write https://HOST:PORT, or http://127.0.0.1:PORT without TLS")]
    Url {
        /// The URL as configured.
        url: String,
    },
    /// The URL would send plain text to another machine.
    #[error("{url:?} would send user names in plain text: write https://, or use http:// to a loopback address only")]
    PlainText {
        /// The URL as configured.
        url: String,
    },
    /// The URL asks for TLS, but no authority is configured.
    #[error("{url:?} needs the authority that signed the aggregator's certificate: set `authority`")]
    NoAuthority {
        /// The URL as configured.
        url: String,
    },
    /// The connection failed.
    #[error("cannot connect to {url}: {reason}")]
    Connect {
        /// The aggregator's URL.
        url: String,
        /// The root cause.
        reason: String,
        /// The whole chain of causes, for troubleshooting.
        chain: String,
    },
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
    fn load(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TransportError> {
        refuse_open(&self.key)?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| TransportError::Pem {
            what: "a private key",
            path: self.key.clone(),
            reason: pem_reason(error),
        })?;
        Ok((certificates(&self.certificate)?, key))
    }
}

/// Refuses a key, or another secret, that every account of the machine can read.
#[cfg(unix)]
pub fn refuse_open(key: &Path) -> Result<(), TransportError> {
    use std::os::unix::fs::PermissionsExt;
    // A key that is missing is reported when it is read.
    let is_open = std::fs::metadata(key).is_ok_and(|metadata| metadata.permissions().mode() & 0o007 != 0);
    if is_open { Err(TransportError::OpenKey { path: key.to_owned() }) } else { Ok(()) }
}

/// On Windows, the access list of the folder decides, which the installer sets.
#[cfg(not(unix))]
pub fn refuse_open(_key: &Path) -> Result<(), TransportError> {
    Ok(())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TransportError> {
    let failed = |reason: String| TransportError::Pem { what: "certificates", path: path.to_owned(), reason };
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

/// Returns the authorities in a PEM file.
pub fn authority(path: &Path) -> Result<RootCertStore, TransportError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| TransportError::Tls(error.to_string()))?;
    }
    Ok(roots)
}

fn tls_error(error: impl std::fmt::Display) -> TransportError {
    TransportError::Tls(error.to_string())
}

/// Returns the cryptography that all TLS of the programs uses.
pub fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Returns the TLS configuration of a server. With `client_authority`, clients must present a certificate that it
/// signed.
pub fn server_tls(identity: &Identity, client_authority: Option<&Path>) -> Result<Arc<ServerConfig>, TransportError> {
    let (chain, key) = identity.load()?;
    let builder =
        ServerConfig::builder_with_provider(provider()).with_protocol_versions(VERSIONS).map_err(tls_error)?;
    let builder = match client_authority {
        Some(path) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authority(path)?), provider())
                .build()
                .map_err(tls_error)?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(tls_error)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// Returns the TLS configuration of a client. The client trusts servers whose certificate `trusted` signed, and
/// presents `identity` if there is one.
pub fn client_tls(trusted: &Path, identity: Option<&Identity>) -> Result<Arc<ClientConfig>, TransportError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)
        .map_err(tls_error)?
        .with_root_certificates(authority(trusted)?);
    let mut config = match identity {
        Some(identity) => {
            let (chain, key) = identity.load()?;
            builder.with_client_auth_cert(chain, key).map_err(tls_error)?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// The checked URL of an aggregator, with the TLS configuration to connect to it.
#[derive(Clone)]
pub struct Dialer {
    url: String,
    host: String,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
}

/// Returns the host and the port of an aggregator's URL, and whether the URL asks for TLS.
fn address(url: &str) -> Result<(String, u16, bool), TransportError> {
    let wrong = || TransportError::Url { url: url.to_owned() };
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let host = uri.host().ok_or_else(wrong)?.trim_matches(['[', ']']).to_owned();
    let port = uri.port_u16().ok_or_else(wrong)?;
    if uri.path_and_query().is_some_and(|rest| !matches!(rest.as_str(), "" | "/")) {
        return Err(wrong());
    }
    match uri.scheme_str() {
        Some("https") => Ok((host, port, true)),
        Some("http") if is_loopback(&host) => Ok((host, port, false)),
        Some("http") => Err(TransportError::PlainText { url: url.to_owned() }),
        _ => Err(wrong()),
    }
}

impl Dialer {
    /// Checks the URL: `https://` requires `tls`, and `http://` requires a loopback address.
    pub fn new(url: &str, tls: Option<Arc<ClientConfig>>) -> Result<Self, TransportError> {
        let (host, port, is_encrypted) = address(url)?;
        let tls = if is_encrypted {
            Some(tls.ok_or_else(|| TransportError::NoAuthority { url: url.to_owned() })?)
        } else {
            None
        };
        Ok(Self { url: url.to_owned(), host, port, tls })
    }

    /// Checks the text of a URL, before any file is read for it.
    pub fn check(url: &str) -> Result<(), TransportError> {
        address(url).map(drop)
    }

    /// Returns the aggregator's URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Connects to the aggregator.
    pub async fn connect(&self) -> Result<Channel, TransportError> {
        let failed = |error: &(dyn std::error::Error + 'static)| TransportError::Connect {
            url: self.url.clone(),
            reason: root_cause(error),
            chain: with_causes(error),
        };
        let endpoint = Endpoint::from_shared(self.url.clone())
            .map_err(|error| failed(&error))?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW);
        let dialer = self.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let dialer = dialer.clone();
            async move { dialer.dial().await.map(TokioIo::new) }
        });
        endpoint.connect_with_connector(connector).await.map_err(|error| failed(&error))
    }

    async fn dial(&self) -> io::Result<Connection> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await?;
        tcp.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Ok(Connection::new(tcp)) };
        let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
        let handshake = tokio_rustls::TlsConnector::from(tls.clone()).connect(name, tcp);
        Ok(Connection::new(within(HANDSHAKE_TIMEOUT, handshake).await?))
    }
}

/// The flow-control window of HTTP/2, in bytes: room for several batches in flight.
pub const WINDOW: u32 = 4 << 20;

/// Returns whether a host name can only mean this machine.
pub fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Returns the root cause of an error: the message of the system or of the peer, without those of the libraries in
/// between.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut root = error;
    while let Some(cause) = root.source() {
        root = cause;
    }
    let text = root.to_string();
    // Drop the system's error number: the message says the same.
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// Returns an error and its causes in one line, each cause once.
pub fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let reason = error.to_string();
        if !text.contains(&reason) {
            text = format!("{text}: {reason}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read x: {source}")]
        struct Telling {
            source: std::io::Error,
        }
        #[derive(Debug, thiserror::Error)]
        #[error("nothing is written")]
        struct Silent(#[source] Telling);
        let error = Silent(Telling { source: std::io::Error::other("no such file") });
        assert_eq!(with_causes(&error), "nothing is written: cannot read x: no such file");
    }

    #[test]
    fn plain_text_goes_to_loopback_alone() {
        for url in ["http://127.0.0.1:7470", "http://localhost:7470", "http://[::1]:7470"] {
            assert!(Dialer::new(url, None).is_ok(), "{url}");
        }
        for url in ["http://10.0.0.1:7470", "http://aggregator:7470", "http://localhost.example.com:7470"] {
            assert!(matches!(Dialer::new(url, None), Err(TransportError::PlainText { .. })), "{url}");
        }
        for url in ["aggregator:7470", "", "ftp://localhost:1", "http://localhost"] {
            assert!(matches!(Dialer::new(url, None), Err(TransportError::Url { .. })), "{url}");
        }
        assert!(matches!(Dialer::new("https://aggregator:7470", None), Err(TransportError::NoAuthority { .. })));
    }
}
