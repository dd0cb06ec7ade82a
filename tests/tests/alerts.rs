//! Fault 55: what needs an operator is told once it has lasted, to who follows and to who asks, and taken back once it is over.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc;

use seatmeter_tests::process::{end_of, text};
use seatmeter_tests::{TestCluster, wait_until};
use serde_json::Value;

const LOG: &str =
    " 8:00:00 (lmgrd) TIMESTAMP 1/5/2026\n 8:00:01 (d) OUT: \"Cad\" ann@pc1  \n10:00:00 (lmgrd) TIMESTAMP 2/1/2026\n";

fn looking(settings: &str) -> TestCluster {
    let mut cluster = TestCluster::new();
    cluster.settings = format!("[alerts]\nlook_every = \"1s\"\n{settings}");
    cluster.start_aggregator();
    cluster
}

/// Returns the kinds of the alerts of a license server.
fn alerts(cluster: &TestCluster, server: &str) -> Vec<String> {
    let rows = cluster.ask(&["alerts", server])["rows"].clone();
    rows.as_array().unwrap().iter().map(|row| row["kind"].as_str().unwrap().to_owned()).collect()
}

/// Follows alerts. Returns the process, and the lines that it prints.
fn follow(cluster: &TestCluster) -> (Child, mpsc::Receiver<Value>) {
    let login = cluster.path("login.json");
    let mut command = cluster.seatmeter_with(&login, &["alerts", "--follow", "--output", "json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let _ = sender.send(serde_json::from_str(&line).unwrap());
        }
    });
    (child, receiver)
}

#[test]
fn fault_55_what_lasts_is_told_and_taken_back() {
    let mut cluster = looking("");
    let log = cluster.path("debug.log");
    let mut agent = cluster.agent("LIC01", &[&log]);
    agent.start();
    assert!(cluster.seatmeter(&["servers", "expect", "lic02", "--from", "2026-01-01"]).status.success());
    wait_until("both are known", || cluster.ask(&["servers"])["total"] == 2);
    let (mut follower, changes) = follow(&cluster);
    wait_until("a log that is missing is an alert", || alerts(&cluster, "lic01") == ["cannot_read"]);
    wait_until("so is a license server that is missing", || alerts(&cluster, "LIC02") == ["never_reported"]);
    let asked = cluster.seatmeter(&["alerts"]);
    let shown = text(&asked.stdout);
    assert_eq!(asked.status.code(), Some(3), "{shown}");
    assert!(shown.contains("it does not exist") && shown.contains("has never reported"), "{shown}");
    fs::write(&log, LOG).unwrap();
    // The last line is of February: that is long ago.
    wait_until("it can be read, and has no new line", || alerts(&cluster, "lic01") == ["no_lines"]);
    let mut told = Vec::new();
    wait_until("who follows was told all of it", || {
        told.extend(changes.try_iter().map(|change| {
            ["change", "license_server", "kind"].map(|field| change[field].as_str().unwrap().to_owned()).join(" ")
        }));
        let all = [
            "raised LIC01 cannot_read",
            "raised lic02 never_reported",
            "cleared LIC01 cannot_read",
            "raised LIC01 no_lines",
        ];
        all.iter().all(|change| told.iter().any(|told| told == change))
    });
    let once = told.iter().filter(|told| *told == "raised LIC01 cannot_read").count();
    assert_eq!(once, 1, "{told:?}");
    assert!(
        cluster.read("aggregator.err").contains("alert_raised")
            && cluster.read("aggregator.err").contains("alert_cleared")
    );
    // After a start, what still is so is told at once, and never that nothing is; what an operator takes back is cleared.
    cluster.kill_aggregator();
    cluster.start_aggregator();
    assert_eq!(alerts(&cluster, "lic01"), ["no_lines"]);
    assert!(cluster.seatmeter(&["servers", "retire", "lic01", "--from", "2026-01-01"]).status.success());
    wait_until("it need not report", || alerts(&cluster, "lic01").is_empty());
    follower.kill().unwrap();
    follower.wait().unwrap();
    let unknown = cluster.seatmeter(&["alerts", "lic3"]);
    assert!(text(&unknown.stderr).contains("no license server \"lic3\""), "{}", text(&unknown.stderr));
}

