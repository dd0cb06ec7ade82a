//! Looks at the fleet again and again, and tells which alerts are raised.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::Fleet;
use super::alerts::{Alert, Alerts, Open, added};
use crate::codes;

/// Goes on looking, so often, until nobody has the receiver any more. Returns the alerts that are raised; `None` until the first look.
pub fn watch_fleet(fleet: Fleet, every: Duration) -> watch::Receiver<Option<Arc<Open>>> {
    let (sender, receiver) = watch::channel(None::<Arc<Open>>);
    tokio::spawn(async move {
        let mut alerts = Alerts::default();
        let mut clock = tokio::time::interval(every);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = clock.tick() => {}
                () = sender.closed() => return,
            }
            let fleet = fleet.clone();
            let looked = tokio::task::spawn_blocking(move || fleet.license_servers("")).await;
            match looked {
                Ok(Ok(servers)) => {
                    let (before, open) = (sender.borrow().clone(), alerts.look(&servers, Timestamp::now().as_second()));
                    if before.as_deref() != Some(open) {
                        tell(&before.unwrap_or_default(), open);
                        sender.send_replace(Some(Arc::new(open.clone())));
                    }
                }
                Ok(Err(error)) => {
                    tracing::error!(code = codes::QUERY_FAILED, reason = %error, "the license servers cannot be looked at");
                }
                Err(ended) if ended.is_cancelled() => return,
                Err(ended) => {
                    tracing::error!(code = codes::QUERY_FAILED, reason = %ended, "the license servers cannot be looked at");
                }
            }
        }
    });
    receiver
}

/// Tells the health log what has changed.
fn tell(before: &Open, after: &Open) {
    for Alert { license_server, warning, .. } in added(before, after) {
        let (kind, severity) = (format!("{:?}", warning.kind), format!("{:?}", warning.severity));
        let (subject, count, detail) = (&warning.subject, warning.count, &warning.detail);
        tracing::warn!(
            code = codes::ALERT_RAISED,
            license_server,
            kind,
            severity,
            subject,
            count,
            detail,
            "an alert is raised: see `seatmeter alerts`"
        );
    }
    for Alert { license_server, warning, .. } in added(after, before) {
        let (kind, subject) = (format!("{:?}", warning.kind), &warning.subject);
        tracing::info!(code = codes::ALERT_CLEARED, license_server, kind, subject, "an alert is cleared");
    }
}
