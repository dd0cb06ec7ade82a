//! What an answer says that the one before did not: who has come, and who has gone.
//!
//! - A session is known by what the answer tells of it: feature, user, host, display or handle, and since when. A number made
//!   of these, which is the same in each run, pairs its beginning with its end.
//! - A session that is not stated any more ended after the last answer that stated it. It was held until then, and how much
//!   longer is not known.
//! - A session that is stated for the first time began when the answer says, but not before an answer that did not state it.
//! - Where an answer does not tell who holds a feature, its sessions go on, for a time.
//! - Where answers record sessions that have ended, their times are believed: a session that is not stated any more goes on
//!   until its record comes, for a time.
//! - A run begins with all that is in use. What an earlier run stated, and this one does not, ended with that run.

use std::collections::{HashMap, HashSet};
use std::num::NonZero;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use prost::Message;
use seatmeter_count::calendar::{date_of, day_of};
use seatmeter_count::name::decode;
use seatmeter_count::sessions::LONGEST_HELD;
use seatmeter_count::{Kind, NO_LINE_BEFORE, RecordKey, SessionKey};
use seatmeter_proto::batch::MAX_NAME;
use seatmeter_proto::pseudonym::Key;
use seatmeter_proto::v1::{LicensePool, Licenses};

use crate::format::Stamp;
use crate::format::Use;
use crate::format::answer::pool::{Expiry, Pool};
use crate::format::answer::{Answer, Holding, Name, Seat};
use crate::format::interpreter::Timed;

/// How many answers in a row may leave open who holds a feature until its sessions count as ended.
const PATIENCE: u32 = 3;

/// How long the record of a session that is not stated any more may be missing, in seconds, until it counts as ended.
const LATEST_RECORD: i64 = 6 * 3600;

/// How long it is remembered that a session was recorded, in seconds, since an answer last did.
const REMEMBERED: i64 = 2 * 86_400;

/// What the answers of a run have stated.
#[derive(Clone, Debug, Default)]
pub(super) struct Stated {
    open: HashMap<SessionId, Open>,
    /// The numbers of the sessions that are open.
    numbers: HashSet<NonZero<u32>>,
    /// The assignments that the last answer told.
    told: HashSet<SessionId>,
    /// The sessions that were recorded, each with the moment of the last answer that did.
    recorded: HashMap<SessionId, i64>,
    /// What the last answer did not tell of.
    unknown: Unknown,
    /// The moment of the last answer, in seconds since 1970 UTC.
    answered_at: Option<i64>,
    /// Whether all that is in use has been stated once. Until then, sessions of an earlier run can still go on.
    is_whole: bool,
    /// The answers of this run.
    answers: u32,
    /// A hash of the licenses that were told last.
    licenses: Option<[u8; 32]>,
    /// With what the numbers of sessions are made, where no name may be found by trying.
    secret: Option<[u8; 32]>,
}

/// Vendor daemons with their features of which it is not known who holds them, each with the moment of the last answer that
/// told, if any did. An empty feature stands for all of a daemon, and an empty daemon for all.
type Unknown = HashMap<(Vec<u8>, Vec<u8>), Option<i64>>;

/// A hash of what an answer tells of a session.
type SessionId = [u8; 16];

/// A session that was stated.
#[derive(Clone, Debug)]
struct Open {
    number: NonZero<u32>,
    daemon: Vec<u8>,
    feature: Vec<u8>,
    seats: u32,
    /// The moment of the last answer that stated it.
    stated_at: i64,
    /// How many answers since have left it open.
    left_open: u32,
}

/// An event that follows from an answer.
#[derive(Debug)]
pub(super) struct Statement<'a> {
    kind: Kind,
    /// The moment, in seconds since 1970 UTC.
    pub(super) at: i64,
    daemon: Name<'a>,
    feature: Name<'a>,
    user: Name<'a>,
    host: Name<'a>,
    seats: u32,
    detail: i64,
}

/// What an answer changes.
#[derive(Default)]
struct Changes<'a> {
    gone: Vec<Statement<'a>>,
    come: Vec<Statement<'a>>,
    /// The numbers of sessions that began and ended before the answer.
    passing: Vec<NonZero<u32>>,
}

