//! Faults 43 to 45: files that are packed, moved away while they are written, or on a drive that hangs.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use seatmeter_tests::disk::has_strace;
use seatmeter_tests::process::text;
use seatmeter_tests::{TestCluster, wait_until};

const HEADER: &str = "month,daemon,feature,users_checked_out,users_held,outs,ins,denials\n";

fn day(day: u32, user: &str) -> String {
    format!(
        " 8:00:00 (lmgrd) TIMESTAMP 1/{day}/2026\n 8:00:01 (d) OUT: \"f\" {user}@h  \n 9:00:00 (d) IN: \"f\" {user}@h  \n"
    )
}

fn january(users: u32) -> String {
    format!("{HEADER}2026-01,d,f,{users},{users},{users},{users},0\n")
}

/// Packs a file with a program; returns whether there is such a program.
fn pack(program: &[&str], path: &Path) -> bool {
    let packed = Command::new(program[0]).args(&program[1..]).arg(path).current_dir(path.parent().unwrap()).output();
    packed.is_ok_and(|output| output.status.success())
}

/// Parts that are packed in every usual way are read. What cannot be unpacked is named wherever its lines are missed.
#[test]
fn fault_43_packed_parts_are_read_or_named() {
    let cluster = TestCluster::running();
    let log = cluster.path("debug.log");
    let part = |number: u32| cluster.path(&format!("debug.log.{number}"));
    let mut users = 0;
    for (number, program) in [
        (7, &["gzip"][..]),
        (6, &["zstd", "--rm", "-q"]),
        (5, &["xz"]),
        (4, &["bzip2"]),
        (3, &["lz4", "-m", "--rm", "-q"]),
        (2, &["zip", "-q", "-m", &format!("{}.zip", part(2).display())]),
        (1, &["true"]),
    ] {
        fs::write(part(number), day(20 - number, &format!("user{number}"))).unwrap();
        if pack(program, &part(number)) {
            users += 1;
        } else {
            // Without the program, nothing is packed, and the part is read as it is.
            println!("{} is not installed", program[0]);
            users += 1;
        }
    }
    fs::write(&log, day(25, "today")).unwrap();
    let mut agent = cluster.agent("LIC01", &[&log]);
    agent.start();
    cluster.wait_for_activity("LIC01", &january(users + 1));
    let unread = |month: &str| cluster.ask(&["usage", month])["completeness"].to_string().contains("cannot be read");
    assert!(!unread("2026-01"));
    // As `compress` packs, and as 7-Zip does.
    fs::write(cluster.path("debug.log.8.Z"), [0x1f, 0x9d, 0x90, 1, 2, 3]).unwrap();
    fs::write(cluster.path("debug.log.9.7z"), b"7z\xbc\xaf\x27\x1c\x00\x04").unwrap();
    wait_until("they are named", || {
        let shown = cluster.ask(&["servers"])["rows"][0]["unread_parts"].to_string();
        shown.contains("packed with compress") && shown.contains("packed with 7-Zip")
    });
    assert!(unread("2026-01"));
    let month = cluster.ask(&["usage", "2026-01"])["completeness"].to_string();
    assert!(month.contains("2 rotated parts cannot be read"), "{month}");
    // Their lines were written before the files were: months after that lack nothing of them.
    let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_760_000_000);
    for name in ["debug.log.8.Z", "debug.log.9.7z"] {
        fs::File::options().write(true).open(cluster.path(name)).unwrap().set_modified(long_ago).unwrap();
    }
    fs::File::create(cluster.path("debug.log.swp")).unwrap();
    wait_until("January lacks nothing of them", || !unread("2026-01"));
    // Here, too, and gone once they are unpacked.
    let status = || text(&agent.command(&["status"]).stdout);
    wait_until("the agent says it", || status().contains("packed with compress"));
    fs::remove_file(cluster.path("debug.log.8.Z")).unwrap();
    fs::remove_file(cluster.path("debug.log.9.7z")).unwrap();
    wait_until("nothing is unread", || {
        cluster.ask(&["servers"])["rows"][0]["unread_parts"].as_array().unwrap().is_empty()
    });
}

/// A packed part that is cut is named, and the log itself is followed.
#[test]
fn fault_43_a_damaged_part_is_named_and_holds_up_nothing() {
    let cluster = TestCluster::running();
    let log = cluster.path("debug.log");
    let part = cluster.path("debug.log.1");
    let users: u32 = 40_000;
    let lines = (0..users).map(|user| format!(" 8:00:02 (d) OUT: \"f\" user{user}@h{}  \n", user * 7919 % 1000));
    fs::write(&part, day(5, "ann") + &lines.collect::<String>()).unwrap();
    if !pack(&["gzip"], &part) {
        println!("gzip is not installed");
        return;
    }
    let packed = cluster.path("debug.log.1.gz");
    let bytes = fs::read(&packed).unwrap();
    fs::write(&packed, &bytes[..bytes.len() / 2]).unwrap();
    // A copy that is still being made looks the same for a minute.
    let before = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    fs::File::options().write(true).open(&packed).unwrap().set_modified(before).unwrap();
    fs::write(&log, day(25, "today")).unwrap();
    let mut agent = cluster.agent("LIC01", &[&log]);
    agent.start();
    wait_until("it is named", || {
        let row = cluster.ask(&["servers"])["rows"][0].clone();
        row["unread_parts"].to_string().contains("debug.log.1.gz") && row["events"] == 2
    });
    assert!(agent.has_said("part_skipped") && !agent.has_said("log_unreadable"), "{}", agent.errors());
    // Put back from a backup, it counts.
    fs::write(&packed, bytes).unwrap();
    wait_until("all of it counts", || {
        let row = cluster.activity("LIC01").lines().nth(1).map(str::to_owned);
        row.is_some_and(|row| row.starts_with(&format!("2026-01,d,f,{},", users + 2)))
    });
}

