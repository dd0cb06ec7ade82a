//! `cargo xtask dist`: builds everything that users receive, in `target/dist`.
//!
//! Two runs on the same commit give the same bytes: local paths are mapped to fixed ones, times are the commit's, and
//! archives are sorted. `cargo xtask dist --twice` proves it.

mod linux;
mod windows;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::process::{run, target_folder};

/// The cargo packages of the programs that users receive, each with the name of its program.
const PROGRAMS: [(&str, &str); 3] = [
    ("seatmeter-agent", "seatmeter-agent"),
    ("seatmeter-aggregator", "seatmeter-aggregator"),
    ("seatmeter-cli", "seatmeter"),
];

/// The options of `cargo xtask dist`.
#[derive(Clone, Default, clap::Args)]
pub struct Options {
    /// Skip Windows, for machines without the tools to build for it
    #[arg(long)]
    without_windows: bool,
    /// Build everything twice, and fail if the results differ
    #[arg(long)]
    twice: bool,
    /// Sign the checksums with this private key: a PEM file of an Ed25519 key, as `openssl genpkey -algorithm ed25519`
    /// makes one
    #[arg(long, value_name = "KEY")]
    sign: Option<PathBuf>,
    /// Optimise less: for tests of what packages do
    #[arg(skip)]
    quick: bool,
}

impl Options {
    /// Returns options that build everything twice, for every system that this machine can build for.
    pub fn twice() -> Self {
        let without_windows = std::env::var_os("SEATMETER_SHARED").is_none();
        Self { without_windows, twice: true, ..Self::default() }
    }

    /// Returns options for packages that are tested and thrown away: their programs are optimised each crate by itself.
    pub fn quick() -> Self {
        Self { quick: true, ..Self::default() }
    }
}

/// The paths and the version that all steps share.
struct Dist {
    root: PathBuf,
    /// The folder for the finished files.
    out: PathBuf,
    /// The folder in which cargo builds the programs.
    build: PathBuf,
    version: String,
    /// The time of the commit, in seconds since 1970 UTC.
    epoch: String,
    /// Whether the programs are optimised each crate by itself.
    quick: bool,
}

/// Builds all files, and prints their sizes and paths.
pub fn dist(root: &Path, options: &Options) -> Result<()> {
    let once = |out: &str, build: &str| {
        let dist = Dist { quick: options.quick, ..Dist::new(root, out, build, env!("CARGO_PKG_VERSION"))? };
        linux::make(&dist)?;
        if !options.without_windows {
            windows::make(&dist)?;
        }
        dist.material_list()?;
        dist.checksums()
    };
    let sums = once("dist", "dist-build")?;
    if options.twice {
        // The second build uses another folder, because cargo would not rebuild anything in the same one.
        let again = once("dist-again", "dist-build-again")?;
        let differ: Vec<_> =
            sums.iter().filter(|(name, sum)| again.get(*name) != Some(*sum)).map(|(name, _)| name).collect();
        ensure!(differ.is_empty() && sums.len() == again.len(), "these files differ between two runs: {differ:?}");
        println!("two runs gave the same {} files", sums.len());
    }
    if let Some(key) = &options.sign {
        sign(&target_folder(root).join("dist"), key)?;
    }
    println!();
    for name in sums.keys() {
        let file = target_folder(root).join("dist").join(name);
        println!("{:>10} KiB  {}", fs::metadata(&file)?.len().div_ceil(1024), file.display());
    }
    Ok(())
}

/// Makes packages of the programs that [`dist`] has built, under the next version number, so that tests can try an
/// upgrade. The packages are in `target/dist-next`. Returns the next version.
pub fn next_version(root: &Path) -> Result<String> {
    let (rest, patch) = env!("CARGO_PKG_VERSION").rsplit_once('.').context("a version has three parts")?;
    let version = format!("{rest}.{}", patch.parse::<u64>()? + 1);
    let dist = Dist::new(root, "dist-next", "dist-build", &version)?;
    linux::packages(&dist)?;
    windows::installer(&dist)?;
    Ok(version)
}

/// Returns `SOURCE_DATE_EPOCH` if it is set, as packagers do; otherwise the time of the last commit.
fn epoch(root: &Path) -> Result<String> {
    if let Ok(epoch) = std::env::var("SOURCE_DATE_EPOCH") {
        return Ok(epoch);
    }
    said(Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(root))
}

impl Dist {
    /// Prepares an empty folder `out` for the files. `build` is the folder of the programs. Both are below the target
    /// folder.
    fn new(root: &Path, out: &str, build: &str, version: &str) -> Result<Self> {
        let target = target_folder(root);
        let out = target.join(out);
        if out.exists() {
            fs::remove_dir_all(&out)?;
        }
        fs::create_dir_all(&out)?;
        Ok(Self {
            root: root.into(),
            out,
            build: target.join(build),
            version: version.into(),
            epoch: epoch(root)?,
            quick: false,
        })
    }

