//! Streams that are read again, or get another name.

use prost::Message;
use rusqlite::Connection;

use super::{Buffer, BufferError, checkpoint, decode, kept, lock, used_bytes};
use crate::checkpoint::{Checkpoint, Fingerprint, another_name};

impl Buffer {
    /// Deletes the batches of a stream, except refused ones, and resets its checkpoint. The stream is read again from
    /// its beginning, under the same fingerprint.
    pub fn rewind(&self, fingerprint: &Fingerprint) -> Result<(), BufferError> {
        let Some(mut checkpoint) = self.checkpoint(fingerprint)? else { return Ok(()) };
        checkpoint.position = 0;
        if let Some(file) = checkpoint.file_mut() {
            file.tail = None;
        }
        let mut writer = lock(&self.writer);
        self.write(&mut writer, |connection| {
            let transaction = connection.transaction()?;
            transaction.execute("DELETE FROM batch WHERE fingerprint = ?1 AND NOT refused", [fingerprint])?;
            transaction.execute("DELETE FROM waiting WHERE sequence NOT IN (SELECT sequence FROM batch)", [])?;
            checkpoint::save(&transaction, &checkpoint)?;
            transaction.execute("DELETE FROM file WHERE fingerprint = ?1", [fingerprint])?;
            transaction.commit()
        })?;
        writer.bytes = used_bytes(&writer.connection).map_err(|source| BufferError::of(&self.path, source))?;
        Ok(())
    }

    /// Gives a stream and its batches another name, which no stream has. Returns its checkpoint under that name.
    pub fn name_anew(&self, stream: &Checkpoint) -> Result<Checkpoint, BufferError> {
        let check = stream.proof().map(|proof| proof.check).unwrap_or_default();
        let mut named = stream.clone();
        while self.checkpoint(&named.fingerprint)?.is_some() {
            named.fingerprint = another_name(&named.fingerprint, &check);
        }
        self.rename(&stream.fingerprint, &named.fingerprint)?;
        Ok(named)
    }

    /// Gives a stream and its batches another name, which no stream has.
    pub fn rename(&self, before: &Fingerprint, after: &Fingerprint) -> Result<(), BufferError> {
        let Some(mut checkpoint) = self.checkpoint(before)? else { return Ok(()) };
        let beginning = checkpoint.beginning();
        if let Some(file) = checkpoint.file_mut() {
            file.beginning = Some(beginning);
        }
        checkpoint.fingerprint = *after;
        self.write(&mut lock(&self.writer), |connection| {
            let transaction = connection.transaction()?;
            transaction.execute("DELETE FROM stream WHERE fingerprint = ?1", [before])?;
            checkpoint::save(&transaction, &checkpoint)?;
            for (table, column) in [("log", "last"), ("file", "fingerprint")] {
                let sql = format!("UPDATE {table} SET {column} = ?2 WHERE {column} = ?1");
                transaction.execute(&sql, [before, after])?;
            }
            rename_batches(&transaction, before, &checkpoint)?;
            transaction.commit()
        })
    }
}

fn rename_batches(connection: &Connection, before: &Fingerprint, named: &Checkpoint) -> rusqlite::Result<()> {
    let sequences: Vec<i64> = connection
        .prepare("SELECT sequence FROM batch WHERE fingerprint = ?1 AND NOT refused")?
        .query_map([before], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for sequence in sequences {
        let body: Vec<u8> =
            connection.query_row("SELECT body FROM batch WHERE sequence = ?1", [sequence], |row| row.get(0))?;
        let mut batch = decode(0, &body)?;
        if let Some(stream) = &mut batch.stream {
            stream.fingerprint = named.fingerprint.to_vec();
            stream.beginning = named.beginning().to_vec();
        }
        kept::replace(connection, sequence, &named.fingerprint, &batch.encode_to_vec())?;
    }
    Ok(())
}
