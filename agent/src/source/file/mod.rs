//! Logs in files: found, known again by their content, and followed through every kind of rotation.
//!
//! - [`discover`]: which files a log is in
//! - [`content`]: what is in a file, compressed or not
//! - [`identity`]: which stream it is
//! - [`lines`]: its lines
//! - [`status`]: a log as it is configured, and how it is
//! - [`stream`]: reading a stream into batches
//! - [`follow`]: all files of a log, in order, and what is new in them

pub mod content;
pub mod discover;
pub mod follow;
pub mod identity;
pub mod lines;
pub mod status;
pub mod stream;
