//! The key with which agents seal what they export: it is made once, and never leaves the authority's folder.

use std::fs;
use std::io;
use std::path::Path;

use data_encoding::BASE64URL_NOPAD;
use ring::rand::{SecureRandom, SystemRandom};
use seatmeter_proto::sealed::SealingKey;
use seatmeter_proto::tls::refuse_open;

use crate::codes;

use super::authority::{AuthorityError, FOLDER, write_new};

/// Reads the key in a state folder. Makes one if there is none; `agents` is how many seal for one that was there.
pub fn key(state: &Path, agents: usize) -> Result<SealingKey, AuthorityError> {
    let path = state.join(FOLDER).join("sealing.key");
    let failed = |source| AuthorityError::File { path: path.clone(), source };
    match fs::read_to_string(&path) {
        Ok(text) => {
            refuse_open(&path)?;
            let seed = BASE64URL_NOPAD.decode(text.trim().as_bytes()).ok().and_then(|seed| seed.try_into().ok());
            let damaged = || AuthorityError::Unusable { path: path.clone(), reason: "it is damaged".into() };
            Ok(SealingKey::of(&seed.ok_or_else(damaged)?))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if agents > 0 {
                tracing::error!(code = codes::SEALING_KEY_LOST, path = %path.display(), agents, "another one is made");
            }
            let mut seed = [0; 32];
            SystemRandom::new().fill(&mut seed).map_err(|_| AuthorityError::Random)?;
            seatmeter_service::state::make(&state.join(FOLDER)).map_err(io::Error::other).map_err(failed)?;
            write_new(&path, &BASE64URL_NOPAD.encode(&seed), 0o600).map_err(failed)?;
            Ok(SealingKey::of(&seed))
        }
        Err(error) => Err(failed(error)),
    }
}
