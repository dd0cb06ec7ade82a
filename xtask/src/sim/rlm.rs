//! The simulated RLM server: it numbers its sessions, lets some share a seat, and tells dates in its own way.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::io::Write;

use fastrand::Rng;

use super::server::user_name;
use super::truth::{Figures, Truth, date_of, month_of};

/// The formats of a report log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportFormat {
    /// Seconds, and every field.
    Std,
    /// Minutes, and no names at a checkin.
    Small,
}

/// The ISV, as its server calls itself.
const ISV: &str = "simisv";
const VERSION: &str = "14.1";
const DATE_EVERY: i64 = 1830;
const FEATURES: usize = 5;

/// An open session.
struct Session {
    feature: usize,
    user: u32,
    host: u32,
    from: i64,
    /// The seat that it takes, perhaps together with others.
    seat: u32,
}

/// A seat, taken once by all sessions that share it.
struct Seat {
    feature: usize,
    from: i64,
    sessions: u32,
    seats: u32,
}

/// A simulated RLM server, which writes a report log and a debug log.
pub struct RlmServer {
    format: ReportFormat,
    users: u32,
    rng: Rng,
    /// The wall clock, in seconds since 1970.
    now: i64,
    truth: Truth,
    open: BTreeMap<u32, Session>,
    seats: BTreeMap<u32, Seat>,
    next_seat: u32,
    /// When each session ends.
    ends: BinaryHeap<Reverse<(i64, u32)>>,
    /// Numbers that were given back, and are given out again.
    free: BTreeSet<u32>,
    next_date: i64,
    last_line: i64,
    lines: u64,
    /// The debug log of the same server: minutes, and no year.
    pub debug: Vec<u8>,
}

impl RlmServer {
    /// Creates a server that has not been started. Its clock is at `start`, in seconds since 1970.
    pub fn new(seed: u64, format: ReportFormat, users: u32, start: i64) -> Self {
        Self {
            format,
            users,
            rng: Rng::with_seed(seed),
            now: start,
            truth: Truth::new(ISV, (0..FEATURES).map(|feature| format!("product{feature}")).collect()),
            open: BTreeMap::new(),
            seats: BTreeMap::new(),
            next_seat: 0,
            ends: BinaryHeap::new(),
            free: (0x41..0x5000).collect(),
            next_date: start,
            last_line: start,
            lines: 0,
            debug: Vec::new(),
        }
    }

    /// Returns the true figures of everything written so far.
    pub fn figures(&self) -> Vec<Figures> {
        let mut truth = self.truth.clone();
        for session in self.open.values() {
            truth.hold_person(session.from, self.last_line, session.feature, session.user, session.host);
        }
        for seat in self.seats.values() {
            truth.hold_seats(seat.from, self.last_line, seat.feature, seat.seats);
        }
        truth.figures(std::iter::empty(), self.last_line)
    }

    /// Returns the number of records written so far.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Starts the server. Sessions that are still open, as after a crash, end with the last line.
    pub fn start(&mut self, out: &mut Vec<u8>) {
        for number in self.open.keys().copied().collect::<Vec<_>>() {
            self.end(number, self.last_line);
        }
        self.ends.clear();
        self.head(out);
        self.debug_line("Server started on LIC01 (hostid: 6fc049e3e83d) for:");
    }

    /// Stops the server for `seconds_away` seconds, as a power cut would. Call [`RlmServer::start`] next.
    pub fn crash(&mut self, seconds_away: i64) {
        self.now += seconds_away;
    }

    /// Ends the report log, and begins the next one, as `rlmswitch` does. What is in use goes on.
    pub fn switch(&mut self, out: &mut Vec<u8>, next: &mut Vec<u8>) {
        self.record(out, "SWITCH to report.log");
        let end = format!("END {} {}", full_date(self.now), self.seconds());
        self.record(out, &end);
        self.record(next, "SWITCH from report.log.old");
        self.head(next);
        let in_use: Vec<String> = self
            .open
            .iter()
            .map(|(number, session)| {
                let client = client(session.user, session.host);
                format!(
                    "INUSE product{} 1.0 1 {client} \"\" 1 {number:x} {:x} 1a14 {} {}",
                    session.feature,
                    self.first_on(session.seat),
                    short_date(self.now),
                    self.seconds()
                )
            })
            .collect();
        in_use.iter().for_each(|line| self.record(next, line));
    }

    fn head(&mut self, out: &mut Vec<u8>) {
        self.record(out, "");
        self.record(out, &format!("RLM Report Log Format 0, version {VERSION}, authenticated"));
        self.record(out, &format!("ISV: {ISV}, RLM version {VERSION} BL3"));
        let start = format!("START LIC01 {} {}", full_date(self.now), self.seconds());
        self.record(out, &start);
        self.record(out, "LICENSE FILE ");
        self.record(
            out,
            "PRODUCT product0 1.0 1 10 0 10 \"ANY\" \"\" \"Provider, Town\" \"\" \"\" \"\" 0 0 0 0 0 0 0 0 0",
        );
        self.next_date = self.now;
    }

    /// Advances the time, and writes what happens next.
    pub fn step(&mut self, out: &mut Vec<u8>) {
        let before = self.now;
        self.now += self.rng.i64(1..180);
        if month_of(before).0 != month_of(self.now).0 {
            self.truth.month_begins(self.now);
        }
        if self.now >= self.next_date {
            self.next_date += DATE_EVERY;
            let date = format!("{} {}", full_date(self.now), self.minutes());
            self.record(out, &date);
        }
        if before.div_euclid(86_400) != self.now.div_euclid(86_400) {
            let reread = format!("REREAD automatic midnight {} {}", short_date(self.now), self.seconds());
            self.record(out, &reread);
        }
        if let Some(Reverse((end, number))) = self.ends.peek().copied()
            && end <= self.now
        {
            self.ends.pop();
            return self.check_in(out, number);
        }
        let (feature, user, host) = (self.rng.usize(..FEATURES), self.rng.u32(..self.users), self.rng.u32(..2));
        if self.rng.u8(..20) == 0 {
            self.deny(out, feature, user, host)
        } else {
            self.check_out(out, feature, user, host)
        }
    }

