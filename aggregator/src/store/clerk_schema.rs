//! The tables of rules and months, in a database of their own: no other database's restore takes anything back that was billed.

/// The statements that migrate each version of these tables to the next. Migrations are appended, and never changed.
pub(super) const MIGRATIONS: [&[&str]; 1] = [&[
    "CREATE TABLE rule (
         number     BIGINT PRIMARY KEY,
         origin     TEXT NOT NULL,              -- what it was imported from; empty: an operator says it
         body       TEXT NOT NULL,              -- its canonical form
         added_in   BIGINT NOT NULL,            -- the version that has it first
         removed_in BIGINT                      -- the first version that has it no more
     )",
    "CREATE INDEX rule_removed ON rule (removed_in)",
    "CREATE TABLE rule_version (
         number BIGINT PRIMARY KEY,
         hash   {blob} NOT NULL,
         author TEXT NOT NULL,                  -- empty: the configuration
         reason TEXT NOT NULL,
         at     BIGINT NOT NULL,
         undoes BIGINT                          -- the version that it takes back
     )",
]];
