//! Logs in files: opened, split into lines, and known again by their content.

pub mod content;
pub mod identity;
pub mod lines;
