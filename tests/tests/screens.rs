//! What people and programs see, by real processes: each test is a kind of mistake that a screen must not make.

use std::fs;
use std::os::unix::fs::symlink;

use seatmeter_tests::process::{command, scan, text};
use seatmeter_tests::{Agent, TestCluster, wait_until};
use serde_json::Value;

const FIRST: &str = " 8:00:00 (lmgrd) TIMESTAMP 1/5/2026\n 8:00:01 (d) OUT: \"Cad\" ann@pc1  \n 9:00:00 (d) IN: \"Cad\" ann@pc1  \n\
                     10:00:00 (lmgrd) TIMESTAMP 2/1/2026\n";
const SECOND: &str = " 8:00:00 (lmgrd) TIMESTAMP 1/6/2026\n 8:00:01 (d) OUT: \"Cad\" bob@pc2  \n 9:00:00 (d) IN: \"Cad\" bob@pc2  \n\
                      8:30:00 (d) OUT: \"Mould\" bob@pc2  \n";

/// Two license servers, of which the second's January is not complete.
fn two_servers() -> (TestCluster, Agent, Agent) {
    let cluster = TestCluster::running();
    let start = |name: &str, log: &str| {
        let path = cluster.path(&format!("{name}.log"));
        fs::write(&path, log).unwrap();
        let mut agent = cluster.agent(name, &[&path]);
        agent.start();
        agent
    };
    let (one, two) = (start("lic1", FIRST), start("lic2", SECOND));
    wait_until("both are counted", || cluster.ask(&["activity"])["rows"].as_array().unwrap().len() == 3);
    (cluster, one, two)
}

fn failure(cluster: &TestCluster, arguments: &[&str]) -> String {
    let output = cluster.seatmeter(arguments);
    // 2 where an argument is wrong, and 1 where there is nothing by that name.
    assert!(matches!(output.status.code(), Some(1 | 2)) && output.stdout.is_empty(), "{arguments:?}: {output:?}");
    text(&output.stderr)
}

fn table(cluster: &TestCluster, arguments: &[&str]) -> String {
    text(&cluster.seatmeter(arguments).stdout)
}

#[test]
fn a_name_that_does_not_exist_is_an_error_with_the_known_ones() {
    let (cluster, _one, _two) = two_servers();
    for arguments in [
        &["usage", "2026-01", "--server", "lic3"][..],
        &["users", "2026-01", "--server", "lic3"],
        &["trend", "--server", "lic3"],
        &["activity", "--server", "lic3"],
        &["servers", "lic3"],
        &["agents", "--server", "lic3"],
        &["unrecognised", "--server", "lic3"],
    ] {
        let error = failure(&cluster, arguments);
        assert!(error.contains("no license server \"lic3\"") && error.contains("lic1, lic2"), "{arguments:?}: {error}");
    }
    for arguments in
        [&["usage", "2026-01", "--sku", "x"][..], &["users", "2026-01", "--sku", "x"], &["trend", "--sku", "x"]]
    {
        let error = failure(&cluster, arguments);
        assert!(error.contains("no SKU \"x\"") && error.contains("Cad, Mould"), "{arguments:?}: {error}");
    }
    // Case makes no difference, for license servers nor for SKUs.
    let found = cluster.ask(&["usage", "2026-01", "--server", "LIC1", "--sku", "CAD"]);
    assert_eq!(found["rows"][0]["unique_users"], 1);
    // A column or a month that is none.
    assert!(failure(&cluster, &["usage", "2026-01", "--sort", "x"]).contains("the columns are month, sku"));
    assert!(failure(&cluster, &["usage", "2099-01"]).contains("has not begun"));
    assert!(failure(&cluster, &["trend", "--through", "2099-01"]).contains("has not begun"));
    assert!(failure(&cluster, &["trend", "--from", "2026-05", "--through", "2026-01"]).contains("--from: 2026-05"));
}

