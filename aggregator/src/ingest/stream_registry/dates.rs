//! Dates the streams of the registry, when something tells another day than before.

use jiff::tz::TimeZone;
use seatmeter_count::Day;
use seatmeter_proto::v1::{Heartbeat, Hello};

use super::{Key, SPEAKS_FOR, StreamRegistry};
use crate::codes;
use crate::dating::Days;
use crate::ingest::content::Archived;
use crate::store::engine::Connection;
use crate::store::received::{self, Configured};
use crate::store::streams::{self, LineTime, Stream};
use crate::store::{Failure, StoreError};

impl StreamRegistry {
    /// Takes note of what an agent says of the time zones of its logs.
    pub(in crate::ingest) fn hear(
        &mut self,
        connection: &mut dyn Connection,
        server_id: i64,
        hello: &Hello,
        heartbeat: &Heartbeat,
        now: i64,
    ) -> Result<(), StoreError> {
        for source in &heartbeat.sources {
            let Some(log_id) = self.log_ids.get(&(server_id, source.log.clone())).copied() else { continue };
            let agent = hello.agent_id.clone();
            let told = Configured {
                time_zone: source.time_zone.clone(),
                day: source.configured_day,
                agent,
                poll_interval: source.poll_interval_seconds,
            };
            if self.note_configured(connection, log_id, told, now)? {
                let changed = self.date_log(connection, log_id, None)?;
                for key in changed {
                    let archived = self.streams.get(&key).map_or(0, |stream| stream.mark);
                    self.relate(connection, &key, archived)?;
                }
            }
        }
        Ok(())
    }

    /// Takes note of what an operator says of the day of a stream's first line; `None` takes it back.
    pub(in crate::ingest) fn set_date(
        &mut self,
        connection: &mut dyn Connection,
        stream_id: i64,
        day: Option<Day>,
    ) -> Result<(), StoreError> {
        let Some(stream) = self.streams.values_mut().find(|stream| stream.id == stream_id) else { return Ok(()) };
        stream.given_day = day;
        if stream.common_in_log == 0 && stream.begins.told.offset.is_none() {
            // A wrong clock may have made another line the first one that counts.
            stream.begins = LineTime { time: stream.first_line_time, ..LineTime::default() };
        }
        let stream = stream.clone();
        streams::save_stream(connection, &stream)?;
        self.date_anew(connection, &stream, stream.mark)
    }

    /// Takes note of what an agent's configuration says of a log. Returns whether that is news. Of two agents that say
    /// otherwise, the one that spoke first is heard, for as long as it is there.
    pub(super) fn note_configured(
        &mut self,
        connection: &mut dyn Connection,
        log_id: i64,
        told: Configured,
        now: i64,
    ) -> Result<bool, StoreError> {
        self.heard.insert(told.agent.clone(), now);
        let Some(log) = self.logs.get_mut(&log_id) else { return Ok(false) };
        let known = &log.configured;
        if told.time_zone.is_empty()
            || told.time_zone.contains('\0')
            || (&told.time_zone, told.day, told.poll_interval) == (&known.time_zone, known.day, known.poll_interval)
        {
            return Ok(false);
        }
        let other_is_there = self.heard.get(&known.agent).is_some_and(|at| now - at <= SPEAKS_FOR);
        if known.agent != told.agent && other_is_there {
            if self.contradicted.insert((log_id, told.agent.clone())) {
                tracing::warn!(
                    code = codes::AGENTS_DIFFER,
                    log = log.name,
                    agent_id = told.agent,
                    time_zone = told.time_zone,
                    heard = known.agent,
                    its_time_zone = known.time_zone,
                    "two agents tell different time zones or dates for one log: the one that spoke first is heard"
                );
            }
            return Ok(false);
        }
        if !known.time_zone.is_empty() && known.time_zone != told.time_zone {
            tracing::warn!(
                code = codes::LOG_REDATED,
                log = log.name,
                before = known.time_zone,
                now = told.time_zone,
                "the time zone of a log was corrected: all its lines are dated anew"
            );
        }
        if told.zone().is_none() {
            tracing::warn!(
                code = codes::ZONE_UNKNOWN,
                log = log.name,
                time_zone = told.time_zone,
                "the time zone of a log is not known here: its lines count nowhere until it is"
            );
        }
        let is_other_zone = !known.time_zone.is_empty() && known.time_zone != told.time_zone;
        received::save_configured(connection, log_id, &told)?;
        log.configured = told;
        self.zones.remove(&log_id);
        if is_other_zone {
            self.request_rebuild(connection, log_id)?;
        }
        Ok(true)
    }

    /// Returns the time zone of a log; `None` if its name is not known here.
    pub(super) fn zone(&mut self, log_id: i64) -> Option<TimeZone> {
        let configured = self.logs.get(&log_id).map(|log| &log.configured);
        self.zones.entry(log_id).or_insert_with(|| configured?.zone()).clone()
    }

