//! Reports the service's state to systemd. Without systemd, these functions do nothing. Windows queries its services
//! itself.

use std::time::Duration;

/// Reports that the service is ready. `status` is one line for people.
pub fn ready(status: &str) {
    #[cfg(target_os = "linux")]
    notify(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status(status)]);
    #[cfg(not(target_os = "linux"))]
    let _ = status;
}

/// Reports the status of the service: one line for people.
pub fn status(status: &str) {
    #[cfg(target_os = "linux")]
    notify(&[sd_notify::NotifyState::Status(status)]);
    #[cfg(not(target_os = "linux"))]
    let _ = status;
}

/// Reports that the service is stopping.
pub fn stopping() {
    #[cfg(target_os = "linux")]
    notify(&[sd_notify::NotifyState::Stopping]);
}

/// Reports that the service is alive, three times in each watchdog interval, for as long as the runtime runs tasks.
/// Returns at once if the manager has set no watchdog.
pub async fn keep_alive() {
    let Some(patience) = watchdog() else { return };
    let mut pulse = tokio::time::interval(patience / 3);
    // After a stall, one report is enough.
    pulse.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
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
    // A failed report must not stop the service. If a watchdog report is lost, the manager acts by itself.
    let _ = sd_notify::notify(false, states);
}
