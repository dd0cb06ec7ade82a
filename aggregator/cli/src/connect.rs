//! The connection to the aggregator: to which one, and as whom.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use pem::Pem;
use rustls::pki_types::CertificateDer;
use seatmeter_proto::tls::{Identity, Trust, are_others};
use seatmeter_proto::transport::{Credentials, Dialer, TransportError, host};
use seatmeter_service::private;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Status};

use crate::profile::{self, Profile, Token};

/// A connection on which every call carries the operator's token.
pub(crate) type Channel = InterceptedService<tonic::transport::Channel, Bearer>;

#[derive(clap::Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    /// The aggregator's URL: https://HOST:PORT, or http:// to a loopback address [default: the one logged in to]
    #[arg(long, global = true, value_name = "URL", env = "SEATMETER_AGGREGATOR")]
    aggregator: Option<String>,
    /// The authority that signed the aggregator's certificate (PEM) [default: the one of the login]
    #[arg(long, global = true, value_name = "FILE", env = "SEATMETER_AUTHORITY")]
    authority: Option<PathBuf>,
    /// A file with a token, in place of the login's
    #[arg(long, global = true, value_name = "FILE", env = "SEATMETER_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Your own certificate, if the aggregator requires one (PEM)
    #[arg(long, global = true, value_name = "FILE", env = "SEATMETER_CERTIFICATE", requires = "key")]
    certificate: Option<PathBuf>,
    /// The key of your certificate (PEM)
    #[arg(long, global = true, value_name = "FILE", env = "SEATMETER_KEY", requires = "certificate")]
    key: Option<PathBuf>,
    /// The file of your login [default: seatmeter/login.json among your settings]
    #[arg(long, global = true, value_name = "FILE", env = "SEATMETER_LOGIN")]
    login: Option<PathBuf>,
}

/// The aggregator cannot be reached.
#[derive(Debug, thiserror::Error)]
#[error("{0}. Is the aggregator running, and is its URL right (--aggregator or SEATMETER_AGGREGATOR)?")]
pub(crate) struct Unreachable(pub(crate) TransportError);

/// Nobody has said which aggregator to ask.
#[derive(Debug, thiserror::Error)]
#[error(
    "you are not logged in: run `seatmeter login` with the line that an administrator gives you (`seatmeter operators add`), or that \
     `seatmeter-aggregator administrator NAME` prints on the aggregator's machine"
)]
pub(crate) struct NotLoggedIn;

/// Puts the token into each call.
#[derive(Clone)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl Bearer {
    pub(crate) fn new(token: Option<&Token>) -> Result<Self> {
        let value = token.map(|token| format!("Bearer {}", token.text()).parse::<MetadataValue<Ascii>>()).transpose();
        let mut value = value.ok().context("the token has characters that no token has")?;
        if let Some(value) = &mut value {
            value.set_sensitive(true);
        }
        Ok(Self(value))
    }
}

impl Bearer {
    /// Puts the token into a call.
    pub(crate) fn put_into<T>(&self, request: &mut Request<T>) {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        self.put_into(&mut request);
        Ok(request)
    }
}

impl Connection {
    /// Returns the file of the login.
    pub(crate) fn login_file(&self) -> Result<PathBuf> {
        let path = self.login.clone().or_else(profile::default_path);
        path.context("your system names no folder for your settings: say where to keep the login (--login)")
    }

    /// Returns the URL of the aggregator that is asked.
    pub(crate) fn url(&self) -> Result<String> {
        match (&self.aggregator, self.profile()?) {
            (Some(url), _) => Ok(url.clone()),
            (None, Some(profile)) => Ok(profile.aggregator),
            (None, None) => Err(NotLoggedIn.into()),
        }
    }

    /// Returns the login that there is.
    fn profile(&self) -> Result<Option<Profile>> {
        let path = self.login.clone().or_else(profile::default_path);
        Ok(path.map(|path| profile::load(&path)).transpose()?.flatten())
    }

    pub(crate) async fn open(&self) -> Result<Channel> {
        let url = self.url()?;
        // What was told to one machine is not told to another one.
        let profile = self.profile()?.filter(|profile| host(&profile.aggregator) == host(&url));
        let (known, own) = profile.map_or((None, None), |profile| (profile.authority, Some(profile.token)));
        let token = match &self.token_file {
            Some(path) => {
                let text =
                    private::read(path).with_context(|| format!("cannot read the token in {}", path.display()))?;
                Some(Token::read(&text).with_context(|| format!("cannot use {}", path.display()))?)
            }
            None => own,
        };
        let dialer = Dialer::new(&url, self.credentials(known))?;
        let channel = dialer.connect().await.map_err(Unreachable)?;
        Ok(InterceptedService::new(channel, Bearer::new(token.as_ref())?))
    }

    /// Returns what it takes to connect to an aggregator that is known by an authority, unless another one was named.
    pub(crate) fn credentials(&self, known: Option<PathBuf>) -> Option<Credentials> {
        let identity =
            self.certificate.clone().zip(self.key.clone()).map(|(certificate, key)| Identity { certificate, key });
        match (&self.authority, known) {
            (Some(authority), _) => Some(Credentials::Files(Trust { authority: authority.clone(), identity })),
            (None, Some(authority)) => {
                let (trust, file) = (Trust { authority: authority.clone(), identity }, authority);
                let keep = move |shown: &[CertificateDer<'static>]| {
                    if are_others(&file, shown) {
                        // Where it cannot be kept, it is learned with a later command.
                        let _ = private::write(&file, pem_of(shown).as_bytes(), None);
                    }
                    Ok(())
                };
                Some(Credentials::Learning(trust, Arc::new(keep)))
            }
            (None, None) => None,
        }
    }

    /// Returns the authority that was named.
    pub(crate) fn authority(&self) -> Option<&PathBuf> {
        self.authority.as_ref()
    }
}

/// Returns certificates as a file holds them.
pub(crate) fn pem_of(certificates: &[CertificateDer<'_>]) -> String {
    let blocks: Vec<Pem> = certificates.iter().map(|one| Pem::new("CERTIFICATE", one.to_vec())).collect();
    pem::encode_many(&blocks)
}
