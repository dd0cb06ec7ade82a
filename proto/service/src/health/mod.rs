//! The health log: one JSON object per line, each with a stable `code`. It alone tells an operator, or a program that
//! monitors a fleet, what works, what does not, why, and since when.
//!
//! The log is written to a rotated file ([`rotating`]) and to the system's own log: the journal if systemd runs the
//! service, the Event Log on Windows. In a terminal, it is written to standard error.

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

/// The `[health_log]` section of a configuration file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The path of the file; `None` means `health.log` in the state folder.
    pub file: Option<PathBuf>,
    /// The size at which the file is rotated, in MiB; 0 means 1.
    pub max_mib: u64,
    /// The age at which the file is rotated, in days; 0 means 1.
    pub max_days: u64,
    /// The number of old files kept; 0 keeps none.
    pub keep: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { file: None, max_mib: 10, max_days: 7, keep: 8 }
    }
}

impl Settings {
    /// Returns the path of the health log of a service with this state folder.
    pub fn path(&self, state: &Path) -> PathBuf {
        self.file.clone().unwrap_or_else(|| state.join("health.log"))
    }
}

/// Why the health log cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum HealthLogError {
    /// The file cannot be opened.
    #[error("cannot write the health log {path}: {source}; name another `file` under [health_log], or grant access")]
    File {
        /// The path of the file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The state folder, in which the file is by default, cannot be created.
    #[error(transparent)]
    State(#[from] StateError),
}

/// The service that writes the health log.
pub struct Service {
    /// The service's name in the system's log: a syslog identifier, or an event source on Windows.
    pub name: &'static str,
    /// The codes that the service uses.
    pub codes: &'static [Code],
}

/// Starts the health log of this process. The variable `SEATMETER_LOG` sets the level, for example `debug` or `warn`;
/// the default is `info`.
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

/// Reports each panic in the health log under `code`, and ends the process if `is_vital` says so of the name of the
/// thread: without it, the service would only seem to work. The service manager starts it again.
pub fn report_panics(code: &'static str, is_vital: fn(Option<&str>) -> bool) {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        let thread = std::thread::current();
        tracing::error!(code, thread = thread.name(), reason = %panic, "a bug: please report it");
        if is_vital(thread.name()) {
            std::process::abort();
        }
    }));
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
