//! Turns the events of one log into facts.

use hashbrown::HashMap;
use jiff::tz::TimeZone;
use prost::Message;
use seatmeter_count::retries::Retries;
use seatmeter_count::sessions::OpenSession;
use seatmeter_count::{ClientId, Ending, FeatureId, Kind, NO_LINE_BEFORE, Sessions, UsageSink};
use seatmeter_proto::batch;
use seatmeter_proto::v1::{Batch, Columns};

use super::horizon::Horizon;
use super::name_registry::NameRegistry;
use super::pending_facts::{PendingFacts, Stretch};
use super::silence;
use crate::store::facts::{ESTIMATED, MOMENT};
use crate::store::log_state::{Apart, LogState, StoredDenial, StoredSession, Ticks};
use crate::store::names::Client;
use crate::store::pools::Told;
use crate::store::projections::GapMoments;
use crate::store::received::longest_pause;
use crate::store::streams::Stream;

/// The state of a log's projection: its open sessions, and the denials that can still be retried.
#[derive(Default)]
pub struct LogProjection {
    sessions: Sessions,
    retries: Retries,
    levels: HashMap<FeatureId, Level>,
    /// The moment of the last dated line, in seconds since 1970 UTC.
    pub last_line_at: i64,
    /// The stream of the last batch; 0 before the first one.
    stream_id: i64,
    /// The last line of the stream before it, in seconds since 1970 UTC; 0 if there is none.
    previous_end: i64,
    /// The stream time and the moment of the stream's last line.
    last: Option<(i64, i64)>,
    /// The latest moment that counts, in seconds since 1970 UTC; 0 if there is none.
    counted_through: i64,
    /// The lines that are kept apart.
    apart: Apart,
    /// The lines of streams that are kept apart as a whole.
    apart_streams: Apart,
    ticks: Ticks,
    /// While the license manager answers in part, the moment of its last whole answer.
    partial_since: Option<i64>,
    /// The last vendor daemon that lines have named: a part of a log that names none goes on with it. Empty if none was named.
    daemon: String,
}

/// The seats of a feature in use, and the peak of the current hour.
#[derive(Clone, Copy, Default)]
struct Level {
    seats: u64,
    hour: i64,
    peak: u64,
    peak_at: i64,
}

/// A stream, and what dates its lines.
#[derive(Clone, Copy)]
pub struct Dated<'a> {
    /// The stream.
    pub stream: &'a Stream,
    /// The time zone of its log.
    pub zone: &'a TimeZone,
    /// The last moment that counts.
    pub horizon: Horizon,
}

/// The most hours that are filled in between two events of a feature. Older hours are left out, since a garbage date
/// must not fill centuries of hours.
const LONGEST_CARRY: i64 = 400 * 24;

impl LogProjection {
    /// Restores a projection from its saved state.
    pub fn restore(saved: &LogState, last_line_at: i64, registry: &mut NameRegistry) -> Self {
        let open: Vec<OpenSession> = saved
            .open()
            .map(|seat| OpenSession {
                feature: seat.feature,
                client: registry.client(seat.client),
                from: seat.from,
                seats: seat.seats,
                exited_after: seat.exited_after,
                key: seat.key,
                is_in_doubt: seat.is_in_doubt,
            })
            .collect();
        let mut levels: HashMap<FeatureId, Level> = HashMap::new();
        // A session that shares the seats of another one holds none, nor does one that is in doubt.
        for session in open.iter().filter(|session| session.seats > 0 && !session.is_in_doubt) {
            let level = levels.entry(session.feature).or_default();
            level.seats += u64::from(session.seats);
            // The hour's peak so far is in the database.
            level.hour = hour_of(last_line_at);
        }
        for (feature, hour) in saved.hour_features.iter().zip(&saved.hours) {
            levels.entry(*feature).or_default().hour = *hour;
        }
        let denied: Vec<_> =
            saved.denials().map(|denial| (denial.feature, registry.client(denial.client), denial.at)).collect();
        let retries = Retries::restore(denied);
        Self {
            sessions: Sessions::restore(open, registry.daemon_of(), saved.not_before),
            retries,
            levels,
            last_line_at,
            stream_id: saved.stream_id,
            previous_end: saved.previous_end,
            last: saved.last(),
            counted_through: saved.counted_through,
            apart: saved.apart.unwrap_or_default(),
            apart_streams: saved.apart_streams.unwrap_or_default(),
            ticks: saved.ticks.clone().unwrap_or_default(),
            partial_since: saved.partial_since,
            daemon: saved.daemon.clone(),
        }
    }

