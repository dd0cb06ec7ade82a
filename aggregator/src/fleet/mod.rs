//! License servers and agents: which report, which are silent, and which lines no parser recognises.

pub mod alerts;
pub mod report;
pub mod snapshot;
pub mod streams;
mod version;
pub mod warnings;
pub mod watcher;

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use jiff::Timestamp;
use seatmeter_count::name::fold_case;
use seatmeter_count::{Calendar, Day};
use seatmeter_proto::v1::Heartbeat;

use crate::rules::book::RuleBook;
use crate::store::agents::Agent;
use crate::store::engine::Connection;
use crate::store::names::Feature;
use crate::store::streams::Stream;
use crate::store::{Store, StoreError, received, usage};
use report::{LogReport, ReportState, excuse, is_silent, log_reports, server_state};
use snapshot::{FleetSnapshot, UnknownServer};
use warnings::{Kind, Limits, Severity, Warning, warnings};

/// Why a question about the fleet has no answer.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No license server has the name.
    #[error("there is no license server {:?}", .0.name)]
    UnknownServer(UnknownServer),
    /// Agents report under a name that is to be given up.
    #[error("{0} reports for it: change license_server in the agent's configuration, and what it has sent moves along")]
    StillReports(String),
    /// A license server has no log of this name that is a file; or none at all, if the name is empty.
    #[error(
        "{server} has no log {log:?} that is read from files: see `seatmeter servers {server}`. What a license manager is asked is \
         dated when it answers: there, another time zone holds from then on"
    )]
    UnknownLog {
        /// The license server.
        server: String,
        /// The name that was asked for.
        log: String,
    },
    /// No stream has a name that begins so.
    #[error("there is no stream {0:?}: see `seatmeter streams list`")]
    UnknownStream(String),
    /// Several streams have names that begin so.
    #[error("{count} streams have names that begin with {beginning:?}: give more digits, or the license server")]
    SeveralStreams {
        /// What was asked for.
        beginning: String,
        /// How many there are.
        count: usize,
    },
}

impl From<UnknownServer> for FleetError {
    fn from(error: UnknownServer) -> Self {
        Self::UnknownServer(error)
    }
}

/// A license server, as operators see it.
#[derive(Clone, Debug)]
pub struct ServerReport {
    /// The name.
    pub name: String,
    /// The case-folded name, by which license servers are ordered.
    pub key: String,
    /// The realm of its bare user names.
    pub realm: String,
    /// When an agent last reported for the license server, in seconds since 1970 UTC; `None` if none has.
    pub last_report: Option<i64>,
    /// The moment of the last dated line in its logs, in seconds since 1970 UTC; `None` if there is none.
    pub last_line: Option<i64>,
    /// The numbers of lines that became events, that were ignored, and that were not recognised.
    pub lines: [u64; 3],
    /// The number of sessions open at the last line.
    pub open_sessions: u64,
    /// Its logs, worst first.
    pub logs: Vec<LogReport>,
    /// The state of the worst log.
    pub state: ReportState,
    /// The first day on which it must report; `None` if no operator has said it.
    pub expected_from: Option<Day>,
    /// The first day on which it need not report any more; `None` if no operator has said it.
    pub retired_from: Option<Day>,
    /// The license servers that have files which begin as files of this one do, with the number of files.
    pub namesakes: Vec<(String, u64)>,
    /// The most that came of it in a day, since yesterday.
    pub came: Came,
    /// The features that are licensed by concurrent use and were in use in this month or the last one.
    pub concurrent_in_use: Vec<String>,
    /// What an operator should look into, the most urgent first.
    pub warnings: Vec<Warning>,
}

/// What came of a license server in a day.
#[derive(Clone, Copy, Debug, Default)]
pub struct Came {
    /// Batches.
    pub batches: u64,
    /// Bytes of batches.
    pub bytes: u64,
    /// Names that nobody had before.
    pub new_names: u64,
}

/// What moves if a license server gets another name.
#[derive(Clone, Debug)]
pub struct Renaming {
    /// The names of the logs.
    pub logs: Vec<String>,
    /// The number of streams.
    pub streams: u64,
    /// The number of agents that reported under the name so far.
    pub agents: u64,
    /// Whether there is a license server of the other name.
    pub is_merge: bool,
}

/// An agent, as operators see it.
#[derive(Clone, Debug)]
pub struct AgentReport {
    /// The agent's id, a UUID.
    pub id: String,
    /// The license server that the agent reports for.
    pub license_server: String,
    /// The machine that the agent runs on.
    pub host: String,
    /// The agent's version.
    pub version: String,
    /// When the agent last reported, in seconds since 1970 UTC.
    pub last_report: i64,
    /// How far the agent's clock is ahead of the aggregator's, in seconds; negative if it is behind.
    pub clock_ahead: i64,
    /// The agent's last heartbeat.
    pub heartbeat: Heartbeat,
    /// Whether the agent has not reported for more than [`report::SILENT_AFTER`] seconds.
    pub is_silent: bool,
}

