//! What the commands of an agent without a network and the agent itself hand to each other: the agent alone changes its buffer.
//!
//! Commands put files into a folder of the state: answers to exports, and notes of batches that are damaged. The agent keeps a
//! heartbeat up to date, which goes into each export.

use std::io;
use std::path::{Path, PathBuf};

use seatmeter_service::private;

/// The file with the agent's heartbeat, a message of the contract.
pub const HEARTBEAT: &str = "heartbeat";

/// How the names of answers end.
pub const ANSWER: &str = "answer";

/// How the names of notes of damaged batches end, which begin with their sequences.
pub const DAMAGED: &str = "damaged";

/// Returns the folder into which commands put files.
pub fn folder(state: &Path) -> PathBuf {
    state.join("answers")
}

/// Puts an answer where the agent finds it.
pub fn answer(state: &Path, bytes: &[u8]) -> io::Result<()> {
    put(state, &format!("{}.{ANSWER}", uuid::Uuid::new_v4()), bytes)
}

/// Tells the agent of a batch in its buffer that is damaged.
pub fn damaged(state: &Path, sequence: u64) -> io::Result<()> {
    put(state, &format!("{sequence}.{DAMAGED}"), &[])
}

fn put(state: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let folder = folder(state);
    private::make_folder(&folder)?;
    private::give_away(&folder, state)?;
    private::write(&folder.join(name), bytes, Some(state))
}
