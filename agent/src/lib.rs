//! Seatmeter's agent: reads a license server's logs beside it, and delivers what was checked out, exactly once.
//!
//! ```text
//! log file --tail--> source -> format -> batcher -> buffer -> uplink --gRPC--> aggregator
//!                    (bytes)   (events)  (batches)  (SQLite)
//! ```
//!
//! | module | one idea |
//! |---|---|
//! | [`config`] | what the configuration file may say |
//! | [`configure`] | a first configuration, from a few answers |
//! | [`codes`] | what the health log calls what happens |
//! | [`source`] | where input comes from, and how it is known again |
//! | [`mod@format`] | what license managers write: pure parsers, dating, accounting |
//! | [`batcher`] | events to batches |
//! | [`buffer`] | batches and checkpoints on disk, in one transaction |
//! | [`checkpoint`] | how far each stream was read |
//! | [`capture`] | a thread for each log |
//! | [`uplink`] | delivery |
//! | [`health`] | how the agent is |
//! | [`run`] | all of it together |
//! | [`scan`] | monthly counts with no server |
//!
//! Nothing but [`buffer`] opens SQLite; nothing in [`mod@format`] reads a clock or a file.

pub mod batcher;
pub mod buffer;
pub mod capture;
pub mod checkpoint;
pub mod codes;
pub mod config;
pub mod configure;
pub mod format;
pub mod health;
pub mod run;
pub mod scan;
pub mod source;
pub mod uplink;