/// A line that no parser recognises.
#[derive(Clone, Debug)]
pub struct UnrecognisedSample {
    /// The license server.
    pub license_server: String,
    /// The log.
    pub log: String,
    /// The position of the line in its file, a byte offset.
    pub position: u64,
    /// The moment of the last dated line before this one, in seconds since 1970 UTC; `None` if there is none.
    pub previous_line_at: Option<i64>,
    /// The beginning of the line.
    pub text: String,
}

/// A place between two samples: the stream and the position of the sample before the place.
pub type Place = (i64, i64);

/// Answers questions about license servers and agents.
#[derive(Clone)]
pub struct Fleet {
    store: Store,
    calendar: Calendar,
    limits: Arc<Limits>,
    book: RuleBook,
}

impl Fleet {
    /// Creates the questions over a store, with the days of this calendar. What is beyond these limits is a warning, and so is use of
    /// features that, by the rules in a book, are licensed by concurrent use.
    pub fn new(store: Store, calendar: Calendar, limits: Limits, book: RuleBook) -> Self {
        let limits = Limits { counted_from: Timestamp::now().as_second(), ..limits };
        Self { store, calendar, limits: Arc::new(limits), book }
    }

    /// Returns the license servers, ordered by name; only the one of this name if `name` is not empty.
    pub fn license_servers(&self, name: &str) -> Result<Vec<ServerReport>, FleetError> {
        let now = Timestamp::now().as_second();
        let since = self.calendar.clone().month(now).previous();
        let (fleet, in_use) = self.store.read(|connection| {
            let in_use = usage::features_in_use(connection, since.number())?;
            Ok::<_, StoreError>((FleetSnapshot::read(connection)?, in_use))
        })?;
        let named = fleet.named(name)?.map(|server| server.id);
        let wanted = fleet.servers.iter().filter(|server| named.is_none_or(|id| id == server.id));
        let differ = realms_with_several_keys(&fleet, now);
        let mut concurrent = self.concurrent_in_use(&fleet, in_use);
        let reports = wanted.map(|server| {
            let concurrent = concurrent.remove(&server.id).unwrap_or_default();
            let mut report = self.report(&fleet, server, concurrent, now);
            if differ.contains(server.realm.as_str()) && report.state != ReportState::NotExpected {
                report.warnings.insert(0, Warning::new(Kind::NamesDiffer, Severity::Alert));
            }
            report
        });
        Ok(reports.collect())
    }

    /// Returns which of the features in use of each license server, by its id, are licensed by concurrent use.
    fn concurrent_in_use(&self, fleet: &FleetSnapshot, in_use: Vec<(i64, Feature)>) -> HashMap<i64, BTreeSet<String>> {
        let mut found: HashMap<i64, BTreeSet<String>> = HashMap::new();
        let set = self.book.current();
        let rules = set.of(self.calendar.clone().month(Timestamp::now().as_second()));
        let concurrent: HashSet<&(String, String)> = rules.catalogue.concurrent().collect();
        for (log, Feature { daemon, name, .. }) in in_use {
            if concurrent.contains(&(daemon, name.clone()))
                && let Some(server) = fleet.server_of(log)
            {
                found.entry(server.id).or_default().insert(name);
            }
        }
        found
    }

    fn report(
        &self,
        fleet: &FleetSnapshot,
        server: &received::LicenseServer,
        concurrent: BTreeSet<String>,
        now: i64,
    ) -> ServerReport {
        let mut logs = log_reports(fleet, server, now);
        // A log that has begun before it was expected is no longer excused.
        let expected =
            fleet.expected(server, &self.calendar).filter(|_| logs.iter().all(|log| log.last_line.is_none()));
        let is_excused = excuse(&mut logs, expected, fleet.retired(server, &self.calendar), now);
        let lines = |outcome: usize| logs.iter().map(|log| log.lines[outcome]).sum();
        let agents: Vec<&Agent> = fleet.agents_of(server.id).collect();
        let intake = fleet.intake(server.id);
        let mut report = ServerReport {
            name: server.name.clone(),
            key: server.key.clone(),
            realm: server.realm.clone(),
            last_report: agents.iter().map(|agent| agent.last_report).max(),
            last_line: logs.iter().filter_map(|log| log.last_line).max(),
            lines: [lines(0), lines(1), lines(2)],
            open_sessions: logs.iter().map(|log| log.open_sessions).sum(),
            state: if is_excused { ReportState::NotExpected } else { server_state(&logs, fleet, server, now) },
            expected_from: server.expected_from,
            retired_from: server.retired_from,
            namesakes: fleet.namesakes(server.id).map(|(other, count)| (other.name.clone(), count)).collect(),
            came: Came { batches: intake.batches, bytes: intake.bytes, new_names: fleet.new_names(server.id) },
            concurrent_in_use: concurrent.into_iter().collect(),
            warnings: Vec::new(),
            logs,
        };
        report.warnings = warnings(&report, &agents, &self.limits, &self.calendar, now);
        report
    }

