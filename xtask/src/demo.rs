//! `cargo xtask demo`: starts an aggregator and an agent on a log, and shows the month's table.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::process::{cargo, log_in, program_folder, target_folder};
use crate::sim::{Plan, Server};

/// The number of lines in the simulated log: enough to show something, few enough to write in a moment.
const LINES: u64 = 60_000;

const USERS: u32 = 800;
const FEATURES: usize = 6;

/// The cargo profile. An unoptimised build takes half the time, and is fast enough for 60,000 lines.
const PROFILE: &str = "dev";

/// The products of the demo's features, in the order of the features' codes.
const PRODUCTS: [&str; FEATURES] =
    ["Acme CAD Professional", "Acme CAD LT", "Acme Mould", "Acme Simulation", "Acme Viewer", "Acme Data Exchange"];

/// Builds and starts the programs, shows the month's table, and runs until Ctrl-C or SIGTERM.
pub fn demo(root: &Path, log: Option<&Path>) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, stop.clone())?;
    }
    let folder = target_folder(root).join("demo");
    fs::create_dir_all(&folder)?;
    let _lock = lock(&folder)?;
    println!("Building (one to three minutes, the first time) ...");
    cargo(
        root,
        &["build", "--profile", PROFILE, "-p", "seatmeter-agent", "-p", "seatmeter-aggregator", "-p", "seatmeter-cli"],
    )?;
    let mut demo = Demo::prepare(program_folder(root, "debug"), folder, log)?;
    let outcome = demo.run(&stop);
    demo.stop()?;
    outcome
}

