//! Fault 47: the logs of RLM license servers, in all their formats, switched, restarted and read through kills.

use std::fs;

use fastrand::Rng;
use seatmeter_tests::process::{scan, text};
use seatmeter_tests::{Agent, TestCluster, shared, wait_until};
use xtask::sim::{Log, ReportFormat, RlmServer, Rotation, truth};

const HEADER: &str = "month,daemon,feature,users_checked_out,users_held,outs,ins,denials\n";

/// 2026-01-30, so that a month ends within a few thousand records.
const START: i64 = 1_769_760_000;

/// What a scan counts, and what it says.
fn scanned(arguments: &[&str]) -> (String, String) {
    let output = scan(&["--output", "csv"].iter().chain(arguments).copied().collect::<Vec<_>>());
    (text(&output.stdout), text(&output.stderr))
}

/// The logs that were published, counted by hand.
#[test]
fn fault_47_published_logs_of_rlm_are_counted() {
    let Some(corpus) = shared("corpus") else { return };
    let debug = "2013-05,demo,analytics,2,2,2,1,0\n2013-05,demo,datavis,1,2,2,1,0\n2013-05,demo,simulator,1,1,1,1,1\n";
    for (name, date, expected, unrecognised) in [
        ("rlm/newyear.log", None, "2012-12,rlm,datavis,0,1,0,1,0\n2013-01,rlm,datavis,1,2,1,1,0\n", 0),
        ("rlm/samplelog-report.log", None, debug, 0),
        ("rlm/samplelog-report-tokens.log", None, "2014-01,demo,analytics,1,1,1,1,0\n", 0),
        // The debug log of the same server, which tells no year.
        ("rlm/samplelog-isv.log", Some("2013-05-11"), debug, 0),
        (
            "field-other/rlm-report-v14-switch.txt",
            None,
            "2025-09,afrlm,af_autoform_seat_nu,1,2,1,1,0\n2025-09,afrlm,af_company_string,2,4,2,9,0\n\
             2025-09,afrlm,af_solver_addon,2,2,4,3,2\n2025-09,afrlm,af_workspace_addon_nu,1,1,1,1,0\n",
            // Four records that somebody has marked with `--`.
            4,
        ),
    ] {
        let path = corpus.join(name);
        let mut arguments = vec![path.to_str().unwrap()];
        arguments.extend(date.iter().flat_map(|date| ["--date", date]));
        let (counts, said) = scanned(&arguments);
        assert_eq!(counts, HEADER.to_owned() + expected, "{name}");
        assert!(said.contains(&format!("{unrecognised} not recognised")), "{name}: {said}");
    }
}

#[test]
fn fault_47_a_scan_counts_all_formats_of_rlm() {
    let folder = tempfile::tempdir().unwrap();
    for format in [ReportFormat::Std, ReportFormat::Small] {
        let mut server = RlmServer::new(47, format, 60, START);
        let (mut first, mut second) = (Vec::new(), Vec::new());
        server.start(&mut first);
        (0..4000).for_each(|_| server.step(&mut first));
        server.crash(90_000);
        server.start(&mut first);
        (0..500).for_each(|_| server.step(&mut first));
        server.switch(&mut first, &mut second);
        (0..2000).for_each(|_| server.step(&mut second));
        let [one, two, debug] = ["report.log.1", "report.log", "debug.dlog"].map(|name| folder.path().join(name));
        fs::write(&one, first).unwrap();
        fs::write(&two, second).unwrap();
        fs::write(&debug, &server.debug).unwrap();
        let expected = truth::as_csv(&server.figures());
        let (counts, said) = scanned(&[two.to_str().unwrap(), one.to_str().unwrap()]);
        assert_eq!(counts, expected, "{format:?}: {said}");
        assert!(said.contains(" 0 not recognised"), "{said}");
        let (counts, said) = scanned(&["--date", "2026-01-30", debug.to_str().unwrap()]);
        assert_eq!(counts, expected, "the debug log: {said}");
    }
}

