//! Fault 58: an agent's machine is cloned while it runs, or goes back to a snapshot: two hold one identity, or one holds an old one.

use std::fs;
use std::path::Path;

use seatmeter_tests::enrolled::{SERVER, append, enrolled, enrolling, enrolments, is_connected, log};
use seatmeter_tests::process::text;
use seatmeter_tests::{Agent, TestCluster, wait_until};

/// Copies a folder with all that is in it.
fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_folder(&source, &target);
        } else if entry.file_name() != "lock" {
            fs::copy(&source, &target).unwrap();
        }
    }
}

/// Clones a machine: its agent's state, its configuration and its log.
fn clone_of(cluster: &TestCluster, agent: &Agent, log: &Path) -> (Agent, std::path::PathBuf) {
    let folder = format!("{}-copy", agent.folder.file_name().unwrap().to_str().unwrap());
    let copy = cluster.agent_in(&folder, SERVER, &[], "");
    copy_folder(&agent.state(), &copy.state());
    let own_log = cluster.path(&format!("{folder}.log"));
    fs::copy(log, &own_log).unwrap();
    let configured = fs::read_to_string(&agent.config).unwrap();
    let configured = configured.replace(agent.state().to_str().unwrap(), copy.state().to_str().unwrap());
    let configured = configured.replace(log.to_str().unwrap(), own_log.to_str().unwrap());
    fs::write(&copy.config, configured).unwrap();
    (copy, own_log)
}

/// Returns whether somebody has used a license, by all that counts.
fn counts(cluster: &TestCluster, user: &str) -> bool {
    text(&cluster.seatmeter(&["activity", "--output", "csv"]).stdout).contains(user)
}

/// A line that tells of a feature that only this line names, so that it is seen in the figures whether it counts.
fn use_of(feature: &str) -> String {
    format!("23:59:59 (vend) OUT: \"{feature}\" someone@pc\n")
}

fn copies(cluster: &TestCluster) -> Vec<serde_json::Value> {
    let mut rows = enrolments(cluster);
    rows.retain(|row| !row["copy"].is_null());
    rows
}

/// An agent that delivers, and its clone, made of it while it was off for a moment.
fn agent_and_clone(cluster: &TestCluster) -> (Agent, Agent, std::path::PathBuf, std::path::PathBuf) {
    let (log, truth) = log(cluster);
    let mut agent = enrolled(cluster, "agent", &log);
    agent.start();
    cluster.wait_for_activity(SERVER, &truth);
    agent.stop();
    let (mut copy, own_log) = clone_of(cluster, &agent, &log);
    agent.start();
    append(&log, &use_of("original"));
    wait_until("the agent goes on", || counts(cluster, "original"));
    append(&own_log, &use_of("cloned"));
    copy.start();
    let quarantined = || copies(cluster).first().is_some_and(|row| row["status"] == "quarantined");
    wait_until("the clone is put into quarantine", quarantined);
    (agent, copy, log, own_log)
}

