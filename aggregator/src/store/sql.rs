//! SQL that every engine understands, and the dialects where engines differ.
//!
//! Statements are written once, in the common ground of SQLite and PostgreSQL, and listed by `statements!` in the
//! module of their table, so that a test can prepare each of them on each engine. Nothing sends a statement that is not
//! listed; builds with debug assertions refuse to.

/// Defines a constant for each statement of a module, and lists all of them.
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

/// Returns every migration in a dialect, in order: the statements that create this version's tables from nothing.
pub fn migrations(dialect: Dialect) -> Vec<String> {
    schema::MIGRATIONS.iter().flat_map(|migration| migration.iter().map(|sql| dialect.definition(sql))).collect()
}

/// Returns every statement that the program sends, whatever the engine.
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

/// Returns whether a statement is listed, is a definition, or is specific to SQLite.
pub(super) fn is_known(sql: &str) -> bool {
    static KNOWN: OnceLock<HashSet<String>> = OnceLock::new();
    let known = KNOWN.get_or_init(|| {
        let statements = all_statements().into_iter().map(str::to_owned);
        statements.chain(migrations(Dialect::Sqlite)).collect()
    });
    known.contains(sql) || sql.starts_with("PRAGMA ") || sql.starts_with("VACUUM ")
}
