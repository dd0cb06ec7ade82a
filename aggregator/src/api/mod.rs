//! The gRPC services, one per file. Each method first enters the limit, then validates, then acts. Domain types become
//! messages here, and domain errors become statuses; no domain module knows about messages or statuses.

pub mod access;
pub mod enrolment;
pub mod fleet;
pub mod ingest;
mod messages;
mod paging;
mod status;
pub mod usage;

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Response, Status};

use status::ApiError;

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
