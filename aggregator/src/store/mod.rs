//! The database.
//!
//! - [`engine`]: the interface of a database engine; [`sqlite`] implements it. A second engine is one more file.
//! - [`backup`]: backup and restore of the embedded database
//! - `schema`: the tables of the archive; [`facts_schema`]: those of the facts
//! - [`sql`]: every statement that the program sends, in the SQL that all engines share
//! - [`received`]: license servers, logs, batches; [`streams`]: streams with their marks; [`agents`]: agents
//! - [`projections`]: how far the facts go, and [`log_state`]: the state of a log's projection: its open sessions
//! - [`names`]: identities, devices and features, each name once
//! - [`facts`]: usage by person; [`usage`]: usage by feature and by hour
//! - [`enrolments`]: which agents may speak for which license server; [`operators`]: who may ask and change what; [`audit`]: what they
//!   did. Their tables, `access_schema`, are in a database of their own
//! - [`rules`]: rules and their versions; [`months`]: months and their revisions. Their tables, `clerk_schema`, are in a database of their own, too
//! - [`settings`]: settings that the database keeps about itself
//!
//! The batches received, the archive, are the durable truth; facts are their projection and can be rebuilt from them. Each
//! has a writer of its own, so that none waits for the other.

mod access_schema;
pub mod agents;
pub mod audit;
pub mod backup;
mod clerk_schema;
pub mod engine;
pub mod enrolments;
pub mod exports;
pub mod facts;
pub mod facts_schema;
pub mod holders;
pub mod intake;
pub mod log_state;
pub mod months;
pub mod names;
pub mod operators;
pub mod pools;
pub mod projections;
pub mod received;
pub mod rules;
mod schema;
pub mod settings;
pub mod sql;
pub mod sqlite;
pub mod statements;
pub mod streams;
pub mod usage;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use engine::{Connection, Engine, Role};
use facts_schema::{Discarded, Origin};

/// The kind of a failure, which decides what to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A retry can succeed.
    Transient,
    /// No space is left on the disk.
    DiskFull,
    /// The database is damaged.
    Corrupt,
    /// A person must act.
    Permanent,
    /// The work was told to stop.
    Stopped,
}

/// A failure of the database.
#[derive(Debug, thiserror::Error)]
#[error("{}{reason}", if *failure == Failure::Permanent { "" } else { "the database failed: " })]
pub struct StoreError {
    /// The kind of the failure.
    pub failure: Failure,
    /// The error text of the database, and what to do.
    pub reason: String,
}

impl StoreError {
    /// Creates an error from a failure and its reason.
    pub fn new(failure: Failure, reason: impl Into<String>) -> Self {
        Self { failure, reason: reason.into() }
    }
}

/// The open database, with the tables of this version.
#[derive(Clone)]
pub struct Store {
    engine: Arc<dyn Engine>,
    readers: Arc<Mutex<Vec<Box<dyn Connection>>>>,
}

/// The most idle connections kept for later readers.
const IDLE_READERS: usize = 4;

impl Store {
    /// Opens the embedded database in a folder, and migrates its tables to this version.
    pub fn open_embedded(folder: &Path) -> Result<Self, StoreError> {
        Self::open_at(&backup::database(folder))
    }

    /// Opens the embedded database in a folder for reading only. Does not migrate the tables, since an aggregator of
    /// another version can be using them, and refuses tables of another version.
    pub fn open_current(folder: &Path) -> Result<Self, StoreError> {
        let path = backup::database(folder);
        let exists = path.try_exists().map_err(|error| {
            let reason =
                format!("cannot look into {} ({error}): run it as root, or as the service's account", folder.display());
            StoreError::new(Failure::Permanent, reason)
        })?;
        if !exists {
            let reason = format!("there is no database in {}: no aggregator has run there yet", folder.display());
            return Err(StoreError::new(Failure::Permanent, reason));
        }
        let engine = sqlite::Sqlite::new(&path)?;
        schema::must_be_current(engine.connect(Role::Archiver)?.as_mut())?;
        facts_schema::must_be_current(engine.connect(Role::Reader)?.as_mut())?;
        Ok(Self { engine: Arc::new(engine), readers: Arc::default() })
    }

    fn open_at(path: &Path) -> Result<Self, StoreError> {
        Self::open(Arc::new(sqlite::Sqlite::new(path)?))
    }

    fn open(engine: Arc<dyn Engine>) -> Result<Self, StoreError> {
        let mut connection = engine.connect(Role::Archiver)?;
        schema::migrate(engine.as_ref(), connection.as_mut())?;
        Ok(Self { engine, readers: Arc::default() })
    }

    /// Opens a connection that writes the archive. Only one may be in use at a time.
    pub fn archiver(&self) -> Result<Box<dyn Connection>, StoreError> {
        self.engine.connect(Role::Archiver)
    }

    /// Opens a connection that writes the facts of this origin. Facts that are damaged, of another version or of another
    /// origin are discarded before, and there are none then. Only one may be in use at a time.
    pub fn projector(&self, origin: &Origin) -> Result<(Box<dyn Connection>, Option<Discarded>), StoreError> {
        facts_schema::open(self.engine.as_ref(), origin)
    }

    /// Opens a connection to who may speak with the aggregator, and migrates its tables to this version. Only one may be in use at a
    /// time.
    pub fn registrar(&self) -> Result<Box<dyn Connection>, StoreError> {
        let mut connection = self.engine.connect(Role::Registrar)?;
        schema::apply(&access_schema::MIGRATIONS, self.engine.as_ref(), connection.as_mut())?;
        Ok(connection)
    }

    /// Opens a connection to rules and months, and migrates its tables to this version. Only one may be in use at a time.
    pub fn clerk(&self) -> Result<Box<dyn Connection>, StoreError> {
        let mut connection = self.engine.connect(Role::Clerk)?;
        schema::apply(&clerk_schema::MIGRATIONS, self.engine.as_ref(), connection.as_mut())?;
        Ok(connection)
    }

    /// Deletes all facts, in whatever state they are. Questions that are being answered from them are answered.
    pub fn discard_facts(&self) -> Result<(), StoreError> {
        // Windows removes no file that is open.
        self.close_idle_readers();
        self.engine.discard_facts()?;
        self.close_idle_readers();
        Ok(())
    }

    fn close_idle_readers(&self) {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Runs a task that reads one consistent state of the database.
    pub fn read<T, E: From<StoreError>>(&self, task: impl FnOnce(&mut dyn Connection) -> Result<T, E>) -> Result<T, E> {
        let idle = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => self.engine.connect(Role::Reader)?,
        };
        connection.begin()?;
        // The facts are read first: so they never contain what the archive does not.
        let result = facts_schema::pin(connection.as_mut()).map_err(E::from).and_then(|()| task(connection.as_mut()));
        connection.rollback();
        // A connection that may have failed is not used again.
        if result.is_ok() {
            let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
            if readers.len() < IDLE_READERS {
                readers.push(connection);
            }
        }
        result
    }
}

/// Runs a task in a write transaction. Commits if the task succeeds, and rolls back if it fails.
pub fn in_transaction<T, E: From<StoreError>>(
    connection: &mut dyn Connection,
    task: impl FnOnce(&mut dyn Connection) -> Result<T, E>,
) -> Result<T, E> {
    connection.begin()?;
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
