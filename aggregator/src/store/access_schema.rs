//! The tables of who may speak with the aggregator, in a database of their own, and of what they did.

/// The statements that migrate each version of these tables to the next. Migrations are appended, and never changed.
pub(super) const MIGRATIONS: [&[&str]; 7] = [
    &[
        "CREATE TABLE invitation (
         secret_hash    {blob} PRIMARY KEY,
         license_server TEXT NOT NULL,              -- empty: the agent says it
         realm          TEXT NOT NULL,
         expires_at     BIGINT NOT NULL,
         uses_left      BIGINT NOT NULL
     )",
        "CREATE TABLE enrolment (
         id              TEXT PRIMARY KEY,
         secret_hash     {blob} NOT NULL,           -- of the invitation
         license_server  TEXT NOT NULL,
         name_key        TEXT NOT NULL,             -- the license server's name, case folded
         realm           TEXT NOT NULL,
         host            TEXT NOT NULL,
         enrolled_at     BIGINT NOT NULL,
         seen_at         BIGINT,
         revoked_at      BIGINT,
         recoveries_left BIGINT NOT NULL            -- how often it may renew an expired certificate
     )",
        "CREATE TABLE certificate (
         sha256       {blob} PRIMARY KEY,
         enrolment_id TEXT NOT NULL,
         number       BIGINT NOT NULL,              -- later ones of an enrolment have higher ones
         public_key   {blob} NOT NULL UNIQUE,
         der          {blob} NOT NULL,
         expires_at   BIGINT NOT NULL,
         state        BIGINT NOT NULL               -- 0: not used yet, 1: used, 2: a later one was used
     )",
        "CREATE INDEX certificate_enrolment ON certificate (enrolment_id)",
    ],
    &[
        "CREATE TABLE operator (
         name_key         TEXT PRIMARY KEY,          -- the name, case folded
         name             TEXT NOT NULL,
         role             BIGINT NOT NULL,           -- as in the contract
         certificate_name TEXT NOT NULL,             -- empty: none
         added_at         BIGINT NOT NULL,
         added_by         TEXT NOT NULL,             -- empty: at the aggregator itself
         seen_at          BIGINT,
         disabled_at      BIGINT
     )",
        "CREATE TABLE login (
         secret_hash {blob} PRIMARY KEY,
         name_key    TEXT NOT NULL,                  -- of the operator
         expires_at  BIGINT NOT NULL,
         token_hash  {blob} NOT NULL                 -- of the token that it was used for; empty: it was not
     )",
        "CREATE TABLE token (
         sha256     {blob} PRIMARY KEY,
         name_key   TEXT NOT NULL,                   -- of the operator
         label      TEXT NOT NULL,
         created_at BIGINT NOT NULL,
         expires_at BIGINT NOT NULL,
         used_at    BIGINT
     )",
        "CREATE TABLE audit (
         number    BIGINT PRIMARY KEY,
         at_micros BIGINT NOT NULL,
         who       TEXT NOT NULL,
         address   TEXT NOT NULL,
         action    TEXT NOT NULL,
         detail    TEXT NOT NULL,
         result    TEXT NOT NULL,
         result_of BIGINT NOT NULL,
         hash      {blob} NOT NULL
     )",
    ],
    &[
        // 1: an operator must accept whoever enrols by it.
        "ALTER TABLE invitation ADD COLUMN needs_approval BIGINT NOT NULL DEFAULT 0",
        // 1: no operator has accepted it yet.
        "ALTER TABLE enrolment ADD COLUMN waits BIGINT NOT NULL DEFAULT 0",
    ],
    &["CREATE TABLE holder (
         enrolment_id TEXT NOT NULL,
         number       BIGINT NOT NULL,
         presented    {blob} NOT NULL,              -- the generation with which it came last
         issued       {blob} NOT NULL,              -- the one that it was given then
         standing     BIGINT NOT NULL,              -- 0: counted, 1: displaced, 2: quarantined, 3: accepted, 4: rejected, 5: probation
         host         TEXT NOT NULL,
         address      TEXT NOT NULL,
         since        BIGINT NOT NULL,
         seen_at      BIGINT NOT NULL,
         PRIMARY KEY (enrolment_id, number)
     )"],
    &["CREATE TABLE export (
         enrolment_id TEXT NOT NULL,
         epoch        TEXT NOT NULL,                 -- of the buffer
         number       BIGINT NOT NULL,
         sha256       {blob} NOT NULL,               -- of the file
         imported_at  BIGINT NOT NULL,
         PRIMARY KEY (enrolment_id, epoch, number, sha256)
     )"],
    // 1: it has certainly got the generation that it was given.
    &["ALTER TABLE holder ADD COLUMN has_issued BIGINT NOT NULL DEFAULT 0"],
    // The customer to whose reports an operator is confined; empty: to none.
    &["ALTER TABLE operator ADD COLUMN customer TEXT NOT NULL DEFAULT ''"],
];
