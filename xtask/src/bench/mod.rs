//! Measures whole processes on a simulated log of ten million lines, each beside `grep -c OUT:` on the same file in the
//! same run. The figures are only printed; they never decide whether a test passes.

mod pipeline;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pipeline::{Pipeline, Running};

use crate::process::{cargo, program_folder, run, target_folder};
use crate::sim;

const LINES: u64 = 10_000_000;

/// The records of an RLM report log of some 300 MB.
const REPORT_LINES: u64 = 3_000_000;

/// How long an idle agent is measured.
const IDLE: Duration = Duration::from_secs(600);

/// The data that all measurements share.
struct Bench {
    programs: PathBuf,
    folder: PathBuf,
    log: PathBuf,
    /// The number of checkouts in the log.
    outs: u64,
    /// The log's size, in megabytes.
    megabytes: f64,
    grep: Took,
}

/// Runs all measurements, and prints their figures.
pub fn bench(root: &Path) -> Result<()> {
    let packages = ["-p", "seatmeter-agent", "-p", "seatmeter-aggregator", "-p", "seatmeter-cli"];
    cargo(root, &[["build", "--release"].as_slice(), packages.as_slice()].concat())?;
    let folder = target_folder(root).join("bench");
    fs::create_dir_all(&folder)?;
    let (log, outs) = simulated_log(&folder)?;
    // The parser alone, in memory, in bytes per second on one core.
    run(Command::new("cargo")
        .args(["bench", "-p", "seatmeter-agent"])
        .current_dir(root)
        .env("SEATMETER_BENCH_LOG", &log))?;
    let megabytes = fs::metadata(&log)?.len() as f64 / 1e6;
    println!("\n{LINES} lines, {megabytes:.0} MB, 20,000 people, 20 features, three months; page cache warm\n");
    let (grep, _) = best(Command::new("grep").env("LC_ALL", "C").args(["-c", "OUT:"]).arg(&log))?;
    println!("grep -c OUT:   {:.2} s wall, {:.2} s CPU", grep.wall, grep.cpu);
    let bench = Bench { programs: program_folder(root, "release"), folder, log, outs, megabytes, grep };
    let events = bench.scan()?;
    bench.scan_of_rlm()?;
    bench.pipeline_and_idle()?;
    bench.backlog(events)
}

impl Bench {
    /// Measures `scan`. Returns the number of events in the log.
    fn scan(&self) -> Result<u64> {
        let mut scan = Command::new(self.programs.join("seatmeter-agent"));
        let (scan, output) = best(scan.args(["scan", "--output", "csv"]).arg(&self.log))?;
        let times = scan.cpu / self.grep.cpu;
        println!("scan           {:.2} s wall, {:.2} s CPU: {times:.1} times grep's CPU (aim: 3)", scan.wall, scan.cpu);
        events_of(&output)
    }

    /// Measures `scan` of an RLM report log, beside grep on the same file.
    fn scan_of_rlm(&self) -> Result<()> {
        let log = simulated_report_log(&self.folder)?;
        let megabytes = fs::metadata(&log)?.len() as f64 / 1e6;
        let (grep, _) = best(Command::new("grep").env("LC_ALL", "C").args(["-c", "^OUT "]).arg(&log))?;
        let mut scan = Command::new(self.programs.join("seatmeter-agent"));
        let (scan, _) = best(scan.args(["scan", "--output", "csv"]).arg(&log))?;
        println!(
            "RLM            scan of {megabytes:.0} MB: {:.2} s CPU, {:.0} MB/s; {:.1} times the CPU of grep -c '^OUT ' ({:.2} s)",
            scan.cpu,
            megabytes / scan.cpu,
            scan.cpu / grep.cpu,
            grep.cpu
        );
        Ok(())
    }

    /// Measures the whole way from the log to committed facts, and then the idle agent.
    fn pipeline_and_idle(&self) -> Result<()> {
        let pipeline = Pipeline::new(&self.programs, &self.folder, &self.log)?;
        let serving = pipeline.serve()?;
        let began = Instant::now();
        let running = pipeline.follow()?;
        pipeline.wait_for(self.outs)?;
        let wall = began.elapsed().as_secs_f64();
        println!(
            "whole way      {wall:.2} s wall, {:.0} MB/s: {:.1} times grep's wall (aim: 8)",
            self.megabytes / wall,
            wall / self.grep.wall
        );
        println!(
            "               CPU: agent {:.2} s, aggregator {:.2} s; agent at most {:.0} MB resident (aim: 64)",
            running.cpu()?,
            serving.cpu()?,
            running.peak_megabytes()?
        );
        drop(running);
        idle(&pipeline.follow()?)
    }

