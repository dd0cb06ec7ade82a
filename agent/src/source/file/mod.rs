//! Finds log files, recognises them by their content, and follows them through every kind of rotation.
//!
//! - [`discover`]: finds the files of a log
//! - [`chain`]: the check value of each position of a stream
//! - [`content`]: reads a file's content, compressed or not
//! - [`head`]: reads the beginning of a file and finds its format
//! - [`identity`]: identifies the stream of a file
//! - [`lines`]: splits a stream into lines
//! - [`status`]: the configuration and the state of a log
//! - `watched`: detects that a file is replaced while it is being read
//! - [`stream`]: reads a stream into batches
//! - [`tailer`]: reads what is new in all files of a log, in order

pub mod chain;
pub mod content;
pub mod discover;
pub mod head;
pub mod identity;
pub mod lines;
pub mod parts;
pub mod status;
pub mod stream;
pub mod tailer;
mod watched;
