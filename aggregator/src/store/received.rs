//! What came from agents: who they are, which streams they read, how far, and every batch.

use seatmeter_proto::v1::{Batch, Heartbeat, Hello};

use prost::Message;

use super::StoreError;
use super::engine::{Connection, Value};

/// A license server.
#[derive(Clone, Debug)]
pub struct LicenseServer {
    /// Made by the program.
    pub id: i64,
    /// As first written.
    pub name: String,
    /// The name with case folded.
    pub key: String,
    /// The realm of its bare user names.
    pub realm: String,
}

/// A log of a license server.
#[derive(Clone, Debug)]
pub struct Log {
    /// Made by the program.
    pub id: i64,
    /// Whose.
    pub server_id: i64,
    /// Its path, or the name the agent gives it.
    pub name: String,
    /// The last dated line that facts contain.
    pub last_line_at: i64,
    /// The last batch that facts contain.
    pub folded_through: i64,
    /// Whether its facts must be made again.
    pub needs_refold: bool,
    /// Open sessions and such, encoded.
    pub state: Vec<u8>,
}

/// A stream of a log.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Made by the program.
    pub id: i64,
    /// Of which license server.
    pub server_id: i64,
    /// Of which log.
    pub log_id: i64,
    /// Its name.
    pub fingerprint: Vec<u8>,
    /// The realm of its user names.
    pub realm: String,
    /// The moment of its first dated line.
    pub begins_at: i64,
    /// Everything before this position is durable.
    pub mark: u64,
    /// The last dated line received.
    pub last_line_at: i64,
    /// Lines that became events, lines of noise, lines not understood.
    pub lines: [i64; 3],
}

/// A batch in the archive.
pub struct Archived {
    /// Grows with each batch.
    pub id: i64,
    /// Of which stream.
    pub stream_id: i64,
    /// Events before this position are in an earlier batch.
    pub start: u64,
    /// The batch as it came.
    pub batch: Batch,
}

/// All license servers.
pub fn servers(connection: &mut dyn Connection) -> Result<Vec<LicenseServer>, StoreError> {
    let mut found = Vec::new();
    let sql = "SELECT id, name, name_key, realm FROM license_server ORDER BY name_key";
    connection.query(sql, &[], &mut |row| {
        found.push(LicenseServer {
            id: row.int(0)?,
            name: row.text(1)?.into(),
            key: row.text(2)?.into(),
            realm: row.text(3)?.into(),
        });
        Ok(())
    })?;
    Ok(found)
}

/// Adds a license server, or notes its realm.
pub fn save_server(connection: &mut dyn Connection, server: &LicenseServer) -> Result<(), StoreError> {
    let sql = "INSERT INTO license_server (id, name, name_key, realm) VALUES ($1, $2, $3, $4)
               ON CONFLICT (id) DO UPDATE SET realm = excluded.realm";
    let values = [server.id.into(), (*server.name).into(), (*server.key).into(), (*server.realm).into()];
    connection.execute(sql, &values).map(drop)
}

/// Notes that an agent has spoken.
pub fn save_agent(
    connection: &mut dyn Connection,
    server_id: i64,
    hello: &Hello,
    heartbeat: &Heartbeat,
    now: i64,
    clock_ahead: i64,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO agent (id, server_id, host, version, epoch, last_report, clock_ahead, heartbeat)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
               ON CONFLICT (id) DO UPDATE SET server_id = excluded.server_id, host = excluded.host,
                   version = excluded.version, epoch = excluded.epoch, last_report = excluded.last_report,
                   clock_ahead = excluded.clock_ahead, heartbeat = excluded.heartbeat";
    let heartbeat = heartbeat.encode_to_vec();
    let values = [
        (*hello.agent_id).into(),
        server_id.into(),
        (*hello.host).into(),
        (*hello.agent_version).into(),
        (*hello.epoch).into(),
        now.into(),
        clock_ahead.into(),
        (*heartbeat).into(),
    ];
    connection.execute(sql, &values).map(drop)
}

/// An agent, as it last spoke.
pub struct Agent {
    /// A GUID.
    pub id: String,
    /// For which license server.
    pub server_id: i64,
    /// On which machine.
    pub host: String,
    /// Its version.
    pub version: String,
    /// When.
    pub last_report: i64,
    /// By how many seconds its clock is ahead.
    pub clock_ahead: i64,
    /// How it was.
    pub heartbeat: Heartbeat,
}

