//! The tables of the buffer, and their migrations.

use rusqlite::{Connection, TransactionBehavior};

/// The changes from each version of the schema to the next. New versions are only appended. Opening a buffer migrates
/// it to the newest version; it cannot be migrated back.
const MIGRATIONS: [&str; 7] = [
    "CREATE TABLE batch (
         sequence    INTEGER PRIMARY KEY AUTOINCREMENT,
         fingerprint BLOB NOT NULL,
         body        BLOB NOT NULL,               -- a seatmeter.v1.Batch, its sequence left out
         created_at  INTEGER NOT NULL,            -- seconds since 1970
         refused     INTEGER NOT NULL DEFAULT 0   -- the aggregator will never take it; kept to be looked at
     );
     CREATE TABLE stream (
         fingerprint BLOB PRIMARY KEY,
         log         TEXT NOT NULL,
         begins_at   INTEGER NOT NULL,
         position    INTEGER NOT NULL,
         state       TEXT NOT NULL,
         head        BLOB NOT NULL,
         first_day   INTEGER NOT NULL             -- days since 1970 on the server's clock
     ) WITHOUT ROWID;
     CREATE INDEX stream_head ON stream (head);
     CREATE TABLE log (
         name        TEXT PRIMARY KEY,
         last        BLOB NOT NULL,               -- the stream that begins last
         begins_at   INTEGER NOT NULL
     ) WITHOUT ROWID;
     CREATE TABLE file (
         device      INTEGER NOT NULL,
         inode       INTEGER NOT NULL,
         size        INTEGER NOT NULL,
         modified    INTEGER NOT NULL,
         fingerprint BLOB NOT NULL,
         PRIMARY KEY (device, inode)
     ) WITHOUT ROWID;
     CREATE TABLE epoch (id TEXT NOT NULL);
     INSERT INTO epoch SELECT lower(hex(randomblob(16)));",
    // Adds the kind of source to the state of a stream.
    "UPDATE stream SET state = json_object('file', json_object(
         'window', json_extract(state, '$.window'),
         'parser_state', json_extract(state, '$.bookmark'),
         'tail', json_extract(state, '$.tail'),
         'first_day', json_extract(state, '$.first_day'),
         'head', json_extract(state, '$.head')))
     WHERE json_valid(state);",
    // Adds the aggregator's database that has all that was acknowledged.
    "CREATE TABLE delivered_to (incarnation TEXT NOT NULL);",
    // Streams are known by all of their content: each is read again once, which changes no number.
    "UPDATE stream SET position = 0, state = json_set(state, '$.file.tail', NULL) WHERE json_valid(state);
     DELETE FROM file;",
    // The agent sends what stands in a log and dates nothing. Streams that an older version dated are read again once,
    // and keep their names and the days from which their times count.
    "ALTER TABLE stream RENAME COLUMN begins_at TO number;   -- in the order of their first capture
     ALTER TABLE stream DROP COLUMN first_day;
     ALTER TABLE log DROP COLUMN begins_at;
     UPDATE stream SET position = 0, state = json_set(state, '$.file.tail', NULL,
         '$.file.first_line_time', number,
         '$.file.parser_state', json('{\"clock\":{\"day\":0,\"time\":null},\"daemons\":[]}'))
     WHERE json_valid(state);
     DELETE FROM file;",
    // Batches stay for a time after they are acknowledged, and show by a checksum whether they are damaged.
    "CREATE TABLE waiting (sequence INTEGER PRIMARY KEY);     -- the batches that wait for delivery
     INSERT INTO waiting SELECT sequence FROM batch WHERE NOT refused;
     CREATE INDEX batch_stream ON batch (fingerprint, sequence);
     CREATE INDEX batch_age ON batch (created_at) WHERE refused = 0;
     ALTER TABLE batch ADD COLUMN checksum BLOB;              -- NULL in batches of older versions",
    // Adds what the aggregator gave at the last connection: a copy of this buffer shows by it.
    "CREATE TABLE generation (given BLOB NOT NULL);",
];

