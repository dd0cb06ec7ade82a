//! The data received from agents: license servers, agents, logs, and every batch of their streams.

use seatmeter_proto::v1::{Batch, LineCounts};

use jiff::tz::TimeZone;
use prost::Message;
use seatmeter_count::Day;

use super::StoreError;
use super::engine::{Connection, Row, Value};

use super::sql::statements;
use super::streams::{self, LineTime};

statements! {
    SELECT_SERVERS = "SELECT id, name, name_key, realm, expected_from, retired_from FROM license_server ORDER BY name_key";
    UPSERT_SERVER = "INSERT INTO license_server (id, name, name_key, realm, expected_from, retired_from) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (id) DO UPDATE SET name = excluded.name, name_key = excluded.name_key, realm = excluded.realm,
         expected_from = excluded.expected_from, retired_from = excluded.retired_from";
    DELETE_SERVER = "DELETE FROM license_server WHERE id = $1";
    MOVE_LOG = "UPDATE log SET server_id = $1 WHERE id = $2";
    DELETE_LOG = "DELETE FROM log WHERE id = $1";
    SELECT_LOGS = "SELECT id, server_id, name, rebuilds, time_zone, configured_day, configured_by, poll_interval FROM log ORDER BY id";
    SELECT_LOG = "SELECT id, server_id, name, rebuilds, time_zone, configured_day, configured_by, poll_interval FROM log WHERE id = $1";
    INSERT_LOG = "INSERT INTO log (id, server_id, name, rebuilds) VALUES ($1, $2, $3, $4)";
    UPDATE_CONFIGURED = "UPDATE log SET time_zone = $1, configured_day = $2, configured_by = $3, poll_interval = $4 WHERE id = $5";
    REQUEST_REBUILD = "UPDATE log SET rebuilds = rebuilds + 1 WHERE id = $1";
    INSERT_BATCH = "INSERT INTO batch (id, stream_id, start_position, end_position, received_at, body) VALUES ($1, $2, $3, $4, $5, $6)";
    SELECT_LAST_BATCH = "SELECT start_position, end_position, body FROM batch WHERE stream_id = $1 ORDER BY start_position DESC, end_position DESC LIMIT 1";
    DELETE_BATCHES = "DELETE FROM batch WHERE stream_id = $1 AND start_position >= $2";
    DELETE_UNRECOGNISED = "DELETE FROM unrecognised WHERE stream_id = $1 AND position >= $2";
    UPSERT_GAP = "INSERT INTO gap (stream_id, start_position, end_position, noticed_at, after_at, before_at)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (stream_id, start_position) DO UPDATE SET end_position = excluded.end_position,
         before_at = excluded.before_at";
    SELECT_GAPS = "SELECT gap.stream_id, gap.start_position, gap.end_position, coalesce(gap_moment.after_at, gap.after_at),
             CASE WHEN gap_moment.log_id IS NULL THEN gap.before_at ELSE coalesce(gap_moment.before_at, gap.noticed_at) END
         FROM gap LEFT JOIN gap_moment
             ON gap_moment.stream_id = gap.stream_id AND gap_moment.end_position = gap.end_position
         ORDER BY gap.stream_id, gap.start_position";
    SELECT_LAST_BATCH_ID = "SELECT coalesce(max(id), 0) FROM batch";
    SELECT_BATCHES = "SELECT id, start_position, body, stream_id, received_at FROM batch WHERE stream_id = $1 AND id <= $2 ORDER BY start_position, id";
    SELECT_BATCHES_AFTER = "SELECT id, start_position, body, stream_id, received_at FROM batch WHERE id > $1 ORDER BY id LIMIT $2";
    SELECT_BATCHES_BY_LOG = "SELECT stream.log_id, count(*) FROM batch JOIN stream ON stream.id = batch.stream_id
         GROUP BY stream.log_id";
    SELECT_RECEIVED_AFTER = "SELECT stream_id, received_at FROM batch WHERE id > $1 ORDER BY id LIMIT $2";
    SELECT_BATCHES_BETWEEN = "SELECT id, start_position, body, stream_id, received_at FROM batch WHERE stream_id = $1
             AND start_position >= (SELECT coalesce(max(start_position), 0) FROM batch
                 WHERE stream_id = $1 AND start_position <= $2)
             AND start_position < $3
         ORDER BY start_position, id";
    INSERT_UNRECOGNISED = "INSERT INTO unrecognised (stream_id, position, previous_time, previous_day, previous_offset, line)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (stream_id, position) DO NOTHING";
    SELECT_UNRECOGNISED = "SELECT stream_id, position, previous_time, previous_day, previous_offset, line FROM unrecognised
         WHERE stream_id > $1 OR (stream_id = $1 AND position > $2)
         ORDER BY stream_id, position LIMIT $3";
}

