//! The TLS configuration of a port, renewed while the port is open: files that were replaced are read again, and a certificate of our
//! own is made anew each day.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use seatmeter_proto::tls::{ClientCertificates, Identity, TlsError, authority, server_tls, server_tls_with};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::authority::{Authority, AuthorityError};
use crate::codes;

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(10);

/// How often a certificate of our own is made anew.
const ANEW: Duration = Duration::from_secs(86_400);

/// Where a port has its certificate from.
#[derive(Clone)]
pub enum PortTls {
    /// It has none, and takes plain text.
    Plain,
    /// From files.
    Files(Files),
    /// From our own authority.
    Own,
}

/// The files of a port's certificate.
#[derive(Clone)]
pub struct Files {
    /// The certificate and its key.
    pub identity: Identity,
    /// The authority of the certificates that clients must have; `None` if they need none.
    pub client_authority: Option<PathBuf>,
}

impl Files {
    /// Reads the files.
    pub fn load(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let clients = self.client_authority.as_deref().map(authority).transpose()?;
        server_tls(&self.identity, clients.map_or(ClientCertificates::None, ClientCertificates::Required))
    }

    /// Returns what shows that the files are others than before.
    fn content(&self) -> Vec<Option<Vec<u8>>> {
        let files = [Some(&self.identity.certificate), Some(&self.identity.key), self.client_authority.as_ref()];
        files.into_iter().flatten().map(|file| std::fs::read(file).ok()).collect()
    }
}

/// Whose certificates a port takes whose own is from our authority.
#[derive(Clone, Copy)]
pub enum Clients {
    /// Those that were issued to agents; who enrols has none yet.
    Agents,
    /// Nobody's.
    None,
}

/// A port's TLS configuration, and how it is made anew.
pub enum Source {
    /// From files.
    Files(Files),
    /// From our own authority.
    Own {
        /// The authority.
        authority: Arc<Authority>,
        /// The host names and addresses of the aggregator.
        names: Vec<String>,
        /// Whose certificates it takes.
        clients: Clients,
    },
}

impl Source {
    fn make(&self) -> Result<Arc<ServerConfig>, AuthorityError> {
        match self {
            Self::Files(files) => Ok(files.load()?),
            Self::Own { authority, names, clients } => {
                let (chain, key) = authority.server(names, OffsetDateTime::now_utc())?;
                let clients = match clients {
                    Clients::Agents => ClientCertificates::Perhaps(authority.roots()?),
                    Clients::None => ClientCertificates::None,
                };
                Ok(server_tls_with(chain, key, clients)?)
            }
        }
    }

    /// Makes the configuration, and goes on making it anew for as long as somebody has the receiver.
    pub fn keep(self) -> Result<watch::Receiver<Arc<ServerConfig>>, AuthorityError> {
        let content = |source: &Self| match source {
            Self::Files(files) => Some(files.content()),
            Self::Own { .. } => None,
        };
        let (mut before, made) = (content(&self), self.make()?);
        let (sender, receiver) = watch::channel(made);
        let mut changes = match &self {
            Self::Files(_) => None,
            Self::Own { authority, .. } => Some(authority.changes()),
        };
        let every = if before.is_some() { LOOK } else { ANEW };
        tokio::spawn(async move {
            let mut clock = interval_at(Instant::now() + every, every);
            clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = clock.tick() => {}
                    () = changed(&mut changes) => {}
                    () = sender.closed() => return,
                }
                let now = content(&self);
                if now.is_some() && now == before {
                    continue;
                }
                before = now;
                match self.make() {
                    Ok(made) => {
                        sender.send_replace(made);
                        tracing::info!(code = codes::TLS_RENEWED, "new connections get the new certificate");
                    }
                    Err(error) => tracing::error!(
                        code = codes::TLS_FAILED,
                        reason = %error,
                        "the new certificate is of no use: new connections get the one before"
                    ),
                }
            }
        });
        Ok(receiver)
    }
}

/// Waits until the authority is another one than before.
async fn changed(changes: &mut Option<watch::Receiver<()>>) {
    if let Some(changes) = changes
        && changes.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}
