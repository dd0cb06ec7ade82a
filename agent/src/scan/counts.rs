//! The counts of a scan: sets of people per month and feature, stored as bits.

use seatmeter_count::interner::Interned;
use seatmeter_count::name::{decode, fold_case};
use seatmeter_count::{
    Calendar, ClientId, Ending, Event, FeatureId, InternQueue, Interner, Month, Sessions, UsageSink,
};
use serde::Serialize;

use crate::format::interpreter::Timed;

/// The usage of a feature in a month. The fields are the columns of the CSV, in order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Row {
    /// The month, as `YYYY-MM`.
    pub month: String,
    /// The vendor daemon.
    pub daemon: String,
    /// The feature.
    pub feature: String,
    /// The number of people who checked out.
    pub users_checked_out: u64,
    /// The number of people who held a seat at any moment of the month.
    pub users_held: u64,
    /// The number of checkout lines.
    pub outs: u64,
    /// The number of checkin lines.
    pub ins: u64,
    /// The number of denial lines.
    pub denials: u64,
}

/// Counts the events of a scan, in their order.
#[derive(Default)]
pub struct ScanCounts {
    /// The sessions of each sequence of files.
    sequences: Vec<Sequence>,
    current: usize,
    names: Names,
    counts: Counts,
    /// Events whose clients wait to be looked up together; only their client is not set yet.
    waiting: Vec<Event>,
    queue: InternQueue,
}

/// The sessions of the files that follow one another.
#[derive(Default)]
struct Sequence {
    sessions: Sessions,
    last_line: Option<i64>,
}

/// Names as written, and with their case folded.
#[derive(Default)]
struct Names {
    features: Interner,
    /// For each feature, the number of its daemon's own entry.
    daemon_of: Vec<u32>,
    written: Interner,
    folded: Interner,
    users: Interner,
    /// For each client as written, the client with folded case.
    folded_of: Vec<ClientId>,
}

impl Names {
    fn feature(&mut self, daemon: &[u8], feature: &[u8]) -> FeatureId {
        let Interned { number, is_new } = self.features.intern(daemon, feature);
        if is_new {
            // The daemon's own entry has an empty feature name. If it is new, it gets the number after the feature's.
            let daemon = if feature.is_empty() { number } else { self.features.intern(daemon, b"").number };
            self.daemon_of.resize(self.features.len(), daemon);
        }
        number
    }

    /// Returns the client with folded case.
    fn folded(&mut self, counts: &mut Counts, written: Interned) -> ClientId {
        if written.is_new {
            let (user, host) = self.written.get(written.number);
            let (user, host) = (decode(user), decode(host));
            let (user, host) = (fold_case(&user), fold_case(&host));
            let folded = self.folded.intern(user.as_bytes(), host.as_bytes());
            if folded.is_new {
                counts.user_of.push(self.users.intern(user.as_bytes(), b"").number);
            }
            self.folded_of.push(folded.number);
        }
        self.folded_of[written.number as usize]
    }
}

impl ScanCounts {
    /// The events that follow are those of the sequence with this number, from 0.
    pub fn of_sequence(&mut self, number: usize) {
        self.count_waiting();
        self.current = number;
        if self.sequences.len() <= number {
            self.sequences.resize_with(number + 1, Sequence::default);
        }
    }

