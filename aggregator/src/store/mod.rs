//! The database.
//!
//! - [`engine`]: what a database must be able to do; [`sqlite`] does it. A second engine is one more file.
//! - [`backup`]: copies of the embedded one, and back
//! - `schema`: the tables
//! - [`sql`]: every statement that is sent, in the common ground of all engines
//! - [`received`]: license servers, agents, streams with their marks, batches
//! - [`log_state`]: where the projection of a log stands: its open sessions
//! - [`names`]: identities, devices and features, each name once
//! - [`facts`]: usage by person; [`usage`]: usage by feature and by hour
//! - [`settings`]: what the database knows about itself
//!
//! The batches received are the durable truth; facts are their projection and can be rebuilt from them.

pub mod backup;
pub mod engine;
pub mod facts;
pub mod log_state;
pub mod names;
pub mod received;
mod schema;
pub mod settings;
pub mod sql;
pub mod sqlite;
pub mod usage;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use engine::{Connection, Engine};

/// What kind of failure it is, for whoever must decide what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Trying again can help.
    Transient,
    /// No space is left.
    DiskFull,
    /// The database is damaged.
    Corrupt,
    /// A person must act.
    Permanent,
}

/// The database does not do what it should.
#[derive(Debug, thiserror::Error)]
#[error("the database failed: {reason}")]
pub struct StoreError {
    /// What kind of failure it is.
    pub failure: Failure,
    /// What the database said, and what to do.
    pub reason: String,
}

impl StoreError {
    /// A failure with its reason.
    pub fn new(failure: Failure, reason: impl Into<String>) -> Self {
        Self { failure, reason: reason.into() }
    }
}

/// The database, opened and of this version.
#[derive(Clone)]
pub struct Store {
    engine: Arc<dyn Engine>,
    readers: Arc<Mutex<Vec<Box<dyn Connection>>>>,
}

/// So many idle connections are kept for the next readers.
const IDLE_READERS: usize = 4;

impl Store {
    /// Opens the embedded database in a folder.
    pub fn open_embedded(folder: &Path) -> Result<Self, StoreError> {
        Self::open_at(&backup::database(folder))
    }

    /// Opens the embedded database in a folder for questions alone, as it is: nothing is brought forward, since an
    /// aggregator of another version can be working on it.
    pub fn open_current(folder: &Path) -> Result<Self, StoreError> {
        let engine = sqlite::Sqlite::new(&backup::database(folder))?;
        let mut connection = engine.connect(false)?;
        schema::must_be_current(connection.as_mut())?;
        Ok(Self { engine: Arc::new(engine), readers: Arc::default() })
    }

    fn open_at(path: &Path) -> Result<Self, StoreError> {
        Self::open(Arc::new(sqlite::Sqlite::new(path)?))
    }

    fn open(engine: Arc<dyn Engine>) -> Result<Self, StoreError> {
        let mut connection = engine.connect(true)?;
        schema::migrate(engine.as_ref(), connection.as_mut())?;
        Ok(Self { engine, readers: Arc::default() })
    }

    /// The connection that writes. Only one is used at a time.
    pub fn writer(&self) -> Result<Box<dyn Connection>, StoreError> {
        self.engine.connect(true)
    }

    /// Runs a task that reads, on one consistent state of the database.
    pub fn read<T>(&self, task: impl FnOnce(&mut dyn Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let idle = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => self.engine.connect(false)?,
        };
        connection.begin(false)?;
        let result = task(connection.as_mut());
        connection.rollback();
        // A connection that failed is not used again.
        if result.is_ok() {
            let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
            if readers.len() < IDLE_READERS {
                readers.push(connection);
            }
        }
        result
    }
}

/// Runs a task that writes, in a transaction of its own.
pub fn in_transaction<T, E: From<StoreError>>(
    connection: &mut dyn Connection,
    task: impl FnOnce(&mut dyn Connection) -> Result<T, E>,
) -> Result<T, E> {
    connection.begin(true)?;
    match task(connection) {
        Ok(value) => {
            connection.commit()?;
            Ok(value)
        }
        Err(error) => {
            connection.rollback();
            Err(error)
        }
    }
}
