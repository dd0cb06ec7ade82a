//! Inputs that came out wrong in the field: several forms of lines, and several logs that meet.

use std::fs;
use std::path::PathBuf;

use seatmeter_tests::process::{scan, text};
use seatmeter_tests::{TestCluster, shared};

/// Each case: its name, its files, and its expected counts.
fn cases() -> Vec<(String, Vec<PathBuf>, String)> {
    let Some(field) = shared("corpus/field") else { return Vec::new() };
    let paths = |folder: &PathBuf| -> Vec<PathBuf> {
        let mut found: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        found.sort();
        found
    };
    let mut found = Vec::new();
    for expected in paths(&field).into_iter().filter(|path| path.extension().is_some_and(|ext| ext == "csv")) {
        let (log, folder) = (expected.with_extension("log"), expected.with_extension(""));
        let files = if folder.is_dir() { paths(&folder) } else { vec![log] };
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        found.push((name, files, fs::read_to_string(expected).unwrap()));
    }
    assert!(!found.is_empty());
    found
}

fn scanned(files: &[PathBuf]) -> String {
    let files = files.iter().map(|file| file.to_str().unwrap());
    text(&scan(&["--output", "csv"].into_iter().chain(files).collect::<Vec<_>>()).stdout)
}

#[test]
fn a_scan_counts_what_came_out_wrong_in_the_field() {
    for (name, mut files, expected) in cases() {
        assert_eq!(scanned(&files), expected, "{name}");
        files.reverse();
        assert_eq!(scanned(&files), expected, "{name}, in the other order");
    }
}

#[test]
fn the_whole_way_counts_what_came_out_wrong_in_the_field() {
    let cluster = TestCluster::running();
    let mut agents = Vec::new();
    for (name, files, expected) in cases() {
        let folder = cluster.path(&format!("{name}.logs"));
        fs::create_dir(&folder).unwrap();
        let logs: Vec<PathBuf> = files.iter().map(|file| folder.join(file.file_name().unwrap())).collect();
        for (from, to) in files.iter().zip(&logs) {
            fs::copy(from, to).unwrap();
        }
        let logs: Vec<&std::path::Path> = logs.iter().map(PathBuf::as_path).collect();
        let mut agent = cluster.agent(&name, &logs);
        agent.start();
        agents.push((agent, name, expected));
    }
    for (_, name, expected) in &agents {
        cluster.wait_for_activity(name, expected);
    }
    cluster.assert_verified();
}

const HEADER: &str = "month,daemon,feature,users_checked_out,users_held,outs,ins,denials\n";

/// A license manager that overwrites its log at each start: what was open in the file before ended with that file.
#[test]
fn a_restart_that_begins_a_new_file_ends_what_was_open_in_the_one_before() {
    let cluster = TestCluster::running();
    let old = " 8:00:00 (lmgrd) FlexNet Licensing (v11.19) started on S (linux) (1/5/2026)\n \
               8:00:01 (d) OUT: \"f\" ada@pc1  \n 9:00:00 (d) OUT: \"f\" bob@pc2  \n 9:30:00 (d) IN: \"f\" bob@pc2  \n";
    let new = " 8:00:00 (lmgrd) FlexNet Licensing (v11.19) started on S (linux) (3/9/2026)\n \
               8:00:01 (d) OUT: \"f\" carl@pc3  \n";
    let (log, part, whole) = (cluster.path("debug.log"), cluster.path("debug.log.1"), cluster.path("whole.log"));
    fs::write(&part, old).unwrap();
    fs::write(&log, new).unwrap();
    fs::write(&whole, format!("{old}{new}")).unwrap();
    let expected = format!("{HEADER}2026-01,d,f,2,2,2,1,0\n2026-03,d,f,1,1,1,0,0\n");
    assert_eq!(scanned(std::slice::from_ref(&whole)), expected);
    assert_eq!(scanned(&[log.clone(), part.clone()]), expected);
    assert_eq!(scanned(&[part, log.clone()]), expected);
    let mut agent = cluster.agent("LIC01", &[&log]);
    agent.start();
    cluster.wait_for_activity("LIC01", &expected);
    cluster.assert_verified();
}

