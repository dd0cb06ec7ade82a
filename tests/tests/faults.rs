//! The faults of the field, each with its number: what must hold, holds.

use std::fs;
use std::io::Write;
use std::path::Path;

use seatmeter_tests::disk::{SmallDisk, has_strace};
use seatmeter_tests::process::{scan, text};
use seatmeter_tests::proxy::{Network, Proxy};
use seatmeter_tests::{Agent, Scenario, TestCluster, wait_until};
use xtask::sim::{Plan, Server, truth};

fn append(path: &Path, bytes: &[u8]) {
    fs::File::options().create(true).append(true).open(path).unwrap().write_all(bytes).unwrap();
}

fn simulated(seed: u64, lines: u64) -> (Vec<u8>, String) {
    simulated_of(seed, lines, 200)
}

fn simulated_of(seed: u64, lines: u64, users: u32) -> (Vec<u8>, String) {
    let mut server = Server::new(Plan { seed, users, features: 4, seconds_a_line: 30.0, ..Plan::default() });
    let mut log = Vec::new();
    server.start(&mut log);
    while server.lines() < lines {
        server.step(&mut log);
    }
    (log, truth::as_csv(&server.figures()))
}

/// What a round of [`killed_at_every_write_and_sync`] works with.
struct Round<'a> {
    agent: &'a mut Agent,
    /// Kills what it starts at one of its system calls.
    strace: &'a [&'a str],
    /// Whether all of the round's log is counted.
    is_counted: &'a dyn Fn(&TestCluster) -> bool,
}

