//! Answers are bounded and whole, whatever the fleet: ten thousand license servers, a hundred thousand people.

use roaring::RoaringBitmap;
use seatmeter_aggregator::store::agents;
use seatmeter_aggregator::store::facts_schema::Origin;
use seatmeter_aggregator::store::names::{self, Feature, Name, NameKind};
use seatmeter_aggregator::store::projections::{Projected, save_projection};
use seatmeter_aggregator::store::received::{self, Configured, LicenseServer, Log};
use seatmeter_aggregator::store::settings;
use seatmeter_aggregator::store::streams::{self, LineTime, Stream};
use seatmeter_aggregator::store::usage::{self, Usage};
use seatmeter_aggregator::store::{Store, StoreError, in_transaction};
use seatmeter_proto::v1::{Heartbeat, Hello, SourceState, SourceStatus};
use seatmeter_tests::TestCluster;
use seatmeter_tests::process::text;

const SERVERS: i64 = 10_000;
const PEOPLE: u32 = 100_000;

/// 2026-01, as facts number months.
const MONTH: i32 = 2026 * 12;

/// 2026-01-10 00:00 UTC.
const AT: i64 = 1_768_003_200;

/// A database with a log and a feature for each license server, and all people on the first one.
fn fill(cluster: &TestCluster) {
    let state = cluster.path("aggregator");
    std::fs::create_dir_all(&state).unwrap();
    let store = Store::open_embedded(&state).unwrap();
    let mut archiver = store.archiver().unwrap();
    // As if the aggregator had run before: the days of the facts are those of its time zone.
    let incarnation = settings::incarnation(archiver.as_mut()).unwrap();
    let (mut projector, _) = store.projector(&Origin { incarnation, time_zone: "UTC".into() }).unwrap();
    in_transaction(archiver.as_mut(), |connection| -> Result<(), StoreError> {
        for id in 1..=SERVERS {
            let name = format!("license-server-with-a-long-name-{id:05}.example.com");
            let realm = String::new();
            received::save_server(
                connection,
                &LicenseServer {
                    id,
                    key: name.clone(),
                    name: name.clone(),
                    realm,
                    expected_from: None,
                    retired_from: None,
                },
            )?;
            let hello = Hello { agent_id: format!("{id}"), host: name, ..Hello::default() };
            let source = |n| SourceStatus {
                log: format!("/logs/{n}"),
                state: SourceState::Missing.into(),
                ..SourceStatus::default()
            };
            let heartbeat = Heartbeat { sources: (0..3).map(source).collect(), ..Heartbeat::default() };
            agents::save_agent(connection, id, &hello, &heartbeat, AT, 0)?;
            let log = Log { id, server_id: id, name: "/logs/0".into(), rebuilds: 0, configured: Configured::default() };
            received::add_log(connection, &log)?;
            let fingerprint = id.to_le_bytes().to_vec();
            let (realm, mark, lines) = (String::new(), 1, [1, 2, 3]);
            let stream = Stream {
                id,
                server_id: id,
                log_id: id,
                beginning: fingerprint.clone(),
                fingerprint,
                realm,
                begins_at: AT,
                mark,
                last_line_at: AT,
                lines,
                check: Vec::new(),
                common_in_log: 0,
                common_elsewhere: 0,
                first_line_time: AT,
                after: Vec::new(),
                told_day: Some(0),
                told_position: 0,
                given_day: None,
                found_after: 0,
                begins: LineTime { time: AT, ..LineTime::default() },
                last: LineTime { time: AT, ..LineTime::default() },
                first_day: Some(0),
            };
            streams::save_stream(connection, &stream)?;
        }
        Ok(())
    })
    .unwrap();
    in_transaction(projector.as_mut(), |connection| -> Result<(), StoreError> {
        for log in 1..=SERVERS {
            save_projection(connection, log, &Projected { last_line_at: AT, ..Projected::default() })?;
        }
        let people: Vec<Name> = (0..PEOPLE)
            .map(|id| Name { id, realm: String::new(), name: format!("person{id:06}"), key: format!("person{id:06}") })
            .collect();
        names::add_names(connection, NameKind::Identity, &people)?;
        names::add_features(connection, &[Feature { id: 0, daemon: "d".into(), name: "f".into() }])?;
        let everybody: RoaringBitmap = (0..PEOPLE).collect();
        for log in 1..=SERVERS {
            let held = if log == 1 { everybody.clone() } else { RoaringBitmap::from([log as u32]) };
            usage::put_usage(connection, (log, MONTH, 0), &Usage { outs: 1, held, ..Usage::default() })?;
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn ten_thousand_license_servers_and_a_hundred_thousand_people_are_answered_whole() {
    let mut cluster = TestCluster::new();
    fill(&cluster);
    cluster.start_aggregator();
    let lines = |arguments: &[&str], code: i32| {
        let output = cluster.seatmeter(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout).lines().count()
    };
    // A row for each log: each agent names three.
    assert_eq!(lines(&["servers", "--output", "csv"], 3), 1 + 3 * SERVERS as usize);
    assert_eq!(lines(&["agents", "--output", "csv"], 3), 1 + SERVERS as usize);
    assert_eq!(lines(&["usage", "2026-01", "--by-server", "--output", "csv"], 0), 1 + SERVERS as usize);
    assert_eq!(lines(&["users", "2026-01", "--output", "csv"], 0), 1 + PEOPLE as usize);
    let activity = cluster.ask(&["activity"]);
    assert_eq!(activity["rows"].as_array().unwrap().len(), SERVERS as usize);
    let usage = cluster.ask(&["usage", "2026-01"]);
    assert_eq!((&usage["rows"][0]["unique_users"], &usage["total"]["unique_users"]), (&PEOPLE.into(), &PEOPLE.into()));
    assert_eq!(usage["completeness"]["incomplete_license_servers"], SERVERS);
    assert_eq!(usage["completeness"]["incomplete"].as_array().unwrap().len(), 100);
}
