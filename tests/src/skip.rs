//! Reports tests that this machine cannot run.

use std::io::Write;
use std::path::PathBuf;

/// Reports that the current test is skipped, and why: on standard error, and in the file from which `cargo xtask test`
/// counts.
pub fn skip(reason: &str) {
    eprintln!("SKIPPED: {reason}");
    let Some(file) = std::env::var_os("SEATMETER_SKIPPED") else { return };
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    let file = std::fs::File::options().create(true).append(true).open(file);
    file.and_then(|mut file| file.write_all(format!("{name}: {reason}\n").as_bytes())).expect("a skip must be counted");
}

/// Returns the folder in which `cargo xtask test` installs outside clients. If there is none, reports that the test is skipped and
/// returns `None`.
pub fn tools() -> Option<PathBuf> {
    let folder = std::env::var_os("SEATMETER_TOOLS").map(PathBuf::from).filter(|folder| folder.exists());
    if folder.is_none() {
        skip("SEATMETER_TOOLS does not name the folder of outside clients; `cargo xtask test` installs them");
    }
    folder
}