/// Many rounds, each with a license server of its own; `round` says whether the program in question was killed, and has
/// started it again. In the end everything is counted, once.
fn killed_at_every_write_and_sync(
    seed: u64,
    mut cluster: TestCluster,
    mut round: impl FnMut(&mut TestCluster, Round<'_>) -> bool,
) {
    let (log, expected) = simulated(seed, 400);
    let mut kills = 0;
    for call in ["pwrite64", "fdatasync"] {
        for number in 1..=12 {
            let name = format!("{call}{number}");
            let path = cluster.path(&format!("{name}.log"));
            fs::write(&path, &log).unwrap();
            let mut agent = cluster.agent(&name, &[&path]);
            let trace = format!("trace={call}");
            let inject = format!("inject={call}:signal=KILL:when={}", number * 2);
            let strace = ["strace", "-f", "-o", "/dev/null", "-e", &trace, "-e", &inject];
            let is_counted = |cluster: &TestCluster| cluster.activity(&name) == expected;
            let is_killed = round(&mut cluster, Round { agent: &mut agent, strace: &strace, is_counted: &is_counted });
            kills += u32::from(is_killed);
            cluster.wait_for_activity(&name, &expected);
        }
    }
    println!("{kills} kills at a system call");
    assert!(kills > 8, "only {kills} kills happened");
    cluster.assert_verified();
}

#[test]
fn fault_01_the_agent_killed_at_every_write_and_sync() {
    if !has_strace() {
        return;
    }
    killed_at_every_write_and_sync(11, TestCluster::running(), |cluster, Round { agent, strace, is_counted }| {
        agent.start_with(strace);
        let mut is_killed = false;
        wait_until("the agent is killed, or has delivered", || {
            is_killed = agent.has_ended();
            is_killed || is_counted(cluster)
        });
        if !is_killed {
            agent.kill_all();
        }
        agent.start();
        is_killed
    });
}

#[test]
fn fault_01_the_aggregator_killed_at_every_write_and_sync() {
    if !has_strace() {
        return;
    }
    killed_at_every_write_and_sync(15, TestCluster::running(), |cluster, Round { agent, strace, is_counted }| {
        cluster.stop_aggregator();
        agent.start();
        cluster.start_aggregator_with(strace);
        let mut is_killed = false;
        wait_until("the aggregator is killed, or has counted", || {
            is_killed = cluster.aggregator_has_ended();
            is_killed || is_counted(cluster)
        });
        if !is_killed {
            cluster.kill_aggregator_and_wrapper();
        }
        cluster.start_aggregator();
        is_killed
    });
}

#[test]
fn fault_03_a_failing_fsync_acknowledges_nothing() {
    if !has_strace() {
        return;
    }
    let cluster = TestCluster::running();
    let (log, expected) = simulated(12, 400);
    let path = cluster.path("debug.log");
    fs::write(&path, &log).unwrap();
    let mut agent = cluster.agent("LIC01", &[&path]);
    let inject = "inject=fdatasync,fsync:error=EIO:when=6..9";
    agent.start_with(&["strace", "-f", "-o", "/dev/null", "-e", "trace=fdatasync,fsync", "-e", inject]);
    cluster.wait_for_activity("LIC01", &expected);
    agent.kill_all();
    cluster.assert_verified();
}

#[test]
fn fault_04_a_full_disk_loses_nothing() {
    let mut cluster = TestCluster::running();
    let Some(disk) = SmallDisk::mount(&cluster.path("LIC01.agent/state"), "4m") else { return };
    let (log, expected) = simulated_of(13, 300_000, 20_000);
    let path = cluster.path("debug.log");
    let mut agent = cluster.agent("LIC01", &[&path]);
    // Starts on a full disk, ...
    let full = disk.fill();
    fs::write(&path, &log).unwrap();
    agent.start();
    wait_until("the agent says that its disk is full", || agent.has_said("state_unavailable"));
    drop(full);
    // ... and fills it while the aggregator is away.
    cluster.kill_aggregator();
    wait_until("the agent says that its disk is full while it runs", || agent.has_said("buffer_full"));
    // It says so once, not with each try: the health log is on the same disk.
    seatmeter_tests::process::sleep(std::time::Duration::from_secs(4));
    assert_eq!(agent.errors().matches("\"buffer_full\"").count(), 1, "{}", agent.errors());
    cluster.start_aggregator();
    cluster.wait_for_activity("LIC01", &expected);
    cluster.assert_verified();
    agent.stop();
}

#[test]
fn fault_05_a_full_disk_of_the_aggregator_loses_nothing() {
    let mut cluster = TestCluster::new();
    let Some(disk) = SmallDisk::mount(&cluster.path("aggregator"), "64m") else { return };
    cluster.start_aggregator();
    let (log, expected) = simulated_of(16, 300_000, 20_000);
    let path = cluster.path("debug.log");
    fs::write(&path, &log).unwrap();
    let full = disk.fill();
    let mut agent = cluster.agent("LIC01", &[&path]);
    agent.start();
    wait_until("the agent says that nothing is taken", || agent.has_said("uplink_down"));
    assert!(cluster.activity("LIC01").lines().count() <= 1, "nothing is counted yet");
    drop(full);
    cluster.wait_for_activity("LIC01", &expected);
    cluster.assert_verified();
    // Before the disk is unmounted.
    cluster.stop_aggregator();
}

#[test]
fn fault_04_a_used_up_quota_stops_reading_and_says_so() {
    let mut cluster = TestCluster::running();
    let (log, expected) = simulated_of(14, 300_000, 20_000);
    let path = cluster.path("debug.log");
    fs::write(&path, &log).unwrap();
    let mut agent = cluster.agent_in("agent", "LIC01", &[&path], "buffer = { quota_mib = 1 }");
    cluster.kill_aggregator();
    agent.start();
    wait_until("the agent says that its buffer is full", || agent.has_said("buffer_full"));
    cluster.start_aggregator();
    cluster.wait_for_activity("LIC01", &expected);
}

#[test]
fn fault_08_lines_of_every_kind() {
    let cluster = TestCluster::running();
    let path = cluster.path("debug.log");
    let mut agent = cluster.agent("LIC01", &[&path]);
    append(&path, "\u{feff} 8:00:00 (lmgrd) FlexNet Licensing (v11.19) started on S (linux) (1/5/2026)\r\n".as_bytes());
    agent.start();
    append(&path, b" 8:00:01 (d) OUT: \"f\" M\xaa Luz@PC  \n 8:00:02 (d) OUT: \"f\" jo@P");
    wait_until("the first line is counted", || cluster.activity("LIC01").contains(",1,1,1,0,0"));
    append(&path, b"C2  \r\n");
    append(&path, &vec![b'x'; 100 << 20]);
    append(&path, b"\n\0\0\0\0\0\0 8:00:03 (d) IN: \"f\" jo@PC2  \n\n\n");
    append(&path, b" 8:00:04 (d) OUT: \"f\" last@PC3  ");
    // The last line has no line feed: it counts when the file does not grow for a while, ...
    let header = "month,daemon,feature,users_checked_out,users_held,outs,ins,denials\n";
    cluster.wait_for_activity("LIC01", &format!("{header}2026-01,d,f,3,3,3,1,0\n"));
    // ... and is taken back where it grows after all.
    append(&path, b"(2 licenses) \n 8:00:05 (d) IN: \"f\" last@PC3  (2 licenses) \n");
    cluster.wait_for_activity("LIC01", &format!("{header}2026-01,d,f,3,3,3,2,0\n"));
    let unrecognised = || cluster.ask(&["servers"])["rows"][0]["unrecognised_lines"].clone();
    assert_eq!(unrecognised(), 1);
    // A half line that means nothing yet counts as such for as long as it is one.
    append(&path, b" 8:00:06 (d) OUT: \"f\"");
    wait_until("the half line is not recognised", || unrecognised() == 2);
    append(&path, b" late@PC4  \n");
    cluster.wait_for_activity("LIC01", &format!("{header}2026-01,d,f,4,4,4,2,0\n"));
    assert_eq!(unrecognised(), 1);
    cluster.assert_verified();
}

#[test]
fn fault_11_a_partition_holds_up_delivery_and_nothing_else() {
    let mut scenario = Scenario::new(15);
    let proxy = Proxy::to(scenario.cluster.agents_port());
    scenario.agent.kill();
    scenario.agent.configure(&scenario.cluster.agents_url(), &format!("http://127.0.0.1:{}", proxy.port));
    scenario.agent.start();
    scenario.write(5_000);
    wait_until("something is delivered", || proxy.carried() > 10_000);
    proxy.set(Network::Down);
    scenario.write(20_000);
    wait_until("the agent says that it cannot deliver", || scenario.agent.has_said("uplink_down"));
    proxy.set(Network::Up);
    scenario.write(1_000);
    scenario.assert_truth();
}

#[test]
fn fault_13_a_response_lost_after_the_commit_doubles_nothing() {
    let mut scenario = Scenario::new(16);
    let proxy = Proxy::to(scenario.cluster.agents_port());
    scenario.agent.kill();
    scenario.agent.configure(&scenario.cluster.agents_url(), &format!("http://127.0.0.1:{}", proxy.port));
    let connections = |scenario: &Scenario| scenario.agent.errors().matches("uplink_up").count();
    let before = connections(&scenario);
    scenario.agent.start();
    wait_until("the agent is connected through the proxy", || connections(&scenario) > before);
    for _ in 0..3 {
        let before = connections(&scenario);
        let faults = scenario.agent.errors().matches("uplink_down").count();
        proxy.set(Network::OneWay);
        scenario.write(3_000);
        // The aggregator has it, and the agent does not know.
        let expected = scenario.truth();
        scenario.cluster.wait_for_activity("LIC01", &expected);
        proxy.set(Network::Down);
        wait_until("the agent has noticed", || scenario.agent.errors().matches("uplink_down").count() > faults);
        proxy.set(Network::Up);
        wait_until("the agent is connected again", || connections(&scenario) > before);
    }
    scenario.write(100);
    scenario.assert_truth();
}

#[test]
fn fault_15_a_damaged_buffer_is_set_aside_and_the_log_read_anew() {
    let seed = 17;
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut cluster = TestCluster::running();
    let (log, expected) = simulated(seed, 5_000);
    for case in 0..12 {
        let name = format!("LIC{case}");
        let path = cluster.path(&format!("{name}.log"));
        fs::write(&path, &log[..log.len() / 2]).unwrap();
        let mut agent = cluster.agent(&name, &[&path]);
        agent.start();
        wait_until("something is counted", || cluster.activity(&name).lines().count() > 1);
        if case % 2 == 0 {
            // Batches wait in the buffer that is damaged.
            cluster.kill_aggregator();
            append(&path, &log[log.len() / 2..log.len() * 3 / 4]);
            seatmeter_tests::process::sleep(std::time::Duration::from_millis(1500));
        }
        agent.kill();
        let database = agent.state().join("buffer.db");
        match case % 4 {
            0 => damage(&database, &mut rng, 40),
            1 => damage(&database.with_extension("db-wal"), &mut rng, 40),
            2 => fs::File::options().write(true).open(&database).unwrap().write_all(&[0; 4096]).unwrap(),
            _ => fs::File::options().write(true).open(&database).unwrap().set_len(5000).unwrap(),
        }
        let written = fs::metadata(&path).unwrap().len() as usize;
        append(&path, &log[written..]);
        agent.start();
        if case % 2 == 0 {
            cluster.start_aggregator();
        }
        cluster.wait_for_activity(&name, &expected);
    }
    cluster.assert_verified();
}

fn damage(path: &Path, rng: &mut fastrand::Rng, bytes: usize) {
    let mut content = fs::read(path).unwrap_or_default();
    for _ in 0..bytes.min(content.len()) {
        let at = rng.usize(..content.len());
        content[at] ^= 1 << rng.u8(..8);
    }
    fs::write(path, content).unwrap();
}

#[test]
fn fault_25_two_agents_on_one_state_folder() {
    let cluster = TestCluster::running();
    let path = cluster.path("debug.log");
    fs::write(&path, simulated(18, 100).0).unwrap();
    let mut first = cluster.agent("LIC01", &[&path]);
    first.start();
    wait_until("the first runs", || first.has_said("uplink_up"));
    let mut second = cluster.agent("LIC01", &[&path]);
    second.start();
    assert!(!second.wait().success());
    assert!(second.errors().contains("another process is running on"), "{}", second.errors());
}

#[test]
fn fault_26_a_log_that_cannot_be_read_holds_up_no_other() {
    let cluster = TestCluster::running();
    let (log, expected) = simulated(19, 1000);
    let good = cluster.path("good.log");
    let (missing, folder, binary) =
        (cluster.path("missing.log"), cluster.path("folder.log"), cluster.path("binary.log"));
    fs::write(&good, &log).unwrap();
    fs::create_dir(&folder).unwrap();
    fs::write(&binary, [0xff, 0xfe, 0, 1, 2, 3]).unwrap();
    let mut agent = cluster.agent("LIC01", &[&missing, &folder, &binary, &good]);
    // A drive with archives that is not mounted holds up no log either.
    agent.configure(&format!("path = {good:?}"), &format!("path = {good:?}\narchives = ['/unmounted/good.*.gz']"));
    agent.start();
    cluster.wait_for_activity("LIC01", &expected);
    wait_until("the agent has named each", || {
        let said = agent.errors();
        ["missing.log does not exist", "folder.log is not a file", "UTF-16", "/unmounted cannot be listed"]
            .iter()
            .all(|reason| said.contains(reason))
    });
    let check = agent.command(&["check-config"]);
    assert_eq!(check.status.code(), Some(3));
    let scanned = scan(&[missing.to_str().unwrap(), folder.to_str().unwrap(), good.to_str().unwrap()]);
    assert_eq!(scanned.status.code(), Some(3));
    assert!(text(&scanned.stderr).contains("not counted"), "{}", text(&scanned.stderr));
    // It comes after all, and is read.
    fs::write(&missing, " 8:00:00 (lmgrd) TIMESTAMP 3/4/2026\n 8:00:01 (late) OUT: \"g\" u@h\n").unwrap();
    wait_until("the late log is counted", || cluster.activity("LIC01").contains("late,g,1,1,1,0,0"));
}

#[test]
fn bad_input_gets_a_clear_error() {
    let cluster = TestCluster::running();
    let path = cluster.path("debug.log");
    fs::write(&path, "").unwrap();
    let agent = cluster.agent("LIC01", &[&path]);
    agent.configure("[license_server]", "[license_servr]");
    let refused = agent.command(&["check-config"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("did you mean `license_server`?"), "{}", text(&refused.stderr));
    // A port in use.
    let taken = cluster.aggregator_command("serve");
    assert!(text(&taken.stderr).contains("another process is running on"), "{}", text(&taken.stderr));
    let mut other = TestCluster::new();
    other.settings = format!("state = {:?}", other.path("elsewhere"));
    let config = fs::read_to_string(other.aggregator_config()).unwrap();
    let own = format!("127.0.0.1:{}", cluster.listening().unwrap().agents);
    let config: String =
        config.replacen("127.0.0.1:0", &own, 1).lines().skip(1).map(|line| format!("{line}\n")).collect();
    let file = other.path("taken.toml");
    fs::write(&file, config).unwrap();
    let taken = other.aggregator_with(&file);
    assert!(text(&taken.stderr).contains("cannot listen on"), "{}", text(&taken.stderr));
    // A question that is none.
    let wrong = cluster.seatmeter(&["usage", "2026-13"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("write YYYY-MM"), "{}", text(&wrong.stderr));
    let nobody = TestCluster::new().seatmeter(&["usage"]);
    assert_eq!(nobody.status.code(), Some(4));
    // Databases of a later version.
    let mut cluster = cluster;
    cluster.stop_aggregator();
    let database = rusqlite::Connection::open(cluster.path("aggregator/aggregator.db")).unwrap();
    database.execute_batch("UPDATE schema_version SET version = 99").unwrap();
    drop(database);
    let newer = cluster.aggregator_command("serve");
    assert!(text(&newer.stderr).contains("newer version"), "{}", text(&newer.stderr));
    agent.configure("[license_servr]", "[license_server]");
    fs::create_dir_all(agent.state()).unwrap();
    let database = rusqlite::Connection::open(agent.state().join("buffer.db")).unwrap();
    database.pragma_update(None, "user_version", 99).unwrap();
    drop(database);
    let newer = agent.command(&["run"]);
    assert_eq!(newer.status.code(), Some(1));
    assert!(text(&newer.stderr).contains("newer version"), "{}", text(&newer.stderr));
}

/// A batch is damaged in the buffer, though the database is sound: its log is read again. Where the log is gone, the rest is
/// delivered, and what is missing is a gap.
#[test]
fn fault_15_a_damaged_batch_stops_no_delivery() {
    for is_gone in [false, true] {
        let mut cluster = TestCluster::running();
        let path = cluster.path("debug.log");
        let day = |day: u32| {
            format!(
                " 8:00:00 (lmgrd) TIMESTAMP 1/{day}/2026\n 8:00:01 (d) OUT: \"f\" u{day}@h  \n 9:00:00 (d) IN: \"f\" u{day}@h  \n"
            )
        };
        fs::write(&path, day(1)).unwrap();
        let mut log = fs::File::options().append(true).open(&path).unwrap();
        let mut agent = cluster.agent("LIC01", &[&path]);
        agent.start();
        let expected = |users: u32| {
            format!(
                "month,daemon,feature,users_checked_out,users_held,outs,ins,denials\n2026-01,d,f,{users},{users},{users},{users},0\n"
            )
        };
        cluster.wait_for_activity("LIC01", &expected(1));
        cluster.stop_aggregator();
        for number in 2..=4 {
            log.write_all(day(number).as_bytes()).unwrap();
            wait_until("the day is captured", || {
                agent.inspect()["batches"].as_array().unwrap().len() >= number as usize - 1
            });
        }
        agent.stop();
        let buffer = rusqlite::Connection::open(agent.state().join("buffer.db")).unwrap();
        let damage =
            "UPDATE batch SET body = zeroblob(length(body)) WHERE sequence = (SELECT min(sequence) + 1 FROM waiting)";
        assert_eq!(buffer.execute(damage, []).unwrap(), 1);
        drop(buffer);
        if is_gone {
            fs::remove_file(&path).unwrap();
        }
        cluster.start_aggregator();
        agent.start();
        cluster.wait_for_activity("LIC01", &expected(if is_gone { 3 } else { 4 }));
        assert!(agent.has_said("batch_damaged"), "{}", agent.errors());
        if is_gone {
            wait_until("the gap is known", || cluster.ask(&["servers"])["rows"][0]["gaps"] == 1);
        }
        cluster.assert_verified();
    }
}

/// The buffer is full, the log grows on, and is truncated: what was not read is lost, and its size is known.
#[test]
fn fault_04_a_truncation_while_the_buffer_is_full_is_a_loss_with_its_size() {
    let mut cluster = TestCluster::running();
    cluster.stop_aggregator();
    let path = cluster.path("debug.log");
    let (log, _) = simulated(21, 1_200_000);
    let (now, later) = log.split_at(log.len() * 3 / 4);
    fs::write(&path, now).unwrap();
    let mut agent = cluster.agent_in("agent", "LIC01", &[&path], "[buffer]\nquota_mib = 1");
    agent.start();
    wait_until("the buffer is full", || agent.has_said("buffer_full"));
    append(&path, later);
    wait_until("the agent has seen how large the log is", || {
        let status: serde_json::Value =
            serde_json::from_slice(&agent.command(&["status", "--json"]).stdout).unwrap_or_default();
        status["logs"][0]["size"] == log.len()
    });
    fs::write(&path, " 8:00:00 (lmgrd) TIMESTAMP 6/1/2026\n 8:00:01 (simulatd) OUT: \"last\" ann@h  \n").unwrap();
    cluster.start_aggregator();
    wait_until("the loss is told", || agent.has_said("log_truncated"));
    wait_until("what follows is counted", || cluster.activity("LIC01").contains("2026-06,simulatd,last,1,1,1,0,0"));
    let rows = cluster.ask(&["streams", "list"])["rows"].clone();
    let bytes: Vec<u64> = rows.as_array().unwrap().iter().filter_map(|row| row["bytes"].as_u64()).collect();
    assert!(bytes.contains(&(log.len() as u64)), "{bytes:?}, and the log had {} bytes", log.len());
    assert_eq!(cluster.ask(&["servers"])["rows"][0]["gaps"], 1);
}
