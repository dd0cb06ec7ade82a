//! Converts events to columns and back.
//!
//! Batches come from the network, so [`open`] checks everything that a batch claims before other code uses it.
//! Afterwards, all columns have one entry for each event (sparse columns may be empty), every index in use points into
//! its table, and every position is inside the batch's range. Code that reads the columns needs no checks of its own.
//! No size that a batch claims causes an allocation of more than [`MAX_COLUMNS`] bytes.

use prost::Message;
use prost::encoding::{DecodeContext, decode_key, skip_field};
use seatmeter_count::timeline::{Told, is_possible};
use seatmeter_count::{Day, Event, Kind};

use crate::v1::{Batch, Columns, Limits, RefusalReason, Stream};

/// The most events in a batch. Each batch carries its own names; this many events make their size negligible.
pub const MAX_EVENTS: usize = 1 << 18;

/// The largest size of a batch's columns before compression, in bytes.
pub const MAX_COLUMNS: usize = 16 << 20;

/// The longest name, in bytes.
pub const MAX_NAME: usize = 1024;

/// The most pools of licenses in a batch, and their largest size, in bytes.
pub const MAX_POOLS: usize = 10_000;
const MAX_LICENSES: usize = 4 << 20;

/// The largest size of the names of all pools in bytes, as they were read, so that the licenses stay within their limit:
/// replacing invalid UTF-8 can triple it, and each pool adds up to 48 bytes.
pub const MAX_POOL_NAMES: usize = 1 << 20;
const _: () = assert!(3 * MAX_POOL_NAMES + 48 * MAX_POOLS <= MAX_LICENSES);

/// The largest batch on the wire, in bytes. zstd adds next to nothing to data that it cannot compress.
pub const MAX_BATCH: usize = MAX_COLUMNS + MAX_LICENSES + (64 << 10);

/// The longest range of a stream that a batch covers, in bytes. It lets position deltas fit their 32-bit column.
pub const MAX_RANGE: u64 = u32::MAX as u64;

/// The stream times that lines can have, in seconds: three thousand years either way.
pub const TIMES: std::ops::RangeInclusive<i64> = -(1 << 37)..=1 << 37;

/// The size of the blocks over which check values are chained, in bytes.
pub const CHECK_BLOCK: usize = 16 << 10;

