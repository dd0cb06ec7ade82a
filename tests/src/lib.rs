//! A cluster to test Seatmeter in: real processes, real sockets, real files, and true figures to compare with.
//!
//! The harness does not know the product's internals: it starts programs, sends signals, and reads what they print.

pub mod agent;
pub mod cluster;
pub mod disk;
pub mod double;
pub mod enrolled;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod scenario;
pub mod site;
pub mod skip;

pub use agent::Agent;
pub use cluster::{TestCluster, shared};
pub use process::wait_until;
pub use scenario::Scenario;
pub use skip::skip;
