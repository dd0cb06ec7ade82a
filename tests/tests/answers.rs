//! Faults 27 and 48: license managers that are asked who holds what. Tools that answer, fail, hang and babble; kills, restarts
//! and an aggregator that is begun anew between; a log of the same license manager beside them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use seatmeter_tests::process::{command, text};
use seatmeter_tests::{Agent, TestCluster, shared, wait_until};

const HEADER: &str = "month,daemon,feature,users_checked_out,users_held,outs,ins,denials\n";

/// Returns the current time in UTC, in a form of `date`.
fn now(form: &str) -> String {
    text(&Command::new("date").args(["-u", form]).output().unwrap().stdout).trim().to_owned()
}

/// Returns the time of an hour ago in UTC, in a form of `date`.
fn hour_ago(form: &str) -> String {
    text(&Command::new("date").args(["-u", "-d", "-1 hour", form]).output().unwrap().stdout).trim().to_owned()
}

/// A license manager that is asked by a tool: what the tool does stands in a file.
struct Asked {
    // Dropped before the cluster's folder, in which its health log is.
    agent: Agent,
    cluster: TestCluster,
    tool: PathBuf,
    /// Since when the seats are held: an hour ago, as lmstat writes it.
    since: String,
}

impl Asked {
    const SERVER: &str = "LIC01";

    fn new() -> Self {
        let cluster = TestCluster::running();
        let tool = cluster.path("lmutil");
        fs::write(&tool, "").unwrap();
        let agent = cluster.agent_in("asking", Self::SERVER, &[], "");
        let asked = Self { cluster, agent, tool, since: hour_ago("+%a %-m/%-d %-H:%M") };
        asked.source(&asked.tool, "lmstat", "");
        asked
    }

    /// Adds a source that asks with a tool every second.
    fn source(&self, tool: &std::path::Path, name: &str, more: &str) {
        let source = format!(
            "\n[[source]]\nkind = \"command\"\ncommand = [{tool:?}, \"lmstat\", \"-a\"]\nname = {name:?}\n\
             every_seconds = 1\ntime_zone = \"UTC\"\n{more}\n"
        );
        let config = fs::read_to_string(&self.agent.config).unwrap();
        fs::write(&self.agent.config, config + &source).unwrap();
    }

