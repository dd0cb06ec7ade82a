//! Agents that are enrolled at an aggregator of their own authority.

use std::fs;
use std::path::{Path, PathBuf};

use xtask::sim::{Plan, Server, truth};

use crate::process::text;
use crate::{Agent, TestCluster};

/// The license server of the agents that are enrolled here.
pub const SERVER: &str = "LIC01";

/// An aggregator that enrols its agents, with certificates that last so long.
pub fn enrolling(valid_for: &str) -> TestCluster {
    let mut cluster = TestCluster::new();
    cluster.enrols = true;
    cluster.settings = format!("[authority]\nnames = [\"aggregator.test\"]\nagents_valid_for = \"{valid_for}\"\n");
    cluster.start_aggregator();
    cluster
}

/// Returns an invitation's line.
pub fn invite(cluster: &TestCluster, arguments: &[&str]) -> String {
    let url = cluster.agents_url();
    let address: &[&str] = if arguments.contains(&"--offline") { &[] } else { &["--url", &url] };
    let invited = cluster.seatmeter(&[&["agents", "invite", "--output", "csv"], address, arguments].concat());
    assert!(invited.status.success(), "{}", text(&invited.stderr));
    text(&invited.stdout).trim().to_owned()
}

/// A license server's log, and its true figures.
pub fn log(cluster: &TestCluster) -> (PathBuf, String) {
    let path = cluster.path("debug.log");
    let mut server = Server::new(Plan { users: 20, features: 2, seconds_a_line: 60.0, ..Plan::default() });
    let mut log = Vec::new();
    server.start(&mut log);
    while server.lines() < 500 {
        server.step(&mut log);
    }
    fs::write(&path, log).unwrap();
    (path, truth::as_csv(&server.figures()))
}

/// Enrols an agent with a log; it does not run yet.
pub fn enrol(
    cluster: &TestCluster,
    folder: &str,
    token: &str,
    log: &Path,
    more: &[&str],
) -> (Agent, std::process::Output) {
    let agent = cluster.agent_in(folder, SERVER, &[], "");
    fs::remove_file(&agent.config).unwrap();
    let state = agent.state();
    let arguments = ["enroll", token, "--state", state.to_str().unwrap(), "--log", log.to_str().unwrap()];
    let enrolled = agent.command(&[&arguments, more].concat());
    (agent, enrolled)
}

/// Enrols an agent with a log by an invitation of its own; it does not run yet.
pub fn enrolled(cluster: &TestCluster, folder: &str, log: &Path) -> Agent {
    let (agent, output) = enrol(cluster, folder, &invite(cluster, &["--server", SERVER]), log, &[]);
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    agent
}

/// Returns the enrolments, and copies in quarantine.
pub fn enrolments(cluster: &TestCluster) -> Vec<serde_json::Value> {
    cluster.ask(&["agents", "enrolled"])["rows"].as_array().unwrap().clone()
}

/// Returns whether an agent says that all is well.
pub fn is_connected(agent: &Agent) -> bool {
    agent.command(&["status"]).status.success()
}

/// Writes a line to the end of a log.
pub fn append(log: &Path, line: &str) {
    let text = fs::read_to_string(log).unwrap();
    fs::write(log, text + line).unwrap();
}