/// Locks the folder, so that two demos never write into it at once.
fn lock(folder: &Path) -> Result<File> {
    let file = File::create(folder.join("lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!("a demo is running already: stop it with Ctrl-C where you started it"),
        Err(TryLockError::Error(error)) => Err(error).context("the demo's folder cannot be locked"),
    }
}

struct Demo {
    programs: PathBuf,
    folder: PathBuf,
    log: PathBuf,
    running: Vec<Child>,
}

impl Demo {
    /// Writes the log, the catalogue and the aggregator's configuration.
    fn prepare(programs: PathBuf, folder: PathBuf, log: Option<&Path>) -> Result<Self> {
        for old in ["aggregator", "agent"] {
            if folder.join(old).exists() {
                fs::remove_dir_all(folder.join(old))?;
            }
        }
        let log = match log {
            Some(log) => log.canonicalize().with_context(|| format!("{} cannot be read", log.display()))?,
            None => sample(&folder)?,
        };
        let (catalogue, state) = (folder.join("catalogue.toml"), folder.join("aggregator"));
        let plaintext = "listen = \"127.0.0.1:0\"\nplaintext = true\n";
        fs::write(
            folder.join("aggregator.toml"),
            format!(
                "state = {state:?}\ntime_zone = \"UTC\"\ncatalogue = {catalogue:?}\n[agents]\n{plaintext}[operators]\n{plaintext}"
            ),
        )?;
        if !catalogue.exists() {
            fs::write(&catalogue, "")?;
        }
        Ok(Self { programs, folder, log, running: Vec::new() })
    }

    fn run(&mut self, stop: &AtomicBool) -> Result<()> {
        println!("Starting an aggregator and an agent ...");
        self.start("seatmeter-aggregator", "serve", "aggregator.toml")?;
        let (agents, operators) = self.wait_for_ports(stop)?;
        fs::write(
            self.folder.join("agent.toml"),
            format!(
                "state = {:?}\n[license_server]\nname = \"demo\"\n[aggregator]\nurl = \"http://{agents}\"\n\
                 [[source]]\nkind = \"file\"\npath = {:?}\ntime_zone = \"UTC\"\n",
                self.folder.join("agent"),
                self.log
            ),
        )?;
        self.start("seatmeter-agent", "run", "agent.toml")?;
        let url = format!("http://{operators}");
        let mut administrator = Command::new(self.programs.join("seatmeter-aggregator"));
        administrator.args(["administrator", "demo", "--config"]).arg(self.folder.join("aggregator.toml"));
        log_in(&mut administrator, &mut self.ask(&url, &[]))?;
        let month = self.wait_for_figures(&url, stop)?;
        let Some(month) = month else { return Ok(()) };
        println!("\nUnique users of {month}:\n");
        let status = self.ask(&url, &["usage", &month]).status()?;
        ensure!(status.success(), "`seatmeter usage` failed");
        self.suggest(&month);
        while !stop.load(Ordering::Relaxed) {
            self.must_run()?;
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    fn suggest(&self, month: &str) {
        let seatmeter = self.programs.join("seatmeter");
        println!("\nAn agent follows {}. Ask for more in another terminal:", self.log.display());
        println!("  export SEATMETER_LOGIN={}", self.login().display());
        println!("  {} users {month} --limit 10", seatmeter.display());
        println!("  {} trend --through {month}", seatmeter.display());
        println!("  {} servers", seatmeter.display());
        println!("Both run until you press Ctrl-C.");
    }

    fn start(&mut self, name: &str, command: &str, config: &str) -> Result<()> {
        let path = self.programs.join(name);
        let errors = File::create(self.folder.join(format!("{name}.log")))?;
        let child =
            Command::new(&path).args([command, "--config"]).arg(self.folder.join(config)).stderr(errors).spawn();
        self.running.push(child.with_context(|| format!("{} cannot be started", path.display()))?);
        Ok(())
    }

    fn ask(&self, url: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join("seatmeter"));
        command.args(arguments).env("SEATMETER_AGGREGATOR", url).env("SEATMETER_LOGIN", self.login());
        command
    }

    fn login(&self) -> PathBuf {
        self.folder.join("login.json")
    }

    fn must_run(&mut self) -> Result<()> {
        for child in &mut self.running {
            if let Some(status) = child.try_wait()? {
                bail!("a program has ended ({status}): see the logs in {}", self.folder.display());
            }
        }
        Ok(())
    }

    /// Waits until the aggregator listens. Returns its addresses for agents and for operators.
    fn wait_for_ports(&mut self, stop: &AtomicBool) -> Result<(String, String)> {
        let file = self.folder.join("aggregator/listening.json");
        let since = Instant::now();
        loop {
            self.must_run()?;
            if let Ok(text) = fs::read(&file) {
                let told: serde_json::Value = serde_json::from_slice(&text)?;
                let address = |name: &str| told[name].as_str().map(str::to_owned).context("an aggregator listens");
                return Ok((address("agents")?, address("operators")?));
            }
            ensure!(!stop.load(Ordering::Relaxed), "stopped");
            ensure!(
                since.elapsed() < PATIENCE,
                "the aggregator does not start: see the logs in {}",
                self.folder.display()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the figures stop changing. Returns the last full month, because a month that has just begun shows
    /// little; `None` if the demo is stopped first.
    fn wait_for_figures(&mut self, url: &str, stop: &AtomicBool) -> Result<Option<String>> {
        println!("Reading {} ...", self.log.display());
        let (since, mut before) = (Instant::now(), Vec::new());
        while !stop.load(Ordering::Relaxed) {
            self.must_run()?;
            ensure!(since.elapsed() < PATIENCE, "nothing was counted: see the logs in {}", self.folder.display());
            std::thread::sleep(Duration::from_millis(700));
            let now = self.ask(url, &["activity", "--output", "json"]).output()?.stdout;
            let activity: serde_json::Value = serde_json::from_slice(&now).unwrap_or_default();
            let rows = activity["rows"].as_array().filter(|rows| !rows.is_empty() && now == before).cloned();
            before = now;
            let Some(rows) = rows else { continue };
            let months: Vec<&str> = rows.iter().filter_map(|row| row["month"].as_str()).collect();
            let last = months.iter().max().context("the log reports no usage")?;
            return Ok(Some((*months.iter().filter(|month| *month < last).max().unwrap_or(last)).to_owned()));
        }
        Ok(None)
    }

    /// Asks the programs to stop, and waits until they have stopped.
    fn stop(&mut self) -> Result<()> {
        for child in self.running.iter_mut().rev() {
            // SIGTERM is what systemd sends. `kill` fails if the program has already ended, which does no harm.
            let _ = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
            child.wait()?;
        }
        Ok(())
    }
}

/// The longest time that a step of the demo may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Writes a simulated log, and the catalogue of its products. Returns the path of the log.
fn sample(folder: &Path) -> Result<PathBuf> {
    println!("Writing three months of a license server's log ...");
    let mut server = Server::new(Plan {
        users: USERS,
        features: FEATURES,
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
    let mut features: Vec<(String, String)> =
        server.figures().into_iter().map(|figures| (figures.daemon, figures.feature)).collect();
    features.sort();
    features.dedup();
    let catalogue: String = features
        .iter()
        .zip(PRODUCTS)
        .enumerate()
        .map(|(index, ((daemon, feature), product))| {
            format!(
                "[[sku]]\nid = \"ACME-{}\"\nproduct = {product:?}\ndaemon = {daemon:?}\nfeatures = [{feature:?}]\n\n",
                100 + index
            )
        })
        .collect();
    fs::write(folder.join("catalogue.toml"), catalogue)?;
    Ok(path)
}
