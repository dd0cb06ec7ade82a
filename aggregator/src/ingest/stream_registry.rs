//! The license servers, logs, streams and marks of the database, kept in memory.

mod dates;
mod relations;
mod servers;

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::{HashMap, HashSet};
use jiff::tz::TimeZone;
use seatmeter_count::Kind;
use seatmeter_count::name::fold_case;
use seatmeter_count::timeline::{DAY, Told};
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
use crate::store::intake::{self, Intake};
use crate::store::received::{self, Configured, Gap, LicenseServer, Log, Unrecognised};
use crate::store::streams::{self, LineTime, Stream};

/// How long after its last word an agent still speaks for a log, and for its license server, in seconds.
const SPEAKS_FOR: i64 = 300;

/// The license servers, logs and streams of the database.
pub(super) struct StreamRegistry {
    /// The last moment that counts.
    horizon: Horizon,
    servers: HashMap<String, LicenseServer>,
    logs: BTreeMap<i64, Log>,
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
    /// The agents that have sent something of a log since the start.
    readers: HashMap<i64, HashSet<String>>,
    /// The agent that told the realm of each license server.
    realm_by: HashMap<i64, String>,
    /// The agents that say otherwise of a log than the one that is heard, and were reported; of a license server, by its
    /// negative id.
    contradicted: HashSet<(i64, String)>,
    /// The place of each log's last stream.
    latest: HashMap<i64, (i64, bool, Vec<u8>)>,
    alike: CommonBeginnings,
    /// The logs whose facts must be rebuilt since [`StreamRegistry::take_rebuilds`] was last called.
    rebuilds: BTreeSet<i64>,
    next_server: i64,
    next_log: i64,
    next_stream: i64,
    last_batch: i64,
    /// What has come of each license server since [`StreamRegistry::save_intake`].
    intake: BTreeMap<i64, Intake>,
    /// The day whose old intake was forgotten.
    intake_day: i64,
}

/// For how many days it is kept what came of each license server.
const INTAKE_KEPT: i64 = 31;

/// The result of placing one batch, within its transaction.
pub(super) struct Placed {
    pub(super) outcome: Outcome,
    pub(super) expected_start_position: u64,
    /// The id of the batch in the archive; `None` if nothing of it was new.
    pub(super) batch_id: Option<i64>,
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
            readers: HashMap::new(),
            realm_by: HashMap::new(),
            contradicted: HashSet::new(),
            latest: HashMap::new(),
            alike: CommonBeginnings::default(),
            rebuilds: BTreeSet::new(),
            next_server: 0,
            next_log: 0,
            next_stream: 0,
            last_batch: 0,
            intake: BTreeMap::new(),
            intake_day: 0,
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

    /// Writes what has come of each license server.
    pub(super) fn save_intake(&mut self, connection: &mut dyn Connection, now: i64) -> Result<(), StoreError> {
        let day = now.div_euclid(DAY);
        for (server_id, more) in std::mem::take(&mut self.intake) {
            intake::add(connection, server_id, day, more)?;
        }
        if self.intake_day != day {
            intake::forget_before(connection, day - INTAKE_KEPT)?;
            self.intake_day = day;
        }
        Ok(())
    }

    /// Returns the marks of an agent's streams, with their check values; 0 for those that are not known.
    pub(super) fn marks(&self, hello: &Hello, fingerprints: &[Vec<u8>]) -> Vec<(u64, Vec<u8>)> {
        let server = self.servers.get(fold_case(&hello.license_server).as_ref()).map(|server| server.id);
        let known = |fingerprint: &Vec<u8>| self.streams.get(&(server?, fingerprint.clone()));
        let mark = |fingerprint| known(fingerprint).map(|stream| (stream.mark, stream.check.clone()));
        fingerprints.iter().map(|fingerprint| mark(fingerprint).unwrap_or_default()).collect()
    }

    /// Returns the logs whose facts must be rebuilt since the last call: that of a batch, or another one with which the
    /// batch's stream has something in common.
    pub(super) fn take_rebuilds(&mut self) -> Vec<i64> {
        std::mem::take(&mut self.rebuilds).into_iter().collect()
    }

