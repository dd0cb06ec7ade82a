//! `cargo xtask test`: everything that must pass, with what it must install.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::dist;
use crate::process::{cargo, program_folder, run};

const PROFILE: &str = "test-fast";

/// Runs every test: units, properties, whole systems, outside clients, fuzzing; in a long run, also whether two runs of
/// `cargo xtask dist` give the same bytes.
pub fn test(root: &Path, long: bool) -> Result<()> {
    crate::codegen::check(root)?;
    println!("the generated code is what the proto files give");
    cargo(
        root,
        &["build", "--profile", PROFILE, "-p", "seatmeter-agent", "-p", "seatmeter-aggregator", "-p", "seatmeter-cli"],
    )?;
    let tools = install_clients(root)?;
    let mut tests = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    tests
        .args(["test", "--workspace"])
        .current_dir(root)
        .env("SEATMETER_BIN", program_folder(root, PROFILE))
        .env("SEATMETER_TOOLS", tools)
        .env("SEATMETER_LONG", if long { "1" } else { "" });
    run(&mut tests)?;
    fuzz(root, if long { 3600 } else { 30 })?;
    if long {
        dist::dist(root, dist::Options::twice())?;
    }
    Ok(())
}

/// Installs the outside clients, below the target folder: buf from npm, and Python's gRPC.
fn install_clients(root: &Path) -> Result<PathBuf> {
    let tools = root.join("target/tools");
    std::fs::create_dir_all(&tools)?;
    if !tools.join("node_modules/.bin/buf").exists() {
        let quiet = ["install", "--no-fund", "--no-audit", "--loglevel=error"];
        run(Command::new("npm").args(quiet).arg("--prefix").arg(&tools).arg("@bufbuild/buf"))?;
    }
    if !tools.join("python/bin/python3").exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(tools.join("python")))?;
        run(Command::new(tools.join("python/bin/pip")).args(["install", "--quiet", "grpcio", "grpcio-tools"]))?;
    }
    Ok(tools)
}

/// The fuzz targets, each with its folder of inputs that once were findings or are typical.
pub const FUZZ_TARGETS: [&str; 2] = ["parse", "batch"];

/// Feeds the parsers garbage for so many seconds each. The targets are built with the compiler's own coverage
/// instrumentation, which the stable toolchain has, and without a sanitizer, which it has not.
fn fuzz(root: &Path, seconds: u32) -> Result<()> {
    let folder = root.join("tests/fuzz");
    let flags = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
                 -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions -Coverflow-checks --cfg fuzzing";
    let host = host_triple()?;
    let target = root.join("target/fuzz");
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--release", "--target", &host]).current_dir(&folder).env("RUSTFLAGS", flags);
    run(build.env("CARGO_TARGET_DIR", &target))?;
    for name in FUZZ_TARGETS {
        let corpus = target.join("corpus").join(name);
        std::fs::create_dir_all(&corpus)?;
        let program = target.join(&host).join("release").join(name);
        let mut fuzzer = Command::new(program);
        fuzzer.arg(&corpus).arg(folder.join("seeds").join(name));
        fuzzer.arg(format!("-max_total_time={seconds}")).args(["-max_len=65536", "-timeout=10", "-rss_limit_mb=1024"]);
        run(fuzzer
            .args(["-verbosity=0", "-print_final_stats=1"])
            .arg(format!("-artifact_prefix={}/", target.display())))?;
    }
    Ok(())
}

fn host_triple() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| anyhow::anyhow!("rustc does not tell its host: {text}"))
}
