//! Asks over HTTP, within limits of time, of size, of redirects and of tries. Certificates are verified: by the authorities of
//! this machine, or by a configured one alone.

mod login;
#[cfg(feature = "ntlm")]
mod ntlm;
mod reply;

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::redirect::{Action, Attempt, Policy};
use reqwest::{Client, Proxy, StatusCode, Url};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;
use seatmeter_proto::tls::{authority, provider};
use seatmeter_proto::transport::with_causes;
use tokio::runtime::{Builder, Runtime};

pub use login::{Login, Secret};
#[cfg(feature = "ntlm")]
use ntlm::Handshake;
pub use reply::Answered;
use reply::{Failure, Outcome, Reply};

/// The most bytes of an answer.
const MOST_BYTES: usize = 16 << 20;

/// How many redirects are followed.
const MOST_REDIRECTS: usize = 5;

/// How often a server that is busy, or whose answer was torn, is asked again.
const MOST_TRIES: u32 = 5;

/// The longest pause that a busy server can ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);

/// How often it is looked whether the agent stops.
const LOOK: Duration = Duration::from_millis(50);

/// How servers are reached.
#[derive(Clone, Debug)]
pub struct Web {
    tls: Arc<ClientConfig>,
    proxy: Option<Proxy>,
    /// Whether a proxy may be asked to ask.
    is_proxied: bool,
    /// How long one answer may take.
    time_limit: Duration,
}

/// Why a server gave no answer. No message holds a secret: of addresses, queries are left out.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// The secret cannot be read.
    #[error("cannot read the secret {place}: {reason}")]
    Secret {
        /// The file, or the variable.
        place: String,
        /// Why.
        reason: String,
    },
    /// The server cannot be reached, or does not speak HTTP.
    #[error("{url} cannot be asked: {reason}")]
    Unreachable {
        /// The address.
        url: String,
        /// Why.
        reason: String,
    },
    /// The server took longer than it may.
    #[error("{url} has not answered within {} seconds", .limit.as_secs())]
    TooLong {
        /// The address.
        url: String,
        /// How long it may take.
        limit: Duration,
    },
    /// The answer is larger than it may be.
    #[error("{url} answers with more than {} MiB", MOST_BYTES >> 20)]
    TooMuch {
        /// The address.
        url: String,
    },
    /// The server does not accept the login.
    #[error("{url} does not accept the login ({status}){remedy}")]
    Refused {
        /// The address.
        url: String,
        /// The status.
        status: StatusCode,
        /// What to do; begins with a colon.
        remedy: &'static str,
    },
    /// The server answers with an error.
    #[error("{url} answers {status}; {said}")]
    Status {
        /// The address.
        url: String,
        /// The status.
        status: StatusCode,
        /// What it says, for people.
        said: String,
    },
    /// The agent stops.
    #[error("the agent stops")]
    Stopped,
}

impl Web {
    /// Prepares to ask. With `trusted`, only servers whose certificate that authority has signed are; else, those that this
    /// machine trusts.
    /// Without `is_tls`, no certificate is trusted, and none of the machine's authorities need be there. Without `is_proxied`, no
    /// proxy is asked, which could read a secret in plain text.
    pub fn new(
        trusted: Option<&PathBuf>,
        proxy: Option<&str>,
        time_limit: Duration,
        is_tls: bool,
        is_proxied: bool,
    ) -> Result<Self, String> {
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| error.to_string())?;
        let builder = match trusted {
            Some(path) => builder.with_root_certificates(authority(path).map_err(|error| error.to_string())?),
            None if is_tls => builder.with_platform_verifier().map_err(|error| error.to_string())?,
            None => builder.with_root_certificates(RootCertStore::empty()),
        };
        let tls = Arc::new(builder.with_no_client_auth());
        if proxy.is_some() && !is_proxied {
            return Err("`proxy` would read the secret, which goes to it in plain text: leave it out".into());
        }
        let proxy = proxy.map(Proxy::all).transpose().map_err(|error| format!("proxy: {error}"))?;
        Ok(Self { tls, proxy, is_proxied, time_limit })
    }

    /// Begins to ask a server, perhaps several times. Ends when `stop` becomes true.
    pub fn visit<'a>(&'a self, stop: &'a AtomicBool) -> Result<Visit<'a>, WebError> {
        let failed = |reason: String| WebError::Unreachable { url: "the network".into(), reason };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| failed(error.to_string()))?;
        let client = self.client(Policy::custom(follow)).map_err(|error| failed(with_causes(&error)))?;
        Ok(Visit { web: self, client, runtime, stop, is_windows: Cell::new(false) })
    }

    fn client(&self, redirects: Policy) -> reqwest::Result<Client> {
        let mut builder = Client::builder()
            .tls_backend_preconfigured(ClientConfig::clone(&self.tls))
            .user_agent(concat!("seatmeter-agent/", env!("CARGO_PKG_VERSION")))
            // An address can hold a secret.
            .referer(false)
            // A Windows login is that of a connection, and can be bound to the certificate.
            .pool_max_idle_per_host(1)
            .tls_info(true)
            .redirect(redirects);
        if let Some(proxy) = &self.proxy {
            builder = builder.proxy(proxy.clone());
        }
        if !self.is_proxied {
            builder = builder.no_proxy();
        }
        builder.build()
    }
}