#[test]
fn a_filter_filters_everything() {
    let (cluster, _one, _two) = two_servers();
    let all = table(&cluster, &["usage", "2026-01"]);
    assert!(all.contains("Incomplete: lic2") && all.contains("any SKU"), "{all}");
    let one = table(&cluster, &["usage", "2026-01", "--server", "lic1"]);
    assert!(one.contains("lic1") && !one.contains("lic2") && !one.contains("Mould"), "{one}");
    let users = table(&cluster, &["users", "2026-01", "--server", "lic1"]);
    assert!(users.contains("ann") && !users.contains("bob") && !users.contains("lic2"), "{users}");
    let json = cluster.ask(&["usage", "2026-01", "--server", "lic1"]);
    assert_eq!(
        (&json["rows"][0]["license_server"], &json["completeness"]["license_servers"]),
        (&"lic1".into(), &1.into())
    );
    assert_eq!(json["total"]["unique_users"], 1);
    assert_eq!(cluster.ask(&["usage", "2026-01"])["total"]["unique_users"], 2);
}

#[test]
fn programs_get_envelopes_lists_and_nulls() {
    let (cluster, _one, _two) = two_servers();
    for arguments in [&["usage", "2026-01"][..], &["users", "2026-01"]] {
        let json = cluster.ask(arguments);
        for part in ["rows", "basis", "completeness"] {
            assert!(!json[part].is_null(), "{arguments:?} has no {part}");
        }
        let csv = table(&cluster, &[arguments, &["--output", "csv"]].concat());
        assert!(csv.lines().next().unwrap().ends_with(",complete"), "{csv}");
    }
    let users = cluster.ask(&["users", "2026-01"]);
    assert_eq!(
        (&users["rows"][1]["skus"], &users["rows"][0]["realm"]),
        (&serde_json::json!(["Cad", "Mould"]), &Value::Null)
    );
    assert_eq!(users["rows"][0]["first_used"], "2026-01-05T08:00:01Z");
    // A month without a report is unknown, and not zero.
    let trend = cluster.ask(&["trend", "--from", "2025-12", "--through", "2026-01", "--server", "lic1"]);
    assert_eq!((&trend["rows"][0]["unique_users"], &trend["rows"][1]["unique_users"]), (&Value::Null, &1.into()));
    let shown = table(&cluster, &["trend", "--from", "2025-12", "--through", "2026-01", "--server", "lic1"]);
    let row = shown.lines().find(|line| line.starts_with("Cad")).unwrap();
    assert_eq!(row.split_whitespace().collect::<Vec<_>>()[1..3], ["-", "1*"]);
    // The CSV of activity is that of a scan, byte for byte.
    let scanned = scan(&["--output", "csv", cluster.path("lic1.log").to_str().unwrap()]);
    assert_eq!(cluster.activity("lic1"), text(&scanned.stdout));
}

#[test]
fn tables_fit_and_their_notes_follow_them() {
    let (cluster, _one, _two) = two_servers();
    for arguments in [
        &["usage", "2026-01"][..],
        &["usage", "2026-01", "--by-server"],
        &["users", "2026-01"],
        &["trend", "--through", "2026-01"],
        &["servers"],
        &["agents"],
        &["activity"],
        &["unrecognised"],
    ] {
        let shown = table(&cluster, arguments);
        assert!(shown.contains("Time zone: UTC."), "{shown}");
        for line in shown.lines() {
            assert!(line.chars().count() <= 100 && line.trim_end() == line, "{arguments:?}: {line:?}");
        }
        assert!(!shown.contains('\u{1b}'), "no colours in a pipe: {shown}");
        let head = shown.lines().position(|line| line.starts_with('─')).unwrap();
        let note = shown.lines().position(|line| line.starts_with("Time zone")).unwrap();
        assert!(note > head);
    }
    let wide = table(&cluster, &["usage", "2026-01", "--wide"]);
    assert!(wide.contains("Denial lines") && wide.contains("In catalogue"), "{wide}");
    let chosen = table(&cluster, &["usage", "2026-01", "--columns", "sku,users", "--sort=-sku"]);
    assert_eq!(chosen.lines().nth(2).unwrap().split_whitespace().collect::<Vec<_>>(), ["Mould", "1"]);
}

