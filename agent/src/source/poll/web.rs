//! Asks over HTTP, within limits of time, of size, of redirects and of tries. Certificates are verified: by the authorities of
//! this machine, or by a configured one alone.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::header::{ACCEPT, AUTHORIZATION, DATE, HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::redirect::{Action, Attempt, Policy};
use reqwest::{Client, Proxy, RequestBuilder, Response, StatusCode, Url};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;
use seatmeter_count::name::decode;
use seatmeter_proto::transport::{TransportError, authority, provider, refuse_open, with_causes};
use tokio::runtime::{Builder, Runtime};

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

/// A secret that is kept outside of the configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secret {
    /// The text of a file, which only the agent's account may read.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
}

/// As whom the agent asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Login {
    /// Nobody: the server tells everyone.
    #[default]
    Nobody,
    /// A user with a password.
    Basic {
        /// The user's name.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A token that somebody has issued.
    Bearer(Secret),
}

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

impl Secret {
    /// Reads the secret. It is read each time, so that it can be replaced at any time.
    fn read(&self) -> Result<String, WebError> {
        let (place, read) = match self {
            Self::File(path) => {
                let read = refuse_open(path).map_err(|error: TransportError| error.to_string());
                let text = || std::fs::read_to_string(path).map_err(|error: io::Error| error.to_string());
                (path.display().to_string(), read.and_then(|()| text()))
            }
            Self::Variable(name) => (name.clone(), std::env::var(name).map_err(|error| error.to_string())),
        };
        match read {
            Ok(text) => match text.trim_start_matches('\u{feff}').trim() {
                "" => Err(WebError::Secret { place, reason: "it is empty".into() }),
                text if text.contains(char::is_control) => {
                    Err(WebError::Secret { place, reason: "it has more than one line".into() })
                }
                text => Ok(text.to_owned()),
            },
            Err(reason) => Err(WebError::Secret { place, reason }),
        }
    }
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
        Ok(Visit { web: self, client, runtime, stop })
    }

    fn client(&self, redirects: Policy) -> reqwest::Result<Client> {
        let mut builder = Client::builder()
            .tls_backend_preconfigured(ClientConfig::clone(&self.tls))
            .user_agent(concat!("seatmeter-agent/", env!("CARGO_PKG_VERSION")))
            // An address can hold a secret.
            .referer(false)
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
}

