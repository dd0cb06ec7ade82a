//! What a database must be able to do. SQL is written once, in the common ground of SQLite and PostgreSQL; an engine
//! binds it, and knows how its database does bulk writes.
//!
//! - Parameters are `$1`, `$2`, ..., each first used in that order.
//! - A definition is in the words of the engine's dialect: see [`super::sql::Dialect`].
//! - A text holds no NUL: PostgreSQL cannot store one. What comes from agents is cleaned of it when it is opened.
//! - Ids are made by the program. There are no vendor types, and `ON CONFLICT` and `RETURNING` are all that goes beyond
//!   plain SQL.

use super::StoreError;

/// A value on its way into the database.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Nothing.
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

impl From<i32> for Value<'_> {
    fn from(value: i32) -> Self {
        Self::Int(value.into())
    }
}

/// Numbers of the product that fit into 63 bits: positions, counts, seconds.
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

/// A row on its way out. Columns count from 0; one of another type than asked for is an error.
pub trait Row {
    /// A number.
    fn int(&self, column: usize) -> Result<i64, StoreError>;
    /// A text.
    fn text(&self, column: usize) -> Result<&str, StoreError>;
    /// Bytes.
    fn blob(&self, column: usize) -> Result<&[u8], StoreError>;
}

/// What is done with each row of an answer.
pub type Each<'a> = dyn FnMut(&dyn Row) -> Result<(), StoreError> + 'a;

/// A connection to the database.
pub trait Connection: Send {
    /// Runs a statement; returns how many rows it changed.
    fn execute(&mut self, sql: &str, values: &[Value<'_>]) -> Result<u64, StoreError>;

    /// Asks a question.
    fn query(&mut self, sql: &str, values: &[Value<'_>], each: &mut Each<'_>) -> Result<(), StoreError>;

    /// Runs a statement of `width` parameters for each so many of the values: the engine's fastest way to write rows.
    fn bulk(&mut self, sql: &str, width: usize, values: &[Value<'_>]) -> Result<(), StoreError>;

    /// Begins a transaction: of a writer, or of a reader that wants one consistent state.
    fn begin(&mut self, is_writer: bool) -> Result<(), StoreError>;

    /// Commits it. Once this returns, it is on disk.
    fn commit(&mut self) -> Result<(), StoreError>;

    /// Forgets it. Safe to call when there is none.
    fn rollback(&mut self);
}

/// A kind of database.
pub trait Engine: Send + Sync {
    /// A new connection; only one at a time writes.
    fn connect(&self, is_writer: bool) -> Result<Box<dyn Connection>, StoreError>;

    /// Whose words definitions are in.
    fn dialect(&self) -> super::sql::Dialect;
}
