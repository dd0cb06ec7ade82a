//! tmp
pub mod batcher;
pub mod buffer;
pub mod capture;
pub mod config;
pub mod format;
pub mod health;
pub mod names;
pub mod scan;
pub mod source;
