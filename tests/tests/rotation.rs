//! Faults 6 and 7: every kind of rotation, with and without kills: nothing lost, nothing doubled.

use std::fs;
use std::time::{Duration, Instant};

use seatmeter_tests::{Scenario, TestCluster, wait_until};
use xtask::sim::Rotation;

/// The license server writes so many lines a second, ...
const LINES_A_SECOND: u64 = 15_000;
/// ... and its log is rotated after so many.
const LINES_A_PART: u64 = 22_500;
const PARTS: u64 = 6;

/// Writes at the pace of a busy license server, rotates, and kills the agent between where asked to.
fn rotate_while_writing(rotation: Rotation, kills: bool) {
    let mut scenario = Scenario::new(1);
    for part in 0..PARTS {
        let began = Instant::now();
        for piece in 0..30 {
            scenario.write(LINES_A_PART / 30);
            let due = Duration::from_millis((piece + 1) * (LINES_A_PART / 30) * 1000 / LINES_A_SECOND);
            seatmeter_tests::process::sleep(due.saturating_sub(began.elapsed()));
            if kills && piece == 7 + 3 * part {
                scenario.kill_agent();
            }
        }
        if matches!(rotation, Rotation::Recreate | Rotation::Truncate) {
            // What is deleted or cut before anybody could read it is lost to everybody: here, all could be read.
            let size = std::fs::metadata(scenario.log.path()).unwrap().len();
            let streams = part as usize + 1;
            wait_until("the agent has read the file", || {
                let read = read_to(&scenario);
                read.len() == streams && read.last().is_some_and(|position| *position >= size)
            });
        }
        scenario.rotate(rotation);
    }
    scenario.assert_truth();
}

/// How far the agent has committed each stream, in the order of their beginnings.
fn read_to(scenario: &Scenario) -> Vec<u64> {
    let streams = scenario.agent.inspect();
    streams["rows"].as_array().unwrap().iter().filter_map(|stream| stream["position"].as_u64()).collect()
}

#[test]
fn fault_06_rename() {
    rotate_while_writing(Rotation::Rename, false);
}

#[test]
fn fault_06_rename_with_kills() {
    rotate_while_writing(Rotation::Rename, true);
}

#[test]
fn fault_06_rename_and_gzip_with_kills() {
    rotate_while_writing(Rotation::RenameGzip, true);
}

#[test]
fn fault_06_copytruncate() {
    rotate_while_writing(Rotation::CopyTruncate, false);
}

#[test]
fn fault_06_copytruncate_with_kills() {
    rotate_while_writing(Rotation::CopyTruncate, true);
}

#[test]
fn fault_06_dated_names_as_lmswitch_makes_them_with_kills() {
    rotate_while_writing(Rotation::Dated, true);
}

#[test]
fn fault_06_deleted_and_created_anew() {
    rotate_while_writing(Rotation::Recreate, false);
}

#[test]
fn fault_06_deleted_and_created_anew_with_kills() {
    rotate_while_writing(Rotation::Recreate, true);
}

#[test]
fn fault_06_truncated_and_written_larger_than_before_with_kills() {
    rotate_while_writing(Rotation::Truncate, true);
}

#[test]
fn fault_07_rotated_while_the_agent_is_down() {
    for (seed, rotations) in [(2, 1), (3, 5)] {
        let mut scenario = Scenario::new(seed);
        scenario.write(5_000);
        wait_until("the agent has read something", || !read_to(&scenario).is_empty());
        scenario.agent.kill();
        for rotation in 0..rotations {
            scenario.write(5_000);
            scenario.rotate(if rotation % 2 == 0 { Rotation::RenameGzip } else { Rotation::CopyTruncate });
            scenario.write(700);
        }
        scenario.agent.start();
        scenario.assert_truth();
    }
}

