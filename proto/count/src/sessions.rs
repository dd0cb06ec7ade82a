//! Pairs checkins with checkouts, and ends the sessions that have no checkin.
//!
//! The rules, in the order of the log:
//!
//! - A checkout opens a session of its (feature, client). A checkin ends the oldest open session of the same (feature,
//!   client), whatever the numbers of seats; brackets and displays do not matter.
//! - A checkin without an open session proves only that its user held a seat at that moment.
//! - An upgrade also proves that its user held seats at that moment. It changes the seats of the newest open session.
//! - Where the license manager numbers its sessions, the number pairs them, whatever names the checkin tells; a name that it
//!   alone tells was used at that moment. A number that is given out anew ends the session that had it.
//! - Seats reported as in use are those of an open session with that number, or open one, which is no checkout.
//! - A record tells a whole session, and is believed: it ends the session that is open with its number, or adds one. Of
//!   the time before the last answer of an earlier run, which could have told it, only who held seats counts, and no seats.
//! - An answer of a license manager that states all that is in use ends what it does not state. When that ended is known no
//!   better than by the answer before it, which still stated it: it was held until then. While the answer is not at its end, the seats
//!   in use are those that it has stated.
//! - Sessions that share one seat take it once: it is the first one's, and goes on to another one at its end.
//! - The start of the license manager ends all open sessions; the start of a vendor daemon ends those of that daemon.
//!   They end at the time of the last line before the start, since nothing later is known.
//! - An exit ends no session, because checkins may follow it. But what is still open when the daemon starts again, or at
//!   the end of the log, ended at the exit.
//! - Nobody holds a seat for more than five years: such a session was opened, or ended, by a clock that was wrong. It counts
//!   when it was opened, and when it was checked in.
//! - No session ends before it begins: if the clock was set back, the session ends at the moment it began.

mod answers;
mod numbered;

use std::collections::VecDeque;
use std::num::NonZero;

use hashbrown::HashMap;

use crate::event::{ClientId, Event, FeatureId, Kind, NO_LINE_BEFORE, RecordKey, SessionKey};
use numbered::{Numbered, NumberedSession};

/// How a session ended. [`Ending::Moment`] is use without a known session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// A checkin ended the session.
    Checkin,
    /// The daemon or manager restarted. The session ended no later than the given moment.
    Implicit,
    /// The session is still open at the end of the log.
    StillOpen,
    /// Only a moment of use is known: a checkin without a checkout, or an upgrade.
    Moment,
}

/// Receives the facts that follow from events. Each call is one fact; facts add up in any order.
pub trait UsageSink {
    /// A checkout line: the client took seats at this moment.
    fn checkout(&mut self, feature: FeatureId, client: ClientId, at: i64, seats: u32);
    /// A checkin line.
    fn checkin(&mut self, feature: FeatureId, client: ClientId, at: i64);
    /// A denial line.
    fn denial(&mut self, feature: FeatureId, client: ClientId, at: i64);
    /// The client held `seats` seats from one moment through another, both included.
    fn held(&mut self, feature: FeatureId, client: ClientId, from: i64, through: i64, seats: u32, ending: Ending);
    /// From this moment on, this many seats of the feature are in use.
    fn in_use(&mut self, feature: FeatureId, at: i64, seats: u64);
}

/// A session that has not ended yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpenSession {
    /// The feature.
    pub feature: FeatureId,
    /// The client that holds the seats.
    pub client: ClientId,
    /// The start of the session, in seconds since 1970 UTC.
    pub from: i64,
    /// The number of seats that the session holds now.
    pub seats: u32,
    /// The seconds from the start to the first exit of the daemon since; `None` if it has not ended.
    pub exited_after: Option<u32>,
    /// The [`SessionKey`] as an event's detail; 0 if the license manager gives none.
    pub key: i64,
    /// Whether an answer has begun that has not stated the session yet.
    pub is_in_doubt: bool,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    from: i64,
    seats: u32,
    /// The seconds from the start to the first exit of the daemon since; [`RUNS`] if it has not ended.
    exited_after: u32,
}

/// The daemon of a session has not ended since it began.
const RUNS: u32 = u32::MAX;

impl Held {
    fn new(from: i64, seats: u32) -> Self {
        Self { from, seats, exited_after: RUNS }
    }

