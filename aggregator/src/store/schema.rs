//! The tables of the archive, and the migrations that create them.

use super::engine::{Connection, Engine};
use super::sql::statements;
use super::{Failure, StoreError, in_transaction};

statements! {
    CREATE_VERSION = "CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)";
    DELETE_VERSION = "DELETE FROM schema_version";
    INSERT_VERSION = "INSERT INTO schema_version (version) VALUES ($1)";
    SELECT_VERSION = "SELECT version FROM schema_version";
}

/// The statements that migrate each version to the next. Migrations are appended, and never changed.
pub(super) const MIGRATIONS: [&[&str]; 10] = [&[
    // License servers and agents.
    "CREATE TABLE license_server (
         id          BIGINT PRIMARY KEY,
         name        TEXT NOT NULL,
         name_key    TEXT NOT NULL UNIQUE,          -- the name, case folded
         realm       TEXT NOT NULL
     )",
    "CREATE TABLE agent (
         id          TEXT PRIMARY KEY,
         server_id   BIGINT NOT NULL,
         host        TEXT NOT NULL,
         version     TEXT NOT NULL,
         epoch       TEXT NOT NULL,
         last_report BIGINT NOT NULL,               -- seconds since 1970, as all moments
         clock_ahead BIGINT NOT NULL,               -- seconds
         heartbeat   {blob} NOT NULL                -- a seatmeter.v1.Heartbeat
     )",
    // The data received: the durable truth.
    "CREATE TABLE log (
         id             BIGINT PRIMARY KEY,
         server_id      BIGINT NOT NULL,
         name           TEXT NOT NULL,
         last_line_at   BIGINT NOT NULL,
         folded_through BIGINT NOT NULL,            -- the last batch that the facts contain
         needs_refold   BIGINT NOT NULL,            -- 1: its facts must be made again from its batches
         state          {blob} NOT NULL,            -- open sessions, and denials that can still be retried
         UNIQUE (server_id, name)
     )",
    "CREATE TABLE stream (
         id           BIGINT PRIMARY KEY,
         server_id    BIGINT NOT NULL,
         log_id       BIGINT NOT NULL,
         fingerprint  {blob} NOT NULL,
         realm        TEXT NOT NULL,                -- of the license server when the stream was first seen
         begins_at    BIGINT NOT NULL,
         mark         BIGINT NOT NULL,              -- everything before this position is durable
         last_line_at BIGINT NOT NULL,
         events       BIGINT NOT NULL,
         noise        BIGINT NOT NULL,
         unrecognised BIGINT NOT NULL,
         UNIQUE (server_id, fingerprint)
     )",
    "CREATE TABLE batch (
         id          BIGINT PRIMARY KEY,
         stream_id   BIGINT NOT NULL,
         start_at    BIGINT NOT NULL,               -- events before this position are in an earlier batch
         end_at      BIGINT NOT NULL,
         received_at BIGINT NOT NULL,
         body        {blob} NOT NULL                -- a seatmeter.v1.Batch, as it came
     )",
    "CREATE INDEX batch_stream ON batch (stream_id, start_at)",
    "CREATE TABLE gap (
         stream_id  BIGINT NOT NULL,
         start_at   BIGINT NOT NULL,
         end_at     BIGINT NOT NULL,
         noticed_at BIGINT NOT NULL,
         PRIMARY KEY (stream_id, start_at)
     )",
    "CREATE TABLE unrecognised (
         stream_id BIGINT NOT NULL,
         position  BIGINT NOT NULL,
         near      BIGINT NOT NULL,
         line      TEXT NOT NULL,
         PRIMARY KEY (stream_id, position)
     )",
    // Names, each once.
    "CREATE TABLE identity (
         id       BIGINT PRIMARY KEY,
         realm    TEXT NOT NULL,
         name     TEXT NOT NULL,                    -- as first written
         name_key TEXT NOT NULL,                    -- case folded
         UNIQUE (realm, name_key)
     )",
    "CREATE TABLE device (
         id       BIGINT PRIMARY KEY,
         realm    TEXT NOT NULL,
         name     TEXT NOT NULL,
         name_key TEXT NOT NULL,
         UNIQUE (realm, name_key)
     )",
    "CREATE TABLE feature (
         id     BIGINT PRIMARY KEY,
         daemon TEXT NOT NULL,
         name   TEXT NOT NULL,                      -- empty: the daemon itself
         UNIQUE (daemon, name)
     )",
    // Facts: the projection of the batches, from which all facts can be rebuilt.
    "CREATE TABLE fact (
         log_id       BIGINT NOT NULL,
         month        BIGINT NOT NULL,              -- 12 * year + month - 1, of the billing time zone
         feature_id   BIGINT NOT NULL,
         identity_id  BIGINT NOT NULL,
         days         BIGINT NOT NULL,              -- bit 0: a seat was held on the 1st
         first_at     BIGINT NOT NULL,
         last_at      BIGINT NOT NULL,
         checkouts    BIGINT NOT NULL,
         seat_seconds BIGINT NOT NULL,
         flags        BIGINT NOT NULL,              -- 1: an end was not seen, 2: only a moment of use was seen
         PRIMARY KEY (log_id, month, feature_id, identity_id)
     ) {clustered}",
    "CREATE TABLE usage (
         log_id       BIGINT NOT NULL,
         month        BIGINT NOT NULL,
         feature_id   BIGINT NOT NULL,
         outs         BIGINT NOT NULL,
         ins          BIGINT NOT NULL,
         denial_lines BIGINT NOT NULL,
         denials      BIGINT NOT NULL,
         seat_seconds BIGINT NOT NULL,
         peak         BIGINT NOT NULL,
         peak_at      BIGINT NOT NULL,
         held         {blob} NOT NULL,              -- roaring bitmaps of identities
         checked_out  {blob} NOT NULL,
         devices      {blob} NOT NULL,              -- and of devices
         PRIMARY KEY (month, log_id, feature_id)
     ) {clustered}",
    "CREATE TABLE concurrency (
         log_id     BIGINT NOT NULL,
         hour       BIGINT NOT NULL,                -- hours since 1970 UTC
         feature_id BIGINT NOT NULL,
         peak       BIGINT NOT NULL,
         peak_at    BIGINT NOT NULL,
         PRIMARY KEY (log_id, hour, feature_id)
     ) {clustered}",
    "CREATE TABLE setting (
         name  TEXT PRIMARY KEY,
         value TEXT NOT NULL
     )",
], &[
    // Facts of neighbouring identities share a row. The facts are rebuilt from the batches.
    "DROP TABLE fact",
    "CREATE TABLE fact (
         log_id     BIGINT NOT NULL,
         month      BIGINT NOT NULL,                -- 12 * year + month - 1, of the billing time zone
         feature_id BIGINT NOT NULL,
         block      BIGINT NOT NULL,                -- identity / 32
         figures    {blob} NOT NULL,                -- of those identities: days, moments, checkouts, seat-seconds, flags
         PRIMARY KEY (log_id, month, feature_id, block)
     ) {clustered}",
    "UPDATE log SET needs_refold = 1",
], &[
    // Names in the words of the field: positions are bytes, projections are rebuilt, lines without usage are ignored.
    "ALTER TABLE log RENAME COLUMN folded_through TO projected_through",
    "ALTER TABLE log RENAME COLUMN needs_refold TO needs_rebuild",
    "ALTER TABLE stream RENAME COLUMN noise TO ignored",
    "ALTER TABLE batch RENAME COLUMN start_at TO start_position",
    "ALTER TABLE batch RENAME COLUMN end_at TO end_position",
    "ALTER TABLE gap RENAME COLUMN start_at TO start_position",
    "ALTER TABLE gap RENAME COLUMN end_at TO end_position",
    "ALTER TABLE unrecognised RENAME COLUMN near TO previous_line_at",
    "CREATE INDEX stream_log ON stream (log_id)",
], &[
    // The states of logs know exits, and where the stream before ended. The facts are rebuilt from the batches.
    "UPDATE log SET needs_rebuild = 1",
], &[
    // Streams are known by all of their content, and what two of them have in common counts once.
    "ALTER TABLE stream ADD COLUMN beginning {blob}",
    "ALTER TABLE stream ADD COLUMN tells_date BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE stream ADD COLUMN check_value {blob}",
    "ALTER TABLE stream ADD COLUMN common_in_log BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE stream ADD COLUMN common_elsewhere BIGINT NOT NULL DEFAULT 0",
    // A gap marks the months in which its lines were written.
    "ALTER TABLE gap ADD COLUMN after_at BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE gap ADD COLUMN before_at BIGINT NOT NULL DEFAULT 0",
    "UPDATE gap SET before_at = noticed_at",
    "UPDATE stream SET beginning = fingerprint, check_value = substr(fingerprint, 1, 0)",
    "CREATE TABLE common_beginning (
         stream_id BIGINT NOT NULL,
         other_id  BIGINT NOT NULL,                 -- the stream before it, of those that begin so
         through   BIGINT NOT NULL,                 -- the bytes that both have in common
         parted    BIGINT NOT NULL,                 -- 1: they differ after these bytes
         PRIMARY KEY (stream_id, other_id)
     )",
], &[
    // Streams are dated here. Those that agents dated have times that count from 1970 UTC.
    "ALTER TABLE log ADD COLUMN time_zone TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE log ADD COLUMN configured_day BIGINT",              // of the first line of the first stream
    "ALTER TABLE log ADD COLUMN configured_by TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE stream ADD COLUMN first_day BIGINT",                // NULL: nothing dates it
    "ALTER TABLE stream ADD COLUMN given_day BIGINT",                // what an operator says
    "ALTER TABLE stream ADD COLUMN found_after BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE stream ADD COLUMN first_line_time BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE stream ADD COLUMN told_day BIGINT",                 // the first day, as its first date reckons it
    "ALTER TABLE stream ADD COLUMN told_position BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE stream ADD COLUMN after_stream {blob}",
    "ALTER TABLE stream ADD COLUMN begins_time BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE stream ADD COLUMN begins_day BIGINT",
    "ALTER TABLE stream ADD COLUMN begins_offset BIGINT",
    "ALTER TABLE stream ADD COLUMN last_time BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE stream ADD COLUMN last_day BIGINT",
    "ALTER TABLE stream ADD COLUMN last_offset BIGINT",
    "UPDATE stream SET first_day = 0, first_line_time = begins_at, told_day = 0,
         after_stream = substr(fingerprint, 1, 0), begins_time = begins_at, begins_day = 0, begins_offset = 0,
         last_time = last_line_at, last_day = 0, last_offset = 0",
    "ALTER TABLE stream DROP COLUMN tells_date",
    "ALTER TABLE unrecognised RENAME COLUMN previous_line_at TO previous_time",
    "ALTER TABLE unrecognised ADD COLUMN previous_day BIGINT",
    "ALTER TABLE unrecognised ADD COLUMN previous_offset BIGINT",
    "UPDATE unrecognised SET previous_day = 0, previous_offset = 0",
    "UPDATE log SET needs_rebuild = 1",
], &[
    // The facts have a file and a writer of their own. They are made of the batches again.
    "ALTER TABLE log RENAME COLUMN needs_rebuild TO rebuilds",       // how often a rebuild was requested
    "UPDATE log SET rebuilds = 1",
    "ALTER TABLE log DROP COLUMN last_line_at",
    "ALTER TABLE log DROP COLUMN projected_through",
    "ALTER TABLE log DROP COLUMN state",
    "DROP TABLE identity",
    "DROP TABLE device",
    "DROP TABLE feature",
    "DROP TABLE fact",
    "DROP TABLE usage",
    "DROP TABLE concurrency",
    "DELETE FROM setting WHERE name = 'time_zone'",
    // What operators say of license servers: the first day on which they must report, and on which they need not any more.
    "ALTER TABLE license_server ADD COLUMN expected_from BIGINT",
    "ALTER TABLE license_server ADD COLUMN retired_from BIGINT",
], &[
    // An agent that reports for another license server takes along what it has sent, restarts between or not.
    "ALTER TABLE agent ADD COLUMN previous_server BIGINT",
], &[
    // A log can be what a license manager answers when it is asked, every so many seconds.
    "ALTER TABLE log ADD COLUMN poll_interval BIGINT NOT NULL DEFAULT 0",
], &[
    // What comes of each license server in a day is held against quotas.
    "CREATE TABLE intake (
         server_id BIGINT NOT NULL,
         day       BIGINT NOT NULL,                 -- since 1970, of UTC
         batches   BIGINT NOT NULL,
         bytes     BIGINT NOT NULL,
         PRIMARY KEY (server_id, day)
     )",
]];

