//! Pairs checkins with checkouts, and ends the sessions that have no checkin.
//!
//! The rules, in the order of the log:
//!
//! - A checkout opens a session of its (feature, client). A checkin ends the oldest open session of the same (feature,
//!   client), whatever the numbers of seats; brackets and displays do not matter.
//! - A checkin without an open session proves only that its user held a seat at that moment.
//! - An upgrade also proves that its user held seats at that moment. It changes the seats of the newest open session.
//! - The start of the license manager ends all open sessions; the start of a vendor daemon ends those of that daemon.
//!   They end at the time of the last line before the start, since nothing later is known.
//! - An exit ends no session, because checkins may follow it. But what is still open when the daemon starts again, or at
//!   the end of the log, ended at the exit.
//! - Nobody holds a seat for more than five years: such a session was opened, or ended, by a clock that was wrong. It counts
//!   when it was opened, and when it was checked in.
//! - No session ends before it begins: if the clock was set back, the session ends at the moment it began.

use std::collections::VecDeque;

use hashbrown::HashMap;

use crate::event::{ClientId, Event, FeatureId, Kind, NO_LINE_BEFORE};

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

    /// Returns the end of a session that nothing is known of after `through`.
    fn ends_at(&self, through: i64) -> i64 {
        let exit = if self.exited_after == RUNS { i64::MAX } else { self.from + i64::from(self.exited_after) };
        held_through(self.from, through.min(exit))
    }
}

/// The longest time for which a seat is held, in seconds: five years.
const LONGEST_HELD: i64 = 5 * 366 * 86_400;

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
    in_use: Vec<u64>,
}