    /// Returns the encoded state, to be saved. The same state gives the same bytes.
    pub fn save(&self, registry: &NameRegistry) -> Vec<u8> {
        let mut saved = LogState::new(self.stream_id, self.previous_end, self.last);
        saved.counted_through = self.counted_through;
        saved.apart = (self.apart.lines > 0).then_some(self.apart);
        saved.apart_streams = (self.apart_streams.lines > 0).then_some(self.apart_streams);
        saved.ticks = (self.ticks.last != 0).then(|| self.ticks.clone());
        saved.daemon.clone_from(&self.daemon);
        saved.partial_since = self.partial_since;
        saved.not_before = self.sessions.not_before();
        let last_hour = hour_of(self.last_line_at);
        let is_other = |level: &Level| level.hour > last_hour || (level.hour < last_hour && level.seats > 0);
        let mut hours: Vec<(FeatureId, i64)> =
            self.levels.iter().filter(|(_, level)| is_other(level)).map(|(id, level)| (*id, level.hour)).collect();
        hours.sort_unstable();
        (saved.hour_features, saved.hours) = hours.into_iter().unzip();
        let client = |id: ClientId| registry.clients()[id as usize];
        let mut open = self.sessions.open();
        // Client ids differ from process to process. The sort is stable: the sessions of one client keep their order.
        open.sort_by_key(|session| (session.feature, client(session.client)));
        for session in open {
            let OpenSession { feature, from, seats, exited_after, key, is_in_doubt, .. } = session;
            let client = client(session.client);
            saved.push_session(StoredSession { feature, client, from, seats, exited_after, key, is_in_doubt });
        }
        let mut denied = self.retries.pending(self.last_line_at);
        denied.sort_by_key(|(feature, id, _)| (*feature, client(*id)));
        for (feature, id, at) in denied {
            saved.push_denial(StoredDenial { feature, client: client(id), at });
        }
        saved.encode_to_vec()
    }

