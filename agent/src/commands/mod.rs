//! The commands: each takes its arguments, calls the library, and prints the result.

pub(crate) mod check_config;
pub(crate) mod codes;
pub(crate) mod configure;
pub(crate) mod detect;
pub(crate) mod enroll;
pub(crate) mod inspect;
pub(crate) mod pseudonyms;
pub(crate) mod run;
pub(crate) mod scan;
pub(crate) mod sealed;
#[cfg(windows)]
pub(crate) mod service;
pub(crate) mod status;
pub(crate) mod try_source;

use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;

use anyhow::anyhow;

/// The exit code of a command that is done, but could not count something or found something that needs attention.
pub(crate) const ATTENTION: u8 = 3;

/// Explains why a file of the agent's state cannot be read. `missing` says what it means that there is none.
pub(crate) fn unreadable(path: &Path, error: &std::io::Error, missing: &str) -> anyhow::Error {
    match error.kind() {
        ErrorKind::PermissionDenied => {
            anyhow!("this account may not read {}: ask as root or as the agent's own account", path.display())
        }
        ErrorKind::NotFound => anyhow!("{} does not exist: {missing}", path.display()),
        _ => anyhow!("cannot read {}: {error}", path.display()),
    }
}

pub(crate) fn exit(is_well: bool) -> ExitCode {
    if is_well { ExitCode::SUCCESS } else { ExitCode::from(ATTENTION) }
}