    fn exited_after(&self) -> Option<u32> {
        Some(self.exited_after).filter(|seconds| *seconds != RUNS)
    }

    /// Notes an exit of the daemon, if it is the first one since the session began.
    fn note_exit(&mut self, at: i64) {
        if self.exited_after == RUNS {
            // An exit 136 years after the checkout is as good as none.
            self.exited_after = u32::try_from((at - self.from).max(0)).unwrap_or(RUNS);
        }
    }

    /// Takes over the seats of a session that has ended. From then on, they are held by this one.
    fn hand_over(&mut self, at: i64, seats: u32) {
        let exit = self.exited_after().map(|seconds| self.from + i64::from(seconds));
        *self = Self::new(at.max(self.from), seats);
        if let Some(exit) = exit {
            self.note_exit(exit);
        }
    }

    /// Returns the end of a session that nothing is known of after `through`.
    fn ends_at(&self, through: i64) -> i64 {
        let exit = if self.exited_after == RUNS { i64::MAX } else { self.from + i64::from(self.exited_after) };
        held_through(self.from, through.min(exit))
    }
}

/// The longest time for which a seat is held, in seconds: five years.
pub const LONGEST_HELD: i64 = 5 * 366 * 86_400;

/// Returns the last moment through which a session was held that was opened at a moment, and is known of until another one.
pub fn held_through(from: i64, through: i64) -> i64 {
    if through.saturating_sub(from) > LONGEST_HELD { from } else { through.max(from) }
}

/// The open sessions of one (feature, client). There is nearly always only one, which needs no queue.
#[derive(Clone, Debug)]
struct Queue {
    oldest: Held,
    /// The newer sessions, oldest first. Boxed, because it is nearly always `None` and every entry pays for its size.
    #[allow(clippy::box_collection)]
    later: Option<Box<VecDeque<Held>>>,
}

/// The open sessions of one log.
#[derive(Clone, Debug, Default)]
pub struct Sessions {
    open: HashMap<(FeatureId, ClientId), Queue>,
    /// Those that the license manager numbers.
    numbered: Numbered,
    in_use: Vec<u64>,
    /// While an answer is not at its end, the moment of the answer before it: what that one did not state began no earlier.
    not_before: Option<i64>,
    /// The answers that have begun, and whether the last one is not at its end.
    answers: u32,
    is_answering: bool,
}

impl Sessions {
    /// Applies the next event of the log and sends the resulting facts to `sink`. `daemon_of` maps each feature to a
    /// number for its daemon; any numbering will do.
    pub fn apply(&mut self, event: &Event, daemon_of: &[u32], sink: &mut impl UsageSink) {
        let Event { kind, at, feature, client, seats, detail } = *event;
        if let (Kind::Recorded, Some(record)) = (kind, RecordKey::in_detail(detail)) {
            return self.record(event, record, daemon_of, sink);
        }
        let is_numbered = kind.has_session() && detail != 0;
        if let Some(key) = SessionKey::in_detail(detail).filter(|_| is_numbered) {
            return self.apply_numbered(event, key, daemon_of, sink);
        }
        match kind {
            Kind::Checkout => {
                sink.checkout(feature, client, at, seats);
                self.push(feature, client, Held::new(at, seats));
                self.change_in_use(feature, at, i64::from(seats), sink);
            }
            Kind::Checkin => {
                sink.checkin(feature, client, at);
                match self.pop(feature, client) {
                    Some(held) => {
                        let through = held_through(held.from, at);
                        sink.held(feature, client, held.from, through, held.seats, Ending::Checkin);
                        if through < at {
                            sink.held(feature, client, at, at, held.seats, Ending::Moment);
                        }
                        self.change_in_use(feature, at, -i64::from(held.seats), sink);
                    }
                    None => sink.held(feature, client, at, at, seats, Ending::Moment),
                }
            }
            Kind::Upgrade => {
                sink.held(feature, client, at, at, seats, Ending::Moment);
                if let Some(queue) = self.open.get_mut(&(feature, client)) {
                    let newest = queue.newest();
                    let change = i64::from(seats) - i64::from(newest.seats);
                    newest.seats = seats;
                    self.change_in_use(feature, at, change, sink);
                }
            }
            Kind::Denial => sink.denial(feature, client, at),
            Kind::Used => sink.held(feature, client, at, at, seats, Ending::Moment),
            Kind::ManagerStart => self.end_all(last_line_before(at, detail), Ending::Implicit, sink),
            Kind::DaemonStart => {
                let daemon = daemon_of.get(feature as usize).copied();
                let through = last_line_before(at, detail);
                self.end_where(through, Ending::Implicit, sink, |f| daemon_of.get(f as usize).copied() == daemon);
            }
            Kind::ManagerExit => self.note_exit(at, |_| true),
            Kind::DaemonExit => {
                let daemon = daemon_of.get(feature as usize).copied();
                self.note_exit(at, |f| daemon_of.get(f as usize).copied() == daemon);
            }
            Kind::Queued | Kind::Dequeued | Kind::InUse | Kind::Unsupported | Kind::Unrecognised => {}
            Kind::AnswerBegin => {
                self.doubt_all(last_line_before(at, detail).min(at), sink);
                self.not_before = (detail != NO_LINE_BEFORE).then(|| last_line_before(at, detail).min(at));
            }
            Kind::AnswerEnd => {
                if self.is_answering {
                    self.end_doubtful(last_line_before(at, detail).min(at), sink);
                }
                (self.not_before, self.is_answering) = (None, false);
            }
            // Without a key, it names nothing.
            Kind::SessionEnd | Kind::NoLongerInUse | Kind::Recorded | Kind::RecordEnd => {}
            Kind::Date | Kind::Offset | Kind::Clock => {}
        }
    }

