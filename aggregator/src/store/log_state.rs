//! The state of a log's projection: the sessions open at its last line, and the denials that can still be retried.
//!
//! Ingest writes the state with the facts. Questions read it, since open sessions are usage that no fact contains yet.

use prost::Message;
use seatmeter_count::sessions::held_through;

use super::names::Client;
use super::{Failure, StoreError};

/// The state, column by column, with the ids of the database.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LogState {
    /// The features of the open sessions. The four columns that follow belong to the same sessions.
    #[prost(uint32, repeated, tag = "1")]
    features: Vec<u32>,
    #[prost(uint32, repeated, tag = "2")]
    identities: Vec<u32>,
    #[prost(uint32, repeated, tag = "3")]
    devices: Vec<u32>,
    #[prost(sint64, repeated, tag = "4")]
    from: Vec<i64>,
    #[prost(uint32, repeated, tag = "5")]
    seats: Vec<u32>,
    /// For each session, 0, or 1 more than the seconds from its start to the exit of its daemon. Empty in states from
    /// before exits were stored.
    #[prost(uint32, repeated, tag = "10")]
    exited_after: Vec<u32>,
    /// The features of the denials. The three columns that follow belong to the same denials.
    #[prost(uint32, repeated, tag = "6")]
    denied_features: Vec<u32>,
    #[prost(uint32, repeated, tag = "7")]
    denied_identities: Vec<u32>,
    #[prost(uint32, repeated, tag = "8")]
    denied_devices: Vec<u32>,
    #[prost(sint64, repeated, tag = "9")]
    denied_at: Vec<i64>,
    /// The stream that was projected last; 0 if there is none.
    #[prost(int64, tag = "11")]
    pub stream_id: i64,
    /// The last line of the stream before it, in seconds since 1970 UTC; 0 if there is none.
    #[prost(sint64, tag = "12")]
    pub previous_end: i64,
    /// The stream time of the stream's last line, and its moment in seconds since 1970 UTC; absent if there is none.
    #[prost(sint64, optional, tag = "13")]
    last_time: Option<i64>,
    #[prost(sint64, optional, tag = "14")]
    last_at: Option<i64>,
    /// The latest moment that counts, in seconds since 1970 UTC; 0 if there is none.
    #[prost(sint64, tag = "15")]
    pub counted_through: i64,
    /// The lines that are kept apart; absent if there are none.
    #[prost(message, optional, tag = "16")]
    pub apart: Option<Apart>,
    /// The lines of streams that are kept apart as a whole; absent if there are none.
    #[prost(message, optional, tag = "17")]
    pub apart_streams: Option<Apart>,
    /// Whether the log has a line every six hours, as far as it has shown.
    #[prost(message, optional, tag = "18")]
    pub ticks: Option<Ticks>,
    /// The features whose seats are counted through another hour than that of the last line, as after a clock that was set
    /// back. The column that follows belongs to them.
    #[prost(uint32, repeated, tag = "19")]
    pub hour_features: Vec<u32>,
    /// Those hours, in hours since 1970 UTC.
    #[prost(sint64, repeated, tag = "20")]
    pub hours: Vec<i64>,
    /// For each session, its key as an event's detail, or 0. Empty if none has one.
    #[prost(int64, repeated, tag = "21")]
    keys: Vec<i64>,
    /// The last vendor daemon that lines have named; empty if none was.
    #[prost(string, tag = "22")]
    pub daemon: String,
    /// The open sessions, by their places in the columns above, that an answer which has begun has not stated yet.
    #[prost(uint32, repeated, tag = "23")]
    in_doubt: Vec<u32>,
    /// While an answer is not at its end, the moment of the answer before it, in seconds since 1970 UTC; absent if there is none.
    #[prost(sint64, optional, tag = "24")]
    pub not_before: Option<i64>,
    /// While a license manager answers in part, the moment of its last whole answer, in seconds since 1970 UTC; else absent.
    #[prost(sint64, optional, tag = "25")]
    pub partial_since: Option<i64>,
}

/// The lines with which daemons tell the date every six hours. All moments are seconds since 1970 UTC.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Ticks {
    /// The last such lines: those of several daemons alternate.
    #[prost(sint64, repeated, tag = "1")]
    pub recent: Vec<i64>,
    /// How many of them came six hours after another one, since the last start of a daemon.
    #[prost(uint32, tag = "2")]
    pub regular: u32,
    /// A time without any line that has just ended, from its beginning to its end; absent if there is none. If a daemon's
    /// start follows, nothing is missing.
    #[prost(sint64, optional, tag = "3")]
    pub silent_after: Option<i64>,
    /// The end of that time.
    #[prost(sint64, tag = "4")]
    pub silent_before: i64,
    /// The last line that was looked at; 0 if there is none.
    #[prost(sint64, tag = "5")]
    pub last: i64,
}

impl Ticks {
    /// Whether the log has a line every six hours, as far as it has shown: twice is no coincidence.
    pub fn are_regular(&self) -> bool {
        self.regular >= 2
    }
}

/// Lines that are kept apart, since they are dated ahead of time, or before license servers were. All moments are seconds
/// since 1970 UTC.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Apart {
    /// The number of lines.
    #[prost(uint64, tag = "1")]
    pub lines: u64,
    /// The earliest moment of one of them.
    #[prost(sint64, tag = "2")]
    pub from: i64,
    /// The latest moment of one of them.
    #[prost(sint64, tag = "3")]
    pub through: i64,
    /// The last line that counts before the first of them; 0 if there is none. They were written after it.
    #[prost(sint64, tag = "4")]
    pub after: i64,
    /// The first line that counts after the last of them; 0 if there is none.
    #[prost(sint64, tag = "5")]
    pub before: i64,
}

