//! The state folder of a program, which one process at a time may use, and requests to stop the process.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::screen::text::size;

/// The lock on a state folder, held until this value is dropped.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

/// Why a state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another process is using the folder.
    #[error("another process is running on {0}: stop it first, or give this one another state folder")]
    InUse(PathBuf),
    /// The system refuses access to the folder.
    #[error("cannot use the state folder {path}: {source}")]
    Folder {
        /// The state folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// Creates the state folder, readable only by its owner, if it does not exist.
pub fn make(folder: &Path) -> Result<(), StateError> {
    if folder.exists() {
        return Ok(());
    }
    let made = fs::create_dir_all(folder).and_then(|()| restrict(folder));
    made.map_err(|source| StateError::Folder { path: folder.to_owned(), source })
}

/// Creates the state folder if it does not exist, and locks it.
pub fn lock(folder: &Path) -> Result<StateLock, StateError> {
    let failed = |source| StateError::Folder { path: folder.to_owned(), source };
    make(folder)?;
    let file = File::options().create(true).truncate(false).write(true).open(folder.join("lock")).map_err(failed)?;
    let mut tries = 10;
    loop {
        tries -= 1;
        match file.try_lock() {
            Ok(()) => return Ok(StateLock { _file: file }),
            // Another process that calls [`is_locked`] holds the lock for a moment.
            Err(TryLockError::WouldBlock) if tries > 0 => std::thread::sleep(Duration::from_millis(20)),
            Err(TryLockError::WouldBlock) => return Err(StateError::InUse(folder.to_owned())),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
    }
}

/// Returns the message for a full disk, with the path and the free space.
pub fn disk_full(path: &Path) -> String {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(path);
    let free = fs4::available_space(folder).map_or_else(|_| "unknown".to_owned(), size);
    format!("no space is left on the disk of {} (free: {free})", path.display())
}

/// Returns whether a process is using this state folder.
pub fn is_locked(folder: &Path) -> bool {
    File::open(folder.join("lock")).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

#[cfg(unix)]
fn restrict(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
}

/// On Windows the installer sets the access list of the state folder.
#[cfg(not(unix))]
fn restrict(_folder: &Path) -> io::Result<()> {
    Ok(())
}

/// Returns when the system or a person asks the process to stop.
#[cfg(unix)]
pub async fn asked_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    // The system hangs up when the terminal is closed in which a person started the program.
    match (signal(SignalKind::terminate()), signal(SignalKind::hangup())) {
        (Ok(mut terminate), Ok(mut hangup)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        }
        _ => _ = tokio::signal::ctrl_c().await,
    }
}

/// Returns when a person asks the process to stop.
#[cfg(not(unix))]
pub async fn asked_to_stop() {
    _ = tokio::signal::ctrl_c().await;
}
