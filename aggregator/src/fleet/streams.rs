//! The files that logs were read from: what dates them, and what another date would change.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use hashbrown::HashMap;
use jiff::tz::TimeZone;
use seatmeter_count::{Calendar, Day, Kind, Month};
use seatmeter_proto::batch;

use super::snapshot::FleetSnapshot;
use super::{Fleet, FleetError};
use crate::dating::{Days, Key, key_of};
use crate::store::engine::Connection;
use crate::store::received::{self, LicenseServer, Log};
use crate::store::streams::Stream;
use crate::store::{Failure, StoreError};

/// What dates a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatedBy {
    /// Nothing: it counts nowhere.
    Nothing,
    /// One of its own lines.
    Line,
    /// The end of the stream that certainly comes before it.
    StreamBefore,
    /// The agent's configuration.
    Configuration,
    /// An operator.
    Operator,
}

/// A stream, as operators see it.
#[derive(Clone, Debug)]
pub struct StreamReport {
    /// The id of the stream.
    pub id: i64,
    /// The license server.
    pub license_server: String,
    /// The log.
    pub log: String,
    /// The stream's name, in hexadecimal digits.
    pub name: String,
    /// The day of the first line; `None` if nothing dates the stream.
    pub first_day: Option<Day>,
    /// What dates the stream.
    pub dated_by: DatedBy,
    /// The moment of the first line that counts, in seconds since 1970 UTC; `None` if nothing dates the stream.
    pub begins_at: Option<i64>,
    /// The moment of the last line, in seconds since 1970 UTC; `None` if nothing dates the stream.
    pub last_line_at: Option<i64>,
    /// The bytes received.
    pub bytes: u64,
    /// The numbers of lines that became events, that were ignored, and that were not recognised.
    pub lines: [u64; 3],
}

/// The checkouts in a month, before and after streams are dated otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// The checkouts before.
    pub before: u64,
    /// The checkouts after.
    pub after: u64,
}

/// What changes if a stream is dated otherwise.
#[derive(Clone, Debug)]
pub struct Redating {
    /// The stream, as it is.
    pub stream: StreamReport,
    /// The day of the first line from then on; `None` if nothing dates the stream then.
    pub first_day: Option<Day>,
    /// The months in which there are other checkouts than before.
    pub months: Months,
    /// The number of other streams that are dated otherwise.
    pub other_streams: u32,
}

/// The months of a change.
type Months = BTreeMap<Month, Difference>;

/// What changes if logs are written in another time zone.
#[derive(Clone, Debug, Default)]
pub struct Rezoning {
    /// The logs, and the IANA names of their time zones so far.
    pub logs: Vec<(String, String)>,
    /// The months in which there are other checkouts than before.
    pub months: Months,
}

impl Fleet {
    /// Returns the streams of all license servers, or of one: by license server, by log, then by beginning.
    pub fn streams(&self, license_server: &str) -> Result<Vec<StreamReport>, FleetError> {
        let fleet = self.store.read(FleetSnapshot::read)?;
        let named = fleet.named(license_server)?.map(|server| server.id);
        let mut reports = Vec::new();
        for server in fleet.servers.iter().filter(|server| named.is_none_or(|id| id == server.id)) {
            for log in fleet.logs_of(server.id) {
                reports.extend(fleet.streams_of(log.id).map(|stream| report(server, log, stream)));
            }
        }
        Ok(reports)
    }

    /// Returns what changes if the first line of a stream was written on a day; without a day, if what an operator has said
    /// is taken back. The stream is named by its first digits.
    pub fn redating(&self, license_server: &str, name: &str, day: Option<Day>) -> Result<Redating, FleetError> {
        self.store.read(|connection| {
            let fleet = FleetSnapshot::read(connection)?;
            let named = fleet.named(license_server)?.map(|server| server.id);
            let (server, log, stream) = find(&fleet, named, name)?;
            let logs: Vec<&Log> = fleet.logs_of(server.id).collect();
            let streams = logs.iter().flat_map(|log| fleet.streams_of(log.id));
            let mut later: HashMap<Key, Stream> = streams.map(|stream| (key_of(stream), stream.clone())).collect();
            later.entry(key_of(stream)).and_modify(|stream| stream.given_day = day);
            let of_log = |log: &Log| later.values().filter(|stream| stream.log_id == log.id).collect();
            let mut days = Days::new(&later, logs.iter().map(|log| (*log, of_log(log))));
            let (mut months, mut others) = (Months::new(), 0);
            for log in &logs {
                let Some(zone) = log.configured.zone() else { continue };
                for before in fleet.streams_of(log.id) {
                    let after = Stream { first_day: days.of(&key_of(before)), ..before.clone() };
                    if before.first_day == after.first_day {
                        continue;
                    }
                    compare(connection, (before, &zone), (&after, &zone), &self.calendar, &mut months)?;
                    others += u32::from(before.id != stream.id);
                }
            }
            months.retain(|_, difference| difference.before != difference.after);
            let first_day = days.of(&key_of(stream));
            Ok(Redating { stream: report(server, log, stream), first_day, months, other_streams: others })
        })
    }

