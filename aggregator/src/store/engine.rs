//! The interface of a database engine. SQL is written once, in the subset that SQLite and PostgreSQL share. An engine
//! binds the parameters, and knows how its database does bulk writes.
//!
//! - Parameters are `$1`, `$2`, ..., each first used in that order.
//! - A definition is translated into the engine's dialect: see [`super::sql::Dialect`].
//! - A text contains no NUL, since PostgreSQL cannot store one. NULs are removed from a batch when it is opened.
//! - The program assigns ids. No vendor types are used. `ON CONFLICT` and `RETURNING` are the only extensions of plain
//!   SQL.

use super::StoreError;

/// A value for a parameter of a statement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// NULL.
    Null,
    /// A 64-bit number.
    Int(i64),
    /// A text.
    Text(&'a str),
    /// Bytes.
    Blob(&'a [u8]),
}

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<u32> for Value<'_> {
    fn from(value: u32) -> Self {
        Self::Int(value.into())
    }
}

impl From<Option<i32>> for Value<'_> {
    fn from(value: Option<i32>) -> Self {
        value.map_or(Self::Null, Self::from)
    }
}

impl From<i32> for Value<'_> {
    fn from(value: i32) -> Self {
        Self::Int(value.into())
    }
}

/// For positions, counts and seconds, which fit into 63 bits. A larger number becomes `i64::MAX`.
impl From<u64> for Value<'_> {
    fn from(value: u64) -> Self {
        Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(value: &'a str) -> Self {
        Self::Text(value)
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(value: &'a [u8]) -> Self {
        Self::Blob(value)
    }
}

/// A row of an answer. Columns count from 0. Asking for a column of another type is an error.
pub trait Row {
    /// Returns a number.
    fn int(&self, column: usize) -> Result<i64, StoreError>;
    /// Returns a number; `None` for NULL.
    fn int_or_null(&self, column: usize) -> Result<Option<i64>, StoreError>;
    /// Returns a text.
    fn text(&self, column: usize) -> Result<&str, StoreError>;
    /// Returns bytes.
    fn blob(&self, column: usize) -> Result<&[u8], StoreError>;
}

/// The function called with each row of an answer.
pub type Each<'a> = dyn FnMut(&dyn Row) -> Result<(), StoreError> + 'a;

/// A connection to the database.
pub trait Connection: Send {
    /// Runs a statement; returns how many rows it changed.
    fn execute(&mut self, sql: &str, values: &[Value<'_>]) -> Result<u64, StoreError>;

    /// Runs a query, and calls `each` with every row.
    fn query(&mut self, sql: &str, values: &[Value<'_>], each: &mut Each<'_>) -> Result<(), StoreError>;

    /// Runs a statement of `width` parameters once per `width` values: the engine's fastest way to write rows.
    fn bulk(&mut self, sql: &str, width: usize, values: &[Value<'_>]) -> Result<(), StoreError>;

    /// Begins a transaction: of a writer, or of a reader that wants one consistent state.
    fn begin(&mut self) -> Result<(), StoreError>;

    /// Commits the transaction. Once this returns, the transaction is on disk.
    fn commit(&mut self) -> Result<(), StoreError>;

    /// Rolls the transaction back. Safe to call without a transaction.
    fn rollback(&mut self);
}

/// What a connection is for. The archive and the facts each have one writer, and neither waits for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Reads and writes the archive: what agents have sent. Only one may be in use at a time.
    Archiver,
    /// Reads and writes the facts, and sees nothing else. Only one may be in use at a time.
    Projector,
    /// Reads both.
    Reader,
    /// Reads and writes who may speak with the aggregator, and sees nothing else. Only one may be in use at a time.
    Registrar,
    /// Reads and writes rules and months, and sees nothing else. Only one may be in use at a time.
    Clerk,
}

/// A kind of database.
pub trait Engine: Send + Sync {
    /// Opens a new connection.
    fn connect(&self, role: Role) -> Result<Box<dyn Connection>, StoreError>;

    /// Deletes the facts, in whatever state they are. Connections that are open see what they saw.
    fn discard_facts(&self) -> Result<(), StoreError>;

    /// Returns the dialect of the engine's definitions.
    fn dialect(&self) -> super::sql::Dialect;
}
