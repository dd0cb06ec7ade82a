//! Fault 59: a license server without a network: what its agent exports is carried, in any order, any number of times, damaged, to the
//! wrong place, or not at all.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use seatmeter_tests::enrolled::{SERVER, append, enrol, enrolling, enrolments, invite, log};
use seatmeter_tests::process::text;
use seatmeter_tests::{Agent, TestCluster, wait_until};
use serde_json::Value;

/// An agent without a network, which has read its log.
fn offline(cluster: &TestCluster, folder: &str, log: &Path) -> Agent {
    let line = invite(cluster, &["--server", SERVER, "--offline"]);
    let (mut agent, enrolled) = enrol(cluster, folder, &line, log, &["--name", "whatever"]);
    assert!(enrolled.status.success(), "{}{}", text(&enrolled.stdout), text(&enrolled.stderr));
    agent.start();
    read_all(&agent, log);
    agent
}

/// Waits until an agent has all of a log in its buffer.
fn read_all(agent: &Agent, log: &Path) {
    let size = fs::metadata(log).unwrap().len();
    wait_until("the log is read", || agent.inspect()["rows"][0]["position"].as_u64() == Some(size));
}

fn waiting(agent: &Agent) -> usize {
    agent.inspect()["batches"].as_array().unwrap().len()
}

fn export(agent: &Agent, path: &Path) {
    let done = agent.command(&["export", path.to_str().unwrap()]);
    assert!(done.status.success(), "{}", text(&done.stderr));
}

fn import(cluster: &TestCluster, path: &Path) -> Output {
    cluster.seatmeter(&["import", path.to_str().unwrap(), "--output", "json"])
}