    /// Applies an event of a session that the license manager numbers.
    fn apply_numbered(&mut self, event: &Event, key: SessionKey, daemon_of: &[u32], sink: &mut impl UsageSink) {
        let Event { kind, at, feature, client, seats, .. } = *event;
        // A feature without a daemon shares its numbers with nobody.
        let daemon = daemon_of.get(feature as usize).copied().unwrap_or(u32::MAX);
        match kind {
            Kind::Checkout => {
                sink.checkout(feature, client, at, seats);
                self.begin((daemon, key), (feature, client), at, seats, sink);
            }
            Kind::InUse => {
                let known = self.numbered.get_mut(daemon, key.own);
                let is_same = |known: &&mut NumberedSession| {
                    // One that shares another one's seats holds none.
                    let has_seats = known.key.shared != known.key.own || known.held.seats == seats;
                    (known.feature, known.client) == (feature, client) && has_seats
                };
                if known.filter(is_same).is_some() {
                    self.state_again((daemon, key.own), at, sink);
                } else {
                    let at = self.not_before.map_or(at, |before| at.max(before));
                    sink.held(feature, client, at, at, seats, Ending::Moment);
                    self.begin((daemon, key), (feature, client), at, seats, sink);
                }
            }
            Kind::Checkin => {
                sink.checkin(feature, client, at);
                let ended = self.finish((daemon, key.own), at, Ending::Checkin, sink);
                if ended != Some((feature, client)) {
                    sink.held(feature, client, at, at, seats, Ending::Moment);
                }
            }
            Kind::NoLongerInUse => drop(self.finish((daemon, key.own), at, Ending::Implicit, sink)),
            Kind::RecordEnd => drop(self.finish((daemon, key.own), at, Ending::Checkin, sink)),
            _ => {
                if let Some((feature, client)) = self.finish((daemon, key.own), at, Ending::Checkin, sink) {
                    sink.checkin(feature, client, at);
                }
            }
        }
    }

    /// Takes the beginning of a session that a record tells of. Its end follows, where the session is open.
    fn record(&mut self, event: &Event, record: RecordKey, daemon_of: &[u32], sink: &mut impl UsageSink) {
        let Event { at, feature, client, seats, .. } = *event;
        let daemon = daemon_of.get(feature as usize).copied().unwrap_or(u32::MAX);
        let ends_at = at.saturating_add(i64::from(record.seconds));
        let known = self.numbered.get_mut(daemon, record.own);
        if known.is_some_and(|known| (known.feature, known.client) == (feature, client)) {
            self.state_again((daemon, record.own), at, sink);
        } else if self.not_before.is_some_and(|before| ends_at <= before) {
            // An earlier run has told it, or it has become visible late: it was used all the while, by its own seats or none.
            sink.held(feature, client, at, held_through(at, ends_at), 0, Ending::Checkin);
        } else {
            let from = self.not_before.map_or(at, |before| at.max(before));
            if from > at {
                sink.held(feature, client, at, held_through(at, from), 0, Ending::Checkin);
            }
            let key = SessionKey { own: record.own, shared: record.own };
            self.begin((daemon, key), (feature, client), from, seats, sink);
        }
    }

