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
    let open =
        OpenSession { feature: 0, client: 1, from: 10, seats: 6, exited_after: None, key: 0, is_in_doubt: false };
    assert_eq!(sessions.open(), [open]);
    assert_eq!(notes.levels, [(0, 10, 5), (0, 20, 6)]);
    assert_eq!(notes.held, [(0, 1, 20, 20, 6), (1, 1, 25, 25, 6)]);
}

#[test]
fn a_daemons_start_ends_its_sessions_and_no_others() {
    let mut restart = event(Kind::DaemonStart, 1000, 3, 0, 0);
    restart.detail = 400;
    let (sessions, notes) = count(&[event(Kind::Checkout, 10, 0, 1, 1), event(Kind::Checkout, 20, 2, 1, 1), restart]);
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
    assert_eq!(Sessions::restore(sessions.open(), &[0, 0, 1, 1], None).open(), sessions.open());
}

/// Any event, with the number of a session where `numbers` gives one: its own, and that of the session whose seats it shares.
fn any_event(numbers: impl Strategy<Value = (u64, u64)>) -> impl Strategy<Value = Event> {
    (
        prop::sample::select((1..=13).chain([17]).collect::<Vec<u32>>()),
        0i64..1000,
        0u32..4,
        0u32..3,
        1u32..4,
        0i64..50,
        numbers,
    )
        .prop_map(|(kind, at, feature, client, seats, detail, (own, shared))| {
            let kind = Kind::from_number(kind).unwrap();
            let is_numbered = kind.has_session();
            let key = SessionKey::new(own, if shared == 0 { own } else { shared }).map_or(0, SessionKey::detail);
            Event { kind, at, feature, client, seats, detail: if is_numbered { key } else { detail } }
        })
}

fn no_numbers() -> impl Strategy<Value = (u64, u64)> {
    Just((0, 0))
}

fn any_numbers() -> impl Strategy<Value = (u64, u64)> {
    (0u64..5, 0u64..5)
}

/// The seats in use are those of the open sessions.
fn assert_seats(sessions: &Sessions, notes: &Notes) {
    for feature in 0..4 {
        let open: u64 = sessions.open().iter().filter(|s| s.feature == feature).map(|s| u64::from(s.seats)).sum();
        let last = notes.levels.iter().rev().find(|(f, _, _)| *f == feature).map_or(0, |(_, _, s)| *s);
        assert_eq!(open, last);
    }
}

