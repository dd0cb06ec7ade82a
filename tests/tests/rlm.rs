//! Fault 47: the logs of RLM license servers, in all their formats, switched, restarted and read through kills.

use std::fs;

use fastrand::Rng;
use seatmeter_tests::process::{scan, text};
use seatmeter_tests::{Agent, TestCluster, shared};
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
    cluster.assert_verified();
}