/// All agents.
pub fn agents(connection: &mut dyn Connection) -> Result<Vec<Agent>, StoreError> {
    let mut found = Vec::new();
    let sql = "SELECT id, server_id, host, version, last_report, clock_ahead, heartbeat FROM agent ORDER BY id";
    connection.query(sql, &[], &mut |row| {
        found.push(Agent {
            id: row.text(0)?.into(),
            server_id: row.int(1)?,
            host: row.text(2)?.into(),
            version: row.text(3)?.into(),
            last_report: row.int(4)?,
            clock_ahead: row.int(5)?,
            // Written by this program; a damaged one says nothing rather than stopping the rest.
            heartbeat: Heartbeat::decode(row.blob(6)?).unwrap_or_default(),
        });
        Ok(())
    })?;
    Ok(found)
}

/// All logs.
pub fn logs(connection: &mut dyn Connection) -> Result<Vec<Log>, StoreError> {
    let mut found = Vec::new();
    let sql = "SELECT id, server_id, name, last_line_at, folded_through, needs_refold, state FROM log ORDER BY id";
    connection.query(sql, &[], &mut |row| {
        found.push(Log {
            id: row.int(0)?,
            server_id: row.int(1)?,
            name: row.text(2)?.into(),
            last_line_at: row.int(3)?,
            folded_through: row.int(4)?,
            needs_refold: row.int(5)? != 0,
            state: row.blob(6)?.into(),
        });
        Ok(())
    })?;
    Ok(found)
}

/// Adds a log.
pub fn add_log(connection: &mut dyn Connection, log: &Log) -> Result<(), StoreError> {
    let sql = "INSERT INTO log (id, server_id, name, last_line_at, folded_through, needs_refold, state)
               VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let values = [
        log.id.into(),
        log.server_id.into(),
        (*log.name).into(),
        log.last_line_at.into(),
        log.folded_through.into(),
        i64::from(log.needs_refold).into(),
        (*log.state).into(),
    ];
    connection.execute(sql, &values).map(drop)
}

/// Notes that the facts of a log must be made again.
pub fn demand_refold(connection: &mut dyn Connection, log_id: i64) -> Result<(), StoreError> {
    connection.execute("UPDATE log SET needs_refold = 1 WHERE id = $1", &[log_id.into()]).map(drop)
}

/// Notes up to where the facts of a log go.
pub fn save_fold(connection: &mut dyn Connection, log: &Log) -> Result<(), StoreError> {
    let sql = "UPDATE log SET last_line_at = $1, folded_through = $2, needs_refold = $3, state = $4 WHERE id = $5";
    let values = [
        log.last_line_at.into(),
        log.folded_through.into(),
        i64::from(log.needs_refold).into(),
        Value::Blob(&log.state),
        log.id.into(),
    ];
    connection.execute(sql, &values).map(drop)
}

/// All streams.
pub fn streams(connection: &mut dyn Connection) -> Result<Vec<Stream>, StoreError> {
    let mut found = Vec::new();
    let sql =
        "SELECT id, server_id, log_id, fingerprint, realm, begins_at, mark, last_line_at, events, noise, unrecognised
               FROM stream ORDER BY log_id, begins_at, fingerprint";
    connection.query(sql, &[], &mut |row| {
        found.push(Stream {
            id: row.int(0)?,
            server_id: row.int(1)?,
            log_id: row.int(2)?,
            fingerprint: row.blob(3)?.into(),
            realm: row.text(4)?.into(),
            begins_at: row.int(5)?,
            mark: row.int(6)? as u64,
            last_line_at: row.int(7)?,
            lines: [row.int(8)?, row.int(9)?, row.int(10)?],
        });
        Ok(())
    })?;
    Ok(found)
}

/// Adds a stream, or moves its mark.
pub fn save_stream(connection: &mut dyn Connection, stream: &Stream) -> Result<(), StoreError> {
    let sql = "INSERT INTO stream (id, server_id, log_id, fingerprint, realm, begins_at, mark,
                                   last_line_at, events, noise, unrecognised)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
               ON CONFLICT (id) DO UPDATE SET mark = excluded.mark, last_line_at = excluded.last_line_at,
                   events = excluded.events, noise = excluded.noise, unrecognised = excluded.unrecognised";
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
    ];
    connection.execute(sql, &values).map(drop)
}

/// Keeps a batch. Its events before `start` are in an earlier one.
pub fn archive(
    connection: &mut dyn Connection,
    id: i64,
    stream_id: i64,
    start: u64,
    now: i64,
    batch: &Batch,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO batch (id, stream_id, start_at, end_at, received_at, body) VALUES ($1, $2, $3, $4, $5, $6)";
    let body = batch.encode_to_vec();
    let values = [id.into(), stream_id.into(), start.into(), batch.end.into(), now.into(), Value::Blob(&body)];
    connection.execute(sql, &values).map(drop)
}