/// Checkins of the next file end the sessions of the one before, and parts are told from logs side by side.
#[test]
fn parts_of_two_logs_side_by_side_are_scanned_as_two_logs() {
    let cluster = TestCluster::new();
    let file = |name: &str, content: &str| {
        let path = cluster.path(name);
        fs::write(&path, content).unwrap();
        path
    };
    let manager = |date: &str| format!(" 8:00:09 (lmgrd) FlexNet Licensing (v11.19) started on S (linux) ({date})\n");
    let files = [
        file("lmgrd.log.1", &format!("{} 9:00:00 (lmgrd) TIMESTAMP 1/31/2026\n", manager("1/5/2026"))),
        file("lmgrd.log", " 9:00:01 (lmgrd) TIMESTAMP 1/31/2026\n 9:00:00 (lmgrd) TIMESTAMP 3/31/2026\n"),
        file(
            "vendor.log.1",
            " 8:00:05 (d) TIMESTAMP 1/5/2026\n 9:00:00 (d) OUT: \"f\" ada@pc1  \n 9:00:00 (d) TIMESTAMP 1/31/2026\n",
        ),
        file(
            "vendor.log",
            " 9:00:02 (d) TIMESTAMP 1/31/2026\n 9:00:00 (d) TIMESTAMP 3/2/2026\n 9:30:00 (d) IN: \"f\" ada@pc1  \n",
        ),
    ];
    let expected = format!("{HEADER}2026-01,d,f,1,1,1,0,0\n2026-02,d,f,0,1,0,0,0\n2026-03,d,f,0,1,0,1,0\n");
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]] {
        assert_eq!(scanned(&order.map(|index| files[index].clone())), expected, "{order:?}");
    }
}

/// A copy of a log, or of its beginning, counts once; files that part are counted both, and said to share lines.
#[test]
fn copies_of_a_log_are_counted_once() {
    let cluster = TestCluster::new();
    let begin = " 8:00:00 (lmgrd) TIMESTAMP 1/5/2026\n 8:00:01 (d) OUT: \"f\" ada@pc1  \n";
    let more = " 9:00:00 (d) OUT: \"f\" bob@pc2  \n";
    let other = " 9:00:00 (d) OUT: \"f\" carl@pc3  \n";
    let file = |name: &str, content: &str| {
        let path = cluster.path(name);
        fs::write(&path, content).unwrap();
        path
    };
    let log = file("debug.log", &format!("{begin}{more}"));
    let (copy, older) = (file("debug - Copy.log", &format!("{begin}{more}")), file("debug (2).log", begin));
    let snapshot = file("snapshot.log", &format!("{begin}{other}"));
    let packed = cluster.path("packed.gz");
    xtask::sim::files::gzip(&copy, &packed).unwrap();
    fs::copy(&log, &copy).unwrap();
    let expected = format!("{HEADER}2026-01,d,f,2,2,2,0,0\n");
    for others in [vec![&copy], vec![&older], vec![&packed], vec![&older, &copy, &packed], vec![&log]] {
        let mut files: Vec<PathBuf> = others.into_iter().cloned().collect();
        files.push(log.clone());
        assert_eq!(scanned(&files), expected, "{files:?}");
        files.reverse();
        let output = scan(&files.iter().map(|file| file.to_str().unwrap()).collect::<Vec<_>>());
        assert!(text(&output.stderr).contains("counted once"), "{}", text(&output.stderr));
        assert_eq!(output.status.code(), Some(0));
    }
    // What files have in common counts once, if a date stands in it.
    let expected = format!("{HEADER}2026-01,d,f,3,3,3,0,0\n");
    for files in [[&log, &snapshot, &older], [&snapshot, &copy, &log]] {
        let files = files.map(|file| file.to_str().unwrap());
        assert_eq!(text(&scan(&[&["--output", "csv"][..], &files].concat()).stdout), expected, "{files:?}");
        let output = scan(&files);
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stderr).contains("what they share is counted once"), "{}", text(&output.stderr));
    }
    let undated = [more, other].map(|end| format!(" 8:00:01 (d) OUT: \"f\" job@pc1  \n{end}"));
    let files = [file("monday.log", &undated[0]), file("tuesday.log", &undated[1])];
    let files = [&["--date", "2026-01-05"][..], &files.each_ref().map(|file| file.to_str().unwrap())].concat();
    let output = scan(&[&["--output", "csv"][..], &files].concat());
    assert_eq!(text(&output.stdout), format!("{HEADER}2026-01,d,f,3,3,4,0,0\n"));
    assert_eq!(output.status.code(), Some(3), "some lines are counted twice");
}

