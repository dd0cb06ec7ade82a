//! A scenario with a license server and an agent: the server writes its log, the log is rotated, programs are killed,
//! and the true figures are recorded.

use std::path::PathBuf;
use std::time::Duration;

use fastrand::Rng;
use xtask::sim::{Log, Plan, Rotation, Server, truth};

use crate::process::sleep;
use crate::{Agent, TestCluster};

/// A license server, its log, and an agent that follows it into a cluster's aggregator.
pub struct Scenario {
    /// The cluster.
    pub cluster: TestCluster,
    /// The agent.
    pub agent: Agent,
    /// The license server.
    pub server: Server,
    /// The log of the license server.
    pub log: Log,
    /// The random number generator. Its seed is printed.
    pub rng: Rng,
}

/// The name of a scenario's license server.
pub const NAME: &str = "LIC01";

impl Scenario {
    /// Starts an aggregator, a license server, and an agent that follows its log.
    pub fn new(seed: u64) -> Self {
        println!("seed {seed}");
        let cluster = TestCluster::running();
        let folder = cluster.path("logs");
        std::fs::create_dir(&folder).unwrap();
        let path: PathBuf = folder.join("debug.log");
        let mut log = Log::create(&path).unwrap();
        let plan = Plan { seed, users: 400, features: 6, seconds_a_line: 2.0, ..Plan::default() };
        let mut server = Server::new(plan);
        let mut lines = Vec::new();
        server.start(&mut lines);
        log.write(&lines).unwrap();
        let mut agent = cluster.agent(NAME, &[&path]);
        agent.start();
        Self { cluster, agent, server, log, rng: Rng::with_seed(seed) }
    }

    /// Writes `lines` lines, in pieces that end anywhere, as a buffered writer does.
    pub fn write(&mut self, lines: u64) {
        let mut bytes = Vec::new();
        let until = self.server.lines() + lines;
        while self.server.lines() < until {
            self.server.step(&mut bytes);
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(self.rng.usize(1..=rest.len().min(64 << 10)));
            self.log.write(piece).unwrap();
            rest = after;
        }
    }

    /// Rotates the log, between two lines.
    pub fn rotate(&mut self, rotation: Rotation) {
        self.log.rotate(rotation).unwrap();
    }

    /// Crashes the license server, and starts it again.
    pub fn restart_license_server(&mut self) {
        let mut lines = Vec::new();
        self.server.crash(3600);
        self.server.start(&mut lines);
        self.log.write(&lines).unwrap();
    }

    /// Sleeps for a random time below `milliseconds`, while everything runs.
    pub fn sleep(&mut self, milliseconds: u64) {
        sleep(Duration::from_millis(self.rng.u64(0..milliseconds)));
    }

    /// Kills the agent, and starts it again.
    pub fn kill_agent(&mut self) {
        self.agent.kill();
        self.agent.start();
    }

    /// Kills the aggregator, and starts it again.
    pub fn kill_aggregator(&mut self) {
        self.cluster.kill_aggregator();
        self.cluster.start_aggregator();
    }

    /// Returns the true figures of everything written so far, as CSV.
    pub fn truth(&self) -> String {
        truth::as_csv(&self.server.figures())
    }

    /// Waits until the aggregator's figures are the true ones, and verifies that they follow from the batches received.
    pub fn assert_truth(&self) {
        self.cluster.wait_for_activity(NAME, &self.truth());
        self.cluster.assert_verified();
    }
}

impl Drop for Scenario {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", crate::process::text(&self.agent.command(&["inspect"]).stdout));
            // Print the logs now: the cluster's folder is deleted before the agent is dropped.
            println!("the agent's health log:\n{}", self.agent.errors());
            for entry in std::fs::read_dir(self.log.path().parent().unwrap()).unwrap().flatten() {
                let metadata = entry.metadata().unwrap();
                println!("{:?} {} bytes, {:?}", entry.file_name(), metadata.len(), metadata.modified().unwrap());
            }
        }
    }
}
