//! License servers and agents: who reports, who is silent, what could not be understood.

use seatmeter_proto::timestamp;
use seatmeter_proto::v1::{Agent, LicenseServer, LineCounts, Log, UnrecognisedLine};

use crate::store::{Store, StoreError, received};
use crate::usage::month::Fleet as Received;

/// A place between two samples: the stream and the position of the one before.
pub type Place = (i64, i64);

/// Answers questions about license servers and agents.
#[derive(Clone)]
pub struct Fleet {
    store: Store,
}

impl Fleet {
    /// Answers from this store.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// The license servers, in the order of their names.
    pub fn license_servers(&self) -> Result<Vec<LicenseServer>, StoreError> {
        self.store.read(|connection| {
            let received = Received::read(connection)?;
            let agents = received::agents(connection)?;
            let servers = received.servers.iter().map(|server| {
                let speaking: Vec<_> = agents.iter().filter(|agent| agent.server_id == server.id).collect();
                let logs: Vec<_> = received.logs.iter().filter(|log| log.server_id == server.id).collect();
                let last_line = logs.iter().map(|log| log.last_line_at).max().unwrap_or(0);
                let mut lines = LineCounts::default();
                for stream in received.streams.iter().filter(|stream| stream.server_id == server.id) {
                    lines.events += stream.lines[0] as u64;
                    lines.noise += stream.lines[1] as u64;
                    lines.unrecognised += stream.lines[2] as u64;
                }
                let mut warnings = Vec::new();
                if speaking.len() > 1 {
                    warnings.push(format!(
                        "{} agents speak for it: give each license server a name of its own, or remove the agents that are gone",
                        speaking.len()
                    ));
                }
                if lines.unrecognised > 0 {
                    warnings.push(format!("{} lines were not understood", lines.unrecognised));
                }
                LicenseServer {
                    name: server.name.clone(),
                    realm: server.realm.clone(),
                    last_report: speaking.iter().map(|agent| agent.last_report).max().map(timestamp),
                    last_line: (last_line > 0).then(|| timestamp(last_line)),
                    lines: Some(lines),
                    open_sessions: logs.iter().map(|log| received.open(log.id).len() as u64).sum(),
                    logs: logs.iter().map(|log| log_of(log, &received)).collect(),
                    warnings,
                }
            });
            Ok(servers.collect())
        })
    }

    /// The agents, in the order of their license servers' names.
    pub fn agents(&self) -> Result<Vec<Agent>, StoreError> {
        self.store.read(|connection| {
            let servers = received::servers(connection)?;
            let mut agents: Vec<Agent> = received::agents(connection)?
                .into_iter()
                .map(|agent| Agent {
                    license_server: servers
                        .iter()
                        .find(|s| s.id == agent.server_id)
                        .map(|s| s.name.clone())
                        .unwrap_or_default(),
                    id: agent.id,
                    host: agent.host,
                    version: agent.version,
                    last_report: Some(timestamp(agent.last_report)),
                    clock_ahead_seconds: agent.clock_ahead,
                    heartbeat: Some(agent.heartbeat),
                })
                .collect();
            agents.sort_by(|a, b| (&a.license_server, &a.id).cmp(&(&b.license_server, &b.id)));
            Ok(agents)
        })
    }

    /// Samples of lines that no rule understands, after (stream, position); and after which the next page begins.
    pub fn unrecognised(
        &self,
        license_server: &str,
        after: Place,
        limit: usize,
    ) -> Result<(Vec<UnrecognisedLine>, Option<Place>), StoreError> {
        self.store.read(|connection| {
            let received = Received::read(connection)?;
            let mut lines = Vec::new();
            let mut after = after;
            loop {
                let page = received::unrecognised(connection, after, limit as i64)?;
                let is_last = page.len() < limit;
                for sample in page {
                    after = (sample.stream_id, sample.position as i64);
                    let Some(stream) = received.streams.iter().find(|stream| stream.id == sample.stream_id) else {
                        continue;
                    };
                    let Some(server) = received.server_of(stream.log_id) else { continue };
                    if !crate::usage::is_named(license_server, server) {
                        continue;
                    }
                    lines.push(UnrecognisedLine {
                        license_server: server.name.clone(),
                        log: received
                            .logs
                            .iter()
                            .find(|log| log.id == stream.log_id)
                            .map(|log| log.name.clone())
                            .unwrap_or_default(),
                        position: sample.position,
                        near: (sample.near != 0).then(|| timestamp(sample.near)),
                        text: sample.line,
                    });
                    if lines.len() == limit {
                        return Ok((lines, Some(after)));
                    }
                }
                if is_last {
                    return Ok((lines, None));
                }
            }
        })
    }
}

fn log_of(log: &received::Log, received: &Received) -> Log {
    let streams: Vec<_> = received.streams.iter().filter(|stream| stream.log_id == log.id).collect();
    let gaps: i64 =
        received.gaps.iter().filter(|(id, _)| streams.iter().any(|s| s.id == *id)).map(|(_, count)| count).sum();
    Log {
        name: log.name.clone(),
        last_line: (log.last_line_at > 0).then(|| timestamp(log.last_line_at)),
        streams: streams.len() as u64,
        gaps: gaps as u64,
    }
}
