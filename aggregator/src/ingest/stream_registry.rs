//! The license servers, logs, streams and marks of the database, kept in memory.

mod dates;
mod relations;

use std::collections::BTreeMap;

use hashbrown::{HashMap, HashSet};
use jiff::tz::TimeZone;
use seatmeter_count::Kind;
use seatmeter_count::name::fold_case;
use seatmeter_count::timeline::Told;
use seatmeter_proto::batch;
use seatmeter_proto::v1::{self, Batch, Columns, Hello, LineCounts};

use super::common_beginnings::CommonBeginnings;
use super::content::{Archived, Piece, compare};
use super::horizon::Horizon;
use super::marks::{Placement, place};
use super::{Delivery, Outcome};
use crate::dating::{Key, key_of};
use crate::store::StoreError;
use crate::store::engine::Connection;
use crate::store::received::{self, Configured, Gap, LicenseServer, Log, Unrecognised};
use crate::store::streams::{self, LineTime, Stream};

/// The license servers, logs and streams of the database.
pub(super) struct StreamRegistry {
    /// The last moment that counts.
    horizon: Horizon,
    servers: HashMap<String, LicenseServer>,
    pub(super) logs: BTreeMap<i64, Log>,
    log_ids: HashMap<(i64, String), i64>,
    streams: HashMap<Key, Stream>,
    /// The streams of each log.
    of_log: HashMap<i64, Vec<Key>>,
    /// The logs with a stream that certainly comes after a stream.
    followers: HashMap<Key, Vec<i64>>,
    /// The time zone of each log; `None` if it is not known here.
    zones: HashMap<i64, Option<TimeZone>>,
    /// When each agent was last heard, in seconds since 1970 UTC.
    heard: HashMap<String, i64>,
    /// The agents that say otherwise of a log than the one that is heard, and were reported.
    contradicted: HashSet<(i64, String)>,
    /// The place of each log's last stream.
    latest: HashMap<i64, (i64, bool, Vec<u8>)>,
    alike: CommonBeginnings,
    /// The logs whose facts must be rebuilt since [`StreamRegistry::take_rebuilds`] was last called.
    rebuilds: Vec<i64>,
    next_server: i64,
    next_log: i64,
    next_stream: i64,
    last_batch: i64,
}

/// The result of placing one batch, within its transaction.
pub(super) struct Placed {
    pub(super) outcome: Outcome,
    pub(super) expected_start_position: u64,
    /// The new part, which must be projected; `None` if nothing is new.
    pub(super) new: Option<NewPart>,
}

/// The new part of a batch, once archived.
pub(super) struct NewPart {
    /// The batch's id in the archive.
    pub(super) batch_id: i64,
    pub(super) stream: Stream,
    /// Events before this position are in an earlier batch.
    pub(super) from: u64,
}

impl StreamRegistry {
    /// Creates a registry that has read nothing yet.
    pub(super) fn empty(horizon: Horizon) -> Self {
        Self {
            horizon,
            servers: HashMap::new(),
            logs: BTreeMap::new(),
            log_ids: HashMap::new(),
            streams: HashMap::new(),
            of_log: HashMap::new(),
            followers: HashMap::new(),
            zones: HashMap::new(),
            heard: HashMap::new(),
            contradicted: HashSet::new(),
            latest: HashMap::new(),
            alike: CommonBeginnings::default(),
            rebuilds: Vec::new(),
            next_server: 0,
            next_log: 0,
            next_stream: 0,
            last_batch: 0,
        }
    }

    pub(super) fn load(connection: &mut dyn Connection, horizon: Horizon) -> Result<Self, StoreError> {
        let last_batch = received::last_batch_id(connection)?;
        let alike = CommonBeginnings::load(connection)?;
        let mut received = Self { last_batch, alike, ..Self::empty(horizon) };
        for server in received::servers(connection)? {
            received.next_server = received.next_server.max(server.id);
            received.servers.insert(server.key.clone(), server);
        }
        for log in received::logs(connection)? {
            received.next_log = received.next_log.max(log.id);
            received.log_ids.insert((log.server_id, log.name.clone()), log.id);
            received.logs.insert(log.id, log);
        }
        for stream in streams::streams(connection)? {
            received.next_stream = received.next_stream.max(stream.id);
            // Streams come ordered by log, then by their beginning: the last one of each log stays.
            if received.has_place(&stream) {
                received.latest.insert(stream.log_id, stream.order());
            }
            received.put(stream);
        }
        Ok(received)
    }