/// Why a batch is invalid. Sending the same batch again cannot succeed.
#[derive(Debug, thiserror::Error)]
pub enum InvalidBatch {
    /// A required field is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A text contains a NUL character, which PostgreSQL cannot store.
    #[error("{0} contains a NUL character")]
    Nul(&'static str),
    /// A field is out of its range.
    #[error("{field} is {value}, and {limit} is the limit")]
    Limit {
        /// The field's name.
        field: &'static str,
        /// The field's value.
        value: u64,
        /// The largest value allowed.
        limit: u64,
    },
    /// The columns do not decompress.
    #[error("the columns do not decompress: {0}")]
    Compression(std::io::Error),
    /// The size of the decompressed columns differs from the size that the batch states.
    #[error("the columns are {actual} bytes, not the {said} bytes that the batch states")]
    Size {
        /// The actual size, in bytes.
        actual: usize,
        /// The size that the batch states, in bytes.
        said: u32,
    },
    /// The decompressed bytes are not a valid Columns message.
    #[error("the columns do not decode: {0}")]
    Encoding(#[from] prost::DecodeError),
    /// A column does not have the required number of entries.
    #[error("column {column} has {actual} entries for {expected} events")]
    Length {
        /// The column's name.
        column: &'static str,
        /// The number of entries that the column has.
        actual: usize,
        /// The number of entries that the column must have.
        expected: usize,
    },
    /// An index points past the end of its table.
    #[error("an index in {0} points nowhere")]
    Index(&'static str),
    /// An event has a kind that this version does not know.
    #[error("event kind {0} is unknown: is the agent newer than the aggregator?")]
    Kind(u8),
    /// An event's position is outside the batch's range.
    #[error("an event's position is outside the range of its batch")]
    Position,
    /// A time or a day is one that no line can have.
    #[error("{0} is a time that no line can have")]
    Time(&'static str),
}

impl InvalidBatch {
    /// Returns the contract's code for the reason.
    pub fn reason(&self) -> RefusalReason {
        match self {
            Self::Missing(_) => RefusalReason::MissingField,
            Self::Limit { .. } | Self::Nul(_) | Self::Time(_) => RefusalReason::LimitExceeded,
            Self::Compression(_) | Self::Size { .. } => RefusalReason::Compression,
            Self::Encoding(_) => RefusalReason::Encoding,
            Self::Length { .. } => RefusalReason::ColumnLength,
            Self::Index(_) => RefusalReason::Index,
            Self::Kind(_) => RefusalReason::UnknownKind,
            Self::Position => RefusalReason::Position,
        }
    }
}

/// Returns the limits that [`open`] enforces in this version.
pub fn limits(max_batches_in_flight: u32) -> Limits {
    Limits {
        max_batches_in_flight,
        max_batch_events: MAX_EVENTS as u32,
        max_columns_bytes: MAX_COLUMNS as u32,
        max_name_bytes: MAX_NAME as u32,
    }
}

/// Compresses columns. Returns the compressed bytes, and the size before compression in bytes.
pub fn seal(columns: &Columns) -> std::io::Result<(Vec<u8>, u32)> {
    let encoded = columns.encode_to_vec();
    let sealed = zstd::bulk::compress(&encoded, COMPRESSION_LEVEL)?;
    Ok((sealed, encoded.len() as u32))
}

/// The zstd level. At level 1, columns compress nearly as well as at level 3, in half the time.
const COMPRESSION_LEVEL: i32 = 1;

/// Checks a batch and returns its decompressed columns.
pub fn open(batch: &Batch) -> Result<Columns, InvalidBatch> {
    let stream = batch.stream.as_ref().ok_or(InvalidBatch::Missing("stream"))?;
    check_hashes(batch, stream)?;
    for (field, text) in [("the log's name", &stream.log), ("the time zone", &stream.time_zone)] {
        limit(field, text.len() as u64, MAX_NAME as u64)?;
        if text.contains('\0') {
            return Err(InvalidBatch::Nul(field));
        }
    }
    limit("start", batch.start_position, batch.end_position)?;
    limit("end", batch.end_position, i64::MAX as u64)?;
    limit("the range", batch.end_position - batch.start_position, MAX_RANGE)?;
    check_blocks(batch)?;
    check_licenses(batch)?;
    limit("event_count", batch.event_count.into(), MAX_EVENTS as u64)?;
    limit("columns_size", batch.columns_size.into(), MAX_COLUMNS as u64)?;
    let encoded =
        zstd::bulk::decompress(&batch.columns, batch.columns_size as usize).map_err(InvalidBatch::Compression)?;
    if encoded.len() != batch.columns_size as usize {
        return Err(InvalidBatch::Size { actual: encoded.len(), said: batch.columns_size });
    }
    // Counted before they are decoded: each takes far more memory than its bytes, if it is short.
    limit(
        "the number of names",
        strings_in(&encoded)?,
        MOST_NAMES_AN_EVENT * u64::from(batch.event_count) + SPARE_NAMES,
    )?;
    let mut columns = Columns::decode(encoded.as_slice())?;
    check(&columns, batch)?;
    check_times(&columns, batch, stream)?;
    for name in columns.strings.iter_mut().filter(|name| name.contains('\0')) {
        // No text column of PostgreSQL can hold a NUL.
        *name = name.replace('\0', "?");
    }
    Ok(columns)
}

/// The most names of a batch for each of its events, and how many more: an event has a daemon, a feature, a user and a host.
const MOST_NAMES_AN_EVENT: u64 = 4;
const SPARE_NAMES: u64 = 16;

/// Returns the number of names in encoded columns.
fn strings_in(mut encoded: &[u8]) -> Result<u64, prost::DecodeError> {
    const STRINGS: u32 = 1;
    let mut count = 0;
    while !encoded.is_empty() {
        let (tag, wire_type) = decode_key(&mut encoded)?;
        count += u64::from(tag == STRINGS);
        skip_field(wire_type, tag, &mut encoded, DecodeContext::default())?;
    }
    Ok(count)
}

/// Checks that every hash has 32 bytes. Those that need not be known may be empty.
fn check_hashes(batch: &Batch, stream: &Stream) -> Result<(), InvalidBatch> {
    for (column, hash, may_be_empty) in [
        ("fingerprint", &stream.fingerprint, false),
        ("beginning", &stream.beginning, true),
        ("after", &stream.after, true),
        ("start_check", &batch.start_check, true),
        ("end_check", &batch.end_check, true),
    ] {
        if hash.len() != 32 && !(may_be_empty && hash.is_empty()) {
            return Err(InvalidBatch::Length { column, actual: hash.len(), expected: 32 });
        }
    }
    Ok(())
}

/// Checks that the licenses are within their limits, and their days and texts ones that can be stored.
fn check_licenses(batch: &Batch) -> Result<(), InvalidBatch> {
    let pools = batch.licenses.as_ref().map(|licenses| licenses.pools.as_slice()).unwrap_or_default();
    limit("the number of pools", pools.len() as u64, MAX_POOLS as u64)?;
    limit("the licenses", batch.licenses.as_ref().map_or(0, Message::encoded_len) as u64, MAX_LICENSES as u64)?;
    for pool in pools {
        for text in [&pool.daemon, &pool.feature, &pool.version, &pool.serial] {
            limit("a pool's text", text.len() as u64, MAX_NAME as u64)?;
            if text.contains('\0') {
                return Err(InvalidBatch::Nul("a pool's text"));
            }
        }
        if [pool.expires_on, pool.starts_on].into_iter().flatten().any(|day| !is_possible(day)) {
            return Err(InvalidBatch::Time("a pool's day"));
        }
    }
    Ok(())
}

/// Checks that there is a check value for each block's end in the range, or none.
fn check_blocks(batch: &Batch) -> Result<(), InvalidBatch> {
    let expected = block_ends(batch.start_position, batch.end_position).count();
    match batch.block_checks.len() {
        actual if actual == expected || actual == 0 => Ok(()),
        actual => Err(InvalidBatch::Length { column: "block_checks", actual, expected }),
    }
}

/// Returns the ends of the blocks after `start`, through `end`.
pub fn block_ends(start: u64, end: u64) -> impl ExactSizeIterator<Item = u64> {
    let block = CHECK_BLOCK as u64;
    // A range is checked to be within 32 bits before its blocks are counted.
    let count = (end / block).saturating_sub(start / block) as usize;
    (0..count).map(move |index| (start / block + 1 + index as u64) * block)
}

fn limit(field: &'static str, value: u64, limit: u64) -> Result<(), InvalidBatch> {
    if value > limit { Err(InvalidBatch::Limit { field, value, limit }) } else { Ok(()) }
}

fn check(columns: &Columns, batch: &Batch) -> Result<(), InvalidBatch> {
    let events = batch.event_count as usize;
    check_lengths(columns, events)?;
    check_tables(columns, events)?;
    check_kinds(columns)?;
    let positions =
        columns.position_deltas.iter().try_fold(0u64, |position, delta| position.checked_add((*delta).into()));
    match positions {
        Some(last) if events == 0 || last < batch.end_position - batch.start_position => Ok(()),
        _ => Err(InvalidBatch::Position),
    }
}

/// Checks that every column has one entry for each event. Sparse columns may be empty.
fn check_lengths(columns: &Columns, events: usize) -> Result<(), InvalidBatch> {
    let length = |column, actual: usize, may_be_empty: bool| {
        if actual == events || (may_be_empty && actual == 0) {
            Ok(())
        } else {
            Err(InvalidBatch::Length { column, actual, expected: events })
        }
    };
    length("kinds", columns.kinds.len(), false)?;
    length("time_deltas", columns.time_deltas.len(), false)?;
    length("position_deltas", columns.position_deltas.len(), false)?;
    length("features", columns.features.len(), false)?;
    length("clients", columns.clients.len(), false)?;
    length("seats", columns.seats.len(), true)?;
    length("details", columns.details.len(), true)
}

/// Checks that no name is too long, that no table has more entries than there are events, and that the tables' indexes
/// point at names.
fn check_tables(columns: &Columns, events: usize) -> Result<(), InvalidBatch> {
    for name in &columns.strings {
        limit("a name", name.len() as u64, MAX_NAME as u64)?;
    }
    let paired = |column, left: usize, right: usize| {
        if left == right { Ok(()) } else { Err(InvalidBatch::Length { column, actual: right, expected: left }) }
    };
    paired("feature_names", columns.feature_daemons.len(), columns.feature_names.len())?;
    paired("client_hosts", columns.client_users.len(), columns.client_hosts.len())?;
    for (table, indexes) in [
        ("feature_daemons", &columns.feature_daemons),
        ("feature_names", &columns.feature_names),
        ("client_users", &columns.client_users),
        ("client_hosts", &columns.client_hosts),
    ] {
        if indexes.iter().any(|index| *index as usize >= columns.strings.len()) {
            return Err(InvalidBatch::Index(table));
        }
    }
    // Each event refers to at most one feature and one client. The limit keeps a batch from pairing a few names into
    // far more clients than its events can use.
    limit("the number of features", columns.feature_names.len() as u64, events as u64)?;
    limit("the number of clients", columns.client_users.len() as u64, events as u64)
}

/// Checks that every kind is known, and that the indexes that it uses point into their tables.
fn check_kinds(columns: &Columns) -> Result<(), InvalidBatch> {
    let (features, clients) = (columns.feature_names.len(), columns.client_users.len());
    for (index, number) in columns.kinds.iter().enumerate() {
        let kind = Kind::from_number((*number).into()).ok_or(InvalidBatch::Kind(*number))?;
        let needs = Needs::of(kind);
        if needs.feature && columns.features[index] as usize >= features {
            return Err(InvalidBatch::Index("features"));
        }
        let clients = if kind == Kind::Unrecognised { columns.strings.len() } else { clients };
        if needs.client && columns.clients[index] as usize >= clients {
            return Err(InvalidBatch::Index("clients"));
        }
    }
    Ok(())
}

/// Checks that every time and every day can be computed with.
fn check_times(columns: &Columns, batch: &Batch, stream: &Stream) -> Result<(), InvalidBatch> {
    let days = [batch.told_first_day, stream.configured_day];
    if days.into_iter().flatten().any(|day| !is_possible(day)) {
        return Err(InvalidBatch::Time("a day"));
    }
    for (field, time) in [("last_line_time", batch.last_line_time), ("first_line_time", stream.first_line_time)] {
        if !TIMES.contains(&time) {
            return Err(InvalidBatch::Time(field));
        }
    }
    let is_right = |(_, event): (u64, Event)| {
        let is_day = |day: i64| Day::try_from(day).is_ok_and(is_possible);
        TIMES.contains(&event.at) && (event.kind != Kind::Date || is_day(event.detail))
    };
    if events(columns, batch.start_position).all(is_right) { Ok(()) } else { Err(InvalidBatch::Time("an event")) }
}

/// Whether events of a kind use the feature column and the client column.
struct Needs {
    feature: bool,
    client: bool,
}

impl Needs {
    fn of(kind: Kind) -> Self {
        // The client column of an unrecognised line holds its text.
        Self { feature: kind.has_feature(), client: kind.has_client() || kind == Kind::Unrecognised }
    }
}

/// Returns the events of columns that [`open`] has checked, each with its position in the stream. `start` is the
/// batch's start position.
pub fn events<'a>(columns: &'a Columns, start: u64) -> impl Iterator<Item = (u64, Event)> + 'a {
    events_of(columns, start, |_| true)
}

/// Like [`events`], but returns only those of certain kinds. Where these are few, the others cost little.
pub fn events_of<'a>(
    columns: &'a Columns,
    start: u64,
    is_wanted: impl Fn(u8) -> bool + 'a,
) -> impl Iterator<Item = (u64, Event)> + 'a {
    let (mut at, mut position) = (columns.base_time, start);
    (0..columns.kinds.len()).filter_map(move |index| {
        at = at.saturating_add(columns.time_deltas[index].into());
        position += u64::from(columns.position_deltas[index]);
        if !is_wanted(columns.kinds[index]) {
            return None;
        }
        let event = Event {
            kind: Kind::from_number(columns.kinds[index].into())?,
            at,
            feature: columns.features[index],
            client: columns.clients[index],
            seats: columns.seats.get(index).copied().unwrap_or(1),
            detail: columns.details.get(index).copied().unwrap_or(0),
        };
        Some((position, event))
    })
}