#[test]
fn servers_says_what_does_not_report_and_why() {
    let cluster = TestCluster::running();
    let path = |name: &str| cluster.path(name);
    fs::write(path("old.log"), FIRST).unwrap();
    fs::write(path("empty.log"), "").unwrap();
    fs::write(path("users"), "root:x:0:0:root:/root:/bin/bash\n").unwrap();
    fs::create_dir(path("folder")).unwrap();
    let logs = ["old.log", "empty.log", "users", "folder", "missing.log"].map(path);
    let mut agent = cluster.agent("lic1", &logs.each_ref().map(|log| log.as_path()));
    agent.start();
    let status = |log: &str| {
        let servers = cluster.ask(&["servers"]);
        let row =
            servers["rows"].as_array().unwrap().iter().find(|row| row["log"] == path(log).to_str().unwrap()).cloned();
        row.map_or_else(String::new, |row| row["status"].as_str().unwrap().to_owned())
    };
    for (log, expected) in [
        ("old.log", "late since 2026-02-01 10:00"),
        ("empty.log", "never: the file is empty"),
        ("users", "not a license log (a list of user accounts)"),
        ("folder", "not a license log (not a file)"),
        ("missing.log", "cannot read: the file does not exist"),
    ] {
        wait_until(&format!("{log} is {expected}"), || status(log) == expected);
    }
    let shown = cluster.seatmeter(&["servers"]);
    assert_eq!(shown.status.code(), Some(3));
    let statuses: Vec<String> =
        text(&shown.stdout).lines().skip(2).take(1).map(|line| line.split("  ").next().unwrap().to_owned()).collect();
    assert!(statuses[0].starts_with("not a license"), "worst first: {statuses:?}");
    // The same is said where the agent is, and in completeness.
    let local = agent.command(&["status"]);
    assert_eq!(local.status.code(), Some(3));
    assert!(
        text(&local.stdout).contains("is not a license log but a list of user accounts"),
        "{}",
        text(&local.stdout)
    );
    let usage = table(&cluster, &["usage", "2026-01"]);
    let words: Vec<&str> = usage.split_whitespace().collect();
    assert!(words.join(" ").contains("not a license log (a list of user accounts)"), "{usage}");
    let check = agent.command(&["check-config"]);
    assert_eq!(check.status.code(), Some(3));
    assert!(text(&check.stdout).contains("empty; nothing to count yet"), "{}", text(&check.stdout));
    assert!(text(&check.stdout).contains(": reached"), "{}", text(&check.stdout));
    // An agent that was killed is silent after five minutes: here, its last word is moved back.
    agent.kill();
    let database = rusqlite::Connection::open(cluster.path("aggregator/aggregator.db")).unwrap();
    database.execute("UPDATE agent SET last_report = last_report - 301", []).unwrap();
    assert!(status("old.log").starts_with("silent since 2"), "{}", status("old.log"));
    let agents = cluster.seatmeter(&["agents"]);
    assert_eq!(agents.status.code(), Some(3), "{}", text(&agents.stdout));
    let problems = table(&cluster, &["servers", "--problems"]);
    assert!(problems.contains("Attention: 5 of 5 logs."), "{problems}");
}

#[test]
fn a_change_shows_in_status() {
    let cluster = TestCluster::running();
    let path = cluster.path("debug.log");
    fs::write(&path, FIRST).unwrap();
    let mut agent = cluster.agent("lic1", &[&path]);
    let state = |agent: &Agent| {
        let output = agent.command(&["status", "--json"]);
        let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        status["logs"][0]["state"].as_str().map(str::to_owned)
    };
    agent.start();
    wait_until("the log is followed", || state(&agent).as_deref() == Some("following"));
    wait_until("the agent is connected", || agent.has_said("uplink_up"));
    fs::rename(&path, cluster.path("elsewhere")).unwrap();
    // How soon it shows is for benchmarks.
    wait_until("the log is missing", || state(&agent).as_deref() == Some("missing"));
    let status: Value = serde_json::from_slice(&agent.command(&["status", "--json"]).stdout).unwrap();
    assert!(status["at"].as_str().unwrap().ends_with('Z') && status["uplink"]["state"] == "connected", "{status}");
    assert_eq!(status["logs"][0]["last_line_at"], "2026-02-01T10:00:00Z");
}

