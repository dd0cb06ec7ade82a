//! The programs as services: what they tell of themselves, and what can be brought back.

use seatmeter_tests::process::{command, text, wait_until};
use seatmeter_tests::{Agent, Scenario, TestCluster};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;

/// The codes that a program lists: their levels by their names.
fn codes(table: &str) -> BTreeMap<String, String> {
    let rows = table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| id"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        (cells[2].trim_matches('`').to_owned(), cells[3].to_owned())
    })
    .collect()
}

/// Every line of a health log, which must be an object with a documented code, its level, and a time.
fn health_log(text: &str, codes: &BTreeMap<String, String>) -> Vec<Value> {
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &lines {
        let (code, level) = (line["code"].as_str().unwrap(), line["level"].as_str().unwrap().to_lowercase());
        assert_eq!(codes.get(code), Some(&level), "{line}");
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z') && line["message"].is_string(), "{line}");
    }
    lines
}

#[test]
fn the_documented_codes_are_those_of_the_programs() {
    let cluster = TestCluster::new();
    let agent = text(&cluster.agent("LIC01", &[]).program(&["codes"]).stdout);
    let aggregator = text(&cluster.aggregator_program(&["codes"]).stdout);
    let document = fs::read_to_string(xtask::root().join("deploy/health-log.md")).unwrap();
    for table in [&agent, &aggregator] {
        assert!(document.contains(table.as_str()), "deploy/health-log.md must contain this table:\n{table}");
    }
    let mut numbers: Vec<&str> = [&agent, &aggregator]
        .iter()
        .flat_map(|table| table.lines().filter_map(|row| row.split('|').nth(1)))
        .filter(|cell| cell.trim().parse::<u16>().is_ok())
        .collect();
    let all = numbers.len();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), all, "a number stands for one code");
}

/// An ops team can tell from the log alone: what is followed and how far, delivering or not, why not, and since when.
#[test]
fn the_health_log_tells_what_works_and_what_does_not() {
    let mut scenario = Scenario::new(1);
    scenario.write(2_000);
    scenario.assert_truth();
    scenario.cluster.kill_aggregator();
    let log = scenario.agent.state().join("health.log");
    let read = || fs::read_to_string(&log).unwrap();
    wait_until("the agent tells that delivery fails", || read().contains("\"uplink_down\""));
    scenario.cluster.start_aggregator();
    wait_until("the agent tells that it delivers again", || read().matches("\"uplink_up\"").count() == 2);
    scenario.agent.stop();
    scenario.agent.start();
    wait_until("it has started again", || read().matches("\"started\"").count() == 2);

    let documented = codes(&text(&scenario.agent.program(&["codes"]).stdout));
    let lines = health_log(&read(), &documented);
    let of = |code: &str| lines.iter().rfind(|line| line["code"] == code).unwrap();
    let started = of("started");
    assert!(started["logs"].as_str().unwrap().ends_with("debug.log"), "{started}");
    assert!(started["positions"].as_str().unwrap().contains("debug.log at "), "{started}");
    for field in ["version", "agent_id", "license_server", "aggregator", "buffered_batches", "buffer_quota_bytes"] {
        assert!(!started[field].is_null(), "{field} is missing: {started}");
    }
    assert!(!of("uplink_down")["reason"].as_str().unwrap().is_empty(), "{}", of("uplink_down"));
    let aggregator = codes(&text(&scenario.cluster.aggregator_program(&["codes"]).stdout));
    let told = health_log(&scenario.cluster.read("aggregator/health.log"), &aggregator);
    assert!(told.iter().any(|line| line["code"] == "agent_connected"));
}

