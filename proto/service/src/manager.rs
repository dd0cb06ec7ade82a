//! What the system's manager of services is told. systemd is told here; where there is none, telling it does nothing.
//! Windows asks its services by itself.

use std::time::Duration;

/// The service works; `status` says how, in a line for people.
pub fn ready(status: &str) {
    #[cfg(target_os = "linux")]
    notify(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status(status)]);
    #[cfg(not(target_os = "linux"))]
    let _ = status;
}

/// How the service is, in a line for people.
pub fn status(status: &str) {
    #[cfg(target_os = "linux")]
    notify(&[sd_notify::NotifyState::Status(status)]);
    #[cfg(not(target_os = "linux"))]
    let _ = status;
}

/// The service stops, by itself or because it was told to.
pub fn stopping() {
    #[cfg(target_os = "linux")]
    notify(&[sd_notify::NotifyState::Stopping]);
}

/// Tells the manager that the service is alive, as often as it wants to hear it, for as long as the runtime runs tasks.
/// Returns at once where it does not want to.
pub async fn keep_alive() {
    let Some(patience) = watchdog() else { return };
    let mut pulse = tokio::time::interval(patience / 3);
    loop {
        pulse.tick().await;
        alive();
    }
}

#[cfg(target_os = "linux")]
fn watchdog() -> Option<Duration> {
    let mut microseconds = 0;
    sd_notify::watchdog_enabled(false, &mut microseconds).then(|| Duration::from_micros(microseconds))
}

#[cfg(not(target_os = "linux"))]
fn watchdog() -> Option<Duration> {
    None
}

fn alive() {
    #[cfg(target_os = "linux")]
    notify(&[sd_notify::NotifyState::Watchdog]);
}

#[cfg(target_os = "linux")]
fn notify(states: &[sd_notify::NotifyState<'_>]) {
    // A manager that does not listen is no reason not to work; a watchdog that is not heard acts by itself.
    let _ = sd_notify::notify(false, states);
}