/// Lines tell their month and day, and the year at most once: days between files, a February 29 and a year's end are seen.
#[test]
fn fault_47_months_and_days_find_their_years() {
    let folder = tempfile::tempdir().unwrap();
    let event = |verb: &str, stamp: &str, user: &str| format!("{stamp} (demo) {verb}: p v1.0 by {user}@h \n");
    let out = |stamp: &str, user: &str| {
        format!(
            "OUT p 1.0 1 {user} h \"\" 1 1 0 41 41 1a14 \"\" \"\" \"\" {stamp}\nIN 1 p 1.0 {user} h \"\" 1 0 0 41 {stamp}\n"
        )
    };
    let row = |month: &str, daemon: &str, users: u32| format!("{month},{daemon},p,{users},{users},{users},{users},0\n");
    let both = |stamp: &str, user: &str| event("OUT", stamp, user) + &event("IN", stamp, user);
    for (name, files, date, expected) in [
        // The next file begins days later, at a later time of day.
        (
            "parts",
            vec![both("01/30 09:00", "ann"), both("02/02 18:00", "bob")],
            Some("2026-01-30"),
            row("2026-01", "demo", 1) + &row("2026-02", "demo", 1),
        ),
        (
            "a leap year",
            vec![both("02/28 10:00", "ann") + &both("03/31 15:00", "bob") + &both("04/01 15:00", "carl")],
            Some("2024-02-28"),
            row("2024-02", "demo", 1) + &row("2024-03", "demo", 1) + &row("2024-04", "demo", 1),
        ),
        (
            "a year's end",
            vec![both("12/31 23:59", "ann") + &both("01/01 00:00", "bob")],
            Some("2025-12-31"),
            row("2025-12", "demo", 1) + &row("2026-01", "demo", 1),
        ),
        // The date comes after lines of other days.
        (
            "a report log without its head",
            vec![
                out("03/28 10:00:00", "zoe")
                    + &out("11/28 10:00:00", "ann")
                    + "12/02/2025 11:30\n"
                    + &out("12/02 12:00:00", "bob"),
            ],
            None,
            row("2025-03", "", 1) + &row("2025-11", "", 1) + &row("2025-12", "", 1),
        ),
        (
            "a leap day before the date",
            vec![out("02/28 10:00:00", "ann") + &out("02/29 10:00:00", "bob") + "03/01/2024 11:30\n"],
            None,
            row("2024-02", "", 2),
        ),
    ] {
        let paths: Vec<_> = (0..files.len()).map(|number| folder.path().join(format!("{name}.{number}.log"))).collect();
        paths.iter().zip(&files).for_each(|(path, text)| fs::write(path, text).unwrap());
        let mut arguments: Vec<&str> = paths.iter().map(|path| path.to_str().unwrap()).collect();
        arguments.extend(date.iter().flat_map(|date| ["--date", date]));
        let (counts, said) = scanned(&arguments);
        assert_eq!(counts, HEADER.to_owned() + &expected, "{name}: {said}");
    }
}

/// Where a file follows another one, a time of day does not tell the days between: the part waits for a date.
#[test]
fn fault_47_a_part_with_months_and_days_waits_for_its_year() {
    let cluster = TestCluster::running();
    let log = cluster.path("report.log");
    let out = |stamp: &str, user: &str| {
        format!(
            "OUT p 1.0 1 {user} h \"\" 1 1 0 41 41 1a14 \"\" \"\" \"\" {stamp}\nIN 1 p 1.0 {user} h \"\" 1 0 0 41 {stamp}\n"
        )
    };
    let head = "RLM Report Log Format 0, version 14.1, authenticated\nISV: demo, RLM version 14.1\nSTART h 01/31/2026 09:00:00\n";
    fs::write(cluster.path("report.log.1"), head.to_owned() + &out("01/31 10:00:00", "ann")).unwrap();
    let mut current = Log::create(&log).unwrap();
    current.write(out("02/01 15:00:00", "bob").as_bytes()).unwrap();
    let mut agent = cluster.agent("LIC01", &[&log]);
    agent.start();
    let january = format!("{HEADER}2026-01,demo,p,1,1,1,1,0\n");
    cluster.wait_for_activity("LIC01", &january);
    wait_until("the part is shown as undated", || cluster.ask(&["servers"])["rows"][0]["undated_lines"] == 2);
    current.write(b"02/01/2026 15:30\n").unwrap();
    cluster.wait_for_activity("LIC01", &(january + "2026-02,demo,p,1,1,1,1,0\n"));
    cluster.assert_verified();
}

