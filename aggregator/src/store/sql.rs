//! SQL that every engine understands, and what engines call by different names.
//!
//! Statements are written once, in the common ground of SQLite and PostgreSQL, and listed by [`statements!`] in the
//! module of their table, so that a test can prepare each of them on each engine. Nothing sends a statement that is not
//! listed; builds with debug assertions refuse to.

/// Names the statements of a module, and lists them.
macro_rules! statements {
    ($($name:ident = $sql:literal;)*) => {
        $(const $name: &str = $sql;)*
        /// Every statement of this module.
        pub(in crate::store) const STATEMENTS: &[&str] = &[$($name),*];
    };
}
pub(super) use statements;

use std::collections::HashSet;
use std::sync::OnceLock;

use super::{facts, names, received, schema, settings, usage};

/// Whose words a definition is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite.
    Sqlite,
    /// PostgreSQL, and engines that speak its protocol.
    Postgres,
}

impl Dialect {
    /// A definition in the words of the dialect. `{blob}` and `{clustered}` stand for the type of bytes, and for the wish
    /// to keep rows in the order of their key. Texts compare byte by byte everywhere, so that every engine gives the
    /// same order, and the same page after a page token.
    pub fn definition(self, sql: &str) -> String {
        match self {
            Self::Sqlite => sql.replace("{blob}", "BLOB").replace("{clustered}", "WITHOUT ROWID"),
            Self::Postgres => {
                sql.replace("{blob}", "BYTEA").replace(" {clustered}", "").replace(" TEXT", " TEXT COLLATE \"C\"")
            }
        }
    }
}

/// Every migration in the words of a dialect, in order: what makes the tables of this version out of none.
pub fn migrations(dialect: Dialect) -> Vec<String> {
    schema::MIGRATIONS.iter().flat_map(|migration| migration.iter().map(|sql| dialect.definition(sql))).collect()
}

/// Every statement that the program sends to whichever engine.
pub fn all_statements() -> Vec<&'static str> {
    let modules = [
        schema::STATEMENTS,
        settings::STATEMENTS,
        received::STATEMENTS,
        names::STATEMENTS,
        facts::STATEMENTS,
        usage::STATEMENTS,
    ];
    modules.concat()
}

/// Whether a statement is listed, is a definition, or is SQLite's own.
pub(super) fn is_known(sql: &str) -> bool {
    static KNOWN: OnceLock<HashSet<String>> = OnceLock::new();
    let known = KNOWN.get_or_init(|| {
        let statements = all_statements().into_iter().map(str::to_owned);
        statements.chain(migrations(Dialect::Sqlite)).collect()
    });
    known.contains(sql) || sql.starts_with("PRAGMA ") || sql.starts_with("VACUUM ")
}
