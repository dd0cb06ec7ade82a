//! Batches in the buffer: written with a checksum, kept for a time once they are acknowledged, and delivered again to an
//! aggregator that has lost them.

use rusqlite::{Connection, OptionalExtension, params};
use seatmeter_proto::v1::Batch;

use super::{Buffer, BufferError, ROW_OVERHEAD, Writer, decode, lock};
use crate::checkpoint::Fingerprint;

/// The most batches that are deleted at a time.
const AT_A_TIME: i64 = 256;

/// Adds a batch that waits for delivery.
pub(super) fn insert(
    connection: &Connection,
    fingerprint: &[u8],
    body: &[u8],
    created_at: i64,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO batch (fingerprint, body, created_at, checksum) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![fingerprint, body, created_at, checksum(body)])?;
    connection.prepare_cached("INSERT INTO waiting VALUES (last_insert_rowid())")?.execute([]).map(drop)
}

/// Replaces a batch. Returns whether there is one.
pub(super) fn replace(
    connection: &Connection,
    sequence: i64,
    fingerprint: &Fingerprint,
    body: &[u8],
) -> rusqlite::Result<bool> {
    connection
        .execute(
            "UPDATE batch SET fingerprint = ?2, body = ?3, checksum = ?4 WHERE sequence = ?1",
            params![sequence, fingerprint, body, checksum(body)],
        )
        .map(|changed| changed > 0)
}

fn checksum(body: &[u8]) -> Vec<u8> {
    blake3::hash(body).as_bytes()[..16].to_vec()
}

/// Returns a batch; `None` if it is damaged. Batches of older versions have no checksum.
pub(super) fn intact(sequence: u64, body: &[u8], expected: Option<Vec<u8>>) -> Option<Batch> {
    let is_intact = expected.is_none_or(|expected| expected == checksum(body));
    decode(sequence, body).ok().filter(|_| is_intact)
}

/// Returns batches after a sequence, as many as fit into `bytes` but at least one if there is any: those that wait for
/// delivery, or those that the aggregator refused.
pub(super) fn after(
    connection: &Connection,
    sequence: u64,
    bytes: usize,
    is_refused: bool,
) -> rusqlite::Result<Result<Vec<Batch>, BufferError>> {
    let sql = match is_refused {
        true => "SELECT sequence, body, checksum FROM batch WHERE sequence > ?1 AND refused ORDER BY sequence",
        false => {
            "SELECT batch.sequence, body, checksum FROM waiting JOIN batch ON batch.sequence = waiting.sequence
             WHERE waiting.sequence > ?1 ORDER BY waiting.sequence"
        }
    };
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![sequence as i64])?;
    let (mut batches, mut size) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let (sequence, body) = (row.get::<_, i64>(0)? as u64, row.get::<_, Vec<u8>>(1)?);
        size += body.len();
        if size > bytes && !batches.is_empty() {
            break;
        }
        match intact(sequence, &body, row.get(2)?) {
            Some(batch) => batches.push(batch),
            None if batches.is_empty() => return Ok(Err(BufferError::Damaged { sequence })),
            None => break,
        }
    }
    Ok(Ok(batches))
}

/// Deletes acknowledged batches that were captured before a moment. Returns the bytes that were freed.
pub(super) fn forget(connection: &Connection, before: i64) -> rusqlite::Result<u64> {
    let oldest: Option<i64> = connection
        .prepare_cached("SELECT min(created_at) FROM batch WHERE refused = 0")?
        .query_row([], |row| row.get(0))?;
    if oldest.is_none_or(|oldest| oldest >= before) {
        return Ok(0);
    }
    let freed: Vec<u64> = connection
        .prepare_cached(
            "DELETE FROM batch WHERE sequence IN (SELECT sequence FROM batch WHERE refused = 0 AND created_at < ?1
                 AND sequence NOT IN (SELECT sequence FROM waiting) ORDER BY created_at LIMIT ?2)
             RETURNING length(body)",
        )?
        .query_map(params![before, AT_A_TIME], |row| Ok(row.get::<_, i64>(0)? as u64 + ROW_OVERHEAD))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(freed.iter().sum())
}

