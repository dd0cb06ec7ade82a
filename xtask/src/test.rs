//! `cargo xtask test`: installs the tools that tests need, runs every test, and prints one closing line over all of
//! them.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::dist;
use crate::process::{cargo, program_folder, run, target_folder};

const PROFILE: &str = "test-fast";

/// How many tests of a test program run at a time.
const TESTS_AT_A_TIME: &str = "5";

/// The number of tests by outcome.
#[derive(Default)]
struct Tally {
    passed: u64,
    failed: u64,
    /// Each skipped test with its reason.
    skipped: Vec<String>,
}

impl Tally {
    /// Counts one check that is not run by `cargo test`.
    fn count(&mut self, name: &str, outcome: Result<()>) {
        match outcome {
            Ok(()) => self.passed += 1,
            Err(error) => {
                println!("FAILED: {name}: {error:#}");
                self.failed += 1;
            }
        }
    }

    /// Counts the tests of a result line. Cargo prints one at the end of each test program; other lines are ignored.
    fn count_line(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else { return };
        let number = |word: &str| {
            let before = result.split(word).next().filter(|before| before.len() < result.len())?;
            before.rsplit(' ').find(|part| !part.is_empty())?.parse::<u64>().ok()
        };
        self.passed += number(" passed").unwrap_or(0);
        self.failed += number(" failed").unwrap_or(0);
    }

    /// Prints the skipped tests with their reasons, and the closing line. Fails if any test failed.
    fn close(mut self) -> Result<()> {
        // A skipped test just returns, so cargo counts it as passed.
        self.passed = self.passed.saturating_sub(self.skipped.len() as u64);
        for skipped in &self.skipped {
            println!("skipped: {skipped}");
        }
        println!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped.len());
        ensure!(self.failed == 0, "{} failed", self.failed);
        Ok(())
    }
}

/// Runs every test: unit tests, property tests, whole systems, outside clients, fuzzing. A long run also tests whether
/// two runs of `cargo xtask dist` give the same bytes.
pub fn test(root: &Path, long: bool) -> Result<()> {
    let mut tally = Tally::default();
    tally.count("the generated code matches the proto files", crate::codegen::check(root));
    cargo(
        root,
        &["build", "--profile", PROFILE, "-p", "seatmeter-agent", "-p", "seatmeter-aggregator", "-p", "seatmeter-cli"],
    )?;
    let tools = install_clients(root)?;
    tests(root, &tools, long, &mut tally)?;
    fuzz(root, if long { 600 } else { 30 }, &mut tally)?;
    if long {
        tally.count("two runs of dist give the same bytes", dist::dist(root, &dist::Options::twice()));
    }
    tally.close()
}

/// Runs all of cargo's tests, even if some fail.
fn tests(root: &Path, tools: &Path, long: bool, tally: &mut Tally) -> Result<()> {
    let skipped = target_folder(root).join("skipped.txt");
    if skipped.exists() {
        std::fs::remove_file(&skipped)?;
    }
    let mut tests = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    tests
        .args(["test", "--workspace", "--no-fail-fast"])
        .current_dir(root)
        .env("SEATMETER_BIN", program_folder(root, PROFILE))
        .env("SEATMETER_TOOLS", tools)
        .env("SEATMETER_SKIPPED", &skipped)
        .env("SEATMETER_LONG", if long { "1" } else { "" })
        // Whole systems wait most of the time.
        .env("RUST_TEST_THREADS", TESTS_AT_A_TIME)
        .stdout(Stdio::piped());
    println!("+ {tests:?}");
    let failed_before = tally.failed;
    let mut child = tests.spawn().context("cargo cannot be started")?;
    for line in BufReader::new(child.stdout.take().context("the output is piped")?).lines() {
        let line = line?;
        println!("{line}");
        tally.count_line(&line);
    }
    if !child.wait()?.success() && tally.failed == failed_before {
        // A program did not build, or a test program was killed.
        tally.failed += 1;
    }
    // A test that reports two reasons is one skipped test.
    let reasons = std::fs::read_to_string(&skipped).unwrap_or_default();
    for line in reasons.lines() {
        let name = line.split(": ").next().unwrap_or(line);
        if !tally.skipped.iter().any(|known| known.starts_with(&format!("{name}: "))) {
            tally.skipped.push(line.to_owned());
        }
    }
    Ok(())
}

