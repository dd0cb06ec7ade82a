//! Fault 46: however a log is divided (into writes, files, parts, batches, agents and restarts), it gives the same figures. Each
//! log of the corpus, and those of the simulator, divided at random.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use fastrand::Rng;
use seatmeter_tests::process::{comes_true, sleep, text};
use seatmeter_tests::{Agent, TestCluster, shared};
use xtask::sim::{Log, Plan, ReportFormat, RlmServer, Rotation, Server, truth};

const ROTATIONS: [Rotation; 4] = [Rotation::Rename, Rotation::RenameGzip, Rotation::CopyTruncate, Rotation::Dated];

/// Logs with their expected figures.
fn logs(rng: &mut Rng) -> Vec<(String, Vec<u8>, String)> {
    let mut simulated =
        Server::new(Plan { seed: rng.u64(..), users: 100, features: 3, seconds_a_line: 90.0, ..Plan::default() });
    let mut text = Vec::new();
    simulated.start(&mut text);
    while simulated.lines() < 3_000 {
        simulated.step(&mut text);
    }
    let mut logs = vec![("simulated".to_owned(), text, truth::as_csv(&simulated.figures()))];
    for (name, format) in [("report log", ReportFormat::Std), ("small report log", ReportFormat::Small)] {
        // 2026-01-30
        let mut simulated = RlmServer::new(rng.u64(..), format, 60, 1_769_760_000);
        let mut text = Vec::new();
        simulated.start(&mut text);
        while simulated.lines() < 3_000 {
            simulated.step(&mut text);
        }
        logs.push((name.to_owned(), text, truth::as_csv(&simulated.figures())));
    }
    if let Some(corpus) = shared("corpus") {
        for entry in fs::read_dir(corpus.join("flexnet-debug-log")).unwrap().flatten() {
            let name = entry.path().file_stem().unwrap().to_string_lossy().into_owned();
            let expected = fs::read_to_string(corpus.join("expected").join(format!("{name}.csv"))).unwrap();
            let mut text = fs::read(entry.path()).unwrap();
            if text.last() != Some(&b'\n') {
                // A file of one line that is not ended is not read until it is.
                text.push(b'\n');
            }
            logs.push((name, text, expected));
        }
    }
    logs
}

/// Returns the seconds of a line's time of day; `None` if it has none. FlexNet's stands at the line's beginning, RLM's at its
/// end, where it can have no seconds.
fn time_of(line: &[u8]) -> Option<u32> {
    let time = |text: &str| {
        let mut numbers = text.split(':').map(str::parse::<u32>);
        let (hours, minutes) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        Some(hours * 3600 + minutes * 60 + numbers.next().unwrap_or(Ok(0)).ok()?)
    };
    let at_beginning =
        line.get(..8).and_then(|text| std::str::from_utf8(text).ok()).and_then(|text| time(text.trim_start()));
    at_beginning.or_else(|| time(std::str::from_utf8(line).ok()?.split_whitespace().next_back()?))
}

/// Divides a log at some of its lines. Where a file without a date follows another one, a time of day that falls is the next
/// day's; so no file begins with a line that is only out of order.
fn divided<'a>(rng: &mut Rng, log: &'a [u8]) -> Vec<&'a [u8]> {
    let lines: Vec<&[u8]> = log.split_inclusive(|byte| *byte == b'\n').collect();
    let mut pieces = Vec::new();
    let (mut from, mut to) = (0, 0);
    let wanted = rng.usize(2..8);
    let mut last = None;
    for line in &lines {
        let time = time_of(line);
        let is_in_order = matches!((last, time), (Some(last), Some(time)) if time >= last || last - time > 43_200);
        if to > from && is_in_order && rng.usize(..lines.len().max(1)) < wanted {
            pieces.push(&log[from..to]);
            from = to;
        }
        last = time.or(last);
        to += line.len();
    }
    pieces.push(&log[from..]);
    pieces
}

