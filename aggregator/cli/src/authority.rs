//! `seatmeter authority`: which authority signs the certificates of the aggregator and its agents, and how it is renewed.

use anyhow::Result;
use data_encoding::HEXLOWER;
use seatmeter_proto::v1::authority_service_client::AuthorityServiceClient;
use seatmeter_proto::v1::{
    AuthorityStep, CertificateAuthority, GetAuthorityRequest, GetAuthorityResponse, RenewAuthorityRequest,
};
use seatmeter_service::answer;
use seatmeter_service::screen::table::View;
use seatmeter_service::screen::text::{count, minute, visible};
use serde::Serialize;

use crate::connect::Channel;
use crate::notes::{stamp, tell_zone, zone};

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Authority {
    #[command(subcommand)]
    step: Option<Step>,
}

/// A step of a renewal.
#[derive(Clone, Copy, clap::Subcommand)]
enum Step {
    /// Make the next authority: agents and operators learn of it with their next connection
    Prepare,
    /// Let it sign the certificates of agents, as they are renewed
    Activate,
    /// Let it take the place of the one before, once every agent has a certificate of it; invitations that were made before are void
    Complete,
}

/// The authorities, and the renewal. The field names are those in JSON, and must not change.
#[derive(Serialize)]
struct Report {
    step: &'static str,
    authorities: Vec<Row>,
    agents: u64,
    not_ready: u64,
    not_ready_license_servers: Vec<String>,
}

#[derive(Serialize)]
struct Row {
    sha256: String,
    made_at: Option<String>,
    ends_at: Option<String>,
    signs_agents: bool,
}

impl From<&CertificateAuthority> for Row {
    fn from(authority: &CertificateAuthority) -> Self {
        Self {
            sha256: HEXLOWER.encode(&authority.sha256),
            made_at: stamp(authority.made_at.as_ref()),
            ends_at: stamp(authority.ends_at.as_ref()),
            signs_agents: authority.signs,
        }
    }
}

pub(crate) async fn authority(channel: &Channel, asked: &Authority, view: &View) -> Result<bool> {
    let mut client = AuthorityServiceClient::new(channel.clone());
    let Some(step) = asked.step else { return show(&mut client, view).await };
    let (step, done) = match step {
        Step::Prepare => (
            AuthorityStep::Prepare,
            "There is a next authority. Agents and operators learn of it with their next connection. Then: `seatmeter authority activate`",
        ),
        Step::Activate => (
            AuthorityStep::Activate,
            "It signs the certificates of agents, as they are renewed. Once all are: `seatmeter authority complete`",
        ),
        Step::Complete => (
            AuthorityStep::Complete,
            "It has taken the place of the one before, which nobody trusts any more. Invitations that were made before are void.",
        ),
    };
    client.renew_authority(RenewAuthorityRequest { step: step.into() }).await?;
    answer!("{done}");
    Ok(true)
}

async fn show(client: &mut AuthorityServiceClient<Channel>, view: &View) -> Result<bool> {
    let told = client.get_authority(GetAuthorityRequest {}).await?.into_inner();
    let step = match told.step() {
        AuthorityStep::Unspecified => "none",
        AuthorityStep::Prepare => "prepared",
        AuthorityStep::Activate => "activated",
        AuthorityStep::Complete => "completed",
    };
    if !view.is_for_people() {
        let report = Report {
            step,
            authorities: told.authorities.iter().map(Row::from).collect(),
            agents: told.agents,
            not_ready: told.not_ready_count,
            not_ready_license_servers: told.not_ready,
        };
        answer!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(true);
    }
    let zone = zone(&told.time_zone);
    for authority in &told.authorities {
        let moment = |at: &Option<prost_types::Timestamp>| at.as_ref().map(|at| minute(at.seconds, &zone));
        let (made, ends) = (moment(&authority.made_at), moment(&authority.ends_at));
        let signs = if authority.signs { ", signs the certificates of agents" } else { "" };
        let [made, ends] = [made, ends].map(Option::unwrap_or_default);
        answer!(
            "{}: made {made}, ends {ends}{signs}",
            HEXLOWER.encode(&authority.sha256[..8.min(authority.sha256.len())])
        );
    }
    if told.step() != AuthorityStep::Unspecified {
        tell_progress(step, &told);
    }
    tell_zone(&zone);
    Ok(true)
}

fn tell_progress(step: &str, told: &GetAuthorityResponse) {
    let (waiting, agents) = (told.not_ready_count, count(told.agents, "agent"));
    answer!("\nThe renewal is {step}; {waiting} of {agents} not ready for its end.");
    for server in &told.not_ready {
        answer!("  {}", visible(server));
    }
    let more = waiting.saturating_sub(told.not_ready.len() as u64);
    if more > 0 {
        answer!("  and {more} more");
    }
}
