//! The same content, read again in every way: no number changes.

use std::fs;
use std::path::Path;

use seatmeter_tests::process::{scan, text};
use seatmeter_tests::{TestCluster, wait_until};
use xtask::sim::{Plan, Server, truth};

/// A log with crashes and month ends, and what is true of it.
fn simulated(lines: u64) -> (Vec<u8>, String) {
    let plan = Plan { users: 300, features: 5, seconds_a_line: 90_000.0 * 60.0 / lines as f64, ..Plan::default() };
    let mut server = Server::new(plan);
    let mut log = Vec::new();
    server.start(&mut log);
    for step in 0..lines {
        if step % 7001 == 7000 {
            server.crash(3600);
            server.start(&mut log);
        }
        server.step(&mut log);
    }
    (log, truth::as_csv(&server.figures()))
}

#[test]
fn the_scan_of_a_simulated_log_is_the_truth() {
    let cluster = TestCluster::new();
    let (log, expected) = simulated(30_000);
    let path = cluster.path("debug.log");
    fs::write(&path, log).unwrap();
    assert_eq!(text(&scan(&["--output", "csv", path.to_str().unwrap()]).stdout), expected);
}

#[test]
fn a_second_reading_by_a_freshly_installed_agent_changes_nothing() {
    let cluster = TestCluster::running();
    let (log, expected) = simulated(20_000);
    let path = cluster.path("debug.log");
    fs::write(&path, log).unwrap();
    let mut first = cluster.agent("LIC01", &[&path]);
    first.start();
    cluster.wait_for_activity("LIC01", &expected);
    let before = cluster.ask(&["usage", "2026-02"])["rows"].clone();
    first.stop();
    let mut second = cluster.agent_in("second", "lic01", &[&path], "");
    second.start();
    wait_until("the second agent has delivered", || delivered(&second));
    assert_eq!(cluster.activity("LIC01"), expected);
    assert_eq!(cluster.ask(&["usage", "2026-02"])["rows"], before);
    // The first one comes back and has nothing new.
    first.start();
    wait_until("the first agent has delivered", || delivered(&first));
    assert_eq!(cluster.activity("LIC01"), expected);
    cluster.assert_verified();
}

/// Whether an agent has read something, and all of it is acknowledged.
fn delivered(agent: &seatmeter_tests::Agent) -> bool {
    let shown = agent.inspect();
    !shown["rows"].as_array().unwrap().is_empty() && shown["batches"].as_array().unwrap().is_empty()
}

#[test]
fn a_log_split_at_any_byte_with_a_kill_between_changes_nothing() {
    let cluster = TestCluster::running();
    let (log, expected) = simulated(600);
    let seed = 7;
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    // Splits of every kind: inside stamps, inside names, before and after line feeds.
    for index in 0..12 {
        let server = format!("split{index}");
        let path = cluster.path(&format!("{server}.log"));
        let at = rng.usize(1..log.len());
        append(&path, &log[..at]);
        let mut agent = cluster.agent(&server, &[&path]);
        agent.start();
        seatmeter_tests::process::sleep(std::time::Duration::from_millis(rng.u64(50..1500)));
        agent.kill();
        append(&path, &log[at..]);
        agent.start();
        cluster.wait_for_activity(&server, &expected);
    }
    cluster.assert_verified();
}

fn append(path: &Path, bytes: &[u8]) {
    use std::io::Write;
    fs::File::options().create(true).append(true).open(path).unwrap().write_all(bytes).unwrap();
}

#[test]
fn old_logs_read_after_newer_ones_are_counted_in_their_order() {
    let cluster = TestCluster::running();
    let (log, expected) = simulated(12_000);
    // Cut where the server was started anew, so that each part tells its own date.
    let banner = b" (lmgrd) -----";
    let cut = log.windows(banner.len()).rposition(|window| window == banner).unwrap() - 8;
    let (old, new) = log.split_at(cut);
    let (folder, archive) = (cluster.path("logs"), cluster.path("archive"));
    fs::create_dir(&folder).unwrap();
    fs::create_dir(&archive).unwrap();
    let path = folder.join("debug.log");
    fs::write(&path, new).unwrap();
    let mut agent = cluster.agent("LIC01", &[&path]);
    let config = fs::read_to_string(&agent.config).unwrap();
    fs::write(&agent.config, format!("{config}\narchives = [{:?}]\n", archive.join("*.gz"))).unwrap();
    agent.start();
    wait_until("the newer log is counted", || cluster.activity("LIC01").lines().count() > 1);
    let plain = archive.join("old.log");
    fs::write(&plain, old).unwrap();
    xtask::sim::files::gzip(&plain, &archive.join("old.log.gz")).unwrap();
    cluster.wait_for_activity("LIC01", &expected);
    cluster.assert_verified();
}
