//! `cargo xtask sim`: simulates license servers, FlexNet's and RLM's, and records the true figures.
//!
//! The simulator shares no code with the product. The log and the true figures come from one model of who held which
//! seats when, so tests can compare the product's answers with figures that do not share its mistakes.
//!
//! - [`server`]: a FlexNet license server: people take and return seats, and the server writes its log
//! - [`rlm`]: an RLM license server, with a report log and a debug log
//! - [`truth`]: the true figures, by month and feature
//! - [`provider`]: a service provider with customers, people with several accounts, and free use
//! - [`files`]: the log on disk, and the ways in which administrators rotate it

pub mod files;
pub mod provider;
pub mod rlm;
pub mod server;
pub mod truth;

pub use files::{Log, Rotation};
pub use rlm::{ReportFormat, RlmServer};
pub use server::{Plan, Server};
pub use truth::Truth;