impl Statement<'_> {
    /// Returns the statement as an event, whose time counts from a moment in seconds since 1970 UTC.
    pub(super) fn timed(&self, from: i64) -> Timed<'_> {
        let Self { kind, at, daemon, feature, user, host, seats, detail } = self;
        let usage = Use { kind: *kind, feature, user, host, seats: *seats, detail: *detail };
        Timed { time: at - from, daemon, usage }
    }

    fn of_all(kind: Kind, at: i64, detail: i64) -> Self {
        let none = Name::default;
        Self { kind, at, daemon: none(), feature: none(), user: none(), host: none(), seats: 1, detail }
    }
}

impl Stated {
    /// Begins a run of which nothing is stated yet. With a key of pseudonyms, the numbers of sessions tell nobody anything of names.
    pub(super) fn of(pseudonyms: Option<&Key>) -> Self {
        Self { secret: pseudonyms.map(|key| key.derived("numbers of sessions")), ..Self::default() }
    }

    /// Takes an answer at a moment (in seconds since 1970 UTC), whose times are those of a time zone. Returns what it says
    /// that the one before did not, in the order in which it happened.
    pub(super) fn take<'a>(&mut self, answer: &'a Answer<'a>, at: i64, zone: &TimeZone) -> Vec<Statement<'a>> {
        let mut changes = Changes::default();
        let before = self.answered_at.replace(at);
        let mut times_seen: HashMap<SessionId, u32> = HashMap::new();
        let mut told = HashSet::new();
        for seat in &answer.seats {
            let id = if answer.records_endings {
                id_of_key(seat)
            } else {
                let seen = times_seen.entry(id_of(seat, 0)).or_default();
                let id = id_of(seat, *seen);
                *seen += 1;
                id
            };
            let since = seat.since.and_then(|stamp| moment(stamp, at, zone));
            match seat.holding {
                Holding::Assigned => {
                    if !self.told.contains(&id) {
                        changes.come.push(of_seat(Kind::Used, seat, 0, since.unwrap_or(at)));
                    }
                    told.insert(id);
                    continue;
                }
                Holding::Until(until) => {
                    let until = moment(until, at, zone).unwrap_or(at);
                    if self.recorded.insert(id, at).is_none() {
                        self.record(id, seat, (since.unwrap_or(until), until), &mut changes);
                    }
                    continue;
                }
                Holding::Held => {}
            }
            // A seat that is held now is held now, however old its session claims to be.
            let since = since.filter(|since| at - since <= LONGEST_HELD).unwrap_or(at);
            let told_before = self.unknown_since(&seat.daemon, &seat.feature).unwrap_or(before);
            let told_before = told_before.filter(|_| !answer.records_endings);
            let mut began = told_before.map_or(since, |told| since.max(told));
            match self.open.get_mut(&id) {
                Some(open) if open.seats == seat.seats => {
                    (open.stated_at, open.left_open) = (at, 0);
                    continue;
                }
                // The same session holds another number of seats since some moment after the last answer that stated it.
                Some(open) => {
                    changes.gone.push(end(open));
                    self.numbers.remove(&open.number);
                    began = open.stated_at;
                }
                None => {}
            }
            if answer.records_endings && before.is_none() {
                // It can have become visible only now, and is believed to have been used then.
                changes.come.push(of_seat(Kind::Used, seat, 0, since));
            }
            let number = self.free_number(id);
            self.open.insert(id, Open::new(number, seat, at));
            changes.come.push(of_seat(Kind::InUse, seat, key(number), began));
        }
        self.told = told;
        let unknown = answer.unknown.iter().map(|(daemon, feature)| {
            let told = self.unknown_since(daemon, feature).unwrap_or(before);
            ((daemon.to_vec(), feature.to_vec()), told)
        });
        self.unknown = unknown.collect();
        let (unknown, numbers) = (&self.unknown, &mut self.numbers);
        self.open.retain(|_, open| {
            if open.stated_at == at && open.left_open == 0 {
                return true;
            }
            open.left_open += 1;
            let is_unknown = among(unknown, &open.daemon, &open.feature).is_some() && open.left_open < PATIENCE;
            let can_go_on = is_unknown || (answer.records_endings && at - open.stated_at < LATEST_RECORD);
            if !can_go_on {
                changes.gone.push(end(open));
                numbers.remove(&open.number);
            }
            can_go_on
        });
        self.recorded.retain(|_, told| at - *told < REMEMBERED);
        // Stable, so that a session that goes on with other seats ends before it begins.
        let Changes { mut gone, come, passing } = changes;
        gone.extend(come);
        gone.sort_by_key(|statement| statement.at);
        passing.iter().for_each(|number| _ = self.numbers.remove(number));
        let begin = before.is_none().then(|| Statement::of_all(Kind::AnswerBegin, at, NO_LINE_BEFORE));
        let mut statements: Vec<Statement<'a>> = begin.into_iter().chain(gone).collect();
        self.answers = self.answers.saturating_add(1);
        // One answer of pages can miss a session that goes on, where another one ended between two pages. Two do not.
        let needed = if answer.records_endings { 2 } else { 1 };
        if !self.is_whole && ((self.unknown.is_empty() && self.answers >= needed) || self.answers == PATIENCE) {
            self.is_whole = true;
            statements.push(Statement::of_all(Kind::AnswerEnd, at, NO_LINE_BEFORE));
        }
        statements
    }

