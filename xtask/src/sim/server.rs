//! The simulated license server: people take and return seats, and the server logs it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::io::Write;

use fastrand::Rng;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::truth::{Figures, Truth, date_of, month_of};

/// The properties of a simulated license server.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed of the random numbers. The same seed gives the same log.
    pub seed: u64,
    /// The number of people.
    pub users: u32,
    /// The number of features.
    pub features: usize,
    /// The time at which the server starts, in seconds since 1970 UTC.
    pub start: i64,
    /// The time zone of the server's clock.
    pub zone: TimeZone,
    /// The average time from one line to the next, in seconds.
    pub seconds_a_line: f64,
    /// The average length of a session, in seconds.
    pub seconds_a_session: f64,
    /// Whether lines end as on Windows, with CR and LF.
    pub crlf: bool,
    /// The vendor daemon.
    pub daemon: &'static str,
}

impl Default for Plan {
    /// 20,000 people, 20 features, three months in ten million lines.
    fn default() -> Self {
        Self {
            seed: 1,
            users: 20_000,
            features: 20,
            start: 1_767_254_400, // 2026-01-01 08:00 UTC
            zone: TimeZone::UTC,
            seconds_a_line: 0.78,
            seconds_a_session: 5_400.0,
            crlf: false,
            daemon: "simulatd",
        }
    }
}

const MANAGER_TIMESTAMP: i64 = 6 * 3600;
const DAEMON_TIMESTAMP: i64 = 6 * 3600 + 300;
const STATISTICS: i64 = 4 * 3600;

/// Feature, user, host.
type Key = (usize, u32, u32);

/// A simulated license server.
pub struct Server {
    plan: Plan,
    rng: Rng,
    /// The current time, in seconds since 1970 UTC.
    now: f64,
    /// Seconds to add to UTC for the wall clock; valid until `offset_until`.
    offset: i64,
    offset_until: i64,
    truth: Truth,
    open: BTreeMap<Key, VecDeque<(i64, u32)>>,
    ends: BinaryHeap<Reverse<(i64, Key)>>,
    next_manager_timestamp: i64,
    next_daemon_timestamp: i64,
    next_statistics: i64,
    /// A refused client that will ask again, and the number of times it will do so.
    retry: Option<(Key, u32)>,
    last_line: i64,
    lines: u64,
}

impl Server {
    /// Creates a server that has not been started.
    pub fn new(plan: Plan) -> Self {
        let features = (0..plan.features).map(feature_name).collect();
        Self {
            rng: Rng::with_seed(plan.seed),
            now: plan.start as f64,
            offset: 0,
            offset_until: i64::MIN,
            truth: Truth::new(plan.daemon, features),
            open: BTreeMap::new(),
            ends: BinaryHeap::new(),
            next_manager_timestamp: 0,
            next_daemon_timestamp: 0,
            next_statistics: 0,
            retry: None,
            last_line: 0,
            lines: 0,
            plan,
        }
    }

    /// Returns the true figures of everything written so far.
    pub fn figures(&self) -> Vec<Figures> {
        let open = self.open.iter().flat_map(|((feature, user, host), seats)| {
            seats.iter().map(|(from, n)| (*from, *feature, *user, *host, *n))
        });
        self.truth.figures(open, self.last_line)
    }

    /// Returns the number of lines written so far.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Starts the manager and its daemon. Sessions that are still open, as after a crash, end with the last line.
    pub fn start(&mut self, out: &mut Vec<u8>) {
        let daemon = self.plan.daemon;
        let local = self.local();
        self.end_all();
        let (year, month, day) = date_of(local);
        self.line(out, "lmgrd", "-----------------------------------------------");
        self.line(out, "lmgrd", "  Please Note:");
        self.line(out, "lmgrd", "");
        let date = format!("{month}/{day}/{year}");
        self.line(
            out,
            "lmgrd",
            &format!("FlexNet Licensing (v11.19.6.0 build 293152 x64_lsb) started on LIC01 (linux) ({date})"),
        );
        self.line(out, "lmgrd", &format!("Started {daemon} (internet tcp_port 37560 pid 1085)"));
        self.line(out, self.plan.daemon, "FlexNet Licensing version v11.19.6.0 build 293152 x64_lsb");
        self.line(out, self.plan.daemon, &format!("Server started on LIC01 for:\t{}", feature_name(0)));
        self.next_manager_timestamp = local + MANAGER_TIMESTAMP;
        self.next_daemon_timestamp = local + DAEMON_TIMESTAMP;
        self.next_statistics = local + STATISTICS;
    }

