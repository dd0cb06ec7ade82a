//! What every Seatmeter program needs to run and to talk, whatever it does.
//!
//! | module | one idea |
//! |---|---|
//! | [`config`] | configuration files: TOML, each error with its place and remedy |
//! | [`state`] | a folder for one process, and when the process must stop |
//! | [`health`] | the health log: JSON lines with stable codes, in a rotated file and in the system's own log |
//! | [`manager`] | what the system's manager of services is told: ready, alive, stopping |
//! | [`manual`] | completion scripts and manual pages, made of the command line itself |
//! | [`stamp`] | moments in JSON |
//! | [`screen`] | answers on standard output: tables, JSON, CSV, text for people |

pub mod config;
pub mod health;
pub mod manager;
pub mod manual;
pub mod screen;
pub mod stamp;
pub mod state;

/// The version of the programs, with the commit and its date where they were built by `cargo xtask dist`.
pub const VERSION: &str = match option_env!("SEATMETER_BUILD") {
    Some(version) => version,
    None => concat!(env!("CARGO_PKG_VERSION"), " (development build)"),
};