    /// Returns a cargo command that builds the programs in `folder`. The programs contain no paths of this machine.
    fn build(&self, mut cargo: Command, folder: &Path, more_flags: &str) -> Result<Command> {
        let home =
            std::env::var("CARGO_HOME").or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cargo")))?;
        let sysroot = said(Command::new("rustc").args(["--print", "sysroot"]))?;
        let maps = [(self.root.display().to_string(), "/seatmeter"), (home, "/cargo"), (sysroot, "/rust")];
        let flags: Vec<String> = maps.iter().map(|(from, to)| format!("--remap-path-prefix={from}={to}")).collect();
        let c_flags: Vec<String> = maps.iter().map(|(from, to)| format!("-ffile-prefix-map={from}={to}")).collect();
        let flags = [flags.join(" "), more_flags.to_owned()].join(" ");
        cargo.args(["build", "--release", "--locked"]).current_dir(&self.root);
        for (package, _) in PROGRAMS {
            cargo.args(["--package", package]);
        }
        cargo.env("CARGO_TARGET_DIR", folder).env("RUSTFLAGS", flags.trim()).env("CFLAGS", c_flags.join(" "));
        cargo.env("SOURCE_DATE_EPOCH", &self.epoch);
        if self.quick {
            cargo.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
            for less in ["profile.release.opt-level=1", "profile.release.package.\"*\".opt-level=1"] {
                cargo.args(["--config", less]);
            }
        }
        // The text that `--version` prints.
        let commit = said(Command::new("git").args(["log", "-1", "--format=%h %cs"]).current_dir(&self.root))?;
        cargo.env("SEATMETER_BUILD", format!("{} ({commit})", env!("CARGO_PKG_VERSION")));
        Ok(cargo)
    }

    /// Packs files into a compressed archive. Each file has the given name, below a folder with the archive's name.
    fn tar(&self, name: &str, files: &[(PathBuf, &str)]) -> Result<()> {
        let staging = self.out.join("staging");
        for (from, to) in files {
            let to = staging.join(name).join(to);
            fs::create_dir_all(to.parent().context("a file is in a folder")?)?;
            fs::copy(from, &to).with_context(|| format!("{} cannot be copied", from.display()))?;
        }
        let packed = self.out.join(format!("{name}.tar"));
        run(Command::new("tar")
            .args(["--create", "--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mode=u+rwX,go+rX,go-w"])
            .arg(format!("--mtime=@{}", self.epoch))
            .arg("--file")
            .arg(&packed)
            .arg("--directory")
            .arg(&staging)
            .arg(name))?;
        run(Command::new("gzip").args(["--best", "--no-name"]).arg(&packed))?;
        Ok(fs::remove_dir_all(staging)?)
    }

    /// Writes a software bill of materials for each program, in CycloneDX format.
    fn material_list(&self) -> Result<()> {
        install("cargo-cyclonedx")?;
        for (package, program) in PROGRAMS {
            let folder = self.root.join(match package {
                "seatmeter-cli" => "aggregator/cli",
                other => other.trim_start_matches("seatmeter-"),
            });
            run(Command::new("cargo")
                .args(["cyclonedx", "--format", "json", "--quiet", "--override-filename", "sbom"])
                // Include the dependencies of every variant: for Windows, and with all time zones.
                .args(["--target", "all", "--all-features", "--manifest-path"])
                .arg(folder.join("Cargo.toml"))
                .env("SOURCE_DATE_EPOCH", &self.epoch))?;
            // The tool writes a file beside every manifest that it reads; keep only the program's own.
            let list = folder.join("sbom.json");
            let text = fs::read_to_string(&list)?.replace(&self.root.display().to_string(), "/seatmeter");
            fs::write(self.out.join(format!("{program}-{}.cdx.json", self.version)), text)?;
            for beside in
                ["agent", "aggregator", "aggregator/cli", "proto", "proto/count", "proto/service", "tests", "xtask"]
            {
                let _ = fs::remove_file(self.root.join(beside).join("sbom.json"));
            }
        }
        Ok(())
    }

    /// Writes the checksums of all files to `SHA256SUMS`, in the format of `sha256sum --check`. Returns them by file
    /// name.
    fn checksums(&self) -> Result<BTreeMap<String, String>> {
        let mut names: Vec<String> = fs::read_dir(&self.out)?
            .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
            .collect::<Result<_, _>>()?;
        names.sort();
        let text = said(Command::new("sha256sum").args(&names).current_dir(&self.out))?;
        fs::write(self.out.join("SHA256SUMS"), format!("{text}\n"))?;
        let sums = text.lines().filter_map(|line| line.split_once("  "));
        Ok(sums.map(|(sum, name)| (name.to_owned(), sum.to_owned())).collect())
    }
}

/// Signs the checksums. Writes the signature `SHA256SUMS.sig`, and the public key that verifies it, beside them.
fn sign(folder: &Path, key: &Path) -> Result<()> {
    let key = key.canonicalize().with_context(|| format!("{} cannot be read", key.display()))?;
    let openssl = || {
        let mut command = Command::new("openssl");
        command.current_dir(folder);
        command
    };
    run(openssl()
        .args(["pkeyutl", "-sign", "-rawin", "-in", "SHA256SUMS", "-out", "SHA256SUMS.sig", "-inkey"])
        .arg(&key))?;
    run(openssl().args(["pkey", "-pubout", "-out", "seatmeter-release.pub", "-in"]).arg(&key))?;
    // Verify the signature with the public key that users receive.
    run(openssl().args(["pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", "seatmeter-release.pub"]).args([
        "-sigfile",
        "SHA256SUMS.sig",
        "-in",
        "SHA256SUMS",
    ]))
}

/// Installs a cargo subcommand if it is missing.
fn install(subcommand: &str) -> Result<()> {
    let name = subcommand.trim_start_matches("cargo-");
    let is_there = Command::new("cargo").args([name, "--help"]).output().is_ok_and(|output| output.status.success());
    let quickly = [("CARGO_PROFILE_RELEASE_LTO", "off"), ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")];
    let mut build = Command::new("cargo");
    build.args(["install", "--quiet", "--locked", subcommand]).envs(quickly);
    if is_there { Ok(()) } else { run(&mut build) }
}

/// Runs a program. Returns its output without trailing white space.
fn said(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?} cannot be started"))?;
    ensure!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}
