//! The sources of input: files that are followed, and license managers that are asked.

pub mod file;
pub mod poll;
pub mod rewinds;
