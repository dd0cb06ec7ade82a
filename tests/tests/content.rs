//! Faults 16, 17 and 32: streams that begin alike are told apart by all of their content, and what they have in common
//! counts once.

use std::fs;
use std::io::Write;
use std::path::Path;

use seatmeter_tests::{TestCluster, wait_until};

const HEADER: &str = "month,daemon,feature,users_checked_out,users_held,outs,ins,denials\n";

/// The first lines of a license manager that starts at this second. They are longer than one block of the check values, or
/// shorter.
fn banner(is_long: bool) -> String {
    let mut banner = " 8:00:00 (lmgrd) FlexNet Licensing (v11.19) started on S (linux) (1/5/2026)\n".to_owned();
    for line in 0..if is_long { 600 } else { 2 } {
        banner += &format!(" 8:00:01 (lmgrd) License file(s): /opt/license{line:04}.lic\n");
    }
    banner
}

/// A checkout and a checkin of each of these users. Every line of a user has the same length.
fn uses(users: std::ops::Range<u32>) -> String {
    users
        .map(|user| {
            let (minute, second) = (user / 60, user % 60);
            format!(
                " 9:{minute:02}:{second:02} (d) OUT: \"f\" u{user:03}@pc  \n 9:{minute:02}:{second:02} (d) IN: \"f\" u{user:03}@pc  \n"
            )
        })
        .collect()
}

fn append(path: &Path, text: &str) {
    fs::File::options().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

fn expected(users: u32, outs: u32) -> String {
    format!("{HEADER}2026-01,d,f,{users},{users},{outs},{outs},0\n")
}

/// Two license managers that start in the same second write the same beginning. One agent follows both logs, or each has
/// its own; the second log has its lines before, with or after the first; and a fresh agent reads both once more.
#[test]
fn fault_32_license_managers_that_start_in_the_same_second() {
    let cluster = TestCluster::running();
    for (case, is_long, is_one_agent) in [(0, false, true), (1, true, true), (2, false, false), (3, true, false)] {
        let server = format!("twin{case}");
        let path = |name: &str| cluster.path(&format!("{server}-{name}.log"));
        let (first, second) = (path("first"), path("second"));
        append(&first, &banner(is_long));
        append(&second, &banner(is_long));
        let mut agents = match is_one_agent {
            true => vec![cluster.agent(&server, &[&first, &second])],
            false => vec![
                cluster.agent_in(&format!("{server}-a"), &server, &[&first], ""),
                cluster.agent_in(&format!("{server}-b"), &server, &[&second], ""),
            ],
        };
        for agent in &mut agents {
            agent.start();
        }
        // Both go on from the same position: with lines of the same length, then one of them with more.
        append(&second, &uses(0..11));
        append(&first, &uses(11..20));
        append(&first, &uses(20..23));
        cluster.wait_for_activity(&server, &expected(23, 23));
        append(&second, &uses(30..35));
        cluster.wait_for_activity(&server, &expected(28, 28));
        for agent in &mut agents {
            agent.stop();
        }
        let mut fresh = cluster.agent_in(&format!("{server}-fresh"), &server, &[&second, &first], "");
        fresh.start();
        wait_until("the fresh agent has delivered", || is_delivered(&fresh));
        append(&first, &uses(40..43));
        cluster.wait_for_activity(&server, &expected(31, 31));
        append(&second, &uses(50..52));
        cluster.wait_for_activity(&server, &expected(33, 33));
        fresh.stop();
    }
    cluster.assert_verified();
    let told = cluster.seatmeter(&["servers", "twin1"]);
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("the same, and the two differ after them. Counted once."), "{told}");
}

fn is_delivered(agent: &seatmeter_tests::Agent) -> bool {
    let shown = agent.inspect();
    !shown["rows"].as_array().unwrap().is_empty() && shown["batches"].as_array().unwrap().is_empty()
}

