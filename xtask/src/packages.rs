//! Tests the packages where they must work: under a real systemd, and under Wine. `SEATMETER_SHARED` names the folder
//! with the tools for both. If it is not set, the tests are skipped with a message.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::{run, target_folder};
use crate::{containers, dist};

/// Builds all packages, and those of the next version, and tests them.
pub fn try_all(root: &Path) -> Result<()> {
    let Some(shared) = std::env::var_os("SEATMETER_SHARED").map(PathBuf::from) else {
        println!("SKIPPED: SEATMETER_SHARED does not name a folder with the tools to test packages");
        return Ok(());
    };
    dist::dist(root, &dist::Options::quick())?;
    let next = dist::next_version(root)?;
    let target = target_folder(root);
    for deb in names_in(&target.join("dist"), &["deb"])? {
        run(Command::new("lintian")
            .args(["--fail-on", "warning", "--no-tag-display-limit"])
            .arg(deb)
            .current_dir(target.join("dist")))?;
    }
    let payload = target.join("packages");
    gather(root, &payload, &next)?;
    run(Command::new(shared.join("tools/systemd/run"))
        .arg("linux.sh")
        .args(names_in(&payload, &["sh", "md", "deb", "rpm", "txt"])?)
        .arg("xtask")
        .current_dir(&payload)
        .env("SD_PKGS", "adduser,tzdata,openssl,rpm")
        .env("SD_TIMEOUT", "900"))?;
    run(Command::new(shared.join("tools/windows/wine"))
        .arg("./windows.sh")
        .current_dir(&payload)
        .env("WINEPREFIX", payload.join("wine")))?;
    containers::try_guide(root)
}

/// Copies the files that the tests need into one folder.
fn gather(root: &Path, payload: &Path, next: &str) -> Result<()> {
    if payload.exists() {
        fs::remove_dir_all(payload)?;
    }
    fs::create_dir_all(payload)?;
    let copy = |from: &Path| -> Result<()> {
        let name = from.file_name().context("a file has a name")?;
        fs::copy(from, payload.join(name)).with_context(|| format!("{} cannot be copied", from.display()))?;
        Ok(())
    };
    let target = target_folder(root);
    for folder in [target.join("dist"), target.join("dist-next"), root.join("tests/packages")] {
        for entry in fs::read_dir(folder)? {
            copy(&entry?.path())?;
        }
    }
    for file in ["deploy/linux.md", "deploy/windows.md", "deploy/certificates.md"] {
        copy(&root.join(file))?;
    }
    for program in ["seatmeter-aggregator", "seatmeter"] {
        copy(&target.join("dist-build/release").join(program))?;
    }
    fs::copy(std::env::current_exe()?, payload.join("xtask"))?;
    fs::write(payload.join("version.txt"), env!("CARGO_PKG_VERSION"))?;
    fs::write(payload.join("next-version.txt"), next)?;
    Ok(())
}

/// Returns the names of the files in a folder that have one of these extensions, sorted.
fn names_in(folder: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = PathBuf::from(entry?.file_name());
        if name.extension().is_some_and(|extension| extensions.iter().any(|wanted| extension == *wanted)) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