    /// Stops the server for `seconds_away` seconds, as a power cut would. Call [`Server::start`] next.
    pub fn crash(&mut self, seconds_away: i64) {
        self.now += seconds_away as f64;
        self.retry = None;
    }

    /// Advances the time, and writes one line or sometimes a few.
    pub fn step(&mut self, out: &mut Vec<u8>) {
        let before = self.local();
        let gap = -self.plan.seconds_a_line * self.rng.f64().max(1e-9).ln();
        self.now += gap;
        let local = self.local();
        if month_of(before).0 != month_of(local).0 {
            self.truth.month_begins(local);
        }
        if local >= self.next_manager_timestamp {
            self.next_manager_timestamp += MANAGER_TIMESTAMP;
            return self.timestamp(out, "lmgrd", local);
        }
        if local >= self.next_daemon_timestamp {
            self.next_daemon_timestamp += DAEMON_TIMESTAMP;
            return self.timestamp(out, self.plan.daemon, local);
        }
        if local >= self.next_statistics {
            self.next_statistics += STATISTICS;
            return self.statistics(out, local);
        }
        if let Some(Reverse((end, key))) = self.ends.peek().copied()
            && end <= local
        {
            self.ends.pop();
            return self.check_in(out, local, key);
        }
        if let Some((key, left)) = self.retry.take() {
            self.retry = (left > 1).then(|| (key, left - 1));
            return self.deny(out, local, key);
        }
        let (feature, user) = (self.rng.usize(..self.plan.features), self.rng.u32(..self.plan.users));
        let key = (feature, user, u32::from(self.rng.u8(..) < 16));
        match self.rng.u8(..100) {
            0..2 => {
                self.retry = (self.rng.u8(..4) == 0).then(|| (key, self.rng.u32(1..5)));
                self.deny(out, local, key);
            }
            2 => self.line(out, self.plan.daemon, "(@simulatd-SLOG@) 00000000 ms,#42,(9476K),(somebody,PC-7,1672)"),
            _ => self.check_out(out, local, key),
        }
    }

    fn check_out(&mut self, out: &mut Vec<u8>, local: i64, key: Key) {
        let seats = if self.rng.u8(..) < 10 { self.rng.u32(2..6) } else { 1 };
        self.truth.out(local, key.0, key.1, key.2, seats);
        self.open.entry(key).or_default().push_back((local, seats));
        let length = -self.plan.seconds_a_session * self.rng.f64().max(1e-9).ln();
        self.ends.push(Reverse((local + length as i64, key)));
        self.usage(out, "OUT:", key, if seats > 1 { format!("({seats} licenses) ") } else { String::new() });
    }

    fn check_in(&mut self, out: &mut Vec<u8>, local: i64, key: Key) {
        let Some(queue) = self.open.get_mut(&key) else { return };
        // First in, first out, as license managers count.
        if let Some((from, seats)) = queue.pop_front() {
            self.truth.returned(local, key.0);
            self.truth.held(from, local.max(from), key.0, key.1, key.2, seats);
        }
        if queue.is_empty() {
            self.open.remove(&key);
        }
        let suffix = if self.rng.u8(..) < 4 { "(INACTIVE)".to_owned() } else { String::new() };
        self.usage(out, "IN:", key, suffix);
    }

    fn deny(&mut self, out: &mut Vec<u8>, local: i64, key: Key) {
        self.truth.denied(local, key.0, key.1, key.2);
        self.usage(out, "DENIED:", key, "(Licensed number of users already reached. (-4,342))".into());
    }