/// Where the last batch of a stream starts, and where it ends.
pub fn last_batch(connection: &mut dyn Connection, stream_id: i64) -> Result<Option<(u64, u64)>, StoreError> {
    let mut found = None;
    let sql = "SELECT start_at, end_at FROM batch WHERE stream_id = $1 ORDER BY start_at DESC, end_at DESC LIMIT 1";
    connection.query(sql, &[stream_id.into()], &mut |row| {
        found = Some((row.int(0)? as u64, row.int(1)? as u64));
        Ok(())
    })?;
    Ok(found)
}

/// Forgets the batches of a stream from a position on.
pub fn drop_batches_from(connection: &mut dyn Connection, stream_id: i64, start: u64) -> Result<(), StoreError> {
    let values = [stream_id.into(), start.into()];
    connection.execute("DELETE FROM batch WHERE stream_id = $1 AND start_at >= $2", &values)?;
    connection.execute("DELETE FROM unrecognised WHERE stream_id = $1 AND position >= $2", &values).map(drop)
}

/// Notes that a part of a stream is lost.
pub fn add_gap(
    connection: &mut dyn Connection,
    stream_id: i64,
    start: u64,
    end: u64,
    now: i64,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO gap (stream_id, start_at, end_at, noticed_at) VALUES ($1, $2, $3, $4)
               ON CONFLICT (stream_id, start_at) DO UPDATE SET end_at = excluded.end_at";
    connection.execute(sql, &[stream_id.into(), start.into(), end.into(), now.into()]).map(drop)
}

/// Streams with the number of their gaps.
pub type Gaps = Vec<(i64, i64)>;

/// How many gaps each stream has.
pub fn gaps(connection: &mut dyn Connection) -> Result<Gaps, StoreError> {
    let mut found = Vec::new();
    connection.query("SELECT stream_id, count(*) FROM gap GROUP BY stream_id ORDER BY stream_id", &[], &mut |row| {
        found.push((row.int(0)?, row.int(1)?));
        Ok(())
    })?;
    Ok(found)
}

/// The highest batch id, 0 where there is none.
pub fn last_batch_id(connection: &mut dyn Connection) -> Result<i64, StoreError> {
    let mut id = 0;
    connection.query("SELECT coalesce(max(id), 0) FROM batch", &[], &mut |row| {
        id = row.int(0)?;
        Ok(())
    })?;
    Ok(id)
}

/// Gives the batches of a stream after a batch id, in the order of their positions.
pub fn each_batch(
    connection: &mut dyn Connection,
    stream_id: i64,
    after: i64,
    each: &mut dyn FnMut(Archived) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let sql = "SELECT id, start_at, body FROM batch WHERE stream_id = $1 AND id > $2 ORDER BY start_at, id";
    connection.query(sql, &[stream_id.into(), after.into()], &mut |row| {
        let batch = Batch::decode(row.blob(2)?)
            .map_err(|error| StoreError::new(super::Failure::Corrupt, format!("batch in the archive: {error}")))?;
        each(Archived { id: row.int(0)?, stream_id, start: row.int(1)? as u64, batch })
    })
}

/// A sample of a line that no rule understands.
pub struct Unrecognised {
    /// In which stream.
    pub stream_id: i64,
    /// Where it begins.
    pub position: u64,
    /// The moment of the last dated line before it.
    pub near: i64,
    /// The line.
    pub line: String,
}

/// Keeps a sample.
pub fn add_unrecognised(connection: &mut dyn Connection, sample: &Unrecognised) -> Result<(), StoreError> {
    let sql = "INSERT INTO unrecognised (stream_id, position, near, line) VALUES ($1, $2, $3, $4)
               ON CONFLICT (stream_id, position) DO NOTHING";
    let values = [sample.stream_id.into(), sample.position.into(), sample.near.into(), (*sample.line).into()];
    connection.execute(sql, &values).map(drop)
}

/// Samples after (stream, position), in that order.
pub fn unrecognised(
    connection: &mut dyn Connection,
    after: (i64, i64),
    limit: i64,
) -> Result<Vec<Unrecognised>, StoreError> {
    let mut found = Vec::new();
    let sql = "SELECT stream_id, position, near, line FROM unrecognised
               WHERE stream_id > $1 OR (stream_id = $1 AND position > $2)
               ORDER BY stream_id, position LIMIT $3";
    connection.query(sql, &[after.0.into(), after.1.into(), limit.into()], &mut |row| {
        found.push(Unrecognised {
            stream_id: row.int(0)?,
            position: row.int(1)? as u64,
            near: row.int(2)?,
            line: row.text(3)?.into(),
        });
        Ok(())
    })?;
    Ok(found)
}