/// A license server.
#[derive(Clone, Debug)]
pub struct LicenseServer {
    /// The id, assigned by the program.
    pub id: i64,
    /// The name, as first written.
    pub name: String,
    /// The case-folded name.
    pub key: String,
    /// The realm of the license server's bare user names.
    pub realm: String,
    /// The first day on which it must report, as an operator says; `None` if none says it.
    pub expected_from: Option<Day>,
    /// The first day on which it need not report any more, as an operator says; `None` if none says it.
    pub retired_from: Option<Day>,
}

/// A log of a license server.
#[derive(Clone, Debug)]
pub struct Log {
    /// The id, assigned by the program.
    pub id: i64,
    /// The id of the license server that writes the log.
    pub server_id: i64,
    /// The path of the log, or the name given in the agent's configuration.
    pub name: String,
    /// How often a rebuild of its facts was requested.
    pub rebuilds: i64,
    /// What an agent's configuration says of the log.
    pub configured: Configured,
}

/// What an agent's configuration says of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configured {
    /// The time zone of the license server's clock, an IANA name; empty if none was told.
    pub time_zone: String,
    /// The day of the first line of the first stream, if no line tells it; `None` if none was told.
    pub day: Option<Day>,
    /// The agent that told this; empty if none did.
    pub agent: String,
    /// How often the license manager is asked, in seconds; 0 for a log, which tells each use.
    pub poll_interval: u32,
}

impl Configured {
    /// Returns the time zone; `None` if its name is not known here. Agents that sent none dated lines themselves, in UTC.
    pub fn zone(&self) -> Option<TimeZone> {
        if self.time_zone.is_empty() { Some(TimeZone::UTC) } else { TimeZone::get(&self.time_zone).ok() }
    }

    /// Returns the longest time between two answers of a license manager, as it is asked now; `None` for a log.
    pub fn longest_pause(&self) -> Option<i64> {
        longest_pause(self.poll_interval)
    }
}

/// Returns the longest time between two answers of a license manager that is asked every so many seconds, in seconds, if it
/// answers; `None` for a log, which is 0. One answer in three is enough: a tool that is slow, or a restart of the agent, is no
/// loss.
pub fn longest_pause(poll_interval: u32) -> Option<i64> {
    (poll_interval > 0).then(|| 3 * i64::from(poll_interval) + 60)
}

/// A batch in the archive.
pub struct Archived {
    /// The id, which grows with each batch.
    pub id: i64,
    /// The id of the stream.
    pub stream_id: i64,
    /// Events before this position are in an earlier batch.
    pub start: u64,
    /// When it came, in seconds since 1970 UTC.
    pub received_at: i64,
    /// The batch as the agent sent it.
    pub batch: Batch,
}

