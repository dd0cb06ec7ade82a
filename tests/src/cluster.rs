//! An aggregator, agents beside it, and the questions an operator asks.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Nothing that a test waits for takes longer than this on a busy machine; where it does, the test fails.
const DEADLINE: Duration = Duration::from_secs(90);

/// The programs under test, made by `cargo xtask test`.
fn program(name: &str) -> PathBuf {
    let folder =
        std::env::var_os("SEATMETER_BIN").map_or_else(|| xtask::root().join("target/test-fast"), PathBuf::from);
    let path = folder.join(name);
    assert!(
        path.exists(),
        "{} is missing: run `cargo xtask test`, or `cargo build --profile test-fast`",
        path.display()
    );
    path
}

/// The folder of real inputs, where this machine has it; says so where it has not.
pub fn shared(part: &str) -> Option<PathBuf> {
    let path =
        std::env::var_os("SEATMETER_SHARED").map(|shared| PathBuf::from(shared).join(part)).filter(|p| p.exists());
    if path.is_none() {
        eprintln!("SKIPPED: SEATMETER_SHARED does not name a folder with {part}");
    }
    path
}

/// Waits until something is so, and fails where it never is.
pub fn wait_until(what: &str, is_so: impl FnMut() -> bool) {
    assert!(comes_true(is_so), "waited in vain until {what}");
}

