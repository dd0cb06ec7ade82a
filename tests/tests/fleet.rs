//! Fault 38: a fleet in which everything meets. License servers with three managers each, all started in the same seconds,
//! rotate, restart, are read by agents that are killed, installed anew and doubled, into an aggregator that is killed, begun
//! anew and set back to a backup; two have a log that a wrong clock has dated, and one is set back to a snapshot, with its logs
//! and its agent. Every figure equals the truth. One more loses a part of its log for good: that is the only gap there is.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fastrand::Rng;
use seatmeter_tests::process::{side_by_side, sleep, text};
use seatmeter_tests::{Agent, TestCluster, wait_until};
use xtask::sim::{Log, Plan, Rotation, Server, truth};

/// The managers of a license server: their vendor daemons.
const DAEMONS: [&str; 3] = ["adskflex", "cadence", "mlm"];

const ROTATIONS: [Rotation; 4] = [Rotation::Rename, Rotation::RenameGzip, Rotation::CopyTruncate, Rotation::Dated];

/// A log that a wrong clock has dated.
const AHEAD: &str = " 8:00:00 (lmgrd) FlexNet Licensing (v11) started on LIC01 (linux) (1/1/2036)\n \
8:00:01 (adskflex) OUT: \"80000SIM_000_F\" ahead@pc  \n";

/// How many fleets there are, each with a seed of its own, and how many license servers in each.
fn size() -> (u64, usize) {
    if std::env::var("SEATMETER_LONG").is_ok_and(|long| !long.is_empty()) { (500, 12) } else { (20, 12) }
}

struct Manager {
    server: Server,
    log: Log,
}

struct LicenseServer {
    name: String,
    managers: Vec<Manager>,
    agents: Vec<Agent>,
}

struct Fleet {
    seed: u64,
    cluster: TestCluster,
    rng: Rng,
    servers: Vec<LicenseServer>,
    lossy: Lossy,
}

/// A license server with an agent that keeps nothing of what it has delivered. A part of its log is lost for good.
struct Lossy {
    log: PathBuf,
    agent: Agent,
}

impl Lossy {
    const NAME: &str = "LOSSY";

    fn new(cluster: &TestCluster) -> Self {
        let log = cluster.path("lossy.log");
        std::fs::write(&log, Self::day(1)).unwrap();
        let agent = cluster.agent_in("lossy", Self::NAME, &[&log], "[buffer]\nkeep_days = 0");
        Self { log, agent }
    }

    fn day(day: u32) -> String {
        format!(
            " 8:00:00 (lmgrd) TIMESTAMP 1/{day}/2026\n 8:00:01 (d) OUT: \"f\" user{day}@h  \n 9:00:00 (d) IN: \"f\" user{day}@h  \n"
        )
    }

    fn expected(days: u32) -> String {
        let header = "month,daemon,feature,users_checked_out,users_held,outs,ins,denials\n";
        format!("{header}2026-01,d,f,{days},{days},{days},{days},0\n")
    }

    /// Writes a day that the backup does not have, and that is gone once the aggregator is set back to it.
    fn lose(&self, cluster: &TestCluster) {
        std::fs::write(&self.log, Self::day(1) + &Self::day(2)).unwrap();
        cluster.wait_for_activity(Self::NAME, &Self::expected(2));
        std::fs::write(&self.log, Self::day(3)).unwrap();
        cluster.wait_for_activity(Self::NAME, &Self::expected(3));
    }

    /// The gap has the bytes of the day that is lost, and the time between the lines around it.
    fn assert_lost(cluster: &TestCluster) {
        cluster.wait_for_activity(Self::NAME, &Self::expected(2));
        let gap = format!(
            "{} bytes written between 2026-01-01 09:00 and 2026-01-03 08:00 were gone before they could be read",
            Self::day(2).len()
        );
        wait_until("the loss is told", || {
            let row = cluster.ask(&["servers", Self::NAME])["rows"][0].clone();
            row["known_gaps"] == serde_json::json!([gap])
        });
    }
}

impl Fleet {
    fn new(seed: u64, size: usize) -> Self {
        let (mut cluster, mut rng) = (TestCluster::new(), Rng::with_seed(seed));
        let servers = (0..size).map(|number| LicenseServer::new(&cluster, &mut rng, number)).collect();
        cluster.start_aggregator();
        let mut lossy = Lossy::new(&cluster);
        lossy.agent.start();
        let mut fleet = Self { seed, cluster, rng, servers, lossy };
        fleet.servers.iter_mut().flat_map(|server| &mut server.agents).for_each(Agent::start);
        fleet
    }

