//! Runs an aggregator and an agent, from the log to committed facts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::ticks;
use crate::certificates;
use crate::process::log_in;

/// The longest time that a measured step may take.
const DEADLINE: Duration = Duration::from_secs(180);

/// A configured aggregator and agent with empty state folders.
pub(super) struct Pipeline {
    programs: PathBuf,
    state: PathBuf,
}

/// A running process, killed when this value is dropped.
pub(super) struct Running(Child);

impl Pipeline {
    pub(super) fn new(programs: &Path, folder: &Path, log: &Path) -> Result<Self> {
        let state = folder.join("pipeline");
        if state.exists() {
            fs::remove_dir_all(&state)?;
        }
        let made = certificates::make(&state)?;
        let (certificate, key) = (&made.server.certificate, &made.server.key);
        fs::write(
            state.join("aggregator.toml"),
            format!(
                "state = {:?}\ntime_zone = \"UTC\"\n[agents]\nlisten = \"127.0.0.1:17470\"\ncertificate = {certificate:?}\n\
                 key = {key:?}\n[operators]\nlisten = \"127.0.0.1:17471\"\nplaintext = true\n",
                state.join("aggregator")
            ),
        )?;
        fs::write(
            state.join("agent.toml"),
            format!(
                "state = {:?}\n[license_server]\nname = \"bench\"\n[aggregator]\nurl = \"https://localhost:17470\"\n\
                 authority = {:?}\n[[source]]\npath = {log:?}\ntime_zone = \"UTC\"\n",
                state.join("agent"),
                made.authority
            ),
        )?;
        Ok(Self { programs: programs.to_owned(), state })
    }

    pub(super) fn serve(&self) -> Result<Running> {
        let running = self.start("seatmeter-aggregator", "serve", "aggregator.toml")?;
        let began = Instant::now();
        while std::net::TcpStream::connect("127.0.0.1:17470").is_err() {
            if began.elapsed() > DEADLINE {
                bail!("the aggregator does not listen");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut administrator = Command::new(self.programs.join("seatmeter-aggregator"));
        administrator.args(["administrator", "bench", "--config"]).arg(self.state.join("aggregator.toml"));
        log_in(&mut administrator, &mut self.seatmeter())?;
        Ok(running)
    }

    fn seatmeter(&self) -> Command {
        let mut command = Command::new(self.programs.join("seatmeter"));
        command.env("SEATMETER_LOGIN", self.state.join("login.json"));
        command
    }

    pub(super) fn follow(&self) -> Result<Running> {
        self.start("seatmeter-agent", "run", "agent.toml")
    }

    fn start(&self, program: &str, command: &str, config: &str) -> Result<Running> {
        let path = self.programs.join(program);
        let child =
            Command::new(&path).arg(command).arg("--config").arg(self.state.join(config)).stderr(Stdio::null()).spawn();
        Ok(Running(child.with_context(|| format!("{} cannot be started", path.display()))?))
    }

    /// Waits until the aggregator has counted `outs` checkouts.
    pub(super) fn wait_for(&self, outs: u64) -> Result<()> {
        let began = Instant::now();
        loop {
            let mut ask = self.seatmeter();
            ask.args(["activity", "--output", "csv"]);
            let text = String::from_utf8(ask.stderr(Stdio::null()).output()?.stdout)?;
            let found: u64 = text.lines().filter_map(|line| line.split(',').nth(5)?.parse::<u64>().ok()).sum();
            if found == outs {
                return Ok(());
            }
            if began.elapsed() > DEADLINE {
                bail!("{found} of {outs} checkouts were counted");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Returns the size of the agent's buffer on disk, in bytes, without the reserve for a full disk.
    pub(super) fn buffer_bytes(&self) -> Result<u64> {
        let size = |name: &str| fs::metadata(self.state.join("agent").join(name)).map_or(0, |meta| meta.len());
        Ok(size("buffer.db") + size("buffer.db-wal"))
    }
}

impl Running {
    /// Returns the CPU seconds used so far.
    pub(super) fn cpu(&self) -> Result<f64> {
        ticks(&format!("/proc/{}/stat", self.0.id()), [11, 12])
    }

    /// Returns the number of times that the process's threads have waited so far.
    pub(super) fn wakes(&self) -> Result<f64> {
        let mut wakes = 0.0;
        for task in fs::read_dir(format!("/proc/{}/task", self.0.id()))? {
            let status = fs::read_to_string(task?.path().join("status"))?;
            let waited = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            wakes += waited.context("Linux tells of waits")?.trim().parse::<f64>()?;
        }
        Ok(wakes)
    }

    /// Returns the resident memory, in megabytes.
    pub(super) fn megabytes(&self) -> Result<f64> {
        self.memory("VmRSS:")
    }

    /// Returns the peak resident memory, in megabytes.
    pub(super) fn peak_megabytes(&self) -> Result<f64> {
        self.memory("VmHWM:")
    }

    fn memory(&self, field: &str) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)).context("Linux tells memory")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? * 1024.0 / 1e6)
    }

    /// Waits until the process uses almost no CPU (less than 0.03 s) during three seconds.
    pub(super) fn wait_until_quiet(&self) -> Result<()> {
        let began = Instant::now();
        loop {
            let before = self.cpu()?;
            std::thread::sleep(Duration::from_secs(3));
            if self.cpu()? - before < 0.03 {
                return Ok(());
            }
            if began.elapsed() > DEADLINE {
                bail!("the agent does not come to rest");
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The process may already have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
