//! Logs in files: found, known again by their content, and followed through every kind of rotation.
//!
//! - [`discover`]: which files a log is in
//! - [`content`]: what is in a file, compressed or not
//! - [`head`]: the beginning of a file, and its format
//! - [`identity`]: which stream it is
//! - [`lines`]: its lines
//! - [`status`]: a log as it is configured, and how it is
//! - `watched`: content that can be replaced under its reader
//! - [`stream`]: reading a stream into batches
//! - [`tailer`]: all files of a log, in order, and what is new in them

pub mod content;
pub mod discover;
pub mod head;
pub mod identity;
pub mod lines;
pub mod status;
pub mod stream;
pub mod tailer;
mod watched;