/// A machine is set back to yesterday's snapshot: its log is shorter, and goes on with other lines.
#[test]
fn fault_17_a_restored_snapshot_counts_what_came_before_it_once() {
    let cluster = TestCluster::running();
    for (case, is_long, is_stopped, goes_further) in
        [(0, false, true, true), (1, true, false, true), (2, true, true, false), (3, false, false, false)]
    {
        let server = format!("snapshot{case}");
        let path = cluster.path(&format!("{server}.log"));
        let snapshot = banner(is_long) + &uses(0..10);
        append(&path, &(snapshot.clone() + &uses(10..20)));
        let mut agent = cluster.agent(&server, &[&path]);
        agent.start();
        cluster.wait_for_activity(&server, &expected(20, 20));
        if is_stopped {
            agent.stop();
        }
        let after = if goes_further { uses(30..60) } else { uses(30..33) };
        fs::write(&path, snapshot + &after).unwrap();
        if is_stopped {
            agent.start();
        }
        let users = if goes_further { 50 } else { 23 };
        cluster.wait_for_activity(&server, &expected(users, users));
        append(&path, &uses(70..75));
        cluster.wait_for_activity(&server, &expected(users + 5, users + 5));
        // A third time, from the beginning.
        agent.stop();
        let mut fresh = cluster.agent_in(&format!("{server}-fresh"), &server, &[&path], "");
        fresh.start();
        wait_until("the fresh agent has delivered", || is_delivered(&fresh));
        append(&path, &uses(80..81));
        cluster.wait_for_activity(&server, &expected(users + 6, users + 6));
        fresh.stop();
    }
    cluster.assert_verified();
}

/// An agent's machine is cloned, with its buffer; both read the same log, on a disk that they share.
#[test]
fn fault_16_a_cloned_agent_doubles_nothing() {
    let cluster = TestCluster::running();
    let path = cluster.path("debug.log");
    append(&path, &(banner(true) + &uses(0..10)));
    let mut agent = cluster.agent_in("original", "LIC01", &[&path], "");
    agent.start();
    cluster.wait_for_activity("LIC01", &expected(10, 10));
    agent.stop();
    let mut clone = cluster.agent_in("clone", "LIC01", &[&path], "");
    fs::create_dir_all(clone.state()).unwrap();
    for entry in fs::read_dir(agent.state()).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), clone.state().join(entry.file_name())).unwrap();
    }
    agent.start();
    clone.start();
    for users in (10..60).step_by(10) {
        append(&path, &uses(users..users + 10));
        cluster.wait_for_activity("LIC01", &expected(users + 10, users + 10));
    }
    wait_until("both have delivered", || is_delivered(&agent) && is_delivered(&clone));
    assert_eq!(cluster.activity("LIC01"), expected(60, 60));
    cluster.assert_verified();
}

/// The buffer is lost, with what was not delivered; and the aggregator begins anew.
#[test]
fn fault_32_twins_are_told_apart_after_every_loss() {
    let mut cluster = TestCluster::running();
    let (first, second) = (cluster.path("first.log"), cluster.path("second.log"));
    append(&first, &(banner(false) + &uses(0..11)));
    append(&second, &(banner(false) + &uses(11..23)));
    let mut agent = cluster.agent("LIC01", &[&first, &second]);
    agent.start();
    cluster.wait_for_activity("LIC01", &expected(23, 23));
    agent.stop();
    fs::remove_dir_all(agent.state()).unwrap();
    append(&first, &uses(30..32));
    agent.start();
    cluster.wait_for_activity("LIC01", &expected(25, 25));
    // The aggregator loses everything, and gets it again.
    cluster.stop_aggregator();
    fs::remove_dir_all(cluster.path("aggregator")).unwrap();
    append(&second, &uses(40..42));
    cluster.start_aggregator();
    cluster.wait_for_activity("LIC01", &expected(27, 27));
    append(&first, &uses(50..51));
    append(&second, &uses(51..52));
    cluster.wait_for_activity("LIC01", &expected(29, 29));
    cluster.assert_verified();
}

