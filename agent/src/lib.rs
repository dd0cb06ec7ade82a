//! tmp
pub mod format;
pub mod names;
pub mod scan;
pub mod source;
