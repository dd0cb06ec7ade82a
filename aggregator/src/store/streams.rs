//! Streams with their marks and dates, and what those that begin alike have in common.

use jiff::tz::TimeZone;
use seatmeter_count::Day;
use seatmeter_count::timeline::{Timeline, Told};

use super::StoreError;
use super::engine::{Connection, Row, Value};
use super::sql::statements;

statements! {
    SELECT_STREAMS = "SELECT id, server_id, log_id, fingerprint, realm, begins_at, mark, last_line_at, events, ignored, unrecognised,
             beginning, check_value, common_in_log, common_elsewhere, first_day, first_line_time, told_day, told_position,
             after_stream, begins_time, begins_day, begins_offset, last_time, last_day, last_offset, given_day, found_after
         FROM stream
         ORDER BY log_id, begins_at, CASE WHEN fingerprint = beginning THEN 0 ELSE 1 END, fingerprint";
    SELECT_STREAMS_OF_LOG = "SELECT id, server_id, log_id, fingerprint, realm, begins_at, mark, last_line_at, events, ignored,
             unrecognised, beginning, check_value, common_in_log, common_elsewhere, first_day, first_line_time, told_day,
             told_position, after_stream, begins_time, begins_day, begins_offset, last_time, last_day, last_offset, given_day, found_after
         FROM stream WHERE log_id = $1
         ORDER BY begins_at, CASE WHEN fingerprint = beginning THEN 0 ELSE 1 END, fingerprint";
    SELECT_STREAM = "SELECT id, server_id, log_id, fingerprint, realm, begins_at, mark, last_line_at, events, ignored, unrecognised,
             beginning, check_value, common_in_log, common_elsewhere, first_day, first_line_time, told_day, told_position,
             after_stream, begins_time, begins_day, begins_offset, last_time, last_day, last_offset, given_day, found_after
         FROM stream WHERE id = $1";
    UPSERT_STREAM = "INSERT INTO stream (id, server_id, log_id, fingerprint, realm, begins_at, mark,
         last_line_at, events, ignored, unrecognised, beginning, check_value, common_in_log, common_elsewhere, first_day,
         first_line_time, told_day, told_position, after_stream, begins_time, begins_day, begins_offset, last_time, last_day,
         last_offset, given_day, found_after)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24,
         $25, $26, $27, $28)
         ON CONFLICT (id) DO UPDATE SET server_id = excluded.server_id, log_id = excluded.log_id,
         fingerprint = excluded.fingerprint, realm = excluded.realm, begins_at = excluded.begins_at, mark = excluded.mark, last_line_at = excluded.last_line_at,
         events = excluded.events, ignored = excluded.ignored, unrecognised = excluded.unrecognised,
         check_value = excluded.check_value, common_in_log = excluded.common_in_log,
         common_elsewhere = excluded.common_elsewhere, first_day = excluded.first_day, told_day = excluded.told_day,
         told_position = excluded.told_position, after_stream = excluded.after_stream, begins_time = excluded.begins_time,
         begins_day = excluded.begins_day, begins_offset = excluded.begins_offset, last_time = excluded.last_time,
         last_day = excluded.last_day, last_offset = excluded.last_offset, given_day = excluded.given_day";
    SELECT_COMMON_BEGINNINGS = "SELECT stream_id, other_id, through, parted FROM common_beginning ORDER BY stream_id, other_id";
    UPSERT_COMMON_BEGINNING = "INSERT INTO common_beginning (stream_id, other_id, through, parted) VALUES ($1, $2, $3, $4)
         ON CONFLICT (stream_id, other_id) DO UPDATE SET through = excluded.through, parted = excluded.parted";
    DELETE_COMMON_BEGINNINGS = "DELETE FROM common_beginning WHERE stream_id = $1 OR other_id = $1";
}

