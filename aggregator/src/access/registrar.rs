//! The one writer of who may speak with the aggregator.

use std::sync::{Arc, Mutex, PoisonError};

use crate::store::engine::Connection;
use crate::store::{Store, StoreError, in_transaction};

/// The connection to the database of enrolments, operators and the audit trail. Whoever uses it waits for the others.
#[derive(Clone)]
pub struct Registrar {
    connection: Arc<Mutex<Box<dyn Connection>>>,
}

impl Registrar {
    /// Opens the database, and migrates its tables to this version.
    pub fn open(store: &Store) -> Result<Self, StoreError> {
        Ok(Self { connection: Arc::new(Mutex::new(store.registrar()?)) })
    }

    /// Runs a task in a transaction. Commits if the task succeeds, and rolls back if it fails.
    pub fn write<T, E: From<StoreError>>(
        &self,
        task: impl FnOnce(&mut dyn Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        in_transaction(connection.as_mut(), task)
    }
}
