//! A cluster to test Seatmeter in: real processes, real sockets, real files, and a truth to compare with.
//!
//! Nothing here knows the product's inside: it starts programs, sends signals, reads what they print.

pub mod proxy;
pub mod scenario;
pub mod cluster;

pub use scenario::Scenario;
pub use cluster::{Agent, TestCluster, shared, wait_until};