/// While a part is compressed, both are there for a moment, and the copy has no old part's time yet: it must not be taken
/// for what came after the newest part.
#[test]
fn a_compressed_copy_of_an_older_part_is_not_another_part() {
    let cluster = TestCluster::running();
    let path = cluster.path("debug.log");
    let parts = [
        " 8:00:00 (lmgrd) TIMESTAMP 3/4/2026\n 8:00:01 (d) OUT: \"f\" u1@h\n 9:00:00 (d) IN: \"f\" u1@h\n",
        "10:00:00 (d) OUT: \"f\" u2@h\n11:00:00 (d) IN: \"f\" u2@h\n",
        "12:00:00 (d) OUT: \"f\" u3@h\n23:00:00 (d) IN: \"f\" u3@h\n 9:00:00 (d) OUT: \"f\" u4@h\n15:00:00 (d) IN: \"f\" u4@h\n",
    ];
    fs::write(&path, "").unwrap();
    let mut agent = cluster.agent("LIC01", &[&path]);
    agent.start();
    let mut outs = 0;
    for (number, part) in parts.iter().enumerate() {
        fs::write(&path, part).unwrap();
        outs += part.matches("OUT:").count();
        wait_until("the part is counted", || cluster.activity("LIC01").contains(&format!("d,f,{outs},{outs},{outs},")));
        fs::rename(&path, cluster.path(&format!("debug.log.{}", 3 - number))).unwrap();
        fs::write(&path, "").unwrap();
    }
    agent.stop();
    let copy = cluster.path("debug.log.9");
    fs::copy(cluster.path("debug.log.2"), &copy).unwrap();
    xtask::sim::files::gzip(&copy, &cluster.path("debug.log.9.gz")).unwrap();
    agent.start();
    fs::write(&path, "16:00:00 (d) OUT: \"f\" u5@h\n").unwrap();
    wait_until("the newest line is counted", || cluster.activity("LIC01").contains("d,f,5,5,"));
    cluster.wait_for_activity(
        "LIC01",
        "month,daemon,feature,users_checked_out,users_held,outs,ins,denials\n2026-03,d,f,5,5,5,4,0\n",
    );
    cluster.assert_verified();
}

/// A log that is rotated at midnight, where the same job is the first to check out each night.
#[test]
fn days_that_begin_alike_are_days_of_their_own() {
    let cluster = TestCluster::running();
    let path = cluster.path("debug.log");
    let mut agent = cluster.agent("LIC01", &[&path]);
    let evening = "22:00:00 (lmgrd) TIMESTAMP 3/4/2026\n22:00:01 (d) OUT: \"f\" u1@h\n23:00:00 (d) IN: \"f\" u1@h\n";
    let night = " 0:00:01 (d) OUT: \"f\" job@h\n";
    fs::write(&path, evening).unwrap();
    agent.start();
    wait_until("the evening is counted", || cluster.activity("LIC01").contains("d,f,1,1,1,1,"));
    for (day, outs) in [(5, 2), (6, 3), (7, 4)] {
        fs::rename(&path, cluster.path(&format!("debug.log-2026030{}", day - 1))).unwrap();
        // The agent is down at every other midnight.
        if outs % 2 == 0 {
            agent.kill();
            agent.start();
        }
        fs::write(&path, night).unwrap();
        wait_until("the night is counted", || cluster.activity("LIC01").contains(&format!("d,f,2,2,{outs},")));
        let mut log = fs::File::options().append(true).open(&path).unwrap();
        std::io::Write::write_all(&mut log, b" 1:00:00 (d) IN: \"f\" job@h\n23:00:00 (d) DENIED: \"f\" u1@h (x)\n")
            .unwrap();
        wait_until("the evening is counted", || {
            cluster.activity("LIC01").contains(&format!("d,f,2,2,{outs},{outs},{}", outs - 1))
        });
    }
    let seen = cluster.ask(&["servers"]);
    assert!(seen.to_string().contains("2026-03-07"), "{seen}");
    cluster.assert_verified();
}

/// What lies beside a log under the name of a part, and is none: a checksum, a part packed so that nobody here reads it.
#[test]
fn fault_06_a_foreign_file_beside_the_log_holds_up_nothing() {
    let cluster = TestCluster::running();
    let path = cluster.path("debug.log");
    fs::write(cluster.path("debug.log.1.md5"), "d41d8cd98f00b204e9800998ecf8427e  debug.log.1\n").unwrap();
    fs::write(cluster.path("debug.log-20260101.7z"), b"7z\xbc\xaf\x27\x1c\0\x04").unwrap();
    fs::write(&path, " 8:00:00 (lmgrd) TIMESTAMP 3/4/2026\n 8:00:01 (d) OUT: \"f\" u1@h\n").unwrap();
    let mut agent = cluster.agent("LIC01", &[&path]);
    agent.start();
    for (number, line) in [(1, ""), (2, " 8:00:02 (d) OUT: \"f\" u2@h\n"), (3, " 8:00:03 (d) OUT: \"f\" u3@h\n")] {
        let mut log = fs::File::options().append(true).open(&path).unwrap();
        std::io::Write::write_all(&mut log, line.as_bytes()).unwrap();
        wait_until("the line is counted", || cluster.activity("LIC01").contains(&format!("d,f,{number},{number},")));
    }
    assert!(agent.has_said("part_skipped"), "{}", agent.errors());
    let status: serde_json::Value = serde_json::from_slice(&agent.command(&["status", "--json"]).stdout).unwrap();
    assert_eq!(status["logs"][0]["state"], "following", "{status}");
    cluster.assert_verified();
}

