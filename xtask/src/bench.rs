//! `cargo xtask bench`: whole processes, each figure beside `grep -c OUT:` of the same file in the same run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::process::{cargo, program_folder};
use crate::{certificates, sim};

const LINES: u64 = 10_000_000;

/// Measures, and prints.
pub fn bench(root: &Path) -> Result<()> {
    let packages = ["-p", "seatmeter-agent", "-p", "seatmeter-aggregator", "-p", "seatmeter-cli"];
    cargo(root, &[["build", "--release"].as_slice(), packages.as_slice()].concat())?;
    let programs = program_folder(root, "release");
    let folder = root.join("target/bench");
    fs::create_dir_all(&folder)?;
    let (log, outs) = simulated_log(&folder)?;
    let size = fs::metadata(&log)?.len() as f64 / 1e6;
    println!("\n{LINES} lines, {size:.0} MB, 20,000 people, 20 features, three months; page cache warm\n");
    let mut grep = Command::new("grep");
    grep.env("LC_ALL", "C").args(["-c", "OUT:"]).arg(&log);
    let (grep_wall, grep_cpu) = best(&mut grep)?;
    println!("grep -c OUT:   {grep_wall:.2} s wall, {grep_cpu:.2} s CPU");
    let mut scan = Command::new(programs.join("seatmeter-agent"));
    scan.args(["scan", "--output", "csv"]).arg(&log);
    let (wall, cpu) = best(&mut scan)?;
    println!("scan           {wall:.2} s wall, {cpu:.2} s CPU: {:.1} times grep's CPU (aim: 3)", cpu / grep_cpu);
    let wall = whole_way(&programs, &folder, &log, outs)?;
    println!(
        "whole way      {wall:.2} s wall, {:.0} MB/s: {:.1} times grep's wall (aim: 8)",
        size / wall,
        wall / grep_wall
    );
    Ok(())
}

/// The log, and how many checkouts are in it; kept between runs.
fn simulated_log(folder: &Path) -> Result<(PathBuf, u64)> {
    let (log, truth) = (folder.join("debug.log"), folder.join("outs"));
    if !truth.exists() {
        println!("simulating {LINES} lines ...");
        let mut server = sim::Server::new(sim::Plan::default());
        let mut file = std::io::BufWriter::new(fs::File::create(&log)?);
        let mut lines = Vec::new();
        server.start(&mut lines);
        while server.lines() < LINES {
            server.step(&mut lines);
            if lines.len() > 1 << 16 {
                std::io::Write::write_all(&mut file, &lines)?;
                lines.clear();
            }
        }
        std::io::Write::write_all(&mut file, &lines)?;
        std::io::Write::flush(&mut file)?;
        fs::write(&truth, server.figures().iter().map(|figures| figures.outs).sum::<u64>().to_string())?;
    }
    Ok((log, fs::read_to_string(truth)?.parse()?))
}

/// The best of three runs: wall and CPU seconds.
fn best(command: &mut Command) -> Result<(f64, f64)> {
    let mut best = (f64::MAX, f64::MAX);
    for _ in 0..3 {
        let before = children_cpu()?;
        let began = Instant::now();
        // Into a pipe: grep stops at the first match where its output is /dev/null.
        let output = command.stderr(Stdio::null()).output()?;
        ensure!(output.status.success(), "{command:?} failed");
        let wall = began.elapsed().as_secs_f64();
        best = (best.0.min(wall), best.1.min(children_cpu()? - before));
    }
    Ok(best)
}

/// CPU seconds of the child processes that have ended, as Linux tells them.
fn children_cpu() -> Result<f64> {
    const TICKS_A_SECOND: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat").context("benchmarks need Linux's /proc")?;
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let field = |index: usize| after_name.split_whitespace().nth(index).and_then(|text| text.parse::<f64>().ok());
    Ok((field(13).unwrap_or(0.0) + field(14).unwrap_or(0.0)) / TICKS_A_SECOND)
}

/// From the file to committed facts, over TLS: seconds.
fn whole_way(programs: &Path, folder: &Path, log: &Path, outs: u64) -> Result<f64> {
    let state = folder.join("way");
    if state.exists() {
        fs::remove_dir_all(&state)?;
    }
    let made = certificates::make(&state)?;
    let aggregator = state.join("aggregator.toml");
    let (certificate, key) = (&made.server.certificate, &made.server.key);
    fs::write(
        &aggregator,
        format!(
            "state = {:?}\ntime_zone = \"UTC\"\n[agents]\nlisten = \"127.0.0.1:17470\"\ncertificate = {certificate:?}\n\
             key = {key:?}\n[operators]\nlisten = \"127.0.0.1:17471\"\nplaintext = true\n",
            state.join("aggregator")
        ),
    )?;
    let agent = state.join("agent.toml");
    fs::write(
        &agent,
        format!(
            "state = {:?}\n[license_server]\nname = \"bench\"\n[aggregator]\nurl = \"https://localhost:17470\"\n\
             authority = {:?}\n[[log]]\npath = {log:?}\ntime_zone = \"UTC\"\n",
            state.join("agent"),
            made.authority
        ),
    )?;
    let seatmeter = programs.join("seatmeter");
    let counted = || -> Result<u64> {
        let mut ask = Command::new(&seatmeter);
        ask.args(["--aggregator", "http://127.0.0.1:17471", "activity", "--output", "csv"]);
        let text = String::from_utf8(ask.stderr(Stdio::null()).output()?.stdout)?;
        Ok(text.lines().filter_map(|line| line.split(',').nth(5)?.parse::<u64>().ok()).sum())
    };
    let mut serving = start(&programs.join("seatmeter-aggregator"), "serve", &aggregator)?;
    std::thread::sleep(Duration::from_secs(1));
    let began = Instant::now();
    let mut running = start(&programs.join("seatmeter-agent"), "run", &agent)?;
    let result = loop {
        std::thread::sleep(Duration::from_millis(50));
        match counted() {
            Ok(found) if found == outs => break Ok(began.elapsed().as_secs_f64()),
            Ok(_) if began.elapsed() < Duration::from_secs(120) => {}
            Ok(found) => break Err(anyhow::anyhow!("{found} of {outs} checkouts were counted")),
            Err(error) => break Err(error),
        }
    };
    for child in [&mut running, &mut serving] {
        child.kill()?;
        child.wait()?;
    }
    result
}

fn start(program: &Path, command: &str, config: &Path) -> Result<Child> {
    let child = Command::new(program).arg(command).arg("--config").arg(config).stderr(Stdio::null()).spawn();
    child.with_context(|| format!("{} cannot be started", program.display()))
}
