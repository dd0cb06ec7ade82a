//! Fault 1, at random moments: the agent and the aggregator are killed while the license server writes and rotates.

use seatmeter_tests::Scenario;
use xtask::sim::Rotation;

/// Forty of each where nothing else is asked for; five hundred in a long run.
fn kills() -> u32 {
    if std::env::var("SEATMETER_LONG").is_ok_and(|long| !long.is_empty()) { 500 } else { 40 }
}

#[test]
fn fault_01_killed_at_random_moments_the_answers_equal_the_truth() {
    const ROTATIONS: [Rotation; 4] = [Rotation::Rename, Rotation::RenameGzip, Rotation::CopyTruncate, Rotation::Dated];
    // Another seed, for a search: SEATMETER_SEED=7.
    let seed = std::env::var("SEATMETER_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_124);
    let mut scenario = Scenario::new(seed);
    let (mut agents, mut aggregators) = (0, 0);
    while agents < kills() || aggregators < kills() {
        scenario.write(500);
        if scenario.rng.u8(..4) == 0 {
            let rotation = ROTATIONS[scenario.rng.usize(..ROTATIONS.len())];
            scenario.rotate(rotation);
        }
        if scenario.rng.u8(..40) == 0 {
            scenario.restart_license_server();
        }
        scenario.write(1500);
        scenario.sleep(150);
        if agents < kills() && scenario.rng.bool() {
            scenario.kill_agent();
            agents += 1;
        } else if aggregators < kills() {
            scenario.kill_aggregator();
            aggregators += 1;
        }
    }
    println!("{agents} kills of the agent, {aggregators} of the aggregator, {} lines", scenario.server.lines());
    scenario.assert_truth();
}