    fn check_out(&mut self, out: &mut Vec<u8>, feature: usize, user: u32, host: u32) {
        let Some(number) = self.free.pop_first() else { return };
        // A second program of the same person shares the first one's seat, which goes by the number of any session on it.
        let same = self.open.iter().filter(|(_, open)| (open.feature, open.user, open.host) == (feature, user, host));
        let same: Vec<(u32, u32)> = same.map(|(own, open)| (*own, open.seat)).collect();
        let first = self.rng.choice(same);
        let (shared, seat) = first.unwrap_or((number, self.next_seat));
        let seats = match self.seats.get_mut(&seat) {
            Some(seat) => {
                seat.sessions += 1;
                0
            }
            None => {
                self.next_seat += 1;
                self.seats.insert(seat, Seat { feature, from: self.now, sessions: 1, seats: 1 });
                1
            }
        };
        self.truth.out(self.now, feature, user, host, seats);
        self.open.insert(number, Session { feature, user, host, from: self.now, seat });
        self.ends.push(Reverse((self.now + self.rng.i64(60..40_000), number)));
        let client = client(user, host);
        let line = match self.format {
            ReportFormat::Std => format!(
                "OUT product{feature} 1.0 1 {client} \"\" 1 7 0 {number:x} {shared:x} 1a14 \"\" \"\" \"\" {} {}",
                short_date(self.now),
                self.seconds()
            ),
            ReportFormat::Small => {
                format!("OUT product{feature} 1.0 {client} \"\" 1 {number:x} {shared:x} {}", self.minutes())
            }
        };
        self.record(out, &line);
        self.debug_line(&format!("OUT: product{feature} v1.0 by {}@pc{user:05}-{host} ", user_name(user)));
    }

    fn check_in(&mut self, out: &mut Vec<u8>, number: u32) {
        let Some(Session { feature, user, host, .. }) = self.open.get(&number) else { return };
        let (feature, user, host) = (*feature, *user, *host);
        self.truth.returned(self.now, feature);
        self.end(number, self.now);
        let client = client(user, host);
        let line = match self.format {
            ReportFormat::Std => {
                format!(
                    "IN 1 product{feature} 1.0 {client} \"\" 1 6 0 {number:x} {} {}",
                    short_date(self.now),
                    self.seconds()
                )
            }
            ReportFormat::Small => format!("IN 1 1 {number:x} {}", self.minutes()),
        };
        self.record(out, &line);
        self.debug_line(&format!("IN: (client exit) product{feature} v1.0 by {}@pc{user:05}-{host} ", user_name(user)));
    }

    /// Returns the lowest number of the sessions on a seat.
    fn first_on(&self, seat: u32) -> u32 {
        self.open.iter().find(|(_, open)| open.seat == seat).map_or(0, |(own, _)| *own)
    }

    /// Ends a session, and its seat if no other session shares that.
    fn end(&mut self, number: u32, at: i64) {
        let Some(session) = self.open.remove(&number) else { return };
        self.free.insert(number);
        self.truth.hold_person(session.from, at, session.feature, session.user, session.host);
        if let Some(seat) = self.seats.get_mut(&session.seat) {
            seat.sessions -= 1;
            if seat.sessions == 0 {
                self.truth.free_seats(seat.from, at, session.feature, seat.seats);
                self.seats.remove(&session.seat);
            }
        }
    }

    fn deny(&mut self, out: &mut Vec<u8>, feature: usize, user: u32, host: u32) {
        let is_last = self.rng.bool();
        let stamp = match self.format {
            ReportFormat::Std => format!("{} {}", short_date(self.now), self.minutes()),
            ReportFormat::Small => self.minutes(),
        };
        let line =
            format!("DENY product{feature} 1.0 {} \"\" 1 -22 {} 485c {stamp}", client(user, host), u8::from(is_last));
        self.record(out, &line);
        // Another server could still give it.
        if is_last {
            self.truth.denied(self.now, feature, user, host);
            self.debug_line(&format!("DENIED: (1) product{feature} v1.0 to {}@pc{user:05}-{host} ", user_name(user)));
            self.debug_line("        All licenses in use");
        }
    }

    fn record(&mut self, out: &mut Vec<u8>, line: &str) {
        // Writing to a vector cannot fail.
        let _ = writeln!(out, "{line}");
        self.last_line = self.now;
        self.lines += 1;
    }

    fn debug_line(&mut self, message: &str) {
        let _ = writeln!(self.debug, "{} {} ({ISV}) {message}", short_date(self.now), self.minutes());
    }

    fn minutes(&self) -> String {
        let time = self.now.rem_euclid(86_400);
        format!("{:02}:{:02}", time / 3600, time / 60 % 60)
    }

    fn seconds(&self) -> String {
        format!("{}:{:02}", self.minutes(), self.now.rem_euclid(60))
    }
}

/// A user on a host. Neither is in quotes.
fn client(user: u32, host: u32) -> String {
    format!("{} pc{user:05}-{host}", user_name(user))
}

fn full_date(now: i64) -> String {
    let (year, month, day) = date_of(now);
    format!("{month:02}/{day:02}/{year}")
}

fn short_date(now: i64) -> String {
    let (_, month, day) = date_of(now);
    format!("{month:02}/{day:02}")
}