    /// Returns the id of the license server that an agent reports for. Adds a new server, and saves a changed realm.
    pub(super) fn server(&mut self, connection: &mut dyn Connection, hello: &Hello) -> Result<i64, StoreError> {
        let key = fold_case(&hello.license_server);
        if let Some(known) = self.servers.get_mut(key.as_ref()) {
            if known.realm != hello.realm {
                known.realm.clone_from(&hello.realm);
                received::save_server(connection, known)?;
            }
            return Ok(known.id);
        }
        self.next_server += 1;
        let server = LicenseServer {
            id: self.next_server,
            name: hello.license_server.clone(),
            key: key.into_owned(),
            realm: hello.realm.clone(),
        };
        received::save_server(connection, &server)?;
        self.servers.insert(server.key.clone(), server);
        Ok(self.next_server)
    }

    /// Returns the marks of an agent's streams; 0 for those that are not known.
    pub(super) fn marks(&self, hello: &Hello, fingerprints: &[Vec<u8>]) -> Vec<u64> {
        let server = self.servers.get(fold_case(&hello.license_server).as_ref()).map(|server| server.id);
        let mark = |fingerprint: &Vec<u8>| self.streams.get(&(server?, fingerprint.clone())).map(|stream| stream.mark);
        fingerprints.iter().map(|fingerprint| mark(fingerprint).unwrap_or(0)).collect()
    }

    /// Returns the logs whose facts must be rebuilt since the last call: that of a batch, or another one with which the
    /// batch's stream has something in common.
    pub(super) fn take_rebuilds(&mut self) -> Vec<i64> {
        std::mem::take(&mut self.rebuilds)
    }

    fn log(&mut self, connection: &mut dyn Connection, server_id: i64, name: &str) -> Result<i64, StoreError> {
        if let Some(id) = self.log_ids.get(&(server_id, name.to_owned())) {
            return Ok(*id);
        }
        self.next_log += 1;
        let log = Log {
            id: self.next_log,
            server_id,
            name: name.to_owned(),
            last_line_at: 0,
            projected_through: 0,
            needs_rebuild: false,
            state: Vec::new(),
            configured: Configured::default(),
        };
        received::add_log(connection, &log)?;
        self.log_ids.insert((server_id, name.to_owned()), log.id);
        self.logs.insert(log.id, log);
        Ok(self.next_log)
    }

    /// Archives the new part of a batch and advances its stream's mark, within the caller's transaction.
    pub(super) fn place(
        &mut self,
        connection: &mut dyn Connection,
        delivery: &Delivery,
        now: i64,
    ) -> Result<Placed, StoreError> {
        let batch = &delivery.batch;
        let server_id = self.server(connection, &delivery.hello)?;
        // `batch::open` has refused a batch without a stream.
        let named = batch.stream.clone().unwrap_or_default();
        let told = Configured {
            time_zone: named.time_zone.clone(),
            day: named.configured_day,
            agent: delivery.hello.agent_id.clone(),
        };
        let after = named.after.clone();
        let mut stream = self.stream(connection, server_id, &delivery.hello.realm, named)?;
        if has_other_content(connection, &stream, delivery)? {
            let expected_start_position = stream.mark;
            return Ok(Placed { outcome: Outcome::OtherContent, expected_start_position, new: None });
        }
        let mut has_news = self.note_configured(connection, stream.log_id, told, now)?;
        has_news |= self.note_after(&mut stream, after);
        self.take_back_tail(connection, &mut stream, batch)?;
        let mark_before = stream.mark;
        let known = |outcome| Placed { outcome, expected_start_position: stream.mark, new: None };
        let (outcome, from) = match place(stream.mark, batch) {
            placement @ (Placement::Gap | Placement::Duplicate) => {
                let outcome = if placement == Placement::Gap { Outcome::Gap } else { Outcome::Duplicate };
                let placed = known(outcome);
                if has_news && mark_before > 0 {
                    self.put(stream.clone());
                    self.date_anew(connection, &stream, mark_before)?;
                }
                return Ok(placed);
            }
            Placement::Trimmed => (Outcome::Trimmed, stream.mark),
            Placement::New { lost } => {
                if lost > 0 {
                    received::add_gap(connection, &gap_before(&stream, batch, now), now)?;
                }
                (Outcome::Committed, batch.start_position)
            }
        };
        self.last_batch += 1;
        received::archive(connection, self.last_batch, stream.id, from, now, batch)?;
        keep_samples(connection, stream.id, batch, &delivery.columns)?;
        has_news |= advance(&mut stream, delivery, matches!(outcome, Outcome::Committed));
        let key = (server_id, stream.fingerprint.clone());
        has_news |= mark_before == 0 || self.followers.contains_key(&key);
        self.put(stream.clone());
        if has_news {
            self.date_anew(connection, &stream, mark_before)?;
        } else {
            self.relate(connection, &key, mark_before)?;
        }
        let stream = self.date_last_line(connection, &key)?;
        self.note_order(connection, &stream)?;
        let expected_start_position = stream.mark;
        Ok(Placed { outcome, expected_start_position, new: Some(NewPart { batch_id: self.last_batch, stream, from }) })
    }

