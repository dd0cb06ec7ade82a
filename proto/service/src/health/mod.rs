//! The health log: one JSON object a line, each with a stable `code`. A person or a program that watches a fleet reads
//! from it alone what works, what does not, why, and since when.
//!
//! It goes to a file that is rotated ([`rotating`]), and to the system's own log: to the journal where systemd runs the
//! service, to the Event Log on Windows; in a terminal, to standard error.

pub mod code;
#[cfg(windows)]
mod event_log;
pub mod rotating;

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::Deserialize;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::state::{self, StateError};
use code::Code;
use rotating::{Limits, Rotating};

/// `[health_log]` of a configuration file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The file; `health.log` in the state folder if none is named.
    pub file: Option<PathBuf>,
    /// A new file is begun when this one has so many mebibytes, ...
    pub max_mib: u64,
    /// ... or is so many days old.
    pub max_days: u64,
    /// So many older files are kept.
    pub keep: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { file: None, max_mib: 10, max_days: 7, keep: 8 }
    }
}

impl Settings {
    /// Where the health log of a service with this state folder is.
    pub fn path(&self, state: &Path) -> PathBuf {
        self.file.clone().unwrap_or_else(|| state.join("health.log"))
    }
}

/// The health log cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum HealthLogError {
    /// Its file.
    #[error("cannot write the health log {path}: {source}; name another `file` under [health_log], or grant access")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The folder that it is in by default.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Which service writes.
pub struct Service {
    /// Its name in the system's log: a syslog identifier, an event source.
    pub name: &'static str,
    /// Its codes.
    pub codes: &'static [Code],
}

/// Starts the health log of this process. The variable `SEATMETER_LOG` says how much is told, as `debug` or `warn`.
pub fn start(service: &Service, settings: &Settings, state: &Path) -> Result<(), HealthLogError> {
    state::make(state)?;
    let path = settings.path(state);
    let limits = Limits { bytes: settings.max_mib.max(1) << 20, days: settings.max_days.max(1), keep: settings.keep };
    let file = Rotating::open(&path, limits).map_err(|source| HealthLogError::File { path, source })?;
    let wanted = std::env::var("SEATMETER_LOG").ok().and_then(|wanted| wanted.parse().ok());
    let filter = wanted.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    tracing_subscriber::registry().with(filter).with(json(Mutex::new(file))).with(system_log(service)).init();
    Ok(())
}

fn json<W: for<'a> MakeWriter<'a> + Send + Sync + 'static>(writer: W) -> Box<dyn Layer<Filtered> + Send + Sync> {
    Box::new(tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(writer))
}

type Filtered = tracing_subscriber::layer::Layered<Targets, Registry>;
type WithFile = tracing_subscriber::layer::Layered<Box<dyn Layer<Filtered> + Send + Sync>, Filtered>;

#[cfg(target_os = "linux")]
fn system_log(service: &Service) -> Box<dyn Layer<WithFile> + Send + Sync> {
    if std::env::var_os("JOURNAL_STREAM").is_some()
        && let Ok(journal) = tracing_journald::layer()
    {
        return Box::new(
            journal.with_field_prefix(Some("SEATMETER".into())).with_syslog_identifier(service.name.into()),
        );
    }
    to_stderr()
}

#[cfg(windows)]
fn system_log(service: &Service) -> Box<dyn Layer<WithFile> + Send + Sync> {
    Box::new(to_stderr().and_then(event_log::EventLog::open(service)))
}

#[cfg(not(any(target_os = "linux", windows)))]
fn system_log(_service: &Service) -> Box<dyn Layer<WithFile> + Send + Sync> {
    to_stderr()
}

fn to_stderr() -> Box<dyn Layer<WithFile> + Send + Sync> {
    Box::new(tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(std::io::stderr))
}