/// Imports an export. Returns what is told of it.
fn imported(cluster: &TestCluster, path: &Path) -> Value {
    let done = import(cluster, path);
    assert!(matches!(done.status.code(), Some(0 | 3)), "{}", text(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

fn refused(cluster: &TestCluster, path: &Path) -> String {
    let done = import(cluster, path);
    assert_eq!(done.status.code(), Some(2), "{}{}", text(&done.stdout), text(&done.stderr));
    text(&done.stderr)
}

fn answer_of(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}.answer", path.display()))
}

fn acknowledge(agent: &Agent, path: &Path) -> Output {
    agent.command(&["acknowledge", path.to_str().unwrap()])
}

/// Whatever is carried in whatever order and however often, the figures are those of the log.
#[test]
fn fault_59_exports_count_once_in_any_order() {
    let mut cluster = enrolling("1h");
    let (log, truth) = log(&cluster);
    let mut agent = offline(&cluster, "agent", &log);
    let files: Vec<PathBuf> = (1..=4).map(|number| cluster.path(&format!("export{number}"))).collect();
    export(&agent, &files[0]);
    export(&agent, &files[1]);
    let there = agent.command(&["export", files[1].to_str().unwrap()]);
    assert!(text(&there.stderr).contains("is there already"), "{}", text(&there.stderr));
    assert!(enrolments(&cluster).is_empty(), "nobody has carried anything yet");
    // The second one first.
    let second = imported(&cluster, &files[1]);
    assert_eq!((&second["number"], &second["missing_exports"]), (&2.into(), &serde_json::json!([1])));
    assert_eq!(second["new_batches"], second["batches"]);
    cluster.wait_for_activity(SERVER, &truth);
    let first = imported(&cluster, &files[0]);
    assert_eq!((&first["new_batches"], &first["refused_batches"]), (&0.into(), &0.into()));
    // Carried back, twice.
    for _ in 0..2 {
        let handed = acknowledge(&agent, &answer_of(&files[1]));
        assert!(handed.status.success(), "{}", text(&handed.stderr));
        wait_until("the buffer is free", || waiting(&agent) == 0);
    }
    // Both sides are killed; what comes next counts, too.
    agent.kill();
    cluster.kill_aggregator();
    cluster.start_aggregator();
    append(&log, "23:59:59 (vend) OUT: \"late\" late@pc\n");
    agent.start();
    read_all(&agent, &log);
    export(&agent, &files[2]);
    for _ in 0..3 {
        imported(&cluster, &files[2]);
        imported(&cluster, &files[0]);
    }
    wait_until("it counts", || cluster.activity(SERVER).contains("late"));
    let rows = enrolments(&cluster);
    assert_eq!((rows.len(), &rows[0]["status"], &rows[0]["certificate_ends"]), (1, &"ok".into(), &Value::Null));
    let shown = text(&agent.command(&["status"]).stdout);
    assert!(shown.contains("no network"), "{shown}");
    // An aggregator that has lost what it had says what it lacks, and gets it with the export after the next.
    assert!(acknowledge(&agent, &answer_of(&files[2])).status.success());
    wait_until("the buffer is free", || waiting(&agent) == 0);
    let known = cluster.activity(SERVER);
    cluster.kill_aggregator();
    for name in ["aggregator.db", "facts.db"] {
        for end in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(cluster.path("aggregator").join(format!("{name}{end}")));
        }
    }
    cluster.start_aggregator();
    append(&log, "23:59:59 (vend) OUT: \"later\" late@pc\n");
    read_all(&agent, &log);
    export(&agent, &files[3]);
    let lacking = imported(&cluster, &files[3]);
    assert_ne!(lacking["refused_batches"], 0, "{lacking}");
    assert!(acknowledge(&agent, &answer_of(&files[3])).status.success());
    wait_until("what is lacking waits again", || waiting(&agent) > 1);
    let last = cluster.path("export5");
    export(&agent, &last);
    assert_eq!(imported(&cluster, &last)["refused_batches"], 0);
    wait_until("all of it counts", || {
        let figures = cluster.activity(SERVER);
        figures.contains("later") && known.lines().all(|line| figures.contains(line))
    });
}

/// What was altered, cut, is something else, or is somebody else's, is refused with a reason, and changes nothing.
#[test]
fn fault_59_what_is_not_whole_or_not_ones_own_is_refused() {
    let cluster = enrolling("1h");
    let (log, truth) = log(&cluster);
    let agent = offline(&cluster, "agent", &log);
    let (good, bad) = (cluster.path("good"), cluster.path("bad"));
    export(&agent, &good);
    let whole = fs::read(&good).unwrap();
    for at in [25, 60, whole.len() / 2, whole.len() - 1] {
        let mut altered = whole.clone();
        altered[at] ^= 1;
        fs::write(&bad, altered).unwrap();
        assert!(refused(&cluster, &bad).contains("cut or altered"), "{at}");
        fs::write(&bad, &whole[..at]).unwrap();
        assert!(refused(&cluster, &bad).contains("cut or altered"), "{at}");
    }
    fs::write(&bad, [&whole[..], b"x"].concat()).unwrap();
    assert!(refused(&cluster, &bad).contains("cut or altered"));
    fs::copy(&log, &bad).unwrap();
    assert!(refused(&cluster, &bad).contains("no export"));
    fs::write(&bad, "").unwrap();
    assert!(text(&import(&cluster, &bad).stderr).contains("is empty"));
    // Who finds a copy of the invitation, once it is used.
    assert!(enrolments(&cluster).is_empty());
    imported(&cluster, &good);
    cluster.wait_for_activity(SERVER, &truth);
    let thief = cluster.agent_in("thief", SERVER, &[], "");
    fs::create_dir_all(thief.state().join("identity")).unwrap();
    for name in ["buffer.db", "agent-id", "identity/secret"] {
        fs::copy(agent.state().join(name), thief.state().join(name)).unwrap();
    }
    let second = offline(&cluster, "second", &log);
    fs::copy(second.state().join("identity/next.key"), thief.state().join("identity/next.key")).unwrap();
    let configured = fs::read_to_string(&agent.config).unwrap();
    let own = configured.replace(agent.state().to_str().unwrap(), thief.state().to_str().unwrap());
    fs::write(&thief.config, own).unwrap();
    let stolen = cluster.path("stolen");
    export(&thief, &stolen);
    let told = import(&cluster, &stolen);
    assert!(text(&told.stderr).contains("has been used"), "{}", text(&told.stderr));
    // Another aggregator opens nothing, and its answers free nothing.
    let other = enrolling("1h");
    assert!(refused(&other, &good).contains("for another aggregator"));
    let foreign = offline(&other, "agent", &log);
    let theirs = other.path("theirs");
    export(&foreign, &theirs);
    imported(&other, &theirs);
    let before = waiting(&agent);
    assert!(before > 0);
    let handed = acknowledge(&agent, &answer_of(&theirs));
    assert!(text(&handed.stderr).contains("another aggregator"), "{}", text(&handed.stderr));
    let handed = acknowledge(&agent, &good);
    assert!(!handed.status.success(), "an export is no answer");
    let mut altered = fs::read(answer_of(&good)).unwrap();
    let at = altered.len() / 2;
    altered[at] ^= 1;
    fs::write(&bad, altered).unwrap();
    assert!(!acknowledge(&agent, &bad).status.success());
    assert_eq!(waiting(&agent), before);
    // Revoked, it is refused.
    let id = enrolments(&cluster)[0]["enrolment"].as_str().unwrap().to_owned();
    assert!(cluster.seatmeter(&["agents", "revoke", &id]).status.success());
    let told = import(&cluster, &good);
    assert!(text(&told.stderr).contains("was revoked"), "{}", text(&told.stderr));
    assert_eq!(cluster.activity(SERVER), truth);
    let secret = fs::read_to_string(agent.state().join("identity/secret")).unwrap();
    for name in ["aggregator.err", "aggregator/health.log"] {
        assert!(!cluster.read(name).contains(&secret), "{name}");
    }
    let text_of = fs::read_to_string(&log).unwrap();
    let name = text_of.lines().find_map(|line| line.split("OUT: ").nth(1)?.split([' ', '@']).nth(1)).unwrap();
    let is_in = |bytes: &[u8]| bytes.windows(name.len()).any(|window| window == name.as_bytes());
    assert!(name.len() > 3 && is_in(text_of.as_bytes()) && !is_in(&whole), "{name} is readable in an export");
}

/// A batch that is damaged in the buffer holds up no other one, and is read again from the log.
#[test]
fn fault_59_a_damaged_batch_is_in_the_next_export() {
    let cluster = enrolling("1h");
    let (log, truth) = log(&cluster);
    let mut agent = offline(&cluster, "agent", &log);
    append(&log, "23:59:58 (vend) OUT: \"middle\" someone@pc\n");
    read_all(&agent, &log);
    append(&log, "23:59:59 (vend) OUT: \"last\" someone@pc\n");
    read_all(&agent, &log);
    agent.stop();
    let buffer = rusqlite::Connection::open(agent.state().join("buffer.db")).unwrap();
    let damage = "UPDATE batch SET body = zeroblob(length(body)) WHERE sequence = (SELECT min(sequence) FROM waiting)";
    assert_eq!(buffer.execute(damage, []).unwrap(), 1);
    drop(buffer);
    let files: Vec<PathBuf> = (1..=2).map(|number| cluster.path(&format!("export{number}"))).collect();
    let done = agent.command(&["export", files[0].to_str().unwrap()]);
    assert!(done.status.success() && text(&done.stdout).contains("1 batch in the buffer"), "{}", text(&done.stdout));
    imported(&cluster, &files[0]);
    agent.start();
    wait_until("it is known", || agent.has_said("batch_damaged"));
    read_all(&agent, &log);
    let is_whole = || {
        let _ = fs::remove_file(&files[1]);
        export(&agent, &files[1]);
        imported(&cluster, &files[1])["refused_batches"] == 0 && cluster.activity(SERVER).contains("last")
    };
    wait_until("all of it is there", is_whole);
    wait_until("all of it counts", || {
        let figures = cluster.activity(SERVER);
        figures.contains("middle") && truth.lines().all(|line| figures.contains(line))
    });
    cluster.assert_verified();
}

/// An aggregator that was set back says so in the next answer, even if nothing new is carried: the next export has it all again.
#[test]
fn fault_59_an_aggregator_that_was_set_back_gets_all_again() {
    let mut cluster = enrolling("1h");
    let (log, truth) = log(&cluster);
    let agent = offline(&cluster, "agent", &log);
    let files: Vec<PathBuf> = (1..=3).map(|number| cluster.path(&format!("export{number}"))).collect();
    let carried = |file: &Path| {
        export(&agent, file);
        let told = imported(&cluster, file);
        assert!(acknowledge(&agent, &answer_of(file)).status.success());
        wait_until("the answer is settled", || {
            agent.errors().matches("\"answer_settled\"").count() == told["number"].as_u64().unwrap() as usize
        });
        told
    };
    carried(&files[0]);
    cluster.wait_for_activity(SERVER, &truth);
    assert_eq!(waiting(&agent), 0);
    cluster.kill_aggregator();
    for name in ["aggregator.db", "facts.db"] {
        for end in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(cluster.path("aggregator").join(format!("{name}{end}")));
        }
    }
    cluster.start_aggregator();
    let carried = |file: &Path| {
        export(&agent, file);
        let told = imported(&cluster, file);
        assert!(acknowledge(&agent, &answer_of(file)).status.success());
        told
    };
    assert_eq!(carried(&files[1])["batches"], 0, "nothing is new");
    wait_until("it waits again", || waiting(&agent) > 0);
    assert!(agent.has_said("aggregator_restored"), "{}", agent.errors());
    carried(&files[2]);
    cluster.wait_for_activity(SERVER, &truth);
    wait_until("the buffer is free", || waiting(&agent) == 0);
}