    /// Adds or replaces a stream.
    fn put(&mut self, stream: Stream) {
        let key = key_of(&stream);
        if !self.streams.contains_key(&key) {
            self.of_log.entry(stream.log_id).or_default().push(key.clone());
            self.alike.add(&stream);
        }
        if !stream.after.is_empty() {
            let logs = self.followers.entry((stream.server_id, stream.after.clone())).or_default();
            if !logs.contains(&stream.log_id) {
                logs.push(stream.log_id);
            }
        }
        self.streams.insert(key, stream);
    }

    /// Takes note of the stream that certainly comes before another one. Returns whether that is news.
    fn note_after(&self, stream: &mut Stream, after: Vec<u8>) -> bool {
        let is_news = !after.is_empty() && after != stream.fingerprint && stream.after != after;
        if is_news {
            stream.after = after;
        }
        is_news
    }

    /// Returns the stream that a batch names: a known one, or a new one that the caller must save.
    fn stream(
        &mut self,
        connection: &mut dyn Connection,
        server_id: i64,
        realm: &str,
        named: v1::Stream,
    ) -> Result<Stream, StoreError> {
        let key = (server_id, named.fingerprint);
        if let Some(stream) = self.streams.get(&key) {
            return Ok(stream.clone());
        }
        let log_id = self.log(connection, server_id, &named.log)?;
        self.next_stream += 1;
        Ok(Stream {
            id: self.next_stream,
            server_id,
            log_id,
            beginning: if named.beginning.is_empty() { key.1.clone() } else { named.beginning },
            fingerprint: key.1,
            realm: realm.to_owned(),
            mark: 0,
            lines: [0; 3],
            check: Vec::new(),
            common_in_log: 0,
            common_elsewhere: 0,
            first_line_time: named.first_line_time,
            after: Vec::new(),
            told_day: None,
            told_position: 0,
            given_day: None,
            found_after: self.logs.get(&log_id).map_or(0, |log| log.last_line_at),
            begins: LineTime { time: named.first_line_time, told: Told::default() },
            last: LineTime::default(),
            first_day: None,
            begins_at: 0,
            last_line_at: 0,
        })
    }

    /// Deletes a stream's last batch if the new batch replaces it: the last line had no line feed then, and has grown.
    fn take_back_tail(
        &mut self,
        connection: &mut dyn Connection,
        stream: &mut Stream,
        batch: &Batch,
    ) -> Result<(), StoreError> {
        // The same batch sent again ends at the mark: it is known, and replaces nothing.
        let is_longer = batch.replaces_tail && batch.end_position > stream.mark;
        if !is_longer {
            return Ok(());
        }
        let last = received::last_batch(connection, stream.id)?;
        if let Some(tail) = last.filter(|last| (last.start, last.end) == (batch.start_position, stream.mark)) {
            received::drop_batches_from(connection, stream.id, batch.start_position)?;
            self.alike.forget(connection, stream)?;
            stream.check.clone_from(&batch.start_check);
            // Its lines are read again, and counted then.
            for (sum, count) in stream.lines.iter_mut().zip(by_outcome(&tail.lines)) {
                *sum = sum.saturating_sub_unsigned(count).max(0);
            }
            stream.mark = batch.start_position;
            self.request_rebuild(connection, stream.log_id)?;
        }
        Ok(())
    }

    /// Whether a stream has a place among those of its log: whether a line of it counts.
    fn has_place(&self, stream: &Stream) -> bool {
        stream.first_day.is_some() && self.horizon.reaches(stream.begins_at)
    }

    /// Moves the last moment that counts. The facts of these logs change by it.
    pub(super) fn move_horizon(
        &mut self,
        connection: &mut dyn Connection,
        horizon: Horizon,
        logs: Vec<i64>,
    ) -> Result<(), StoreError> {
        self.horizon = horizon;
        logs.into_iter().try_for_each(|log| self.request_rebuild(connection, log))
    }