    /// Projects the events of a batch from the position `from` on. Of a stream that nothing dates, none counts.
    pub fn take(
        &mut self,
        (batch, columns): (&Batch, &Columns),
        from: u64,
        Dated { stream, zone, horizon }: Dated<'_>,
        registry: &mut NameRegistry,
        pending: &mut PendingFacts,
    ) {
        let Some(mut timeline) = stream.timeline(zone) else { return };
        if !horizon.reaches(stream.begins_at) {
            // No line of it counts, so it has no place among the streams of its log.
            timeline.resume(batch::told_before(batch), None);
            for (position, event) in batch::events(columns, batch.start_position) {
                let is_line = event.kind != Kind::Unrecognised && !event.kind.is_mark();
                let at = if event.kind == Kind::Unrecognised { 0 } else { timeline.follow(&event) };
                if is_line && position >= from.max(stream.common_in_log) && !horizon.reaches(at) {
                    self.apart_streams.add(at, stream.found_after);
                }
            }
            return;
        }
        if batch.end_position <= stream.common_in_log {
            // All of it counts in a stream before this one.
            return;
        }
        if self.stream_id != stream.id {
            (self.stream_id, self.previous_end, self.last) = (stream.id, self.last_line_at, None);
        }
        timeline.resume(batch::told_before(batch), self.last);
        let log_id = stream.log_id;
        if batch.lost_before {
            let after = self.last.map_or(0, |(_, moment)| moment);
            let first =
                batch::events(columns, batch.start_position).find(|(_, event)| event.kind != Kind::Unrecognised);
            let before = first.map(|(_, event)| timeline.clone().follow(&event));
            let moments = GapMoments { log_id, after_at: after, before_at: before };
            pending.gap((stream.id, batch.start_position), moments);
        }
        let resolved = registry.resolve(columns, &stream.realm, &self.daemon);
        let answered_before = self.last_line_at;
        let (mut last_line_at, mut last_feature) = (self.last_line_at, None);
        let mut recorder = FactRecorder {
            log_id,
            clients: registry.clients(),
            retries: &mut self.retries,
            levels: &mut self.levels,
            pending,
        };
        for (position, mut event) in batch::events(columns, batch.start_position) {
            if event.kind == Kind::Unrecognised {
                continue;
            }
            let time = event.at;
            event.at = timeline.follow(&event);
            let is_use = event.kind.has_client() || event.kind.has_session();
            let is_use_elsewhere = position < stream.common_elsewhere && is_use;
            if position < from.max(stream.common_in_log) || is_use_elsewhere {
                continue;
            }
            if !horizon.reaches(event.at) {
                if !event.kind.is_mark() {
                    self.apart.add(event.at, last_line_at);
                }
                continue;
            }
            if let Some(silence) = silence::follow(&mut self.ticks, event.kind, event.at) {
                recorder.pending.silence(log_id, silence);
            }
            if event.kind.is_mark() {
                last_line_at = event.at;
                continue;
            }
            if self.apart.lines > 0 && self.apart.before == 0 {
                self.apart.before = event.at;
            }
            last_line_at = event.at;
            self.counted_through = self.counted_through.max(event.at);
            if event.kind.has_feature() {
                last_feature = Some(event.feature);
                event.feature = resolved.features[event.feature as usize];
            }
            if event.kind.has_client() {
                event.client = resolved.clients[event.client as usize];
            }
            if event.kind.tells_last_line() {
                event.detail = match event.detail {
                    // What was open at the end of the stream before is known to have been held no longer.
                    NO_LINE_BEFORE if self.previous_end != 0 => event.at - self.previous_end,
                    NO_LINE_BEFORE => NO_LINE_BEFORE,
                    seconds => event.at - timeline.moment_before(time.saturating_sub(seconds)),
                };
            }
            self.sessions.apply(&event, registry.daemon_of(), &mut recorder);
        }
        let named = last_feature.map(|feature| columns.feature_daemons[feature as usize]);
        let named = named.map(|daemon| columns.strings[daemon as usize].as_str());
        if let Some(named) = named.filter(|named| !named.is_empty()) {
            named.clone_into(&mut self.daemon);
        }
        let end = timeline.date(batch.last_line_time);
        self.last = Some((batch.last_line_time, end));
        if let Some(licenses) = batch.licenses.clone().filter(|_| horizon.reaches(end)) {
            pending.licenses(log_id, Told { at: end, licenses });
        }
        // As it was asked then.
        let interval = batch.stream.as_ref().map_or(0, |stream| stream.poll_interval_seconds);
        if let Some(pause) = longest_pause(interval).filter(|_| horizon.reaches(end))
            && answered_before != 0
            && end - answered_before > pause
        {
            pending.silence(log_id, (answered_before, end));
        }
        if interval > 0 && horizon.reaches(end) {
            self.follow_parts(batch.answered_in_part, (answered_before, end), log_id, pending);
        }
        self.settle(if horizon.reaches(end) { end } else { last_line_at }, log_id, pending);
    }

    /// Takes note of whether a license manager has answered in part. Once it answers wholly again, nobody knows what was missing.
    fn follow_parts(&mut self, is_partial: bool, (before, at): (i64, i64), log_id: i64, pending: &mut PendingFacts) {
        if is_partial {
            self.partial_since.get_or_insert(if before == 0 { at } else { before });
        } else if let Some(since) = self.partial_since.take() {
            pending.silence(log_id, (since, at));
        }
    }