/// Installs the outside clients below the target folder: buf from npm, and for Python gRPC and a server's
/// side of Windows logins. Returns their folder.
fn install_clients(root: &Path) -> Result<PathBuf> {
    let tools = target_folder(root).join("tools");
    std::fs::create_dir_all(&tools)?;
    if !tools.join("node_modules/.bin/buf").exists() {
        let quiet = ["install", "--no-fund", "--no-audit", "--loglevel=error"];
        run(Command::new("npm").args(quiet).arg("--prefix").arg(&tools).arg("@bufbuild/buf"))?;
    }
    let python = tools.join("python/bin/python3");
    let has_all = Command::new(&python).args(["-c", "import grpc_tools, spnego"]).stderr(Stdio::null()).status();
    if !has_all.is_ok_and(|status| status.success()) {
        run(Command::new("python3").args(["-m", "venv"]).arg(tools.join("python")))?;
        let packages = ["grpcio", "grpcio-tools", "pyspnego"];
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(packages))?;
    }
    Ok(tools)
}

/// The fuzz targets. Each has a folder of seeds: inputs that once failed, and typical ones.
pub const FUZZ_TARGETS: [&str; 4] = ["parse", "rlm", "answers", "batch"];

/// Fuzzes all targets side by side for `seconds` seconds. The targets are built with the compiler's own coverage instrumentation,
/// which the stable toolchain supports, and without a sanitizer, which it does not support.
fn fuzz(root: &Path, seconds: u32, tally: &mut Tally) -> Result<()> {
    let folder = root.join("tests/fuzz");
    let flags = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
                 -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions -Coverflow-checks --cfg fuzzing";
    let host = host_triple()?;
    let target = target_folder(root).join("fuzz");
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--release", "--target", &host]).current_dir(&folder).env("RUSTFLAGS", flags);
    run(build.env("CARGO_TARGET_DIR", &target))?;
    let mut fuzzers = Vec::new();
    for name in FUZZ_TARGETS {
        let corpus = target.join("corpus").join(name);
        std::fs::create_dir_all(&corpus)?;
        let program = target.join(&host).join("release").join(name);
        let mut fuzzer = Command::new(program);
        fuzzer.arg(&corpus).arg(folder.join("seeds").join(name));
        fuzzer.arg(format!("-max_total_time={seconds}")).args(["-max_len=65536", "-timeout=10", "-rss_limit_mb=1024"]);
        fuzzer.args(["-verbosity=0", "-print_final_stats=1"]);
        fuzzer.arg(format!("-artifact_prefix={}/", target.display()));
        println!("+ {fuzzer:?}");
        fuzzers.push((name, fuzzer.spawn().with_context(|| format!("{fuzzer:?} cannot be started"))?));
    }
    for (name, mut fuzzer) in fuzzers {
        let status = fuzzer.wait()?;
        let outcome = if status.success() { Ok(()) } else { Err(anyhow::anyhow!("{status}")) };
        tally.count(&format!("fuzzing {name}"), outcome);
    }
    Ok(())
}

fn host_triple() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| anyhow::anyhow!("rustc does not name its host: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cargo_says_is_counted() {
        let mut tally = Tally::default();
        tally.count_line(
            "test result: ok. 29 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.74s",
        );
        tally.count_line("test result: FAILED. 22 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out");
        tally.count_line("test a ... ok");
        assert_eq!((tally.passed, tally.failed), (51, 3));
        assert!(tally.close().is_err());
    }
}