impl Apart {
    /// Returns the lines of both.
    pub fn and(self, other: Self) -> Self {
        Self {
            lines: self.lines + other.lines,
            from: self.from.min(other.from),
            through: self.through.max(other.through),
            after: self.after.min(other.after),
            // Without a line after either of them, there is none after both.
            before: if self.before == 0 || other.before == 0 { 0 } else { self.before.max(other.before) },
        }
    }

    /// Adds a line at a moment, which follows one that counts.
    pub fn add(&mut self, at: i64, last_line_at: i64) {
        if self.lines == 0 {
            (self.from, self.through, self.after) = (at, at, last_line_at);
        }
        (self.from, self.through) = (self.from.min(at), self.through.max(at));
        self.after = self.after.min(last_line_at);
        (self.lines, self.before) = (self.lines + 1, 0);
    }
}

/// An open session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredSession {
    /// The feature.
    pub feature: u32,
    /// The user and the host.
    pub client: Client,
    /// The moment of the checkout, in seconds since 1970 UTC.
    pub from: i64,
    /// The seats held.
    pub seats: u32,
    /// The seconds from the checkout to the exit of the daemon; `None` if the daemon has not ended.
    pub exited_after: Option<u32>,
    /// The license manager's number of the session, as an event's detail; 0 if it gives none.
    pub key: i64,
    /// Whether an answer has begun that has not stated the session yet.
    pub is_in_doubt: bool,
}

impl StoredSession {
    /// Returns the last moment through which the session is known to be held, in seconds since 1970 UTC, if the log has
    /// lines through `last_line_at`.
    pub fn known_through(&self, last_line_at: i64) -> i64 {
        let exit = self.exited_after.map(|seconds| self.from.saturating_add(seconds.into()));
        held_through(self.from, exit.unwrap_or(last_line_at))
    }
}

/// A denial that can still be retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredDenial {
    /// The feature.
    pub feature: u32,
    /// The user and the host.
    pub client: Client,
    /// The moment of the denial, in seconds since 1970 UTC.
    pub at: i64,
}

impl LogState {
    /// Reads an encoded state.
    pub fn read(bytes: &[u8]) -> Result<Self, StoreError> {
        let failed = |reason: String| {
            StoreError::new(
                Failure::Corrupt,
                format!("a log's state cannot be read: {reason}; run `seatmeter-aggregator rebuild`"),
            )
        };
        let saved = Self::decode(bytes).map_err(|error| failed(error.to_string()))?;
        let open = [saved.identities.len(), saved.devices.len(), saved.from.len(), saved.seats.len()];
        let denied = [saved.denied_identities.len(), saved.denied_devices.len(), saved.denied_at.len()];
        let mut optional = [saved.exited_after.len(), saved.keys.len()].into_iter();
        let is_whole = optional.all(|length| length == 0 || length == saved.features.len())
            && open.iter().all(|length| *length == saved.features.len())
            && denied.iter().all(|length| *length == saved.denied_features.len());
        if is_whole { Ok(saved) } else { Err(failed("its columns differ in length".into())) }
    }

    /// Creates the state of a log without open sessions. `last` is the stream time and the moment of the stream's last line.
    pub fn new(stream_id: i64, previous_end: i64, last: Option<(i64, i64)>) -> Self {
        let (last_time, last_at) = last.unzip();
        Self { stream_id, previous_end, last_time, last_at, ..Self::default() }
    }

    /// Returns the stream time and the moment of the last line of the stream that was projected last.
    pub fn last(&self) -> Option<(i64, i64)> {
        self.last_time.zip(self.last_at)
    }

    /// Adds an open session.
    pub fn push_session(&mut self, session: StoredSession) {
        if session.key != 0 {
            self.keys.resize(self.features.len(), 0);
        }
        if session.key != 0 || !self.keys.is_empty() {
            self.keys.push(session.key);
        }
        if session.is_in_doubt {
            self.in_doubt.push(self.features.len() as u32);
        }
        self.features.push(session.feature);
        self.identities.push(session.client.identity);
        self.devices.push(session.client.device);
        self.from.push(session.from);
        self.seats.push(session.seats);
        self.exited_after.push(session.exited_after.map_or(0, |seconds| seconds.saturating_add(1)));
    }

    /// Adds a denial that can still be retried.
    pub fn push_denial(&mut self, denial: StoredDenial) {
        self.denied_features.push(denial.feature);
        self.denied_identities.push(denial.client.identity);
        self.denied_devices.push(denial.client.device);
        self.denied_at.push(denial.at);
    }

    /// Returns the denials that can still be retried.
    pub fn denials(&self) -> impl Iterator<Item = StoredDenial> + '_ {
        (0..self.denied_features.len()).map(|index| StoredDenial {
            feature: self.denied_features[index],
            client: Client { identity: self.denied_identities[index], device: self.denied_devices[index] },
            at: self.denied_at[index],
        })
    }

    /// Returns the sessions that were open at the log's last line.
    pub fn open(&self) -> impl Iterator<Item = StoredSession> + '_ {
        (0..self.features.len()).map(|index| StoredSession {
            feature: self.features[index],
            client: Client { identity: self.identities[index], device: self.devices[index] },
            from: self.from[index],
            seats: self.seats[index],
            exited_after: self.exited_after.get(index).and_then(|stored| stored.checked_sub(1)),
            key: self.keys.get(index).copied().unwrap_or(0),
            // In ascending order, as they were added.
            is_in_doubt: self.in_doubt.binary_search(&(index as u32)).is_ok(),
        })
    }
}