/// Who follows goes on through a restart of the aggregator, and is told what changed meanwhile, and nothing twice.
#[test]
fn fault_55_a_follower_goes_on_through_a_restart() {
    let mut cluster = looking("");
    for server in ["lic01", "lic02"] {
        assert!(cluster.seatmeter(&["servers", "expect", server, "--from", "2026-01-01"]).status.success());
    }
    wait_until("both are raised", || cluster.ask(&["alerts"])["total"] == 2);
    let (mut follower, changes) = follow(&cluster);
    let next = || {
        let change = changes.recv().unwrap();
        ["change", "license_server"].map(|field| change[field].as_str().unwrap().to_owned()).join(" ")
    };
    let mut first = [next(), next()];
    first.sort();
    assert_eq!(first, ["raised lic01", "raised lic02"]);
    cluster.restart_on_the_same_port();
    assert!(cluster.seatmeter(&["servers", "retire", "lic01", "--from", "2026-01-01"]).status.success());
    assert_eq!(next(), "cleared lic01");
    follower.kill().unwrap();
    follower.wait().unwrap();
}

/// What is only to be noted is no alert; whoever is not let in any more hears no more.
#[test]
fn fault_55_notices_are_no_alerts_and_followers_must_be_let_in() {
    let cluster = looking("agents_at_least = \"99.1\"\n");
    let log = cluster.path("debug.log");
    fs::write(&log, LOG).unwrap();
    let mut agent = cluster.agent("LIC01", &[&log]);
    agent.start();
    wait_until("its age is noted", || {
        let rows = cluster.ask(&["servers"])["rows"].clone();
        rows[0]["warnings"]
            .as_array()
            .is_some_and(|told| told.iter().any(|one| one.as_str().unwrap().contains("upgrade it to 99.1")))
    });
    wait_until("the rest is told", || alerts(&cluster, "lic01") == ["no_lines"]);
    assert!(cluster.seatmeter(&["operators", "add", "other", "--role", "admin"]).status.success());
    let (mut follower, changes) = follow(&cluster);
    changes.recv().unwrap();
    assert!(cluster.seatmeter(&["tokens", "revoke", &own_token(&cluster)]).status.success());
    assert!(!end_of(&mut follower).success());
}

/// Returns the id of the token that the cluster's administrator uses.
fn own_token(cluster: &TestCluster) -> String {
    cluster.ask(&["whoami"])["token"].as_str().unwrap().to_owned()
}

/// Who invents people is seen, and so is a license that is no user license.
#[test]
fn fault_55_more_than_there_should_be_and_licenses_of_another_kind_are_told_of() {
    let mut cluster = TestCluster::new();
    let catalogue = cluster.path("catalogue.toml");
    fs::write(
        &catalogue,
        "[[sku]]\nid = 'POOL'\nproduct = 'Pool'\ndaemon = 'd'\nfeatures = ['Cad']\nconcurrent = true\n",
    )
    .unwrap();
    cluster.settings = "catalogue = \"catalogue.toml\"\n[alerts]\nlook_every = \"1s\"\nnew_names_a_day = 2\n".into();
    cluster.start_aggregator();
    let day = jiff::Timestamp::now().strftime("%-m/%-d/%Y").to_string();
    let beginning = format!(
        " 0:00:00 (lmgrd) TIMESTAMP {day}\n 0:00:01 (d) OUT: \"Cad\" ann@pc1  \n 0:00:01 (d) OUT: \"Cad\" ben@pc1  \n"
    );
    let log = cluster.path("debug.log");
    fs::write(&log, &beginning).unwrap();
    let mut agent = cluster.agent("LIC01", &[&log]);
    agent.start();
    let told = |cluster: &TestCluster| cluster.ask(&["servers"])["rows"][0]["warnings"].to_string();
    wait_until("the pool is told of", || told(&cluster).contains("Cad in use, licensed by concurrent use"));
    assert!(!told(&cluster).contains("in a day"), "{}", told(&cluster));
    fs::write(&log, beginning + " 0:00:02 (d) OUT: \"Cad\" Eve@pc1  \n 0:00:02 (d) OUT: \"Cad\" eve@pc1  \n").unwrap();
    wait_until("three names are one too many", || alerts(&cluster, "lic01") == ["over_quota"]);
    assert!(told(&cluster).contains("3 new names came in a day, more than 2"), "{}", told(&cluster));
    // Made again of the archive, the figure is the same.
    cluster.kill_aggregator();
    for file in ["facts.db", "facts.db-wal", "facts.db-shm"] {
        let _ = fs::remove_file(cluster.path("aggregator").join(file));
    }
    cluster.start_aggregator();
    wait_until("it is told of after all", || told(&cluster).contains("3 new names came in a day, more than 2"));
}
