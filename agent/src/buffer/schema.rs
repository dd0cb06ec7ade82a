//! The tables of the buffer.

use rusqlite::Connection;

/// Grows by one with each change of the tables. A buffer is upgraded when it is opened; there is no way back.
pub(super) const VERSION: i64 = 1;

pub(super) fn create(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(
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
    )?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}