#[test]
fn a_wrong_file_is_named_for_what_it_is() {
    let cluster = TestCluster::new();
    let file = |name: &str, content: &[u8]| {
        let path = cluster.path(name);
        fs::write(&path, content).unwrap();
        path
    };
    for (path, what) in [
        (file("accounts", b"root:x:0:0:root:/root:/bin/bash\n"), "a list of user accounts"),
        (file("rlm", b"RLM Report Log Format 0, version 10.0\nIN 2 x\n"), "an RLM log"),
        (file("packed", b"\x1f\x9d\x90rest"), "packed with compress"),
        (file("7zip", b"7z\xbc\xafrest"), "packed with 7-Zip"),
        (file("lic", b"SERVER host ANY 27000\nVENDOR d\n"), "a license file"),
        ("/bin/ls".into(), "a program"),
    ] {
        let scanned = scan(&[path.to_str().unwrap()]);
        assert_eq!(scanned.status.code(), Some(3));
        let error = text(&scanned.stderr);
        assert!(error.contains(&format!("is not a license log but {what}")), "{error}");
    }
    let empty = scan(&[file("empty", b"").to_str().unwrap()]);
    assert!(empty.status.success() && text(&empty.stderr).contains("is empty"), "{}", text(&empty.stderr));
    // Lines that are not recognised: the worst are named with their numbers.
    let odd = file("odd.log", b" 8:00:00 (lmgrd) TIMESTAMP 1/5/2026\n 8:00:01 (d) FROBNICATE: \"f\" u@h\n");
    let odd = scan(&[odd.to_str().unwrap()]);
    assert_eq!(odd.status.code(), Some(3));
    assert!(text(&odd.stderr).contains("odd.log:2: "), "{}", text(&odd.stderr));
    // What stands before the damage is counted, and said to be.
    let many: String = (10..60).map(|second| format!(" 8:00:{second} (d) OUT: \"f\" u{second}@h\n")).collect();
    let packed = file("cut.log", format!(" 8:00:00 (lmgrd) TIMESTAMP 1/5/2026\n{many}").as_bytes());
    assert!(std::process::Command::new("gzip").arg(&packed).status().unwrap().success());
    let packed = cluster.path("cut.log.gz");
    let bytes = fs::read(&packed).unwrap();
    fs::write(&packed, &bytes[..bytes.len() - 9]).unwrap();
    let cut = scan(&[packed.to_str().unwrap(), "--output", "json"]);
    let said: Value = serde_json::from_slice(&cut.stdout).unwrap();
    assert_eq!((cut.status.code(), &said["complete"]), (Some(3), &Value::Bool(false)));
    assert_eq!(said["not_counted"].as_array().unwrap().len(), 0, "{said}");
    assert_eq!(said["counted_in_part"].as_array().unwrap().len(), 1, "{said}");
    assert!(said["lines"]["events"].as_u64().unwrap() > 0, "{said}");
    assert_eq!(said["rows"][0]["outs"], said["lines"]["events"]);
    // A link to a log is a log.
    let log = file("debug.log", FIRST.as_bytes());
    symlink(&log, cluster.path("link.log")).unwrap();
    assert!(scan(&[cluster.path("link.log").to_str().unwrap()]).status.success());
}