    fn usage(&mut self, out: &mut Vec<u8>, verb: &str, (feature, user, host): Key, tail: String) {
        // One name in fifty is written in capitals; it is the same person.
        let name = if self.rng.u8(..50) == 0 { user_name(user).to_uppercase() } else { user_name(user) };
        self.head(out, self.plan.daemon);
        // Writing to a vector cannot fail.
        let _ = write!(out, "{verb} \"{}\" {name}@PC{user:05}-{host}  {tail}", feature_name(feature));
        self.end_line(out);
    }

    fn timestamp(&mut self, out: &mut Vec<u8>, daemon: &str, local: i64) {
        let (year, month, day) = date_of(local);
        self.line(out, daemon, &format!("TIMESTAMP {month}/{day}/{year}"));
    }

    fn statistics(&mut self, out: &mut Vec<u8>, local: i64) {
        const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
        let (year, month, day) = date_of(local);
        let weekday = DAYS[local.div_euclid(86_400).rem_euclid(7) as usize];
        let time = local.rem_euclid(86_400);
        let (h, m, s) = (time / 3600, time / 60 % 60, time % 60);
        let month = MONTHS[month as usize - 1];
        self.line(out, self.plan.daemon, "(@simulatd-SLOG@) ===============================================");
        self.line(
            out,
            self.plan.daemon,
            &format!("(@simulatd-SLOG@) Time: {weekday} {month} {day:02} {year} {h:02}:{m:02}:{s:02} Sim Time"),
        );
        self.line(
            out,
            self.plan.daemon,
            "(@simulatd-SLOG@) Peak active connections #322 attempted at Thu Jun 09 2022 13:21:43 Sim Time",
        );
    }

    fn end_all(&mut self) {
        for ((feature, user, host), seats) in std::mem::take(&mut self.open) {
            for (from, seats) in seats {
                self.truth.held(from, self.last_line.max(from), feature, user, host, seats);
            }
        }
        self.ends.clear();
    }

    fn line(&mut self, out: &mut Vec<u8>, daemon: &str, message: &str) {
        self.head(out, daemon);
        out.extend_from_slice(message.as_bytes());
        self.end_line(out);
    }

    fn head(&mut self, out: &mut Vec<u8>, daemon: &str) {
        let local = self.local();
        self.last_line = local;
        let time = local.rem_euclid(86_400);
        let (h, m, s) = ((time / 3600) as u8, (time / 60 % 60) as u8, (time % 60) as u8);
        let tens = if h < 10 { b' ' } else { b'0' + h / 10 };
        out.extend_from_slice(&[
            tens,
            b'0' + h % 10,
            b':',
            b'0' + m / 10,
            b'0' + m % 10,
            b':',
            b'0' + s / 10,
            b'0' + s % 10,
        ]);
        out.extend_from_slice(b" (");
        out.extend_from_slice(daemon.as_bytes());
        out.extend_from_slice(b") ");
    }

    fn end_line(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(if self.plan.crlf { b"\r\n" } else { b"\n" });
        self.lines += 1;
    }

    /// Returns the time of the wall clock, in seconds since 1970-01-01 00:00 local time.
    fn local(&mut self) -> i64 {
        let utc = self.now as i64;
        if utc >= self.offset_until {
            let moment = Timestamp::from_second(utc).unwrap_or(Timestamp::UNIX_EPOCH);
            self.offset = self.plan.zone.to_offset(moment).seconds().into();
            self.offset_until =
                self.plan.zone.following(moment).next().map_or(i64::MAX, |change| change.timestamp().as_second());
        }
        utc + self.offset
    }
}

fn feature_name(feature: usize) -> String {
    format!("{}SIM_{:03}_F", 80_000 + feature * 37, feature)
}

/// Returns the name of a user. Most names are plain; some have blanks, signs or letters that are not ASCII, as real
/// ones do.
pub(super) fn user_name(user: u32) -> String {
    match user % 97 {
        11 => format!("Mila Ordonez {user}"),
        22 => format!("mª luz{user}"),
        33 => format!("pc{user:05}$"),
        _ => format!("user{user:05}"),
    }
}