/// What a clone sends is kept, shown, and counted nowhere; the agent itself goes on. Accepted, all of it counts.
#[test]
fn fault_58_a_clone_is_kept_apart_until_it_is_accepted() {
    let mut cluster = enrolling("1h");
    let (mut agent, mut copy, log, own_log) = agent_and_clone(&cluster);
    let is_shown = || {
        let servers = cluster.ask(&["servers"]);
        let rows = servers["rows"].as_array().unwrap();
        rows.iter()
            .any(|row| row["license_server"].as_str().unwrap().contains(" (copy ") && row["events"].as_u64() > Some(0))
    };
    wait_until("what it has sent is kept", is_shown);
    assert_eq!(copies(&cluster).len(), 1);
    assert!(!counts(&cluster, "cloned"));
    // All are killed, and come back in whatever order: each is known as what it was.
    for clone_first in [true, false] {
        agent.kill();
        copy.kill();
        cluster.kill_aggregator();
        cluster.start_aggregator();
        if clone_first {
            copy.start();
            wait_until("the clone is back", || is_connected(&copy));
        }
        agent.start();
        wait_until("the agent is back", || is_connected(&agent));
        if !clone_first {
            copy.start();
            wait_until("the clone is back", || is_connected(&copy));
        }
    }
    assert_eq!(copies(&cluster).len(), 1);
    append(&log, &use_of("original2"));
    append(&own_log, &use_of("cloned2"));
    wait_until("the agent goes on", || counts(&cluster, "original2"));
    wait_until("the clone has delivered", || copy.inspect()["batches"].as_array().is_some_and(Vec::is_empty));
    assert!(!counts(&cluster, "cloned"));
    let id = enrolments(&cluster)[0]["enrolment"].as_str().unwrap().to_owned();
    let accepted = cluster.seatmeter(&["agents", "accept", &id]);
    assert!(accepted.status.success(), "{}", text(&accepted.stderr));
    wait_until("it counts", || counts(&cluster, "cloned2"));
    append(&own_log, &use_of("cloned3"));
    append(&log, &use_of("original3"));
    wait_until("and goes on to", || counts(&cluster, "cloned3") && counts(&cluster, "original3"));
    assert_eq!(copies(&cluster)[0]["status"], "accepted");
    let servers = cluster.ask(&["servers"]);
    let is_own = |row: &serde_json::Value| row["license_server"] == SERVER;
    assert!(servers["rows"].as_array().unwrap().iter().all(is_own), "{servers}");
    let trail = cluster.ask(&["audit", "list", "--action", "AcceptEnrolment"]);
    assert_eq!(trail["rows"].as_array().unwrap().len(), 1, "{trail}");
}

/// A clone that is rejected is refused, and told what to do.
#[test]
fn fault_58_a_clone_that_is_rejected_never_counts() {
    let cluster = enrolling("1h");
    let (agent, copy, log, own_log) = agent_and_clone(&cluster);
    let id = enrolments(&cluster)[0]["enrolment"].as_str().unwrap().to_owned();
    let wrong = cluster.seatmeter(&["agents", "reject", &id, "--copy", "7"]);
    assert!(text(&wrong.stderr).contains("no copy"), "{}", text(&wrong.stderr));
    assert!(cluster.seatmeter(&["agents", "reject", &id]).status.success());
    wait_until("it is told", || text(&copy.command(&["status"]).stdout).contains("was rejected"));
    append(&own_log, &use_of("cloned2"));
    append(&log, &use_of("original2"));
    wait_until("the agent goes on", || counts(&cluster, "original2"));
    assert!(is_connected(&agent));
    assert!(!counts(&cluster, "cloned"));
    assert_eq!(copies(&cluster)[0]["status"], "rejected");
    // What is decided is no alert any more.
    let servers = cluster.ask(&["servers"]);
    let rows = servers["rows"].as_array().unwrap();
    let copy = rows.iter().find(|row| row["license_server"].as_str().unwrap().contains(" (copy ")).unwrap();
    assert_eq!((&copy["state"], &copy["warnings"]), (&"not_expected".into(), &serde_json::json!([])), "{copy}");
}

/// A machine that goes back to a snapshot is still the same agent, and nothing that it sends again counts twice.
#[test]
fn fault_58_a_restored_snapshot_takes_its_own_place() {
    let cluster = enrolling("1h");
    let (log, truth) = log(&cluster);
    let mut agent = enrolled(&cluster, "agent", &log);
    agent.start();
    cluster.wait_for_activity(SERVER, &truth);
    agent.stop();
    let snapshot = cluster.path("snapshot");
    copy_folder(&agent.state(), &snapshot);
    for round in ["one", "two"] {
        agent.start();
        append(&log, &use_of(round));
        wait_until("it goes on", || counts(&cluster, round));
        agent.kill();
        agent.forget();
        copy_folder(&snapshot, &agent.state());
    }
    agent.start();
    append(&log, &use_of("three"));
    wait_until("it goes on after all", || counts(&cluster, "three"));
    let figures = text(&cluster.seatmeter(&["activity", "--output", "csv"]).stdout);
    for feature in ["one", "two", "three"] {
        assert_eq!(figures.matches(&format!(",{feature},")).count(), 1, "{figures}");
    }
    assert!(copies(&cluster).is_empty(), "{:?}", enrolments(&cluster));
}