#[test]
fn configure_makes_paths_absolute_checks_logs_and_knows_its_own_file() {
    let cluster = TestCluster::running();
    fs::write(cluster.path("debug.log"), FIRST).unwrap();
    fs::write(cluster.path("notes.txt"), "hello\n").unwrap();
    let config = cluster.path("agent.toml");
    let configure = |arguments: &[&str]| {
        let mut program = command("seatmeter-agent");
        program.current_dir(cluster.folder.path()).args(["configure", "--config", config.to_str().unwrap()]);
        program.args(["--aggregator", &cluster.agents_url()]).args(arguments).output().unwrap()
    };
    let missing = configure(&["--log", "nowhere.log"]);
    assert!(text(&missing.stderr).contains("does not exist"), "{}", text(&missing.stderr));
    let wrong = configure(&["--log", "notes.txt"]);
    assert!(text(&wrong.stderr).contains("not a license log"), "{}", text(&wrong.stderr));
    assert!(!config.exists());
    let more = ["--state", "state", "--realm", "site", "--time-zone", "Europe/Berlin", "--name", "lic1"];
    for _ in 0..2 {
        let made = configure(&[&["--log", "debug.log"][..], &more].concat());
        assert!(made.status.success(), "{}", text(&made.stderr));
    }
    let written = fs::read_to_string(&config).unwrap();
    assert!(written.contains(cluster.path("debug.log").to_str().unwrap()), "{written}");
    assert!(
        written.contains(cluster.path("state").to_str().unwrap()) && written.contains("realm = \"site\""),
        "{written}"
    );
    fs::write(&config, written.replace("site", "other")).unwrap();
    let edited = configure(&["--log", "debug.log"]);
    assert!(text(&edited.stderr).contains("was edited"), "{}", text(&edited.stderr));
    // What is wrong is not written over what is right.
    let unknown = configure(&["--log", "debug.log", "--force", "--time-zone", "Berlin"]);
    assert!(text(&unknown.stderr).contains("IANA"), "{}", text(&unknown.stderr));
    assert!(fs::read_to_string(&config).unwrap().contains("other"));
}

#[test]
fn errors_name_the_remedy_and_no_library() {
    let cluster = TestCluster::running();
    let agents = format!("http://127.0.0.1:{}", cluster.listening().unwrap().agents);
    let wrong_port = cluster.seatmeter(&["--aggregator", &agents, "usage"]);
    assert!(text(&wrong_port.stderr).contains("this is the port for agents"), "{}", text(&wrong_port.stderr));
    let path = cluster.path("debug.log");
    fs::write(&path, FIRST).unwrap();
    let agent = cluster.agent("lic1", &[&path]);
    let operators = cluster.listening().unwrap().operators;
    agent.configure(&format!(":{}", cluster.agents_port()), &format!(":{operators}"));
    let check = agent.command(&["check-config"]);
    assert!(text(&check.stdout).contains("this is the port for operators"), "{}", text(&check.stdout));
    let offline = agent.command(&["check-config", "--offline"]);
    assert!(offline.status.success() && text(&offline.stdout).contains("not tried"), "{}", text(&offline.stdout));
    let config = |from: &str, to: &str| {
        let text_before = fs::read_to_string(&agent.config).unwrap();
        agent.configure(from, to);
        let refused = agent.command(&["check-config"]);
        fs::write(&agent.config, text_before).unwrap();
        assert_eq!(refused.status.code(), Some(1));
        text(&refused.stderr)
    };
    assert!(config("[[source]]", "[source]").contains("write [[source]]"));
    assert!(config("[[source]]", "[[log]]").contains("is [[source]] now"));
    assert!(config("path = \"", "path = \"C:\\temp\\").contains("single quotes"));
    assert!(config("url = \"http://", "certificate = \"x\"\nurl = \"http://").contains("`key` is not"));
    let url = format!("url = \"http://127.0.0.1:{operators}\"");
    assert!(config(&url, "url = \"https://127.0.0.1:1\"").contains("set `authority`"));
    assert!(config("[[source]]\nkind = \"file\"\n", "[[source]]\nkind = \"tape\"\n").contains("file"));
    // A buffer that there is none of, and nothing that says the same thing twice.
    let inspect = agent.command(&["inspect"]);
    assert!(text(&inspect.stderr).contains("there is no buffer yet"), "{}", text(&inspect.stderr));
    let status = agent.command(&["status"]);
    assert!(text(&status.stderr).contains("has not run with this configuration"), "{}", text(&status.stderr));
    for shown in [&check, &inspect, &status, &wrong_port] {
        let shown = text(&shown.stderr) + &text(&shown.stdout);
        for library in ["h2", "hyper", "Status {", "Unknown error", "os error"] {
            assert!(!shown.contains(library), "{shown}");
        }
    }
}

