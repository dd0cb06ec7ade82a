//! Fault 42: making figures holds up nothing but figures. Here, somebody else has locked them.

use std::fs;
use std::io::Write;

use seatmeter_proto::transport::Dialer;
use seatmeter_tests::process::text;
use seatmeter_tests::{TestCluster, wait_until};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

fn day(day: u32, user: &str) -> String {
    format!(
        " 8:00:00 (lmgrd) TIMESTAMP 1/{day}/2026\n 8:00:01 (d) OUT: \"f\" {user}@h  \n 9:00:00 (d) IN: \"f\" {user}@h  \n"
    )
}

fn january(users: u32) -> String {
    let header = "month,daemon,feature,users_checked_out,users_held,outs,ins,denials\n";
    format!("{header}2026-01,d,f,{users},{users},{users},{users},0\n")
}

fn health(cluster: &TestCluster, service: &str) -> ServingStatus {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let channel = Dialer::new(&cluster.operators_url(), None).unwrap().connect().await.unwrap();
        let request = HealthCheckRequest { service: service.into() };
        HealthClient::new(channel).check(request).await.unwrap().into_inner().status()
    })
}

/// Locks the figures against everybody who writes them, until the lock is dropped.
fn lock(cluster: &TestCluster) -> rusqlite::Connection {
    let facts = rusqlite::Connection::open(cluster.path("aggregator/facts.db")).unwrap();
    facts.busy_timeout(std::time::Duration::from_secs(60)).unwrap();
    facts.execute_batch("BEGIN IMMEDIATE").unwrap();
    facts
}

#[test]
fn fault_42_batches_are_acknowledged_while_no_figure_can_be_written() {
    let mut cluster = TestCluster::running();
    let (first, second) = (cluster.path("first.log"), cluster.path("second.log"));
    fs::write(&first, day(5, "ann")).unwrap();
    fs::write(&second, day(5, "bob")).unwrap();
    let mut agents = [cluster.agent("LIC01", &[&first]), cluster.agent("LIC02", &[&second])];
    agents.iter_mut().for_each(seatmeter_tests::Agent::start);
    cluster.wait_for_activity("LIC01", &january(1));
    cluster.wait_for_activity("LIC02", &january(1));
    let locked = lock(&cluster);
    for (log, agent) in [(&first, &agents[0]), (&second, &agents[1])] {
        let mut file = fs::File::options().append(true).open(log).unwrap();
        for (number, user) in [(6, "carl"), (7, "dan")] {
            file.write_all(day(number, user).as_bytes()).unwrap();
            let size = file.metadata().unwrap().len();
            let is_read = || agent.inspect()["rows"][0]["position"] == size;
            wait_until("it is captured and acknowledged", || {
                is_read() && agent.inspect()["batches"].as_array().unwrap().is_empty()
            });
        }
    }
    assert_eq!(cluster.activity("LIC01"), january(1), "questions are answered from the figures that there are");
    drop(locked);
    cluster.wait_for_activity("LIC01", &january(3));
    cluster.wait_for_activity("LIC02", &january(3));
    // After a start, whoever asks learns that the figures are not yet what they should be, and how far they are.
    cluster.stop_aggregator();
    let archive = rusqlite::Connection::open(cluster.path("aggregator/aggregator.db")).unwrap();
    assert_eq!(archive.execute("UPDATE log SET rebuilds = rebuilds + 1", []).unwrap(), 2);
    drop(archive);
    let locked = lock(&cluster);
    cluster.start_aggregator();
    assert_eq!(health(&cluster, "seatmeter.v1.UsageService"), ServingStatus::NotServing);
    assert_eq!(health(&cluster, "seatmeter.v1.FleetService"), ServingStatus::Serving);
    wait_until("the rebuild is told", || cluster.ask(&["servers"])["rebuilding"]["logs"] == 2);
    assert!(
        text(&cluster.seatmeter(&["servers"]).stdout).contains("The figures are being rebuilt: 0 of 2 logs done, 0 %.")
    );
    let usage = cluster.ask(&["usage", "2026-01"]);
    assert!(usage["completeness"].to_string().contains("its figures are being rebuilt"), "{usage}");
    assert_eq!(cluster.activity("LIC01"), january(3));
    drop(locked);
    wait_until("the figures are up to date", || {
        health(&cluster, "seatmeter.v1.UsageService") == ServingStatus::Serving
    });
    assert!(cluster.ask(&["servers"])["rebuilding"].is_null());
    assert_eq!(cluster.activity("LIC01"), january(3));
    // A stop is obeyed while no figure can be written.
    cluster.assert_verified();
}
