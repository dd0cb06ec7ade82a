//! Builds for Linux: deb and rpm packages of the agent and of the aggregator, and an archive with all programs.

use std::process::Command;

use anyhow::Result;

use super::{Dist, PROGRAMS, install};
use crate::process::run;

const TARGET: &str = "x86_64-unknown-linux-gnu";

pub(super) fn make(dist: &Dist) -> Result<()> {
    run(&mut dist.build(Command::new("cargo"), &dist.build, "")?)?;
    manuals(dist)?;
    packages(dist)?;
    archive(dist)
}

/// Runs each program to write its manual pages and completion scripts where the packages look for them.
fn manuals(dist: &Dist) -> Result<()> {
    let release = dist.build.join("release");
    let folder = release.join("manual");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    for (_, program) in PROGRAMS {
        // Each in a folder of its own: names of pages do not tell whose they are (`seatmeter-agents`).
        let own = folder.join(program);
        std::fs::create_dir_all(&own)?;
        run(Command::new(release.join(program)).args(["generate", "--folder"]).arg(&own))?;
        let pages: Vec<_> =
            std::fs::read_dir(&own)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
        let pages = pages.into_iter().filter(|path| path.extension().is_some_and(|end| end == "1"));
        run(Command::new("gzip").args(["--best", "--no-name"]).args(pages))?;
    }
    Ok(())
}

/// Makes deb and rpm packages of programs that are already built.
pub(super) fn packages(dist: &Dist) -> Result<()> {
    install("cargo-deb")?;
    install("cargo-generate-rpm")?;
    for package in ["seatmeter-agent", "seatmeter-aggregator"] {
        let deb = dist.out.join(format!("{package}_{}_amd64.deb", dist.version));
        let mut make = Command::new("cargo");
        make.args(["deb", "--quiet", "--no-build", "--no-strip", "--package", package]);
        make.arg("--deb-version").arg(format!("{}-1", dist.version)).arg("--output").arg(deb);
        run(make.current_dir(&dist.root).env("CARGO_TARGET_DIR", &dist.build).env("SOURCE_DATE_EPOCH", &dist.epoch))?;
        let rpm = dist.out.join(format!("{package}-{}.x86_64.rpm", dist.version));
        let mut make = Command::new("cargo");
        make.args(["generate-rpm", "--source-date", &dist.epoch]);
        make.arg("--package").arg(package.trim_start_matches("seatmeter-"));
        make.arg("--set-metadata").arg(format!("version = {:?}", dist.version));
        make.arg("--target-dir").arg(&dist.build).arg("--output").arg(rpm);
        run(make.current_dir(&dist.root))?;
    }
    Ok(())
}

/// Makes an archive of static programs, which need no libraries and no time zone files of the system. (A statically
/// linked glibc still reads the hosts file and queries name servers itself. It skips other name sources, for which it
/// would need to load libraries.)
fn archive(dist: &Dist) -> Result<()> {
    let folder = dist.build.join("static");
    let mut build = dist.build(Command::new("cargo"), &folder, "-Ctarget-feature=+crt-static")?;
    // With an explicit target, the flags apply only to the programs, and not to compiler plug-ins.
    build.args(["--target", TARGET, "--package", "seatmeter-count", "--features", "seatmeter-count/bundled-zones"]);
    run(&mut build)?;
    let programs = folder.join(TARGET).join("release");
    let mut files: Vec<_> = PROGRAMS.iter().map(|(_, program)| (programs.join(program), *program)).collect();
    for name in ["LICENSE", "CHANGELOG.md"] {
        files.push((dist.root.join(name), name));
    }
    for name in ["Containerfile", "compose.yaml", ".dockerignore", "state/VOLUME"] {
        files.push((dist.root.join("deploy/container").join(name), name));
    }
    for name in [
        "agent.toml",
        "aggregator.toml",
        "linux.md",
        "containers.md",
        "certificates.md",
        "health-log.md",
        "linux/agent/seatmeter-agent.service",
        "linux/agent/read-all-logs.conf",
        "linux/agent/logs-in-tmp.conf",
        "linux/aggregator/seatmeter-aggregator.service",
    ] {
        let flat = name.rsplit('/').next().unwrap_or(name);
        files.push((dist.root.join("deploy").join(name), flat));
    }
    dist.tar(&format!("seatmeter-{}-x86_64-linux", dist.version), &files)
}