    /// Counts an event at a local time, in seconds since 1970. If it names no daemon, it is one of `daemon`.
    pub fn take<'a>(&mut self, timed: &Timed<'a>, local: i64, daemon: &'a [u8]) {
        let usage = &timed.usage;
        let daemon = timed.daemon_or(daemon);
        let feature = self.names.feature(daemon, usage.feature);
        let (user, host) = if usage.kind.has_client() { (usage.user, usage.host) } else { (&b""[..], &b""[..]) };
        self.queue.push(&self.names.written, user, host);
        self.waiting.push(Event {
            kind: usage.kind,
            at: local,
            feature,
            client: 0,
            seats: usage.seats,
            detail: usage.detail,
        });
        if self.queue.is_full() {
            self.count_waiting();
        }
    }

    /// Counts the events that wait, in their order.
    fn count_waiting(&mut self) {
        let written = self.queue.intern(&mut self.names.written);
        for (event, written) in self.waiting.iter_mut().zip(written) {
            event.client = self.names.folded(&mut self.counts, *written);
        }
        let Some(sequence) = self.sequences.get_mut(self.current) else { return };
        for event in self.waiting.drain(..) {
            sequence.sessions.apply(&event, &self.names.daemon_of, &mut self.counts);
        }
    }

    /// Records that the sequence has lines through this moment.
    pub fn seen_through(&mut self, at: i64) {
        self.sequences[self.current].last_line = Some(at);
    }

    /// Ends the open sessions of each sequence at its last line, and returns the rows.
    pub fn finish(mut self) -> Vec<Row> {
        self.count_waiting();
        for Sequence { sessions, last_line } in &mut self.sequences {
            if let Some(last) = *last_line {
                sessions.end_all(last, Ending::StillOpen, &mut self.counts);
            }
        }
        let mut rows: Vec<Row> = Vec::new();
        for (month, cells) in &self.counts.months {
            for (number, cell) in cells.iter().enumerate().filter(|(_, cell)| !cell.is_zero()) {
                let (daemon, feature) = self.names.features.get(number as u32);
                rows.push(Row {
                    month: month.to_string(),
                    daemon: decode(daemon).into_owned(),
                    feature: decode(feature).into_owned(),
                    users_checked_out: cell.users.count(CHECKED_OUT),
                    users_held: cell.users.count(HELD),
                    outs: cell.outs,
                    ins: cell.ins,
                    denials: cell.denials,
                });
            }
        }
        rows.sort_unstable();
        rows
    }
}

/// Counts by month and feature.
struct Counts {
    calendar: Calendar,
    months: Vec<(Month, Vec<Cell>)>,
    /// For each client, its user.
    user_of: Vec<u32>,
}

impl Default for Counts {
    fn default() -> Self {
        Self { calendar: Calendar::utc(), months: Vec::new(), user_of: Vec::new() }
    }
}

#[derive(Clone, Default)]
struct Cell {
    users: Users,
    outs: u64,
    ins: u64,
    denials: u64,
}

impl Cell {
    fn is_zero(&self) -> bool {
        self.users.0.is_empty() && self.outs + self.ins + self.denials == 0
    }
}

/// Two sets of users. Each user has one bit in each set; the words of the two sets are stored side by side.
#[derive(Clone, Default)]
struct Users(Vec<[u64; 2]>);

const HELD: usize = 0;
const CHECKED_OUT: usize = 1;

impl Users {
    fn insert(&mut self, user: u32, sets: impl IntoIterator<Item = usize>) {
        let word = user as usize / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, [0; 2]);
        }
        for set in sets {
            self.0[word][set] |= 1 << (user % 64);
        }
    }

    fn count(&self, set: usize) -> u64 {
        self.0.iter().map(|words| u64::from(words[set].count_ones())).sum()
    }
}

impl Counts {
    fn cell(&mut self, month: Month, feature: FeatureId) -> &mut Cell {
        // The requested month is nearly always the newest.
        let index = match self.months.iter().rposition(|(known, _)| *known == month) {
            Some(index) => index,
            None => {
                self.months.push((month, Vec::new()));
                self.months.len() - 1
            }
        };
        let cells = &mut self.months[index].1;
        let feature = feature as usize;
        if cells.len() <= feature {
            cells.resize(feature + 1, Cell::default());
        }
        &mut cells[feature]
    }

    fn cell_at(&mut self, at: i64, feature: FeatureId) -> &mut Cell {
        let month = self.calendar.month(at);
        self.cell(month, feature)
    }
}

impl UsageSink for Counts {
    fn checkout(&mut self, feature: FeatureId, client: ClientId, at: i64, _seats: u32) {
        let user = self.user_of[client as usize];
        let cell = self.cell_at(at, feature);
        cell.outs += 1;
        cell.users.insert(user, [HELD, CHECKED_OUT]);
    }

    fn checkin(&mut self, feature: FeatureId, _client: ClientId, at: i64) {
        self.cell_at(at, feature).ins += 1;
    }

    fn denial(&mut self, feature: FeatureId, _client: ClientId, at: i64) {
        self.cell_at(at, feature).denials += 1;
    }

    fn held(&mut self, feature: FeatureId, client: ClientId, from: i64, through: i64, _seats: u32, ending: Ending) {
        let user = self.user_of[client as usize];
        let (first, last) = (self.calendar.month(from), self.calendar.month(through));
        // The checkout has already added the user to its month.
        let mut month = if ending == Ending::Moment { first } else { first.next() };
        while month <= last {
            self.cell(month, feature).users.insert(user, [HELD]);
            month = month.next();
        }
    }

    fn in_use(&mut self, _feature: FeatureId, _at: i64, _seats: u64) {}
}
