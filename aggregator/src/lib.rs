//! Seatmeter's aggregator: receives batches from all agents, maps identities to people, and computes unique users per
//! SKU per month.
//!
//! ```text
//! agents --gRPC--> ingest -> store <- usage, fleet <- api <--gRPC-- operators
//!                (marks, facts)     (questions, rules)
//! ```
//!
//! | module | one idea |
//! |---|---|
//! | [`config`] | the configuration file |
//! | [`codes`] | the codes of the health log |
//! | [`ingest`] | batches in, facts out |
//! | [`store`] | the database, behind an engine |
//! | [`usage`] | questions about usage, and the rules that answer them |
//! | [`fleet`] | questions about license servers and agents |
//! | [`quarantine`] | the names under which copies of agents are kept |
//! | [`api`] | the gRPC services |
//! | [`workers`] | the two workers: one archives, one makes facts |
//! | [`mod@serve`] | the running aggregator |
//!
//! Domain modules depend neither on [`api`] nor on a database engine.

pub mod access;
pub mod api;
pub mod codes;
pub mod config;
pub mod dating;
pub mod fleet;
pub mod ingest;
pub mod month;
pub mod quarantine;
pub mod rules;
pub mod serve;
pub mod store;
pub mod usage;
pub mod workers;
