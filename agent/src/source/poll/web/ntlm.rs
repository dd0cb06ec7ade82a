//! A Windows login at a web server, by NTLM version 2: three messages on one connection, which then stays that user's
//! ([MS-NTHT], [MS-NLMP]). Where the server checks it, the login is bound to its certificate, so that nobody between the two can use
//! it (RFC 5929).

use reqwest::header::HeaderValue;
use ring::digest::{SHA256, SHA384, SHA512, digest};
use sspi::ntlm::NtlmConfig;
use sspi::{
    AuthIdentity, AuthIdentityBuffers, BufferType, ClientRequestFlags, CredentialUse, DataRepresentation, Ntlm,
    SecurityBuffer, Sspi, SspiImpl, Username,
};

use super::WebError;
use super::login::{Secret, secret_header};

/// A login that is under way.
pub(super) struct Handshake {
    scheme: &'static str,
    ntlm: Ntlm,
    credentials: Option<AuthIdentityBuffers>,
}

impl Handshake {
    /// Prepares a login of a user, as `DOMAIN\user` or `user@domain`, to a server that has shown a certificate.
    pub(super) fn new(
        scheme: &'static str,
        user: &str,
        password: &Secret,
        certificate: Option<&[u8]>,
    ) -> Result<Self, WebError> {
        let refused = |reason: String| WebError::Secret { place: format!("of {user}"), reason };
        let mut ntlm = Ntlm::with_config(NtlmConfig::new("seatmeter".into()));
        if let Some(certificate) = certificate {
            ntlm.set_channel_bindings(&binding(certificate));
        }
        let username = Username::parse(user).map_err(|error| refused(error.to_string()))?;
        let identity = AuthIdentity { username, password: password.read()?.into() };
        let acquired =
            ntlm.acquire_credentials_handle().with_credential_use(CredentialUse::Outbound).with_auth_data(&identity);
        let credentials = acquired.execute(&mut ntlm).map_err(|error| refused(error.to_string()))?.credentials_handle;
        Ok(Self { scheme, ntlm, credentials })
    }

    /// Returns the header with the next message, after the server's last one, in Base64; at first that is empty. `None` if it is no
    /// message of this protocol.
    pub(super) fn next(&mut self, offered: &str) -> Option<HeaderValue> {
        let message = data_encoding::BASE64.decode(offered.as_bytes()).ok()?;
        let mut input = [SecurityBuffer::new(message, BufferType::Token)];
        let mut output = [SecurityBuffer::new(Vec::new(), BufferType::Token)];
        let mut step = self
            .ntlm
            .initialize_security_context()
            .with_credentials_handle(&mut self.credentials)
            .with_context_requirements(ClientRequestFlags::empty())
            .with_target_data_representation(DataRepresentation::Native)
            .with_input(&mut input)
            .with_output(&mut output);
        self.ntlm.initialize_security_context_impl(&mut step).ok()?.resolve_to_result().ok()?;
        let [SecurityBuffer { buffer, .. }] = &output;
        secret_header(format!("{} {}", self.scheme, data_encoding::BASE64.encode(buffer))).ok()
    }
}

/// Returns what binds a login to a server's certificate: its hash, by the function of its signature, but none that is weaker than
/// SHA-256 (RFC 5929, 4.1).
fn binding(certificate: &[u8]) -> Vec<u8> {
    let function = match signature_algorithm(certificate) {
        Some(oid) if SIGNED_WITH_SHA384.contains(&oid) => &SHA384,
        Some(oid) if SIGNED_WITH_SHA512.contains(&oid) => &SHA512,
        _ => &SHA256,
    };
    [b"tls-server-end-point:", digest(function, certificate).as_ref()].concat()
}

/// RSA and ECDSA with SHA-384 (RFC 8017, A.2.4; RFC 5758, 3.2).
const SIGNED_WITH_SHA384: [&[u8]; 2] =
    [&[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, 12], &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 4, 3, 3]];

/// RSA and ECDSA with SHA-512.
const SIGNED_WITH_SHA512: [&[u8]; 2] =
    [&[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, 13], &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 4, 3, 4]];

/// Returns the object identifier of the algorithm that signed a certificate: `SEQUENCE { SEQUENCE signed, SEQUENCE { OID, .. }, .. }`
/// (RFC 5280, 4.1).
fn signature_algorithm(certificate: &[u8]) -> Option<&[u8]> {
    let (content, _) = element(certificate)?;
    let (_, rest) = element(content)?;
    let (algorithm, _) = element(rest)?;
    Some(element(algorithm)?.0)
}

/// Returns the content of the first DER element, and what follows it.
fn element(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = der.get(1..)?.split_first()?;
    let (length, rest) = match first {
        ..0x80 => (usize::from(first), rest),
        _ => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7F))?;
            (length.iter().try_fold(0_usize, |sum, &byte| sum.checked_mul(256)?.checked_add(byte.into()))?, rest)
        }
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sspi::BufferType;

    use super::*;

    /// A challenge, as the library's own server side makes it.
    fn challenge() -> Vec<u8> {
        let header = Handshake::new("NTLM", "user", &secret(), None).unwrap().next("").unwrap();
        let mut output = [SecurityBuffer::new(Vec::new(), BufferType::Token)];
        let greeting = header.to_str().unwrap().strip_prefix("NTLM ").unwrap();
        let mut input =
            [SecurityBuffer::new(data_encoding::BASE64.decode(greeting.as_bytes()).unwrap(), BufferType::Token)];
        let (mut server, mut nobody) = (Ntlm::new(), None);
        let step = server
            .accept_security_context()
            .with_credentials_handle(&mut nobody)
            .with_context_requirements(sspi::ServerRequestFlags::empty())
            .with_target_data_representation(DataRepresentation::Native)
            .with_input(&mut input)
            .with_output(&mut output);
        server.accept_security_context_impl(step).unwrap().resolve_to_result().unwrap();
        let [SecurityBuffer { buffer, .. }] = output;
        buffer
    }

    fn secret() -> Secret {
        // Any variable that is always set.
        Secret::Variable("PATH".into())
    }

    proptest! {
        /// Whatever a server says, the next message is made of it, or none.
        #[test]
        fn no_challenge_panics(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8), length in any::<prop::sample::Index>()) {
            let mut message = challenge();
            for (index, byte) in changes {
                let index = index.index(message.len());
                message[index] = byte;
            }
            message.truncate(length.index(message.len() + 1));
            let mut handshake = Handshake::new("NTLM", "user", &secret(), Some(&message)).unwrap();
            handshake.next("").unwrap();
            let _ = handshake.next(&data_encoding::BASE64.encode(&message));
        }
    }
}