/// Two agents have read logs that begin alike, each with the names the other way round, into aggregators that were lost. Into the
/// next one, both deliver the same log under its two names: the names of the other one are taken, and it is not. It counts, even if
/// the buffer alone has it.
#[test]
fn fault_32_names_that_another_content_has_taken_are_not_taken_for_delivered() {
    for (more, is_gone) in [(0, false), (3, false), (0, true), (3, true)] {
        let mut cluster = TestCluster::running();
        let (first, second) = (cluster.path("first.log"), cluster.path("second.log"));
        append(&first, &(banner(false) + &uses(0..5)));
        append(&second, &(banner(false) + &uses(20..25 + more)));
        let mut agent = cluster.agent("LIC01", &[&first, &second]);
        let both = fs::read_to_string(&agent.config).unwrap();
        let source = |path: &Path| format!("[[source]]\nkind = \"file\"\npath = {path:?}\ntime_zone = \"UTC\"\n");
        // The log that is read first gets the plain name.
        agent.configure(&source(&second), "");
        agent.start();
        cluster.wait_for_activity("LIC01", &expected(5, 5));
        agent.stop();
        fs::write(&agent.config, &both).unwrap();
        agent.start();
        cluster.wait_for_activity("LIC01", &expected(10 + more, 10 + more));
        agent.stop();
        cluster.stop_aggregator();
        fs::remove_dir_all(cluster.path("aggregator")).unwrap();
        cluster.start_aggregator();
        let mut other = cluster.agent_in("other", "LIC01", &[&second], "");
        other.start();
        wait_until("the second log has the plain name", || is_delivered(&other));
        other.stop();
        // The first agent knows the second log by another name.
        agent.configure(&source(&first), "");
        agent.start();
        wait_until("and the other one", || {
            let streams = cluster.ask(&["streams", "list"])["rows"].as_array().map(Vec::len);
            is_delivered(&agent) && streams == Some(2)
        });
        agent.stop();
        let backup = cluster.path("backup.db");
        let taken = cluster.aggregator_command_with(&["backup", backup.to_str().unwrap()]);
        assert!(taken.status.success(), "{taken:?}");
        cluster.stop_aggregator();
        let restored = cluster.aggregator_command_with(&["restore", backup.to_str().unwrap()]);
        assert!(restored.status.success(), "{restored:?}");
        cluster.start_aggregator();
        fs::write(&agent.config, &both).unwrap();
        if is_gone {
            fs::remove_file(&first).unwrap();
        }
        agent.start();
        cluster.wait_for_activity("LIC01", &expected(10 + more, 10 + more));
        cluster.assert_verified();
    }
}

/// The aggregator begins anew, and the log has been set back to a snapshot meanwhile: what is lost of the file before takes
/// nothing from the one that is there. What the buffer has kept of it is not lost.
#[test]
fn fault_17_what_is_lost_of_a_file_takes_nothing_from_one_that_begins_alike() {
    for (is_emptied, keeps) in [(true, false), (true, true), (false, false)] {
        let mut cluster = TestCluster::running();
        let (path, aside) = (cluster.path("debug.log"), cluster.path("aside"));
        let snapshot = banner(false) + &uses(0..5);
        append(&path, &(snapshot.clone() + &uses(5..7)));
        let settings = if keeps { "" } else { "[buffer]\nkeep_days = 0\n" };
        let mut agent = cluster.agent_in("agent", "LIC01", &[&path], settings);
        agent.start();
        cluster.wait_for_activity("LIC01", &expected(7, 7));
        agent.stop();
        cluster.stop_aggregator();
        if is_emptied {
            fs::rename(cluster.path("aggregator"), &aside).unwrap();
        }
        fs::write(&path, snapshot + &uses(10..16)).unwrap();
        cluster.start_aggregator();
        agent.start();
        let users = if is_emptied && !keeps { 11 } else { 13 };
        cluster.wait_for_activity("LIC01", &expected(users, users));
        cluster.assert_verified();
    }
}

/// Two logs are the same through a last line without a line feed. Then that line grows in the first of them, and is whole in
/// the second: they were not the same line.
#[test]
fn fault_17_a_last_line_that_grows_takes_nothing_from_a_file_that_began_alike() {
    let cluster = TestCluster::running();
    let (first, second) = (cluster.path("first.log"), cluster.path("second.log"));
    let common = banner(false) + &uses(0..3) + "10:00:00 (d) OUT: \"f\" tail@pc";
    append(&first, &common);
    let mut agent = cluster.agent("LIC01", &[&first, &second]);
    agent.start();
    let once = format!("{HEADER}2026-01,d,f,4,4,4,3,0\n");
    cluster.wait_for_activity("LIC01", &once);
    append(&second, &common);
    wait_until("both are known to be the same", || {
        let servers = cluster.ask(&["servers"]).to_string();
        servers.contains(&format!("the first {} bytes are the same", common.len()))
    });
    assert_eq!(cluster.activity("LIC01"), once);
    append(&first, "-of-another-name\n");
    append(&second, "\n");
    cluster.wait_for_activity("LIC01", &format!("{HEADER}2026-01,d,f,4,4,5,3,0\n"));
    cluster.assert_verified();
}