/// An agent that was revoked is enrolled again by another invitation, as another agent; what it is known by is shown as of one that
/// reports.
#[test]
fn fault_59_a_revoked_agent_is_enrolled_again() {
    let cluster = enrolling("1h");
    let (log, truth) = log(&cluster);
    let mut agent = offline(&cluster, "agent", &log);
    let files: Vec<PathBuf> = (1..=3).map(|number| cluster.path(&format!("export{number}"))).collect();
    export(&agent, &files[0]);
    imported(&cluster, &files[0]);
    cluster.wait_for_activity(SERVER, &truth);
    wait_until("it says how it is", || agent.state().join("heartbeat").exists());
    export(&agent, &files[1]);
    imported(&cluster, &files[1]);
    let servers = cluster.ask(&["servers"]);
    // The log is followed, and its last line is of long ago.
    assert_eq!(servers["rows"][0]["state"], "late", "{servers}");
    assert_eq!(servers["rows"][0]["warnings"], serde_json::json!([]), "{servers}");
    let id = enrolments(&cluster)[0]["enrolment"].as_str().unwrap().to_owned();
    assert!(cluster.seatmeter(&["agents", "revoke", &id]).status.success());
    export(&agent, &files[2]);
    assert!(text(&import(&cluster, &files[2]).stderr).contains("was revoked"));
    agent.stop();
    let line = invite(&cluster, &["--server", SERVER, "--offline"]);
    let again = agent.command(&["enroll", &line, "--state", agent.state().to_str().unwrap()]);
    assert!(again.status.success(), "{}", text(&again.stderr));
    agent.start();
    fs::remove_file(&files[2]).unwrap();
    export(&agent, &files[2]);
    assert_eq!(imported(&cluster, &files[2])["refused_batches"], 0);
    assert_eq!(enrolments(&cluster).iter().filter(|row| row["status"] == "ok").count(), 1);
    assert_eq!(cluster.activity(SERVER), truth);
}
