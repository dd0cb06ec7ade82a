//! One question, and what the server answers to it.

use std::time::Duration;

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{RequestBuilder, Response, StatusCode, Url};
use seatmeter_count::name::decode;
use seatmeter_proto::transport::with_causes;

use super::{MOST_BYTES, WebError, shown};

/// An answer.
#[derive(Debug)]
pub struct Answered {
    /// What it says.
    pub body: Vec<u8>,
    /// When it was made, by the server's clock, in seconds since 1970 UTC; `None` if the server does not tell.
    pub at: Option<i64>,
}

/// What a server answers, whatever it is.
pub(super) struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
    /// The certificate that the server has shown, in DER; `None` without TLS.
    #[cfg(feature = "ntlm")]
    certificate: Option<Vec<u8>>,
}

/// What comes of asking once.
pub(super) enum Outcome {
    Answered(Answered),
    /// It wants to be asked later.
    Busy {
        status: StatusCode,
        pause: Option<Duration>,
        said: String,
    },
}

/// Why nothing comes of it.
pub(super) enum Failure {
    /// The connection was torn.
    Torn(String),
    Other(WebError),
}

impl Reply {
    /// Sends a question, and reads the whole reply.
    pub(super) async fn to(url: &Url, question: RequestBuilder) -> Result<Self, Failure> {
        let mut response = match question.send().await {
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
        Ok(Self {
            status,
            headers,
            body,
            #[cfg(feature = "ntlm")]
            certificate: certificate(&response),
        })
    }

    /// Returns what the server says with its status.
    pub(super) fn outcome(self, url: &Url) -> Result<Outcome, Failure> {
        if self.status.is_success() {
            let date = self.headers.get(DATE).and_then(|date| date.to_str().ok());
            let date = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
            return Ok(Outcome::Answered(Answered {
                body: self.body,
                at: date.map(|date| date.timestamp().as_second()),
            }));
        }
        let (status, said) = (self.status, said(&self.body, url));
        Err(Failure::Other(match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                return Ok(Outcome::Busy { status, pause: self.pause(), said });
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                WebError::Refused { url: shown(url), status, remedy: self.remedy() }
            }
            _ => WebError::Status { url: shown(url), status, said },
        }))
    }

    /// Returns the scheme by which the server wants a Windows login, and that alone.
    pub(super) fn windows_scheme(&self) -> Option<&'static str> {
        let wants = |scheme: &str| self.status == StatusCode::UNAUTHORIZED && self.offer(scheme).is_some();
        // Behind "Negotiate", a server takes NTLM's messages too, as they are.
        ["NTLM", "Negotiate"].into_iter().find(|scheme| wants(scheme) && !wants("Basic"))
    }

    /// Returns what the server's next step of a login says, behind its scheme; `None` if it offers no such scheme.
    pub(super) fn offer(&self, scheme: &str) -> Option<&str> {
        let mut offers = self.headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|offer| offer.to_str().ok());
        offers.find_map(|offer| {
            let (name, rest) = offer.split_once([' ', ',']).unwrap_or((offer, ""));
            name.eq_ignore_ascii_case(scheme).then(|| rest.trim())
        })
    }

    /// Returns the certificate that the server has shown, in DER; `None` without TLS.
    #[cfg(feature = "ntlm")]
    pub(super) fn certificate(&self) -> Option<&[u8]> {
        self.certificate.as_deref()
    }

    /// Returns how long a busy server wants to be left alone; `None` if it does not tell in seconds.
    fn pause(&self) -> Option<Duration> {
        self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
    }

    /// Returns what to do about a login that is not accepted.
    fn remedy(&self) -> &'static str {
        match self.windows_scheme() {
            Some(_) if cfg!(not(feature = "ntlm")) => {
                ": it wants NTLM or Negotiate, which this agent was built without; let the web server offer Basic \
                 authentication over https"
            }
            Some(_) => {
                ": it wants a Windows login; set `user`, as \"DOMAIN\\\\user\", and the password in `secret_file`, or correct \
                 them; where the domain allows Kerberos alone, let the web server offer Basic authentication over https"
            }
            None if self.offer("Basic").is_some() => ": set `user` and the password in `secret_file`, or correct them",
            None => ": is the secret right, and may this account read it all?",
        }
    }
}

#[cfg(feature = "ntlm")]
fn certificate(response: &Response) -> Option<Vec<u8>> {
    let tls = response.extensions().get::<reqwest::tls::TlsInfo>()?;
    tls.peer_certificate().map(<[u8]>::to_vec)
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

/// Returns what a server says in an error, for people, without the query that it may repeat.
fn said(body: &[u8], url: &Url) -> String {
    const CHARACTERS: usize = 300;
    let text = decode(body.trim_ascii());
    let query = url.query().filter(|query| !query.is_empty());
    let text = query.map_or_else(|| text.to_string(), |query| text.replace(query, "..."));
    let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(CHARACTERS).collect();
    if text.is_empty() { "it says nothing".into() } else { format!("it says: {text}") }
}