/// A copy of the identity alone, with no buffer, whose certificate was renewed by the agent meanwhile.
#[test]
fn fault_58_an_outdated_certificate_opens_the_quarantine_alone() {
    let cluster = enrolling("12s");
    let (log, truth) = log(&cluster);
    let mut agent = enrolled(&cluster, "agent", &log);
    let (mut copy, own_log) = clone_of(&cluster, &agent, &log);
    append(&own_log, &use_of("cloned"));
    agent.start();
    cluster.wait_for_activity(SERVER, &truth);
    wait_until("it is renewed", || agent.has_said("certificate_renewed"));
    wait_until("and connected", || is_connected(&agent));
    copy.start();
    wait_until("the clone is known", || !copies(&cluster).is_empty());
    wait_until("once its certificate has ended, it is told", || copy.errors().contains("renewed by another holder"));
    assert_eq!(copies(&cluster)[0]["status"], "quarantined");
    assert_eq!(cluster.activity(SERVER), truth);
}

/// Copies of two agents that report for one license server are known apart, and an operator's word is of one of them.
#[test]
fn fault_58_copies_of_two_agents_are_not_mixed_up() {
    let cluster = enrolling("1h");
    let mut running = Vec::new();
    for name in ["east", "west"] {
        let log = cluster.path(&format!("{name}.log"));
        let begins = format!(" 8:00:00 (lmgrd) TIMESTAMP 1/5/2026\n 8:00:01 (vend) OUT: \"{name}\" someone@pc\n");
        fs::write(&log, begins).unwrap();
        let mut agent = enrolled(&cluster, name, &log);
        agent.start();
        wait_until("it is counted", || counts(&cluster, name));
        agent.stop();
        let (mut copy, own_log) = clone_of(&cluster, &agent, &log);
        agent.start();
        append(&log, &use_of(&format!("{name}-own")));
        wait_until("it goes on", || counts(&cluster, &format!("{name}-own")));
        append(&own_log, &use_of(&format!("{name}-cloned")));
        copy.start();
        running.push((agent, copy));
    }
    let quarantined = || copies(&cluster).iter().filter(|row| row["status"] == "quarantined").count() == 2;
    wait_until("both clones are in quarantine", quarantined);
    let of_east = |row: &serde_json::Value| row["host"].is_string() && row["copy"].is_null();
    let rows: Vec<_> = enrolments(&cluster).into_iter().filter(of_east).collect();
    let east = rows.iter().map(|row| row["enrolment"].as_str().unwrap()).next().unwrap();
    wait_until("both have delivered", || {
        let idle = |copy: &Agent| copy.inspect()["batches"].as_array().is_some_and(Vec::is_empty);
        running.iter().all(|(_, copy)| is_connected(copy) && idle(copy))
    });
    assert!(!counts(&cluster, "cloned"));
    let accepted = cluster.seatmeter(&["agents", "accept", east]);
    assert!(accepted.status.success(), "{}", text(&accepted.stderr));
    wait_until("the one counts", || counts(&cluster, "east-cloned"));
    assert!(!counts(&cluster, "west-cloned"), "the other one waits for a word of its own");
}

/// A clone takes nothing from the agent that it was made of: that one's certificate is renewed, whoever asks first, and the clone's is not.
#[test]
fn fault_58_a_clone_does_not_cut_off_the_agent_itself() {
    let cluster = enrolling("12s");
    let (agent, copy, log, _) = agent_and_clone(&cluster);
    let renewals = |agent: &Agent| agent.errors().matches("\"code\":\"certificate_renewed\"").count();
    let before = renewals(&agent);
    wait_until("the agent is renewed, again and again", || renewals(&agent) >= before + 3);
    wait_until("the clone is told why it is not", || copy.errors().contains("its certificate is not renewed"));
    append(&log, &use_of("renewed"));
    wait_until("the agent delivers", || counts(&cluster, "renewed"));
    assert!(!counts(&cluster, "cloned"));
}
