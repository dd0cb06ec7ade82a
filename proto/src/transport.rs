//! How agents and operators find the aggregator: over TLS, and in plain text only on loopback.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::connection::{Connection, HANDSHAKE_TIMEOUT, within};
use crate::tls::{TlsError, Trust};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a connection cannot be set up as configured.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
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
    #[error(
        "{url:?} needs the authority that signed the aggregator's certificate: set `authority` (of `seatmeter`, --authority)"
    )]
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

/// How a client gets the TLS configuration of a connection.
#[derive(Clone)]
pub enum Credentials {
    /// From files, which are read again for each connection: they can be replaced at any time.
    Files(Trust),
    /// From files, of which the authorities are kept as the aggregator shows them: while its authority is renewed, it shows two.
    Learning(Trust, Keep),
    /// As it is.
    Fixed(Arc<ClientConfig>),
}

/// Keeps the authorities that an aggregator shows that is trusted, in the place of those that are known.
pub type Keep = Arc<dyn Fn(&[CertificateDer<'static>]) -> io::Result<()> + Send + Sync>;

impl Credentials {
    fn load(&self) -> Result<Arc<ClientConfig>, TlsError> {
        match self {
            Self::Files(trust) | Self::Learning(trust, _) => trust.load(),
            Self::Fixed(config) => Ok(config.clone()),
        }
    }
}

/// The checked URL of an aggregator, with what it takes to connect to it.
#[derive(Clone)]
pub struct Dialer {
    url: String,
    host: String,
    port: u16,
    credentials: Option<Credentials>,
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

/// Returns the host of an aggregator's URL, and whether the URL asks for TLS; `None` if it is no such URL.
pub fn host(url: &str) -> Option<(String, bool)> {
    address(url).ok().map(|(host, _, is_encrypted)| (host, is_encrypted))
}

impl Dialer {
    /// Checks the URL: `https://` requires credentials, which are tried, and `http://` requires a loopback address.
    pub fn new(url: &str, credentials: Option<Credentials>) -> Result<Self, TransportError> {
        let (host, port, is_encrypted) = address(url)?;
        let credentials = if is_encrypted {
            let credentials = credentials.ok_or_else(|| TransportError::NoAuthority { url: url.to_owned() })?;
            credentials.load()?;
            Some(credentials)
        } else {
            None
        };
        Ok(Self { url: url.to_owned(), host, port, credentials })
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
        let Some(credentials) = &self.credentials else { return Ok(Connection::new(tcp)) };
        let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
        let tls = credentials.load().map_err(io::Error::other)?;
        let handshake = tokio_rustls::TlsConnector::from(tls).connect(name, tcp);
        let stream = within(HANDSHAKE_TIMEOUT, handshake).await?;
        if let (Credentials::Learning(_, keep), Some([_, shown @ ..])) =
            (credentials, stream.get_ref().1.peer_certificates())
            && !shown.is_empty()
        {
            keep(shown)?;
        }
        Ok(Connection::new(stream))
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