    /// Returns what moves if a license server gets another name.
    pub fn renaming(&self, name: &str, new_name: &str) -> Result<Renaming, FleetError> {
        let fleet = self.store.read(FleetSnapshot::read)?;
        let server = fleet.must_be_named(name)?;
        let other = fleet.named(new_name).ok().flatten();
        let logs: Vec<&received::Log> = fleet.logs_of(server.id).collect();
        let now = Timestamp::now().as_second();
        let is_other = fold_case(name) != fold_case(new_name);
        if let Some(agent) = fleet.agents_of(server.id).find(|agent| is_other && !is_silent(agent, now)) {
            return Err(FleetError::StillReports(format!("the agent on {}", agent.host)));
        }
        Ok(Renaming {
            streams: logs.iter().map(|log| fleet.streams_of(log.id).count() as u64).sum(),
            logs: logs.iter().map(|log| log.name.clone()).collect(),
            agents: fleet.agents_of(server.id).count() as u64,
            is_merge: other.is_some_and(|other| other.id != server.id),
        })
    }

    /// Refuses a name that no license server has.
    pub fn must_know(&self, name: &str) -> Result<(), FleetError> {
        let fleet = self.store.read(FleetSnapshot::read)?;
        Ok(fleet.must_be_named(name).map(drop)?)
    }

    /// Returns the agents, ordered by the name of their license server, then by id; only those of one license server if
    /// its name is not empty.
    pub fn agents(&self, license_server: &str) -> Result<Vec<AgentReport>, FleetError> {
        let now = Timestamp::now().as_second();
        let fleet = self.store.read(FleetSnapshot::read)?;
        let named = fleet.named(license_server)?.map(|server| server.id);
        let mut reports = Vec::new();
        for server in fleet.servers.iter().filter(|server| named.is_none_or(|id| id == server.id)) {
            reports.extend(fleet.agents_of(server.id).map(|agent| AgentReport {
                id: agent.id.clone(),
                license_server: server.name.clone(),
                host: agent.host.clone(),
                version: agent.version.clone(),
                last_report: agent.last_report,
                clock_ahead: agent.clock_ahead,
                heartbeat: agent.heartbeat.clone(),
                is_silent: is_silent(agent, now),
            }));
        }
        Ok(reports)
    }

    /// Returns samples of lines that no parser recognises, beginning after a place. Also returns the place after which
    /// the next page begins; `None` on the last page.
    pub fn unrecognised(&self, license_server: &str, after: Place, limit: usize) -> Result<Samples, FleetError> {
        // One state for both: a sample of a stream that the fleet did not know yet would be passed over.
        self.store.read(|connection| {
            let fleet = FleetSnapshot::read(connection)?;
            let only = fleet.named(license_server)?.map(|server| server.id);
            Ok(samples(connection, &fleet, only, after, limit)?)
        })
    }
}

/// Returns the realms whose agents make pseudonyms with different keys, or of which some do and some do not.
fn realms_with_several_keys(fleet: &FleetSnapshot, now: i64) -> HashSet<&str> {
    let mut key_of: HashMap<&str, &str> = HashMap::new();
    let mut differ = HashSet::new();
    for server in &fleet.servers {
        for agent in fleet.agents_of(server.id).filter(|agent| !is_silent(agent, now)) {
            let key = agent.heartbeat.pseudonym_key_id.as_str();
            if *key_of.entry(&server.realm).or_insert(key) != key {
                differ.insert(server.realm.as_str());
            }
        }
    }
    differ
}

type Samples = (Vec<UnrecognisedSample>, Option<Place>);

/// Returns samples of unrecognised lines, of all license servers or of `only` one.
fn samples(
    connection: &mut dyn Connection,
    fleet: &FleetSnapshot,
    only: Option<i64>,
    after: Place,
    limit: usize,
) -> Result<Samples, StoreError> {
    let place_of: HashMap<i64, (&received::Log, &Stream)> = fleet
        .logs
        .iter()
        .flat_map(|log| fleet.streams_of(log.id).map(move |stream| (stream.id, (log, stream))))
        .collect();
    let (mut samples, mut after) = (Vec::new(), after);
    loop {
        let page = received::unrecognised(connection, after, limit as i64)?;
        let is_last = page.len() < limit;
        for sample in page {
            after = (sample.stream_id, sample.position as i64);
            let Some((log, stream)) = place_of.get(&sample.stream_id) else { continue };
            let Some(server) = fleet.server_of(log.id).filter(|server| only.is_none_or(|id| id == server.id)) else {
                continue;
            };
            let is_first = sample.previous.time == 0;
            let zone = log.configured.zone().filter(|_| !is_first);
            samples.push(UnrecognisedSample {
                license_server: server.name.clone(),
                log: log.name.clone(),
                position: sample.position,
                previous_line_at: zone.and_then(|zone| stream.moment(&zone, &sample.previous)),
                text: sample.line,
            });
            if samples.len() == limit {
                return Ok((samples, Some(after)));
            }
        }
        if is_last {
            return Ok((samples, None));
        }
    }
}