#[test]
fn the_aggregator_says_whether_it_runs() {
    let mut cluster = TestCluster::running();
    let status = cluster.aggregator_command_with(&["status", "--json"]);
    let json: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!((json["running"].as_bool(), status.status.code()), (Some(true), Some(0)));
    assert_eq!(json["agents"].as_str().unwrap(), format!("127.0.0.1:{}", cluster.listening().unwrap().agents));
    cluster.stop_aggregator();
    let status = cluster.aggregator_command("status");
    assert!(
        text(&status.stdout).contains("not running") && status.status.code() == Some(3),
        "{}",
        text(&status.stdout)
    );
    let check = cluster.aggregator_command("check-config");
    assert!(check.status.success() && text(&check.stdout).contains("plain text"), "{}", text(&check.stdout));
}

#[test]
fn every_program_explains_itself() {
    for program in ["seatmeter", "seatmeter-agent", "seatmeter-aggregator"] {
        let run = |arguments: &[&str]| command(program).args(arguments).output().unwrap();
        assert!(text(&run(&["--version"]).stdout).starts_with(&format!("{program} 0.1.0 (")));
        assert!(text(&run(&["generate", "bash"]).stdout).contains("complete -F"));
        assert!(text(&run(&["generate", "man"]).stdout).contains(".TH"));
        let folder = tempfile::tempdir().unwrap();
        assert!(run(&["generate", "--folder", folder.path().to_str().unwrap()]).status.success());
        assert!(
            folder.path().join(format!("{program}.1")).exists() && folder.path().join(format!("_{program}")).exists()
        );
        let help = text(&run(&["--help"]).stdout);
        assert!(help.contains("Examples:") && help.contains("Exit codes:"), "{help}");
    }
    let words = text(&command("seatmeter").args(["help", "words"]).output().unwrap().stdout);
    assert!(words.contains("vendor daemon"), "{words}");
    let usage = text(&command("seatmeter").args(["usage", "--help"]).output().unwrap().stdout);
    assert!(usage.contains("Connection:") && usage.contains("Output:") && usage.contains("--watch"), "{usage}");
}

/// What a spreadsheet or a terminal would run is harmless, and arguments that are wrong end with their own code.
#[test]
fn foreign_names_and_wrong_arguments_do_no_harm() {
    let cluster = TestCluster::running();
    let (path, other) = (cluster.path("debug.log"), cluster.path("other.log"));
    let users = ["=cmd()", "+1", "ann"].map(|user| format!("10:00:01 (d) OUT: \"f\" {user}@h  \n")).concat();
    fs::write(&path, format!("10:00:00 (lmgrd) TIMESTAMP 2/1/2026\n{users}11:00:00 (d) IN: \"f\" ann@h  \n")).unwrap();
    fs::write(&other, "10:00:00 (lmgrd) TIMESTAMP 2/2/2026\n10:00:01 (d) OUT: \"g\" bob@h  \n").unwrap();
    let mut agent = cluster.agent("lic1", &[&path, &other]);
    agent.start();
    cluster.wait_for_activity(
        "lic1",
        "month,daemon,feature,users_checked_out,users_held,outs,ins,denials\n2026-02,d,f,3,3,3,1,0\n2026-02,d,g,1,1,1,0,0\n",
    );
    let csv = |arguments: &[&str]| {
        let asked = ["users", "2026-02", "--columns", "person", "--output", "csv"];
        text(&cluster.seatmeter(&[&asked[..], arguments].concat()).stdout)
    };
    assert_eq!(csv(&["--sku", "f"]), "person\n'+1\n'=cmd()\nann\n");
    assert_eq!(csv(&["--sku", "f", "--raw"]), "person\n+1\n=cmd()\nann\n");
    // The order comes before the limit.
    assert_eq!(csv(&["--limit", "1", "--sort=-person"]), "person\nbob\n");
    let code = |arguments: &[&str]| cluster.seatmeter(arguments).status.code();
    assert_eq!(code(&["usage", "--columns", "nothing"]), Some(2));
    assert_eq!(code(&["usage", "2026-13"]), Some(2));
    assert_eq!(code(&["--aggregator", "nowhere", "usage"]), Some(2));
    // Each log has its own figures.
    let rows = cluster.ask(&["servers"])["rows"].clone();
    let events = |name: &str| {
        let mut rows = rows.as_array().unwrap().iter();
        rows.find(|row| row["log"].as_str().unwrap().ends_with(name)).unwrap()["events"].clone()
    };
    assert_eq!((events("debug.log"), events("other.log")), (4.into(), 1.into()));
    // A log that is configured twice is found before it is started.
    fs::copy(&agent.config, cluster.path("twice.toml")).unwrap();
    std::os::unix::fs::symlink(&path, cluster.path("link.log")).unwrap();
    let twice = fs::read_to_string(&agent.config).unwrap();
    fs::write(&agent.config, format!("{twice}\n[[source]]\npath = {:?}\n", cluster.path("link.log"))).unwrap();
    let check = agent.command(&["check-config"]);
    assert_eq!(check.status.code(), Some(3));
    assert!(text(&check.stdout).contains("the same file as"), "{}", text(&check.stdout));
    fs::copy(cluster.path("twice.toml"), &agent.config).unwrap();
}