/// A log is moved to where no part of it is looked for, and its daemon goes on writing to it: nothing is lost.
#[test]
fn fault_44_a_log_that_is_moved_away_is_read_until_it_is_quiet() {
    let cluster = TestCluster::running();
    let (log, elsewhere) = (cluster.path("debug.log"), cluster.path("elsewhere"));
    fs::create_dir(&elsewhere).unwrap();
    fs::write(&log, day(5, "ann")).unwrap();
    let mut daemon = fs::File::options().append(true).open(&log).unwrap();
    let mut agent = cluster.agent("LIC01", &[&log]);
    agent.start();
    cluster.wait_for_activity("LIC01", &january(1));
    fs::rename(&log, elsewhere.join("kept")).unwrap();
    wait_until("the log is missing", || text(&agent.command(&["status"]).stdout).contains("does not exist"));
    daemon.write_all(day(6, "bob").as_bytes()).unwrap();
    cluster.wait_for_activity("LIC01", &january(2));
    // A new file is begun, and the daemon still writes to the old one.
    fs::write(&log, day(8, "dan")).unwrap();
    cluster.wait_for_activity("LIC01", &january(3));
    daemon.write_all(day(7, "carl").as_bytes()).unwrap();
    cluster.wait_for_activity("LIC01", &january(4));
    // It comes back under its own name, and grows.
    fs::remove_file(&log).unwrap();
    fs::rename(elsewhere.join("kept"), &log).unwrap();
    daemon.write_all(day(9, "eve").as_bytes()).unwrap();
    cluster.wait_for_activity("LIC01", &january(5));
    cluster.assert_verified();
}

/// The same with a name that rotation gives: one reader of the file is enough.
#[test]
fn fault_44_a_rotated_log_that_is_still_written_counts_once() {
    let cluster = TestCluster::running();
    let (log, part) = (cluster.path("debug.log"), cluster.path("debug.log.1"));
    fs::write(&log, day(5, "ann")).unwrap();
    let mut daemon = fs::File::options().append(true).open(&log).unwrap();
    let mut agent = cluster.agent("LIC01", &[&log]);
    agent.start();
    cluster.wait_for_activity("LIC01", &january(1));
    fs::rename(&log, &part).unwrap();
    daemon.write_all(day(6, "bob").as_bytes()).unwrap();
    fs::write(&log, day(8, "dan")).unwrap();
    daemon.write_all(day(7, "carl").as_bytes()).unwrap();
    cluster.wait_for_activity("LIC01", &january(4));
    agent.kill();
    daemon.write_all(day(9, "eve").as_bytes()).unwrap();
    agent.start();
    cluster.wait_for_activity("LIC01", &january(5));
    assert_eq!(cluster.ask(&["servers"])["rows"][0]["gaps"], 0);
    cluster.assert_verified();
}

/// A drive hangs: every access to a log's folder takes for ever. The other logs are read, and the agent stops when it is told.
#[test]
fn fault_45_a_drive_that_hangs_holds_up_its_own_log_alone() {
    if !has_strace() {
        return;
    }
    let cluster = TestCluster::running();
    let drive = cluster.path("drive");
    fs::create_dir(&drive).unwrap();
    let (hung, well) = (drive.join("hung.log"), cluster.path("well.log"));
    fs::write(&hung, day(5, "ann")).unwrap();
    fs::write(&well, day(5, "bob")).unwrap();
    let mut agent = cluster.agent("LIC01", &[&hung, &well]);
    // Each of its system calls on the drive waits for an hour.
    let (folder, file) = (drive.to_str().unwrap(), hung.to_str().unwrap());
    agent.start_with(&[
        "strace",
        "-f",
        "-o",
        "/dev/null",
        "-P",
        folder,
        "-P",
        file,
        "-e",
        "inject=all:delay_enter=3600000000",
    ]);
    cluster.wait_for_activity("LIC01", &january(1));
    fs::File::options().append(true).open(&well).unwrap().write_all(day(6, "carl").as_bytes()).unwrap();
    cluster.wait_for_activity("LIC01", &january(2));
    wait_until("the hung log is said to be hung", || {
        let rows = cluster.ask(&["servers"])["rows"].to_string();
        rows.contains("cannot read: cannot be read (the file system has not answered for")
    });
    // It stops nevertheless. (The process is held by what makes the drive hang.)
    assert!(Command::new("pkill").args(["-TERM", "-P", &agent.pid().to_string()]).status().unwrap().success());
    wait_until("the agent has stopped", || agent.has_said("stopped"));
    agent.kill();
    // The drive is back.
    agent.start();
    cluster.wait_for_activity("LIC01", &january(3));
}
