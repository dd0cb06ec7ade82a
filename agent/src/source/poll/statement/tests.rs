use proptest::prelude::*;
use seatmeter_count::{ClientId, Ending, Event, FeatureId, Sessions, UsageSink};

use super::*;

const START: i64 = 1_800_000_000;

/// A stretch of time in which somebody held seats of a feature, as facts tell it.
type Stretch = (FeatureId, ClientId, i64, i64, u32);

#[derive(Default)]
struct Stretches {
    held: Vec<Stretch>,
    moments: Vec<(FeatureId, ClientId, i64)>,
    lines: u32,
}

impl UsageSink for Stretches {
    fn checkout(&mut self, _: FeatureId, _: ClientId, _: i64, _: u32) {
        self.lines += 1;
    }
    fn checkin(&mut self, _: FeatureId, _: ClientId, _: i64) {
        self.lines += 1;
    }
    fn denial(&mut self, _: FeatureId, _: ClientId, _: i64) {
        self.lines += 1;
    }
    fn held(&mut self, feature: FeatureId, client: ClientId, from: i64, through: i64, seats: u32, ending: Ending) {
        match ending {
            Ending::Moment => self.moments.push((feature, client, from)),
            // Who held seats that are counted elsewhere.
            _ if seats == 0 => {}
            _ => self.held.push((feature, client, from, through, seats)),
        }
    }
    fn in_use(&mut self, _: FeatureId, _: i64, _: u64) {}
}

/// What an aggregator makes of the answers of several runs.
#[derive(Default)]
struct Counted {
    sessions: Sessions,
    sink: Stretches,
    /// The last answer of the run before, and of this one.
    ends: [i64; 2],
}

impl Counted {
    fn begin_run(&mut self) {
        self.ends[0] = self.ends[1];
    }

    fn take(&mut self, statements: &[Statement<'_>], at: i64) {
        for statement in statements {
            let timed = statement.timed(0);
            let number = |name: &[u8]| std::str::from_utf8(name).unwrap().parse().unwrap_or(0);
            let detail = match timed.usage.detail {
                NO_LINE_BEFORE if self.ends[0] != 0 => timed.time - self.ends[0],
                detail => detail,
            };
            let event = Event {
                kind: timed.usage.kind,
                at: timed.time,
                feature: number(timed.usage.feature),
                client: number(timed.usage.user),
                seats: timed.usage.seats,
                detail,
            };
            self.sessions.apply(&event, &[0; 9], &mut self.sink);
        }
        self.ends[1] = at;
    }

    fn stretches(mut self) -> Vec<Stretch> {
        self.sessions.end_all(self.ends[1], Ending::StillOpen, &mut self.sink);
        assert_eq!(self.sink.lines, 0, "an answer is no line");
        self.sink.held.sort_unstable();
        self.sink.held
    }
}

/// A session as it was.
#[derive(Clone, Debug)]
struct Session {
    feature: u32,
    user: u32,
    from: i64,
    until: i64,
    seats: u32,
}

fn seat(session: &Session) -> Seat<'static> {
    let name = |number: u32| Name::Owned(number.to_string().into_bytes());
    let time = session.from.rem_euclid(86_400) as u32;
    let day = session.from.div_euclid(86_400) as i32;
    Seat {
        feature: name(session.feature),
        user: name(session.user),
        since: Some(Stamp::DateTime { day, time, offset: None }),
        seats: session.seats,
        holding: Holding::Held,
        ..Seat::default()
    }
}