/// Returns all license servers, ordered by case-folded name.
pub fn servers(connection: &mut dyn Connection) -> Result<Vec<LicenseServer>, StoreError> {
    let mut found = Vec::new();
    connection.query(SELECT_SERVERS, &[], &mut |row| {
        found.push(LicenseServer {
            id: row.int(0)?,
            name: row.text(1)?.into(),
            key: row.text(2)?.into(),
            realm: row.text(3)?.into(),
            expected_from: streams::day(row.int_or_null(4)?),
            retired_from: streams::day(row.int_or_null(5)?),
        });
        Ok(())
    })?;
    Ok(found)
}

/// Adds a license server, or updates what is known of it.
pub fn save_server(connection: &mut dyn Connection, server: &LicenseServer) -> Result<(), StoreError> {
    let values = [
        server.id.into(),
        (*server.name).into(),
        (*server.key).into(),
        (*server.realm).into(),
        server.expected_from.into(),
        server.retired_from.into(),
    ];
    connection.execute(UPSERT_SERVER, &values).map(drop)
}

/// Forgets a license server, which must have neither logs nor agents.
pub fn forget_server(connection: &mut dyn Connection, id: i64) -> Result<(), StoreError> {
    connection.execute(DELETE_SERVER, &[id.into()]).map(drop)
}

/// Gives a log to another license server, which must have none of its name.
pub fn move_log(connection: &mut dyn Connection, log_id: i64, server_id: i64) -> Result<(), StoreError> {
    connection.execute(MOVE_LOG, &[server_id.into(), log_id.into()]).map(drop)
}

/// Forgets a log, which must have no streams.
pub fn forget_log(connection: &mut dyn Connection, log_id: i64) -> Result<(), StoreError> {
    connection.execute(DELETE_LOG, &[log_id.into()]).map(drop)
}

/// Returns all logs, ordered by id.
pub fn logs(connection: &mut dyn Connection) -> Result<Vec<Log>, StoreError> {
    let mut found = Vec::new();
    connection.query(SELECT_LOGS, &[], &mut |row| {
        found.push(log_of(row)?);
        Ok(())
    })?;
    Ok(found)
}

/// Returns a log; `None` if there is none with this id.
pub fn log(connection: &mut dyn Connection, id: i64) -> Result<Option<Log>, StoreError> {
    let mut found = None;
    connection.query(SELECT_LOG, &[id.into()], &mut |row| {
        found = Some(log_of(row)?);
        Ok(())
    })?;
    Ok(found)
}

fn log_of(row: &dyn Row) -> Result<Log, StoreError> {
    Ok(Log {
        id: row.int(0)?,
        server_id: row.int(1)?,
        name: row.text(2)?.into(),
        rebuilds: row.int(3)?,
        configured: Configured {
            time_zone: row.text(4)?.into(),
            day: streams::day(row.int_or_null(5)?),
            agent: row.text(6)?.into(),
            poll_interval: row.int(7)?.clamp(0, u32::MAX.into()) as u32,
        },
    })
}

/// Adds a log.
pub fn add_log(connection: &mut dyn Connection, log: &Log) -> Result<(), StoreError> {
    let values = [log.id.into(), log.server_id.into(), (*log.name).into(), log.rebuilds.into()];
    connection.execute(INSERT_LOG, &values).map(drop)
}

/// Saves what an agent's configuration says of a log.
pub fn save_configured(
    connection: &mut dyn Connection,
    log_id: i64,
    configured: &Configured,
) -> Result<(), StoreError> {
    let values = [
        (*configured.time_zone).into(),
        configured.day.into(),
        (*configured.agent).into(),
        configured.poll_interval.into(),
        log_id.into(),
    ];
    connection.execute(UPDATE_CONFIGURED, &values).map(drop)
}

/// Requests that the facts of a log be rebuilt.
pub fn request_rebuild(connection: &mut dyn Connection, log_id: i64) -> Result<(), StoreError> {
    connection.execute(REQUEST_REBUILD, &[log_id.into()]).map(drop)
}