    /// Measures the size of the buffer, and the memory of the agent while it drains the buffer.
    fn backlog(&self, events: u64) -> Result<()> {
        let pipeline = Pipeline::new(&self.programs, &self.folder, &self.log)?;
        let alone = pipeline.follow()?;
        alone.wait_until_quiet()?;
        let buffered = pipeline.buffer_bytes()?;
        let each = buffered as f64 / events as f64;
        println!("buffer         {buffered} bytes, {each:.2} bytes an event on disk (aim: 8)");
        let _serving = pipeline.serve()?;
        pipeline.wait_for(self.outs)?;
        println!("backlog drains agent at most {:.0} MB resident (aim: 64)", alone.peak_megabytes()?);
        Ok(())
    }
}

/// Measures an agent that has nothing to do.
fn idle(agent: &Running) -> Result<()> {
    agent.wait_until_quiet()?;
    let (cpu, wakes, began) = (agent.cpu()?, agent.wakes()?, Instant::now());
    std::thread::sleep(IDLE);
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    println!(
        "idle agent     {:.1} MB resident (aim: 10), {:.0} ms of CPU a minute (aim: 20), woken {:.0} times a minute, \
         over {minutes:.0} minutes",
        agent.megabytes()?,
        (agent.cpu()? - cpu) * 1e3 / minutes,
        (agent.wakes()? - wakes) / minutes
    );
    println!(
        "               others, not measured here, per minute: bare tokio, rusqlite and tonic 5.6 MB, 10 ms; \
         rsyslog 4.6 MB, 0 ms; mtail 14.5 MB, 79 ms; \
         OpenTelemetry 29 to 45 MB, 300 ms; Vector 34 to 52 MB, 68 ms"
    );
    Ok(())
}

/// Returns the simulated log and the number of checkouts in it. Both are kept between runs.
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

/// Returns a simulated RLM report log, which is kept between runs.
fn simulated_report_log(folder: &Path) -> Result<PathBuf> {
    let log = folder.join("report.log");
    if !log.exists() {
        println!("simulating {REPORT_LINES} records of RLM ...");
        let mut server = sim::RlmServer::new(1, sim::ReportFormat::Std, 20_000, sim::Plan::default().start);
        let mut lines = Vec::new();
        server.start(&mut lines);
        let mut file = std::io::BufWriter::new(fs::File::create(folder.join("report.log.new"))?);
        while server.lines() < REPORT_LINES {
            server.step(&mut lines);
            server.debug.clear();
            if lines.len() > 1 << 16 {
                std::io::Write::write_all(&mut file, &lines)?;
                lines.clear();
            }
        }
        std::io::Write::write_all(&mut file, &lines)?;
        std::io::Write::flush(&mut file)?;
        fs::rename(folder.join("report.log.new"), &log)?;
    }
    Ok(log)
}

/// The time that a process took, in seconds.
#[derive(Clone, Copy)]
struct Took {
    wall: f64,
    cpu: f64,
}

/// Runs a command three times. Returns the shortest times, and the output of the last run.
fn best(command: &mut Command) -> Result<(Took, Output)> {
    let mut best = Took { wall: f64::MAX, cpu: f64::MAX };
    let mut last = None;
    for _ in 0..3 {
        let before = children_cpu()?;
        let began = Instant::now();
        // The output goes to a pipe, because grep stops at the first match if its output is /dev/null.
        let output = command.stdin(Stdio::null()).output()?;
        ensure!(output.status.success(), "{command:?} failed");
        best.wall = best.wall.min(began.elapsed().as_secs_f64());
        best.cpu = best.cpu.min(children_cpu()? - before);
        last = Some(output);
    }
    Ok((best, last.context("it ran three times")?))
}

/// Returns the number of events from the last line of a scan: `... lines read: 9,947,179 events, ...`.
fn events_of(scan: &Output) -> Result<u64> {
    let said = String::from_utf8_lossy(&scan.stderr);
    let events = said.split(" events").next().and_then(|before| before.rsplit(' ').next());
    Ok(events.context("a scan tells its events")?.replace(',', "").parse()?)
}

const TICKS_A_SECOND: f64 = 100.0;

/// Returns the CPU seconds of all child processes that have ended, as Linux reports them.
fn children_cpu() -> Result<f64> {
    ticks("/proc/self/stat", [13, 14])
}

/// Returns the sum of two fields of a `/proc` stat file, converted from clock ticks to seconds.
fn ticks(stat: &str, fields: [usize; 2]) -> Result<f64> {
    let stat = fs::read_to_string(stat).context("benchmarks need Linux's /proc")?;
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let field = |index: usize| after_name.split_whitespace().nth(index).and_then(|text| text.parse::<f64>().ok());
    Ok(fields.into_iter().filter_map(field).sum::<f64>() / TICKS_A_SECOND)
}
