//! A world to test Seatmeter in: real processes, real sockets, real files, and a truth to compare with.
//!
//! Nothing here knows the product's inside: it starts programs, sends signals, reads what they print.

pub mod proxy;
pub mod scene;
pub mod world;

pub use scene::Scene;
pub use world::{Agent, World, shared, wait_until};
