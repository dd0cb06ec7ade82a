//! Fault 51: the licenses that there are. License files beside a log and a tool that tells the same; changed, damaged, taken
//! away, through kills, an aggregator that is begun anew, and rebuilds.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use seatmeter_tests::process::text;
use seatmeter_tests::{Agent, TestCluster, wait_until};
use serde_json::{Value, json};

/// Returns a day from today on, in UTC, in a form of `date`.
fn day(ahead: i32, form: &str) -> String {
    let day = format!("{ahead} days");
    text(&Command::new("date").args(["-u", "-d", &day, form]).output().unwrap().stdout).trim().to_owned()
}

/// As license files write it, and as the answer does.
fn expiry(ahead: i32) -> (String, String) {
    (day(ahead, "+%-d-%b-%Y").to_lowercase(), day(ahead, "+%Y-%m-%d"))
}

struct Site {
    agent: Agent,
    cluster: TestCluster,
    licenses: PathBuf,
}

impl Site {
    fn new() -> Self {
        let cluster = TestCluster::running();
        let licenses = cluster.path("licenses");
        fs::create_dir(&licenses).unwrap();
        let agent = cluster.agent_in("licensed", "LIC01", &[], "");
        let site = Self { agent, cluster, licenses };
        site.source(&format!("kind = \"license-file\"\npath = {:?}\nname = \"files\"", site.licenses));
        site
    }

    fn source(&self, settings: &str) {
        let config = fs::read_to_string(&self.agent.config).unwrap();
        fs::write(&self.agent.config, format!("{config}\n[[source]]\n{settings}\nevery_seconds = 1\n")).unwrap();
    }

    /// Writes a license file in one piece.
    fn file(&self, name: &str, content: &str) {
        let fresh = self.licenses.join("fresh");
        fs::write(&fresh, content).unwrap();
        fs::rename(fresh, self.licenses.join(name)).unwrap();
    }

    fn ask(&self, more: &[&str]) -> Value {
        self.cluster.ask(&[&["entitlements"], more].concat())
    }

    /// Returns of each row: feature, licenses, seats in use, expiry, state and the number of pools.
    fn rows(&self) -> Value {
        let rows = self.ask(&[])["rows"].clone();
        let short = |row: &Value| {
            json!([row["feature"], row["licenses"], row["seats_in_use"], row["expires"], row["state"], row["pools"]])
        };
        rows.as_array().unwrap().iter().map(short).collect()
    }

    fn wait_for(&self, expected: &Value) {
        wait_until(&format!("the licenses are {expected}"), || self.rows() == *expected);
    }
}

fn increment(feature: &str, until: &str, licenses: &str, serial: &str) -> String {
    format!("INCREMENT {feature} d 2.0 {until} {licenses} \\\n\tSN={serial} SIGN=\"{serial} AB\"\n")
}

fn now(form: &str) -> String {
    day(0, form)
}

