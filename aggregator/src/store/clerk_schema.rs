//! The tables of rules and months, in a database of their own: no other database's restore takes anything back that was billed.

/// The statements that migrate each version of these tables to the next. Migrations are appended, and never changed.
pub(super) const MIGRATIONS: [&[&str]; 2] = [
    &[
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
    ],
    &[
        "CREATE TABLE month_revision (
         month    BIGINT NOT NULL,              -- as in facts
         revision BIGINT NOT NULL,              -- counts those of the month, from 1
         state    BIGINT NOT NULL,              -- 1: in review, 2: approved, 3: submitted, 4: superseded, 5: withdrawn
         document {blob} NOT NULL,              -- the report, as JSON; empty once it is withdrawn
         sha256   {blob} NOT NULL,              -- of the document
         PRIMARY KEY (month, revision)
     )",
        "CREATE TABLE month_event (
         number   BIGINT PRIMARY KEY,
         month    BIGINT NOT NULL,
         revision BIGINT NOT NULL,              -- 0: of the month as a whole
         at       BIGINT NOT NULL,
         author   TEXT NOT NULL,
         what     BIGINT NOT NULL,
         subject  TEXT NOT NULL,                -- what it is about, as a license server
         reason   TEXT NOT NULL
     )",
        "CREATE INDEX month_event_month ON month_event (month)",
        "CREATE TABLE adjustment (
         number       BIGINT PRIMARY KEY,
         month        BIGINT NOT NULL,
         customer     TEXT NOT NULL,            -- empty: nobody's use
         sku          TEXT NOT NULL,
         quantity     BIGINT NOT NULL,          -- added to what is charged
         reason       TEXT NOT NULL,
         author       TEXT NOT NULL,
         at           BIGINT NOT NULL,
         withdrawn_at BIGINT
     )",
    ],
];