/// What happens at one moment.
#[derive(Clone, Debug)]
enum Step {
    Answer,
    /// The license manager does not tell who holds a feature.
    Unknown(u32),
    /// The tool fails.
    Failure,
    /// The agent is killed, and starts anew.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<(i64, Step)>> {
    let step = prop_oneof![
        6 => Just(Step::Answer),
        1 => (0u32..3).prop_map(Step::Unknown),
        1 => Just(Step::Failure),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec((1i64..600, step), 1..40)
}

fn sessions() -> impl Strategy<Value = Vec<Session>> {
    let session =
        (0u32..3, 0u32..6, 0i64..9_000, 1i64..4_000, 1u32..4).prop_map(|(feature, user, from, length, seats)| {
            Session { feature, user, from: START + from, until: START + from + length, seats }
        });
    // Of two sessions that an answer tells the same of, nobody knows which one ended.
    proptest::collection::vec(session, 0..40).prop_map(|mut sessions: Vec<Session>| {
        sessions.sort_by_key(|session| (session.feature, session.user, session.from));
        sessions.dedup_by_key(|session| (session.feature, session.user, session.from));
        sessions
    })
}

proptest! {
    /// Whatever fails, restarts or is left open in between: a session was held from its beginning through the last answer
    /// that stated it, once.
    #[test]
    fn a_session_is_held_once_through_the_last_answer_that_stated_it(sessions in sessions(), steps in steps()) {
        let (mut counted, mut stated) = (Counted::default(), Stated::default());
        let mut last_seen: Vec<Option<i64>> = vec![None; sessions.len()];
        let (mut at, mut left_open) = (START, 0);
        // What is left open at the end is held so far.
        for (pause, step) in steps.iter().chain([&(1, Step::Answer)]) {
            at += pause;
            let unknown = match step {
                Step::Failure => continue,
                // What a run leaves open is held through its end.
                Step::Restart if left_open == 0 => {
                    stated = Stated::default();
                    counted.begin_run();
                    continue;
                }
                // More in a row end the feature's sessions: another test.
                Step::Unknown(feature) if left_open == 0 => Some(*feature),
                _ => None,
            };
            left_open = u32::from(unknown.is_some());
            let mut answer = Answer::default();
            for (session, seen) in sessions.iter().zip(&mut last_seen) {
                if session.from <= at && at < session.until && unknown != Some(session.feature) {
                    *seen = Some(at);
                    answer.seats.push(seat(session));
                }
            }
            answer.unknown.extend(unknown.map(|feature| (Name::default(), Name::Owned(feature.to_string().into_bytes()))));
            counted.take(&stated.take(&answer, at, &TimeZone::UTC), at);
        }
        let seen = sessions.iter().zip(&last_seen).filter_map(|(session, seen)| Some((session, (*seen)?)));
        let mut expected: Vec<Stretch> =
            seen.map(|(session, seen)| (session.feature, session.user, session.from, seen, session.seats)).collect();
        expected.sort_unstable();
        prop_assert_eq!(counted.stretches(), expected);
    }
}

proptest! {
    /// Whatever fails or restarts in between, however far each answer reaches back, and even if an answer misses a session that
    /// goes on and was told before, as where another one ended between two of its pages: a session that is recorded counts once,
    /// from its beginning to its end.
    #[test]
    fn a_recorded_session_counts_once_with_its_own_times(
        sessions in sessions(),
        steps in steps(),
        overlap in 1i64..3_000,
    ) {
        let (mut counted, mut stated) = (Counted::default(), Stated::default());
        let (mut at, mut answered_at, mut has_missed) = (START, START - 1, false);
        let mut was_told = vec![false; sessions.len()];
        for (pause, step) in steps.iter().chain([&(1, Step::Answer)]) {
            at += pause;
            let missed = match step {
                Step::Failure => continue,
                Step::Restart => {
                    stated = Stated::default();
                    counted.begin_run();
                    continue;
                }
                Step::Unknown(number) if !has_missed => Some(*number as usize),
                Step::Unknown(_) | Step::Answer => None,
            };
            has_missed = missed.is_some();
            let mut held = 0;
            let mut answer = Answer { records_endings: true, ..Answer::default() };
            for (key, session) in sessions.iter().enumerate() {
                let is_told = session.from <= at && session.until > answered_at - overlap;
                let until = Stamp::DateTime {
                    day: session.until.div_euclid(86_400) as i32,
                    time: session.until.rem_euclid(86_400) as u32,
                    offset: Some(0),
                };
                let holding = if session.until <= at { Holding::Until(until) } else { Holding::Held };
                let can_be_missed = is_told && was_told[key] && holding == Holding::Held;
                held += usize::from(can_be_missed);
                if is_told && !(can_be_missed && missed == Some(held - 1)) {
                    was_told[key] = true;
                    let key = Name::Owned(key.to_string().into_bytes());
                    answer.seats.push(Seat { session: key, holding, ..seat(session) });
                }
            }
            counted.take(&stated.take(&answer, at, &TimeZone::UTC), at);
            answered_at = at;
        }
        let begun = sessions.iter().filter(|session| session.from <= at);
        let mut expected: Vec<Stretch> = begun
            .map(|session| (session.feature, session.user, session.from, session.until.min(at), session.seats))
            .collect();
        expected.sort_unstable();
        prop_assert_eq!(counted.stretches(), expected);
    }
}

#[test]
fn a_recorded_session_is_known_by_its_key_and_shows_its_user_however_late() {
    let (mut counted, mut stated) = (Counted::default(), Stated::default());
    let named = |user: u32| Session { feature: 1, user, from: START, until: 0, seats: 1 };
    let of = |user: u32, holding: Holding| Answer {
        records_endings: true,
        seats: vec![Seat { session: b"key"[..].into(), holding, ..seat(&named(user)) }],
        ..Answer::default()
    };
    let time = (START + 300).rem_euclid(86_400) as u32;
    let until = Holding::Until(Stamp::DateTime { day: (START + 300).div_euclid(86_400) as i32, time, offset: Some(0) });
    for (at, user, holding) in [(100, 2, Holding::Held), (200, 3, Holding::Held), (400, 3, until)] {
        counted.take(&stated.take(&of(user, holding), START + at, &TimeZone::UTC), START + at);
    }
    // A first answer shows who has used it since when, even if an earlier run could have told it.
    assert!(counted.sink.moments.contains(&(1, 2, START)));
    assert_eq!(counted.stretches(), [(1, 2, START, START + 300, 1)]);
}

#[test]
fn a_record_that_stays_away_ends_a_session_where_it_was_stated_last() {
    let (mut counted, mut stated) = (Counted::default(), Stated::default());
    let session = Session { feature: 1, user: 2, from: START, until: 0, seats: 1 };
    let mut of = |sessions: &[Session], at: i64| {
        let answer = Answer { records_endings: true, ..answer(sessions) };
        counted.take(&stated.take(&answer, at, &TimeZone::UTC), at);
    };
    of(&[session], START + 100);
    (1..=7).for_each(|hour| of(&[], START + 100 + hour * 3600));
    assert_eq!(counted.sessions.len(), 0);
    assert_eq!(counted.stretches(), [(1, 2, START, START + 100, 1)]);
}

fn answer(sessions: &[Session]) -> Answer<'static> {
    Answer { seats: sessions.iter().map(seat).collect(), ..Answer::default() }
}

