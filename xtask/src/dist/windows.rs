//! Builds for Windows: the agent's installer, and an archive with all programs.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::{Dist, PROGRAMS};
use crate::process::run;

const TARGET: &str = "x86_64-pc-windows-gnu";

pub(super) fn make(dist: &Dist) -> Result<()> {
    // `SEATMETER_SHARED` names a folder with the tools to build for Windows. Without it, the installed toolchain must
    // have the target.
    let mut cargo = match std::env::var_os("SEATMETER_SHARED").map(PathBuf::from) {
        Some(shared) => {
            run(&mut Command::new(shared.join("tools/windows/setup")))?;
            Command::new(shared.join("tools/windows/cargo"))
        }
        None => Command::new("cargo"),
    };
    if cargo.get_program() == "cargo" {
        cargo.env("CARGO_BUILD_TARGET", TARGET);
    }
    run(&mut dist.build(cargo, &folder(dist), "")?)?;
    installer(dist)?;
    let programs = programs(dist);
    let names = PROGRAMS.map(|(_, program)| format!("{program}.exe"));
    let mut files: Vec<(PathBuf, &str)> = names.iter().map(|name| (programs.join(name), name.as_str())).collect();
    for name in ["agent.toml", "aggregator.toml", "windows.md", "certificates.md", "health-log.md"] {
        files.push((dist.root.join("deploy").join(name), name));
    }
    files.push((dist.root.join("LICENSE"), "LICENSE"));
    dist.tar(&format!("seatmeter-{}-x86_64-windows", dist.version), &files)
}

/// Returns the folder of the Windows build. It is separate from the Linux build, because each toolchain would rebuild
/// the other's results.
fn folder(dist: &Dist) -> PathBuf {
    dist.build.join("windows")
}

fn programs(dist: &Dist) -> PathBuf {
    folder(dist).join(TARGET).join("release")
}

/// Makes the MSI from its source. Settings that wixl does not support are added to the finished MSI.
pub(super) fn installer(dist: &Dist) -> Result<()> {
    let program = programs(dist).join("seatmeter-agent.exe");
    let staging = dist.out.join("staging");
    fs::create_dir_all(&staging)?;
    let name = program.file_name().context("a program has a name")?;
    fs::copy(&program, staging.join(name))?;
    fs::copy(dist.root.join("deploy/windows/seatmeter-agent.wxs"), staging.join("seatmeter-agent.wxs"))?;
    let msi = format!("seatmeter-agent-{}-x86_64.msi", dist.version);
    // The MSI contains the times of the file and of the clock. Both are set to the commit's time.
    let at = |program: &str| {
        let mut command = Command::new("faketime");
        command.args(["-f", &clock(&dist.epoch), program]).current_dir(&staging).env("TZ", "UTC");
        command
    };
    run(Command::new("touch").arg(format!("--date=@{}", dist.epoch)).arg(staging.join(name)))?;
    run(at("wixl").args(["--arch", "x64", "--output", &msi, "--define"]).args([
        &format!("Version={}", dist.version),
        "--define",
        "Program=seatmeter-agent.exe",
        "--define",
        &format!("ProductCode={}", guid("product", &dist.version)),
        "seatmeter-agent.wxs",
    ]))?;
    // Remove the old version before the new one is installed, not afterwards.
    let order = "UPDATE InstallExecuteSequence SET Sequence=1501 WHERE Action='RemoveExistingProducts'";
    // Pass properties from the command line on to the elevated part of the installation.
    let secure = "UPDATE Property SET Value='AGGREGATOR;LOG;AUTHORITY;LICENSESERVER;PURGE;WIX_DOWNGRADE_DETECTED;\
                  WIX_UPGRADE_DETECTED' WHERE Property='SecureCustomProperties'";
    // Add the program's folder to the path. `=` sets the value, `-` removes it on uninstall, `*` means the machine's
    // environment, and `[~]` stands for the old value.
    let path = [
        "CREATE TABLE Environment (Environment CHAR(72) NOT NULL, Name CHAR(255) NOT NULL LOCALIZABLE, \
         Value CHAR(255) LOCALIZABLE, Component_ CHAR(72) NOT NULL PRIMARY KEY Environment)",
        "INSERT INTO Environment (Environment, Name, Value, Component_) \
         VALUES ('Path', '=-*PATH', '[~];[INSTALLDIR]', 'Agent')",
        "INSERT INTO InstallExecuteSequence (Action, Condition, Sequence) VALUES ('RemoveEnvironmentStrings', '', 3300)",
        "INSERT INTO InstallExecuteSequence (Action, Condition, Sequence) VALUES ('WriteEnvironmentStrings', '', 5200)",
    ];
    for query in [order, secure].into_iter().chain(path) {
        run(at("msibuild").args([&msi, "-q", query]))?;
    }
    let title = format!("Seatmeter Agent {}", dist.version);
    run(at("msibuild").args([
        &msi,
        "-s",
        &title,
        "Seatmeter",
        "x64;1033",
        &format!("{{{}}}", guid("package", &dist.version)),
    ]))?;
    fs::rename(staging.join(&msi), dist.out.join(&msi))?;
    Ok(fs::remove_dir_all(staging)?)
}

/// Returns the commit's time in the format of faketime.
fn clock(epoch: &str) -> String {
    let seconds = epoch.parse().unwrap_or(0);
    let moment = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    moment.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Returns a GUID that is the same for the same version, and different for every other version.
fn guid(of: &str, version: &str) -> String {
    // Two FNV-1a hashes: the GUID must be different, not secret.
    let hash = |seed: u64| {
        format!("{of} of seatmeter-agent {version}")
            .bytes()
            .fold(seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    };
    let hex = format!("{:016X}{:016X}", hash(0xcbf2_9ce4_8422_2325), hash(0x8422_2325_cbf2_9ce4));
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..32])
}
