//! Publishes the state of the agent: to the `status` command, to the system's service manager, and to the health log.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use seatmeter_service::manager;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use super::{Status, UplinkStatus, at};
use crate::buffer::Buffer;
use crate::capture::Capture;
use crate::codes;

/// How often the status file and the service manager are updated. Changes of delivery or of a log update them at once.
const OFTEN: Duration = Duration::from_secs(10);

/// Intervals of [`OFTEN`] between two reports in the health log: 10 minutes.
const SELDOM: u32 = 60;
/// Intervals of [`OFTEN`] between two alarms about batches that have been waiting for too long: one hour.
const ALARM: u32 = 360;

/// Publishes the state of the agent.
pub struct Reporter {
    /// The buffer whose fill level is reported.
    pub buffer: Arc<Buffer>,
    /// The capture whose logs are reported.
    pub capture: Arc<Capture>,
    /// The state of delivery.
    pub uplink: watch::Receiver<UplinkStatus>,
    /// The aggregator's URL.
    pub aggregator: String,
    /// The folder for the status file.
    pub state: PathBuf,
    /// How long a batch may wait before the agent raises an alarm, in seconds.
    pub alarm_after: u64,
}

impl Reporter {
    /// Publishes the state until `stop` becomes true.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut often = interval(OFTEN);
        often.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut changes = self.capture.changes();
        let (mut ticks, mut told_at, mut alarmed_at) = (0u32, 0, None);
        let mut is_saved = true;
        loop {
            tokio::select! {
                _ = often.tick() => ticks = ticks.wrapping_add(1),
                Ok(()) = self.uplink.changed() => {}
                Ok(()) = changes.changed() => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
            let Some(status) = self.tell(&mut is_saved).await else { continue };
            if ticks.wrapping_sub(told_at) >= SELDOM {
                told_at = ticks;
                to_health_log(&status);
            }
            let is_old = status.buffered_batches > 0 && status.oldest_batch_age_seconds > self.alarm_after;
            if !is_old {
                alarmed_at = None;
            } else if alarmed_at.is_none_or(|at| ticks.wrapping_sub(at) >= ALARM) {
                alarmed_at = Some(ticks);
                tracing::error!(
                    code = codes::BUFFER_OLD,
                    oldest_age_seconds = status.oldest_batch_age_seconds,
                    batches = status.buffered_batches,
                    "batches have been waiting for too long: is the aggregator running, and reachable?"
                );
            }
        }
    }

    /// Publishes the current state. That it cannot be saved is reported once; everything else goes on.
    async fn tell(&self, was_saved: &mut bool) -> Option<Status> {
        let (buffer, capture, state) = (self.buffer.clone(), self.capture.clone(), self.state.clone());
        let (url, uplink) = (self.aggregator.clone(), self.uplink.borrow().clone());
        let told = spawn_blocking(move || {
            let status = Status::now(&buffer, &capture, &url, &uplink);
            let saved = status.as_ref().map_or_else(
                |error| Err(error.to_string()),
                |status| status.save(&state).map_err(|error| error.to_string()),
            );
            (status.ok(), saved)
        });
        // An error means that the runtime is shutting down.
        let (status, saved) = told.await.ok()?;
        if let (Err(reason), true) = (&saved, *was_saved) {
            tracing::warn!(code = codes::STATUS_UNSAVED, reason, "`seatmeter-agent status` shows an older status");
        }
        *was_saved = saved.is_ok();
        if let Some(status) = &status {
            manager::status(&status.line());
        }
        status
    }
}

fn to_health_log(status: &Status) {
    let lines = status.logs.iter().fold((0, 0, 0), |sum, log| {
        let counts = log.status.lines;
        (sum.0 + counts.events, sum.1 + counts.ignored, sum.2 + counts.unrecognised)
    });
    tracing::info!(
        code = codes::HEALTH,
        logs = status.positions(),
        uplink = %status.uplink,
        last_acknowledged_at = at(status.last_acknowledged_at),
        buffered_batches = status.buffered_batches,
        buffered_bytes = status.buffered_bytes,
        oldest_batch_age_seconds = status.oldest_batch_age_seconds,
        events = lines.0,
        ignored = lines.1,
        unrecognised = lines.2,
        "{}",
        status.line()
    );
}
