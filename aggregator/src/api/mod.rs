//! tmp
pub mod status;
