//! A cluster to test Seatmeter in: real processes, real sockets, real files, and a truth to compare with.
//!
//! Nothing here knows the product's inside: the harness starts programs, sends signals, and reads what they print.

pub mod cluster;
pub mod disk;
pub mod postgres;
pub mod proxy;
pub mod scenario;
pub mod skip;

pub use cluster::{Agent, TestCluster, shared, wait_until};
pub use scenario::Scenario;
pub use skip::skip;