/// A log that two license managers write: none of its uses is ignored in silence.
#[test]
fn fault_47_lines_of_another_license_manager_are_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("both.log");
    let flexnet = " 8:00:00 (lmgrd) TIMESTAMP 1/5/2026\n 9:00:00 (d) OUT: \"f\" ann@h  \n";
    let rlm = "START s 01/05/2026 08:00:00\nOUT p 1.0 1 bob h \"\" 1 1 0 41 41 1 \"\" \"\" \"\" 01/05 10:00:00\n";
    for text in [flexnet.to_owned() + rlm, rlm.to_owned() + flexnet] {
        fs::write(&path, text).unwrap();
        let (counts, said) = scanned(&[path.to_str().unwrap()]);
        assert_eq!(counts.lines().count(), 2, "{counts}");
        assert!(said.contains("another license manager") && said.contains(" 1 not recognised"), "{said}");
    }
    // A date that somebody wrote into it makes no log of RLM.
    fs::write(&path, "01/05/2026 08:00\n".to_owned() + flexnet).unwrap();
    assert_eq!(scanned(&[path.to_str().unwrap()]).0, format!("{HEADER}2026-01,d,f,1,1,1,0,0\n"));
}

/// Two license servers with a report log in each format, and a debug log under a third name: each tells the truth, whatever is
/// killed while the logs are switched.
#[test]
fn fault_47_rlm_is_counted_through_switches_restarts_and_kills() {
    let seed = 20_261_127;
    println!("seed {seed}");
    let mut rng = Rng::with_seed(seed);
    let mut cluster = TestCluster::running();
    let mut servers =
        [ReportFormat::Std, ReportFormat::Small].map(|format| RlmServer::new(rng.u64(..), format, 60, START));
    let mut logs = ["std.log", "small.log"].map(|name| Log::create(&cluster.path(name)).unwrap());
    let mut debug = Log::create(&cluster.path("debug.dlog")).unwrap();
    for (server, log) in servers.iter_mut().zip(&mut logs) {
        let mut lines = Vec::new();
        server.start(&mut lines);
        log.write(&lines).unwrap();
    }
    debug.write(&std::mem::take(&mut servers[0].debug)).unwrap();
    let mut agents = [
        cluster.agent("STD", &[logs[0].path()]),
        cluster.agent("SMALL", &[logs[1].path()]),
        cluster.agent("DEBUG", &[debug.path()]),
    ];
    agents[2].configure("kind = \"file\"", "kind = \"file\"\ndate = \"2026-01-30\"");
    agents.iter_mut().for_each(Agent::start);
    for round in 0..8 {
        for (server, log) in servers.iter_mut().zip(&mut logs) {
            let mut lines = Vec::new();
            (0..rng.u32(200..500)).for_each(|_| server.step(&mut lines));
            if round % 3 == 1 {
                let mut next = Vec::new();
                server.switch(&mut lines, &mut next);
                log.write(&lines).unwrap();
                log.rotate(if rng.bool() { Rotation::Rename } else { Rotation::Dated }).unwrap();
                lines = next;
            } else if round % 3 == 2 {
                server.crash(4000);
                server.start(&mut lines);
            }
            log.write(&lines).unwrap();
        }
        if round % 4 == 3 {
            debug.rotate(Rotation::Rename).unwrap();
        }
        debug.write(&std::mem::take(&mut servers[0].debug)).unwrap();
        let killed = rng.usize(..4);
        match agents.get_mut(killed) {
            Some(agent) => {
                agent.kill();
                agent.start();
            }
            None => {
                cluster.kill_aggregator();
                cluster.start_aggregator();
            }
        }
    }
    for (name, server) in [("STD", 0), ("SMALL", 1), ("DEBUG", 0)] {
        cluster.wait_for_activity(name, &truth::as_csv(&servers[server].figures()));
    }
    // The report log in seconds also tells which sessions share a seat.
    for figures in servers[0].figures() {
        let usage = cluster.ask(&["usage", &figures.month, "--server", "STD"]);
        let rows = usage["rows"].as_array().unwrap();
        let row = rows.iter().find(|row| row["sku"] == figures.feature.as_str()).unwrap();
        let hours = (figures.seat_seconds as f64 / 36.0).round() / 100.0;
        assert_eq!(
            (row["peak_concurrent"].as_u64(), row["seat_hours"].as_f64()),
            (Some(figures.peak), Some(hours)),
            "{row}"
        );
    }
    cluster.assert_verified();
}
