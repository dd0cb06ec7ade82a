//! An aggregator with its agents, and the commands of an operator.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use seatmeter_proto::v1::GetMonthlyUsageRequest;
use seatmeter_proto::v1::usage_service_client::UsageServiceClient;
use tempfile::TempDir;
use tonic::transport::Endpoint;

use crate::agent::Agent;
use crate::process::{comes_true, command, end_of, kill_children, terminate, text, wait_until, wrapped};
use crate::proxy::Proxy;
use crate::skip;
/// Returns a part of the folder of real inputs. If this machine does not have it, reports that the test is skipped and
/// returns `None`.
pub fn shared(part: &str) -> Option<PathBuf> {
    let path =
        std::env::var_os("SEATMETER_SHARED").map(|shared| PathBuf::from(shared).join(part)).filter(|p| p.exists());
    if path.is_none() {
        skip(&format!("SEATMETER_SHARED does not name a folder with {part}"));
    }
    path
}

/// The ports of a running aggregator, as it reports them.
#[derive(Clone, Copy)]
pub struct Listening {
    /// The port for agents.
    pub agents: u16,
    /// The port for operators.
    pub operators: u16,
}

impl Listening {
    fn read(path: &Path) -> Option<Self> {
        let told: serde_json::Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        // The file of a killed process still exists.
        let is_alive = Path::new("/proc").join(told["pid"].to_string()).exists();
        let port = |name: &str| told[name].as_str()?.rsplit(':').next()?.parse().ok();
        Some(Self { agents: port("agents")?, operators: port("operators")? }).filter(|_| is_alive)
    }
}

