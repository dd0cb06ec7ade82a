//! Streams that begin alike: what they have in common counts once, if it is certain that it was written once.

use super::{Key, StreamRegistry};
use crate::ingest::content::{Archived, Common};
use crate::store::StoreError;
use crate::store::engine::Connection;
use crate::store::streams::{self, LineTime, Stream};

impl StreamRegistry {
    /// Compares a stream with those that begin alike, and derives anew what counts in it, and what in them. Facts that
    /// change by it are rebuilt; those of the stream's bytes from `archived` on are not projected yet.
    pub(super) fn relate(
        &mut self,
        connection: &mut dyn Connection,
        key: &Key,
        archived: u64,
    ) -> Result<(), StoreError> {
        let Some(stream) = self.streams.get(key).cloned() else { return Ok(()) };
        let names = self.alike.others(&stream);
        let mut touched = vec![(key.clone(), archived)];
        for name in names {
            let Some(other) = self.streams.get(&(stream.server_id, name.clone())).cloned() else { continue };
            let (later, before) = if other.precedes(&stream) { (&stream, &other) } else { (&other, &stream) };
            if may_share(later, before) {
                self.alike.compare(connection, later, before)?;
            }
            let counts_elsewhere = other.common_in_log + other.common_elsewhere > 0;
            if later.id == other.id && (counts_elsewhere || self.alike.of(later, before).through > 0) {
                touched.push(((stream.server_id, name), other.mark));
            }
        }
        touched.into_iter().try_for_each(|(key, archived)| self.derive_common(connection, &key, archived))
    }

    /// Derives what a stream has in common with those before it.
    fn derive_common(&mut self, connection: &mut dyn Connection, key: &Key, archived: u64) -> Result<(), StoreError> {
        let Some(stream) = self.streams.get(key) else { return Ok(()) };
        let (mut in_log, mut elsewhere) = (0, 0);
        for name in self.alike.others(stream) {
            let Some(before) = self.streams.get(&(stream.server_id, name)).filter(|other| other.precedes(stream))
            else {
                continue;
            };
            let common = self.alike.of(stream, before);
            if counts_once(stream, before, common) {
                let noted = if stream.log_id == before.log_id { &mut in_log } else { &mut elsewhere };
                *noted = common.through.max(*noted);
            }
        }
        let changes = |before: u64, now: u64| before != now && before.min(now) < archived;
        let must_rebuild = changes(stream.common_in_log, in_log) || changes(stream.common_elsewhere, elsewhere);
        let begins_otherwise = stream.common_in_log != in_log || (in_log >= archived && in_log < stream.mark);
        let is_changed = stream.common_in_log != in_log || stream.common_elsewhere != elsewhere;
        if !is_changed && !begins_otherwise {
            return Ok(());
        }
        let (log_id, id, mark) = (stream.log_id, stream.id, stream.mark);
        let own = match in_log {
            0 => None,
            _ => Archived::read(connection, id, in_log, mark)?.first_line(in_log, |_| true),
        };
        let zone = self.zone(log_id);
        if let Some(stream) = self.streams.get_mut(key) {
            (stream.common_in_log, stream.common_elsewhere) = (in_log, elsewhere);
            // What came before its own lines counts in another stream of the log, and the streams of a log are projected in
            // the order of their own lines.
            stream.begins = own.unwrap_or(LineTime { time: stream.first_line_time, ..LineTime::default() });
            super::dates::set_moments(stream, zone.as_ref());
            streams::save_stream(connection, stream)?;
        }
        if must_rebuild { self.request_rebuild(connection, log_id) } else { Ok(()) }
    }
}

/// Whether two streams that begin alike can have a part in common that counts once.
fn may_share(one: &Stream, two: &Stream) -> bool {
    match (one.told_day, two.told_day) {
        (Some(one), Some(two)) => one == two,
        _ => one.first_day.is_none() || two.first_day.is_none() || one.first_day == two.first_day,
    }
}

/// Whether what a stream has in common with one before it was written once: a date stands in it, or both began on the
/// same day. Without either, a beginning that is the same is no sign of a copy: the same job is the first of every night.
fn counts_once(stream: &Stream, before: &Stream, common: Common) -> bool {
    let tells_date = stream.told_day.is_some() && stream.told_position < common.through;
    let began_together = stream.first_day.is_some() && stream.first_day == before.first_day;
    common.through > 0 && (tells_date || began_together)
}