    /// Returns the licenses that an answer tells; `None` if they are those of the answer before, or not all that there are.
    pub(super) fn licenses(&mut self, answer: &Answer<'_>) -> Option<Licenses> {
        let told = answer.pools.as_ref().filter(|_| answer.tells_all_pools())?;
        let pools = told.iter().map(license_pool).collect();
        let licenses = Licenses { pools, knows_nobody: answer.knows_nobody };
        let hash = *blake3::hash(&licenses.encode_to_vec()).as_bytes();
        (self.licenses.replace(hash) != Some(hash)).then_some(licenses)
    }

    /// Takes a session that was recorded from one moment to another.
    fn record<'a>(
        &mut self,
        id: SessionId,
        seat: &'a Seat<'a>,
        (from, until): (i64, i64),
        Changes { come, gone, passing }: &mut Changes<'a>,
    ) {
        let ends = |number| Statement { detail: key(number), ..of_seat(Kind::RecordEnd, seat, 0, until) };
        if let Some(open) = self.open.remove(&id) {
            self.numbers.remove(&open.number);
            return gone.push(ends(open.number));
        }
        let seconds = u32::try_from(until - from).ok();
        match seconds.filter(|seconds| *seconds > 0 && i64::from(*seconds) <= LONGEST_HELD) {
            Some(seconds) => {
                // No other session of this answer may have it, since their times can overlap.
                let number = self.free_number(id);
                passing.push(number);
                come.push(of_seat(Kind::Recorded, seat, RecordKey { own: number, seconds }.detail(), from));
                gone.push(ends(number));
            }
            // It ended at once, or was recorded wrong.
            None => come.push(of_seat(Kind::Used, seat, 0, from)),
        }
    }

    /// Returns the number of a new session, which no open one has.
    fn free_number(&mut self, id: SessionId) -> NonZero<u32> {
        let mut number = number_of(self.secret.map_or(id, |secret| keyed(id, &secret)));
        while !self.numbers.insert(number) {
            number = number.checked_add(1).unwrap_or(NonZero::<u32>::MIN);
        }
        number
    }

    /// Returns the last answer that told who holds a feature, where the last of all did not; `None` where it did.
    fn unknown_since(&self, daemon: &[u8], feature: &[u8]) -> Option<Option<i64>> {
        among(&self.unknown, daemon, feature)
    }
}

fn license_pool(pool: &Pool<'_>) -> LicensePool {
    // As the batcher cuts names; no database takes a NUL.
    let text = |name: &[u8]| decode(&name[..name.len().min(MAX_NAME / 3)]).replace('\0', "?");
    LicensePool {
        daemon: text(&pool.daemon),
        feature: text(&pool.feature),
        version: text(&pool.version),
        licenses: pool.licenses,
        expires_on: pool.expires.and_then(|expires| match expires {
            Expiry::On(day) => Some(day),
            Expiry::Never => None,
        }),
        permanent: pool.expires == Some(Expiry::Never),
        starts_on: pool.starts,
        serial: text(&pool.serial),
    }
}

/// Returns what is noted of a feature, of its vendor daemon, or of all.
fn among(unknown: &Unknown, daemon: &[u8], feature: &[u8]) -> Option<Option<i64>> {
    if unknown.is_empty() {
        // The usual case.
        return None;
    }
    let places = [(daemon, feature), (daemon, b""), (b"", b"")];
    places.iter().find_map(|(daemon, feature)| unknown.get(&(daemon.to_vec(), feature.to_vec())).copied())
}

impl Open {
    fn new(number: NonZero<u32>, seat: &Seat<'_>, at: i64) -> Self {
        let (daemon, feature) = (seat.daemon.to_vec(), seat.feature.to_vec());
        Self { number, daemon, feature, seats: seat.seats, stated_at: at, left_open: 0 }
    }
}