    /// Everybody writes, rotates and restarts; agents are killed meanwhile.
    fn live(&mut self) {
        for server in &mut self.servers {
            for manager in &mut server.managers {
                manager.write(&mut self.rng);
                if self.rng.u8(..3) == 0 {
                    let rotation = ROTATIONS[self.rng.usize(..ROTATIONS.len())];
                    manager.log.rotate(rotation).unwrap();
                    // Some begin a new file with a restart.
                    if self.rng.bool() {
                        manager.restart();
                    }
                    manager.write(&mut self.rng);
                } else if self.rng.u8(..5) == 0 {
                    manager.restart();
                }
            }
            for agent in &mut server.agents {
                match self.rng.u8(..6) {
                    0 => {
                        agent.kill();
                        agent.start();
                    }
                    1 => {
                        // Installed anew.
                        agent.kill();
                        agent.forget();
                        agent.start();
                    }
                    _ => {}
                }
            }
        }
        sleep(Duration::from_millis(self.rng.u64(0..100)));
    }

    fn assert_truth(&self) {
        for server in &self.servers {
            self.cluster.wait_for_activity(&server.name, &server.truth());
        }
        let rows = self.cluster.ask(&["servers"])["rows"].clone();
        for row in rows.as_array().unwrap().iter().filter(|row| row["license_server"] != Lossy::NAME) {
            assert_eq!(row["gaps"], 0, "nothing of it was lost: {row}");
        }
        for server in &self.servers[..2] {
            wait_until("the log that is ahead is shown", || {
                let shown = self.cluster.ask(&["servers", &server.name]).to_string();
                shown.contains("wrong clock: 2 events dated 2036-01-01 08:00")
            });
        }
    }

    /// The managers restart without appending: what was in their logs is gone.
    fn overwrite(&mut self) {
        for manager in self.servers.iter_mut().flat_map(|server| &mut server.managers) {
            manager.log.rotate(if self.rng.bool() { Rotation::Truncate } else { Rotation::Recreate }).unwrap();
            manager.restart();
        }
    }
}

impl LicenseServer {
    fn new(cluster: &TestCluster, rng: &mut Rng, number: usize) -> Self {
        let name = format!("LIC{number:02}");
        let folder = cluster.path(&format!("{name}-logs"));
        std::fs::create_dir(&folder).unwrap();
        let managers: Vec<Manager> = DAEMONS
            .map(|daemon| {
                let path: PathBuf = folder.join(format!("{daemon}.log"));
                let plan = Plan {
                    seed: rng.u64(..),
                    users: 60,
                    features: 3,
                    seconds_a_line: 120.0,
                    daemon,
                    ..Plan::default()
                };
                let mut manager = Manager { server: Server::new(plan), log: Log::create(&path).unwrap() };
                let mut lines = Vec::new();
                manager.server.start(&mut lines);
                manager.log.write(&lines).unwrap();
                manager
            })
            .into();
        let mut logs: Vec<&std::path::Path> = managers.iter().map(|manager| manager.log.path()).collect();
        // Two have another log, which a wrong clock has dated ten years ahead. It counts in nothing.
        let ahead = folder.join("ahead.log");
        if number < 2 {
            std::fs::write(&ahead, AHEAD).unwrap();
            logs.push(&ahead);
        }
        // Every second license server is a cluster, whose disk two agents read.
        let agents =
            (0..=number % 2).map(|agent| cluster.agent_in(&format!("{name}-{agent}"), &name, &logs, "")).collect();
        Self { name, managers, agents }
    }

    fn truth(&self) -> String {
        let mut figures: Vec<_> = self.managers.iter().flat_map(|manager| manager.server.figures()).collect();
        figures.sort_by(|a, b| (&a.month, &a.daemon, &a.feature).cmp(&(&b.month, &b.daemon, &b.feature)));
        truth::as_csv(&figures)
    }
}

/// The license server that is set back to a snapshot. Its agent is the only one.
const SNAPSHOT_OF: usize = 2;

impl LicenseServer {
    /// Copies its logs, and the state of its agent, which stands still meanwhile.
    fn take_snapshot(&mut self, cluster: &TestCluster) {
        self.agents[0].kill();
        for (folder, copy) in self.folders(cluster) {
            copy_folder(&folder, &copy);
        }
        self.agents[0].start();
    }

