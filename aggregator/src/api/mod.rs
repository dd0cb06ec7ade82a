//! The gRPC services, one a file, over the domain's own calls.

pub mod fleet;
mod paging;
pub mod status;
pub mod usage;

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Response, Status};

use crate::store::StoreError;

/// Lets so many questions in at a time; whoever comes when it is full is asked to come again.
#[derive(Clone)]
pub struct Gate {
    places: Arc<Semaphore>,
}

impl Gate {
    /// A gate with so many places.
    pub fn new(places: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(places)) }
    }

    fn enter(&self) -> Result<OwnedSemaphorePermit, Status> {
        let place = self.places.clone().try_acquire_owned();
        place.map_err(|_| Status::resource_exhausted("too many questions at a time: ask again in a moment"))
    }
}

/// Answers a question on a thread that may wait for the disk.
async fn answer<T: Send + 'static>(
    task: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<Response<T>, Status> {
    match tokio::task::spawn_blocking(task).await {
        Ok(Ok(answer)) => Ok(Response::new(answer)),
        Ok(Err(error)) => Err(status::of_store(&error)),
        Err(_) => Err(Status::internal("the question could not be answered; this is a bug: please report it")),
    }
}
