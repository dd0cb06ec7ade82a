//! The sources of input; today, only files. A further kind of source (a tool to run, a URL to poll) becomes a module
//! here.

pub mod file;
