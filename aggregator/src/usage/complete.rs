//! How complete a month is: silence is never zero.

use jiff::Timestamp;
use seatmeter_count::{Calendar, Month};
use seatmeter_proto::v1::{Completeness, ServerCompleteness, SourceState};

use super::month::Fleet;
use crate::store::received::Agent;

/// In the current month, a license server whose last line is older than this (in seconds) is behind.
const FRESH: i64 = 86_400;

/// How complete a month is, for each license server and for all.
pub fn completeness(
    fleet: &Fleet,
    agents: &[Agent],
    calendar: &Calendar,
    month: Month,
    now: Timestamp,
) -> Completeness {
    let (start, end) = (calendar.start_of(month), calendar.start_of(month.next()));
    let now = now.as_second();
    let needed = end.min(now - FRESH);
    let servers: Vec<ServerCompleteness> = fleet
        .servers
        .iter()
        .map(|server| {
            let logs: Vec<_> = fleet.logs.iter().filter(|log| log.server_id == server.id).collect();
            let streams: Vec<_> = fleet.streams.iter().filter(|stream| stream.server_id == server.id).collect();
            let through = logs.iter().map(|log| log.last_line_at).max().unwrap_or(0);
            let begins = streams.iter().map(|stream| stream.begins_at).min();
            let mut reasons = Vec::new();
            match begins {
                None => reasons.push("nothing has been received from it yet".to_owned()),
                Some(begins) if begins >= end => reasons.push("its logs begin after the month".to_owned()),
                Some(begins) if begins > start => reasons.push(format!("its logs begin at {}", moment(begins))),
                Some(_) => {}
            }
            if begins.is_some_and(|begins| begins < end) && through < needed {
                reasons.push(format!("its last line is of {}", moment(through)));
            }
            if logs.iter().any(|log| log.needs_refold) {
                reasons.push("older logs are being counted in".to_owned());
            }
            let gaps: i64 =
                fleet.gaps.iter().filter(|(id, _)| streams.iter().any(|s| s.id == *id)).map(|(_, n)| n).sum();
            if gaps > 0 {
                reasons.push(format!("{gaps} known gaps: parts of its logs were gone before they could be read"));
            }
            reasons.extend(agents.iter().filter(|agent| agent.server_id == server.id).flat_map(troubles));
            ServerCompleteness {
                license_server: server.name.clone(),
                reported_through: (through > 0).then(|| seatmeter_proto::timestamp(through)),
                complete: reasons.is_empty(),
                reasons,
            }
        })
        .collect();
    Completeness { complete: !servers.is_empty() && servers.iter().all(|server| server.complete), servers }
}

/// What an agent says that it cannot deliver.
fn troubles(agent: &Agent) -> Vec<String> {
    let mut troubles = Vec::new();
    if agent.heartbeat.undated_lines > 0 {
        troubles.push(format!("{} lines cannot be dated yet", agent.heartbeat.undated_lines));
    }
    for source in &agent.heartbeat.sources {
        match source.state() {
            SourceState::Following | SourceState::Unspecified | SourceState::Undated => {}
            _ => troubles.push(format!("{}: {}", source.log, source.message)),
        }
    }
    troubles
}

fn moment(seconds: i64) -> String {
    Timestamp::from_second(seconds)
        .map_or_else(|_| "an unknown date".into(), |m| m.strftime("%Y-%m-%d %H:%M UTC").to_string())
}