fn of_seat<'a>(kind: Kind, seat: &'a Seat<'a>, detail: i64, at: i64) -> Statement<'a> {
    let name = |name: &'a Name<'a>| Name::Borrowed(&**name);
    // A device that holds seats is counted by its name, as one more who does.
    let user = if seat.user.is_empty() { &seat.host } else { &seat.user };
    Statement {
        kind,
        at,
        daemon: name(&seat.daemon),
        feature: name(&seat.feature),
        user: name(user),
        host: name(&seat.host),
        seats: seat.seats,
        detail,
    }
}

/// Returns the end of a session, at the last answer that stated it.
fn end<'a>(open: &Open) -> Statement<'a> {
    Statement {
        kind: Kind::NoLongerInUse,
        at: open.stated_at,
        daemon: Name::Owned(open.daemon.clone()),
        feature: Name::Owned(open.feature.clone()),
        user: Name::default(),
        host: Name::default(),
        seats: open.seats,
        detail: key(open.number),
    }
}

fn key(number: NonZero<u32>) -> i64 {
    SessionKey { own: number, shared: number }.detail()
}

/// Returns the hash of the key that a source gives a session, which stays the same whatever else changes.
fn id_of_key(seat: &Seat<'_>) -> SessionId {
    let mut id = SessionId::default();
    blake3::Hasher::new().update(&seat.session).finalize_xof().fill(&mut id);
    id
}

/// Returns the hash of what an answer tells of a session. `occurrence` counts those before it in the answer of which it tells
/// the same.
fn id_of(seat: &Seat<'_>, occurrence: u32) -> SessionId {
    let mut hasher = blake3::Hasher::new();
    for name in [&seat.daemon, &seat.feature, &seat.user, &seat.host, &seat.session] {
        hasher.update(&(name.len() as u64).to_le_bytes()).update(name);
    }
    let since = match seat.since {
        None => [0; 3],
        Some(Stamp::Time(time)) => [1, 0, i64::from(time)],
        Some(Stamp::MonthDay { month, day, time }) => [2, i64::from(month) * 32 + i64::from(day), i64::from(time)],
        Some(Stamp::DateTime { day, time, .. }) => [3, i64::from(day), i64::from(time)],
    };
    for part in since.into_iter().chain([i64::from(occurrence)]) {
        hasher.update(&part.to_le_bytes());
    }
    let mut id = SessionId::default();
    hasher.finalize_xof().fill(&mut id);
    id
}

/// Returns another hash, which says nothing of the first one to who does not know the secret.
fn keyed(id: SessionId, secret: &[u8; 32]) -> SessionId {
    let mut keyed = SessionId::default();
    blake3::Hasher::new_keyed(secret).update(&id).finalize_xof().fill(&mut keyed);
    keyed
}

/// Returns the number that a session has if it is free.
fn number_of(id: SessionId) -> NonZero<u32> {
    let [a, b, c, d, ..] = id;
    NonZero::new(u32::from_le_bytes([a, b, c, d])).unwrap_or(NonZero::<u32>::MAX)
}

/// Returns the moment of a time that an answer tells, in seconds since 1970 UTC, and not after the answer. A month and a day
/// are the last ones before it.
pub(super) fn moment(stamp: Stamp, at: i64, zone: &TimeZone) -> Option<i64> {
    /// How far the clock of a license manager can be ahead of this machine's, in days, for a date without a year.
    const AHEAD: i32 = 1;
    let today = zone.to_datetime(Timestamp::from_second(at).ok()?).date();
    let (day, time, offset) = match stamp {
        Stamp::Time(time) => (day_of(today), time, None),
        Stamp::DateTime { day, time, offset } => (day, time, offset),
        Stamp::MonthDay { month, day, time } => {
            // Eight years hold every day that there is.
            let years = (0..=8).map(|back| today.year() + 1 - back);
            let dates = years.filter_map(|year| jiff::civil::Date::new(year, month, day).ok());
            let last = dates.map(day_of).find(|day| *day <= day_of(today) + AHEAD)?;
            (last, time, None)
        }
    };
    if let Some(offset) = offset {
        return Some((i64::from(day) * 86_400 + i64::from(time) - i64::from(offset)).min(at));
    }
    let midnight = DateTime::from_parts(date_of(day), jiff::civil::Time::midnight());
    let local = midnight.checked_add(jiff::SignedDuration::from_secs(time.into())).ok()?;
    let moment = zone.to_ambiguous_timestamp(local).compatible().ok()?;
    Some(moment.as_second().min(at))
}

#[cfg(test)]
mod tests;