/// Follows a redirect, but to no other server: what that one says is not what was asked for.
fn follow(attempt: Attempt<'_>) -> Action {
    let is_plain = attempt.url().scheme() != "https";
    if attempt.previous().iter().any(|url| url.host() != attempt.url().host()) {
        let elsewhere = attempt.url().host_str().unwrap_or_default().to_owned();
        attempt.error(format!("it redirects to another server, {elsewhere}: set `url` to where the answer is"))
    } else if is_plain && attempt.previous().iter().any(|url| url.scheme() == "https") {
        attempt.error("it redirects from https to http")
    } else if attempt.previous().len() > MOST_REDIRECTS {
        attempt.error("it redirects too often")
    } else {
        attempt.follow()
    }
}

/// One or more questions to a server.
pub struct Visit<'a> {
    web: &'a Web,
    client: Client,
    runtime: Runtime,
    stop: &'a AtomicBool,
    /// Whether the server has wanted a Windows login.
    is_windows: Cell<bool>,
}

impl Visit<'_> {
    /// Returns what the server answers to somebody.
    pub fn get(&self, url: &Url, headers: &HeaderMap, login: &Login) -> Result<Answered, WebError> {
        self.ask(url, async || self.question(url, headers, login).await)
    }

    /// Asks once. Where the server wants a Windows login, that is three questions.
    async fn question(&self, url: &Url, headers: &HeaderMap, login: &Login) -> Result<Outcome, Failure> {
        let reply = async |authorization: Option<HeaderValue>| {
            let question = self.client.get(url.clone()).headers(headers.clone());
            let question = match authorization {
                Some(authorization) => question.header(AUTHORIZATION, authorization),
                None => question,
            };
            Reply::to(url, question).await
        };
        // A connection that is the user's already needs no password, and a server that wants NTLM must not get it.
        let authorization = if self.is_windows.get() { None } else { login.header().map_err(Failure::Other)? };
        let first = reply(authorization).await?;
        #[cfg(feature = "ntlm")]
        if let (Login::User { user, password }, Some(scheme)) = (login, first.windows_scheme()) {
            self.is_windows.set(true);
            let mut handshake = Handshake::new(scheme, user, password, first.certificate()).map_err(Failure::Other)?;
            let challenge = reply(handshake.next("")).await?;
            return match challenge.offer(scheme).and_then(|message| handshake.next(message)) {
                Some(proof) => reply(Some(proof)).await?.outcome(url),
                None => challenge.outcome(url),
            };
        }
        first.outcome(url)
    }

    /// Sends a form whose last value is a secret, and returns what the server answers. No redirect is followed, which could
    /// tell the secret to another server.
    pub fn post(&self, url: &Url, form: &[(&str, &str)], secret: (&str, &Secret)) -> Result<Answered, WebError> {
        let read = secret.1.read()?;
        let form: Vec<(&str, &str)> = form.iter().copied().chain([(secret.0, read.as_str())]).collect();
        let client = self.web.client(Policy::none());
        let client = client.map_err(|error| WebError::Unreachable { url: shown(url), reason: with_causes(&error) })?;
        let outcome = self.ask(url, async || {
            let question = client.post(url.clone()).form(&form).header(ACCEPT, "application/json");
            Reply::to(url, question).await?.outcome(url)
        });
        outcome.map_err(|error| match error {
            // It may repeat the secret.
            WebError::Status { url, status, .. } => WebError::Status { url, status, said: "no token is issued".into() },
            error => error,
        })
    }

    /// Asks until the server answers, if it is busy or its answer was torn.
    fn ask(&self, url: &Url, question: impl AsyncFn() -> Result<Outcome, Failure>) -> Result<Answered, WebError> {
        let mut pause = Duration::from_secs(1);
        let mut tries = 1;
        loop {
            let outcome = self.within(url, self.web.time_limit, question());
            let is_last = tries == MOST_TRIES || self.stop.load(Ordering::Relaxed);
            let wanted = match outcome {
                Ok(Outcome::Answered(answered)) => return Ok(answered),
                Ok(Outcome::Busy { status, pause, said }) if is_last || pause > Some(LONGEST_PAUSE) => {
                    return Err(WebError::Status { url: shown(url), status, said });
                }
                Ok(Outcome::Busy { pause, .. }) => pause,
                Err(Failure::Torn(reason)) if is_last => {
                    return Err(WebError::Unreachable { url: shown(url), reason });
                }
                Err(Failure::Torn(_)) => None,
                Err(Failure::Other(error)) => return Err(error),
            };
            let deadline = Instant::now() + wanted.unwrap_or(pause);
            while Instant::now() < deadline && !self.stop.load(Ordering::Relaxed) {
                std::thread::sleep(LOOK.min(deadline.saturating_duration_since(Instant::now())));
            }
            (pause, tries) = (pause * 2, tries + 1);
        }
    }

    /// Runs a task within a time limit, and not longer than the agent.
    fn within<T>(
        &self,
        url: &Url,
        limit: Duration,
        task: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let stopped = async {
            while !self.stop.load(Ordering::Relaxed) {
                tokio::time::sleep(LOOK).await;
            }
        };
        self.runtime.block_on(async {
            tokio::select! {
                outcome = tokio::time::timeout(limit, task) => {
                    outcome.unwrap_or_else(|_| Err(Failure::Other(WebError::TooLong { url: shown(url), limit })))
                }
                () = stopped => Err(Failure::Other(WebError::Stopped)),
            }
        })
    }
}

/// Returns an address for people: without its query, which can hold secrets.
pub fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.to_string()
}