#[test]
fn other_seats_of_the_same_session_are_held_since_the_last_answer() {
    let (mut counted, mut stated) = (Counted::default(), Stated::default());
    let session = |seats| Session { feature: 1, user: 2, from: START, until: 0, seats };
    for (at, seats) in [(START + 100, 1), (START + 200, 3), (START + 300, 3)] {
        counted.take(&stated.take(&answer(&[session(seats)]), at, &TimeZone::UTC), at);
    }
    assert_eq!(counted.stretches(), [(1, 2, START, START + 100, 1), (1, 2, START + 100, START + 300, 3)]);
}

#[test]
fn what_stays_unknown_is_not_held_for_ever() {
    let (mut counted, mut stated) = (Counted::default(), Stated::default());
    let session = Session { feature: 1, user: 2, from: START, until: 0, seats: 1 };
    counted.take(&stated.take(&answer(&[session]), START + 100, &TimeZone::UTC), START + 100);
    for at in [START + 200, START + 300, START + 400] {
        let unknown = vec![(Name::default(), Name::default())];
        let unknown = Answer { unknown, ..Answer::default() };
        counted.take(&stated.take(&unknown, at, &TimeZone::UTC), at);
    }
    assert_eq!(counted.sessions.len(), 0);
    assert_eq!(counted.stretches(), [(1, 2, START, START + 100, 1)]);
}

#[test]
fn an_assignment_was_used_when_it_says_and_is_told_once() {
    let mut stated = Stated::default();
    let mut assigned = seat(&Session { feature: 1, user: 2, from: START, until: 0, seats: 1 });
    assigned.holding = Holding::Assigned;
    let answer = Answer { seats: vec![assigned.clone(), assigned], ..Answer::default() };
    let at = START + 9_000;
    let kinds = |statements: Vec<Statement<'_>>| -> Vec<(Kind, i64)> {
        statements.iter().map(|statement| (statement.kind, statement.at)).collect()
    };
    let first = kinds(stated.take(&answer, at, &TimeZone::UTC));
    assert_eq!(first[1..3], [(Kind::Used, START), (Kind::Used, START)]);
    assert_eq!(kinds(stated.take(&answer, at + 300, &TimeZone::UTC)), []);
}

