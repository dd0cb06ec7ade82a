//! Agents, each with its last report.

use prost::Message;
use seatmeter_proto::v1::{Heartbeat, Hello};

use super::StoreError;
use super::engine::Connection;
use super::sql::statements;

statements! {
    UPSERT_AGENT = "INSERT INTO agent (id, server_id, host, version, epoch, last_report, clock_ahead, heartbeat)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (id) DO UPDATE SET server_id = excluded.server_id, host = excluded.host,
         version = excluded.version, epoch = excluded.epoch, last_report = excluded.last_report,
         clock_ahead = excluded.clock_ahead, heartbeat = excluded.heartbeat, previous_server =
         CASE WHEN agent.server_id = excluded.server_id THEN agent.previous_server ELSE agent.server_id END";
    SELECT_AGENTS = "SELECT id, server_id, host, version, last_report, clock_ahead, heartbeat FROM agent ORDER BY id";
    SELECT_PREVIOUS_SERVER = "SELECT previous_server FROM agent WHERE id = $1";
    FORGET_PREVIOUS_SERVER = "UPDATE agent SET previous_server = NULL WHERE previous_server = $1";
    MOVE_AGENTS = "UPDATE agent SET server_id = $1 WHERE server_id = $2";
}

/// An agent, with its last report.
pub struct Agent {
    /// The id, a UUID.
    pub id: String,
    /// The id of the license server that the agent reports for.
    pub server_id: i64,
    /// The machine that the agent runs on.
    pub host: String,
    /// The agent's version.
    pub version: String,
    /// When the agent last reported, in seconds since 1970 UTC.
    pub last_report: i64,
    /// How far the agent's clock is ahead of the aggregator's, in seconds; negative if it is behind.
    pub clock_ahead: i64,
    /// The agent's last heartbeat; empty if none has come since the agent connected.
    pub heartbeat: Heartbeat,
}

/// Saves an agent with its last report.
pub fn save_agent(
    connection: &mut dyn Connection,
    server_id: i64,
    hello: &Hello,
    heartbeat: &Heartbeat,
    now: i64,
    clock_ahead: i64,
) -> Result<(), StoreError> {
    let heartbeat = heartbeat.encode_to_vec();
    let values = [
        (*hello.agent_id).into(),
        server_id.into(),
        (*hello.host).into(),
        (*hello.agent_version).into(),
        (*hello.epoch).into(),
        now.into(),
        clock_ahead.into(),
        (*heartbeat).into(),
    ];
    connection.execute(UPSERT_AGENT, &values).map(drop)
}

/// Returns all agents, ordered by id.
pub fn agents(connection: &mut dyn Connection) -> Result<Vec<Agent>, StoreError> {
    let mut found = Vec::new();
    connection.query(SELECT_AGENTS, &[], &mut |row| {
        found.push(Agent {
            id: row.text(0)?.into(),
            server_id: row.int(1)?,
            host: row.text(2)?.into(),
            version: row.text(3)?.into(),
            last_report: row.int(4)?,
            clock_ahead: row.int(5)?,
            // This program wrote the heartbeat. A damaged one counts as empty, so that the other agents are still read.
            heartbeat: Heartbeat::decode(row.blob(6)?).unwrap_or_default(),
        });
        Ok(())
    })?;
    Ok(found)
}

/// Returns the license server that an agent reported for before it named another one; `None` if it never has.
pub fn previous_server(connection: &mut dyn Connection, agent: &str) -> Result<Option<i64>, StoreError> {
    let mut found = None;
    connection.query(SELECT_PREVIOUS_SERVER, &[agent.into()], &mut |row| {
        found = row.int_or_null(0)?;
        Ok(())
    })?;
    Ok(found)
}

/// Lets the agents of a license server report for another one.
pub fn move_agents(connection: &mut dyn Connection, from: i64, to: i64) -> Result<(), StoreError> {
    connection.execute(MOVE_AGENTS, &[to.into(), from.into()]).map(drop)
}

/// Forgets that agents have reported for a license server before: another one can get its id.
pub fn forget_previous_server(connection: &mut dyn Connection, server_id: i64) -> Result<(), StoreError> {
    connection.execute(FORGET_PREVIOUS_SERVER, &[server_id.into()]).map(drop)
}