    /// Whether facts change when the horizon moves.
    pub fn changes_with(&self, horizon: Horizon) -> bool {
        let comes_in = |apart: &Apart| horizon.reaches(apart.from) || horizon.reaches(apart.through);
        let apart = [&self.apart, &self.apart_streams].into_iter().filter(|apart| apart.lines > 0);
        apart.into_iter().any(comes_in) || (self.counted_through != 0 && !horizon.reaches(self.counted_through))
    }

    /// Sets the last dated line, and fills in the hours up to it for all seats in use. This is done once per batch and
    /// at no other time, so that the same batches give the same hours whenever facts are written.
    fn settle(&mut self, last_line_at: i64, log_id: i64, pending: &mut PendingFacts) {
        self.last_line_at = last_line_at;
        let hour = hour_of(last_line_at);
        for (feature, level) in &mut self.levels {
            level.advance(hour, |hour, peak, at| pending.peak(log_id, *feature, hour, peak, at));
            if level.peak > 0 {
                pending.peak(log_id, *feature, level.hour, level.peak, level.peak_at);
            }
        }
        // What is kept is what is saved, so that a restart makes no difference.
        self.levels.retain(|_, level| level.seats > 0 || level.hour > hour);
        self.retries.settle(last_line_at);
    }
}

fn hour_of(at: i64) -> i64 {
    at.div_euclid(3600)
}

impl Level {
    /// Advances to an hour, and calls `over` with the peak of each hour before it.
    fn advance(&mut self, hour: i64, mut over: impl FnMut(i64, u64, i64)) {
        if hour <= self.hour {
            return;
        }
        if self.peak > 0 {
            over(self.hour, self.peak, self.peak_at);
        }
        if self.seats > 0 {
            for between in (self.hour + 1).max(hour - LONGEST_CARRY)..hour {
                over(between, self.seats, between * 3600);
            }
        }
        (self.hour, self.peak, self.peak_at) = (hour, self.seats, hour * 3600);
    }
}

/// Turns session events into facts.
struct FactRecorder<'a> {
    log_id: i64,
    clients: &'a [Client],
    retries: &'a mut Retries,
    levels: &'a mut HashMap<FeatureId, Level>,
    pending: &'a mut PendingFacts,
}

impl UsageSink for FactRecorder<'_> {
    fn checkout(&mut self, feature: FeatureId, client: ClientId, at: i64, _seats: u32) {
        let Client { identity, device } = self.clients[client as usize];
        self.pending.checkout(self.log_id, feature, identity, device, at);
    }

    fn checkin(&mut self, feature: FeatureId, _client: ClientId, at: i64) {
        self.pending.checkin(self.log_id, feature, at);
    }

    fn denial(&mut self, feature: FeatureId, client: ClientId, at: i64) {
        let is_retry = self.retries.is_retry(feature, client, at);
        self.pending.denial(self.log_id, feature, at, is_retry);
    }

    fn held(&mut self, feature: FeatureId, client: ClientId, from: i64, through: i64, seats: u32, ending: Ending) {
        let Client { identity, device } = self.clients[client as usize];
        let flags = match ending {
            Ending::Checkin | Ending::StillOpen => 0,
            Ending::Implicit => ESTIMATED,
            Ending::Moment => MOMENT,
        };
        let log_id = self.log_id;
        self.pending.held(Stretch { log_id, feature, identity, device, from, through, seats, flags });
    }

    fn in_use(&mut self, feature: FeatureId, at: i64, seats: u64) {
        let level = self.levels.entry(feature).or_insert(Level { hour: hour_of(at), ..Level::default() });
        let (log_id, pending) = (self.log_id, &mut *self.pending);
        level.advance(hour_of(at), |hour, peak, at| pending.peak(log_id, feature, hour, peak, at));
        level.seats = seats;
        if seats > level.peak {
            (level.peak, level.peak_at) = (seats, at);
        }
    }
}

#[cfg(test)]
mod tests;
