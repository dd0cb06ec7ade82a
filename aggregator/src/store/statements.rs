//! The list of all statements, so that a test can prepare each of them on each engine. Nothing sends a statement that is
//! not listed; builds with debug assertions refuse to.

use std::collections::HashSet;
use std::sync::OnceLock;

use super::sql::Dialect;
use super::{
    access_schema, agents, audit, clerk_schema, enrolments, exports, facts, facts_schema, holders, intake, months,
    names, operators, pools, projections, received, rules, schema, settings, streams, usage,
};

/// Returns the statements that create this version's tables from nothing, in a dialect: every migration of the archive in
/// order, the tables of the facts, those of who may speak with the aggregator, and those of rules and months.
pub fn migrations(dialect: Dialect) -> Vec<String> {
    let archive = schema::MIGRATIONS.iter().copied().flatten();
    let access = access_schema::MIGRATIONS.iter().copied().flatten();
    let months = clerk_schema::MIGRATIONS.iter().copied().flatten();
    archive.chain(facts_schema::DEFINITIONS).chain(access).chain(months).map(|sql| dialect.definition(sql)).collect()
}

/// Returns every statement that the program sends, whatever the engine.
pub fn all_statements() -> Vec<&'static str> {
    let modules = [
        schema::STATEMENTS,
        facts_schema::STATEMENTS,
        settings::STATEMENTS,
        received::STATEMENTS,
        agents::STATEMENTS,
        audit::STATEMENTS,
        enrolments::STATEMENTS,
        holders::STATEMENTS,
        exports::STATEMENTS,
        intake::STATEMENTS,
        operators::STATEMENTS,
        streams::STATEMENTS,
        projections::STATEMENTS,
        names::STATEMENTS,
        pools::STATEMENTS,
        facts::STATEMENTS,
        rules::STATEMENTS,
        months::STATEMENTS,
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

#[cfg(test)]
mod tests {
    use super::*;

    /// SQLite numbers parameters by where they first stand, PostgreSQL by their digits: both must be the same.
    #[test]
    fn parameters_first_stand_in_the_order_of_their_numbers() {
        for sql in all_statements() {
            let numbers = sql.split('$').skip(1).map(|rest| {
                let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
                rest[..digits].parse::<usize>().unwrap()
            });
            let mut known = 0;
            for number in numbers {
                assert!(number <= known + 1, "${number} stands before ${}: {sql}", known + 1);
                known = known.max(number);
            }
        }
    }
}