    /// Opens a session with a number. If another one has it, that one has ended.
    fn begin(
        &mut self,
        (daemon, key): (u32, SessionKey),
        (feature, client): (FeatureId, ClientId),
        at: i64,
        seats: u32,
        sink: &mut impl UsageSink,
    ) {
        self.finish((daemon, key.own), at, Ending::Implicit, sink);
        let holder = self.numbered.holder(daemon, key);
        let seats = if holder.is_some() { 0 } else { seats };
        let key = SessionKey { shared: holder.unwrap_or(key.own), ..key };
        let held = Held::new(at, seats);
        let stated_by = self.answers;
        self.numbered.insert(daemon, NumberedSession { feature, client, key, held, stated_by });
        self.change_in_use(feature, at, i64::from(seats), sink);
    }

    /// Ends the session with a number, and returns whose it was; `None` if no session has it.
    fn finish(
        &mut self,
        (daemon, own): (u32, NonZero<u32>),
        at: i64,
        ending: Ending,
        sink: &mut impl UsageSink,
    ) -> Option<(FeatureId, ClientId)> {
        let answer = self.is_answering.then_some(self.answers);
        let (ended, heir) = self.numbered.remove(daemon, own)?;
        let counts = ended.counts(answer);
        let NumberedSession { feature, client, held, .. } = ended;
        let through = held_through(held.from, at);
        sink.held(feature, client, held.from, through, held.seats, ending);
        if through < at {
            sink.held(feature, client, at, at, held.seats, Ending::Moment);
        }
        let heir_feature = heir.map(|heir| {
            let from = heir.held.from;
            heir.held.hand_over(at, held.seats);
            sink.held(heir.feature, heir.client, from, held_through(from, at), 0, ending);
            heir.counts(answer).then_some(heir.feature)
        });
        if counts {
            self.change_in_use(feature, at, -i64::from(held.seats), sink);
        }
        if let Some(Some(heir_feature)) = heir_feature {
            self.change_in_use(heir_feature, at, i64::from(held.seats), sink);
        }
        Some((feature, client))
    }

    /// Ends all open sessions at the moment `through`.
    pub fn end_all(&mut self, through: i64, ending: Ending, sink: &mut impl UsageSink) {
        self.end_where(through, ending, sink, |_| true);
    }

    /// Returns the open sessions, in an order from which [`Sessions::restore`] recreates the same state.
    pub fn open(&self) -> Vec<OpenSession> {
        let mut sessions = Vec::with_capacity(self.open.len());
        for (&(feature, client), queue) in &self.open {
            let later = queue.later.iter().flat_map(|later| later.iter());
            sessions.extend(std::iter::once(&queue.oldest).chain(later).map(|held| OpenSession {
                feature,
                client,
                from: held.from,
                seats: held.seats,
                exited_after: held.exited_after(),
                key: 0,
                is_in_doubt: false,
            }));
        }
        sessions.extend(self.numbered.iter().map(|session| OpenSession {
            feature: session.feature,
            client: session.client,
            from: session.held.from,
            seats: session.held.seats,
            exited_after: session.held.exited_after(),
            key: session.key.detail(),
            is_in_doubt: self.is_answering && session.stated_by != self.answers,
        }));
        // A stable sort: sessions of one client without keys keep their order, which may differ from the order of their
        // starts.
        sessions.sort_by_key(|session| (session.feature, session.client, session.key));
        sessions
    }

    /// Returns the moment before which no session begins that is stated for the first time, while an answer is not at its end.
    pub fn not_before(&self) -> Option<i64> {
        self.not_before
    }

