//! Other programs: run, and their failures told.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Where everything that is made goes.
pub fn target_folder(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

/// Where a profile's programs are.
pub fn program_folder(root: &Path, profile: &str) -> PathBuf {
    target_folder(root).join(profile)
}

/// Runs cargo.
pub fn cargo(root: &Path, arguments: &[&str]) -> Result<()> {
    run(Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())).args(arguments).current_dir(root))
}

/// Runs a program, and fails where it does.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    println!("+ {shown}");
    let status = command.status().with_context(|| format!("{shown} cannot be started"))?;
    ensure!(status.success(), "{shown} failed: {status}");
    Ok(())
}
