//! The usage of each feature: sums and sets of identities by month, and peaks by hour.

use roaring::RoaringBitmap;

use super::engine::{Connection, Value};
use super::names::Feature;
use super::{Failure, StoreError};

use super::sql::statements;

statements! {
    UPSERT_USAGE = "INSERT INTO usage (log_id, month, feature_id, outs, ins, denial_lines, denials, seat_seconds, peak, peak_at, held, checked_out, devices)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
         ON CONFLICT (month, log_id, feature_id) DO UPDATE SET outs = excluded.outs, ins = excluded.ins,
         denial_lines = excluded.denial_lines, denials = excluded.denials, seat_seconds = excluded.seat_seconds,
         peak = excluded.peak, peak_at = excluded.peak_at, held = excluded.held,
         checked_out = excluded.checked_out, devices = excluded.devices";
    SELECT_MONTHS = "SELECT coalesce(min(month), -1), coalesce(max(month), -1) FROM usage";
    RAISE_PEAKS = "INSERT INTO concurrency (log_id, hour, feature_id, peak, peak_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (log_id, hour, feature_id) DO UPDATE SET
         peak_at = CASE WHEN excluded.peak > concurrency.peak THEN excluded.peak_at ELSE concurrency.peak_at END,
         peak = CASE WHEN excluded.peak > concurrency.peak THEN excluded.peak ELSE concurrency.peak END";
    SELECT_PEAKS = "SELECT hour, feature_id, peak, peak_at FROM concurrency
         WHERE log_id = $1 AND hour >= $2 AND hour < $3 ORDER BY hour, feature_id";
    DELETE_USAGE = "DELETE FROM usage WHERE log_id = $1";
    DELETE_PEAKS = "DELETE FROM concurrency WHERE log_id = $1";
    SELECT_USAGE = "SELECT log_id, month, feature_id, outs, ins, denial_lines, denials, seat_seconds, peak, peak_at, held,
             checked_out, devices
         FROM usage WHERE month = $1 AND log_id = $2 AND feature_id = $3";
    SELECT_FEATURES_IN_USE = "SELECT DISTINCT u.log_id, f.id, f.daemon, f.name FROM usage u JOIN feature f ON f.id = u.feature_id
         WHERE u.month >= $1 AND (u.outs > 0 OR u.seat_seconds > 0) ORDER BY u.log_id, f.daemon, f.name";
    SELECT_USAGE_OF_MONTHS = "SELECT log_id, month, feature_id, outs, ins, denial_lines, denials, seat_seconds, peak, peak_at, held,
             checked_out, devices
         FROM usage WHERE month >= $1 AND month <= $2 ORDER BY month, log_id, feature_id";
}

/// The usage of one feature, in one month, from one log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    /// The number of checkout lines.
    pub outs: u64,
    /// The number of checkin lines.
    pub ins: u64,
    /// The number of denial lines.
    pub denial_lines: u64,
    /// The number of denials; a retry counts with the denial that it repeats.
    pub denials: u64,
    /// The seats times the seconds they were held.
    pub seat_seconds: u64,
    /// The most seats in use at once.
    pub peak: u64,
    /// The first moment of the peak, in seconds since 1970 UTC; 0 if no seat was in use.
    pub peak_at: i64,
    /// Identities that held a seat.
    pub held: RoaringBitmap,
    /// Identities that checked out.
    pub checked_out: RoaringBitmap,
    /// Devices on which seats were held.
    pub devices: RoaringBitmap,
}

/// The id of the log, the number of the month and the id of the feature.
pub type UsageKey = (i64, i32, u32);

/// The id of the log, the hour (in hours since 1970 UTC) and the id of the feature.
pub type HourKey = (i64, i64, u32);

/// The peak of an hour: the most seats in use, and the first moment when they were.
pub type Peak = (HourKey, (u64, i64));

/// The number of rows handed to the database at a time, so that their values take little memory.
const PORTION: usize = 4096;

fn bytes_of(bitmap: &RoaringBitmap) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(bitmap.serialized_size());
    // Writing to a vector cannot fail.
    let _ = bitmap.serialize_into(&mut bytes);
    bytes
}

fn bitmap_of(bytes: &[u8]) -> Result<RoaringBitmap, StoreError> {
    RoaringBitmap::deserialize_from(bytes).map_err(|error| {
        StoreError::new(
            Failure::Corrupt,
            format!("a set of people cannot be read: {error}; run `seatmeter-aggregator rebuild`"),
        )
    })
}