#[test]
fn status_tells_how_the_agent_is_and_how_it_was() {
    let mut scenario = Scenario::new(2);
    scenario.write(500);
    scenario.assert_truth();
    let status = |agent: &Agent| {
        let output = agent.command(&["status", "--json"]);
        (output.status.code(), serde_json::from_slice::<Value>(&output.stdout).unwrap())
    };
    wait_until("all is well", || status(&scenario.agent).0 == Some(0));
    let (_, well) = status(&scenario.agent);
    assert_eq!((well["running"].as_bool(), well["well"].as_bool()), (Some(true), Some(true)));
    assert_eq!(well["logs"][0]["state"], "following");
    scenario.agent.kill();
    let (code, down) = status(&scenario.agent);
    assert_eq!((code, down["running"].as_bool(), down["well"].as_bool()), (Some(3), Some(false), Some(false)));
    assert!(text(&scenario.agent.command(&["status"]).stdout).contains("not running"));
    scenario.agent.start();
}

/// What systemd is told, without systemd: ready when it works, alive all the time, how it is, and that it stops.
#[test]
fn the_manager_of_services_is_told() {
    let cluster = TestCluster::running();
    let socket = cluster.path("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    // Messages are taken as they come, because a socket that is full would hold up the agent.
    let (sender, messages) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(length) = manager.recv(&mut bytes)
            && sender.send(text(&bytes[..length])).is_ok()
        {}
    });
    let log = cluster.path("debug.log");
    fs::write(&log, "10:00:00 (lmgrd) TIMESTAMP 1/1/2026\n").unwrap();
    let mut agent = cluster.agent("LIC01", &[&log]);
    // The process that systemd starts is told by its number that the watchdog is meant for it.
    let start = format!("NOTIFY_SOCKET={} WATCHDOG_USEC=300000 WATCHDOG_PID=$$ exec \"$@\"", socket.display());
    agent.start_with(&["sh", "-c", &format!("export {}", start.replace(" exec", "; exec")), "sh"]);
    let wait_for = |wanted: &str| {
        wait_until(&format!("{wanted} comes"), || {
            messages.try_iter().any(|message| message.lines().any(|line| line == wanted))
        });
    };
    wait_for("READY=1");
    wait_for("WATCHDOG=1");
    wait_for("STATUS=1 of 1 log followed, aggregator connected");
    agent.stop();
    wait_for("STOPPING=1");
}

/// What came after the backup is asked for again: agents that have let go of it read it again from the log. The
/// aggregator stops while an agent is connected.
#[test]
fn a_restored_backup_catches_up() {
    let mut scenario = Scenario::new(3);
    scenario.write(5_000);
    scenario.assert_truth();
    let then = scenario.truth();
    let backup = scenario.cluster.path("backup.db");
    let taken = scenario.cluster.aggregator_command_with(&["backup", backup.to_str().unwrap()]);
    assert!(taken.status.success(), "{}", text(&taken.stderr));
    scenario.write(5_000);
    scenario.assert_truth();
    let busy = scenario.cluster.aggregator_command_with(&["restore", backup.to_str().unwrap()]);
    assert!(text(&busy.stderr).contains("another process is running"), "{}", text(&busy.stderr));
    scenario.cluster.stop_aggregator();
    scenario.agent.stop();
    let restored = scenario.cluster.aggregator_command_with(&["restore", backup.to_str().unwrap()]);
    assert!(restored.status.success(), "{}", text(&restored.stderr));
    scenario.cluster.start_aggregator();
    scenario.cluster.wait_for_activity("LIC01", &then);
    scenario.agent.start();
    scenario.write(1_000);
    scenario.assert_truth();
}

