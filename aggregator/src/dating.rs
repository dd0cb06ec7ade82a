//! On which days streams began. The answer is made of what is archived and configured, whatever came first.
//!
//! What an operator says goes before everything else, then a stream's own first date. Without either, it began when the
//! stream that certainly comes before it ended. Without that one either, the configuration can tell the day of a log's first
//! stream. A stream that nothing dates counts nowhere, until something does.

use hashbrown::HashMap;
use jiff::tz::TimeZone;
use seatmeter_count::Day;
use seatmeter_count::timeline::day_after;

use crate::store::received::Log;
use crate::store::streams::Stream;

/// The license server and the name of a stream.
pub type Key = (i64, Vec<u8>);

/// Returns the key of a stream.
pub fn key_of(stream: &Stream) -> Key {
    (stream.server_id, stream.fingerprint.clone())
}

/// Finds on which days streams began.
pub struct Days<'a> {
    streams: &'a HashMap<Key, Stream>,
    /// The days found so far, and those that the configuration tells.
    known: HashMap<Key, Option<Day>>,
}

impl<'a> Days<'a> {
    /// Creates a search among these streams. `logs` are those that can have a part in it, each with its streams.
    pub fn new<'b>(streams: &'a HashMap<Key, Stream>, logs: impl Iterator<Item = (&'b Log, Vec<&'a Stream>)>) -> Self {
        let mut known = HashMap::new();
        for (log, of_log) in logs {
            let Some(day) = log.configured.day else { continue };
            let Some(first) = of_log.into_iter().min_by_key(|stream| stream.id) else { continue };
            if first.given_day.or(first.told_day).is_none() && first.after.is_empty() {
                known.insert(key_of(first), Some(day));
            }
        }
        Self { streams, known }
    }

    /// Returns the day of a stream's first line; `None` if nothing dates it.
    pub fn of(&mut self, key: &Key) -> Option<Day> {
        // Up the chain to a stream whose day is known, then down again.
        let mut chain: Vec<Key> = Vec::new();
        let mut next = key.clone();
        let mut day = loop {
            if let Some(known) = self.known.get(&next) {
                break *known;
            }
            let Some(stream) = self.streams.get(&next) else { break None };
            if let Some(told) = stream.given_day.or(stream.told_day) {
                self.known.insert(next.clone(), Some(told));
                break Some(told);
            }
            if stream.after.is_empty() || chain.contains(&next) {
                break None;
            }
            let before = (stream.server_id, stream.after.clone());
            chain.push(std::mem::replace(&mut next, before));
        };
        let mut before = next;
        while let Some(key) = chain.pop() {
            day = match (day, self.streams.get(&before), self.streams.get(&key)) {
                (Some(day), Some(before), Some(stream)) => Some(day_after(end_of(before, day), stream.first_line_time)),
                _ => None,
            };
            self.known.insert(key.clone(), day);
            before = key;
        }
        day
    }
}

/// Returns the local time at which a stream that began on a day ends, in seconds since 1970.
fn end_of(stream: &Stream, first_day: Day) -> i64 {
    let dated = Stream { first_day: Some(first_day), ..stream.clone() };
    dated.timeline(&TimeZone::UTC).map_or(0, |mut timeline| {
        timeline.resume(stream.last.told, None);
        timeline.local(stream.last.time)
    })
}