/// Migrates the archive's tables to this version.
pub(super) fn migrate(engine: &dyn Engine, connection: &mut dyn Connection) -> Result<(), StoreError> {
    apply(&MIGRATIONS, engine, connection)
}

/// Migrates the tables of a database to the version that these migrations make.
pub(super) fn apply(
    migrations: &[&[&str]],
    engine: &dyn Engine,
    connection: &mut dyn Connection,
) -> Result<(), StoreError> {
    connection.execute(CREATE_VERSION, &[])?;
    while version(connection)? < migrations.len() {
        in_transaction(connection, |connection| advance(migrations, engine, connection))?;
    }
    let (found, known) = (version(connection)?, migrations.len());
    if found > known { Err(newer(found, known)) } else { Ok(()) }
}

/// Refuses a database that no aggregator has made: an empty file is a valid database, too.
pub(super) fn must_be_an_aggregators(connection: &mut dyn Connection) -> Result<(), StoreError> {
    match version(connection) {
        Ok(1..) => Ok(()),
        _ => Err(StoreError::new(Failure::Permanent, "it is no database of an aggregator")),
    }
}

fn newer(found: usize, known: usize) -> StoreError {
    let reason = format!(
        "the database was written by a newer version (schema {found}, this version knows {known}): install that version again"
    );
    StoreError::new(Failure::Permanent, reason)
}