    /// From now on, the tool does this, in the shell's words.
    fn does(&self, script: &str) {
        let fresh = self.tool.with_extension("new");
        fs::write(&fresh, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(&fresh, &self.tool).unwrap();
    }

    /// From now on, these users hold a seat each.
    fn held_by(&self, users: &[&str]) {
        self.does(&format!("cat <<'ANSWER'\n{}ANSWER", self.lmstat(users)));
    }

    /// Returns what lmstat answers when these users hold a seat each.
    fn lmstat(&self, users: &[&str]) -> String {
        let since = &self.since;
        let lines: String = users
            .iter()
            .map(|user| format!("    {user} pc-{user} pc-{user} (v1.0) (lic/27000 101), start {since}\n"))
            .collect();
        format!(
            "lmutil - Copyright (c) 1989-2021 Flexera. All Rights Reserved.\nVendor daemon status (on lic):\n  vend: UP v11\n\
             Feature usage info:\n\nUsers of f:  (Total of 9 licenses issued;  Total of {} licenses in use)\n\n\
             \x20 \"f\" v1.0, vendor: vend\n  floating license\n\n{lines}",
            users.len()
        )
    }

    fn wait_for_users(&self, users: u32) {
        let expected = format!("{HEADER}{},vend,f,0,{users},0,0,0\n", now("+%Y-%m"));
        self.cluster.wait_for_activity(Self::SERVER, &expected);
    }

    fn row(&self) -> serde_json::Value {
        self.cluster.ask(&["servers", Self::SERVER])["rows"][0].clone()
    }

    fn wait_for_open(&self, sessions: u32) {
        wait_until("the open sessions are those that are held", || self.row()["open_sessions"] == sessions);
    }
}

#[test]
fn fault_48_a_license_manager_that_is_asked_is_counted_through_kills() {
    let mut asked = Asked::new();
    asked.held_by(&["ada", "bob"]);
    asked.agent.start();
    asked.wait_for_users(2);
    asked.held_by(&["ada", "cid"]);
    asked.wait_for_users(3);
    asked.wait_for_open(2);
    // While nobody asks, one goes and another one comes.
    asked.agent.kill();
    asked.held_by(&["cid", "dan"]);
    asked.agent.start();
    asked.wait_for_users(4);
    asked.wait_for_open(2);
    // What was acknowledged is delivered again to an aggregator that has lost it: the answers cannot be asked for again.
    asked.cluster.kill_aggregator();
    fs::remove_dir_all(asked.cluster.path("aggregator")).unwrap();
    asked.cluster.start_aggregator();
    asked.wait_for_users(4);
    asked.wait_for_open(2);
    assert_eq!(asked.row()["gaps"], 0);
    // An agent that is installed anew has another name for the same answers.
    asked.agent.kill();
    asked.agent.forget();
    asked.agent.start();
    asked.held_by(&["dan"]);
    asked.wait_for_open(1);
    asked.wait_for_users(4);
    asked.cluster.assert_verified();
}

#[test]
fn fault_48_an_answer_that_tells_nothing_is_unknown_and_not_zero() {
    let mut asked = Asked::new();
    asked.held_by(&["ada"]);
    asked.agent.start();
    asked.wait_for_users(1);
    for (script, said) in [
        ("echo 'Error getting status: Cannot connect to license server (-15,570:111)'", "Cannot connect"),
        ("exit 0", "does not mean that nobody"),
        ("echo lmutil: bad option >&2; exit 3", "bad option"),
        ("echo hello", "no answer that is known"),
    ] {
        asked.does(script);
        wait_until("the reason is told", || asked.row()["status"].as_str().unwrap().contains(said));
        // Who held a seat is not said to have returned it.
        assert_eq!(asked.row()["open_sessions"], 1, "{script}");
    }
    asked.held_by(&["ada", "bob"]);
    asked.wait_for_users(2);
    wait_until("all is well again", || asked.row()["state"] == "ok");
    asked.cluster.assert_verified();
}

/// Whom a license is assigned to has used it at the time of the last checkout, and in no other month, whenever the agent asks.
/// A device that has one counts by its name.
#[test]
fn fault_48_assignments_count_when_they_were_used() {
    let mut asked = Asked::new();
    let list = |more: &str| {
        format!(
            "cat <<'ANSWER'\nUsage data is 0 minutes old. Next update in 15 minutes.\nUsers:\n Mila Ordonez XDT_ENT_UD \
             2025.1201 (Mon Oct  5 13:41:07 2026)\n{more}Devices:\n pc17 XDT_ENT_UD 2025.1201 (Mon Oct  5 10:00:00 2026)\nANSWER"
        )
    };
    asked.does(&list(""));
    asked.agent.start();
    let october = format!("{HEADER}2026-10,CITRIX,XDT_ENT_UD,0,2,0,0,0\n");
    asked.cluster.wait_for_activity(Asked::SERVER, &october);
    asked.agent.kill();
    asked.does(&list(" ada XDT_ENT_UD 2025.1201 (Tue Nov  3 03:01:07 2026)\n"));
    asked.agent.start();
    let november = format!("{october}2026-11,CITRIX,XDT_ENT_UD,0,1,0,0,0\n");
    asked.cluster.wait_for_activity(Asked::SERVER, &november);
    let usage = asked.cluster.ask(&["usage", "2026-10"])["rows"][0].clone();
    assert_eq!((&usage["unique_users"], &usage["devices"]), (&2.into(), &1.into()), "{usage}");
    assert_eq!(asked.row()["open_sessions"], 0);
    asked.cluster.assert_verified();
}

/// A license server that is asked gets another name: it stays one, with what it was asked before.
#[test]
fn fault_48_a_license_server_that_is_asked_gets_another_name() {
    let mut asked = Asked::new();
    asked.held_by(&["ada", "bob"]);
    asked.agent.start();
    asked.wait_for_users(2);
    asked.held_by(&["ada"]);
    asked.wait_for_open(1);
    asked.agent.stop();
    asked.agent.configure("\"LIC01\"", "\"LIC02\"");
    asked.agent.start();
    let expected = format!("{HEADER}{},vend,f,0,2,0,0,0\n", now("+%Y-%m"));
    asked.cluster.wait_for_activity("LIC02", &expected);
    wait_until("there is one license server, and one session", || {
        let rows = asked.cluster.ask(&["servers"])["rows"].clone();
        let rows = rows.as_array().unwrap();
        rows.len() == 1 && rows[0]["license_server"] == "LIC02" && rows[0]["open_sessions"] == 1
    });
    asked.cluster.assert_verified();
}

/// Of several license servers, one does not answer; of several seats in use, not all are told. That is said, and nobody is taken
/// for gone at once.
#[test]
fn fault_48_a_part_that_is_not_answered_is_told() {
    let mut asked = Asked::new();
    asked.held_by(&["ada", "bob"]);
    asked.agent.start();
    asked.wait_for_users(2);
    let other = "----\nLicense server status: 27001@other\nother: Cannot connect to license server system. (-15,570)\n";
    let hidden: String = asked
        .lmstat(&["ada", "bob"])
        .lines()
        .filter(|line| !line.contains("bob"))
        .map(|line| format!("{line}\n"))
        .collect();
    for (answer, said) in
        [(asked.lmstat(&["ada"]) + other, "other: Cannot connect"), (hidden, "2 in use, and who holds 1")]
    {
        asked.does(&format!("cat <<'ANSWER'\n{answer}ANSWER"));
        wait_until("what is missing is told", || asked.row()["status"].as_str().unwrap().contains(said));
        let usage = asked.cluster.ask(&["usage"]);
        assert!(usage["completeness"].to_string().contains(said), "{usage}");
    }
    asked.held_by(&["ada", "bob"]);
    wait_until("all is answered again", || asked.row()["state"] == "ok");
    asked.wait_for_open(2);
    // The month lacks it for ever, through losses and rebuilds.
    let lacks = || asked.cluster.ask(&["usage"])["completeness"].to_string().contains("no answer, or not all of it");
    wait_until("what was missing stays told", lacks);
    asked.agent.kill();
    asked.cluster.stop_aggregator();
    fs::remove_dir_all(asked.cluster.path("aggregator")).unwrap();
    asked.cluster.start_aggregator();
    asked.agent.start();
    asked.wait_for_users(2);
    wait_until("what was missing is told again", || {
        asked.cluster.ask(&["usage"])["completeness"].to_string().contains("no answer, or not all of it")
    });
    asked.cluster.assert_verified();
}

/// A tool that hangs, one that babbles and one that is missing are ended, with all that they have started, and hold up no other
/// source.
#[test]
fn fault_27_tools_that_hang_or_babble_stop_no_other_source() {
    let mut asked = Asked::new();
    let [hangs, babbles, leaves, child] = ["hangs", "babbles", "leaves", "child"].map(|name| asked.cluster.path(name));
    fs::write(&hangs, format!("#!/bin/sh\nsleep 1000 & echo $! >{child:?}; echo begun; wait\n")).unwrap();
    fs::write(&babbles, "#!/bin/sh\nexec yes lmstat\n").unwrap();
    // In a group of its own, and with the tool's output.
    fs::write(&leaves, "#!/bin/sh\nsetsid sleep 20 &\necho begun\n").unwrap();
    for tool in [&hangs, &babbles, &leaves] {
        fs::set_permissions(tool, fs::Permissions::from_mode(0o755)).unwrap();
    }
    asked.source(&hangs, "hangs", "timeout_seconds = 1");
    asked.source(&babbles, "babbles", "");
    asked.source(&leaves, "leaves", "");
    asked.source(&asked.cluster.path("missing"), "missing", "");
    asked.held_by(&["ada"]);
    asked.agent.start();
    asked.wait_for_users(1);
    let health = || asked.cluster.read("asking/state/health.log");
    for said in [
        "has not ended within 1 seconds",
        "it says: begun",
        "printed more than 16 MiB",
        "missing cannot be started",
        "holds its output open",
        "it is not run again until these have ended",
    ] {
        wait_until("the health log says why", || health().contains(said));
    }
    let first: u32 = fs::read_to_string(&child).unwrap().trim().parse().unwrap();
    asked.held_by(&["ada", "bob"]);
    asked.wait_for_users(2);
    wait_until("what the tool has started is ended", || !is_alive(first));
    // Each is told once, not each second.
    assert_eq!(health().matches("printed more than 16 MiB").count(), 1);
    asked.agent.stop();
    let last: u32 = fs::read_to_string(&child).unwrap().trim().parse().unwrap();
    assert!(!is_alive(last), "a tool outlives its agent");
}

fn is_alive(process: u32) -> bool {
    let state = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // One that nobody has waited for yet is dead.
    !state.is_empty() && !state.contains(") Z ")
}

/// People that the log and the answers tell of are united; seats that both saw were held once.
#[test]
fn fault_48_a_log_and_answers_of_one_license_manager_count_seats_once() {
    let mut asked = Asked::new();
    let log = asked.cluster.path("debug.log");
    let (day, time) = (hour_ago("+%-m/%-d/%Y"), hour_ago("+%-H:%M"));
    let line = |user: &str| format!("{time}:01 (vend) OUT: \"f\" {user}@pc-{user}  \n");
    let start = format!("{time}:00 (lmgrd) FlexNet Licensing (v11) started on lic (linux) ({day})\n");
    fs::write(&log, start + &line("ada") + &line("eve")).unwrap();
    let config = fs::read_to_string(&asked.agent.config).unwrap();
    let source = format!("\n[[source]]\npath = {log:?}\ntime_zone = \"UTC\"\n");
    fs::write(&asked.agent.config, config + &source).unwrap();
    asked.held_by(&["ada", "bob"]);
    asked.agent.start();
    let expected = format!("{HEADER}{},vend,f,2,3,2,0,0\n", now("+%Y-%m"));
    asked.cluster.wait_for_activity(Asked::SERVER, &expected);
    let usage = asked.cluster.ask(&["usage"])["rows"][0].clone();
    assert_eq!((&usage["unique_users"], &usage["peak_concurrent"]), (&3.into(), &2.into()), "{usage}");
    let users = asked.cluster.ask(&["users"])["rows"].to_string();
    for user in ["ada", "bob", "eve"] {
        assert!(users.contains(user), "{users}");
    }
    asked.cluster.assert_verified();
}

/// Returns what `try-source` shows of a file, as JSON.
fn tried(path: &std::path::Path) -> serde_json::Value {
    let shown = command("seatmeter-agent").args(["try-source", "--output", "json"]).arg(path).output().unwrap();
    serde_json::from_slice(&shown.stdout).unwrap_or_else(|_| panic!("{}: {}", path.display(), text(&shown.stderr)))
}

/// Published answers of license managers: each with its format, the lines of seats, the people among them, and the features
/// of which it does not tell who holds them.
#[test]
fn published_answers_are_recognised_by_content() {
    let Some(corpus) = shared("corpus") else { return };
    for (name, format, seats, people, unknown) in [
        ("lmstat/cluster-app1.txt", "lmstat", 127, 41, 0),
        ("lmstat/cluster-app2.txt", "lmstat", 38, 13, 0),
        ("lmstat/cluster-app4.txt", "lmstat", 5, 1, 2),
        ("lmstat/abaqus-one-feature.txt", "lmstat", 3, 2, 0),
        ("lmstat/nothing-in-use.txt", "lmstat", 0, 0, 0),
        // Headings alone: of three features, and of one, seats are in use.
        ("lmstat/features.txt", "lmstat", 0, 0, 3),
        ("lmstat/server-down.txt", "lmstat", 0, 0, 1),
        ("others/lmx-licstat-text.txt", "lmx-text", 5, 2, 0),
        ("others/dsls.txt", "dsls", 4, 4, 0),
        ("others/lsdyna.txt", "lsdyna", 6, 4, 0),
        ("others/olicense.txt", "olicense", 3, 2, 0),
        ("rlm/rlmstat-in-use.txt", "rlmstat", 3, 2, 0),
        ("rlm/rlmstat-nothing-in-use.txt", "rlmstat", 0, 0, 0),
        ("citrix/udadmin-list-times.txt", "udadmin", 2, 2, 0),
        ("field-other/lmstat-cameo-u0020.txt", "lmstat", 2, 2, 0),
        ("field-other/lmstat-daemon-line-inside.txt", "lmstat", 0, 0, 0),
        ("field-other/lmstat-blank-names-errors.txt", "lmstat", 10, 10, 2),
        ("field-other/lmx-raystation-licstat.txt", "lmx-text", 1, 1, 0),
    ] {
        let shown = tried(&corpus.join(name));
        let rows = shown["rows"].as_array().unwrap();
        let users: std::collections::BTreeSet<&str> = rows.iter().map(|row| row["user"].as_str().unwrap()).collect();
        let unknowns = shown["unknown"].as_array().unwrap().len();
        assert_eq!(
            (shown["format"].as_str().unwrap(), rows.len(), users.len(), unknowns, &shown["unrecognised"]),
            (format, seats, people, unknown, &0.into()),
            "{name}: {shown}"
        );
    }
    // These tell which licenses there are: how many kinds, and how many that are counted.
    for (name, format, kinds, licenses) in [
        ("license-file/example.lic", "license-file", 6, 41),
        ("license-file/packages.lic", "license-file", 5, 64),
        ("citrix/citrixsource-2009.lic", "license-file", 1, 25),
        ("citrix/helgeklein-2008.lic", "license-file", 1, 5),
        ("citrix/thincomputing.lic", "license-file", 1, 5),
        ("lmstat/lmstat-i-expires-first.txt", "lmstat", 17, 1015),
        ("lmstat/features.txt", "lmstat", 5, 13),
        ("others/lmx-licstat-text.txt", "lmx-text", 7, 2_000_006),
        ("others/olicense.txt", "olicense", 2, 4),
        ("rlm/rlmstat-in-use.txt", "rlmstat", 5, 1092),
        ("others/dsls.txt", "dsls", 10, 6397),
    ] {
        let shown = tried(&corpus.join(name));
        let rows = shown["licenses"].as_array().unwrap();
        let counted: u64 = rows.iter().filter_map(|row| row["licenses"].as_u64()).sum();
        assert_eq!(
            (shown["format"].as_str().unwrap(), rows.len(), counted, &shown["unrecognised"]),
            (format, kinds, licenses, &0.into()),
            "{name}: {shown}"
        );
    }
    // These tell of no seats, and what to do.
    for (name, said) in [
        ("lmstat/not-lmstat.txt", "Cannot connect to license server"),
        ("lmstat/citrix-head.txt", "run lmstat with -a"),
        ("lmstat/version-new.txt", "run lmstat with -a"),
        ("lmstat/version-old.txt", "run lmstat with -a"),
    ] {
        let path = corpus.join(name);
        let output = command("seatmeter-agent").arg("try-source").arg(path).output().unwrap();
        assert_eq!((output.status.code(), text(&output.stderr).contains(said)), (Some(1), true), "{name}: {output:?}");
    }
}