/// Whether something is so before the deadline.
fn comes_true(mut is_so: impl FnMut() -> bool) -> bool {
    let since = Instant::now();
    while !is_so() {
        if since.elapsed() > DEADLINE {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// Lets the programs run for a moment. Decides where a kill falls, never whether a test passes.
pub fn sleep(moment: Duration) {
    std::thread::sleep(moment);
}

/// One aggregator, and as many agents as a test wants.
pub struct TestCluster {
    /// Everything is in here, and goes with it.
    pub folder: TempDir,
    aggregator: Option<Child>,
    agents_port: u16,
    operators_port: u16,
    /// More lines for the aggregator's configuration.
    pub settings: String,
    /// The authority, and a client's certificate and key, where the aggregator asks for one.
    tls: Option<Tls>,
}

struct Tls {
    authority: PathBuf,
    server: [PathBuf; 2],
    client: [PathBuf; 2],
}

impl Default for TestCluster {
    fn default() -> Self {
        Self::new()
    }
}

impl TestCluster {
    /// A cluster in which nothing runs yet.
    pub fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let [agents_port, operators_port] = free_ports();
        Self { folder, aggregator: None, agents_port, operators_port, settings: String::new(), tls: None }
    }

    /// A cluster with a running aggregator.
    pub fn running() -> Self {
        let mut cluster = Self::new();
        cluster.start_aggregator();
        cluster
    }

    /// A path in the cluster.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Has everybody speak TLS, and identify themselves.
    pub fn use_tls(&mut self, made: &xtask::certificates::Certificates) {
        let pair = |identity: &xtask::certificates::Identity| [identity.certificate.clone(), identity.key.clone()];
        self.tls =
            Some(Tls { authority: made.authority.clone(), server: pair(&made.server), client: pair(&made.client) });
    }

    /// Where agents connect.
    pub fn agents_url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme(), self.agents_port)
    }

    /// Where operators connect.
    pub fn operators_url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme(), self.operators_port)
    }

    fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// The port for agents.
    pub fn agents_port(&self) -> u16 {
        self.agents_port
    }

    /// The aggregator's configuration file, written anew.
    pub fn aggregator_config(&self) -> PathBuf {
        let path = self.path("aggregator.toml");
        let security = match &self.tls {
            None => "plaintext = true".to_owned(),
            Some(Tls { authority, server: [certificate, key], .. }) => {
                format!("certificate = {certificate:?}\nkey = {key:?}\nclient_authority = {authority:?}")
            }
        };
        let text = format!(
            "state = {:?}\ntime_zone = \"UTC\"\n{}\n[agents]\nlisten = \"127.0.0.1:{}\"\n{security}\n\
             [operators]\nlisten = \"127.0.0.1:{}\"\n{security}\n",
            self.path("aggregator"),
            self.settings,
            self.agents_port,
            self.operators_port
        );
        fs::write(&path, text).unwrap();
        path
    }

    /// Starts the aggregator, and waits until it answers.
    pub fn start_aggregator(&mut self) {
        self.start_aggregator_with(&[]);
        wait_until("the aggregator answers", || {
            let ended = self.aggregator.as_mut().and_then(|child| child.try_wait().unwrap());
            assert!(ended.is_none(), "the aggregator ended: {}", self.read("aggregator.err"));
            self.seatmeter(&["servers", "--output", "json"]).status.success()
        });
    }

    /// Starts the aggregator by another program, such as one that injects faults.
    pub fn start_aggregator_with(&mut self, wrapper: &[&str]) {
        let mut command = wrapped(wrapper, "seatmeter-aggregator");
        command.args(["serve", "--config"]).arg(self.aggregator_config()).stderr(self.log("aggregator.err"));
        self.aggregator = Some(command.spawn().unwrap());
    }

    /// Whether the aggregator has ended by itself.
    pub fn aggregator_has_ended(&mut self) -> bool {
        self.aggregator.as_mut().unwrap().try_wait().unwrap().is_some()
    }

    /// Kills the aggregator and what it was started by.
    pub fn kill_aggregator_and_wrapper(&mut self) {
        kill_children(self.aggregator.as_ref().unwrap().id());
        self.aggregator.take().unwrap().wait().unwrap();
    }

    /// Kills the aggregator, as a power cut would.
    pub fn kill_aggregator(&mut self) {
        let mut child = self.aggregator.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Asks the aggregator to stop, and waits until it has.
    pub fn stop_aggregator(&mut self) {
        let mut child = self.aggregator.take().unwrap();
        terminate(&child);
        assert!(end_of(&mut child).success(), "{}", self.read("aggregator.err"));
    }

    /// Runs a command of `seatmeter-aggregator` with this cluster's configuration.
    pub fn aggregator_command(&self, command: &str) -> Output {
        self.aggregator_command_with(&[command])
    }

    /// Runs a command of `seatmeter-aggregator` with arguments and this cluster's configuration.
    pub fn aggregator_command_with(&self, arguments: &[&str]) -> Output {
        let config = self.aggregator_config();
        let config = config.to_str().unwrap();
        self.aggregator_program(&[arguments, &["--config", config]].concat())
    }

    /// Runs `seatmeter-aggregator` with these arguments alone.
    pub fn aggregator_program(&self, arguments: &[&str]) -> Output {
        Command::new(program("seatmeter-aggregator")).args(arguments).output().unwrap()
    }

    /// Runs `seatmeter-aggregator serve` with another configuration, which must fail.
    pub fn aggregator_with(&self, config: &Path) -> Output {
        Command::new(program("seatmeter-aggregator")).args(["serve", "--config"]).arg(config).output().unwrap()
    }

    /// Proves that the aggregator's figures are the sum of what it received.
    pub fn assert_verified(&self) {
        wait_until("the figures are verified", || self.aggregator_command("verify").status.code() != Some(3));
        let verified = self.aggregator_command("verify");
        assert!(verified.status.success(), "{}{}", text(&verified.stdout), text(&verified.stderr));
    }

    /// Runs `seatmeter`.
    pub fn seatmeter(&self, arguments: &[&str]) -> Output {
        let mut command = self.question(arguments);
        if let Some(Tls { client: [certificate, key], .. }) = &self.tls {
            command.env("SEATMETER_CERTIFICATE", certificate).env("SEATMETER_KEY", key);
        }
        command.output().unwrap()
    }

    /// Runs `seatmeter` as somebody who has no certificate.
    pub fn seatmeter_without_certificate(&self, arguments: &[&str]) -> Output {
        self.question(arguments).output().unwrap()
    }

    fn question(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("seatmeter"));
        command.args(arguments).env("SEATMETER_AGGREGATOR", self.operators_url());
        if let Some(tls) = &self.tls {
            command.env("SEATMETER_AUTHORITY", &tls.authority);
        }
        command
    }

    /// What `seatmeter` answers, as JSON.
    pub fn ask(&self, arguments: &[&str]) -> serde_json::Value {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--output", "json"]).collect();
        let output = self.seatmeter(&arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The figures of a license server, in the form of a scan.
    pub fn activity(&self, server: &str) -> String {
        text(&self.seatmeter(&["activity", "--server", server, "--output", "csv"]).stdout)
    }

    /// Waits until a license server's figures are these; where they never are, shows the difference.
    pub fn wait_for_activity(&self, server: &str, expected: &str) {
        let mut found = String::new();
        let is_found = comes_true(|| {
            found = self.activity(server);
            found == expected
        });
        let differs = expected.lines().zip(found.lines()).find(|(a, b)| a != b);
        assert!(is_found, "{server}: never as expected; first difference: {differs:?}");
    }

    /// An agent for a license server, which follows these logs. It does not run yet.
    pub fn agent(&self, license_server: &str, logs: &[&Path]) -> Agent {
        self.agent_in(&format!("{license_server}.agent"), license_server, logs, "")
    }

    /// An agent with a state folder and settings of its own.
    pub fn agent_in(&self, folder: &str, license_server: &str, logs: &[&Path], settings: &str) -> Agent {
        let folder = self.path(folder);
        fs::create_dir_all(&folder).unwrap();
        let config = folder.join("agent.toml");
        let security =
            self.tls.as_ref().map_or_else(String::new, |Tls { authority, client: [certificate, key], .. }| {
                format!("authority = {authority:?}\ncertificate = {certificate:?}\nkey = {key:?}\n")
            });
        let logs: String = logs.iter().map(|log| format!("[[log]]\npath = {log:?}\ntime_zone = \"UTC\"\n")).collect();
        let text = format!(
            "state = {:?}\n{settings}\n[license_server]\nname = {license_server:?}\n[aggregator]\nurl = {:?}\n{security}{logs}",
            folder.join("state"),
            self.agents_url()
        );
        fs::write(&config, text).unwrap();
        Agent { config, folder, child: None }
    }

    /// What a program has written to its standard error.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn log(&self, name: &str) -> Stdio {
        File::options().create(true).append(true).open(self.path(name)).unwrap().into()
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        if let Some(mut child) = self.aggregator.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// An agent, running or not.
pub struct Agent {
    /// Its configuration file.
    pub config: PathBuf,
    /// The folder of its configuration and state.
    pub folder: PathBuf,
    child: Option<Child>,
}

impl Agent {
    /// Changes its configuration file.
    pub fn configure(&self, from: &str, to: &str) {
        let text = fs::read_to_string(&self.config).unwrap();
        assert!(text.contains(from), "{from} is not in {text}");
        fs::write(&self.config, text.replace(from, to)).unwrap();
    }

    /// Where its state is.
    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Starts it.
    pub fn start(&mut self) {
        self.start_with(&[]);
    }

    /// Starts it by another program, such as one that injects faults.
    pub fn start_with(&mut self, wrapper: &[&str]) {
        let errors = File::options().create(true).append(true).open(self.folder.join("err")).unwrap();
        let mut command = wrapped(wrapper, "seatmeter-agent");
        command.args(["run", "--config"]).arg(&self.config).stderr(errors);
        self.child = Some(command.spawn().unwrap());
    }

    /// Kills it, as a power cut would.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.as_mut().unwrap().try_wait().unwrap().is_some()
    }

    /// Kills it and what it was started by.
    pub fn kill_all(&mut self) {
        kill_children(self.pid());
        self.wait();
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        terminate(&child);
        assert!(end_of(&mut child).success(), "{}", self.errors());
    }

    /// Waits until it has ended by itself.
    pub fn wait(&mut self) -> std::process::ExitStatus {
        self.child.take().unwrap().wait().unwrap()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Its health log.
    pub fn errors(&self) -> String {
        fs::read_to_string(self.folder.join("err")).unwrap_or_default()
    }

    /// Whether its health log has an entry of this code.
    pub fn has_said(&self, code: &str) -> bool {
        self.errors().contains(&format!("\"code\":\"{code}\""))
    }

    /// Runs a command of `seatmeter-agent` with its configuration.
    pub fn command(&self, arguments: &[&str]) -> Output {
        self.program(&[arguments, &["--config", self.config.to_str().unwrap()]].concat())
    }

    /// Runs `seatmeter-agent` with these arguments alone.
    pub fn program(&self, arguments: &[&str]) -> Output {
        Command::new(program("seatmeter-agent")).args(arguments).output().unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the agent's health log:\n{}", self.errors());
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A program, started by another one, which has its own arguments before it.
fn wrapped(wrapper: &[&str], name: &str) -> Command {
    let Some((first, rest)) = wrapper.split_first() else { return command(name) };
    let mut command = Command::new(first);
    command.args(rest).arg(program(name));
    command
}

fn kill_children(parent: u32) {
    let killed = Command::new("pkill").args(["-KILL", "-P", &parent.to_string()]).status().unwrap();
    assert!(killed.success());
}

/// One of the programs, to be started as a test wants it.
pub fn command(name: &str) -> Command {
    Command::new(program(name))
}

/// What `seatmeter-agent scan` counts.
pub fn scan(arguments: &[&str]) -> Output {
    Command::new(program("seatmeter-agent")).arg("scan").args(arguments).output().unwrap()
}

/// Output as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits for the end of a process that was asked to stop.
fn end_of(child: &mut Child) -> std::process::ExitStatus {
    let mut ended = None;
    wait_until("a process that was asked to stop has stopped", || {
        ended = child.try_wait().unwrap();
        ended.is_some()
    });
    ended.unwrap()
}

fn terminate(child: &Child) {
    let done = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(done.success());
}

/// Ports that nothing listens on, below those that the system gives to the connections it opens: no
/// connection of another test may take one while the program that is to listen on it does not run yet, or not just now.
fn free_ports<const N: usize>() -> [u16; N] {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const RANGE: std::ops::Range<u32> = 10_000..30_000;
    std::array::from_fn(|_| {
        let mut candidates = (0..RANGE.len()).map(|_| {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            // Processes that run side by side begin at different places.
            let offset = std::process::id().wrapping_mul(97).wrapping_add(step) % (RANGE.end - RANGE.start);
            u16::try_from(RANGE.start + offset).expect("the range is of ports")
        });
        candidates.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a port is free")
    })
}
