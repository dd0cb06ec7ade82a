//! `cargo xtask sim`: plays a FlexNet license server, and keeps the truth.
//!
//! It shares no code with the product: what it writes and what it knows to be true come from one model of who held
//! what when, so that the product's answers can be compared with something that does not make the same mistakes.
//!
//! - [`server`]: the license server: people come and go, the log is written
//! - [`truth`]: who held what when, by month and feature
//! - [`files`]: the log on disk, and the ways in which administrators rotate it

pub mod files;
pub mod server;
pub mod truth;

pub use files::{Log, Rotation};
pub use server::{Plan, Server};
pub use truth::Truth;
