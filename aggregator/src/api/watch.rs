//! The stream of alerts: all that are raised, and then what changes of them. A client that reads slowly misses no state, only what was
//! between two.

use std::sync::Arc;
use std::time::Duration;

use seatmeter_proto::v1::WatchFleetResponse;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::status::ApiError;
use crate::access::operators::{Operators, Principal};
use crate::fleet::alerts::{Alert, Open, added};

/// The most alerts in a message.
const PORTION: usize = 1000;

/// How often it is asked whether the operator is still let in.
const LOOK: Duration = Duration::from_secs(2);

/// Follows the alerts of one license server, known by its name, case folded; or of all, if the name is empty. Holds a place among
/// those who do. Ends once the operator is not let in any more.
pub(super) fn follow(
    mut alerts: watch::Receiver<Option<Arc<Open>>>,
    name_key: String,
    operators: Operators,
    caller: Principal,
    place: OwnedSemaphorePermit,
) -> ReceiverStream<Result<WatchFleetResponse, Status>> {
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        let _place = place;
        let is_meant = |alert_key: &str| name_key.is_empty() || alert_key == name_key;
        let mut known: Option<Open> = None;
        let mut clock = tokio::time::interval(LOOK);
        // Right after a start, nobody has looked yet.
        tokio::select! {
            looked = alerts.wait_for(Option::is_some) => if looked.is_err() { return },
            () = sender.closed() => return,
        }
        loop {
            let mut open = alerts.borrow_and_update().as_deref().cloned().unwrap_or_default();
            open.retain(|(key, ..), _| is_meant(key));
            let is_first = known.is_none();
            let before = known.unwrap_or_default();
            let mut raised: Vec<&Alert> = added(&before, &open).collect();
            raised.sort_by_key(|alert| std::cmp::Reverse(alert.warning.severity));
            let cleared: Vec<&Alert> = added(&open, &before).collect();
            for message in messages(&raised, &cleared, open.len(), is_first) {
                if sender.send(Ok(message)).await.is_err() {
                    return;
                }
            }
            known = Some(open);
            loop {
                tokio::select! {
                    changed = alerts.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                    () = sender.closed() => return,
                    _ = clock.tick() => if !operators.is_let_in(&caller) {
                        // The client may have gone, too.
                        let _ = sender.send(Err(ApiError::TokenUnknown.into())).await;
                        return;
                    },
                }
            }
        }
    });
    ReceiverStream::new(receiver)
}

/// Returns the messages that tell a change; the first one is told even if there is nothing in it.
fn messages(raised: &[&Alert], cleared: &[&Alert], open: usize, is_first: bool) -> Vec<WatchFleetResponse> {
    let alerts = |alerts: &[&Alert]| alerts.iter().map(|alert| (*alert).clone().into()).collect();
    let message = |raised: &[&Alert], cleared: &[&Alert]| WatchFleetResponse {
        raised: alerts(raised),
        cleared: alerts(cleared),
        raised_count: open as u64,
    };
    let mut messages: Vec<_> = raised.chunks(PORTION).map(|part| message(part, &[])).collect();
    messages.extend(cleared.chunks(PORTION).map(|part| message(&[], part)));
    if messages.is_empty() && is_first {
        messages.push(message(&[], &[]));
    }
    messages
}
