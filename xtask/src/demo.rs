//! `cargo xtask demo`: an aggregator, an agent and a log, and the month's table.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::process::{cargo, program_folder};
use crate::sim::{Plan, Server};

/// Enough to see something, little enough to be written in a moment.
const LINES: u64 = 200_000;

const PROFILE: &str = "test-fast";

/// Builds, starts, shows, and waits for Ctrl-C.
pub fn demo(root: &Path, log: Option<&Path>) -> Result<()> {
    cargo(
        root,
        &["build", "--profile", PROFILE, "-p", "seatmeter-agent", "-p", "seatmeter-aggregator", "-p", "seatmeter-cli"],
    )?;
    let programs = program_folder(root, PROFILE);
    let folder = root.join("target/demo");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let log = match log {
        Some(log) => log.canonicalize().with_context(|| format!("{} cannot be read", log.display()))?,
        None => sample(&folder)?,
    };
    let aggregator_config = folder.join("aggregator.toml");
    fs::write(
        &aggregator_config,
        format!(
            "state = {:?}\ntime_zone = \"UTC\"\n[agents]\nplaintext = true\n[operators]\nplaintext = true\n",
            folder.join("aggregator")
        ),
    )?;
    let agent_config = folder.join("agent.toml");
    fs::write(
        &agent_config,
        format!(
            "state = {:?}\n[license_server]\nname = \"demo\"\n[aggregator]\nurl = \"http://127.0.0.1:7470\"\n[[log]]\npath = {log:?}\ntime_zone = \"UTC\"\n",
            folder.join("agent")
        ),
    )?;
    let mut aggregator =
        start(&programs.join("seatmeter-aggregator"), "serve", &aggregator_config, &folder.join("aggregator.log"))?;
    let mut agent = start(&programs.join("seatmeter-agent"), "run", &agent_config, &folder.join("agent.log"))?;
    let shown = show(&programs.join("seatmeter"), &mut [&mut aggregator, &mut agent], &folder);
    if shown.is_ok() {
        println!("\nAn agent follows {}; ask for more in another terminal:", log.display());
        println!("  {} servers", programs.join("seatmeter").display());
        println!("Both run until you press Ctrl-C.");
        aggregator.wait()?;
    }
    for mut child in [agent, aggregator] {
        // It has ended already where Ctrl-C has reached it too.
        let _ = child.kill();
        child.wait()?;
    }
    shown
}

fn sample(folder: &Path) -> Result<PathBuf> {
    println!("Writing three months of a license server's log ...");
    let mut server = Server::new(Plan {
        users: 800,
        features: 6,
        seconds_a_line: 90.0 * 86_400.0 / LINES as f64,
        ..Plan::default()
    });
    let mut lines = Vec::new();
    server.start(&mut lines);
    while server.lines() < LINES {
        server.step(&mut lines);
    }
    let path = folder.join("debug.log");
    fs::write(&path, lines)?;
    Ok(path)
}

fn start(program: &Path, command: &str, config: &Path, log: &Path) -> Result<Child> {
    let errors = fs::File::create(log)?;
    Command::new(program)
        .arg(command)
        .arg("--config")
        .arg(config)
        .stderr(errors)
        .spawn()
        .with_context(|| format!("{} cannot be started", program.display()))
}

/// Waits until nothing more is counted, and shows the last month.
fn show(seatmeter: &Path, running: &mut [&mut Child], folder: &Path) -> Result<()> {
    let since = Instant::now();
    let mut before = Vec::new();
    loop {
        ensure!(since.elapsed() < Duration::from_secs(55), "nothing was counted: see the logs in {}", folder.display());
        for child in running.iter_mut() {
            if let Some(status) = child.try_wait()? {
                bail!("a program has ended ({status}): see the logs in {}", folder.display());
            }
        }
        std::thread::sleep(Duration::from_millis(500));
        let now = Command::new(seatmeter).args(["activity", "--output", "json"]).output()?.stdout;
        if now.len() > 4 && now == before {
            break;
        }
        before = now;
    }
    let activity: Vec<serde_json::Value> = serde_json::from_slice(&before)?;
    let months: Vec<&str> = activity.iter().filter_map(|row| row["month"].as_str()).collect();
    let last = months.iter().max().context("the log reports no use")?;
    // The last full month says more than one that has just begun.
    let month = months.iter().filter(|month| *month < last).max().unwrap_or(last);
    println!("\nUnique users of {month}:\n");
    let status = Command::new(seatmeter).args(["usage", month]).status()?;
    ensure!(status.success(), "`seatmeter usage` failed");
    Ok(())
}