    /// Dates the streams of a stream's log anew, and of logs that follow it. `mark_before` is the stream's mark before the
    /// batch that is being placed, which is not projected yet.
    pub(super) fn date_anew(
        &mut self,
        connection: &mut dyn Connection,
        stream: &Stream,
        mark_before: u64,
    ) -> Result<(), StoreError> {
        let key = (stream.server_id, stream.fingerprint.clone());
        let mut logs = self.followers.get(&key).cloned().unwrap_or_default();
        logs.retain(|log| *log != stream.log_id);
        logs.push(stream.log_id);
        let mut changed = vec![key.clone()];
        for log in logs {
            changed.extend(self.date_log(connection, log, Some((&key, mark_before)))?);
        }
        changed.sort_unstable();
        changed.dedup();
        for other in changed {
            let archived =
                if other == key { mark_before } else { self.streams.get(&other).map_or(0, |found| found.mark) };
            self.relate(connection, &other, archived)?;
        }
        Ok(())
    }

    /// Dates the streams of a log. Returns those that are dated otherwise now.
    fn date_log(
        &mut self,
        connection: &mut dyn Connection,
        log_id: i64,
        current: Option<(&Key, u64)>,
    ) -> Result<Vec<Key>, StoreError> {
        let zone = self.zone(log_id);
        let keys = self.of_log.get(&log_id).cloned().unwrap_or_default();
        // Which stream comes before another one is told within a license server.
        let server = self.logs.get(&log_id).map(|log| log.server_id);
        let logs = self.logs.values().filter(|log| log.configured.day.is_some() && Some(log.server_id) == server);
        let mut days = Days::new(&self.streams, logs.map(|log| (log, self.streams_of(log.id).collect())));
        let dated: Vec<Option<Day>> = keys.iter().map(|key| days.of(key).filter(|_| zone.is_some())).collect();
        let mut changed = Vec::new();
        for (key, first_day) in keys.into_iter().zip(dated) {
            let Some(stream) = self.streams.get_mut(&key) else { continue };
            let before = (stream.first_day, stream.begins_at, stream.last_line_at);
            stream.first_day = first_day;
            set_moments(stream, zone.as_ref());
            if before == (stream.first_day, stream.begins_at, stream.last_line_at) {
                continue;
            }
            let archived = current.filter(|(current, _)| **current == key).map_or(stream.mark, |(_, mark)| mark);
            let is_redated = before.0 != first_day || before.1 != stream.begins_at;
            streams::save_stream(connection, stream)?;
            if is_redated && archived > 0 {
                self.request_rebuild(connection, log_id)?;
            }
            if is_redated {
                changed.push(key);
            }
        }
        if !changed.is_empty() {
            self.find_latest(log_id, current.map(|(key, _)| key));
        }
        Ok(changed)
    }

    fn streams_of(&self, log_id: i64) -> impl Iterator<Item = &Stream> {
        let keys = self.of_log.get(&log_id).map(Vec::as_slice).unwrap_or_default();
        keys.iter().filter_map(|key| self.streams.get(key))
    }

    /// Finds the last stream of a log, without the one that is being placed.
    pub(super) fn find_latest(&mut self, log_id: i64, current: Option<&Key>) {
        let keys = self.of_log.get(&log_id).map(Vec::as_slice).unwrap_or_default();
        let others = keys.iter().filter(|key| Some(*key) != current).filter_map(|key| self.streams.get(key));
        match others.filter(|stream| self.has_place(stream)).map(Stream::order).max() {
            Some(latest) => self.latest.insert(log_id, latest),
            None => self.latest.remove(&log_id),
        };
    }

    /// Dates the last line of a stream, and saves the stream.
    pub(super) fn date_last_line(&mut self, connection: &mut dyn Connection, key: &Key) -> Result<Stream, StoreError> {
        let zone = self.streams.get(key).map(|stream| stream.log_id).and_then(|log| self.zone(log));
        let gone = || StoreError::new(Failure::Permanent, "a stream is gone while a batch of it is placed");
        let stream = self.streams.get_mut(key).ok_or_else(gone)?;
        set_moments(stream, zone.as_ref());
        let is_ahead = stream.first_day.is_some() && !self.horizon.reaches(stream.begins_at);
        if let (true, true, Some(zone)) = (is_ahead, self.horizon.reaches(stream.last_line_at), &zone) {
            // The clock was wrong, and was set right: the stream's place is that of its first line that counts.
            let archived = Archived::read(connection, stream.id, stream.common_in_log, stream.mark)?;
            let (horizon, dated) = (self.horizon, stream.clone());
            let counts = |line: &LineTime| dated.moment(zone, line).is_some_and(|at| horizon.reaches(at));
            stream.begins = archived.first_line(stream.common_in_log, counts).unwrap_or(stream.begins);
            set_moments(stream, Some(zone));
        }
        streams::save_stream(connection, stream)?;
        Ok(stream.clone())
    }
}

/// Sets the moments of a stream's first and last line.
pub(super) fn set_moments(stream: &mut Stream, zone: Option<&TimeZone>) {
    let moment = |line| stream.moment(zone?, line).filter(|_| stream.mark > 0);
    let (begins, last) = (moment(&stream.begins), moment(&stream.last));
    (stream.begins_at, stream.last_line_at) = (begins.unwrap_or(0), last.unwrap_or(0));
}