/// An aggregator that comes back from an older backup, or from nothing, gets all that the logs or the agent's buffer still
/// have, also from files to which nothing is written any more. What neither has is a gap.
#[test]
fn an_aggregator_that_goes_back_is_filled_again() {
    let mut cluster = TestCluster::running();
    let (path, part) = (cluster.path("debug.log"), cluster.path("debug.log.1"));
    let day = |date: &str, user: &str| {
        format!(
            " 8:00:00 (lmgrd) TIMESTAMP {date}\n 8:00:01 (d) OUT: \"f\" {user}@h  \n 9:00:00 (d) IN: \"f\" {user}@h  \n"
        )
    };
    fs::write(&path, day("1/5/2026", "ann")).unwrap();
    let mut agent = cluster.agent("LIC01", &[&path]);
    agent.start();
    let header = "month,daemon,feature,users_checked_out,users_held,outs,ins,denials\n";
    let january = |users: u32| format!("2026-01,d,f,{users},{users},{users},{users},0\n");
    let february = "2026-02,d,f,1,1,1,1,0\n";
    cluster.wait_for_activity("LIC01", &format!("{header}{}", january(1)));
    let backup = cluster.path("backup.db");
    assert!(cluster.aggregator_command_with(&["backup", backup.to_str().unwrap()]).status.success());
    // After the backup, the log grows, is rotated, and goes on.
    fs::write(&path, [day("1/5/2026", "ann"), day("1/20/2026", "bob")].concat()).unwrap();
    cluster.wait_for_activity("LIC01", &format!("{header}{}", january(2)));
    fs::rename(&path, &part).unwrap();
    fs::write(&path, day("2/2/2026", "carl")).unwrap();
    let all = format!("{header}{}{february}", january(2));
    cluster.wait_for_activity("LIC01", &all);
    let restore = |cluster: &mut TestCluster| {
        cluster.stop_aggregator();
        let restored = cluster.aggregator_command_with(&["restore", backup.to_str().unwrap()]);
        assert!(restored.status.success(), "{}", text(&restored.stderr));
        cluster.start_aggregator();
    };
    // Nothing is written to the logs meanwhile, and the agent runs on.
    restore(&mut cluster);
    cluster.wait_for_activity("LIC01", &all);
    assert!(agent.has_said("aggregator_restored"), "{}", agent.errors());
    // From nothing.
    cluster.stop_aggregator();
    for file in ["aggregator.db", "aggregator.db-wal", "aggregator.db-shm"] {
        let _ = fs::remove_file(cluster.path("aggregator").join(file));
    }
    cluster.start_aggregator();
    cluster.wait_for_activity("LIC01", &all);
    // What the log no longer has is still in the buffer.
    agent.stop();
    fs::remove_file(&part).unwrap();
    restore(&mut cluster);
    agent.start();
    cluster.wait_for_activity("LIC01", &all);
    assert_eq!(cluster.ask(&["servers"])["rows"][0]["gaps"], 0);
    // What the buffer has let go of is a gap, and the month is not complete.
    agent.stop();
    agent.configure("[license_server]", "[buffer]\nkeep_days = 0\n[license_server]");
    agent.start();
    fs::write(&path, [day("2/2/2026", "carl"), day("2/3/2026", "dan")].concat()).unwrap();
    let february = "2026-02,d,f,2,2,2,2,0\n";
    cluster.wait_for_activity("LIC01", &format!("{header}{}{february}", january(2)));
    agent.stop();
    restore(&mut cluster);
    agent.start();
    cluster.wait_for_activity("LIC01", &format!("{header}{}{february}", january(1)));
    wait_until("the gap is known", || cluster.ask(&["servers"])["rows"][0]["gaps"] == 1);
    assert_eq!(cluster.ask(&["usage", "2026-01"])["completeness"]["complete"], false);
    cluster.assert_verified();
}

/// A database as version 0.1 wrote it, with the batches of an agent of that version.
#[test]
fn fault_24_a_database_of_the_first_version_is_understood() {
    let mut cluster = TestCluster::new();
    let state = cluster.path("aggregator");
    fs::create_dir(&state).unwrap();
    let dump = include_str!("data/schema-1.sql");
    rusqlite::Connection::open(state.join("aggregator.db")).unwrap().execute_batch(dump).unwrap();
    cluster.start_aggregator();
    cluster.assert_verified();
    assert_eq!(cluster.activity("LIC01"), include_str!("data/schema-1.csv"));
    cluster.stop_aggregator();
    let rebuilt = cluster.aggregator_command("rebuild");
    assert!(rebuilt.status.success(), "{}", text(&rebuilt.stderr));
    cluster.start_aggregator();
    assert_eq!(cluster.activity("LIC01"), include_str!("data/schema-1.csv"));
}