/// Archives a batch. The events before `start` are in an earlier batch.
pub fn archive(
    connection: &mut dyn Connection,
    id: i64,
    stream_id: i64,
    start: u64,
    now: i64,
    batch: &Batch,
) -> Result<(), StoreError> {
    let body = batch.encode_to_vec();
    let values = [id.into(), stream_id.into(), start.into(), batch.end_position.into(), now.into(), Value::Blob(&body)];
    connection.execute(INSERT_BATCH, &values).map(drop)
}

/// The last batch of a stream.
pub struct LastBatch {
    /// The position at which the batch starts.
    pub start: u64,
    /// The position at which the batch ends.
    pub end: u64,
    /// The lines that the batch was made of; zeros if it is damaged.
    pub lines: LineCounts,
    /// The check value of the start; empty if it is not known.
    pub start_check: Vec<u8>,
}

/// Returns a stream's last batch; `None` if there is none.
pub fn last_batch(connection: &mut dyn Connection, stream_id: i64) -> Result<Option<LastBatch>, StoreError> {
    let mut found = None;
    connection.query(SELECT_LAST_BATCH, &[stream_id.into()], &mut |row| {
        let Batch { lines, start_check, .. } = Batch::decode(row.blob(2)?).unwrap_or_default();
        let (start, end) = (row.int(0)? as u64, row.int(1)? as u64);
        found = Some(LastBatch { start, end, lines: lines.unwrap_or_default(), start_check });
        Ok(())
    })?;
    Ok(found)
}

/// Deletes the batches of a stream and its samples of unrecognised lines, from a position on.
pub fn drop_batches_from(connection: &mut dyn Connection, stream_id: i64, start: u64) -> Result<(), StoreError> {
    let values = [stream_id.into(), start.into()];
    connection.execute(DELETE_BATCHES, &values)?;
    connection.execute(DELETE_UNRECOGNISED, &values).map(drop)
}

/// A part of a stream that is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The id of the stream.
    pub stream_id: i64,
    /// The first byte lost.
    pub start: u64,
    /// The byte after the last one lost.
    pub end: u64,
    /// The moment of the last line before the gap, in seconds since 1970 UTC; 0 if it is not known.
    pub after_at: i64,
    /// A moment before which all lost lines were written, in seconds since 1970 UTC.
    pub before_at: i64,
}

/// Records that a part of a stream is lost.
pub fn add_gap(connection: &mut dyn Connection, gap: &Gap, now: i64) -> Result<(), StoreError> {
    let Gap { stream_id, start, end, after_at, before_at } = *gap;
    let values = [stream_id.into(), start.into(), end.into(), now.into(), after_at.into(), before_at.into()];
    connection.execute(UPSERT_GAP, &values).map(drop)
}

/// Returns all gaps, ordered by stream and position.
pub fn gaps(connection: &mut dyn Connection) -> Result<Vec<Gap>, StoreError> {
    let mut found = Vec::new();
    connection.query(SELECT_GAPS, &[], &mut |row| {
        found.push(Gap {
            stream_id: row.int(0)?,
            start: row.int(1)? as u64,
            end: row.int(2)? as u64,
            after_at: row.int(3)?,
            before_at: row.int(4)?,
        });
        Ok(())
    })?;
    Ok(found)
}

/// Returns the highest batch id; 0 if there is none.
pub fn last_batch_id(connection: &mut dyn Connection) -> Result<i64, StoreError> {
    let mut id = 0;
    connection.query(SELECT_LAST_BATCH_ID, &[], &mut |row| {
        id = row.int(0)?;
        Ok(())
    })?;
    Ok(id)
}

/// Calls `each` with the batches of a stream up to a batch id, in the order of their positions.
pub fn each_batch(
    connection: &mut dyn Connection,
    stream_id: i64,
    through: i64,
    each: &mut dyn FnMut(Archived) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    connection.query(SELECT_BATCHES, &[stream_id.into(), through.into()], &mut |row| each(archived(row)?))
}

