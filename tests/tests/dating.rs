//! Faults 34 to 37: when lines were written is said by the aggregator, from all that it has, whatever came first.

use std::fs;
use std::io::Write;
use std::path::Path;

use seatmeter_tests::process::{scan, text};
use seatmeter_tests::{TestCluster, wait_until};
use serde_json::json;

const HEADER: &str = "month,daemon,feature,users_checked_out,users_held,outs,ins,denials\n";

fn append(path: &Path, text: &str) {
    fs::File::options().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

fn out(time: &str, user: &str) -> String {
    format!("{time} (d) OUT: \"f\" {user}@pc  \n")
}

fn back(time: &str, user: &str) -> String {
    format!("{time} (d) IN: \"f\" {user}@pc  \n")
}

fn date(time: &str, date: &str) -> String {
    format!("{time} (lmgrd) TIMESTAMP {date}\n")
}

fn month(month: &str, users: u32, outs: u32, ins: u32) -> String {
    format!("{month},d,f,{users},{users},{outs},{ins},0\n")
}

fn servers(cluster: &TestCluster) -> String {
    text(&cluster.seatmeter(&["servers", "--output", "json"]).stdout)
}

/// A log of a server in Tokyo that is configured as one in UTC: its last hours of a month count in the next one. Once the
/// zone is corrected, all that was ever sent counts where it belongs, with and without a new line.
#[test]
fn fault_34_a_corrected_time_zone_dates_all_lines_anew() {
    let cluster = TestCluster::running();
    for has_new_line in [false, true] {
        let name = format!("tokyo{has_new_line}");
        let log = cluster.path(&format!("{name}.log"));
        append(&log, &(date("2:00:00", "3/1/2026") + &out("3:00:00", "ann") + &back("4:00:00", "ann")));
        append(&log, &(out("15:00:00", "bob") + &back("16:00:00", "bob")));
        let mut agent = cluster.agent(&name, &[&log]);
        agent.start();
        let expected = HEADER.to_owned() + &month("2026-03", 2, 2, 2);
        cluster.wait_for_activity(&name, &expected);
        agent.stop();
        // What that would change can be seen before, and changes nothing.
        let shown = cluster.ask(&["preview", &name, "--time-zone", "Asia/Tokyo"]);
        assert_eq!(
            (&shown["rows"], &shown["logs"][0]["time_zone"]),
            (
                &json!([
                    { "month": "2026-02", "before": 0, "after": 1 },
                    { "month": "2026-03", "before": 2, "after": 1 }
                ]),
                &json!("UTC")
            )
        );
        assert_eq!(cluster.activity(&name), expected);
        agent.configure("time_zone = \"UTC\"", "time_zone = \"Asia/Tokyo\"");
        agent.start();
        if has_new_line {
            append(&log, &out("17:00:00", "bob"));
        }
        let march = if has_new_line { month("2026-03", 1, 2, 1) } else { month("2026-03", 1, 1, 1) };
        cluster.wait_for_activity(&name, &(HEADER.to_owned() + &month("2026-02", 1, 1, 1) + &march));
        agent.stop();
    }
    let nowhere = cluster.seatmeter(&["preview", "tokyotrue", "--time-zone", "Nowhere/Else"]);
    assert!(text(&nowhere.stderr).contains("must be an IANA name, as in Europe/Berlin"), "{}", text(&nowhere.stderr));
    let unknown = cluster.seatmeter(&["preview", "tokyotrue", "--time-zone", "UTC", "--log", "other"]);
    assert!(text(&unknown.stderr).contains("tokyotrue has no log \"other\""), "{}", text(&unknown.stderr));
    cluster.assert_verified();
}

/// Two license servers have users of one name. Which realm a server belongs to says whether they are one person: what
/// another one would change is what it changes once it is configured.
#[test]
fn fault_34_a_realm_that_is_set_later_names_all_people_anew() {
    let cluster = TestCluster::running();
    let logs = [cluster.path("first.log"), cluster.path("second.log")];
    append(&logs[0], &(date("2:00:00", "3/1/2026") + &out("3:00:00", "ann") + &out("4:00:00", "bob")));
    append(&logs[1], &(date("2:00:00", "3/1/2026") + &out("3:00:00", "ANN") + &out("4:00:00", "eve")));
    let users = || cluster.ask(&["usage", "2026-03"])["total"]["unique_users"].as_u64();
    let mut agents: Vec<_> =
        [("LIC01", &logs[0]), ("LIC02", &logs[1])].map(|(name, log)| cluster.agent(name, &[log])).into();
    for agent in &mut agents {
        agent.start();
    }
    wait_until("both servers' users count", || users() == Some(3));
    let previewed = |server: &str, realm: &str| cluster.ask(&["preview", server, "--realm", realm])["rows"].clone();
    let other = json!([{ "month": "2026-03", "before": 3, "after": 4 }]);
    assert_eq!(previewed("LIC02", "customer-b"), other);
    assert_eq!(previewed("LIC02", ""), json!([]));
    agents[1].stop();
    agents[1].configure("name = \"LIC02\"", "name = \"LIC02\"\nrealm = \"customer-b\"");
    agents[1].start();
    wait_until("the users of the second are others", || users() == Some(4));
    assert_eq!(previewed("LIC02", ""), json!([{ "month": "2026-03", "before": 4, "after": 3 }]));
    assert_eq!(previewed("LIC01", "customer-b"), json!([{ "month": "2026-03", "before": 4, "after": 3 }]));
    cluster.assert_verified();
}

/// A log that tells no date: its lines are archived, shown and counted nowhere. Once a line tells a date, all of them count
/// where they belong, those in the months before, too. What came first changes nothing.
#[test]
fn fault_35_lines_wait_in_the_archive_for_their_date() {
    let cluster = TestCluster::running();
    let log = cluster.path("undated.log");
    let lines = out("23:00:00", "ann") + &back("23:30:00", "ann") + &out("1:00:00", "bob");
    append(&log, &lines);
    let mut agent = cluster.agent("LIC01", &[&log]);
    agent.start();
    wait_until("the lines are shown as undated", || servers(&cluster).contains("nothing dates 3 lines"));
    assert_eq!(cluster.activity("LIC01"), HEADER);
    append(&log, &(date("2:00:00", "3/1/2026") + &back("3:00:00", "bob")));
    let expected = HEADER.to_owned() + &month("2026-02", 1, 1, 1) + &month("2026-03", 1, 1, 1);
    cluster.wait_for_activity("LIC01", &expected);
    assert!(!servers(&cluster).contains("nothing dates"), "{}", servers(&cluster));
    agent.stop();
    // The operator's word does the same.
    let other = cluster.path("other.log");
    append(&other, &lines);
    let mut agent = cluster.agent("LIC02", &[&other]);
    agent.start();
    wait_until("the lines are shown as undated", || servers(&cluster).matches("nothing dates 3 lines").count() == 1);
    agent.stop();
    agent.configure("time_zone = \"UTC\"", "time_zone = \"UTC\"\ndate = \"2026-02-28\"");
    agent.start();
    let expected = HEADER.to_owned() + &month("2026-02", 1, 1, 1) + &month("2026-03", 1, 1, 0);
    cluster.wait_for_activity("LIC02", &expected);
    agent.stop();
    cluster.assert_verified();
}

/// Every night a job is the first to check out, in the same second, and the log tells no date but in its first file. The
/// files are rotated while the agent runs, while it is down, and found by a fresh one: each night counts once.
#[test]
fn fault_36_nights_that_begin_alike_follow_one_another() {
    let cluster = TestCluster::running();
    let folder = cluster.path("nights");
    fs::create_dir(&folder).unwrap();
    let log = folder.join("debug.log");
    let night = |number: u32| {
        let user = format!("u{number}");
        out("0:00:01", "job") + &back("0:00:09", "job") + &out("9:00:00", &user) + &back("23:00:00", &user)
    };
    let rotate = |kept: u32| {
        for number in (1..kept - 1).rev() {
            fs::rename(folder.join(format!("debug.log.{number}")), folder.join(format!("debug.log.{}", number + 1)))
                .unwrap();
        }
        fs::rename(&log, folder.join("debug.log.1")).unwrap();
    };
    let expected = |nights: u32| {
        // Two nights of February, the rest in March.
        let february = month("2026-02", 2 + 1, 4, 4);
        HEADER.to_owned() + &february + &month("2026-03", nights - 2 + 1, 2 * (nights - 2), 2 * (nights - 2))
    };
    append(&log, &(date("0:00:00", "2/27/2026") + &night(1)));
    let mut agent = cluster.agent("LIC01", &[&log]);
    agent.start();
    cluster.wait_for_activity("LIC01", &(HEADER.to_owned() + &month("2026-02", 2, 2, 2)));
    // Two nights while it runs, two while it is down.
    for number in 2..=3 {
        rotate(number);
        append(&log, &night(number));
        wait_until("the night is captured", || {
            let streams = agent.inspect();
            streams.to_string().matches("\"position\"").count() >= number as usize
        });
    }
    cluster.wait_for_activity("LIC01", &expected(3));
    agent.stop();
    for number in 4..=5 {
        rotate(number);
        append(&log, &night(number));
    }
    agent.start();
    cluster.wait_for_activity("LIC01", &expected(5));
    agent.stop();
    cluster.assert_verified();
    // Another day for the first of them would move all.
    let listed = cluster.ask(&["streams", "list"]);
    let rows = listed["rows"].as_array().unwrap();
    let dated_by = |name: &str| rows.iter().filter(|row| row["dated_by"] == name).collect::<Vec<_>>();
    assert_eq!((dated_by("a line").len(), dated_by("the file before").len()), (1, 4), "{listed}");
    let first = dated_by("a line")[0]["stream"].as_str().unwrap();
    let shown = cluster.ask(&["streams", "set-date", first, "2026-03-27"]);
    assert_eq!((shown["other_streams"].as_u64(), shown["changed"].as_bool()), (Some(4), Some(false)));
    let moved = [("2026-02", 4, 0), ("2026-03", 6, 10)];
    let moved = moved.map(|(month, before, after)| {
        serde_json::json!({ "month": month, "checkouts_before": before, "checkouts_after": after })
    });
    assert_eq!(shown["rows"], serde_json::json!(moved));
    // A fresh agent reads all of them again: under the same license server, and under another one.
    for server in ["LIC01", "LIC02"] {
        let mut fresh = cluster.agent_in(&format!("fresh-{server}"), server, &[&log], "");
        fresh.start();
        wait_until("the fresh agent has delivered", || {
            let inspected = fresh.inspect();
            inspected["rows"].as_array().is_some_and(|rows| rows.len() == 5)
                && inspected["batches"] == serde_json::json!([])
        });
        cluster.wait_for_activity(server, &expected(5));
        fresh.stop();
    }
    cluster.assert_verified();
    assert!(!servers(&cluster).contains("nothing dates"), "{}", servers(&cluster));
}

/// Sessions end at the last line before a silence, however many lines announce the start after it, in the same file or in the
/// next one.
#[test]
fn a_start_that_several_lines_announce_ends_sessions_before_all_of_them() {
    let cluster = TestCluster::running();
    let before = date("9:00:00", "2/27/2026") + &out("10:00:00", "ann");
    let after = [
        " 9:30:00 (lmgrd) -----------------------------------------------\n",
        " 9:30:00 (lmgrd)   Please Note:\n",
        " 9:30:00 (lmgrd) FlexNet Licensing (v11) started on s (linux) (3/9/2026)\n",
        &out("10:00:00", "bob"),
        &back("11:00:00", "bob"),
    ]
    .concat();
    let expected = HEADER.to_owned() + &month("2026-02", 1, 1, 0) + &month("2026-03", 1, 1, 1);
    let (one, next) = (cluster.path("one.log"), cluster.path("next.log"));
    let part = cluster.path("next.log.1");
    append(&one, &(before.clone() + &after));
    append(&part, &before);
    append(&next, &after);
    for (server, log) in [("LIC01", &one), ("LIC02", &next)] {
        let mut agent = cluster.agent(server, &[log]);
        agent.start();
        cluster.wait_for_activity(server, &expected);
        agent.stop();
    }
    for files in [vec![&one], vec![&part, &next]] {
        let files: Vec<&str> = files.into_iter().map(|file| file.to_str().unwrap()).collect();
        let scanned = scan(&[&["--output", "csv"], &files[..]].concat());
        assert_eq!(text(&scanned.stdout), expected);
    }
    cluster.assert_verified();
}

/// A clock that is ten years ahead, and is set right: what it dated is kept apart and shown, counts in no month, and ends
/// and holds nothing. `scan` counts it, and warns.
#[test]
fn fault_37_lines_dated_ahead_of_time_are_kept_apart() {
    let cluster = TestCluster::running();
    let log = cluster.path("ahead.log");
    let before = date("8:00:00", "3/1/2026") + &out("8:00:05", "ann") + &out("8:01:00", "bob");
    let ahead = " 9:00:00 (lmgrd) FlexNet Licensing (v11) started on s (linux) (3/1/2036)\n".to_owned()
        + &out("9:01:00", "cid")
        + &back("9:02:00", "ann");
    let after =
        date("9:10:00", "3/1/2026") + &back("10:00:00", "bob") + &out("10:01:00", "dan") + &back("10:02:00", "dan");
    append(&log, &before);
    let mut agent = cluster.agent("LIC01", &[&log]);
    agent.start();
    cluster.wait_for_activity("LIC01", &(HEADER.to_owned() + &month("2026-03", 2, 2, 0)));
    append(&log, &ahead);
    wait_until("the lines ahead are shown", || {
        servers(&cluster).contains("wrong clock: 3 events dated from 2036-03-01 09:00 to 2036-03-01 09:02")
    });
    append(&log, &after);
    let expected = HEADER.to_owned() + &month("2026-03", 3, 3, 2);
    cluster.wait_for_activity("LIC01", &expected);
    let usage = cluster.ask(&["usage", "2026-03"]);
    assert!(usage.to_string().contains("kept apart"), "{usage}");
    let april = cluster.ask(&["usage", "2026-04"]).to_string();
    assert!(!april.contains("kept apart"), "the lines were written in March: {april}");
    agent.stop();
    // A file that begins with a wrong clock has its place by its first line that counts.
    let (wrong, right) = (cluster.path("a.log"), cluster.path("a.log.1"));
    append(
        &wrong,
        &(date("8:00:00", "5/1/2036")
            + &out("8:01:00", "eve")
            + &date("8:10:00", "5/2/2026")
            + &back("9:00:00", "fay")),
    );
    append(&right, &(date("8:00:00", "5/1/2026") + &out("8:30:00", "fay")));
    let mut agent = cluster.agent("LIC02", &[&wrong]);
    agent.start();
    cluster.wait_for_activity("LIC02", &(HEADER.to_owned() + &month("2026-05", 1, 1, 1)));
    agent.stop();
    // A rotated part that is ahead as a whole has no place among the others, whatever came first.
    let folder = cluster.path("rotated");
    fs::create_dir(&folder).unwrap();
    append(&folder.join("debug.log.2"), &(date("9:00:00", "6/1/2026") + &out("10:00:00", "gil")));
    append(&folder.join("debug.log.1"), &(date("12:00:00", "6/1/2036") + &out("12:40:00", "hal")));
    append(&folder.join("debug.log"), &(date("18:05:00", "6/1/2026") + &out("20:00:00", "ida")));
    let mut agent = cluster.agent("LIC03", &[&folder.join("debug.log")]);
    agent.start();
    cluster.wait_for_activity("LIC03", &(HEADER.to_owned() + &month("2026-06", 2, 2, 0)));
    agent.stop();
    cluster.assert_verified();
    // The last line before the clock was set is a line like any other, in one batch or in two.
    let (first, second) = (
        date("9:00:00", "3/31/2026") + &out("10:00:00", "ann") + &date("6:00:00", "4/1/2026"),
        date("12:00:00", "4/1/2036") + &out("12:30:00", "bob"),
    );
    for is_one_batch in [true, false] {
        let name = format!("batches{is_one_batch}");
        let log = cluster.path(&format!("{name}.log"));
        append(&log, &first);
        if is_one_batch {
            append(&log, &second);
        }
        let mut agent = cluster.agent(&name, &[&log]);
        agent.start();
        let expected = HEADER.to_owned() + &month("2026-03", 1, 1, 0) + "2026-04,d,f,0,1,0,0,0\n";
        cluster.wait_for_activity(&name, &expected);
        if !is_one_batch {
            append(&log, &second);
            wait_until("the lines ahead are shown", || {
                let shown = cluster.ask(&["servers", &name]).to_string();
                shown.contains("wrong clock: 1 event dated 2036-04-01 12:30")
            });
        }
        assert_eq!(cluster.activity(&name), expected);
        agent.stop();
    }
    cluster.assert_verified();
    let scanned = scan(&["--output", "csv", log.to_str().unwrap()]);
    assert!(text(&scanned.stdout).contains("2036-03"), "{scanned:?}");
    assert!(text(&scanned.stderr).contains("ahead of this machine's clock"), "{scanned:?}");
}

/// A file that a wrong clock has dated from its beginning: an operator sees what another day would change, says which day it
/// was, and takes that back. What was said survives a restart and a rebuild.
#[test]
fn fault_37_an_operator_says_on_which_day_a_file_begins() {
    let mut cluster = TestCluster::running();
    let log = cluster.path("wrong.log");
    let lines =
        date("8:00:00", "3/31/2036") + &out("23:00:00", "ann") + &out("1:00:00", "bob") + &back("2:00:00", "ann");
    append(&log, &lines);
    let mut agent = cluster.agent("LIC01", &[&log]);
    agent.start();
    wait_until("the lines ahead are shown", || servers(&cluster).contains("wrong clock: 3 events"));
    assert_eq!(cluster.activity("LIC01"), HEADER);
    let listed = cluster.ask(&["streams", "list"]);
    let row = &listed["rows"][0];
    assert_eq!((row["first_day"].as_str(), row["dated_by"].as_str()), (Some("2036-03-31"), Some("a line")));
    let stream = row["stream"].as_str().unwrap()[..8].to_owned();
    let set = |cluster: &TestCluster, more: &[&str]| {
        let arguments: Vec<&str> = ["streams", "set-date", &stream].iter().chain(more).copied().collect();
        cluster.ask(&arguments)
    };
    let shown = set(&cluster, &["2026-03-31"]);
    let difference = |month: &str, before: u64, after: u64| serde_json::json!({ "month": month, "checkouts_before": before, "checkouts_after": after });
    let expected = [("2026-03", 0, 1), ("2026-04", 0, 1), ("2036-03", 1, 0), ("2036-04", 1, 0)];
    assert_eq!(
        shown["rows"],
        serde_json::json!(expected.map(|(month, before, after)| difference(month, before, after)))
    );
    assert_eq!((shown["changed"].as_bool(), cluster.activity("LIC01").as_str()), (Some(false), HEADER));
    assert_eq!(set(&cluster, &["2026-03-31", "--yes"])["changed"], true);
    let expected = HEADER.to_owned() + &month("2026-03", 1, 1, 0) + "2026-04,d,f,1,2,1,1,0\n";
    cluster.wait_for_activity("LIC01", &expected);
    assert!(!servers(&cluster).contains("wrong clock"), "{}", servers(&cluster));
    cluster.kill_aggregator();
    cluster.start_aggregator();
    append(&log, &back("3:00:00", "bob"));
    cluster.wait_for_activity("LIC01", &expected.replace("1,2,1,1,0", "1,2,1,2,0"));
    cluster.assert_verified();
    set(&cluster, &["--undo", "--yes"]);
    cluster.wait_for_activity("LIC01", HEADER);
    wait_until("the lines ahead are shown", || servers(&cluster).contains("wrong clock: 4 events"));
    cluster.assert_verified();
    let unknown = cluster.seatmeter(&["streams", "set-date", "00", "2026-03-31"]);
    assert!(!unknown.status.success() && text(&unknown.stderr).contains("there is no stream"), "{unknown:?}");
}
