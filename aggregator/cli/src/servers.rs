//! `seatmeter servers`, `agents` and `unrecognised`.

use anyhow::Result;
use seatmeter_proto::v1::fleet_service_client::FleetServiceClient;
use seatmeter_proto::v1::{
    Agent, LicenseServer, ListAgentsRequest, ListLicenseServersRequest, ListUnrecognisedLinesRequest, UnrecognisedLine,
};
use serde::Serialize;
use tonic::transport::Channel;

use crate::output::{self, Output, Row, moment, safe, stamp};

#[derive(clap::Args)]
pub(crate) struct Servers {
    /// Only this license server
    name: Option<String>,
}

#[derive(clap::Args)]
pub(crate) struct Unrecognised {
    /// Only this license server's
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
}

/// A license server. The names of the fields are those of JSON and CSV, and stay.
#[derive(Serialize)]
struct ServerRow {
    license_server: String,
    realm: String,
    last_report: String,
    last_line: String,
    logs: usize,
    open_sessions: u64,
    events: u64,
    noise_lines: u64,
    unrecognised_lines: u64,
    warnings: String,
}

impl From<LicenseServer> for ServerRow {
    fn from(server: LicenseServer) -> Self {
        let lines = server.lines.unwrap_or_default();
        Self {
            last_report: stamp(server.last_report.as_ref()),
            last_line: stamp(server.last_line.as_ref()),
            license_server: server.name,
            realm: server.realm,
            logs: server.logs.len(),
            open_sessions: server.open_sessions,
            events: lines.events,
            noise_lines: lines.noise,
            unrecognised_lines: lines.unrecognised,
            warnings: server.warnings.join("; "),
        }
    }
}

impl Row for ServerRow {
    const FIELDS: &'static [&'static str] = &[
        "license_server",
        "realm",
        "last_report",
        "last_line",
        "logs",
        "open_sessions",
        "events",
        "noise_lines",
        "unrecognised_lines",
        "warnings",
    ];
    const COLUMNS: &'static [&'static str] =
        &["Server", "Realm", "Last report", "Last line", "Logs ", "Open ", "Events ", "Not understood ", "Look into"];

    fn cells(&self) -> Vec<String> {
        vec![
            safe(&self.license_server),
            safe(&self.realm),
            moment(&self.last_report),
            moment(&self.last_line),
            self.logs.to_string(),
            self.open_sessions.to_string(),
            self.events.to_string(),
            self.unrecognised_lines.to_string(),
            safe(&self.warnings),
        ]
    }
}

pub(crate) async fn servers(channel: Channel, asked: Servers, output: Output) -> Result<()> {
    let found = FleetServiceClient::new(channel).list_license_servers(ListLicenseServersRequest {}).await?.into_inner();
    let wanted = |name: &str| asked.name.as_ref().is_none_or(|asked| asked.eq_ignore_ascii_case(name));
    let rows: Vec<ServerRow> =
        found.license_servers.into_iter().filter(|server| wanted(&server.name)).map(ServerRow::from).collect();
    output::print(&rows, output)
}

/// An agent. The names of the fields are those of JSON and CSV, and stay.
#[derive(Serialize)]
struct AgentRow {
    license_server: String,
    agent_id: String,
    host: String,
    version: String,
    last_report: String,
    clock_ahead_seconds: i64,
    buffered_batches: u64,
    buffered_bytes: u64,
    oldest_batch_age_seconds: u64,
    undated_lines: u64,
    troubles: String,
}

impl From<Agent> for AgentRow {
    fn from(agent: Agent) -> Self {
        let heartbeat = agent.heartbeat.unwrap_or_default();
        let troubles = heartbeat.sources.iter().filter(|source| !source.message.is_empty());
        Self {
            last_report: stamp(agent.last_report.as_ref()),
            troubles: troubles
                .map(|source| format!("{}: {}", source.log, source.message))
                .collect::<Vec<_>>()
                .join("; "),
            license_server: agent.license_server,
            agent_id: agent.id,
            host: agent.host,
            version: agent.version,
            clock_ahead_seconds: agent.clock_ahead_seconds,
            buffered_batches: heartbeat.buffered_batches,
            buffered_bytes: heartbeat.buffered_bytes,
            oldest_batch_age_seconds: heartbeat.oldest_batch_age_seconds,
            undated_lines: heartbeat.undated_lines,
        }
    }
}

impl Row for AgentRow {
    const FIELDS: &'static [&'static str] = &[
        "license_server",
        "agent_id",
        "host",
        "version",
        "last_report",
        "clock_ahead_seconds",
        "buffered_batches",
        "buffered_bytes",
        "oldest_batch_age_seconds",
        "undated_lines",
        "troubles",
    ];
    const COLUMNS: &'static [&'static str] = &[
        "Server",
        "Agent",
        "Host",
        "Version",
        "Last report",
        "Clock ahead ",
        "Waiting ",
        "Oldest ",
        "Undated ",
        "Troubles",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            safe(&self.license_server),
            safe(&self.agent_id),
            safe(&self.host),
            safe(&self.version),
            moment(&self.last_report),
            format!("{} s", self.clock_ahead_seconds),
            self.buffered_batches.to_string(),
            format!("{} s", self.oldest_batch_age_seconds),
            self.undated_lines.to_string(),
            safe(&self.troubles),
        ]
    }
}

pub(crate) async fn agents(channel: Channel, output: Output) -> Result<()> {
    let found = FleetServiceClient::new(channel).list_agents(ListAgentsRequest {}).await?.into_inner();
    let rows: Vec<AgentRow> = found.agents.into_iter().map(AgentRow::from).collect();
    output::print(&rows, output)
}

/// A line that was not understood. The names of the fields are those of JSON and CSV, and stay.
#[derive(Serialize)]
struct LineRow {
    license_server: String,
    log: String,
    position: u64,
    near: String,
    text: String,
}

impl From<UnrecognisedLine> for LineRow {
    fn from(line: UnrecognisedLine) -> Self {
        Self {
            near: stamp(line.near.as_ref()),
            license_server: line.license_server,
            log: line.log,
            position: line.position,
            text: line.text,
        }
    }
}

impl Row for LineRow {
    const FIELDS: &'static [&'static str] = &["license_server", "log", "position", "near", "text"];
    const COLUMNS: &'static [&'static str] = &["Server", "Log", "Position ", "Near", "Line"];

    fn cells(&self) -> Vec<String> {
        vec![
            safe(&self.license_server),
            safe(&self.log),
            self.position.to_string(),
            moment(&self.near),
            safe(&self.text),
        ]
    }
}

pub(crate) async fn unrecognised(channel: Channel, asked: Unrecognised, output: Output) -> Result<()> {
    let request = ListUnrecognisedLinesRequest {
        license_server: asked.server.unwrap_or_default(),
        page_size: 1000,
        page_token: String::new(),
    };
    let found = FleetServiceClient::new(channel).list_unrecognised_lines(request).await?.into_inner();
    let rows: Vec<LineRow> = found.lines.into_iter().map(LineRow::from).collect();
    output::print(&rows, output)?;
    if output == Output::Table && !found.next_page_token.is_empty() {
        eprintln!("There are more than these {}.", rows.len());
    }
    Ok(())
}