/// Calls `each` with at most `limit` batches after a batch id, in the order in which they were received.
pub fn each_batch_after(
    connection: &mut dyn Connection,
    after: i64,
    limit: u32,
    each: &mut dyn FnMut(Archived) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    connection.query(SELECT_BATCHES_AFTER, &[after.into(), limit.into()], &mut |row| each(archived(row)?))
}

/// Returns the number of batches of each log, with the log's id.
pub fn batches_by_log(connection: &mut dyn Connection) -> Result<Vec<(i64, u64)>, StoreError> {
    pairs(connection, SELECT_BATCHES_BY_LOG, &[]).map(|found| found.map(|(log, count)| (log, count as u64)).collect())
}

/// Returns when batches after a batch id were received, at most `limit` of them, in the order of their ids: the ids of their
/// streams, and the moments.
pub fn received_after(connection: &mut dyn Connection, after: i64, limit: u32) -> Result<Vec<(i64, i64)>, StoreError> {
    pairs(connection, SELECT_RECEIVED_AFTER, &[after.into(), limit.into()]).map(Iterator::collect)
}

fn pairs(
    connection: &mut dyn Connection,
    sql: &str,
    values: &[Value<'_>],
) -> Result<impl Iterator<Item = (i64, i64)>, StoreError> {
    let mut found = Vec::new();
    connection.query(sql, values, &mut |row| {
        found.push((row.int(0)?, row.int(1)?));
        Ok(())
    })?;
    Ok(found.into_iter())
}

/// Calls `each` with the batches of a stream that cover a range of positions, in the order of their positions.
pub fn each_batch_between(
    connection: &mut dyn Connection,
    stream_id: i64,
    (from, to): (u64, u64),
    each: &mut dyn FnMut(Archived) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let values = [stream_id.into(), from.into(), to.into()];
    connection.query(SELECT_BATCHES_BETWEEN, &values, &mut |row| each(archived(row)?))
}

fn archived(row: &dyn Row) -> Result<Archived, StoreError> {
    let batch = Batch::decode(row.blob(2)?).map_err(|error| {
        StoreError::new(
            super::Failure::Permanent,
            format!("a batch in the archive is damaged: {error}; restore a backup"),
        )
    })?;
    Ok(Archived { id: row.int(0)?, stream_id: row.int(3)?, start: row.int(1)? as u64, received_at: row.int(4)?, batch })
}

/// A sample of a line that no rule understands.
pub struct Unrecognised {
    /// The id of the stream.
    pub stream_id: i64,
    /// The position of the line in the stream, a byte offset.
    pub position: u64,
    /// The last line with a time before this one.
    pub previous: LineTime,
    /// The line.
    pub line: String,
}

/// Saves a sample, unless one of the same position is already saved.
pub fn add_unrecognised(connection: &mut dyn Connection, sample: &Unrecognised) -> Result<(), StoreError> {
    let LineTime { time, told } = sample.previous;
    let values = [
        sample.stream_id.into(),
        sample.position.into(),
        time.into(),
        told.first_day.into(),
        told.offset.into(),
        (*sample.line).into(),
    ];
    connection.execute(INSERT_UNRECOGNISED, &values).map(drop)
}

/// Returns at most `limit` samples after the place (stream, position), ordered by stream and position.
pub fn unrecognised(
    connection: &mut dyn Connection,
    after: (i64, i64),
    limit: i64,
) -> Result<Vec<Unrecognised>, StoreError> {
    let mut found = Vec::new();
    connection.query(SELECT_UNRECOGNISED, &[after.0.into(), after.1.into(), limit.into()], &mut |row| {
        found.push(Unrecognised {
            stream_id: row.int(0)?,
            position: row.int(1)? as u64,
            previous: streams::line_time(row, 2)?,
            line: row.text(5)?.into(),
        });
        Ok(())
    })?;
    Ok(found)
}