/// A stream of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// The mark: everything before this position is durable.
    pub mark: u64,
    /// The numbers of lines that became events, that were ignored, and that were not recognised.
    pub lines: [i64; 3],
    /// The name that the stream's beginning gives. Streams that begin alike have it in common.
    pub beginning: Vec<u8>,
    /// The check value of the mark; empty if it is not known.
    pub check: Vec<u8>,
    /// The bytes from the beginning that a stream before it, of the same log, has in common with it: they count there.
    pub common_in_log: u64,
    /// The bytes from the beginning that a stream before it, of another log, has in common with it: uses count there.
    pub common_elsewhere: u64,
    /// The stream time of the first line.
    pub first_line_time: i64,
    /// The stream that certainly comes before it in the log; empty if none does.
    pub after: Vec<u8>,
    /// The day of the first line, as the first date in the stream reckons it; `None` if no line tells a date.
    pub told_day: Option<Day>,
    /// The position of the line that tells it.
    pub told_position: u64,
    /// The day of the first line, as an operator says; `None` if none says it.
    pub given_day: Option<Day>,
    /// The last line of the log when the stream was first seen, in seconds since 1970 UTC; 0 if there was none.
    pub found_after: i64,
    /// The first line that counts in this stream.
    pub begins: LineTime,
    /// The last line received.
    pub last: LineTime,
    /// The day of the first line; `None` if nothing dates the stream. It then counts nowhere.
    pub first_day: Option<Day>,
    /// The moment of the first line that counts in this stream, in seconds since 1970 UTC; 0 if nothing dates it.
    pub begins_at: i64,
    /// The moment of the last line received, in seconds since 1970 UTC; 0 if nothing dates it.
    pub last_line_at: i64,
}

/// The time of a line, as its stream tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineTime {
    /// The stream time.
    pub time: i64,
    /// What the stream tells of the date up to the line.
    pub told: Told,
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

    /// Returns what dates the lines of the stream, in a time zone; `None` if nothing dates it.
    pub fn timeline(&self, zone: &TimeZone) -> Option<Timeline> {
        Some(Timeline::new(zone.clone(), self.first_day?, self.told_day))
    }

    /// Returns the moment of a line, in seconds since 1970 UTC; `None` if nothing dates the stream.
    pub fn moment(&self, zone: &TimeZone, line: &LineTime) -> Option<i64> {
        let mut timeline = self.timeline(zone)?;
        timeline.resume(line.told, None);
        Some(timeline.date(line.time))
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

/// Returns a stream; `None` if there is none with this id.
pub fn stream(connection: &mut dyn Connection, id: i64) -> Result<Option<Stream>, StoreError> {
    let mut found = None;
    connection.query(SELECT_STREAM, &[id.into()], &mut |row| {
        found = Some(stream_of(row)?);
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
        check: row.blob(12)?.into(),
        common_in_log: row.int(13)? as u64,
        common_elsewhere: row.int(14)? as u64,
        first_day: day(row.int_or_null(15)?),
        first_line_time: row.int(16)?,
        told_day: day(row.int_or_null(17)?),
        told_position: row.int(18)? as u64,
        after: row.blob(19)?.into(),
        begins: line_time(row, 20)?,
        last: line_time(row, 23)?,
        given_day: day(row.int_or_null(26)?),
        found_after: row.int(27)?,
    })
}

/// Returns a number of the database as a day.
pub(super) fn day(number: Option<i64>) -> Option<Day> {
    number.and_then(|number| Day::try_from(number).ok())
}

/// Returns the time of a line: its stream time, the first day, and the offset, from a column on.
pub(super) fn line_time(row: &dyn Row, column: usize) -> Result<LineTime, StoreError> {
    let told = Told { first_day: day(row.int_or_null(column + 1)?), offset: day(row.int_or_null(column + 2)?) };
    Ok(LineTime { time: row.int(column)?, told })
}

/// Adds a stream, or updates what changes of it.
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
        Value::Blob(&stream.check),
        stream.common_in_log.into(),
        stream.common_elsewhere.into(),
        stream.first_day.into(),
        stream.first_line_time.into(),
        stream.told_day.into(),
        stream.told_position.into(),
        Value::Blob(&stream.after),
        stream.begins.time.into(),
        stream.begins.told.first_day.into(),
        stream.begins.told.offset.into(),
        stream.last.time.into(),
        stream.last.told.first_day.into(),
        stream.last.told.offset.into(),
        stream.given_day.into(),
        stream.found_after.into(),
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

/// Forgets what a stream has in common with others.
pub fn forget_common_beginnings(connection: &mut dyn Connection, stream_id: i64) -> Result<(), StoreError> {
    connection.execute(DELETE_COMMON_BEGINNINGS, &[stream_id.into()]).map(drop)
}
