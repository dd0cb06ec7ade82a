//! Runs capture and delivery until the agent is told to stop.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use seatmeter_proto::v1::Hello;
use seatmeter_service::manager;
use seatmeter_service::state::{self, StateError};
use tokio::sync::watch;

use crate::buffer::{Buffer, BufferError};
use crate::capture::Capture;
use crate::codes;
use crate::config::{Config, Reach};
use crate::health;
use crate::health::report::Reporter;
use crate::identity::keeper::{Ties, keep};
use crate::sealed::settle::Settler;
use crate::uplink::Uplink;

/// Why the agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Another agent uses the state folder, or the folder cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The buffer cannot be used.
    #[error(transparent)]
    Buffer(#[from] BufferError),
    /// The file of the agent's identity cannot be read or written.
    #[error("cannot keep the agent's identity in {path}: {source}")]
    Identity {
        /// Path of the file.
        path: std::path::PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The operating system cannot start a thread.
    #[error("cannot start capturing: {0}")]
    Threads(std::io::Error),
}

/// How long to wait before the agent tries again to open the state.
const REOPEN: Duration = Duration::from_secs(5);

/// Runs the agent until `stop` becomes true.
///
/// ```text
/// log file -> LogTailer -> LineInterpreter -> Batcher -> Buffer -> Uplink -> aggregator
///             (a thread for each log)           (SQLite)  (this runtime)
/// ```
pub async fn run(config: Config, mut stop: watch::Receiver<bool>) -> Result<(), RunError> {
    let _lock = state::lock(&config.state)?;
    let Some((agent_id, buffer)) = open_state(&config, &mut stop).await? else { return Ok(()) };
    let buffer = Arc::new(buffer);
    report_start(&config, &agent_id, &buffer)?;
    let capture = Arc::new(Capture::start(&config.sources, &config.polls, &buffer).map_err(RunError::Threads)?);
    let (status, delivery) = watch::channel(health::UplinkStatus::default());
    let reporter = Reporter {
        buffer: buffer.clone(),
        capture: capture.clone(),
        uplink: delivery,
        aggregator: config.aggregator.url(),
        state: config.state.clone(),
        alarm_after: config.alarm_after,
    };
    manager::ready("reading logs");
    let reporting = tokio::spawn(reporter.run(stop.clone()));
    let living = tokio::spawn(manager::keep_alive());
    let hello = hello(&config, agent_id);
    let ties = Ties::default();
    if let Some(files) = config.enrolled {
        tokio::spawn(keep(files, config.aggregator.url(), ties.clone(), stop.clone()));
    }
    let pseudonym_key_id = config.pseudonyms.map(|key| key.id().to_owned()).unwrap_or_default();
    let (capture_of, state) = (capture.clone(), config.state);
    match config.aggregator {
        Reach::Network(dialer) => {
            let dialer = *dialer;
            let uplink = Uplink { dialer, hello, buffer, capture: capture_of, status, ties, pseudonym_key_id };
            uplink.run(stop).await;
        }
        Reach::Sealed(address) => {
            let (capture, incarnation) = (capture_of, Mutex::default());
            Settler { address, state, buffer, capture, status, pseudonym_key_id, incarnation }.run(stop).await;
        }
    }
    manager::stopping();
    // The reporter shares the capture, and ends on the same signal as the uplink.
    let _ = reporting.await;
    if let Ok(capture) = Arc::try_unwrap(capture).map_err(drop) {
        // The threads commit what they read and end. A blocking thread waits for them, because a disk can be slow.
        let _ = tokio::task::spawn_blocking(move || capture.stop()).await;
    }
    living.abort();
    tracing::info!(code = codes::STOPPED, "the agent has stopped");
    Ok(())
}

/// Returns the agent's Hello message; clock and epoch are filled in for each connection.
pub fn hello(config: &Config, agent_id: String) -> Hello {
    Hello {
        agent_id,
        agent_version: env!("CARGO_PKG_VERSION").into(),
        license_server: config.license_server.clone(),
        realm: config.realm.clone(),
        host: hostname::get().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        ..Hello::default()
    }
}

fn report_start(config: &Config, agent_id: &str, buffer: &Buffer) -> Result<(), BufferError> {
    let depth = buffer.depth()?;
    tracing::info!(
        code = codes::STARTED,
        version = env!("CARGO_PKG_VERSION"),
        agent_id,
        license_server = config.license_server,
        realm = config.realm,
        aggregator = config.aggregator.url(),
        state = %config.state.display(),
        logs = config.sources.iter().map(|source| source.path.display().to_string()).collect::<Vec<_>>().join("; "),
        polls = config.polls.iter().map(|source| source.name.as_str()).collect::<Vec<_>>().join("; "),
        positions = positions(buffer)?,
        buffered_batches = depth.batches,
        buffered_bytes = depth.bytes,
        buffer_quota_bytes = buffer.quota(),
        oldest_batch_age_seconds = depth.oldest_age,
        "the agent has started"
    );
    Ok(())
}

/// Returns, as text, how far the newest streams were read before this start.
fn positions(buffer: &Buffer) -> Result<String, BufferError> {
    let streams = buffer.streams()?;
    // The newest streams show where reading resumes. A log of many parts must not fill the line.
    let newest = streams.iter().rev().take(8).rev();
    let told = newest.map(|stream| format!("{} at {}", stream.log, stream.position));
    Ok(told.collect::<Vec<_>>().join("; "))
}

/// Opens the agent's identity and the buffer. Tries again as long as an error can pass, such as a full disk. Returns
/// `None` if the agent was told to stop meanwhile.
async fn open_state(config: &Config, stop: &mut watch::Receiver<bool>) -> Result<Option<(String, Buffer)>, RunError> {
    let mut is_told = false;
    loop {
        let opened =
            agent_id(&config.state).and_then(|id| Ok((id, Buffer::open(&config.state, config.quota, config.keep)?)));
        match opened {
            Ok(opened) => return Ok(Some(opened)),
            Err(RunError::Buffer(error)) if error.is_permanent() => return Err(error.into()),
            Err(error) if !is_told => {
                tracing::error!(code = codes::STATE_UNAVAILABLE, reason = %error, "the state cannot be opened; trying again");
                is_told = true;
            }
            Err(_) => {}
        }
        tokio::select! {
            () = tokio::time::sleep(REOPEN) => {}
            _ = stop.wait_for(|stop| *stop) => return Ok(None),
        }
    }
}

/// Returns the agent's GUID, which is created at the first start. Its file is separate from the buffer, so that the
/// GUID outlives the buffer.
pub fn agent_id(state: &Path) -> Result<String, RunError> {
    let path = state.join("agent-id");
    let failed = |source| RunError::Identity { path: path.clone(), source };
    match std::fs::read_to_string(&path) {
        Ok(id) if !id.trim().is_empty() => return Ok(id.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let id = uuid::Uuid::new_v4().to_string();
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, &id).and_then(|()| std::fs::rename(&fresh, &path)).map_err(failed)?;
    Ok(id)
}
