//! Faults 39 to 41: whose server it is, whether it must report, and what its silence says.

use std::fs;
use std::io::Write;
use std::path::Path;

use seatmeter_tests::process::{text, wait_until};
use seatmeter_tests::{Agent, TestCluster};
use serde_json::Value;

const HEADER: &str = "month,daemon,feature,users_checked_out,users_held,outs,ins,denials\n";

fn append(path: &Path, text: &str) {
    fs::File::options().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

/// A day of one user, with its date.
fn day(day: u32, user: &str) -> String {
    format!(
        " 8:00:00 (lmgrd) TIMESTAMP 1/{day}/2026\n 8:00:01 (d) OUT: \"f\" {user}@h  \n 9:00:00 (d) IN: \"f\" {user}@h  \n"
    )
}

fn january(users: u32) -> String {
    format!("{HEADER}2026-01,d,f,{users},{users},{users},{users},0\n")
}

fn names(cluster: &TestCluster) -> Vec<String> {
    let rows = cluster.ask(&["servers"])["rows"].clone();
    let mut names: Vec<String> =
        rows.as_array().unwrap().iter().map(|row| row["license_server"].as_str().unwrap().to_owned()).collect();
    names.dedup();
    names
}

/// The agent's last word was five minutes ago and more.
fn silence(cluster: &TestCluster, agent: &Agent) {
    let id = fs::read_to_string(agent.state().join("agent-id")).unwrap();
    let database = rusqlite::Connection::open(cluster.path("aggregator/aggregator.db")).unwrap();
    let moved =
        database.execute("UPDATE agent SET last_report = last_report - 301 WHERE id = ?1", [id.trim()]).unwrap();
    assert_eq!(moved, 1);
}

fn say(cluster: &TestCluster, arguments: &[&str]) -> String {
    let said = cluster.seatmeter(arguments);
    assert!(said.status.success(), "{arguments:?}: {}", text(&said.stderr));
    text(&said.stdout)
}

/// A license server gets another name in its agent's configuration: what it has sent moves along, and nothing counts twice.
#[test]
fn fault_39_a_license_server_that_gets_another_name_stays_one() {
    let cluster = TestCluster::running();
    let log = cluster.path("debug.log");
    append(&log, &(day(5, "ann") + &day(6, "bob") + &day(7, "carl")));
    let mut agent = cluster.agent("lic-old", &[&log]);
    agent.start();
    cluster.wait_for_activity("lic-old", &january(3));
    agent.stop();
    agent.configure("\"lic-old\"", "\"LIC01\"");
    agent.start();
    append(&log, &day(8, "dan"));
    cluster.wait_for_activity("LIC01", &january(4));
    assert_eq!(names(&cluster), ["LIC01"]);
    assert!(cluster.read("aggregator/health.log").contains("\"server_renamed\""));
    // And back again, with nothing new in its log but what it wrote meanwhile.
    agent.stop();
    append(&log, &day(9, "eve"));
    agent.configure("\"LIC01\"", "\"lic-old\"");
    agent.start();
    cluster.wait_for_activity("lic-old", &january(5));
    assert_eq!(names(&cluster), ["lic-old"]);
    cluster.assert_verified();
}

/// The agent's first report under the other name comes before a kill of the aggregator, and its log after it.
#[test]
fn fault_39_another_name_outlives_a_kill() {
    let mut cluster = TestCluster::running();
    let (log, aside) = (cluster.path("debug.log"), cluster.path("aside"));
    append(&log, &(day(5, "ann") + &day(6, "bob") + &day(7, "carl")));
    let mut agent = cluster.agent("lic-old", &[&log]);
    agent.start();
    cluster.wait_for_activity("lic-old", &january(3));
    agent.stop();
    fs::rename(&log, &aside).unwrap();
    agent.configure("\"lic-old\"", "\"LIC01\"");
    agent.start();
    wait_until("the new name", || names(&cluster).contains(&"LIC01".to_owned()));
    cluster.kill_aggregator();
    cluster.start_aggregator();
    fs::rename(&aside, &log).unwrap();
    append(&log, &day(8, "dan"));
    cluster.wait_for_activity("LIC01", &january(4));
    assert_eq!(names(&cluster), ["LIC01"]);
    cluster.assert_verified();
}

/// The same while nothing is written, and with two agents that exchange their names.
#[test]
fn fault_39_names_that_are_exchanged_are_exchanged() {
    let cluster = TestCluster::running();
    let logs = [cluster.path("one.log"), cluster.path("two.log")];
    append(&logs[0], &(day(5, "ann") + &day(6, "bob") + &day(7, "carl")));
    append(&logs[1], &day(5, "dan"));
    let mut agents = [cluster.agent("ONE", &[&logs[0]]), cluster.agent("TWO", &[&logs[1]])];
    agents.iter_mut().for_each(Agent::start);
    cluster.wait_for_activity("ONE", &january(3));
    cluster.wait_for_activity("TWO", &january(1));
    agents.iter_mut().for_each(Agent::stop);
    agents[0].configure("\"ONE\"", "\"TWO\"");
    agents[1].configure("\"TWO\"", "\"ONE\"");
    agents.iter_mut().for_each(Agent::start);
    cluster.wait_for_activity("TWO", &january(3));
    cluster.wait_for_activity("ONE", &january(1));
    append(&logs[0], &day(8, "eve"));
    append(&logs[1], &day(8, "fay"));
    cluster.wait_for_activity("TWO", &january(4));
    cluster.wait_for_activity("ONE", &january(2));
    cluster.assert_verified();
}

/// Two names for one log, or a copy of it: nobody can know, so the operator is told, and says it once nobody reports under the
/// name that is to go.
#[test]
fn fault_39_an_operator_says_that_two_license_servers_are_one() {
    let cluster = TestCluster::running();
    let (first_log, second_log) = (cluster.path("first.log"), cluster.path("second.log"));
    append(&first_log, &(day(5, "ann") + &day(6, "bob")));
    fs::copy(&first_log, &second_log).unwrap();
    append(&second_log, &day(7, "carl"));
    let (mut first, mut second) = (cluster.agent("FIRST", &[&first_log]), cluster.agent("SECOND", &[&second_log]));
    first.start();
    second.start();
    cluster.wait_for_activity("FIRST", &january(2));
    cluster.wait_for_activity("SECOND", &january(3));
    let told = cluster.ask(&["servers"]).to_string();
    assert!(told.contains("1 file in common with SECOND") && told.contains("1 file in common with FIRST"), "{told}");
    let refused = cluster.seatmeter(&["servers", "rename", "first", "second", "--yes"]);
    assert!(text(&refused.stderr).contains("change license_server"), "{}", text(&refused.stderr));
    first.stop();
    silence(&cluster, &first);
    say(&cluster, &["servers", "expect", "first", "--from", "2026-01-01"]);
    let shown = say(&cluster, &["servers", "rename", "first", "second"]);
    assert!(shown.contains("become one license server") && shown.contains("Nothing is changed yet"), "{shown}");
    assert_eq!(names(&cluster), ["FIRST", "SECOND"]);
    say(&cluster, &["servers", "rename", "first", "second", "--yes"]);
    assert_eq!(names(&cluster), ["SECOND"]);
    assert_eq!(cluster.ask(&["servers"])["rows"][0]["expected_from"], "2026-01-01");
    cluster.wait_for_activity("SECOND", &january(3));
    append(&second_log, &day(8, "dan"));
    cluster.wait_for_activity("SECOND", &january(4));
    // One name alone.
    second.stop();
    silence(&cluster, &second);
    say(&cluster, &["servers", "rename", "SECOND", "Third", "--yes"]);
    assert_eq!(cluster.activity("third"), january(4));
    cluster.assert_verified();
    let unknown = cluster.seatmeter(&["servers", "rename", "nobody", "somebody", "--yes"]);
    assert_eq!(unknown.status.code(), Some(1), "{}", text(&unknown.stderr));
}

fn missing(cluster: &TestCluster, month: &str) -> Vec<String> {
    let usage = cluster.ask(&["usage", month]);
    let incomplete = usage["completeness"]["incomplete"].as_array().unwrap().clone();
    let reasons = |server: &Value| {
        let name = server["license_server"].as_str().unwrap().to_owned();
        server["reasons"]
            .as_array()
            .unwrap()
            .iter()
            .map(move |reason| format!("{name}: {}", reason.as_str().unwrap()))
            .collect::<Vec<_>>()
    };
    incomplete.iter().flat_map(reasons).collect()
}

/// A license server that must report is missing before its first word; one that need not any more is missing nowhere after its
/// last one.
#[test]
fn fault_40_license_servers_are_expected_and_retired() {
    let mut cluster = TestCluster::running();
    say(&cluster, &["servers", "expect", "LIC07", "--from", "2026-02-01"]);
    assert_eq!(missing(&cluster, "2026-01"), [""; 0]);
    assert_eq!(missing(&cluster, "2026-02"), ["LIC07: nothing has been received yet"]);
    let row = |cluster: &TestCluster, server: &str| {
        let rows = cluster.ask(&["servers"])["rows"].as_array().unwrap().clone();
        rows.into_iter().find(|row| row["license_server"] == server).unwrap_or_default()
    };
    assert_eq!(row(&cluster, "LIC07")["state"], "never");
    // One whose day is to come is no problem; one that nobody knows any more is not there.
    say(&cluster, &["servers", "expect", "LIC08", "--from", "2090-01-01"]);
    assert_eq!(row(&cluster, "LIC08")["status"], "expected from 2090-01-01");
    say(&cluster, &["servers", "expect", "LIC08", "--undo"]);
    assert_eq!(row(&cluster, "LIC08"), Value::Null);
    // A log that ends in January.
    let log = cluster.path("debug.log");
    append(&log, &(day(1, "ann").replace(" 8:00:00 (lmgrd)", " 0:00:00 (lmgrd)") + &day(20, "bob")));
    let mut agent = cluster.agent("LIC01", &[&log]);
    agent.start();
    cluster.wait_for_activity("LIC01", &january(2));
    let ends = "LIC01: last line read: 2026-01-20 09:00";
    assert!(missing(&cluster, "2026-02").contains(&ends.to_owned()), "{:?}", missing(&cluster, "2026-02"));
    say(&cluster, &["servers", "retire", "lic01", "--from", "2026-01-20"]);
    assert_eq!(missing(&cluster, "2026-02"), ["LIC07: nothing has been received yet"]);
    assert_eq!(missing(&cluster, "2026-01"), [""; 0]);
    assert_eq!(row(&cluster, "LIC01")["status"], "retired from 2026-01-20");
    say(&cluster, &["servers", "retire", "LIC01", "--from", "2026-01-22"]);
    assert_eq!(missing(&cluster, "2026-01"), [ends], "two days before it retired are missing");
    // What was said outlives the process, and is taken back as easily.
    cluster.stop_aggregator();
    cluster.start_aggregator();
    assert_eq!(missing(&cluster, "2026-01"), [ends]);
    say(&cluster, &["servers", "retire", "LIC01", "--undo"]);
    assert!(missing(&cluster, "2026-02").contains(&ends.to_owned()));
    let unknown = cluster.seatmeter(&["servers", "retire", "nobody", "--from", "2026-01-01"]);
    assert_eq!(unknown.status.code(), Some(1), "{}", text(&unknown.stderr));
    let wrong = cluster.seatmeter(&["servers", "retire", "LIC01", "--from", "1.1.2026"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", text(&wrong.stderr));
}

/// Daemons write a line every six hours. Where they did, and none comes for longer, lines are missing; not so where a daemon
/// starts after it, and not in a log that never had such lines.
#[test]
fn fault_41_a_silence_that_proves_a_loss_is_told() {
    let cluster = TestCluster::running();
    let ticks = |day: u32| {
        let line = |hour: u32| format!("{hour:2}:00:00 (lmgrd) TIMESTAMP 1/{day}/2026\n");
        [0, 6, 12, 18].map(line).concat()
    };
    let out = "19:00:00 (d) OUT: \"f\" ann@h  \n20:00:00 (d) IN: \"f\" ann@h  \n";
    let start = " 9:00:00 (lmgrd) FlexNet Licensing (v11.16) started on h (linux) (1/5/2026)\n";
    let holed = ticks(1) + out + &ticks(3) + out;
    let restarted = ticks(1) + out + start + &ticks(6) + out;
    let never =
        " 0:00:00 (lmgrd) TIMESTAMP 1/1/2026\n".to_owned() + out + " 8:00:00 (lmgrd) TIMESTAMP 1/9/2026\n" + out;
    let mut agents = Vec::new();
    for (name, log) in [("HOLED", &holed), ("RESTARTED", &restarted), ("NEVER", &never)] {
        let path = cluster.path(&format!("{name}.log"));
        append(&path, log);
        let mut agent = cluster.agent(name, &[&path]);
        agent.start();
        cluster.wait_for_activity(name, &format!("{HEADER}2026-01,d,f,1,1,2,2,0\n"));
        agents.push(agent);
    }
    let missing = missing(&cluster, "2026-01");
    let told: Vec<&String> = missing.iter().filter(|reason| reason.contains("every six hours")).collect();
    assert_eq!(told.len(), 1, "{missing:?}");
    assert!(told[0].contains("HOLED.log: no line between 2026-01-01 20:00 and 2026-01-03 00:00"), "{told:?}");
    cluster.assert_verified();
}