proptest! {
    /// Saving and restoring between any two events does not change the facts that follow.
    #[test]
    fn a_restart_of_the_counter_changes_nothing(
        events in prop::collection::vec(any_event(any_numbers()), 0..60),
        cut in 0usize..60,
    ) {
        let cut = cut.min(events.len());
        let (mut sessions, mut notes) = count(&events[..cut]);
        let mut restored = Sessions::restore(sessions.open(), &[0, 0, 1, 1], None);
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
    fn every_checkout_is_accounted_for(events in prop::collection::vec(any_event(no_numbers()), 0..80)) {
        let (sessions, notes) = count(&events);
        let outs = events.iter().filter(|e| e.kind == Kind::Checkout).count();
        let moments = notes.held.iter().filter(|(_, _, from, through, _)| from == through).count();
        prop_assert!(notes.held.len() + sessions.len() >= outs);
        prop_assert!(notes.held.len() + sessions.len() <= outs + moments);
        assert_seats(&sessions, &notes);
    }

    /// With numbers: nobody who took a seat is missing, no number is open twice, and a seat that is shared is taken once.
    #[test]
    fn every_number_is_open_once(events in prop::collection::vec(any_event(any_numbers()), 0..80)) {
        let (sessions, notes) = count(&events);
        assert_seats(&sessions, &notes);
        for event in events.iter().filter(|event| matches!(event.kind, Kind::Checkout | Kind::Checkin)) {
            let of = |feature, client| (feature, client) == (event.feature, event.client);
            let is_held = notes.held.iter().any(|(feature, client, ..)| of(*feature, *client));
            prop_assert!(is_held || sessions.open().iter().any(|session| of(session.feature, session.client)));
        }
        let mut open: Vec<(u32, u32)> = sessions.open().iter().filter_map(|session| {
            Some((session.feature / 2, SessionKey::in_detail(session.key)?.own.get()))
        }).collect();
        open.sort_unstable();
        let numbers = open.len();
        open.dedup();
        prop_assert_eq!(open.len(), numbers);
        // One session of those that share a seat holds it, and no other one does.
        for session in sessions.open() {
            let Some(key) = SessionKey::in_detail(session.key) else { continue };
            prop_assert_eq!(session.seats > 0, key.own == key.shared);
            let of_daemon = |other: &&OpenSession| other.feature / 2 == session.feature / 2;
            let holder = sessions.open().iter().filter(of_daemon)
                .any(|other| SessionKey::in_detail(other.key).is_some_and(|other| other.own == key.shared && other.shared == key.shared));
            prop_assert!(holder);
        }
    }
}

#[test]
fn a_number_pairs_whatever_the_names() {
    let key = |own| SessionKey::new(own, own).unwrap().detail();
    let numbered = |event: Event, own| Event { detail: key(own), ..event };
    let (sessions, notes) = count(&[
        numbered(event(Kind::Checkout, 10, 0, 1, 1), 7),
        numbered(event(Kind::Checkout, 20, 0, 1, 1), 8),
        // The second one ends first.
        numbered(event(Kind::Checkin, 30, 0, 1, 1), 8),
        // Another name at the checkin has used it at that moment.
        numbered(event(Kind::Checkin, 40, 0, 2, 1), 7),
        // Known by its number alone.
        numbered(event(Kind::Checkout, 50, 1, 2, 1), 9),
        numbered(event(Kind::SessionEnd, 60, 0, 0, 1), 9),
        numbered(event(Kind::SessionEnd, 70, 0, 0, 1), 10),
        // In use before the log began, and still.
        numbered(event(Kind::InUse, 80, 1, 2, 3), 11),
        numbered(event(Kind::InUse, 90, 1, 2, 3), 11),
    ]);
    assert_eq!(
        notes.held,
        [(0, 1, 20, 30, 1), (0, 1, 10, 40, 1), (0, 2, 40, 40, 1), (1, 2, 50, 60, 1), (1, 2, 80, 80, 3)]
    );
    assert_eq!((sessions.len(), notes.lines), (1, 6), "three checkouts and three checkins");
    assert_eq!(sessions.open()[0].from, 80);
}

/// The number of a group changes when its first session ends, and is given out again.
#[test]
fn a_seat_goes_on_under_another_number() {
    let shared = |kind, at, client, own, shared| Event {
        detail: SessionKey::new(own, shared).unwrap().detail(),
        ..event(kind, at, 0, client, 1)
    };
    let (sessions, notes) = count(&[
        shared(Kind::Checkout, 10, 1, 41, 41),
        shared(Kind::Checkout, 20, 1, 42, 41),
        shared(Kind::Checkin, 30, 1, 41, 41),
        // The group is 42's now.
        shared(Kind::Checkout, 40, 1, 43, 42),
        // Another session, which shares nothing.
        shared(Kind::Checkout, 50, 2, 41, 41),
        shared(Kind::Checkin, 60, 1, 42, 42),
        shared(Kind::Checkin, 70, 1, 43, 43),
    ]);
    assert_eq!(sessions.len(), 1);
    let levels: Vec<_> = notes.levels.iter().map(|(_, at, seats)| (*at, *seats)).collect();
    assert_eq!(levels, [(10, 1), (20, 1), (30, 0), (30, 1), (40, 1), (50, 2), (60, 1), (60, 2), (70, 1)]);
}

#[test]
fn a_seat_that_is_shared_is_taken_once() {
    let shared = |kind, at, client, own, shared| Event {
        detail: SessionKey::new(own, shared).unwrap().detail(),
        ..event(kind, at, 0, client, 1)
    };
    let (sessions, notes) = count(&[
        shared(Kind::Checkout, 10, 1, 7, 7),
        shared(Kind::Checkout, 20, 2, 8, 7),
        shared(Kind::Checkin, 30, 1, 7, 7),
        shared(Kind::Checkin, 50, 2, 8, 8),
    ]);
    assert!(sessions.is_empty());
    assert_eq!(notes.held, [(0, 1, 10, 30, 1), (0, 2, 20, 30, 0), (0, 2, 30, 50, 1)]);
    assert_eq!(
        notes.levels.iter().map(|(_, at, seats)| (*at, *seats)).collect::<Vec<_>>(),
        [(10, 1), (20, 1), (30, 0), (30, 1), (50, 0)]
    );
}

/// An agent whose state is lost tells again what an earlier run has told.
#[test]
fn a_record_that_an_earlier_run_told_counts_once() {
    let record = |own: u32, at, seconds| {
        let key = RecordKey { own: NonZero::new(own).unwrap(), seconds };
        let begin = Event { detail: key.detail(), ..event(Kind::Recorded, at, 0, own, 1) };
        let end = Event { detail: i64::from(own), ..event(Kind::RecordEnd, at + i64::from(seconds), 0, 0, 1) };
        [begin, end]
    };
    let in_use = |own: u32, at| Event { detail: i64::from(own), ..event(Kind::InUse, at, 0, own, 1) };
    let answer = |kind, at, detail| Event { detail, ..event(kind, at, 0, 0, 1) };
    let first = [answer(Kind::AnswerBegin, 100, NO_LINE_BEFORE)];
    let told = [record(1, 10, 50), record(2, 20, 60)].concat();
    let open = [in_use(3, 30), in_use(4, 40), answer(Kind::AnswerEnd, 100, NO_LINE_BEFORE)];
    // 3 has ended since; 4 goes on; 5 came and went meanwhile; 6 became visible late.
    let second = [answer(Kind::AnswerBegin, 200, 100), in_use(4, 40)];
    let again =
        [record(1, 10, 50), record(2, 20, 60), record(3, 30, 120), record(5, 110, 20), record(6, 90, 40)].concat();
    let events = [&first[..], &told, &open, &second, &again, &[answer(Kind::AnswerEnd, 200, 100)]].concat();
    let (mut sessions, mut notes) = count(&events);
    sessions.end_all(200, Ending::StillOpen, &mut notes);
    let mut held: Vec<_> =
        notes.held.iter().filter(|(_, _, from, through, seats)| from < through && *seats > 0).copied().collect();
    // Who held seats is told of all the time.
    assert!(notes.held.contains(&(0, 6, 90, 100, 0)) && notes.held.contains(&(0, 1, 10, 60, 0)));
    held.sort_unstable();
    assert_eq!(
        held,
        [
            (0, 1, 10, 60, 1),
            (0, 2, 20, 80, 1),
            (0, 3, 30, 150, 1),
            (0, 4, 40, 200, 1),
            (0, 5, 110, 130, 1),
            (0, 6, 100, 130, 1)
        ]
    );
    assert_eq!((notes.lines, notes.levels.last()), (0, Some(&(0, 200, 0))));
}

/// An answer of a run: everything that is in use at a moment, the eldest first, each with the moment since when.
fn whole_answer(at: i64, before: Option<i64>, open: &[(u32, i64)]) -> Vec<Event> {
    let answer =
        |kind| Event { detail: before.map_or(NO_LINE_BEFORE, |before| at - before), ..event(kind, at, 0, 0, 1) };
    let mut open = open.to_vec();
    open.sort_by_key(|(own, since)| (*since, *own));
    let stated =
        open.iter().map(|(own, since)| Event { detail: i64::from(*own), ..event(Kind::InUse, *since, 0, *own, 1) });
    [answer(Kind::AnswerBegin)].into_iter().chain(stated).chain([answer(Kind::AnswerEnd)]).collect()
}

#[test]
fn who_comes_after_a_restart_holds_no_seat_beside_who_went_before_it() {
    let events = [whole_answer(100, None, &[(1, 10)]), whole_answer(900, Some(100), &[(2, 50), (3, 700)])].concat();
    let (sessions, notes) = count(&events);
    assert_eq!(sessions.len(), 2);
    assert_eq!(notes.levels, [(0, 10, 1), (0, 100, 0), (0, 100, 1), (0, 700, 2)]);
}

proptest! {
    /// No more seats are ever in use than an answer has stated, whatever runs begin, and wherever the state is saved and restored.
    #[test]
    fn no_more_seats_are_in_use_than_an_answer_states(
        runs in prop::collection::vec(prop::collection::btree_map(1_u32..6, 0_i64..100, 0..5), 1..6),
        saved_after in any::<prop::sample::Index>(),
    ) {
        let mut events = Vec::new();
        for (number, open) in runs.iter().enumerate() {
            let at = 100 * (number as i64 + 1);
            // Who was there before says since when again; others can say anything.
            let open: Vec<(u32, i64)> = open.iter().map(|(own, since)| (*own, *since)).collect();
            events.extend(whole_answer(at, (number > 0).then_some(at - 100), &open));
        }
        let most = runs.iter().map(|open| open.len() as u64).max().unwrap_or(0);
        let (mut sessions, mut notes) = (Sessions::default(), Notes::default());
        let saved_after = saved_after.index(events.len());
        for (index, event) in events.iter().enumerate() {
            sessions.apply(event, &[0], &mut notes);
            if index == saved_after {
                sessions = Sessions::restore(sessions.open(), &[0], sessions.not_before());
            }
        }
        prop_assert!(notes.levels.iter().all(|(_, _, seats)| *seats <= most), "{:?}", notes.levels);
        let last = runs.last().map_or(0, |open| open.len() as u64);
        prop_assert_eq!(sessions.len() as u64, last);
        sessions.end_all(10_000, Ending::StillOpen, &mut notes);
        prop_assert!(notes.levels.last().is_none_or(|(_, _, seats)| *seats == 0));
    }
}