/// Figures that are damaged are made again, by themselves and by `rebuild`, which does not read first what it is told to mend.
#[test]
fn damaged_figures_are_made_again() {
    let mut scenario = Scenario::new(4);
    scenario.write(2_000);
    scenario.assert_truth();
    scenario.agent.stop();
    scenario.cluster.stop_aggregator();
    let facts = scenario.cluster.path("aggregator/facts.db");
    let damage_a_state = || {
        rusqlite::Connection::open(&facts).unwrap().execute("UPDATE projection SET state = x'00ff'", []).unwrap();
    };
    damage_a_state();
    let verified = scenario.cluster.aggregator_command("verify");
    assert_eq!(verified.status.code(), Some(3), "{}", text(&verified.stderr));
    let rebuilt = scenario.cluster.aggregator_command("rebuild");
    assert!(rebuilt.status.success(), "{}", text(&rebuilt.stderr));
    scenario.cluster.start_aggregator();
    scenario.assert_truth();
    scenario.cluster.stop_aggregator();
    damage_a_state();
    scenario.cluster.start_aggregator();
    scenario.assert_truth();
    assert!(scenario.cluster.read("aggregator/health.log").contains("\"facts_discarded\""));
    scenario.cluster.stop_aggregator();
    // No database any more.
    fs::write(&facts, vec![7; 40_000]).unwrap();
    scenario.cluster.start_aggregator();
    scenario.agent.start();
    scenario.write(500);
    scenario.assert_truth();
    scenario.cluster.stop_aggregator();
    // Gone.
    for file in ["facts.db", "facts.db-wal", "facts.db-shm"] {
        let _ = fs::remove_file(scenario.cluster.path("aggregator").join(file));
    }
    scenario.cluster.start_aggregator();
    scenario.assert_truth();
    scenario.cluster.assert_verified();
}

/// Commands that read make nothing: root's own database would shut out the service's account.
#[test]
fn verify_before_the_first_start_makes_no_database() {
    let cluster = TestCluster::new();
    let verified = cluster.aggregator_command("verify");
    assert!(text(&verified.stderr).contains("there is no database in"), "{}", text(&verified.stderr));
    assert!(!cluster.path("aggregator/aggregator.db").exists());
}

/// A first configuration is made by one command, and one that somebody wrote is not overwritten.
#[test]
fn one_command_configures_an_agent() {
    let cluster = TestCluster::running();
    let log = cluster.path("debug.log");
    fs::write(&log, "").unwrap();
    let mut agent = cluster.agent("LIC01", &[&log]);
    let refused = agent.command(&["configure", "--aggregator", &cluster.agents_url(), "--log", log.to_str().unwrap()]);
    assert!(text(&refused.stderr).contains("--force"), "{}", text(&refused.stderr));
    fs::copy(xtask::root().join("deploy/agent.toml"), &agent.config).unwrap();
    let made = agent.command(&["configure", "--aggregator", &cluster.agents_url(), "--log", log.to_str().unwrap()]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    agent.configure("#state = \"/var/lib/seatmeter-agent\"", &format!("state = {:?}", agent.state()));
    agent.start();
    wait_until("it delivers", || agent.has_said("uplink_up"));
}

/// Whoever reads an answer may have enough of it, as `head` has; what cannot be written is told, and no panic.
#[test]
fn an_answer_that_nobody_takes_is_no_panic() {
    for (program, arguments) in [("seatmeter-agent", ["codes"]), ("seatmeter-aggregator", ["codes"])] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command(program).args(arguments).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""), "{program}");
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = command(program).args(arguments).stdout(full).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{program}");
        assert!(text(&output.stderr).starts_with("error: the answer cannot be written"), "{}", text(&output.stderr));
    }
    // What a command ends with is its own, whoever listens.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status =
        command("seatmeter-agent").args(["scan", "/nowhere.log"]).stdout(writer).stderr(Stdio::null()).status();
    assert_eq!(status.unwrap().code(), Some(3));
}
