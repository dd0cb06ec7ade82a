//! The commands: each takes its arguments, calls the library, and prints the result.

pub(crate) mod check_config;
pub(crate) mod codes;
pub(crate) mod configure;
pub(crate) mod inspect;
pub(crate) mod run;
pub(crate) mod scan;
#[cfg(windows)]
pub(crate) mod service;
pub(crate) mod status;

use std::process::ExitCode;

/// The exit code of a command that is done, but could not count something or found something that needs attention.
pub(crate) const ATTENTION: u8 = 3;

pub(crate) fn exit(is_well: bool) -> ExitCode {
    if is_well { ExitCode::SUCCESS } else { ExitCode::from(ATTENTION) }
}
