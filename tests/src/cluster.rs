//! An aggregator, agents beside it, and the questions an operator asks.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::proxy::Proxy;
use crate::skip;

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
        skip(&format!("SEATMETER_SHARED does not name a folder with {part}"));
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

/// The ports of a running aggregator, as it reports them.
#[derive(Clone, Copy)]
pub struct Listening {
    /// For agents.
    pub agents: u16,
    /// For operators.
    pub operators: u16,
}

impl Listening {
    fn read(path: &Path) -> Option<Self> {
        let told: serde_json::Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        // Of a process that was killed, the file is still there.
        let is_alive = Path::new("/proc").join(told["pid"].to_string()).exists();
        let port = |name: &str| told[name].as_str()?.rsplit(':').next()?.parse().ok();
        Some(Self { agents: port("agents")?, operators: port("operators")? }).filter(|_| is_alive)
    }
}

/// One aggregator, and as many agents as a test wants.
pub struct TestCluster {
    /// Everything is in here, and goes with it.
    pub folder: TempDir,
    aggregator: Option<Child>,
    /// Where agents connect, whichever port the aggregator has got.
    relay: Proxy,
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
        let listening = folder.path().join("aggregator/listening.json");
        let relay = Proxy::to_current(move || Some(Listening::read(&listening)?.agents));
        Self { folder, aggregator: None, relay, settings: String::new(), tls: None }
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
        format!("{}://127.0.0.1:{}", self.scheme(), self.relay.port)
    }

    /// Where operators connect.
    pub fn operators_url(&self) -> String {
        // Nothing listens on the port for discarding.
        let port = self.listening().map_or(9, |listening| listening.operators);
        format!("{}://127.0.0.1:{port}", self.scheme())
    }

    fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// The port for agents, for as long as the cluster is there.
    pub fn agents_port(&self) -> u16 {
        self.relay.port
    }

    /// The ports that the running aggregator has got.
    pub fn listening(&self) -> Option<Listening> {
        Listening::read(&self.path("aggregator/listening.json"))
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
            "state = {:?}\ntime_zone = \"UTC\"\n{}\n[agents]\nlisten = \"127.0.0.1:0\"\n{security}\n\
             [operators]\nlisten = \"127.0.0.1:0\"\n{security}\n",
            self.path("aggregator"),
            self.settings,
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
            // Exit code 3: answered, and a license server does not report.
            matches!(self.seatmeter(&["servers", "--output", "json"]).status.code(), Some(0 | 3))
        });
    }

    /// Starts the aggregator by another program, such as one that injects faults.
    pub fn start_aggregator_with(&mut self, wrapper: &[&str]) {
        self.forget_ports();
        let mut command = wrapped(wrapper, "seatmeter-aggregator");
        command.args(["serve", "--config"]).arg(self.aggregator_config()).stderr(self.log("aggregator.err"));
        self.aggregator = Some(command.spawn().unwrap());
    }

    /// Ports of a process that has ended can become another test's.
    fn forget_ports(&self) {
        let _ = fs::remove_file(self.path("aggregator/listening.json"));
    }

    /// Whether the aggregator has ended by itself.
    pub fn aggregator_has_ended(&mut self) -> bool {
        self.aggregator.as_mut().unwrap().try_wait().unwrap().is_some()
    }

    /// Kills the aggregator and what it was started by.
    pub fn kill_aggregator_and_wrapper(&mut self) {
        self.forget_ports();
        kill_children(self.aggregator.as_ref().unwrap().id());
        self.aggregator.take().unwrap().wait().unwrap();
    }

    /// Kills the aggregator, as a power cut would.
    pub fn kill_aggregator(&mut self) {
        self.forget_ports();
        let mut child = self.aggregator.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Asks the aggregator to stop, and waits until it has.
    pub fn stop_aggregator(&mut self) {
        self.forget_ports();
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

    /// What `seatmeter` answers, as JSON: an object with `rows`.
    pub fn ask(&self, arguments: &[&str]) -> serde_json::Value {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--output", "json"]).collect();
        let output = self.seatmeter(&arguments);
        assert!(matches!(output.status.code(), Some(0 | 3)), "{arguments:?}: {}", text(&output.stderr));
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
        let logs: String = logs
            .iter()
            .map(|log| format!("[[source]]\nkind = \"file\"\npath = {log:?}\ntime_zone = \"UTC\"\n"))
            .collect();
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

    /// What is in its buffer: the streams as `rows`, and the batches that wait.
    pub fn inspect(&self) -> serde_json::Value {
        let shown = self.command(&["inspect", "--output", "json"]);
        serde_json::from_slice(&shown.stdout).unwrap_or_else(|_| serde_json::json!({ "rows": [], "batches": [] }))
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
