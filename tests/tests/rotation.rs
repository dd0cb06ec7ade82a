//! Faults 6 and 7: every kind of rotation, with and without kills: nothing lost, nothing doubled.

use std::time::{Duration, Instant};

use seatmeter_tests::{Scene, wait_until};
use xtask::sim::Rotation;

/// The license server writes so many lines a second, ...
const LINES_A_SECOND: u64 = 15_000;
/// ... and its log is rotated after so many.
const LINES_A_PART: u64 = 22_500;
const PARTS: u64 = 6;

/// Writes at the pace of a busy license server, rotates, and kills the agent between where asked to.
fn rotate_while_writing(rotation: Rotation, kills: bool) {
    let mut scene = Scene::new(1);
    for part in 0..PARTS {
        let began = Instant::now();
        for piece in 0..30 {
            scene.write(LINES_A_PART / 30);
            let due = Duration::from_millis((piece + 1) * (LINES_A_PART / 30) * 1000 / LINES_A_SECOND);
            seatmeter_tests::world::let_run(due.saturating_sub(began.elapsed()));
            if kills && piece == 7 + 3 * part {
                scene.kill_agent();
            }
        }
        if matches!(rotation, Rotation::Recreate | Rotation::Truncate) {
            // What is deleted or cut before anybody could read it is lost to everybody: here, all could be read.
            let size = std::fs::metadata(scene.log.path()).unwrap().len();
            let streams = part as usize + 1;
            wait_until("the agent has read the file", || {
                let read = read_to(&scene);
                read.len() == streams && read.last().is_some_and(|position| *position >= size)
            });
        }
        scene.rotate(rotation);
    }
    scene.assert_truth();
}

/// How far the agent has committed each stream, in the order of their beginnings.
fn read_to(scene: &Scene) -> Vec<u64> {
    let shown = seatmeter_tests::world::text(&scene.agent.command(&["inspect"]).stdout);
    let streams = shown.split("Batch").next().unwrap_or_default().lines();
    streams.filter_map(|line| line.split_whitespace().last()?.parse().ok()).collect()
}

#[test]
fn fault_06_rename() {
    rotate_while_writing(Rotation::Rename, false);
}

#[test]
fn fault_06_rename_with_kills() {
    rotate_while_writing(Rotation::Rename, true);
}

#[test]
fn fault_06_rename_and_gzip_with_kills() {
    rotate_while_writing(Rotation::RenameGzip, true);
}

#[test]
fn fault_06_copytruncate() {
    rotate_while_writing(Rotation::CopyTruncate, false);
}

#[test]
fn fault_06_copytruncate_with_kills() {
    rotate_while_writing(Rotation::CopyTruncate, true);
}

#[test]
fn fault_06_dated_names_as_lmswitch_makes_them_with_kills() {
    rotate_while_writing(Rotation::Dated, true);
}

#[test]
fn fault_06_deleted_and_created_anew() {
    rotate_while_writing(Rotation::Recreate, false);
}

#[test]
fn fault_06_deleted_and_created_anew_with_kills() {
    rotate_while_writing(Rotation::Recreate, true);
}

#[test]
fn fault_06_truncated_and_written_larger_than_before_with_kills() {
    rotate_while_writing(Rotation::Truncate, true);
}

#[test]
fn fault_07_rotated_while_the_agent_is_down() {
    for (seed, rotations) in [(2, 1), (3, 5)] {
        let mut scene = Scene::new(seed);
        scene.write(5_000);
        wait_until("the agent has read something", || !read_to(&scene).is_empty());
        scene.agent.kill();
        for rotation in 0..rotations {
            scene.write(5_000);
            scene.rotate(if rotation % 2 == 0 { Rotation::RenameGzip } else { Rotation::CopyTruncate });
            scene.write(700);
        }
        scene.agent.start();
        scene.assert_truth();
    }
}