    fn log(&mut self, connection: &mut dyn Connection, server_id: i64, name: &str) -> Result<i64, StoreError> {
        if let Some(id) = self.log_ids.get(&(server_id, name.to_owned())) {
            return Ok(*id);
        }
        self.next_log += 1;
        let log =
            Log { id: self.next_log, server_id, name: name.to_owned(), rebuilds: 0, configured: Configured::default() };
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
        let server_id = self.server(connection, &delivery.hello, now)?;
        let intake = self.intake.entry(server_id).or_default();
        intake.batches += 1;
        intake.bytes += batch.columns.len() as u64;
        // `batch::open` has refused a batch without a stream.
        let named = batch.stream.clone().unwrap_or_default();
        self.find_continued(connection, &delivery.hello, (&(server_id, named.fingerprint.clone()), batch), now)?;
        let told = Configured {
            time_zone: named.time_zone.clone(),
            day: named.configured_day,
            agent: delivery.hello.agent_id.clone(),
            poll_interval: named.poll_interval_seconds,
        };
        let after = named.after.clone();
        let mut stream = self.stream(connection, server_id, named)?;
        self.readers.entry(stream.log_id).or_default().insert(delivery.hello.agent_id.clone());
        if has_other_content(connection, &stream, delivery)? {
            let expected_start_position = stream.mark;
            return Ok(Placed { outcome: Outcome::OtherContent, expected_start_position, batch_id: None });
        }
        let mut has_news = self.note_configured(connection, stream.log_id, told, now)?;
        has_news |= self.note_after(&mut stream, after);
        self.take_back_tail(connection, &mut stream, batch)?;
        let mark_before = stream.mark;
        let known = |outcome| Placed { outcome, expected_start_position: stream.mark, batch_id: None };
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
        let batch_id = Some(self.last_batch);
        Ok(Placed { outcome, expected_start_position: stream.mark, batch_id })
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
        named: v1::Stream,
    ) -> Result<Stream, StoreError> {
        let key = (server_id, named.fingerprint);
        if let Some(stream) = self.streams.get(&key) {
            return Ok(stream.clone());
        }
        let log_id = self.log(connection, server_id, &named.log)?;
        self.next_stream += 1;
        let server = self.servers.values().find(|server| server.id == server_id);
        let realm = server.map(|server| server.realm.clone()).unwrap_or_default();
        Ok(Stream {
            id: self.next_stream,
            server_id,
            log_id,
            beginning: if named.beginning.is_empty() { key.1.clone() } else { named.beginning },
            fingerprint: key.1,
            realm,
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
            found_after: self.last_line_of(log_id),
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

    /// Returns the last moment that counts.
    pub(super) fn horizon(&self) -> Horizon {
        self.horizon
    }

    /// Moves the last moment that counts, if it is time and the clock of an agent, which is `ahead` seconds of this
    /// machine's, agrees.
    pub(super) fn move_horizon(
        &mut self,
        connection: &mut dyn Connection,
        now: i64,
        ahead: i64,
    ) -> Result<(), StoreError> {
        let Some(moved) = self.horizon.moved(now, ahead) else { return Ok(()) };
        self.horizon = moved.save(connection)?;
        // Streams get or lose their place by it.
        self.of_log.keys().copied().collect::<Vec<_>>().into_iter().for_each(|log| self.find_latest(log, None));
        Ok(())
    }

    /// Returns the moment of the last line of a log that counts, in seconds since 1970 UTC; 0 if there is none.
    fn last_line_of(&self, log_id: i64) -> i64 {
        let keys = self.of_log.get(&log_id).map(Vec::as_slice).unwrap_or_default();
        let moments = keys.iter().filter_map(|key| Some(self.streams.get(key)?.last_line_at));
        moments.filter(|at| self.horizon.reaches(*at)).max().unwrap_or(0)
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
        if self.rebuilds.insert(log_id) { received::request_rebuild(connection, log_id) } else { Ok(()) }
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
    if delivery.columns.kinds.iter().any(|kind| is_mark(*kind)) {
        for (position, event) in batch::events_of(&delivery.columns, batch.start_position, is_mark) {
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

fn is_mark(kind: u8) -> bool {
    kind >= Kind::Date as u8
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
    const UNRECOGNISED: u8 = Kind::Unrecognised as u8;
    if !columns.kinds.contains(&UNRECOGNISED) {
        return Ok(());
    }
    let mut told = batch::told_before(batch);
    for (position, event) in
        batch::events_of(columns, batch.start_position, |kind| kind == UNRECOGNISED || is_mark(kind))
    {
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