    /// Returns what changes if the lines of a license server's logs, or of one of them, were written in another time zone.
    pub fn rezoning(&self, license_server: &str, log: &str, zone: &TimeZone) -> Result<Rezoning, FleetError> {
        self.store.read(|connection| {
            let fleet = FleetSnapshot::read(connection)?;
            let server = fleet.must_be_named(license_server)?;
            let mut rezoning = Rezoning::default();
            for read in fleet.logs_of(server.id).filter(|read| log.is_empty() || read.name == log) {
                let Some(before) = read.configured.zone().filter(|_| read.configured.poll_interval == 0) else {
                    continue;
                };
                rezoning.logs.push((read.name.clone(), before.iana_name().unwrap_or("UTC").to_owned()));
                for stream in fleet.streams_of(read.id) {
                    compare(connection, (stream, &before), (stream, zone), &self.calendar, &mut rezoning.months)?;
                }
            }
            if rezoning.logs.is_empty() {
                return Err(FleetError::UnknownLog { server: server.name.clone(), log: log.to_owned() });
            }
            rezoning.months.retain(|_, difference| difference.before != difference.after);
            Ok(rezoning)
        })
    }
}

/// Finds the stream whose name begins with these digits.
fn find<'a>(
    fleet: &'a FleetSnapshot,
    only: Option<i64>,
    name: &str,
) -> Result<(&'a LicenseServer, &'a Log, &'a Stream), FleetError> {
    let beginning = name.to_ascii_lowercase();
    let mut found = Vec::new();
    for server in fleet.servers.iter().filter(|server| only.is_none_or(|id| id == server.id)) {
        for log in fleet.logs_of(server.id) {
            let streams = fleet.streams_of(log.id);
            let named = streams.filter(|stream| HEXLOWER.encode(&stream.fingerprint).starts_with(&beginning));
            found.extend(named.map(|stream| (server, log, stream)));
        }
    }
    match found.as_slice() {
        [only] if !beginning.is_empty() => Ok(*only),
        _ if beginning.is_empty() => Err(FleetError::UnknownStream(name.to_owned())),
        [] => Err(FleetError::UnknownStream(name.to_owned())),
        several => Err(FleetError::SeveralStreams { beginning: name.to_owned(), count: several.len() }),
    }
}

fn report(server: &LicenseServer, log: &Log, stream: &Stream) -> StreamReport {
    let is_dated = stream.first_day.is_some();
    let dated_by = match stream {
        Stream { first_day: None, .. } => DatedBy::Nothing,
        Stream { given_day: Some(_), .. } => DatedBy::Operator,
        Stream { told_day: Some(_), .. } => DatedBy::Line,
        Stream { after, .. } if after.is_empty() => DatedBy::Configuration,
        _ => DatedBy::StreamBefore,
    };
    StreamReport {
        id: stream.id,
        license_server: server.name.clone(),
        log: log.name.clone(),
        name: HEXLOWER.encode(&stream.fingerprint),
        first_day: stream.first_day,
        dated_by,
        begins_at: is_dated.then_some(stream.begins_at),
        last_line_at: is_dated.then_some(stream.last_line_at),
        bytes: stream.mark,
        lines: stream.lines.map(|lines| lines.max(0) as u64),
    }
}

/// Adds the checkouts of a stream in each month: as it is dated, and as it would be.
fn compare(
    connection: &mut dyn Connection,
    before: (&Stream, &TimeZone),
    after: (&Stream, &TimeZone),
    calendar: &Calendar,
    months: &mut Months,
) -> Result<(), StoreError> {
    count(connection, before, calendar, &mut |month| months.entry(month).or_default().before += 1)?;
    count(connection, after, calendar, &mut |month| months.entry(month).or_default().after += 1)
}

/// Calls `each` with the month of each checkout of a stream whose lines are written in a time zone.
fn count(
    connection: &mut dyn Connection,
    (stream, zone): (&Stream, &TimeZone),
    calendar: &Calendar,
    each: &mut dyn FnMut(Month),
) -> Result<(), StoreError> {
    let Some(mut timeline) = stream.timeline(zone) else { return Ok(()) };
    let mut calendar = calendar.clone();
    received::each_batch(connection, stream.id, i64::MAX, &mut |archived| {
        let columns = batch::open(&archived.batch).map_err(|error| {
            StoreError::new(Failure::Corrupt, format!("batch {} in the archive: {error}", archived.id))
        })?;
        timeline.resume(batch::told_before(&archived.batch), None);
        for (position, event) in batch::events(&columns, archived.batch.start_position) {
            if event.kind == Kind::Unrecognised {
                continue;
            }
            let at = timeline.follow(&event);
            if event.kind == Kind::Checkout && position >= archived.start {
                each(calendar.month(at));
            }
        }
        Ok(())
    })
}
