//! Asks license managers who holds what, every few minutes, where no log tells it.
//!
//! - [`tool`]: runs the tool that asks, within limits
//! - [`web`]: asks over HTTP, within limits
//! - [`monitor`]: asks the Citrix Monitor service for its sessions
//! - [`license_files`]: reads license files, as if they were asked
//! - [`asker`]: whichever of these a source has
//! - `statement`: what an answer says that the one before did not
//! - [`poller`]: asks, and hands on what changed
//!
//! Each run of the agent is a stream of its own, with a name made of the time and of chance: an answer cannot be read again. It begins with a whole
//! answer, so nothing of the answers before need be kept, and a run that ended at any moment leaves nothing open. Positions
//! number what answers state.

pub mod asker;
pub mod license_files;
pub mod monitor;
pub mod poller;
mod statement;
pub mod tool;
pub mod web;

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use seatmeter_proto::pseudonym::Key;

use crate::checkpoint::Configured;
use asker::Asker;

/// A license manager to ask, from the configuration.
#[derive(Clone, Debug)]
pub struct PollSource {
    /// The name of the log that the answers make. It names this machine: two machines that ask one license manager make two
    /// logs, since neither knows what the other one was answered.
    pub name: String,
    /// How it is asked.
    pub asker: Asker,
    /// The time zone of the times in the answers.
    pub zone: TimeZone,
    /// How often to ask.
    pub interval: Duration,
    /// Makes what is sent in place of names; `None` if names are sent.
    pub pseudonyms: Option<Arc<Key>>,
}

impl PollSource {
    /// Returns what the aggregator must know of the log: its times are those of this machine's clock, in UTC.
    pub fn configured(&self) -> Configured {
        let poll_interval = u32::try_from(self.interval.as_secs()).unwrap_or(u32::MAX).max(1);
        Configured { time_zone: "UTC".into(), day: None, poll_interval }
    }
}