/// Returns the features of which seats were held from a month on, each with the log that tells it.
pub fn features_in_use(connection: &mut dyn Connection, since: i32) -> Result<Vec<(i64, Feature)>, StoreError> {
    let mut found = Vec::new();
    connection.query(SELECT_FEATURES_IN_USE, &[since.into()], &mut |row| {
        let feature = Feature { id: row.int(1)? as u32, daemon: row.text(2)?.into(), name: row.text(3)?.into() };
        found.push((row.int(0)?, feature));
        Ok(())
    })?;
    Ok(found)
}

/// Writes the usage of a feature, replacing the stored usage.
pub fn put_usage(connection: &mut dyn Connection, key: UsageKey, usage: &Usage) -> Result<(), StoreError> {
    let (held, checked_out, devices) = (bytes_of(&usage.held), bytes_of(&usage.checked_out), bytes_of(&usage.devices));
    let values = [
        key.0.into(),
        key.1.into(),
        key.2.into(),
        usage.outs.into(),
        usage.ins.into(),
        usage.denial_lines.into(),
        usage.denials.into(),
        usage.seat_seconds.into(),
        usage.peak.into(),
        usage.peak_at.into(),
        (*held).into(),
        (*checked_out).into(),
        (*devices).into(),
    ];
    connection.execute(UPSERT_USAGE, &values).map(drop)
}

fn usage_of(row: &dyn super::engine::Row) -> Result<(UsageKey, Usage), StoreError> {
    let key = (row.int(0)?, row.int(1)? as i32, row.int(2)? as u32);
    let usage = Usage {
        outs: row.int(3)? as u64,
        ins: row.int(4)? as u64,
        denial_lines: row.int(5)? as u64,
        denials: row.int(6)? as u64,
        seat_seconds: row.int(7)? as u64,
        peak: row.int(8)? as u64,
        peak_at: row.int(9)?,
        held: bitmap_of(row.blob(10)?)?,
        checked_out: bitmap_of(row.blob(11)?)?,
        devices: bitmap_of(row.blob(12)?)?,
    };
    Ok((key, usage))
}

/// Returns the usage of a feature; empty if none is stored.
pub fn usage(connection: &mut dyn Connection, key: UsageKey) -> Result<Usage, StoreError> {
    let mut found = Usage::default();
    connection.query(SELECT_USAGE, &[key.1.into(), key.0.into(), key.2.into()], &mut |row| {
        found = usage_of(row)?.1;
        Ok(())
    })?;
    Ok(found)
}

/// Returns the usage of all features in a range of months, both included.
pub fn usage_of_months(
    connection: &mut dyn Connection,
    from: i32,
    through: i32,
) -> Result<Vec<(UsageKey, Usage)>, StoreError> {
    let mut found = Vec::new();
    connection.query(SELECT_USAGE_OF_MONTHS, &[from.into(), through.into()], &mut |row| {
        found.push(usage_of(row)?);
        Ok(())
    })?;
    Ok(found)
}

/// Returns the first and the last month with any usage; `None` if no month has any.
pub fn months(connection: &mut dyn Connection) -> Result<Option<(i32, i32)>, StoreError> {
    let mut found = None;
    connection.query(SELECT_MONTHS, &[], &mut |row| {
        found = Some((row.int(0)? as i32, row.int(1)? as i32));
        Ok(())
    })?;
    Ok(found.filter(|(first, _)| *first >= 0))
}

/// Raises the stored peaks of hours where the new peaks are higher.
pub fn raise_peaks(connection: &mut dyn Connection, peaks: &[Peak]) -> Result<(), StoreError> {
    let mut values = Vec::new();
    for portion in peaks.chunks(PORTION) {
        values.clear();
        for ((log_id, hour, feature), (peak, at)) in portion {
            values.extend([Value::from(*log_id), (*hour).into(), (*feature).into(), (*peak).into(), (*at).into()]);
        }
        connection.bulk(RAISE_PEAKS, 5, &values)?;
    }
    Ok(())
}

/// Returns the peaks of a log's hours in a range, the last one excluded.
pub fn peaks(
    connection: &mut dyn Connection,
    log_id: i64,
    from_hour: i64,
    until_hour: i64,
) -> Result<Vec<Peak>, StoreError> {
    let mut found = Vec::new();
    connection.query(SELECT_PEAKS, &[log_id.into(), from_hour.into(), until_hour.into()], &mut |row| {
        found.push(((log_id, row.int(0)?, row.int(1)? as u32), (row.int(2)? as u64, row.int(3)?)));
        Ok(())
    })?;
    Ok(found)
}

/// Deletes all usage of a log.
pub fn forget(connection: &mut dyn Connection, log_id: i64) -> Result<(), StoreError> {
    for sql in [DELETE_USAGE, DELETE_PEAKS] {
        connection.execute(sql, &[log_id.into()])?;
    }
    Ok(())
}