/// A closed terminal stops the programs as a manager of services does.
#[test]
fn a_closed_terminal_ends_the_programs_cleanly() {
    let cluster = TestCluster::running();
    let path = cluster.path("debug.log");
    fs::write(&path, FIRST).unwrap();
    let mut agent = cluster.agent("lic1", &[&path]);
    agent.start();
    wait_until("the agent is connected", || agent.has_said("uplink_up"));
    agent.hang_up();
    assert!(agent.has_said("stopped"), "{}", agent.errors());
}

/// A log that lives does not make up for one that has ended.
#[test]
fn one_live_log_hides_no_dead_one() {
    let cluster = TestCluster::running();
    let (live, dead) = (cluster.path("live.log"), cluster.path("dead.log"));
    let day = |date: &str, user: &str| {
        format!(
            " 8:00:00 (lmgrd) TIMESTAMP {date}\n 8:00:01 (d) OUT: \"f\" {user}@h  \n 9:00:00 (d) IN: \"f\" {user}@h  \n"
        )
    };
    fs::write(&live, [day("12/31/2025", "ann"), day("1/15/2026", "ann"), day("3/2/2026", "ann")].concat()).unwrap();
    fs::write(&dead, [day("12/30/2025", "bob"), day("1/3/2026", "bob")].concat()).unwrap();
    let mut agent = cluster.agent("lic1", &[&live, &dead]);
    agent.start();
    wait_until("both are read", || cluster.ask(&["usage", "2026-01"])["rows"][0]["unique_users"] == 2);
    wait_until("both are followed", || cluster.ask(&["servers"])["rows"].as_array().unwrap().len() == 2);
    let completeness = cluster.ask(&["usage", "2026-02"])["completeness"].clone();
    assert_eq!(completeness["complete"], false, "{completeness}");
    let reasons = completeness["incomplete"][0]["reasons"].to_string();
    assert!(reasons.contains("dead.log: 2026-01-03") && !reasons.contains("live.log"), "{reasons}");
    // Before it ended, nothing was missing.
    let december = cluster.ask(&["usage", "2025-12"])["completeness"]["incomplete"].to_string();
    assert!(!december.contains("last line read"), "{december}");
    // A log that is no longer configured blocks nobody.
    agent.configure(&format!("[[source]]\nkind = \"file\"\npath = {dead:?}\ntime_zone = \"UTC\"\n"), "");
    agent.stop();
    agent.start();
    wait_until("the month is complete", || cluster.ask(&["usage", "2026-02"])["completeness"]["complete"] == true);
}