/// Refuses tables that are not of this version.
pub(super) fn must_be_current(connection: &mut dyn Connection) -> Result<(), StoreError> {
    let (found, known) = (version(connection)?, MIGRATIONS.len());
    if found > known {
        return Err(newer(found, known));
    }
    if found < known {
        let reason = format!(
            "the database was written by an older version (schema {found}, this version needs {known}): start or \
             restart the aggregator, which migrates it"
        );
        return Err(StoreError::new(Failure::Permanent, reason));
    }
    Ok(())
}

/// Migrates the tables to the next version, within a transaction. Does nothing if another process has done so already.
fn advance(migrations: &[&[&str]], engine: &dyn Engine, connection: &mut dyn Connection) -> Result<(), StoreError> {
    let found = version(connection)?;
    let Some(migration) = migrations.get(found) else { return Ok(()) };
    for statement in *migration {
        connection.execute(&engine.dialect().definition(statement), &[])?;
    }
    connection.execute(DELETE_VERSION, &[])?;
    connection.execute(INSERT_VERSION, &[(found as i64 + 1).into()]).map(drop)
}

/// Returns the version of the tables; 0 if there are none.
fn version(connection: &mut dyn Connection) -> Result<usize, StoreError> {
    let mut version = 0;
    connection.query(SELECT_VERSION, &[], &mut |row| {
        version = row.int(0)? as usize;
        Ok(())
    })?;
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::agents;
    use crate::store::engine::Role;
    use crate::store::facts_schema::{self, Origin};
    use crate::store::intake;
    use crate::store::received;
    use crate::store::settings;
    use crate::store::sqlite::Sqlite;
    use crate::store::streams::{self, LineTime};
    use seatmeter_count::timeline::Told;

    /// Creates a database of an older version with data in it, and migrates it to this version.
    fn brought_forward(version: usize, data: &str) -> (tempfile::TempDir, Box<dyn Connection>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("aggregator.db");
        let engine = Sqlite::new(&path).unwrap();
        let mut connection = engine.connect(Role::Archiver).unwrap();
        apply(&MIGRATIONS[..version], &engine, connection.as_mut()).unwrap();
        rusqlite::Connection::open(&path).unwrap().execute_batch(data).unwrap();
        migrate(&engine, connection.as_mut()).unwrap();
        // A second time changes nothing.
        migrate(&engine, connection.as_mut()).unwrap();
        let origin = Origin { incarnation: String::new(), time_zone: "UTC".into() };
        facts_schema::open(&engine, &origin).unwrap();
        (folder, engine.connect(Role::Reader).unwrap())
    }

    #[test]
    fn facts_of_version_1_are_made_again() {
        let data = "INSERT INTO log VALUES (1, 1, 'debug.log', 5, 7, 0, x'')";
        let (_folder, mut connection) = brought_forward(1, data);
        assert_eq!(received::logs(connection.as_mut()).unwrap()[0].rebuilds, 1);
    }

    #[test]
    fn data_of_version_2_is_kept_under_the_new_names() {
        let data = "INSERT INTO log VALUES (1, 1, 'debug.log', 5, 7, 0, x'');
                    INSERT INTO stream VALUES (2, 1, 1, x'09', 'realm', 3, 40, 5, 10, 11, 12);
                    INSERT INTO batch VALUES (7, 2, 30, 40, 99, x'');
                    INSERT INTO gap VALUES (2, 10, 20, 99);
                    INSERT INTO unrecognised VALUES (2, 35, 5, 'a line')";
        let (_folder, mut connection) = brought_forward(2, data);
        let connection = connection.as_mut();
        assert_eq!(streams::streams(connection).unwrap()[0].lines, [10, 11, 12]);
        let last = received::last_batch(connection, 2).unwrap().unwrap();
        assert_eq!((last.start, last.end), (30, 40));
        assert_eq!(received::gaps(connection).unwrap()[0].start, 10);
        assert_eq!(received::unrecognised(connection, (0, 0), 9).unwrap()[0].previous.time, 5);
    }

    #[test]
    fn facts_of_version_3_are_made_again() {
        let data = "INSERT INTO log VALUES (1, 1, 'debug.log', 5, 7, 0, x'')";
        let (_folder, mut connection) = brought_forward(3, data);
        assert_eq!(received::logs(connection.as_mut()).unwrap()[0].rebuilds, 1);
    }

    #[test]
    fn streams_of_version_4_have_their_names_by_their_beginnings() {
        let data = "INSERT INTO stream VALUES (2, 1, 1, x'09', 'realm', 3, 40, 5, 10, 11, 12);
                    INSERT INTO gap VALUES (2, 10, 20, 99)";
        let (_folder, mut connection) = brought_forward(4, data);
        let gap = received::gaps(connection.as_mut()).unwrap()[0];
        assert_eq!((gap.after_at, gap.before_at), (0, 99), "when its lines were written is not known");
        let stream = &streams::streams(connection.as_mut()).unwrap()[0];
        assert_eq!((&stream.beginning, stream.check.len()), (&vec![9], 0));
        assert_eq!((stream.mark, stream.common_in_log, stream.common_elsewhere), (40, 0, 0));
        assert_eq!(streams::common_beginnings(connection.as_mut()).unwrap(), []);
    }

    #[test]
    fn streams_of_version_5_count_from_1970_utc() {
        let data = "INSERT INTO log VALUES (1, 1, 'debug.log', 5, 7, 0, x'');
                    INSERT INTO stream VALUES (2, 1, 1, x'09', 'realm', 3, 40, 5, 10, 11, 12, x'09', 1, x'', 0, 0)";
        let (_folder, mut connection) = brought_forward(5, data);
        let stream = &streams::streams(connection.as_mut()).unwrap()[0];
        let utc = Told { first_day: Some(0), offset: Some(0) };
        assert_eq!((stream.first_day, stream.told_day, stream.begins_at), (Some(0), Some(0), 3));
        assert_eq!((stream.begins, stream.last), (LineTime { time: 3, told: utc }, LineTime { time: 5, told: utc }));
        assert_eq!(received::logs(connection.as_mut()).unwrap()[0].rebuilds, 1);
    }

    #[test]
    fn version_6_loses_its_facts_and_keeps_what_was_received() {
        let data = "INSERT INTO log VALUES (1, 1, 'debug.log', 5, 7, 0, x'', 'Europe/Berlin', 20454, 'agent');
                    INSERT INTO batch VALUES (7, 2, 30, 40, 99, x'');
                    INSERT INTO identity VALUES (1, '', 'Ann', 'ann');
                    INSERT INTO usage VALUES (1, 24312, 1, 1, 1, 0, 0, 9, 1, 5, x'', x'', x'');
                    INSERT INTO setting VALUES ('time_zone', 'UTC')";
        let (_folder, mut connection) = brought_forward(6, data);
        let connection = connection.as_mut();
        let log = received::logs(connection).unwrap().remove(0);
        assert_eq!(
            (log.rebuilds, log.configured.time_zone.as_str(), log.configured.day),
            (1, "Europe/Berlin", Some(20454))
        );
        assert_eq!(received::last_batch_id(connection).unwrap(), 7);
        assert_eq!(settings::setting(connection, "time_zone").unwrap(), None);
    }

    #[test]
    fn agents_of_version_7_have_reported_for_one_license_server() {
        let data = "INSERT INTO agent VALUES ('agent', 1, 'host', '0.1.0', 'epoch', 5, 0, x'')";
        let (_folder, mut connection) = brought_forward(7, data);
        assert_eq!(agents::agents(connection.as_mut()).unwrap()[0].server_id, 1);
        assert_eq!(agents::previous_server(connection.as_mut(), "agent").unwrap(), None);
    }

    #[test]
    fn logs_of_version_8_tell_each_use() {
        let data = "INSERT INTO log (id, server_id, name, rebuilds) VALUES (1, 1, 'debug.log', 0)";
        let (_folder, mut connection) = brought_forward(8, data);
        assert_eq!(received::logs(connection.as_mut()).unwrap()[0].configured.poll_interval, 0);
    }

    #[test]
    fn nothing_is_known_of_what_came_in_a_day_of_version_9() {
        let data = "INSERT INTO license_server (id, name, name_key, realm) VALUES (1, 'LIC01', 'lic01', '')";
        let (_folder, mut connection) = brought_forward(9, data);
        assert_eq!(received::servers(connection.as_mut()).unwrap()[0].name, "LIC01");
        assert_eq!(intake::most_since(connection.as_mut(), 0).unwrap(), []);
    }

    #[test]
    fn every_version_is_tested_from_the_one_before() {
        assert_eq!(MIGRATIONS.len(), 10, "a new migration needs a test with data of the version before it");
    }
}