    /// Records that a batch of this stream came. If a batch of a later stream came before it, the batch is out of the
    /// log's order, and the log's facts must be rebuilt.
    fn note_order(&mut self, connection: &mut dyn Connection, stream: &Stream) -> Result<(), StoreError> {
        if !self.has_place(stream) {
            return Ok(());
        }
        let order = stream.order();
        match self.latest.get(&stream.log_id) {
            Some(latest) if *latest > order => self.request_rebuild(connection, stream.log_id),
            _ => {
                self.latest.insert(stream.log_id, order);
                Ok(())
            }
        }
    }

    fn request_rebuild(&mut self, connection: &mut dyn Connection, log_id: i64) -> Result<(), StoreError> {
        match self.logs.get_mut(&log_id) {
            Some(log) if !log.needs_rebuild => {
                received::request_rebuild(connection, log_id)?;
                log.needs_rebuild = true;
                self.rebuilds.push(log_id);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Moves a stream's mark to the end of a batch. The line counts of a partly known batch cannot be divided, and are not
/// added: the lines counted with the batch before. Returns whether the stream tells its first date in this batch.
fn advance(stream: &mut Stream, delivery: &Delivery, is_whole: bool) -> bool {
    let batch = &delivery.batch;
    stream.mark = batch.end_position;
    stream.check.clone_from(&batch.end_check);
    if let (Some(lines), true) = (&batch.lines, is_whole) {
        for (sum, count) in stream.lines.iter_mut().zip(by_outcome(lines)) {
            *sum = sum.saturating_add_unsigned(count);
        }
    }
    let mut told = batch::told_before(batch);
    let mut first_date = told.first_day.map(|day| (day, batch.start_position));
    if delivery.columns.kinds.iter().any(|kind| *kind >= Kind::Date as u8) {
        for (position, event) in batch::events(&delivery.columns, batch.start_position) {
            told.take(&event);
            first_date = first_date.or(told.first_day.map(|day| (day, position)));
        }
    }
    stream.last = LineTime { time: batch.last_line_time, told };
    match (stream.told_day, first_date) {
        (None, Some((day, position))) => {
            (stream.told_day, stream.told_position) = (Some(day), position);
            true
        }
        _ => false,
    }
}

/// Returns the gap between the mark of a stream and a batch. When its lines were written is known once they are
/// projected.
fn gap_before(stream: &Stream, batch: &Batch, now: i64) -> Gap {
    let after_at = stream.last_line_at.max(stream.begins_at);
    Gap { stream_id: stream.id, start: stream.mark, end: batch.start_position, after_at, before_at: now }
}

/// Whether a batch is of another stream than the one that has its name: what both say of the same positions differs.
fn has_other_content(
    connection: &mut dyn Connection,
    stream: &Stream,
    delivery: &Delivery,
) -> Result<bool, StoreError> {
    let batch = &delivery.batch;
    let differ = |ours: &[u8], theirs: &[u8]| !ours.is_empty() && !theirs.is_empty() && ours != theirs;
    let to = stream.mark.min(batch.end_position);
    if batch.start_position >= to {
        return Ok(batch.start_position == stream.mark && differ(&stream.check, &batch.start_check));
    }
    if batch.replaces_tail && batch.end_position > stream.mark {
        // What it replaces is not to be compared.
        let last = received::last_batch(connection, stream.id)?;
        return Ok(last
            .is_some_and(|last| last.start == batch.start_position && differ(&last.start_check, &batch.start_check)));
    }
    if batch.end_position == stream.mark && !stream.check.is_empty() && !batch.end_check.is_empty() {
        return Ok(stream.check != batch.end_check);
    }
    let archived = Archived::read(connection, stream.id, batch.start_position, to)?;
    let sent = Piece::whole(batch, &delivery.columns);
    Ok(compare(&[sent], &archived.pieces(), batch.start_position, to).parted)
}

fn by_outcome(lines: &LineCounts) -> [u64; 3] {
    [lines.events, lines.ignored, lines.unrecognised]
}

/// Saves the samples of unrecognised lines in a batch.
fn keep_samples(
    connection: &mut dyn Connection,
    stream_id: i64,
    batch: &Batch,
    columns: &Columns,
) -> Result<(), StoreError> {
    let mut told = batch::told_before(batch);
    for (position, event) in batch::events(columns, batch.start_position) {
        told.take(&event);
        let line = if event.kind == Kind::Unrecognised { &*columns.strings[event.client as usize] } else { "" };
        if !line.is_empty() {
            let previous = LineTime { time: event.at, told };
            let sample = Unrecognised { stream_id, position, previous, line: line.to_owned() };
            received::add_unrecognised(connection, &sample)?;
        }
    }
    Ok(())
}
