//! Streams with their marks, and what those that begin alike have in common.

use super::StoreError;
use super::engine::{Connection, Row, Value};
use super::sql::statements;

statements! {
    SELECT_STREAMS = "SELECT id, server_id, log_id, fingerprint, realm, begins_at, mark, last_line_at, events, ignored, unrecognised,
             beginning, tells_date, check_value, common_in_log, common_elsewhere
         FROM stream
         ORDER BY log_id, begins_at, CASE WHEN fingerprint = beginning THEN 0 ELSE 1 END, fingerprint";
    SELECT_STREAMS_OF_LOG = "SELECT id, server_id, log_id, fingerprint, realm, begins_at, mark, last_line_at, events, ignored,
             unrecognised, beginning, tells_date, check_value, common_in_log, common_elsewhere
         FROM stream WHERE log_id = $1
         ORDER BY begins_at, CASE WHEN fingerprint = beginning THEN 0 ELSE 1 END, fingerprint";
    UPSERT_STREAM = "INSERT INTO stream (id, server_id, log_id, fingerprint, realm, begins_at, mark,
         last_line_at, events, ignored, unrecognised, beginning, tells_date, check_value, common_in_log, common_elsewhere)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
         ON CONFLICT (id) DO UPDATE SET begins_at = excluded.begins_at, mark = excluded.mark, last_line_at = excluded.last_line_at,
         events = excluded.events, ignored = excluded.ignored, unrecognised = excluded.unrecognised,
         check_value = excluded.check_value, common_in_log = excluded.common_in_log,
         common_elsewhere = excluded.common_elsewhere";
    SELECT_COMMON_BEGINNINGS = "SELECT stream_id, other_id, through, parted FROM common_beginning ORDER BY stream_id, other_id";
    UPSERT_COMMON_BEGINNING = "INSERT INTO common_beginning (stream_id, other_id, through, parted) VALUES ($1, $2, $3, $4)
         ON CONFLICT (stream_id, other_id) DO UPDATE SET through = excluded.through, parted = excluded.parted";
}

/// A stream of a log.
#[derive(Clone, Debug)]
pub struct Stream {
    /// The id, assigned by the program.
    pub id: i64,
    /// The id of the license server.
    pub server_id: i64,
    /// The id of the log.
    pub log_id: i64,
    /// The stream's name.
    pub fingerprint: Vec<u8>,
    /// The realm of the user names in the stream.
    pub realm: String,
    /// The moment of the first dated line that counts in this stream, in seconds since 1970 UTC.
    pub begins_at: i64,
    /// The mark: everything before this position is durable.
    pub mark: u64,
    /// The moment of the last dated line received, in seconds since 1970 UTC; 0 if there is none.
    pub last_line_at: i64,
    /// The numbers of lines that became events, that were ignored, and that were not recognised.
    pub lines: [i64; 3],
    /// The name that the stream's beginning gives. Streams that begin alike have it in common.
    pub beginning: Vec<u8>,
    /// Whether the beginning tells its date.
    pub tells_date: bool,
    /// The check value of the mark; empty if it is not known.
    pub check: Vec<u8>,
    /// The bytes from the beginning that a stream before it, of the same log, has in common with it: they count there.
    pub common_in_log: u64,
    /// The bytes from the beginning that a stream before it, of another log, has in common with it: uses count there.
    pub common_elsewhere: u64,
}

impl Stream {
    /// Returns the place of the stream among those of its log. Of streams that begin alike, the first is the one that has
    /// the name which the beginning gives.
    pub fn order(&self) -> (i64, bool, Vec<u8>) {
        (self.begins_at, self.is_variant(), self.fingerprint.clone())
    }

    /// Whether the stream has another name than its beginning gives.
    pub fn is_variant(&self) -> bool {
        self.fingerprint != self.beginning
    }

    /// Whether what this stream has in common with another one that begins alike counts here. This never changes.
    pub fn precedes(&self, other: &Self) -> bool {
        (self.is_variant(), &self.fingerprint) < (other.is_variant(), &other.fingerprint)
    }
}

/// What two streams that begin alike have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommonBeginning {
    /// The id of the stream.
    pub stream_id: i64,
    /// The id of the other stream, which comes before it.
    pub other_id: i64,
    /// The bytes from the beginning that both have in common.
    pub through: u64,
    /// Whether they differ after these bytes.
    pub parted: bool,
}

/// Returns all streams, ordered by log, then by beginning.
pub fn streams(connection: &mut dyn Connection) -> Result<Vec<Stream>, StoreError> {
    let mut found = Vec::new();
    connection.query(SELECT_STREAMS, &[], &mut |row| {
        found.push(stream_of(row)?);
        Ok(())
    })?;
    Ok(found)
}

/// Returns the streams of a log, ordered by beginning.
pub fn streams_of_log(connection: &mut dyn Connection, log_id: i64) -> Result<Vec<Stream>, StoreError> {
    let mut found = Vec::new();
    connection.query(SELECT_STREAMS_OF_LOG, &[log_id.into()], &mut |row| {
        found.push(stream_of(row)?);
        Ok(())
    })?;
    Ok(found)
}

fn stream_of(row: &dyn Row) -> Result<Stream, StoreError> {
    Ok(Stream {
        id: row.int(0)?,
        server_id: row.int(1)?,
        log_id: row.int(2)?,
        fingerprint: row.blob(3)?.into(),
        realm: row.text(4)?.into(),
        begins_at: row.int(5)?,
        mark: row.int(6)? as u64,
        last_line_at: row.int(7)?,
        lines: [row.int(8)?, row.int(9)?, row.int(10)?],
        beginning: row.blob(11)?.into(),
        tells_date: row.int(12)? != 0,
        check: row.blob(13)?.into(),
        common_in_log: row.int(14)? as u64,
        common_elsewhere: row.int(15)? as u64,
    })
}

/// Adds a stream, or updates its mark and its counts of lines.
pub fn save_stream(connection: &mut dyn Connection, stream: &Stream) -> Result<(), StoreError> {
    let values = [
        stream.id.into(),
        stream.server_id.into(),
        stream.log_id.into(),
        Value::Blob(&stream.fingerprint),
        (*stream.realm).into(),
        stream.begins_at.into(),
        stream.mark.into(),
        stream.last_line_at.into(),
        stream.lines[0].into(),
        stream.lines[1].into(),
        stream.lines[2].into(),
        Value::Blob(&stream.beginning),
        i64::from(stream.tells_date).into(),
        Value::Blob(&stream.check),
        stream.common_in_log.into(),
        stream.common_elsewhere.into(),
    ];
    connection.execute(UPSERT_STREAM, &values).map(drop)
}

/// Returns what streams that begin alike have in common, ordered by their ids.
pub fn common_beginnings(connection: &mut dyn Connection) -> Result<Vec<CommonBeginning>, StoreError> {
    let mut found = Vec::new();
    connection.query(SELECT_COMMON_BEGINNINGS, &[], &mut |row| {
        found.push(CommonBeginning {
            stream_id: row.int(0)?,
            other_id: row.int(1)?,
            through: row.int(2)? as u64,
            parted: row.int(3)? != 0,
        });
        Ok(())
    })?;
    Ok(found)
}

/// Saves what two streams have in common.
pub fn save_common_beginning(connection: &mut dyn Connection, common: &CommonBeginning) -> Result<(), StoreError> {
    let values =
        [common.stream_id.into(), common.other_id.into(), common.through.into(), i64::from(common.parted).into()];
    connection.execute(UPSERT_COMMON_BEGINNING, &values).map(drop)
}
