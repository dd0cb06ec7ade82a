//! The programs under test: how to find, run, await and end them.

use std::path::PathBuf;
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

/// The longest time that a test waits for anything, even on a busy machine. A longer wait fails the test.
const DEADLINE: Duration = Duration::from_secs(180);

/// The shortest and the longest pause between two looks at a condition. Each look can start a process, so a condition that
/// takes its time is looked at less often.
const PAUSES: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(250)];

/// Returns the path of a program under test, built by `cargo xtask test`.
pub(crate) fn program(name: &str) -> PathBuf {
    let folder =
        std::env::var_os("SEATMETER_BIN").map_or_else(|| xtask::root().join("target/test-fast"), PathBuf::from);
    let path = folder.join(name);
    assert!(
        path.exists(),
        "{} is missing: run `cargo xtask test`, or `cargo build --profile test-fast`",
        path.display()
    );
    path
}

/// Waits until a condition is true. Fails if it is not true before the deadline.
pub fn wait_until(what: &str, is_so: impl FnMut() -> bool) {
    assert!(comes_true(is_so), "waited in vain until {what}");
}

/// Returns whether the condition becomes true before the deadline.
pub fn comes_true(mut is_so: impl FnMut() -> bool) -> bool {
    let since = Instant::now();
    let [mut pause, longest] = PAUSES;
    while !is_so() {
        if since.elapsed() > DEADLINE {
            return false;
        }
        std::thread::sleep(pause);
        pause = (pause * 5 / 4).min(longest);
    }
    true
}

/// Sleeps while the programs run. The time decides when a program is killed, never whether a test passes.
pub fn sleep(moment: Duration) {
    std::thread::sleep(moment);
}

/// Returns a command that runs a program under the wrapper, or alone if the wrapper is empty.
pub(crate) fn wrapped(wrapper: &[&str], name: &str) -> Command {
    let Some((first, rest)) = wrapper.split_first() else { return command(name) };
    let mut command = Command::new(first);
    command.args(rest).arg(program(name));
    command
}

pub(crate) fn kill_children(parent: u32) {
    let killed = Command::new("pkill").args(["-KILL", "-P", &parent.to_string()]).status().unwrap();
    // With exit code 1, there was no child any more.
    assert!(matches!(killed.code(), Some(0 | 1)), "{killed}");
}

/// Returns a command for one of the programs, for a test to complete.
pub fn command(name: &str) -> Command {
    let mut command = Command::new(program(name));
    // Whoever runs the tests may be logged in somewhere.
    command.env("SEATMETER_LOGIN", "/nonexistent/login.json");
    command
}

/// Runs `seatmeter-agent scan`.
pub fn scan(arguments: &[&str]) -> Output {
    Command::new(program("seatmeter-agent")).arg("scan").args(arguments).output().unwrap()
}

/// Runs a task for each seed, so many at a time: systems wait most of the time. Each seed is printed.
pub fn side_by_side(seeds: std::ops::Range<u64>, at_a_time: u64, task: impl Fn(u64) + Sync) {
    let next = std::sync::atomic::AtomicU64::new(seeds.start);
    std::thread::scope(|scope| {
        for _ in 0..at_a_time.min(seeds.end - seeds.start) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    println!("seed {seed}");
                    task(seed);
                }
            });
        }
    });
}

/// Converts output to text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits for the end of a process that was asked to stop.
pub fn end_of(child: &mut Child) -> std::process::ExitStatus {
    let mut ended = None;
    wait_until("a process that was asked to stop has stopped", || {
        ended = child.try_wait().unwrap();
        ended.is_some()
    });
    ended.unwrap()
}

pub(crate) fn terminate(child: &Child, signal: &str) {
    let done = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(done.success());
}
