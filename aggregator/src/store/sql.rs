//! SQL that every engine understands, and the dialects where engines differ.
//!
//! Statements are written once, in the common ground of SQLite and PostgreSQL, and listed by `statements!` in the
//! module of their table; [`super::statements`] has all of them.

/// Defines a constant for each statement of a module, and lists all of them.
macro_rules! statements {
    ($($name:ident = $sql:literal;)*) => {
        $(const $name: &str = $sql;)*
        /// Every statement of this module.
        pub(in crate::store) const STATEMENTS: &[&str] = &[$($name),*];
    };
}
pub(super) use statements;

/// The dialect of a definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite.
    Sqlite,
    /// PostgreSQL, and engines that speak its protocol.
    Postgres,
}

impl Dialect {
    /// Translates a definition into the dialect. `{blob}` stands for the type of bytes, `{clustered}` for rows kept in
    /// the order of their key. Texts compare byte by byte on every engine, so that every engine returns the same order,
    /// and the same page after a page token.
    pub fn definition(self, sql: &str) -> String {
        match self {
            Self::Sqlite => sql.replace("{blob}", "BLOB").replace("{clustered}", "WITHOUT ROWID"),
            Self::Postgres => {
                sql.replace("{blob}", "BYTEA").replace(" {clustered}", "").replace(" TEXT", " TEXT COLLATE \"C\"")
            }
        }
    }
}
