//! The project's own commands as a library, so that tests can call the same functions as the command line.

#![allow(clippy::print_stdout, reason = "these commands talk to the developer who called them")]

pub mod bench;
pub mod certificates;
pub mod codegen;
pub mod containers;
pub mod demo;
pub mod dist;
pub mod guide;
pub mod packages;
pub mod process;
pub mod sim;
pub mod test;

use std::path::{Path, PathBuf};

/// Returns the repository's top folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}