struct Source {
    name: String,
    log: Log,
    /// A log is always rotated in the same way: of a mixture, nobody can tell which part came before which.
    rotation: Rotation,
    pieces: std::vec::IntoIter<Vec<u8>>,
    agents: Vec<Agent>,
    expected: String,
}

impl Source {
    fn new(cluster: &TestCluster, rng: &mut Rng, (name, text, expected): (String, Vec<u8>, String)) -> Self {
        let folder: PathBuf = cluster.path(&name);
        fs::create_dir(&folder).unwrap();
        let path = folder.join("debug.log");
        let log = Log::create(&path).unwrap();
        let pieces: Vec<Vec<u8>> = divided(rng, &text).into_iter().map(<[u8]>::to_vec).collect();
        let agents =
            (0..=rng.usize(..2)).map(|agent| cluster.agent_in(&format!("{name}-{agent}"), &name, &[&path], ""));
        let rotation = ROTATIONS[rng.usize(..ROTATIONS.len())];
        Self { agents: agents.collect(), rotation, name, log, pieces: pieces.into_iter(), expected }
    }

    /// Writes the next piece, in several writes, perhaps into a new file. Returns whether there was one.
    fn go_on(&mut self, rng: &mut Rng, is_first: bool) -> bool {
        let Some(piece) = self.pieces.next() else { return false };
        if !is_first && rng.bool() {
            self.log.rotate(self.rotation).unwrap();
        }
        let mut rest = &piece[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rng.usize(..=rest.len()).max(1));
            self.log.write(now).unwrap();
            rest = later;
        }
        for agent in &mut self.agents {
            match rng.u8(..4) {
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
        true
    }
}

impl Source {
    fn assert_whole(&self, cluster: &TestCluster) {
        let told = || {
            let streams = cluster.seatmeter(&["streams", "list", "--wide", "--server", &self.name]);
            let agents = self.agents.iter().map(|agent| text(&agent.command(&["inspect"]).stdout) + &agent.errors());
            let files = fs::read_dir(self.log.path().parent().unwrap()).unwrap().flatten().map(|entry| {
                let metadata = entry.metadata().unwrap();
                format!("{:?} {} bytes {:?}\n", entry.file_name(), metadata.len(), metadata.modified().unwrap())
            });
            let files: String = files.collect();
            text(&streams.stdout) + &files + &agents.collect::<String>()
        };
        let is_whole = || cluster.activity(&self.name) == self.expected;
        assert!(comes_true(is_whole), "{}: {}\n{}", self.name, cluster.activity(&self.name), told());
    }
}

#[test]
fn fault_46_any_division_of_a_log_gives_the_same_figures() {
    let rounds = if std::env::var("SEATMETER_LONG").is_ok_and(|long| !long.is_empty()) { 30 } else { 3 };
    let first = std::env::var("SEATMETER_SEED").ok().and_then(|seed| seed.parse().ok());
    let (from, count) = first.map_or((20_261_126, rounds), |seed| (seed, 1));
    for seed in from..from + count {
        println!("seed {seed}");
        let (mut cluster, mut rng) = (TestCluster::running(), Rng::with_seed(seed));
        let logs = logs(&mut rng);
        let mut sources: Vec<Source> = logs.into_iter().map(|log| Source::new(&cluster, &mut rng, log)).collect();
        sources.iter_mut().flat_map(|source| &mut source.agents).for_each(Agent::start);
        let mut is_first = true;
        loop {
            let mut has_more = false;
            for source in &mut sources {
                has_more |= source.go_on(&mut rng, is_first);
            }
            is_first = false;
            // So that the files' times of last write tell their order.
            sleep(Duration::from_millis(20));
            if !has_more {
                break;
            }
            if rng.u8(..4) == 0 {
                cluster.kill_aggregator();
                cluster.start_aggregator();
            }
        }
        for source in &sources {
            source.assert_whole(&cluster);
        }
        cluster.assert_verified();
    }
}
