//! An agent without a network: what it reads is exported into files, and answers to them are carried back.
//!
//! - [`export`]: writes all that waits in the buffer into a file, sealed for the aggregator and signed
//! - [`hand_over`]: what the commands and the agent hand to each other
//! - [`settle`]: frees the buffer of what answers acknowledge, for as long as the agent runs
//!
//! An export has all that waits, so one that is lost costs nothing, and their order makes no difference.

pub mod export;
pub mod hand_over;
pub mod settle;
