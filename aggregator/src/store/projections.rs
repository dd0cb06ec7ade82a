//! How far the facts of each log go.

use super::StoreError;
use super::engine::{Connection, Value};
use super::sql::statements;

statements! {
    SELECT_PROJECTIONS = "SELECT log_id, rebuilds, projected_through, last_line_at, state FROM projection ORDER BY log_id";
    UPSERT_PROJECTION = "INSERT INTO projection (log_id, rebuilds, projected_through, last_line_at, state)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (log_id) DO UPDATE SET rebuilds = excluded.rebuilds, projected_through = excluded.projected_through,
         last_line_at = excluded.last_line_at, state = excluded.state";
    UPSERT_GAP_MOMENT = "INSERT INTO gap_moment (stream_id, end_position, log_id, after_at, before_at)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (stream_id, end_position) DO UPDATE SET after_at = excluded.after_at, before_at = excluded.before_at";
    DELETE_PROJECTION = "DELETE FROM projection WHERE log_id = $1";
    DELETE_GAP_MOMENTS = "DELETE FROM gap_moment WHERE log_id = $1";
    INSERT_SILENCE = "INSERT INTO silence (log_id, after_at, before_at) VALUES ($1, $2, $3)
         ON CONFLICT (log_id, after_at) DO UPDATE SET before_at = CASE WHEN excluded.before_at > silence.before_at
         THEN excluded.before_at ELSE silence.before_at END";
    SELECT_SILENCES = "SELECT log_id, after_at, before_at FROM silence ORDER BY log_id, after_at";
    DELETE_SILENCES = "DELETE FROM silence WHERE log_id = $1";
}

/// How far the facts of a log go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Projected {
    /// How often a rebuild of the log had been requested when its facts were last rebuilt.
    pub rebuilds: i64,
    /// The last batch that the facts contain; 0 if there is none.
    pub through: i64,
    /// The moment of the last dated line in the facts, in seconds since 1970 UTC; 0 if there is none.
    pub last_line_at: i64,
    /// The encoded [`LogState`](super::log_state::LogState): open sessions, and denials that can still be retried.
    pub state: Vec<u8>,
}

/// Returns how far the facts of each log go, with the log's id, ordered by it.
pub fn projections(connection: &mut dyn Connection) -> Result<Vec<(i64, Projected)>, StoreError> {
    let mut found = Vec::new();
    connection.query(SELECT_PROJECTIONS, &[], &mut |row| {
        let (rebuilds, through, last_line_at) = (row.int(1)?, row.int(2)?, row.int(3)?);
        found.push((row.int(0)?, Projected { rebuilds, through, last_line_at, state: row.blob(4)?.into() }));
        Ok(())
    })?;
    Ok(found)
}

/// Saves how far the facts of a log go.
pub fn save_projection(connection: &mut dyn Connection, log_id: i64, projected: &Projected) -> Result<(), StoreError> {
    let Projected { rebuilds, through, last_line_at, state } = projected;
    let values = [log_id.into(), (*rebuilds).into(), (*through).into(), (*last_line_at).into(), Value::Blob(state)];
    connection.execute(UPSERT_PROJECTION, &values).map(drop)
}

/// When the lines of a gap were written that ends at a position of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GapMoments {
    /// The id of the log.
    pub log_id: i64,
    /// The last line before them, in seconds since 1970 UTC; 0 if there is none.
    pub after_at: i64,
    /// The first line after them, in seconds since 1970 UTC; `None` if there is none.
    pub before_at: Option<i64>,
}

/// Saves when the lines of a gap were written that ends at a position of a stream.
pub fn save_gap_moments(
    connection: &mut dyn Connection,
    (stream_id, end): (i64, u64),
    moments: &GapMoments,
) -> Result<(), StoreError> {
    let before_at = moments.before_at.map_or(Value::Null, Value::Int);
    let values = [stream_id.into(), end.into(), moments.log_id.into(), moments.after_at.into(), before_at];
    connection.execute(UPSERT_GAP_MOMENT, &values).map(drop)
}

/// A time in which a log that has a line every six hours has none, though no daemon started after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silence {
    /// The id of the log.
    pub log_id: i64,
    /// The last line before it, in seconds since 1970 UTC.
    pub after_at: i64,
    /// The first line after it, in seconds since 1970 UTC.
    pub before_at: i64,
}

/// Saves a silence. Of two that begin at the same moment, the longer one stays.
pub fn add_silence(connection: &mut dyn Connection, silence: &Silence) -> Result<(), StoreError> {
    let values = [silence.log_id.into(), silence.after_at.into(), silence.before_at.into()];
    connection.execute(INSERT_SILENCE, &values).map(drop)
}

/// Returns all silences, ordered by log and time.
pub fn silences(connection: &mut dyn Connection) -> Result<Vec<Silence>, StoreError> {
    let mut found = Vec::new();
    connection.query(SELECT_SILENCES, &[], &mut |row| {
        found.push(Silence { log_id: row.int(0)?, after_at: row.int(1)?, before_at: row.int(2)? });
        Ok(())
    })?;
    Ok(found)
}

/// Forgets how far the facts of a log go, when the lines of its gaps were written, and its silences.
pub fn forget(connection: &mut dyn Connection, log_id: i64) -> Result<(), StoreError> {
    for sql in [DELETE_PROJECTION, DELETE_GAP_MOMENTS, DELETE_SILENCES] {
        connection.execute(sql, &[log_id.into()])?;
    }
    Ok(())
}
