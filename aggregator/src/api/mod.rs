//! The gRPC services, one per file. A call of an operator comes through [`gate`], which knows who calls, what it may by `methods`, and
//! writes it down. Then each method first enters the limit, then validates, then acts. Domain types become
//! messages here, and domain errors become statuses; no domain module knows about messages or statuses.

pub mod access;
pub mod audit;
pub mod authority;
pub mod enrolment;
pub mod fleet;
pub mod gate;
pub mod ingest;
mod invitations;
mod messages;
mod methods;
pub mod operators;
mod paging;
mod report_messages;
pub mod reports;
mod rule_messages;
pub mod rules;
pub mod sealed;
mod status;
pub mod usage;
mod watch;

use std::net::IpAddr;
use std::sync::Arc;

use seatmeter_proto::connection::Peer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tonic::{Request, Response, Status};

use status::ApiError;

use crate::access::operators::Principal;
use crate::ingest::archiver::{Command, Word};

/// Limits the requests answered at a time. A request beyond the limit is refused; the client can send it again.
#[derive(Clone)]
pub struct ConcurrencyLimit {
    permits: Arc<Semaphore>,
}

impl ConcurrencyLimit {
    /// Creates a limit of this many requests at a time.
    pub fn new(requests: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(requests)) }
    }

    fn enter(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        self.permits.clone().try_acquire_owned().map_err(|_| ApiError::TooMany)
    }
}

/// Answers a request by running `task` on a thread that may wait for the disk.
async fn answer<T: Send + 'static, E: Into<ApiError> + Send + 'static>(
    task: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<Response<T>, Status> {
    match tokio::task::spawn_blocking(task).await {
        Ok(answer) => answer.map(Response::new).map_err(|error| error.into().into()),
        Err(_) => Err(ApiError::Internal.into()),
    }
}

/// Returns who calls, as the gate has found.
fn caller<T>(request: &Request<T>) -> Result<Principal, ApiError> {
    request.extensions().get().cloned().ok_or(ApiError::NoToken)
}

/// Returns the address that a call comes from.
fn address<T>(request: &Request<T>) -> Option<IpAddr> {
    request.extensions().get::<Peer>()?.address.map(|address| address.ip())
}

/// Waits until what an operator says is durable.
async fn say(commands: &mpsc::Sender<Command>, word: Word) -> Result<(), ApiError> {
    let (answer, done) = oneshot::channel();
    commands.send(Command::Say(word, answer)).await.map_err(|_| ApiError::Stopping)?;
    // Without an answer, the database failed.
    done.await.map_err(|_| ApiError::Stopping)
}
