//! Fault 56: names are pseudonyms from the agent on: the figures are those of an open fleet, and no name is anywhere.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use seatmeter_tests::process::{command, text};
use seatmeter_tests::{Agent, TestCluster, wait_until};
use serde_json::Value;
use xtask::sim::{Plan, Server, truth};

/// Spellings of people: with and without domains, in both forms, in any case; and lines that are none.
const BY_HAND: &str = " 8:00:00 (lmgrd) TIMESTAMP 1/5/2026\n 8:00:01 (d) OUT: \"Cad\" Jolanthe@PC1  \n 8:00:02 (d) OUT: \"Cad\" JOLANTHE@pc1  \n\
                       8:00:03 (d) OUT: \"Cad\" EXAMPLE\\jolanthe@pc2  \n 8:00:04 (d) OUT: \"Cad\" jolanthe@example@pc2  \n\
                       8:00:05 (d) OUT: \"Cad\" OTHER\\Jolanthe@pc3  \n 8:00:06 (d) DENIED: \"Cad\" J\u{f6}rgolin@pc4  (Licensed number)\n\
                       8:00:07 (d) OUT: \"Cad\" STRA\u{df}ENBAU@pc5  \n 8:00:08 (d) OUT: \"Cad\" strassenbau@PC5  \n\
                       8:00:09 (d) OUT: jolanthe has no feature\n 9:00:00 (d) IN: \"Cad\" Jolanthe@PC1  \n10:00:00 (lmgrd) TIMESTAMP 2/1/2026\n";

/// Words that no file may hold, whatever their case.
const NAMES: [&str; 3] = ["jolanthe", "rgolin", "strassenbau"];

/// A cluster with two agents, of a simulated log and of one by hand.
fn fleet(domains: &str, key: Option<&Path>, simulated: &[u8], truth: &str) -> (TestCluster, [Agent; 2]) {
    let mut cluster = TestCluster::new();
    cluster.settings = format!("[people]\ndomains = \"{domains}\"\n[alerts]\nlook_every = \"1s\"\n");
    cluster.start_aggregator();
    let settings = key.map_or_else(String::new, |key| format!("[privacy]\npseudonyms = {key:?}\n"));
    let agents = [("LIC01", simulated), ("LIC02", BY_HAND.as_bytes())].map(|(name, log)| {
        let path = cluster.path(&format!("{name}.log"));
        fs::write(&path, log).unwrap();
        let mut agent = cluster.agent_in(name, name, &[&path], &settings);
        agent.start();
        agent
    });
    cluster.wait_for_activity("LIC01", truth);
    wait_until("the other log is read, too", || cluster.activity("LIC02").lines().count() == 3);
    (cluster, agents)
}

fn new_key(folder: &Path) -> std::path::PathBuf {
    let file = folder.join("names.key");
    let made = command("seatmeter-agent").args(["pseudonyms", "new-key", file.to_str().unwrap()]).output().unwrap();
    assert!(made.status.success(), "{}", text(&made.stderr));
    file
}

/// Returns the figures of a month, without names.
fn figures(cluster: &TestCluster) -> Value {
    let rows = cluster.ask(&["usage", "2026-01"])["rows"].as_array().unwrap().clone();
    let fields = ["sku", "unique_users", "devices", "checkouts", "denials", "peak_concurrent"];
    rows.iter().map(|row| fields.map(|field| row[field].clone()).to_vec()).collect::<Vec<_>>().into()
}

/// Returns the names that stand in any file of a folder.
fn names_in(folder: &Path) -> Vec<(String, &'static str)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(names_in(&path));
        } else if let Ok(content) = fs::read(&path) {
            let content = String::from_utf8_lossy(&content).to_lowercase();
            let names = NAMES.into_iter().filter(|name| content.contains(name));
            found.extend(names.map(|name| (path.display().to_string(), name)));
        }
    }
    found
}