impl Sessions {
    /// Applies the next event of the log and sends the resulting facts to `sink`. `daemon_of` maps each feature to a
    /// number for its daemon; any numbering will do.
    pub fn apply(&mut self, event: &Event, daemon_of: &[u32], sink: &mut impl UsageSink) {
        let Event { kind, at, feature, client, seats, detail } = *event;
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
            Kind::Date | Kind::Offset | Kind::Clock => {}
        }
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
                exited_after: Some(held.exited_after).filter(|seconds| *seconds != RUNS),
            }));
        }
        // A stable sort by key alone: sessions of one key keep their order, which may differ from the order of their
        // starts.
        sessions.sort_by_key(|session| (session.feature, session.client));
        sessions
    }

    /// Recreates the state from sessions that [`Sessions::open`] returned.
    pub fn restore(open: impl IntoIterator<Item = OpenSession>) -> Self {
        let mut sessions = Self::default();
        for OpenSession { feature, client, from, seats, exited_after } in open {
            sessions.push(feature, client, Held { from, seats, exited_after: exited_after.unwrap_or(RUNS) });
            *sessions.in_use_of(feature) += u64::from(seats);
        }
        sessions
    }

    /// Returns the number of open sessions.
    pub fn len(&self) -> usize {
        self.open.values().map(|queue| 1 + queue.later.as_ref().map_or(0, |later| later.len())).sum()
    }

    /// Returns whether no session is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
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
            for held in std::iter::once(&mut queue.oldest).chain(later).filter(|held| held.exited_after == RUNS) {
                // An exit 136 years after the checkout is as good as none.
                held.exited_after = u32::try_from((at - held.from).max(0)).unwrap_or(RUNS);
            }
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Records every fact.
    #[derive(Default, Debug, PartialEq, Clone)]
    struct Notes {
        held: Vec<(FeatureId, ClientId, i64, i64, u32)>,
        levels: Vec<(FeatureId, i64, u64)>,
        lines: usize,
    }

    impl UsageSink for Notes {
        fn checkout(&mut self, _: FeatureId, _: ClientId, _: i64, _: u32) {
            self.lines += 1;
        }
        fn checkin(&mut self, _: FeatureId, _: ClientId, _: i64) {
            self.lines += 1;
        }
        fn denial(&mut self, _: FeatureId, _: ClientId, _: i64) {
            self.lines += 1;
        }
        fn held(&mut self, feature: FeatureId, client: ClientId, from: i64, through: i64, seats: u32, _: Ending) {
            self.held.push((feature, client, from, through, seats));
        }
        fn in_use(&mut self, feature: FeatureId, at: i64, seats: u64) {
            self.levels.push((feature, at, seats));
        }
    }

    fn event(kind: Kind, at: i64, feature: FeatureId, client: ClientId, seats: u32) -> Event {
        Event { kind, at, feature, client, seats, detail: 0 }
    }

    fn count(events: &[Event]) -> (Sessions, Notes) {
        let (mut sessions, mut notes) = (Sessions::default(), Notes::default());
        for event in events {
            sessions.apply(event, &[0, 0, 1, 1], &mut notes);
        }
        (sessions, notes)
    }

    #[test]
    fn first_in_first_out_whatever_the_seats() {
        let (sessions, notes) = count(&[
            event(Kind::Checkout, 10, 0, 1, 3),
            event(Kind::Checkout, 20, 0, 1, 1),
            event(Kind::Checkin, 30, 0, 1, 1),
            event(Kind::Checkin, 40, 0, 1, 3),
        ]);
        assert!(sessions.is_empty());
        assert_eq!(notes.held, [(0, 1, 10, 30, 3), (0, 1, 20, 40, 1)]);
        assert_eq!(notes.levels, [(0, 10, 3), (0, 20, 4), (0, 30, 1), (0, 40, 0)]);
    }

    /// A machine whose clock began anew in 1990 is set right while a seat is held.
    #[test]
    fn nobody_holds_a_seat_for_decades() {
        const YEARS: i64 = 20 * 366 * 86_400;
        let (_, notes) = count(&[event(Kind::Checkout, 10, 0, 1, 3), event(Kind::Checkin, YEARS, 0, 1, 3)]);
        assert_eq!(notes.held, [(0, 1, 10, 10, 3), (0, 1, YEARS, YEARS, 3)]);
        let (mut sessions, mut notes) = count(&[event(Kind::Checkout, 10, 0, 1, 3)]);
        sessions.end_all(YEARS, Ending::Implicit, &mut notes);
        assert_eq!(notes.held, [(0, 1, 10, 10, 3)]);
    }

    #[test]
    fn a_checkin_without_a_checkout_is_a_moment_of_use() {
        let (sessions, notes) = count(&[event(Kind::Checkin, 30, 0, 1, 1)]);
        assert!(sessions.is_empty());
        assert_eq!(notes.held, [(0, 1, 30, 30, 1)]);
        assert_eq!(notes.levels, [], "and no seat was returned that was known to be in use");
    }

    #[test]
    fn an_upgrade_changes_the_seats() {
        let (sessions, notes) = count(&[
            event(Kind::Checkout, 10, 0, 1, 5),
            event(Kind::Upgrade, 20, 0, 1, 6),
            event(Kind::Upgrade, 25, 1, 1, 6),
        ]);
        let open = OpenSession { feature: 0, client: 1, from: 10, seats: 6, exited_after: None };
        assert_eq!(sessions.open(), [open]);
        assert_eq!(notes.levels, [(0, 10, 5), (0, 20, 6)]);
        assert_eq!(notes.held, [(0, 1, 20, 20, 6), (1, 1, 25, 25, 6)]);
    }

    #[test]
    fn a_daemons_start_ends_its_sessions_and_no_others() {
        let mut restart = event(Kind::DaemonStart, 1000, 3, 0, 0);
        restart.detail = 400;
        let (sessions, notes) =
            count(&[event(Kind::Checkout, 10, 0, 1, 1), event(Kind::Checkout, 20, 2, 1, 1), restart]);
        assert_eq!(notes.held, [(2, 1, 20, 600, 1)]);
        assert_eq!(sessions.len(), 1);
    }

    #[test]
    fn a_managers_start_ends_everything_and_nothing_ends_before_it_began() {
        let mut restart = event(Kind::ManagerStart, 1000, 0, 0, 0);
        restart.detail = 985;
        let (sessions, mut notes) =
            count(&[event(Kind::Checkout, 10, 0, 1, 1), event(Kind::Checkout, 20, 2, 1, 1), restart]);
        notes.held.sort_unstable();
        assert_eq!(notes.held, [(0, 1, 10, 15, 1), (2, 1, 20, 20, 1)]);
        assert!(sessions.is_empty());
    }

    #[test]
    fn what_is_open_after_an_exit_ended_there_and_checkins_may_follow() {
        let mut restart = event(Kind::DaemonStart, 1000, 1, 0, 0);
        restart.detail = 100;
        let (sessions, notes) = count(&[
            event(Kind::Checkout, 10, 0, 1, 1),
            event(Kind::Checkout, 20, 0, 2, 1),
            event(Kind::Checkout, 30, 2, 3, 1),
            event(Kind::DaemonExit, 500, 1, 0, 0),
            event(Kind::Checkin, 501, 0, 2, 1),
            // A second exit, of the manager, changes nothing for those that have ended.
            event(Kind::ManagerExit, 600, 0, 0, 0),
            restart,
        ]);
        assert_eq!(notes.held, [(0, 2, 20, 501, 1), (0, 1, 10, 500, 1)]);
        let mut notes = Notes::default();
        sessions.clone().end_all(2000, Ending::StillOpen, &mut notes);
        assert_eq!(notes.held, [(2, 3, 30, 600, 1)]);
        assert_eq!(Sessions::restore(sessions.open()).open(), sessions.open());
    }

    fn any_event() -> impl Strategy<Value = Event> {
        (1u32..=13, 0i64..1000, 0u32..4, 0u32..3, 1u32..4, 0i64..50).prop_map(
            |(kind, at, feature, client, seats, detail)| Event {
                kind: Kind::from_number(kind).unwrap(),
                at,
                feature,
                client,
                seats,
                detail,
            },
        )
    }

    proptest! {
        /// Saving and restoring between any two events does not change the facts that follow.
        #[test]
        fn a_restart_of_the_counter_changes_nothing(
            events in prop::collection::vec(any_event(), 0..60),
            cut in 0usize..60,
        ) {
            let cut = cut.min(events.len());
            let (mut sessions, mut notes) = count(&events[..cut]);
            let mut restored = Sessions::restore(sessions.open());
            let mut notes_after = notes.clone();
            for event in &events[cut..] {
                sessions.apply(event, &[0, 0, 1, 1], &mut notes);
                restored.apply(event, &[0, 0, 1, 1], &mut notes_after);
            }
            notes.held.sort_unstable();
            notes_after.held.sort_unstable();
            prop_assert_eq!(notes, notes_after);
            prop_assert_eq!(sessions.open(), restored.open());
        }

        /// Every checkout ends once or is still open, and the seats in use are those of the open sessions.
        #[test]
        fn every_checkout_is_accounted_for(events in prop::collection::vec(any_event(), 0..80)) {
            let (sessions, notes) = count(&events);
            let outs = events.iter().filter(|e| e.kind == Kind::Checkout).count();
            let moments = notes.held.iter().filter(|(_, _, from, through, _)| from == through).count();
            prop_assert!(notes.held.len() + sessions.len() >= outs);
            prop_assert!(notes.held.len() + sessions.len() <= outs + moments);
            for feature in 0..4 {
                let open: u64 =
                    sessions.open().iter().filter(|s| s.feature == feature).map(|s| u64::from(s.seats)).sum();
                let last = notes.levels.iter().rev().find(|(f, _, _)| *f == feature).map_or(0, |(_, _, s)| *s);
                prop_assert_eq!(open, last);
            }
        }
    }
}
