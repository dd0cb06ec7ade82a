//! Code that every Seatmeter program needs: configuration, state folder, health log, and output.
//!
//! | module | one idea |
//! |---|---|
//! | [`config`] | configuration files: TOML, each error with its place and remedy |
//! | [`state`] | the state folder, locked by one process at a time; requests to stop |
//! | [`health`] | the health log: JSON lines with stable codes, in a rotated file and in the system's own log |
//! | [`manager`] | reports to the system's service manager: ready, alive, stopping |
//! | [`manual`] | completion scripts and manual pages, generated from the command line's definition |
//! | [`private`] | files that hold secrets |
//! | [`stamp`] | times in JSON |
//! | [`screen`] | answers on standard output: tables, JSON, CSV, text for people |

pub mod config;
pub mod health;
pub mod manager;
pub mod manual;
pub mod private;
pub mod screen;
pub mod stamp;
pub mod state;

/// The version of the programs. A build by `cargo xtask dist` adds the commit and its date.
pub const VERSION: &str = match option_env!("SEATMETER_BUILD") {
    Some(version) => version,
    None => concat!(env!("CARGO_PKG_VERSION"), " (development build)"),
};