#[test]
fn fault_56_pseudonyms_give_the_figures_of_names_and_hold_none() {
    let folder = tempfile::tempdir().unwrap();
    let key = new_key(folder.path());
    let mut server = Server::new(Plan { users: 30, features: 2, seconds_a_line: 60.0, ..Plan::default() });
    let mut simulated = Vec::new();
    server.start(&mut simulated);
    while server.lines() < 800 {
        server.step(&mut simulated);
    }
    let truth = truth::as_csv(&server.figures());
    for domains in ["keep", "truncate"] {
        let (open, _agents) = fleet(domains, None, &simulated, &truth);
        let (mut hidden, mut agents) = fleet(domains, Some(&key), &simulated, &truth);
        // In the middle, everything is killed; and one agent begins anew.
        agents.iter_mut().for_each(Agent::kill);
        hidden.kill_aggregator();
        agents[0].forget();
        hidden.start_aggregator();
        agents.iter_mut().for_each(Agent::start);
        hidden.wait_for_activity("LIC01", &truth);
        wait_until("the agents are well", || agents.iter().all(|agent| agent.command(&["status"]).status.success()));
        assert_eq!(figures(&open), figures(&hidden), "{domains}");
        assert_eq!(open.activity("LIC02"), hidden.activity("LIC02"));
        assert!(!names_in(&open.path("aggregator")).is_empty(), "the search finds what is there");
        for part in ["aggregator", "LIC01", "LIC02"] {
            assert_eq!(names_in(&hidden.path(part)), [], "{domains}");
        }
        hidden.assert_verified();
        // Who has the key finds a person.
        let of = command("seatmeter-agent")
            .args(["pseudonyms", "of", "--key"])
            .arg(&key)
            .arg("EXAMPLE\\Jolanthe")
            .output()
            .unwrap();
        let pseudonym = text(&of.stdout).split(' ').next().unwrap().to_owned();
        let wanted = pseudonym.split('\\').next_back().unwrap();
        let users = text(&hidden.seatmeter(&["users", "2026-01", "--server", "LIC02", "--output", "csv"]).stdout);
        assert!(pseudonym.starts_with("p-") && users.contains(wanted), "{wanted}: {users}");
        let unread = |cluster: &TestCluster| {
            let rows = cluster.ask(&["servers", "LIC02"])["rows"].clone();
            (rows[0]["unrecognised_lines"].clone(), cluster.ask(&["unrecognised"])["rows"].as_array().unwrap().len())
        };
        assert_eq!(unread(&open), (1.into(), 1));
        assert_eq!(unread(&hidden), (1.into(), 0), "a line that nobody can read is counted, and not shown");
    }
}

/// One person counts as several where agents of a realm make different pseudonyms: that is told. A key that others can read is refused.
#[test]
fn fault_56_agents_that_send_names_otherwise_are_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let key = new_key(folder.path());
    let again = command("seatmeter-agent").args(["pseudonyms", "new-key", key.to_str().unwrap()]).output().unwrap();
    assert!(text(&again.stderr).contains("must not be replaced"), "{}", text(&again.stderr));
    let mut cluster = TestCluster::new();
    cluster.settings = "[alerts]\nlook_every = \"1s\"\n".into();
    cluster.start_aggregator();
    let private = format!("[privacy]\npseudonyms = {key:?}\n");
    let log = cluster.path("debug.log");
    fs::write(&log, BY_HAND).unwrap();
    let agent = |name: &str, realm: &str, settings: &str| {
        let agent = cluster.agent_in(name, name, &[&log], settings);
        agent.configure(&format!("name = \"{name}\""), &format!("name = \"{name}\"\nrealm = \"{realm}\""));
        agent
    };
    let mut agents = [agent("LIC01", "here", &private), agent("LIC02", "here", ""), agent("LIC03", "elsewhere", "")];
    agents.iter_mut().for_each(Agent::start);
    let differ = || {
        let rows = cluster.ask(&["alerts"])["rows"].clone();
        let rows = rows.as_array().unwrap().iter().filter(|row| row["kind"] == "names_differ");
        rows.map(|row| row["license_server"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    wait_until("it is told of those of one realm", || differ() == ["LIC01", "LIC02"]);
    agents[1].stop();
    agents[1].configure("[license_server]", &format!("{private}[license_server]"));
    agents[1].start();
    wait_until("it is over", || differ().is_empty());
    fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).unwrap();
    let refused = agents[0].command(&["check-config", "--offline"]);
    assert!(text(&refused.stderr).contains("chmod o="), "{}", text(&refused.stderr));
    fs::write(&key, "no key").unwrap();
    fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    let refused = agents[0].command(&["check-config", "--offline"]);
    assert!(text(&refused.stderr).contains("holds no key of pseudonyms"), "{}", text(&refused.stderr));
}