impl Buffer {
    /// Deletes acknowledged batches, the oldest first, until there is room for `size` bytes or none is left.
    pub(super) fn make_room(&self, writer: &mut Writer, size: u64) -> Result<(), BufferError> {
        while writer.bytes.saturating_add(size) > self.quota {
            let freed = self.write(writer, |connection| forget(connection, i64::MAX))?;
            writer.bytes = writer.bytes.saturating_sub(freed);
            if freed == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Delivers again what the buffer still has of a stream from a position on. Returns whether that is all of it, without
    /// a gap: if not, nothing is changed unless `is_all_there_is` says that the stream cannot be read again.
    pub fn deliver_again(
        &self,
        fingerprint: &Fingerprint,
        from: u64,
        is_all_there_is: bool,
    ) -> Result<bool, BufferError> {
        let Some(checkpoint) = self.checkpoint(fingerprint)? else { return Ok(false) };
        let delivered = self.write(&mut lock(&self.writer), |connection| {
            let transaction = connection.transaction()?;
            let kept = batches_of(&transaction, fingerprint)?;
            let wanted: Vec<&Kept> = kept.iter().filter(|kept| kept.batch.end_position > from).collect();
            let reaches = wanted.iter().try_fold(from, |reached, kept| {
                (kept.batch.start_position <= reached || kept.batch.lost_before).then_some(kept.batch.end_position)
            });
            let is_whole = reaches == Some(checkpoint.position) && !wanted.is_empty();
            if !is_whole && !is_all_there_is {
                return Ok(false);
            }
            // New sequences, in the old order: those that are in flight have lower ones.
            for Kept { sequence, body, created_at, .. } in wanted {
                transaction.execute("DELETE FROM waiting WHERE sequence = ?1", [sequence])?;
                transaction.execute("DELETE FROM batch WHERE sequence = ?1", [sequence])?;
                insert(&transaction, fingerprint, body, *created_at)?;
            }
            transaction.commit()?;
            Ok(is_whole)
        })?;
        self.appended.notify_one();
        Ok(delivered)
    }

    /// Deletes a damaged batch. Returns its stream; `None` if there is no such batch, or if it is whole.
    pub fn drop_damaged(&self, sequence: u64) -> Result<Option<Fingerprint>, BufferError> {
        self.write(&mut lock(&self.writer), |connection| {
            let transaction = connection.transaction()?;
            let found = transaction
                .prepare("SELECT fingerprint, body, checksum FROM batch WHERE sequence = ?1")?
                .query_row([sequence as i64], |row| Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?, row.get(2)?)))
                .optional()?;
            let is_damaged =
                |(_, body, sum): &(Fingerprint, Vec<u8>, Option<Vec<u8>>)| intact(0, body, sum.clone()).is_none();
            let Some((fingerprint, ..)) = found.filter(is_damaged) else { return Ok(None) };
            for sql in ["DELETE FROM waiting WHERE sequence = ?1", "DELETE FROM batch WHERE sequence = ?1"] {
                transaction.execute(sql, [sequence as i64])?;
            }
            transaction.commit()?;
            Ok(Some(fingerprint))
        })
    }
}

/// A batch in the buffer, waiting or acknowledged.
struct Kept {
    sequence: i64,
    body: Vec<u8>,
    created_at: i64,
    batch: Batch,
}

/// Returns the batches of a stream that are intact and not refused, in the order of their capture.
fn batches_of(connection: &Connection, fingerprint: &Fingerprint) -> rusqlite::Result<Vec<Kept>> {
    let mut statement = connection.prepare(
        "SELECT sequence, body, created_at, checksum FROM batch WHERE fingerprint = ?1 AND NOT refused ORDER BY sequence",
    )?;
    let mut rows = statement.query([fingerprint])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let (sequence, body, created_at): (i64, Vec<u8>, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if let Some(batch) = intact(0, &body, row.get(3)?) {
            found.push(Kept { sequence, body, created_at, batch });
        }
    }
    Ok(found)
}
