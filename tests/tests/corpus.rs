//! Real logs of real license servers: the numbers are those that were counted beside them.

use std::fs;
use std::path::PathBuf;

use seatmeter_tests::process::{scan, text};
use seatmeter_tests::{TestCluster, shared};

/// Each log with its expected counts.
fn logs() -> Vec<(String, PathBuf, String)> {
    let Some(corpus) = shared("corpus") else { return Vec::new() };
    let mut found: Vec<_> = fs::read_dir(corpus.join("flexnet-debug-log"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let expected = fs::read_to_string(corpus.join("expected").join(format!("{name}.csv"))).unwrap();
            (name, path, expected)
        })
        .collect();
    found.sort();
    assert!(!found.is_empty());
    found
}

#[test]
fn a_scan_counts_what_is_in_a_log() {
    for (name, path, expected) in logs() {
        let output = scan(&["--output", "csv", path.to_str().unwrap()]);
        assert_eq!(text(&output.stdout), expected, "{name}");
        // No line with a verb stays unrecognised but the two whose stamps are no times.
        let broken = if name == "ugslmd-broken-stamps" { 2 } else { 0 };
        assert_eq!(output.status.code(), Some(if broken > 0 { 3 } else { 0 }), "{name}");
        assert!(
            text(&output.stderr).contains(&format!(", {broken} not recognised")),
            "{name}: {}",
            text(&output.stderr)
        );
    }
}

#[test]
fn the_whole_way_counts_what_is_in_a_log() {
    let cluster = TestCluster::running();
    let mut agents = Vec::new();
    for (name, path, _) in logs() {
        let log = cluster.path(&format!("{name}.log"));
        fs::copy(path, &log).unwrap();
        let mut agent = cluster.agent(&name, &[&log]);
        agent.start();
        agents.push(agent);
    }
    for (name, _, expected) in logs() {
        cluster.wait_for_activity(&name, &expected);
    }
    cluster.assert_verified();
}
