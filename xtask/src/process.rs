//! Runs other programs, and reports their failures.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};

/// Returns the target folder of cargo.
pub fn target_folder(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

/// Returns the folder of a profile's programs.
pub fn program_folder(root: &Path, profile: &str) -> PathBuf {
    target_folder(root).join(profile)
}

/// Runs cargo in the folder `root`.
pub fn cargo(root: &Path, arguments: &[&str]) -> Result<()> {
    run(Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())).args(arguments).current_dir(root))
}

/// Runs a program. Returns an error if the program fails.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    println!("+ {shown}");
    let status = command.status().with_context(|| format!("{shown} cannot be started"))?;
    ensure!(status.success(), "{shown} failed: {status}");
    Ok(())
}

/// Logs in as an administrator: runs `seatmeter-aggregator administrator`, and `seatmeter login` with the line that it prints.
pub fn log_in(administrator: &mut Command, login: &mut Command) -> Result<()> {
    let invited = administrator.output()?;
    let failed = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(invited.status.success(), "no administrator is made: {}", failed(&invited));
    let line = String::from_utf8(invited.stdout)?;
    let logged_in = login.args(["login", line.trim().trim_start_matches("seatmeter login ")]).output()?;
    ensure!(logged_in.status.success(), "the login fails: {}", failed(&logged_in));
    Ok(())
}
