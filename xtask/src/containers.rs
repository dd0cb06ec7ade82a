//! Follows the container guide, with Podman in place of Docker, if this machine can run containers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::process::{run, target_folder};

/// The log folder that the guide mounts.
const LOGS: &str = "/opt/flexlm";

/// Follows the guide with the archive in `target/dist`. Prints a message and skips it if this machine cannot run it.
pub fn try_guide(root: &Path) -> Result<()> {
    if !succeeds(Command::new("podman").arg("info")) || !succeeds(Command::new("runc").arg("--version")) {
        println!("SKIPPED: the container guide needs podman, runc, netavark and iptables");
        return Ok(());
    }
    if Path::new(LOGS).exists() {
        println!("SKIPPED: the container guide creates {LOGS}, but that folder already exists on this machine");
        return Ok(());
    }
    let trial = Trial::prepare(root)?;
    let outcome = trial.follow(root);
    let removed = trial.remove();
    outcome.and(removed)
}

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

struct Trial {
    folder: PathBuf,
    compose: PathBuf,
}

impl Trial {
    /// Prepares a folder with the archive, a log, and a `docker` command that runs Podman.
    fn prepare(root: &Path) -> Result<Self> {
        let target = target_folder(root).canonicalize()?;
        let tools = target.join("tools/compose");
        if !tools.join("bin/podman-compose").exists() {
            run(Command::new("python3").args(["-m", "venv"]).arg(&tools))?;
            run(Command::new(tools.join("bin/pip")).args(["install", "--quiet", "podman-compose"]))?;
        }
        let folder = target.join("containers");
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(folder.join("bin"))?;
        let trial = Self { compose: tools.join("bin/podman-compose"), folder };
        let compose = trial.compose.display();
        let docker = trial.folder.join("bin/docker");
        fs::write(
            &docker,
            format!("#!/bin/sh\n[ \"$1\" = compose ] && shift && exec {compose} \"$@\"\nexec podman \"$@\"\n"),
        )?;
        fs::set_permissions(&docker, fs::Permissions::from_mode(0o755))?;
        // Limits that a container within a container may set, and a runtime that supports old control groups.
        let settings = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n[engine]\nruntime = \"runc\"\n";
        fs::write(trial.folder.join("containers.conf"), settings)?;
        let archive = format!("seatmeter-{}-x86_64-linux.tar.gz", env!("CARGO_PKG_VERSION"));
        fs::copy(target.join("dist").join(&archive), trial.folder.join(&archive))
            .with_context(|| format!("{archive} is missing: run `cargo xtask dist`"))?;
        Ok(trial)
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let path = format!("{}:{}", self.folder.join("bin").display(), std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new(program);
        command.current_dir(&self.folder).env("PATH", path);
        command.env("CONTAINERS_CONF", self.folder.join("containers.conf"));
        command
    }

    fn follow(&self, root: &Path) -> Result<()> {
        let xtask = std::env::current_exe()?;
        fs::create_dir_all(LOGS)?;
        let start = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() - 19 * 3600)?;
        let log = format!("{LOGS}/debug.log");
        let sim = ["sim", "--lines", "6000", "--users", "50", "--features", "3", "--days", "0.7", "--start"];
        run(self.command(&xtask).args(sim).args([&start.to_string(), &log]))?;
        for guide in ["deploy/certificates.md", "deploy/containers.md"] {
            run(self.command(&xtask).arg("guide").arg(root.join(guide)))?;
        }
        Ok(())
    }

    /// Stops the containers, and removes their volumes and the log folder.
    fn remove(&self) -> Result<()> {
        let down = self.command(&self.compose).args(["down", "--volumes"]).output()?;
        fs::remove_dir_all(LOGS)?;
        ensure!(down.status.success(), "{}", String::from_utf8_lossy(&down.stderr));
        Ok(())
    }
}