/// Returns what the lines before a batch tell of the date. Agents that dated lines themselves sent no time zone: their
/// times count from 1970 UTC.
pub fn told_before(batch: &Batch) -> Told {
    let is_utc = batch.stream.as_ref().is_none_or(|stream| stream.time_zone.is_empty());
    let otherwise = is_utc.then_some(0);
    Told { first_day: batch.told_first_day.or(otherwise), offset: batch.told_offset.or(otherwise) }
}

/// Appends an event to columns. `position_delta` is relative to the previous event, or to the batch's start for the
/// first event. `last_at` is the time of the previous event, and is updated.
pub fn push(columns: &mut Columns, last_at: &mut i64, position_delta: u32, event: Event) {
    if columns.kinds.is_empty() {
        columns.base_time = event.at;
        *last_at = event.at;
    }
    let index = columns.kinds.len();
    columns.kinds.push(event.kind as u8);
    // No real log jumps more than 68 years between two lines. Clamping such a jump keeps the delta within 32 bits.
    let delta = (event.at - *last_at).clamp(i32::MIN.into(), i32::MAX.into());
    columns.time_deltas.push(delta as i32);
    *last_at += delta;
    columns.position_deltas.push(position_delta);
    columns.features.push(event.feature);
    columns.clients.push(event.client);
    push_sparse(&mut columns.seats, index, event.seats, 1);
    push_sparse(&mut columns.details, index, event.detail, 0);
}

/// Appends to a sparse column. The column stays empty until an entry differs from the usual value.
fn push_sparse<T: Copy + PartialEq>(column: &mut Vec<T>, index: usize, value: T, usual: T) {
    if value != usual && column.is_empty() {
        column.resize(index, usual);
    }
    if value != usual || !column.is_empty() {
        column.push(value);
    }
}

#[cfg(test)]
mod tests;