#[test]
fn fault_51_licenses_are_known_through_changes_kills_and_losses() {
    let mut site = Site::new();
    let log = site.cluster.path("debug.log");
    let lines = format!(
        "{time} (lmgrd) TIMESTAMP {date}\n{time} (d) OUT: \"f\" ann@pc  \n{time} (d) OUT: \"F\" bob@pc2  \n",
        time = now("+%H:%M:%S"),
        date = now("+%-m/%-d/%Y")
    );
    fs::write(&log, lines).unwrap();
    site.source(&format!("kind = \"file\"\npath = {log:?}\ntime_zone = \"UTC\""));
    let config = fs::read_to_string(&site.agent.config).unwrap();
    let last = config.rfind("every_seconds").unwrap();
    fs::write(&site.agent.config, &config[..last]).unwrap();
    let ((soon, soon_day), (later, later_day), (past, past_day)) = (expiry(10), expiry(300), expiry(-1));
    let first = increment("f", &later, "10", "LA-1") + &increment("f", &later, "5", "LA-2");
    site.file("a.lic", &(first.clone() + &increment("g", "permanent", "uncounted", "LA-3")));
    site.file("b.lic", &(increment("f", &soon, "3", "LA-4") + &increment("h", &past, "7", "LA-5") + &first));
    site.agent.start();
    // Two spellings of a feature are two, and both are in use under the name that the license file has.
    let expected = json!([
        ["f", 3, 2, soon_day, "soon", 1],
        ["f", 15, 2, later_day, "ok", 2],
        ["g", null, 0, "never", "ok", 1],
        ["h", 7, 0, past_day, "expired", 1]
    ]);
    site.wait_for(&expected);
    let shown = site.ask(&["--expiring"])["rows"].clone();
    assert_eq!(shown.as_array().map(Vec::len), Some(2), "{shown}");
    assert_eq!(site.cluster.seatmeter(&["entitlements"]).status.code(), Some(3));
    let only = site.ask(&["--server", "lic01", "--sku", "g"])["rows"].clone();
    assert_eq!((only.as_array().map(Vec::len), &only[0]["permanent"]), (Some(1), &Value::Null), "{only}");
    assert_eq!(
        (&site.ask(&[])["rows"][1]["usable_licenses"], &site.ask(&[])["rows"][3]["usable_licenses"]),
        (&json!(18), &json!(0))
    );
    // Of days to come, those that can be used then; of days before, nothing was known.
    let then = site.ask(&["--on", &day(20, "+%Y-%m-%d")])["rows"].clone();
    assert_eq!((&then[0]["state"], &then[0]["seats_in_use"]), (&json!("expired"), &Value::Null));
    assert_eq!(site.ask(&["--on", &day(-3, "+%Y-%m-%d")])["rows"], json!([]));
    // A kill and a restart tell the same licenses, not new ones.
    let told_at = site.ask(&[])["rows"][0]["told_at"].clone();
    site.agent.kill();
    site.agent.start();
    wait_until("the agent has told again", || {
        site.agent.inspect()["rows"].as_array().is_some_and(|rows| rows.len() >= 3)
    });
    site.wait_for(&expected);
    assert_eq!(site.ask(&[])["rows"][0]["told_at"], told_at);
    // They change.
    site.file("b.lic", &increment("f", &soon, "4", "LA-6"));
    let changed =
        json!([["f", 4, 2, soon_day, "soon", 1], ["f", 15, 2, later_day, "ok", 2], ["g", null, 0, "never", "ok", 1]]);
    site.wait_for(&changed);
    // What can be read no more is not gone, and said to be missing.
    fs::set_permissions(site.licenses.join("b.lic"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::rename(&site.licenses, site.cluster.path("elsewhere")).unwrap();
    wait_until("the files are said to be missing", || {
        site.cluster.ask(&["servers", "LIC01"]).to_string().contains("licenses")
    });
    assert_eq!(site.rows(), changed);
    fs::rename(site.cluster.path("elsewhere"), &site.licenses).unwrap();
    fs::set_permissions(site.licenses.join("b.lic"), fs::Permissions::from_mode(0o644)).unwrap();
    // The aggregator loses everything, and gets it again.
    site.cluster.stop_aggregator();
    fs::remove_dir_all(site.cluster.path("aggregator")).unwrap();
    site.cluster.start_aggregator();
    site.wait_for(&changed);
    site.cluster.assert_verified();
    let damaged = site.licenses.join("b.lic");
    fs::write(&damaged, [0x5e; 300]).unwrap();
    site.wait_for(&json!([["f", 15, 2, later_day, "ok", 2], ["g", null, 0, "never", "ok", 1]]));
    // A source that is not configured any more tells nothing of now.
    site.agent.stop();
    let config = fs::read_to_string(&site.agent.config).unwrap();
    let (start, end) = (config.find("[[source]]").unwrap(), config.rfind("[[source]]").unwrap());
    fs::write(&site.agent.config, config[..start].to_owned() + &config[end..]).unwrap();
    site.agent.start();
    site.wait_for(&json!([]));
    site.cluster.assert_verified();
}

/// Which licenses there are says nothing of who used them: a license server of which nothing else is known has reported
/// nothing, and its month is not zero.
#[test]
fn fault_51_license_files_alone_make_no_month_complete() {
    let mut site = Site::new();
    site.file("a.lic", &increment("f", "permanent", "10", "LA-1"));
    site.agent.start();
    // Nor is anything known of who uses them: that is not 0.
    site.wait_for(&json!([["f", 10, null, "never", "ok", 1]]));
    let usage = site.cluster.ask(&["usage"]);
    assert_eq!(
        (&usage["completeness"]["complete"], &usage["total"]["unique_users"]),
        (&json!(false), &Value::Null),
        "{usage}"
    );
}

/// A license file, and a tool that asks the license manager: each has a row, and they are never added.
#[test]
fn fault_51_two_sources_of_the_same_licenses_are_never_added() {
    let mut site = Site::new();
    site.file("a.lic", &increment("f", "permanent", "10", "LA-1"));
    let tool = site.cluster.path("lmutil");
    let answer = "lmutil - Copyright (c) 1989-2021 Flexera.\nVendor daemon status (on lic):\n  d: UP v11\n\
        Users of f:  (Total of 9 licenses issued;  Total of 0 licenses in use)\n  \"f\" v2.0, vendor: d, expiry: 1-jan-0\n";
    fs::write(&tool, format!("#!/bin/sh\ncat <<'ANSWER'\n{answer}ANSWER\n")).unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    site.source(&format!("kind = \"command\"\ncommand = [{tool:?}, \"lmstat\"]\nname = \"tool\"\ntime_zone = \"UTC\""));
    site.agent.start();
    site.wait_for(&json!([["f", 10, 0, "never", "ok", 1], ["f", 9, 0, "never", "ok", 1]]));
    // A vendor daemon that is down tells nothing of its licenses: they are not gone.
    let down = answer
        .replace("d: UP v11", "d: The desired vendor daemon is down. (-97,121)")
        .split("Users of")
        .next()
        .unwrap()
        .to_owned()
        + "Users of other:  (Total of 1 license issued;  Total of 0 licenses in use)\n";
    fs::write(&tool, format!("#!/bin/sh\ncat <<'ANSWER'\n{down}ANSWER\n")).unwrap();
    let asked = || site.cluster.ask(&["servers", "LIC01"]).to_string();
    wait_until("it is told that the daemon is down", || asked().contains("desired vendor daemon is down"));
    assert_eq!(site.rows(), json!([["f", 10, 0, "never", "ok", 1], ["f", 9, 0, "never", "ok", 1]]));
    site.cluster.assert_verified();
}

/// `try-source` shows what a license file tells, and what of it cannot be read.
#[test]
fn a_license_file_can_be_tried() {
    let site = Site::new();
    let path = site.cluster.path("any.lic");
    let tried = |path: &Path| site.agent.program(&["try-source", path.to_str().unwrap(), "--output", "json"]);
    fs::write(&path, increment("f", "31-dec-2026", "10", "LA-1") + "INCREMENT broken\n").unwrap();
    let shown: Value = serde_json::from_slice(&tried(&path).stdout).unwrap();
    let row = &shown["licenses"][0];
    assert_eq!((&row["licenses"], &row["expires"], &row["serial"]), (&json!(10), &json!("2026-12-31"), &json!("LA-1")));
    assert_eq!((&shown["unrecognised"], &shown["samples"][0]), (&json!(1), &json!("INCREMENT broken")));
}
