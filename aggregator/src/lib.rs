//! Seatmeter's aggregator: receives from all agents, decides who is the same person, and computes unique users per SKU
//! per month.
//!
//! ```text
//! agents --gRPC--> ingest -> store <- usage, fleet <- api <--gRPC-- operators
//!                (marks, facts)     (questions, rules)
//! ```
//!
//! | module | one idea |
//! |---|---|
//! | [`config`] | what the configuration file may say |
//! | [`codes`] | what the health log calls what happens |
//! | [`ingest`] | batches in, facts out |
//! | [`store`] | the database, behind an engine |
//! | [`usage`] | questions about use, and the rules they are answered by |
//! | [`fleet`] | questions about license servers and agents |
//! | [`api`] | the gRPC services |
//! | [`mod@serve`] | all of it together |
//!
//! Domain modules know neither [`api`] nor an engine.

pub mod api;
pub mod codes;
pub mod config;
pub mod fleet;
pub mod ingest;
pub mod serve;
pub mod store;
pub mod usage;