/// One aggregator, and as many agents as a test wants.
pub struct TestCluster {
    /// The folder of all files, deleted when the cluster is dropped.
    pub folder: TempDir,
    aggregator: Option<Child>,
    /// The proxy that agents connect to. Its port stays the same when the aggregator's changes.
    relay: Proxy,
    /// Additional lines for the aggregator's configuration.
    pub settings: String,
    /// The certificates and keys; `None` if the cluster uses plain text.
    tls: Option<Tls>,
    /// Whether the aggregator enrols its agents, with an authority of its own.
    pub enrols: bool,
    /// The port for operators; 0 for whichever is free.
    operators_port: u16,
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
    /// Creates a cluster in which nothing runs yet.
    pub fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let listening = folder.path().join("aggregator/listening.json");
        let relay = Proxy::to_current(move || Some(Listening::read(&listening)?.agents));
        Self { folder, aggregator: None, relay, settings: String::new(), tls: None, enrols: false, operators_port: 0 }
    }

    /// Creates a cluster with a running aggregator.
    pub fn running() -> Self {
        let mut cluster = Self::new();
        cluster.start_aggregator();
        cluster
    }

    /// Returns a path in the cluster's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes all programs use TLS and identify themselves with certificates.
    pub fn use_tls(&mut self, made: &xtask::certificates::Certificates) {
        let pair = |identity: &xtask::certificates::Identity| [identity.certificate.clone(), identity.key.clone()];
        self.tls =
            Some(Tls { authority: made.authority.clone(), server: pair(&made.server), client: pair(&made.client) });
    }

    /// Returns the URL that agents connect to.
    pub fn agents_url(&self) -> String {
        let scheme = if self.enrols { "https" } else { self.scheme() };
        format!("{scheme}://127.0.0.1:{}", self.relay.port)
    }

    /// Returns the URL that operators connect to.
    pub fn operators_url(&self) -> String {
        // If no aggregator runs, use port 9 (discard), on which nothing listens.
        let port = self.listening().map_or(9, |listening| listening.operators);
        format!("{}://127.0.0.1:{port}", self.scheme())
    }

    fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Returns the port for agents. It stays the same for the life of the cluster.
    pub fn agents_port(&self) -> u16 {
        self.relay.port
    }

    /// Returns the ports of the running aggregator; `None` if none is running.
    pub fn listening(&self) -> Option<Listening> {
        Listening::read(&self.path("aggregator/listening.json"))
    }

    /// Writes the aggregator's configuration file. Returns its path.
    pub fn aggregator_config(&self) -> PathBuf {
        let path = self.path("aggregator.toml");
        let security = match &self.tls {
            None => "plaintext = true".to_owned(),
            Some(Tls { authority, server: [certificate, key], .. }) => {
                format!("certificate = {certificate:?}\nkey = {key:?}\nclient_authority = {authority:?}")
            }
        };
        let of_agents = if self.enrols { "" } else { &security };
        let text = format!(
            "state = {:?}\ntime_zone = \"UTC\"\n{}\n[agents]\nlisten = \"127.0.0.1:0\"\n{of_agents}\n\
             [operators]\nlisten = \"127.0.0.1:{}\"\n{security}\n",
            self.path("aggregator"),
            self.settings,
            self.operators_port,
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
            // Exit code 3 is an answer, too: a license server does not report.
            matches!(self.seatmeter(&["servers", "--output", "json"]).status.code(), Some(0 | 3))
        });
    }

    /// Kills the aggregator, and starts it again on the port for operators that it had.
    pub fn restart_on_the_same_port(&mut self) {
        self.operators_port = self.listening().unwrap().operators;
        self.kill_aggregator();
        self.start_aggregator();
    }

    /// Starts the aggregator under another program, such as one that injects faults.
    pub fn start_aggregator_with(&mut self, wrapper: &[&str]) {
        self.forget_ports();
        let mut command = wrapped(wrapper, "seatmeter-aggregator");
        command.args(["serve", "--config"]).arg(self.aggregator_config()).stderr(self.log("aggregator.err"));
        self.aggregator = Some(command.spawn().unwrap());
    }

    /// Deletes the file with the ports, because another test may get the same ports later.
    fn forget_ports(&self) {
        let _ = fs::remove_file(self.path("aggregator/listening.json"));
    }

    /// Returns the process id of the aggregator.
    pub fn aggregator_pid(&self) -> u32 {
        self.aggregator.as_ref().unwrap().id()
    }

    /// Returns whether the aggregator has ended by itself.
    pub fn aggregator_has_ended(&mut self) -> bool {
        self.aggregator.as_mut().unwrap().try_wait().unwrap().is_some()
    }

    /// Kills the aggregator and the program under which it was started.
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

    /// Asks the aggregator to stop, and waits until it has stopped.
    pub fn stop_aggregator(&mut self) {
        self.forget_ports();
        let mut child = self.aggregator.take().unwrap();
        terminate(&child, "-TERM");
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
        command("seatmeter-aggregator").args(arguments).output().unwrap()
    }

    /// Runs `seatmeter-aggregator serve` with another configuration, which must fail.
    pub fn aggregator_with(&self, config: &Path) -> Output {
        command("seatmeter-aggregator").args(["serve", "--config"]).arg(config).output().unwrap()
    }

    /// Verifies that the aggregator's figures follow from the batches that it received, once none are being rebuilt.
    pub fn assert_verified(&self) {
        let mut verified = self.aggregator_command("verify");
        wait_until("no figures are being rebuilt", || {
            verified = self.aggregator_command("verify");
            !text(&verified.stdout).contains("its figures are being rebuilt")
        });
        assert!(verified.status.success(), "{}{}", text(&verified.stdout), text(&verified.stderr));
    }

    /// Runs `seatmeter` as an administrator, who logs in first if need be.
    pub fn seatmeter(&self, arguments: &[&str]) -> Output {
        let ask = || self.seatmeter_with(&self.login(), arguments).output().unwrap();
        if self.login().exists() {
            let answered = ask();
            // An aggregator whose state was deleted knows nobody.
            if !text(&answered.stderr).contains("the token is not valid") {
                return answered;
            }
        }
        // Where no aggregator runs, the command says so.
        let _ = self.log_in();
        ask()
    }

    fn login(&self) -> PathBuf {
        self.path("login.json")
    }

    /// Logs in as an administrator.
    fn log_in(&self) -> anyhow::Result<()> {
        let mut administrator = command("seatmeter-aggregator");
        administrator.args(["administrator", "tester", "--url", &self.operators_url(), "--config"]);
        administrator.arg(self.aggregator_config());
        xtask::process::log_in(&mut administrator, &mut self.seatmeter_with(&self.login(), &[]))
    }

    /// Returns `seatmeter` with a login of its own, in a file.
    pub fn seatmeter_with(&self, login: &Path, arguments: &[&str]) -> Command {
        let mut command = self.question(arguments);
        if let Some(Tls { client: [certificate, key], .. }) = &self.tls {
            command.env("SEATMETER_CERTIFICATE", certificate).env("SEATMETER_KEY", key);
        }
        command.env("SEATMETER_LOGIN", login);
        command
    }

    /// Returns the administrator's token.
    pub fn token(&self) -> String {
        assert!(self.seatmeter(&["whoami"]).status.success());
        let login: serde_json::Value = serde_json::from_slice(&fs::read(self.login()).unwrap()).unwrap();
        login["token"].as_str().unwrap().to_owned()
    }

    /// Runs `seatmeter` as somebody who has no certificate.
    pub fn seatmeter_without_certificate(&self, arguments: &[&str]) -> Output {
        self.question(arguments).output().unwrap()
    }

    fn question(&self, arguments: &[&str]) -> Command {
        let mut command = command("seatmeter");
        command.args(arguments).env("SEATMETER_AGGREGATOR", self.operators_url());
        if let Some(tls) = &self.tls {
            command.env("SEATMETER_AUTHORITY", &tls.authority);
        }
        command
    }

    /// Runs `seatmeter`. Returns its answer as JSON: an object with `rows`.
    pub fn ask(&self, arguments: &[&str]) -> serde_json::Value {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--output", "json"]).collect();
        let output = self.seatmeter(&arguments);
        assert!(matches!(output.status.code(), Some(0 | 3)), "{arguments:?}: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Returns the seats times the seconds that they were held of a SKU in the current month, which the screens round.
    pub fn seat_seconds(&self, sku: &str) -> u64 {
        let request = GetMonthlyUsageRequest { sku: sku.to_owned(), ..GetMonthlyUsageRequest::default() };
        let mut request = tonic::Request::new(request);
        request.metadata_mut().insert("authorization", format!("Bearer {}", self.token()).parse().unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let answer = runtime.block_on(async {
            let channel = Endpoint::from_shared(self.operators_url()).unwrap().connect().await.unwrap();
            UsageServiceClient::new(channel).get_monthly_usage(request).await.unwrap().into_inner()
        });
        answer.rows.first().map_or(0, |row| row.seat_seconds)
    }

    /// Returns the figures of a license server, in the form of a scan.
    pub fn activity(&self, server: &str) -> String {
        text(&self.seatmeter(&["activity", "--server", server, "--output", "csv"]).stdout)
    }

    /// Waits until a license server's figures are as expected. If they never are, fails with the first difference.
    pub fn wait_for_activity(&self, server: &str, expected: &str) {
        let mut found = String::new();
        let is_found = comes_true(|| {
            found = self.activity(server);
            found == expected
        });
        let differs = expected.lines().zip(found.lines()).find(|(a, b)| a != b);
        assert!(is_found, "{server}: never as expected; first difference: {differs:?}");
    }

    /// Creates an agent for a license server that follows these logs. The agent does not run yet.
    pub fn agent(&self, license_server: &str, logs: &[&Path]) -> Agent {
        self.agent_in(&format!("{license_server}.agent"), license_server, logs, "")
    }

    /// Creates an agent with a state folder and settings of its own. The agent does not run yet.
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

    /// Returns the text of a file in the cluster's folder, such as a program's standard error; empty if it does not
    /// exist.
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
        if !std::thread::panicking() {
            refuse_secrets(&self.path(""));
        }
    }
}

/// What no log may hold, whatever a test has done: an operator's token, an invitation's line, a key.
const SECRETS: [&str; 3] = ["smt1_", "seatmeter1.", "PRIVATE KEY"];

/// Fails if a log of any program below a folder tells a secret.
fn refuse_secrets(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            refuse_secrets(&path);
        } else if name == "err" || name.ends_with(".err") || name.starts_with("health.log") || name == "status.json" {
            let text = text(&fs::read(&path).unwrap_or_default());
            let told = SECRETS.into_iter().find(|secret| text.contains(secret));
            assert!(told.is_none(), "{} tells a secret: {told:?}", path.display());
        }
    }
}
