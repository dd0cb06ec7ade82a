//! Seatmeter's agent: runs on a license server, reads its logs, and delivers each checkout exactly once.
//!
//! ```text
//! log file --tail--> source -> format -> batcher -> buffer -> uplink --gRPC--> aggregator
//!                    (bytes)   (events)  (batches)  (SQLite)
//! ```
//!
//! | module | one idea |
//! |---|---|
//! | [`config`] | the configuration file |
//! | [`configure`] | a first configuration, rendered from a few values |
//! | [`codes`] | the codes of the health log |
//! | [`source`] | the sources of input, and how they are recognised again |
//! | [`mod@detect`] | finds the license managers of this machine |
//! | [`mod@format`] | the log formats of license managers: pure parsers, dating, line counts |
//! | [`mod@acknowledged`] | what an aggregator can lack that has another database than before |
//! | [`batcher`] | gathers events into batches |
//! | [`buffer`] | batches and checkpoints on disk, in one transaction |
//! | [`checkpoint`] | how far each stream was read, and the state to resume there |
//! | [`capture`] | one thread for each log |
//! | [`identity`] | who the agent is to the aggregator that has enrolled it |
//! | [`uplink`] | delivery to the aggregator |
//! | [`health`] | the state of the agent |
//! | [`run`] | runs capture, delivery and reporting together |
//! | [`scan`] | monthly counts without an aggregator |
//!
//! Nothing but [`buffer`] opens SQLite; nothing in [`mod@format`] reads a clock or a file.

pub mod acknowledged;
pub mod batcher;
pub mod buffer;
pub mod capture;
pub mod checkpoint;
pub mod codes;
pub mod config;
pub mod configure;
pub mod detect;
pub mod format;
pub mod health;
pub mod identity;
pub mod run;
pub mod scan;
pub mod sealed;
pub mod source;
pub mod uplink;