impl Visit<'_> {
    /// Returns the header by which the server knows who asks; `None` if it does not.
    pub fn authorization(&self, login: &Login) -> Result<Option<HeaderValue>, WebError> {
        match login {
            Login::Nobody => Ok(None),
            Login::Basic { user, password } => {
                let pair = format!("{user}:{}", password.read()?);
                secret_header(format!("Basic {}", data_encoding::BASE64.encode(pair.as_bytes()))).map(Some)
            }
            Login::Bearer(token) => secret_header(format!("Bearer {}", token.read()?)).map(Some),
        }
    }

    /// Returns what the server answers.
    pub fn get(&self, url: &Url, headers: &HeaderMap) -> Result<Answered, WebError> {
        self.ask(url, || self.client.get(url.clone()).headers(headers.clone()))
    }

    /// Sends a form whose last value is a secret, and returns what the server answers. No redirect is followed, which could
    /// tell the secret to another server.
    pub fn post(&self, url: &Url, form: &[(&str, &str)], secret: (&str, &Secret)) -> Result<Answered, WebError> {
        let read = secret.1.read()?;
        let form: Vec<(&str, &str)> = form.iter().copied().chain([(secret.0, read.as_str())]).collect();
        let client = self.web.client(Policy::none());
        let client = client.map_err(|error| WebError::Unreachable { url: shown(url), reason: with_causes(&error) })?;
        let outcome = self.ask(url, || client.post(url.clone()).form(&form).header(ACCEPT, "application/json"));
        outcome.map_err(|error| match error {
            // It may repeat the secret.
            WebError::Status { url, status, .. } => WebError::Status { url, status, said: "no token is issued".into() },
            error => error,
        })
    }

    /// Asks until the server answers, if it is busy or its answer was torn.
    fn ask(&self, url: &Url, request: impl Fn() -> RequestBuilder) -> Result<Answered, WebError> {
        let mut pause = Duration::from_secs(1);
        let mut tries = 1;
        loop {
            let outcome = self.within(url, self.web.time_limit, answer(url, request()));
            let is_last = tries == MOST_TRIES || self.stop.load(Ordering::Relaxed);
            let wanted = match outcome {
                Ok(Reply::Answered(answered)) => return Ok(answered),
                Ok(Reply::Busy { status, pause, said }) if is_last || pause > Some(LONGEST_PAUSE) => {
                    return Err(WebError::Status { url: shown(url), status, said });
                }
                Ok(Reply::Busy { pause, .. }) => pause,
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

/// An answer.
#[derive(Debug)]
pub struct Answered {
    /// What it says.
    pub body: Vec<u8>,
    /// When it was made, by the server's clock, in seconds since 1970 UTC; `None` if the server does not tell.
    pub at: Option<i64>,
}

/// What comes of asking once.
enum Reply {
    Answered(Answered),
    /// It wants to be asked later.
    Busy {
        status: StatusCode,
        pause: Option<Duration>,
        said: String,
    },
}

/// Why it does not.
enum Failure {
    /// The connection was torn.
    Torn(String),
    Other(WebError),
}

async fn answer(url: &Url, request: RequestBuilder) -> Result<Reply, Failure> {
    let mut response = match request.send().await {
        Ok(response) => response,
        Err(error) if error.is_redirect() || error.is_builder() || error.is_connect() => {
            return Err(Failure::Other(WebError::Unreachable {
                url: shown(url),
                reason: with_causes(&error.without_url()),
            }));
        }
        Err(error) => return Err(Failure::Torn(with_causes(&error.without_url()))),
    };
    let (status, headers) = (response.status(), response.headers().clone());
    let body = read(url, &mut response).await?;
    if status.is_success() {
        let date = headers.get(DATE).and_then(|date| date.to_str().ok());
        let at = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()).map(|date| date.timestamp().as_second());
        return Ok(Reply::Answered(Answered { body, at }));
    }
    let said = said(&body, url);
    Err(Failure::Other(match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            return Ok(Reply::Busy { status, pause: pause(&headers), said });
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            WebError::Refused { url: shown(url), status, remedy: remedy(&headers) }
        }
        _ => WebError::Status { url: shown(url), status, said },
    }))
}

async fn read(url: &Url, response: &mut Response) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| Failure::Torn(with_causes(&error.without_url())))? {
        if body.len() + chunk.len() > MOST_BYTES {
            return Err(Failure::Other(WebError::TooMuch { url: shown(url) }));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Returns how long a busy server wants to be left alone; `None` if it does not tell in seconds.
fn pause(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// Returns what to do about a login that is not accepted.
fn remedy(headers: &HeaderMap) -> &'static str {
    let offers = |scheme: &str| {
        let mut schemes = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|offer| offer.to_str().ok());
        schemes.any(|offer| offer.to_ascii_lowercase().starts_with(scheme))
    };
    let wants_windows = offers("ntlm") || offers("negotiate");
    match (wants_windows, offers("basic")) {
        (true, false) => {
            ": it wants NTLM or Negotiate, which the agent does not speak; let the web server offer Basic authentication over https"
        }
        (_, true) => ": set `user` and the password in `secret_file`, or correct them",
        _ => ": is the secret right, and may this account read it all?",
    }
}

fn secret_header(value: String) -> Result<HeaderValue, WebError> {
    let mut header = HeaderValue::try_from(value).map_err(|_| WebError::Secret {
        place: "for the login".into(),
        reason: "it holds a character that cannot be sent".into(),
    })?;
    header.set_sensitive(true);
    Ok(header)
}

/// Returns the headers of a question.
pub fn headers(authorization: Option<HeaderValue>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(authorization) = authorization {
        headers.insert(AUTHORIZATION, authorization);
    }
    headers
}

/// Returns an address for people: without its query, which can hold secrets.
pub fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.to_string()
}

/// Returns what a server says in an error, for people, without the query that it may repeat.
fn said(body: &[u8], url: &Url) -> String {
    const CHARACTERS: usize = 300;
    let text = decode(body.trim_ascii());
    let query = url.query().filter(|query| !query.is_empty());
    let text = query.map_or_else(|| text.to_string(), |query| text.replace(query, "..."));
    let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(CHARACTERS).collect();
    if text.is_empty() { "it says nothing".into() } else { format!("it says: {text}") }
}
