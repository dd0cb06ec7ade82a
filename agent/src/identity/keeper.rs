//! Renews the certificate in time, for as long as the agent runs: at two thirds of its life, a little earlier or later, so that
//! a fleet does not come at once. The one before is valid until the new one is used.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{Notify, watch};

use super::calls::renew;
use super::files::{FileError, Files};
use crate::codes;

/// How long to wait before a renewal that failed is tried again, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);

/// The longest wait without a look at the clock, which can be set.
const LOOK: Duration = Duration::from_secs(60);

/// What keeper and uplink tell each other.
#[derive(Clone, Default)]
pub struct Ties {
    /// The aggregator has not accepted the certificate.
    pub refused: Arc<Notify>,
    /// There is a new certificate.
    pub renewed: Arc<Notify>,
    /// Why there is none, for people; empty if nothing is wrong.
    pub trouble: Arc<Mutex<String>>,
    /// What the aggregator gave at the last connection: by it, the agent is told from a copy of it.
    generation: Arc<Mutex<Vec<u8>>>,
}

impl Ties {
    /// Returns why there is no new certificate; `None` if nothing is wrong.
    pub fn trouble(&self) -> Option<String> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        Some(trouble.clone()).filter(|trouble| !trouble.is_empty())
    }

    /// Takes note of what the aggregator gave.
    pub fn set_generation(&self, given: &[u8]) {
        given.clone_into(&mut self.generation.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn generation(&self) -> Vec<u8> {
        self.generation.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_trouble(&self, trouble: &str) {
        trouble.clone_into(&mut self.trouble.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Renews the certificate until the agent stops.
pub async fn keep(files: Files, url: String, ties: Ties, mut stop: watch::Receiver<bool>) {
    let (mut pause, mut told, mut renewed_at) = (FIRST_PAUSE, String::new(), None::<Instant>);
    // Chosen once: a wait that is interrupted must not be drawn anew.
    let mut part = part();
    loop {
        let is_due = match due(&files, part) {
            Ok(due) => {
                let wait = due.duration_since(Timestamp::now());
                let wait = Duration::try_from(wait).unwrap_or(Duration::ZERO);
                tokio::select! {
                    () = tokio::time::sleep(wait.min(LOOK)) => wait <= LOOK,
                    // Said of the one before it, perhaps; if it was not, it is said again.
                    () = ties.refused.notified() => renewed_at.is_none_or(|at| at.elapsed() > FIRST_PAUSE),
                    _ = stop.wait_for(|stop| *stop) => return,
                }
            }
            // What is wrong is told below.
            Err(_) => true,
        };
        if !is_due {
            continue;
        }
        let renewed = tokio::select! {
            renewed = renew(&url, &files, ties.generation()) => renewed,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match renewed {
            Ok(expires) => {
                tracing::info!(code = codes::CERTIFICATE_RENEWED, expires = %expires, "the certificate is renewed");
                (pause, told, part, renewed_at) = (FIRST_PAUSE, String::new(), self::part(), Some(Instant::now()));
                ties.set_trouble("");
                ties.renewed.notify_one();
                if expires <= Timestamp::now() {
                    // It would be renewed for ever.
                    report(
                        "this machine's clock is ahead of the end of a certificate that is new: set it right",
                        &mut told,
                    );
                    tokio::select! {
                        () = tokio::time::sleep(LONGEST_PAUSE) => {}
                        _ = stop.wait_for(|stop| *stop) => return,
                    }
                }
            }
            Err(error) => {
                let reason = error.to_string();
                ties.set_trouble(&reason);
                report(&reason, &mut told);
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    _ = stop.wait_for(|stop| *stop) => return,
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Returns the part of its life after which a certificate is renewed.
fn part() -> f64 {
    0.62 + 0.1 * fastrand::f64()
}

/// Returns when the certificate is to be renewed.
fn due(files: &Files, part: f64) -> Result<Timestamp, FileError> {
    let held = files.load()?;
    let life = held.expires.duration_since(held.issued);
    Ok(held.issued.saturating_add(life.mul_f64(part)).unwrap_or(held.expires))
}

/// Reports that something is wrong, once for each reason.
fn report(reason: &str, told: &mut String) {
    if told != reason {
        tracing::error!(code = codes::CERTIFICATE_NOT_RENEWED, reason, "the certificate is not renewed; trying again");
        reason.clone_into(told);
    }
}