/// Two logs with names that begin alike are two logs, whether both are configured or one.
#[test]
fn logs_beside_each_other_are_logs_of_their_own() {
    let cluster = TestCluster::running();
    let content = |minute: u32, users: [&str; 4]| {
        let line = |(second, user): (usize, &&str)| format!(" 8:{minute:02}:{second:02} (d) OUT: \"f\" {user}@pc  \n");
        let uses: String = users.iter().enumerate().map(line).collect();
        format!(" 8:00:{minute:02} (lmgrd) TIMESTAMP 1/5/2026\n{uses}")
    };
    let (first, second, third) =
        (cluster.path("debug.log"), cluster.path("debug_2.log"), cluster.path("debug-27010.log"));
    fs::write(&first, content(1, ["a", "b", "c", "d"])).unwrap();
    fs::write(&second, content(2, ["e", "f", "g", "h"])).unwrap();
    fs::write(&third, content(3, ["i", "j", "k", "l"])).unwrap();
    let mut both = cluster.agent("both", &[&first, &second]);
    let mut one = cluster.agent("one", &[&first]);
    both.start();
    one.start();
    cluster.wait_for_activity("both", &format!("{HEADER}2026-01,d,f,8,8,8,0,0\n"));
    cluster.wait_for_activity("one", &format!("{HEADER}2026-01,d,f,4,4,4,0,0\n"));
    // What a file is taken for is said, with the reason.
    fs::write(cluster.path("debug_2.log.1"), "").unwrap();
    let said = text(&both.command(&["check-config"]).stdout);
    assert!(said.contains("debug_2.log.1 (rotated: a number in its name)"), "{said}");
    assert!(!said.contains("27010"), "{said}");
    cluster.assert_verified();
}

/// A truncation without append leaves NULs: they are skipped and counted, and the line after them is whole.
#[test]
fn nuls_of_a_truncation_cost_no_line() {
    let cluster = TestCluster::running();
    let path = cluster.path("debug.log");
    let begin = b" 8:00:00 (lmgrd) TIMESTAMP 1/5/2026\n 8:00:01 (d) OUT: \"f\" ada@pc1  \n";
    let end = b" 9:00:00 (d) OUT: \"f\" bob@pc2  \n";
    fs::write(&path, [&begin[..], &vec![0; 3 << 20], end].concat()).unwrap();
    let expected = format!("{HEADER}2026-01,d,f,2,2,2,0,0\n");
    assert_eq!(scanned(std::slice::from_ref(&path)), expected);
    let said = scan(&[path.to_str().unwrap()]);
    assert!(said.status.success() && text(&said.stderr).contains("3,145,728 NUL bytes"), "{}", text(&said.stderr));
    let mut agent = cluster.agent("LIC01", &[&path]);
    agent.start();
    cluster.wait_for_activity("LIC01", &expected);
    cluster.assert_verified();
}