/// `echo > debug.log` empties a log, and leaves a blank line.
#[test]
fn fault_06_a_blank_line_is_no_foreign_file() {
    let cluster = TestCluster::running();
    let path = cluster.path("debug.log");
    fs::write(&path, "\n").unwrap();
    let mut agent = cluster.agent("LIC01", &[&path]);
    agent.start();
    wait_until("the agent delivers", || agent.has_said("uplink_up"));
    assert!(!agent.has_said("log_unreadable"), "{}", agent.errors());
    fs::write(&path, "\n 8:00:00 (lmgrd) TIMESTAMP 3/4/2026\n 8:00:01 (d) OUT: \"f\" u1@h\n").unwrap();
    wait_until("the line is counted", || cluster.activity("LIC01").contains("d,f,1,1,1,"));
}

/// A part that is just being compressed is no alarm. One that stays damaged is.
#[test]
fn fault_06_a_part_that_is_being_compressed_is_no_alarm() {
    let cluster = TestCluster::running();
    let (path, packed) = (cluster.path("debug.log"), cluster.path("debug.log.1.gz"));
    let part = cluster.path("part");
    fs::write(&part, " 8:00:00 (lmgrd) TIMESTAMP 3/3/2026\n 8:00:01 (d) OUT: \"f\" u0@h  \n").unwrap();
    xtask::sim::files::gzip(&part, &packed).unwrap();
    let whole = fs::read(&packed).unwrap();
    fs::write(&packed, &whole[..whole.len() / 2]).unwrap();
    fs::write(&path, " 8:00:00 (lmgrd) TIMESTAMP 3/4/2026\n 8:00:01 (d) OUT: \"f\" u1@h  \n").unwrap();
    let mut agent = cluster.agent("LIC01", &[&path]);
    agent.start();
    wait_until("the log is counted", || cluster.activity("LIC01").contains("d,f,1,1,1,"));
    assert!(!agent.has_said("part_skipped"), "{}", agent.errors());
    // Nobody has written to it for some time, and it is still not whole.
    let before = std::time::SystemTime::now() - std::time::Duration::from_secs(120);
    fs::File::options().write(true).open(&packed).unwrap().set_modified(before).unwrap();
    wait_until("the agent names it", || agent.has_said("part_skipped"));
    fs::write(&packed, &whole).unwrap();
    wait_until("it is counted", || cluster.activity("LIC01").contains("d,f,2,2,2,"));
    cluster.assert_verified();
}

/// A part that stays damaged costs no line of the log beside it, and none of that log is said to be lost.
#[test]
fn fault_06_a_damaged_part_costs_the_log_nothing() {
    let cluster = TestCluster::running();
    let (path, packed) = (cluster.path("debug.log"), cluster.path("debug.log.1.gz"));
    fs::write(&packed, b"\x1f\x8b\x08\0\0\0\0\0\0\x03damaged").unwrap();
    let before = std::time::SystemTime::now() - std::time::Duration::from_secs(120);
    fs::File::options().write(true).open(&packed).unwrap().set_modified(before).unwrap();
    let write = |text: &str| {
        let mut log = fs::File::options().create(true).append(true).open(&path).unwrap();
        std::io::Write::write_all(&mut log, text.as_bytes()).unwrap();
    };
    write(" 8:00:00 (lmgrd) TIMESTAMP 3/4/2026\n 8:00:01 (d) OUT: \"f\" u1@h  \n 8:00:02 (d) OU");
    let mut agent = cluster.agent("LIC01", &[&path]);
    agent.start();
    wait_until("the first line is counted", || cluster.activity("LIC01").contains("d,f,1,1,1,"));
    wait_until("the agent names the part", || agent.has_said("part_skipped"));
    assert!(!agent.has_said("log_unreadable"), "{}", agent.errors());
    // The half line stays so for a scan after the log is well again, and less than the ten seconds after which it counts.
    seatmeter_tests::process::sleep(std::time::Duration::from_secs(1));
    fs::remove_file(&packed).unwrap();
    seatmeter_tests::process::sleep(std::time::Duration::from_secs(6));
    write("T: \"f\" u2@h  \n");
    wait_until("the other line is counted", || cluster.activity("LIC01").contains("d,f,2,2,2,"));
    assert!(!agent.has_said("log_truncated"), "{}", agent.errors());
    assert_eq!(cluster.ask(&["servers"])["rows"][0]["gaps"], 0);
    cluster.assert_verified();
}