    /// Recreates the state from what [`Sessions::open`] and [`Sessions::not_before`] returned.
    pub fn restore(open: impl IntoIterator<Item = OpenSession>, daemon_of: &[u32], not_before: Option<i64>) -> Self {
        let mut sessions = Self { not_before, answers: 1, is_answering: not_before.is_some(), ..Self::default() };
        for OpenSession { feature, client, from, seats, exited_after, key, is_in_doubt } in open {
            let held = Held { from, seats, exited_after: exited_after.unwrap_or(RUNS) };
            match SessionKey::in_detail(key) {
                None => sessions.push(feature, client, held),
                Some(key) => {
                    let daemon = daemon_of.get(feature as usize).copied().unwrap_or(u32::MAX);
                    sessions.is_answering |= is_in_doubt;
                    let stated_by = if is_in_doubt { 0 } else { sessions.answers };
                    sessions.numbered.insert(daemon, NumberedSession { feature, client, key, held, stated_by });
                }
            }
            if !is_in_doubt {
                *sessions.in_use_of(feature) += u64::from(seats);
            }
        }
        sessions
    }

    /// Returns the number of open sessions.
    pub fn len(&self) -> usize {
        let unnumbered = self.open.values().map(|queue| 1 + queue.later.as_ref().map_or(0, |later| later.len()));
        unnumbered.sum::<usize>() + self.numbered.len()
    }

    /// Returns whether no session is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn push(&mut self, feature: FeatureId, client: ClientId, held: Held) {
        self.open
            .entry((feature, client))
            .and_modify(|queue| queue.later.get_or_insert_default().push_back(held))
            .or_insert(Queue { oldest: held, later: None });
    }

    fn pop(&mut self, feature: FeatureId, client: ClientId) -> Option<Held> {
        let mut entry = match self.open.entry((feature, client)) {
            hashbrown::hash_map::Entry::Occupied(entry) => entry,
            hashbrown::hash_map::Entry::Vacant(_) => return None,
        };
        let queue = entry.get_mut();
        let oldest = queue.oldest;
        match queue.later.as_mut().and_then(|later| later.pop_front()) {
            Some(next) => queue.oldest = next,
            None => _ = entry.remove(),
        }
        Some(oldest)
    }

    fn end_where(&mut self, through: i64, ending: Ending, sink: &mut impl UsageSink, ends: impl Fn(FeatureId) -> bool) {
        for ((feature, client), queue) in self.open.extract_if(|(feature, _), _| ends(*feature)) {
            let later = queue.later.iter().flat_map(|later| later.iter());
            for held in std::iter::once(&queue.oldest).chain(later) {
                sink.held(feature, client, held.from, held.ends_at(through), held.seats, ending);
            }
        }
        for NumberedSession { feature, client, held, .. } in self.numbered.extract(&ends) {
            sink.held(feature, client, held.from, held.ends_at(through), held.seats, ending);
        }
        for feature in 0..self.in_use.len() as FeatureId {
            let seats = self.in_use_of(feature);
            if *seats > 0 && ends(feature) {
                *seats = 0;
                sink.in_use(feature, through, 0);
            }
        }
    }

    /// Notes the exit of the daemons of some features, for the sessions that are open now.
    fn note_exit(&mut self, at: i64, ends: impl Fn(FeatureId) -> bool) {
        for (_, queue) in self.open.iter_mut().filter(|((feature, _), _)| ends(*feature)) {
            let later = queue.later.iter_mut().flat_map(|later| later.iter_mut());
            std::iter::once(&mut queue.oldest).chain(later).for_each(|held| held.note_exit(at));
        }
        for session in self.numbered.iter_mut().filter(|session| ends(session.feature)) {
            session.held.note_exit(at);
        }
    }

    fn change_in_use(&mut self, feature: FeatureId, at: i64, change: i64, sink: &mut impl UsageSink) {
        let seats = self.in_use_of(feature);
        *seats = seats.saturating_add_signed(change);
        sink.in_use(feature, at, *seats);
    }

    fn in_use_of(&mut self, feature: FeatureId) -> &mut u64 {
        let index = feature as usize;
        if self.in_use.len() <= index {
            self.in_use.resize(index + 1, 0);
        }
        &mut self.in_use[index]
    }
}

/// Returns the moment of the last line before a start.
fn last_line_before(at: i64, detail: i64) -> i64 {
    if detail == NO_LINE_BEFORE { at } else { at.saturating_sub(detail) }
}

impl Queue {
    fn newest(&mut self) -> &mut Held {
        match self.later.as_mut().and_then(|later| later.back_mut()) {
            Some(newest) => newest,
            None => &mut self.oldest,
        }
    }
}

#[cfg(test)]
mod tests;
