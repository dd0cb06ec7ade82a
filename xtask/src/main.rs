//! The project's own commands. `cargo xtask help` lists them.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use jiff::tz::TimeZone;
use xtask::sim::{Log, Plan, Rotation, Server, truth};

#[derive(Parser)]
#[command(bin_name = "cargo xtask", about = "The project's own commands", disable_help_subcommand = false)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Regenerate the code from the proto files
    Codegen {
        /// Only compare; fail if the code differs
        #[arg(long)]
        check: bool,
        /// Accept the current contract as the baseline that CI checks for breaking changes
        #[arg(long, conflicts_with = "check")]
        agree: bool,
    },
    /// Simulate a FlexNet license server: write a debug log and its true figures
    ///
    /// Example: cargo xtask sim --lines 1000000 --truth truth.csv debug.log
    Sim(Sim),
    /// Build everything, start an aggregator and an agent on a log, and show the month's table; both run until Ctrl-C
    Demo {
        /// A FlexNet debug log; if none is given, a simulated one
        log: Option<PathBuf>,
    },
    /// Measure whole processes on a simulated log of ten million lines, each compared with grep
    Bench,
    /// Build all packages and archives in target/dist, with checksums and software bills of materials
    Dist(xtask::dist::Options),
    /// Run the commands of a guide, and compare their output with the output in the guide
    Guide(xtask::guide::Options),
    /// Run every test, and install the tools that the tests need
    Test {
        /// Run for hours instead of minutes: more kills, longer fuzzing
        #[arg(long)]
        long: bool,
        /// Only build all packages, install them under a real systemd and under Wine, and test them there
        #[arg(long, conflicts_with = "long")]
        packages: bool,
    },
}

#[derive(clap::Args)]
struct Sim {
    /// The path of the log to write
    log: PathBuf,
    /// The path of a file for the true figures, in the format of `seatmeter-agent scan --output csv`
    #[arg(long)]
    truth: Option<PathBuf>,
    /// The number of lines
    #[arg(long, default_value_t = 10_000_000)]
    lines: u64,
    /// The number of people
    #[arg(long, default_value_t = 20_000)]
    users: u32,
    /// The number of features
    #[arg(long, default_value_t = 20)]
    features: usize,
    /// The number of days that the lines cover
    #[arg(long, default_value_t = 90.0)]
    days: f64,
    /// The time of the first line, in RFC 3339
    #[arg(long, default_value = "2026-01-01T08:00:00Z")]
    start: jiff::Timestamp,
    /// The number of times that the server crashes and restarts
    #[arg(long, default_value_t = 0)]
    crashes: u64,
    /// The time zone of the server's clock
    #[arg(long, default_value = "UTC")]
    zone: String,
    /// The seed of the random numbers: the same seed gives the same log
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// End lines as on Windows
    #[arg(long)]
    crlf: bool,
    /// Write at most this many lines per second, as a license server does
    #[arg(long)]
    pace: Option<u64>,
    /// The number of times that the log is rotated by renaming
    #[arg(long, default_value_t = 0)]
    rotations: u64,
}

fn main() -> ExitCode {
    run().map_or_else(
        |error| {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

fn run() -> Result<()> {
    match Arguments::parse().command {
        Command::Codegen { check: true, .. } => xtask::codegen::check(&xtask::root()),
        Command::Codegen { agree: true, .. } => xtask::codegen::agree(&xtask::root()),
        Command::Codegen { .. } => xtask::codegen::generate(&xtask::root()),
        Command::Sim(options) => simulate(&options),
        Command::Demo { log } => xtask::demo::demo(&xtask::root(), log.as_deref()),
        Command::Bench => xtask::bench::bench(&xtask::root()),
        Command::Dist(options) => xtask::dist::dist(&xtask::root(), &options),
        Command::Guide(options) => xtask::guide::follow(&options),
        Command::Test { packages: true, .. } => xtask::packages::try_all(&xtask::root()),
        Command::Test { long, packages: false } => xtask::test::test(&xtask::root(), long),
    }
}

fn simulate(options: &Sim) -> Result<()> {
    let mut server = Server::new(Plan {
        seed: options.seed,
        users: options.users,
        features: options.features,
        start: options.start.as_second(),
        zone: TimeZone::get(&options.zone)?,
        seconds_a_line: options.days * 86_400.0 / options.lines as f64,
        crlf: options.crlf,
        ..Plan::default()
    });
    let mut log = Log::create(&options.log).with_context(|| format!("cannot write {}", options.log.display()))?;
    let mut lines = Vec::new();
    let began = Instant::now();
    let rotate_every = options.lines / (options.rotations + 1);
    let mut next_rotation = rotate_every;
    server.start(&mut lines);
    let crash_every = options.lines / (options.crashes + 1);
    let mut next_crash = crash_every;
    while server.lines() < options.lines {
        if server.lines() >= next_crash {
            next_crash += crash_every;
            server.crash(7200);
            server.start(&mut lines);
        }
        server.step(&mut lines);
        let is_rotated = server.lines() >= next_rotation && next_rotation + rotate_every <= options.lines;
        let portion = options.pace.map_or(1 << 16, |_| 1 << 10);
        if lines.len() > portion || is_rotated {
            log.write(&lines)?;
            lines.clear();
            if let Some(pace) = options.pace {
                let due = Duration::from_secs_f64(server.lines() as f64 / pace as f64);
                std::thread::sleep(due.saturating_sub(began.elapsed()));
            }
        }
        if is_rotated {
            next_rotation += rotate_every;
            log.rotate(Rotation::Rename)?;
        }
    }
    log.write(&lines)?;
    if let Some(path) = &options.truth {
        std::fs::write(path, truth::as_csv(&server.figures()))?;
    }
    Ok(())
}
