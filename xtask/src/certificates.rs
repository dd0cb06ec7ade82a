//! Certificates for tests and benchmarks: an authority, a server on this machine, and a client.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair};

/// The paths of the PEM files.
pub struct Certificates {
    /// The authority that signed the others.
    pub authority: PathBuf,
    /// The identity of a server, valid for localhost and 127.0.0.1.
    pub server: Identity,
    /// The identity of a client.
    pub client: Identity,
}

/// The paths of the PEM files of a certificate and its key.
pub struct Identity {
    /// The certificate.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Creates the certificates and keys in a folder.
pub fn make(folder: &Path) -> Result<Certificates> {
    fs::create_dir_all(folder)?;
    let mut parameters = CertificateParams::new(Vec::<String>::new())?;
    parameters.distinguished_name = name_of("Seatmeter test authority");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(parameters, KeyPair::generate()?)?;
    let authority = folder.join("authority.pem");
    fs::write(&authority, issuer.pem())?;
    let identity = |name: &str, names: Vec<String>| -> Result<Identity> {
        let key_pair = KeyPair::generate()?;
        let mut parameters = CertificateParams::new(names)?;
        parameters.distinguished_name = name_of(name);
        let signed = parameters.signed_by(&key_pair, &issuer)?;
        let identity =
            Identity { certificate: folder.join(format!("{name}.pem")), key: folder.join(format!("{name}.key")) };
        fs::write(&identity.certificate, signed.pem())?;
        fs::write(&identity.key, key_pair.serialize_pem())?;
        #[cfg(unix)]
        fs::set_permissions(&identity.key, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        Ok(identity)
    };
    let server = identity("server", vec!["localhost".into(), "127.0.0.1".into()])?;
    // An agent's certificate has the name of its license server.
    let client = identity("client", vec!["client".into(), "LIC01".into()])?;
    Ok(Certificates { authority, server, client })
}

/// Returns a distinguished name. Each certificate needs a name different from its issuer's; otherwise it would look
/// self-signed.
fn name_of(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}