#[test]
fn a_month_and_a_day_are_the_last_ones_before_the_answer() {
    let at = |text: &str| text.parse::<Timestamp>().unwrap().as_second();
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let of = |month, day, time, now: &str| moment(Stamp::MonthDay { month, day, time }, at(now), &zone).unwrap();
    assert_eq!(of(12, 31, 82_800, "2026-01-01T08:00:00Z"), at("2025-12-31T22:00:00Z"));
    assert_eq!(of(1, 1, 0, "2026-01-01T08:00:00Z"), at("2025-12-31T23:00:00Z"));
    // The license manager's clock is ahead, over midnight: not after the answer.
    assert_eq!(of(1, 2, 60, "2026-01-01T22:59:00Z"), at("2026-01-01T22:59:00Z"));
    assert_eq!(of(2, 29, 0, "2026-03-01T08:00:00Z"), at("2024-02-28T23:00:00Z"));
    assert_eq!(of(1, 3, 0, "2026-01-01T08:00:00Z"), at("2025-01-02T23:00:00Z"));
}

/// What an answer did not state, and a later one does again, was not held in between, whatever the session says.
#[test]
fn a_session_that_is_stated_again_was_not_held_in_between() {
    let bob = Session { feature: 1, user: 2, from: START, until: 0, seats: 3 };
    let everything = || Answer { unknown: vec![(Name::default(), Name::default())], ..Answer::default() };
    let feature = || Answer { unknown: vec![(Name::default(), b"1"[..].into())], ..Answer::default() };
    let nobody = || answer(&[]);
    let expected = [(1, 2, START, START + 100, 3), (1, 2, START + 200, START + 700, 3)];
    // Absent from one answer, and the agent starts anew then.
    let (mut counted, mut stated) = (Counted::default(), Stated::default());
    counted.take(&stated.take(&answer(std::slice::from_ref(&bob)), START + 100, &TimeZone::UTC), START + 100);
    counted.take(&stated.take(&nobody(), START + 200, &TimeZone::UTC), START + 200);
    (stated, _) = (Stated::default(), counted.begin_run());
    counted.take(&stated.take(&answer(std::slice::from_ref(&bob)), START + 700, &TimeZone::UTC), START + 700);
    assert_eq!(counted.stretches(), expected);
    // Left open for so long that it counts as ended, and stated again: it went on.
    for unknown in [everything, feature] {
        let (mut counted, mut stated) = (Counted::default(), Stated::default());
        counted.take(&stated.take(&answer(std::slice::from_ref(&bob)), START + 100, &TimeZone::UTC), START + 100);
        for at in [200, 300, 400, 500] {
            counted.take(&stated.take(&unknown(), START + at, &TimeZone::UTC), START + at);
        }
        counted.take(&stated.take(&answer(std::slice::from_ref(&bob)), START + 700, &TimeZone::UTC), START + 700);
        let expected = [(1, 2, START, START + 100, 3), (1, 2, START + 100, START + 700, 3)];
        assert_eq!(counted.stretches(), expected);
    }
}

#[test]
fn who_holds_a_seat_now_holds_it_now_however_old_the_session_claims_to_be() {
    let (mut counted, mut stated) = (Counted::default(), Stated::default());
    let old = Session { feature: 1, user: 2, from: START - 3_000 * 86_400, until: 0, seats: 1 };
    for at in [START, START + 100] {
        counted.take(&stated.take(&answer(std::slice::from_ref(&old)), at, &TimeZone::UTC), at);
    }
    assert_eq!(counted.stretches(), [(1, 2, START, START + 100, 1)]);
}

#[test]
fn a_device_that_holds_a_seat_is_counted_by_its_name() {
    let device = Seat { feature: b"1"[..].into(), host: b"17"[..].into(), holding: Holding::Held, ..Seat::default() };
    let answer = Answer { seats: vec![device], ..Answer::default() };
    let mut stated = Stated::default();
    let statements = stated.take(&answer, START, &TimeZone::UTC);
    assert_eq!(statements[1].timed(0).usage.user, b"17");
}

/// An assignment of an earlier month is no use in a later one, however often the agent starts.
#[test]
fn an_assignment_stays_where_it_was_used() {
    let mut counted = Counted::default();
    for at in [START + 1_000, START + 9_000_000] {
        let mut assigned = seat(&Session { feature: 1, user: 2, from: START, until: 0, seats: 1 });
        assigned.holding = Holding::Assigned;
        let answer = Answer { seats: vec![assigned], ..Answer::default() };
        counted.begin_run();
        counted.take(&Stated::default().take(&answer, at, &TimeZone::UTC), at);
    }
    assert_eq!(counted.sink.moments, [(1, 2, START), (1, 2, START)]);
    assert_eq!(counted.stretches(), []);
}
