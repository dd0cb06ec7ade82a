//! Where key, certificate and authority are kept: `identity` in the state folder, which the agent's account alone may read.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use pem::Pem;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use seatmeter_proto::tls::{Identity, Trust, are_others};
use seatmeter_proto::transport::Credentials;
use seatmeter_service::private;
use seatmeter_service::state::make;

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A file cannot be read or written.
    #[error("cannot use {path}: {source}")]
    File {
        /// The file's path.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// A file does not hold what was written into it.
    #[error("{path} is damaged ({reason}): enrol the agent again")]
    Damaged {
        /// The file's path.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The files of an enrolled agent.
#[derive(Clone, Debug)]
pub struct Files {
    folder: PathBuf,
}

/// A certificate with its key, and when it was got.
pub struct Held {
    /// The key.
    pub key: KeyPair,
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    /// When the agent got it, by its own clock.
    pub issued: Timestamp,
    /// When it ends, by the aggregator's clock.
    pub expires: Timestamp,
}

impl Files {
    /// Returns the files of the agent with this state folder.
    pub fn of(state: &Path) -> Self {
        Self { folder: state.join("identity") }
    }

    /// Whether the agent is enrolled.
    pub fn exist(&self) -> bool {
        self.held_file().exists()
    }

    /// Returns what it takes to connect as this agent.
    pub fn credentials(&self) -> Credentials {
        let file = self.held_file();
        self.learning(Some(Identity { certificate: file.clone(), key: file }))
    }

    /// Returns what it takes to connect as nobody.
    pub fn credentials_of_nobody(&self) -> Credentials {
        self.learning(None)
    }

    fn learning(&self, identity: Option<Identity>) -> Credentials {
        let (trust, files) = (Trust { authority: self.authority_file(), identity }, self.clone());
        let keep = move |shown: &[CertificateDer<'static>]| match are_others(&files.authority_file(), shown) {
            true => files.save_authorities(shown).map_err(io::Error::other),
            false => Ok(()),
        };
        Credentials::Learning(trust, Arc::new(keep))
    }

    fn authority_file(&self) -> PathBuf {
        self.folder.join("authority.pem")
    }

    fn held_file(&self) -> PathBuf {
        self.folder.join("agent.pem")
    }

    /// Returns the key for the next certificate. It is kept, so that who asks again for the same certificate is known by it.
    pub fn next_key(&self) -> Result<KeyPair, FileError> {
        let path = self.folder.join("next.key");
        if let Ok(text) = fs::read_to_string(&path)
            && let Ok(key) = KeyPair::from_pem(&text)
        {
            return Ok(key);
        }
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
            .map_err(|error| FileError::Damaged { path: path.clone(), reason: error.to_string() })?;
        self.write(&path, &key.serialize_pem())?;
        Ok(key)
    }

    /// Prepares an agent without a network: the secret of its invitation goes into each export, and a key signs them. With another
    /// invitation it gets another key, as another agent.
    pub fn prepare_without_network(&self, secret: &[u8; 32]) -> Result<(), FileError> {
        if self.secret().is_ok_and(|known| known != *secret) {
            self.forget_next_key()?;
        }
        self.write(&self.folder.join("secret"), &HEXLOWER.encode(secret))?;
        self.next_key().map(drop)
    }

    /// Returns the key of an agent without a network.
    pub fn key_without_certificate(&self) -> Result<KeyPair, FileError> {
        let path = self.folder.join("next.key");
        let text = fs::read_to_string(&path)
            .map_err(|error| FileError::Damaged { path: path.clone(), reason: error.to_string() })?;
        KeyPair::from_pem(&text).map_err(|error| FileError::Damaged { path, reason: error.to_string() })
    }

    /// Returns the secret of the invitation of an agent without a network.
    pub fn secret(&self) -> Result<[u8; 32], FileError> {
        let path = self.folder.join("secret");
        let text = fs::read_to_string(&path).map_err(|source| FileError::File { path: path.clone(), source })?;
        let secret = HEXLOWER.decode(text.trim().as_bytes()).ok().and_then(|secret| secret.try_into().ok());
        secret.ok_or(FileError::Damaged { path, reason: "it holds no secret".into() })
    }

    /// Keeps the authorities that sign the aggregator's certificate.
    pub fn save_authorities(&self, authorities: &[CertificateDer<'_>]) -> Result<(), FileError> {
        let blocks: Vec<Pem> = authorities.iter().map(|one| Pem::new("CERTIFICATE", one.to_vec())).collect();
        self.write(&self.authority_file(), &pem::encode_many(&blocks))
    }

    /// Keeps a certificate with its key, in the place of the one before, whole or not at all.
    pub fn save(&self, held: &Held) -> Result<(), FileError> {
        let certificate = pem::encode(&Pem::new("CERTIFICATE", held.certificate.to_vec()));
        let (issued, expires) = (held.issued, held.expires);
        // Text before the first block is none of PEM's (RFC 7468, 2).
        let text = format!("Issued: {issued}\nExpires: {expires}\n{}{certificate}", held.key.serialize_pem());
        self.write(&self.held_file(), &text)
    }

    /// Forgets the key for the next certificate: all that was to be done with it is done.
    pub fn forget_next_key(&self) -> Result<(), FileError> {
        let path = self.folder.join("next.key");
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(FileError::File { path, source }),
            _ => Ok(()),
        }
    }

    /// Returns the certificate with its key.
    pub fn load(&self) -> Result<Held, FileError> {
        let path = self.held_file();
        let text = fs::read_to_string(&path).map_err(|source| FileError::File { path: path.clone(), source })?;
        let damaged = |reason: String| FileError::Damaged { path: path.clone(), reason };
        let moment = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let moment = line.and_then(|moment| moment.trim().parse::<Timestamp>().ok());
            moment.ok_or_else(|| damaged(format!("it has no line {name:?} with a moment")))
        };
        let certificate =
            CertificateDer::from_pem_slice(text.as_bytes()).map_err(|error| damaged(error.to_string()))?;
        let key = KeyPair::from_pem(&text).map_err(|error| damaged(error.to_string()))?;
        Ok(Held {
            key,
            certificate: certificate.into_owned(),
            issued: moment("Issued:")?,
            expires: moment("Expires:")?,
        })
    }

    /// Writes a file that the agent's account alone may read, durably. Made by root, it belongs to whoever the state folder belongs to.
    fn write(&self, path: &Path, text: &str) -> Result<(), FileError> {
        let written = || -> io::Result<()> {
            let state = self.folder.parent();
            for folder in state.into_iter().chain([&*self.folder]) {
                make(folder).map_err(io::Error::other)?;
            }
            private::write(path, text.as_bytes(), state)?;
            state.map_or(Ok(()), |state| private::give_away(&self.folder, state))
        };
        written().map_err(|source| FileError::File { path: path.to_owned(), source })
    }
}
