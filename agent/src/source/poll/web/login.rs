//! As whom a server is asked, and where the secret is kept.

use std::io;
use std::path::PathBuf;

use reqwest::header::HeaderValue;
use seatmeter_proto::tls::{TlsError, refuse_open};

use super::WebError;

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
    /// A user with a password: by Basic authentication, or by NTLM where the server offers that and not the former.
    User {
        /// The user's name.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A token that somebody has issued.
    Bearer(Secret),
}

impl Secret {
    /// Reads the secret. It is read each time, so that it can be replaced at any time.
    pub(super) fn read(&self) -> Result<String, WebError> {
        let (place, read) = match self {
            Self::File(path) => {
                let read = refuse_open(path).map_err(|error: TlsError| error.to_string());
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

impl Login {
    /// Returns the header by which the server knows who asks; `None` if it does not.
    pub(super) fn header(&self) -> Result<Option<HeaderValue>, WebError> {
        match self {
            Self::Nobody => Ok(None),
            Self::User { user, password } => {
                let pair = format!("{user}:{}", password.read()?);
                secret_header(format!("Basic {}", data_encoding::BASE64.encode(pair.as_bytes()))).map(Some)
            }
            Self::Bearer(token) => secret_header(format!("Bearer {}", token.read()?)).map(Some),
        }
    }
}

/// Returns a header that is never shown.
pub(super) fn secret_header(value: String) -> Result<HeaderValue, WebError> {
    let mut header = HeaderValue::try_from(value).map_err(|_| WebError::Secret {
        place: "for the login".into(),
        reason: "it holds a character that cannot be sent".into(),
    })?;
    header.set_sensitive(true);
    Ok(header)
}
