//! What a login leaves behind: where the aggregator is, which authority it is known by, and the operator's token.

use std::io;
use std::path::{Path, PathBuf};

use data_encoding::BASE64URL_NOPAD;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use seatmeter_service::private;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The beginning of every token, with the version of what follows: programs that search for lost secrets know it by this.
const MARK: &str = "smt1_";

/// An operator's token. It is not shown.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Token(String);

/// A text is no token.
#[derive(Debug, thiserror::Error)]
#[error("it holds no token: a token begins with {MARK:?}")]
pub(crate) struct NoToken;

/// The operating system has no random numbers.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gives no random numbers")]
pub(crate) struct NoRandom;

impl Token {
    /// Makes a token.
    pub(crate) fn new() -> Result<Self, NoRandom> {
        let mut secret = [0; 32];
        SystemRandom::new().fill(&mut secret).map_err(|_| NoRandom)?;
        Ok(Self(format!("{MARK}{}", BASE64URL_NOPAD.encode(&secret))))
    }

    /// Reads a token's text.
    pub(crate) fn read(text: &str) -> Result<Self, NoToken> {
        // Whatever stands around it, as it was copied or kept.
        let text = text.split_whitespace().find(|word| word.starts_with(MARK)).unwrap_or_default();
        let is_token = text.starts_with(MARK) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if is_token { Ok(Self(text.to_owned())) } else { Err(NoToken) }
    }

    /// Returns the text, to be sent or told once.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// Returns the hash by which the aggregator knows it.
    pub(crate) fn sha256(&self) -> Vec<u8> {
        digest(&SHA256, self.0.as_bytes()).as_ref().to_vec()
    }
}

/// A login.
#[derive(Serialize, Deserialize)]
pub(crate) struct Profile {
    /// The aggregator's URL.
    pub(crate) aggregator: String,
    /// The file with the authority that signed the aggregator's certificate; `None` if it has none.
    pub(crate) authority: Option<PathBuf>,
    /// The token.
    pub(crate) token: Token,
}

/// A login of which no answer has come yet.
#[derive(Serialize, Deserialize)]
pub(crate) struct Pending {
    /// The SHA-256 of the invitation, in hexadecimal digits.
    pub(crate) invitation: String,
    /// The token that it is to make valid.
    pub(crate) token: Token,
}

/// A login's file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the login in {path}: {source}. Remove the file, and log in again (`seatmeter login`)")]
pub(crate) struct ProfileError {
    path: PathBuf,
    source: io::Error,
}

/// Returns the file of the login of whoever runs the program; `None` if the system tells no folder for it.
pub(crate) fn default_path() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
    let config = match cfg!(windows) {
        true => folder("APPDATA"),
        // A service and a cron job can have no HOME: then the system knows the folder.
        false => folder("XDG_CONFIG_HOME").or_else(|| Some(std::env::home_dir()?.join(".config"))),
    };
    Some(config?.join("seatmeter").join("login.json"))
}

/// Reads a login, or one that is pending, from a file; `None` if there is none.
pub(crate) fn load<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ProfileError> {
    let failed = |source| ProfileError { path: path.to_owned(), source };
    match private::read(path) {
        // What it says of the place would help nobody.
        Ok(text) => serde_json::from_str(&text).map(Some).map_err(|_| failed(io::Error::other("it is damaged"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// Writes it into a file.
pub(crate) fn save(path: &Path, login: &impl Serialize) -> Result<(), ProfileError> {
    let written = || -> io::Result<()> {
        private::make_folder(path.parent().unwrap_or(Path::new(".")))?;
        private::write(path, &serde_json::to_vec_pretty(login)?, None)
    };
    written().map_err(|source| ProfileError { path: path.to_owned(), source })
}

/// Forgets what a file holds.
pub(crate) fn forget(path: &Path) -> Result<(), ProfileError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(ProfileError { path: path.to_owned(), source }),
        _ => Ok(()),
    }
}