/// The newest version of the schema that this program knows.
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;

/// Migrates the tables to the newest version, with one transaction for each version.
pub(super) fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    advance(connection, &MIGRATIONS)
}

fn advance(connection: &mut Connection, migrations: &[&str]) -> rusqlite::Result<()> {
    loop {
        // The version is read under the lock that its change needs: nobody else can have migrated in between.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let found = version(&transaction)?;
        let Some(migration) = usize::try_from(found).ok().and_then(|found| migrations.get(found)) else {
            return Ok(());
        };
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", found + 1)?;
        transaction.commit()?;
    }
}

/// Returns the version of the tables; 0 if there are none.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use rusqlite::params;

    use super::*;
    use crate::checkpoint::SourceCheckpoint;
    use crate::format::interpreter::ParserState;

    /// The state of a stream as the first version stored it.
    const STATE: &str = r#"{"window":[104,105],"bookmark":{"timeline":{"day":20000,"time":5,"utc":1728000005},
        "last_line":{"local":1728000005,"utc":1728000005},"daemons":[[[100],{"local":1,"utc":1}]]},
        "tail":[7,{"timeline":{"day":20000,"time":4,"utc":4},"last_line":{"local":4,"utc":4},"daemons":[]}],
        "begins_at":1728000000,"first_day":20000,"head":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}"#;

    #[test]
    fn two_that_migrate_at_once_migrate_once() {
        let folder = tempfile::tempdir().unwrap();
        for round in 0..20 {
            let path = folder.path().join(format!("{round}.db"));
            // One after the other: to open is for whoever holds the folder's lock, and SQLite waits for nobody while it makes the
            // first write-ahead log.
            let connections = [(); 3].map(|()| super::super::open::connect(&path).unwrap());
            std::thread::scope(|scope| {
                for mut connection in connections {
                    scope.spawn(move || migrate(&mut connection).unwrap());
                }
            });
            assert_eq!(version(&Connection::open(&path).unwrap()).unwrap(), VERSION);
        }
    }

    #[test]
    fn a_buffer_of_the_first_version_is_brought_forward_with_its_data() {
        let mut connection = Connection::open_in_memory().unwrap();
        advance(&mut connection, &MIGRATIONS[..1]).unwrap();
        connection
            .execute(
                "INSERT INTO stream (fingerprint, log, begins_at, position, state, head, first_day)
                 VALUES (?1, 'debug.log', 1728000000, 9, ?2, ?1, 20000)",
                params![[1u8; 32], STATE],
            )
            .unwrap();
        connection
            .execute("INSERT INTO batch (fingerprint, body, created_at) VALUES (?1, x'00', 5)", [[1u8; 32]])
            .unwrap();
        migrate(&mut connection).unwrap();
        let state: String = connection.query_row("SELECT state FROM stream", [], |row| row.get(0)).unwrap();
        let SourceCheckpoint::File(file) = serde_json::from_str(&state).unwrap() else { panic!("no file: {state}") };
        assert_eq!((file.proof, file.first_day, version(&connection).unwrap()), (None, Some(20_000), VERSION));
        assert_eq!((file.tail, file.first_line_time), (None, 1_728_000_000));
        assert_eq!(file.parser_state, ParserState::default());
        let position: i64 = connection.query_row("SELECT position FROM stream", [], |row| row.get(0)).unwrap();
        assert_eq!(position, 0, "its content is to be known from the beginning");
        let batches: i64 = connection.query_row("SELECT count(*) FROM batch", [], |row| row.get(0)).unwrap();
        assert_eq!(batches, 1, "what waits for delivery is kept");
        let waiting: i64 = connection.query_row("SELECT count(*) FROM waiting", [], |row| row.get(0)).unwrap();
        assert_eq!(waiting, 1, "and waits");
    }
}
