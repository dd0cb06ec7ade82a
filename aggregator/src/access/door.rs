//! Who is let in at the agents' port: an agent speaks for its own license server, and for no other.

use rustls::pki_types::{CertificateDer, ServerName};
use webpki::EndEntityCert;

use super::enrolment::{Admitted, EnrolmentError, Enrolments};
use super::holders::Arrival;

/// How the agents' port knows who comes.
#[derive(Clone)]
pub enum Door {
    /// Not at all: it takes plain text from this machine alone, or certificates of nobody.
    Open,
    /// By certificates of an authority that is not ours: each must carry the name of its license server (as a DNS name).
    Named,
    /// By certificates that were issued here.
    Enrolled(Enrolments),
}

/// Why somebody is not let in.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// There is no certificate.
    #[error("an agent needs a certificate: enrol it (`seatmeter agents invite`)")]
    NoCertificate,
    /// The certificate is of another license server.
    #[error(
        "the certificate does not name license server {0:?}: issue one that has it as a DNS name, or enrol the agent"
    )]
    OtherName(String),
    /// The certificate is none that is valid here.
    #[error(transparent)]
    Enrolment(#[from] EnrolmentError),
}

impl Door {
    /// Lets an agent in that has shown this certificate, and says that it speaks for a license server in a realm. Returns as whom,
    /// where that is known.
    pub fn admit(
        &self,
        shown: Option<&CertificateDer<'_>>,
        license_server: &str,
        realm: &str,
        arrival: &Arrival,
    ) -> Result<Option<Admitted>, Refused> {
        match self {
            Self::Open => Ok(None),
            Self::Named => {
                let shown = shown.ok_or(Refused::NoCertificate)?;
                let other = || Refused::OtherName(license_server.to_owned());
                let name = ServerName::try_from(license_server).map_err(|_| other())?;
                let certificate = EndEntityCert::try_from(shown).map_err(|_| other())?;
                certificate.verify_is_valid_for_subject_name(&name).map_err(|_| other())?;
                Ok(None)
            }
            Self::Enrolled(enrolments) => {
                let shown = shown.ok_or(Refused::NoCertificate)?;
                let admitted = enrolments.admit(shown, (license_server, realm), arrival)?;
                Ok(Some(admitted))
            }
        }
    }
}
