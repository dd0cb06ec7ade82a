//! How another authority takes the place of the one that everybody trusts, without leaving an agent behind.
//!
//! 1. *Prepared*: there is a next one. Every connection shows it, so agents and operators learn of it, and trust both.
//! 2. *Activated*: it signs the certificates of agents, as they are renewed. The aggregator's own are still signed by the one before.
//! 3. *Completed*, once every agent has learned of it and has a certificate of it: it signs all, and the one before is forgotten.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use rustls::pki_types::CertificateDer;
use seatmeter_proto::tls::sha256;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::{Authority, AuthorityError, Next, SLACK, Signer, Signers, make, write_new};

/// How far a renewal has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// None is under way.
    None,
    /// There is a next authority.
    Prepared,
    /// It signs the certificates of agents.
    Activated,
}

/// An authority, as it is shown. Moments are in seconds since 1970 UTC.
pub struct Shown {
    /// The hash by which it is known.
    pub sha256: [u8; 32],
    /// When it was made.
    pub made_at: i64,
    /// When it ends.
    pub ends_at: i64,
    /// Whether it signs the certificates of agents.
    pub signs: bool,
}

/// What the file says that stands beside the next authority: it signs; it takes the place now.
const SIGNS: &str = "signs";
const TAKES_THE_PLACE: &str = "takes the place";

struct Files {
    certificate: PathBuf,
    key: PathBuf,
    next_certificate: PathBuf,
    next_key: PathBuf,
    state: PathBuf,
}

impl Files {
    fn of(folder: &Path) -> Self {
        let [certificate, key, next_certificate, next_key, state] =
            ["authority.pem", "authority.key", "next.pem", "next.key", "next.state"].map(|name| folder.join(name));
        Self { certificate, key, next_certificate, next_key, state }
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> AuthorityError {
    let path = path.to_owned();
    move |source| AuthorityError::File { path, source }
}

fn read_state(files: &Files) -> Result<String, AuthorityError> {
    match fs::read_to_string(&files.state) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        read => read.map(|text| text.trim().to_owned()).map_err(failed(&files.state)),
    }
}

/// Ends a step that the process did not live to end.
pub(super) fn finish(folder: &Path) -> Result<(), AuthorityError> {
    let files = Files::of(folder);
    if read_state(&files)? != TAKES_THE_PLACE {
        return Ok(());
    }
    for (from, to) in [(&files.next_key, &files.key), (&files.next_certificate, &files.certificate)] {
        match fs::rename(from, to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(from)(error)),
            _ => {}
        }
    }
    fs::remove_file(&files.state).map_err(failed(&files.state))
}

/// Reads the authority that is to take the place; `None` if there is none.
pub(super) fn load(folder: &Path) -> Result<Option<Next>, AuthorityError> {
    let files = Files::of(folder);
    // The certificate is written last.
    if !files.next_certificate.exists() {
        return Ok(None);
    }
    let signer = Signer::load(&files.next_certificate, &files.next_key)?;
    Ok(Some(Next { signer, signs: read_state(&files)? == SIGNS }))
}

impl Authority {
    /// Returns how far a renewal has come.
    pub fn step(&self) -> Step {
        match &self.signers().next {
            None => Step::None,
            Some(next) if next.signs => Step::Activated,
            Some(_) => Step::Prepared,
        }
    }

    /// Returns the authority that everybody trusts, and the next one.
    pub fn shown(&self) -> Vec<Shown> {
        let signers = self.signers();
        let signing = sha256(&signers.signing().certificate);
        signers.certificates().iter().filter_map(|certificate| shown(certificate, &signing)).collect()
    }

    /// Returns whether the authority that signs now has signed a certificate of an agent.
    pub fn is_of_signing(&self, certificate: &[u8]) -> bool {
        let signers = self.signers();
        let own = X509Certificate::from_der(&signers.signing().certificate);
        let parsed = X509Certificate::from_der(certificate);
        // Each authority has a name of its own.
        matches!((own, parsed), (Ok((_, own)), Ok((_, parsed))) if own.subject() == parsed.issuer())
    }

    /// Makes the next authority.
    pub fn prepare(&self) -> Result<(), AuthorityError> {
        let wrong = "a renewal is under way: `seatmeter authority` shows how far it has come";
        self.advance(Step::None, wrong, |folder, files, signers| {
            make(folder, &files.next_certificate, &files.next_key)?;
            signers.next = load(folder)?;
            Ok(())
        })
    }

    /// Lets the next authority sign the certificates of agents.
    pub fn activate(&self) -> Result<(), AuthorityError> {
        let wrong =
            "there is no next authority that does not sign yet: `seatmeter authority` shows how far it has come";
        self.advance(Step::Prepared, wrong, |_, files, signers| {
            write_new(&files.state, SIGNS, 0o600).map_err(failed(&files.state))?;
            if let Some(next) = &mut signers.next {
                next.signs = true;
            }
            Ok(())
        })
    }

    /// Lets the next authority take the place of the one before. Who has not learned of it would be left behind.
    pub fn complete(&self) -> Result<(), AuthorityError> {
        let wrong = "the next authority does not sign yet: `seatmeter authority activate` comes first";
        self.advance(Step::Activated, wrong, |folder, files, signers| {
            write_new(&files.state, TAKES_THE_PLACE, 0o600).map_err(failed(&files.state))?;
            finish(folder)?;
            if let Some(next) = signers.next.take() {
                signers.trusted = next.signer;
            }
            Ok(())
        })
    }

    fn advance(
        &self,
        from: Step,
        wrong: &'static str,
        step: impl FnOnce(&Path, &Files, &mut Signers) -> Result<(), AuthorityError>,
    ) -> Result<(), AuthorityError> {
        let folder = self.folder.as_deref();
        let folder =
            folder.ok_or(AuthorityError::Step("the authority comes from files: renew it where it was made"))?;
        if self.step() != from {
            return Err(AuthorityError::Step(wrong));
        }
        let mut signers = self.signers.write().unwrap_or_else(PoisonError::into_inner);
        step(folder, &Files::of(folder), &mut signers)?;
        drop(signers);
        self.changed.send_replace(());
        Ok(())
    }
}

fn shown(certificate: &CertificateDer<'_>, signing: &[u8; 32]) -> Option<Shown> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let sha256 = sha256(certificate);
    Some(Shown {
        sha256,
        made_at: parsed.validity().not_before.timestamp() + SLACK.as_secs() as i64,
        ends_at: parsed.validity().not_after.timestamp(),
        signs: sha256 == *signing,
    })
}