    /// Sets its machine back to the snapshot. What came after it has been delivered, and counts.
    fn restore_snapshot(&mut self, cluster: &TestCluster) {
        self.agents[0].kill();
        for (folder, copy) in self.folders(cluster) {
            std::fs::remove_dir_all(&folder).unwrap();
            copy_folder(&copy, &folder);
        }
        for manager in &mut self.managers {
            manager.log.reopen().unwrap();
            manager.restart();
        }
        self.agents[0].start();
    }

    fn folders(&self, cluster: &TestCluster) -> [(PathBuf, PathBuf); 2] {
        let logs = self.managers[0].log.path().parent().unwrap().to_owned();
        let copy = |what: &str| cluster.path(&format!("{}-snapshot-{what}", self.name));
        [(logs, copy("logs")), (self.agents[0].state(), copy("state"))]
    }
}

/// Copies a folder, with the times of its files.
fn copy_folder(from: &Path, to: &Path) {
    assert!(std::process::Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

impl Manager {
    fn write(&mut self, rng: &mut Rng) {
        let (mut bytes, until) = (Vec::new(), self.server.lines() + rng.u64(20..400));
        while self.server.lines() < until {
            self.server.step(&mut bytes);
        }
        self.log.write(&bytes).unwrap();
    }

    fn restart(&mut self) {
        let mut lines = Vec::new();
        self.server.crash(600);
        self.server.start(&mut lines);
        self.log.write(&lines).unwrap();
    }
}

#[test]
fn fault_38_a_fleet_in_which_everything_meets_tells_the_truth() {
    let (seeds, size) = size();
    // Another seed, for a search: SEATMETER_SEED=7.
    let first = std::env::var("SEATMETER_SEED").ok().and_then(|seed| seed.parse().ok());
    let (from, count) = first.map_or((20_261_126, seeds), |seed| (seed, 1));
    side_by_side(from..from + count, SIDE_BY_SIDE, |seed| tell_the_truth(Fleet::new(seed, size)));
}

/// How many fleets live at a time.
const SIDE_BY_SIDE: u64 = 16;

fn tell_the_truth(mut fleet: Fleet) {
    for _ in 0..3 {
        fleet.live();
    }
    fleet.cluster.kill_aggregator();
    fleet.live();
    if fleet.rng.bool() {
        // From nothing.
        std::fs::remove_dir_all(fleet.cluster.path("aggregator")).unwrap();
    }
    fleet.cluster.start_aggregator();
    fleet.live();
    fleet.assert_truth();
    fleet.cluster.wait_for_activity(Lossy::NAME, &Lossy::expected(1));
    fleet.servers[SNAPSHOT_OF].take_snapshot(&fleet.cluster);
    let backup = fleet.cluster.path("backup.db");
    let taken = fleet.cluster.aggregator_command_with(&["backup", backup.to_str().unwrap()]);
    assert!(taken.status.success(), "{}", text(&taken.stderr));
    fleet.lossy.lose(&fleet.cluster);
    fleet.overwrite();
    for _ in 0..2 {
        fleet.live();
    }
    // Set back to yesterday's backup.
    fleet.cluster.stop_aggregator();
    let restored = fleet.cluster.aggregator_command_with(&["restore", backup.to_str().unwrap()]);
    assert!(restored.status.success(), "{}", text(&restored.stderr));
    fleet.cluster.start_aggregator();
    fleet.live();
    fleet.assert_truth();
    Lossy::assert_lost(&fleet.cluster);
    fleet.servers[SNAPSHOT_OF].restore_snapshot(&fleet.cluster);
    fleet.live();
    fleet.assert_truth();
    fleet.cluster.assert_verified();
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        println!("failed: seed {}", self.seed);
        let has_gaps = |server: &LicenseServer| {
            let rows = self.cluster.ask(&["servers", &server.name])["rows"].clone();
            rows.as_array().is_some_and(|rows| rows.iter().any(|row| row["gaps"] != 0))
        };
        let is_wrong =
            |server: &&LicenseServer| self.cluster.activity(&server.name) != server.truth() || has_gaps(server);
        for server in self.servers.iter().filter(is_wrong) {
            let streams = self.cluster.seatmeter(&["streams", "list", "--wide", "--server", &server.name]);
            println!("{}:\n{}", server.name, text(&streams.stdout));
            for agent in &server.agents {
                println!("{}\n{}", text(&agent.command(&["inspect"]).stdout), agent.errors());
            }
            for manager in &server.managers {
                for entry in std::fs::read_dir(manager.log.path().parent().unwrap()).unwrap().flatten() {
                    let metadata = entry.metadata().unwrap();
                    println!("{:?} {} bytes, {:?}", entry.file_name(), metadata.len(), metadata.modified().unwrap());
                }
            }
        }
    }
}
