//! tmp
pub mod api;
pub mod ingest;
pub mod store;
pub mod usage;
