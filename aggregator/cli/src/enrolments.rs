//! `seatmeter agents invite`, `enrolled`, `revoke`, `accept` and `reject`: which agents may report, and for which license server.

use std::collections::HashSet;

use anyhow::{Context, Result};
use clap::builder::NonEmptyStringValueParser;
use seatmeter_proto::v1::access_service_client::AccessServiceClient;
use seatmeter_proto::v1::{
    AcceptEnrolmentRequest, Enrolment, Holder, HolderStanding, InviteAgentRequest, ListEnrolmentsRequest,
    RejectCopyRequest, RevokeEnrolmentRequest,
};
use seatmeter_service::answer;
use seatmeter_service::screen::table::{Column, Kind, View, WIDE};
use seatmeter_service::screen::text::{count, utc, visible};
use serde::Serialize;

use crate::connect::Channel;
use crate::months::time;
use crate::notes::{print_whole, stamp};
use crate::operators::Line;

/// What is done about agents' enrolments.
#[derive(clap::Subcommand)]
pub(crate) enum Enrolments {
    /// Invite an agent: print the line with which it enrols
    ///
    /// Whoever has the line can enrol in the agent's place until somebody has: send it as you
    /// would a password.
    ///
    /// Examples:
    ///   seatmeter agents invite --server LIC01
    ///   seatmeter agents invite --uses 40 --ttl 7d
    #[command(verbatim_doc_comment)]
    Invite {
        /// The license server that the agent speaks for, and for no other; by default, the agent says it once
        #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
        server: Option<String>,
        /// The realm of the license server's user names; the default realm if none is given
        #[arg(long, value_name = "NAME")]
        realm: Option<String>,
        /// How long the line can be used, up to 30 days: 30m, 2h, 7d; half an hour, or 30 days with --offline, if none is given
        #[arg(long, value_name = "TIME", value_parser = time)]
        ttl: Option<prost_types::Duration>,
        /// How many agents can use it
        #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
        uses: u32,
        /// The aggregator's address as agents reach it, where it is not the first of its `names`
        #[arg(long, value_name = "URL")]
        url: Option<String>,
        /// Take nothing of the agent until `seatmeter agents accept`; what it reads waits in its buffer
        #[arg(long)]
        approve: bool,
        /// For an agent without a network: it exports what it reads into files, for `seatmeter import`
        #[arg(long, conflicts_with = "url")]
        offline: bool,
    },
    /// The agents that are enrolled, until when their certificates last, and copies of them; exit code 3 if one has ended, waits or is in quarantine
    Enrolled {
        /// Only those of this license server
        #[arg(long, value_name = "NAME")]
        server: Option<String>,
    },
    /// End an agent's enrolment: nothing that it sends is taken any more, at once; what it has sent stays
    ///
    /// Example: seatmeter agents revoke 1c80e7
    Revoke {
        /// The enrolment, as `seatmeter agents enrolled` shows it; its first digits are enough
        id: String,
    },
    /// Let an agent in that waits for it (`invite --approve`), whose certificate has expired too often, or that is a copy in quarantine
    ///
    /// What a copy has sent then counts for the license server, and so does all that it sends later.
    ///
    /// Example: seatmeter agents accept 1c80e7
    #[command(verbatim_doc_comment)]
    Accept {
        /// The enrolment, as `seatmeter agents enrolled` shows it; its first digits are enough
        id: String,
        /// Which copy, where several are in quarantine
        #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true)]
        copy: i64,
    },
    /// Say that a copy in quarantine never counts: nothing is taken of it any more
    ///
    /// Example: seatmeter agents reject 1c80e7
    Reject {
        /// The enrolment, as `seatmeter agents enrolled` shows it; its first digits are enough
        id: String,
        /// Which copy, where several are in quarantine
        #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true)]
        copy: i64,
    },
}

/// An enrolment. The field names are those in JSON and CSV, and must not change.
#[derive(Serialize)]
struct Row {
    status: &'static str,
    enrolment: String,
    license_server: String,
    copy: Option<i64>,
    realm: Option<String>,
    host: String,
    enrolled_at: Option<String>,
    last_connected: Option<String>,
    certificate_ends: Option<String>,
    recoveries_left: u32,
}

const COLUMNS: &[Column] = &[
    Column::new("status", "Status", Kind::State, 0),
    Column::new("enrolment", "Enrolment", Kind::Id, 0),
    Column::new("license_server", "Server", Kind::Text, 0),
    Column::new("copy", "Copy", Kind::Number, 1),
    Column::new("realm", "Realm", Kind::Text, WIDE),
    Column::new("host", "Host", Kind::Text, 1),
    Column::new("enrolled_at", "Enrolled", Kind::Time, 2),
    Column::new("last_connected", "Last connected", Kind::Time, 0),
    Column::new("certificate_ends", "Certificate ends", Kind::Time, 0),
    Column::new("recoveries_left", "Recoveries left", Kind::Number, WIDE),
];

impl Row {
    fn new(enrolment: Enrolment, now: i64) -> Self {
        let has_ended = enrolment.expires_at.is_none_or(|end| end.seconds <= now);
        let status = match (enrolment.revoked, enrolment.waits_for_approval, has_ended) {
            (true, ..) => "revoked",
            (false, true, _) => "waiting",
            (false, false, true) => "expired",
            (false, false, false) => "ok",
        };
        Self {
            status,
            enrolled_at: stamp(enrolment.enrolled_at.as_ref()),
            last_connected: stamp(enrolment.seen_at.as_ref()),
            certificate_ends: stamp(enrolment.expires_at.as_ref()).filter(|_| !enrolment.is_sealed),
            enrolment: enrolment.id,
            license_server: enrolment.license_server,
            copy: None,
            realm: Some(enrolment.realm).filter(|realm| !realm.is_empty()),
            host: enrolment.host,
            recoveries_left: enrolment.recoveries_left,
        }
    }

    /// Returns the rows of the copies of an agent.
    fn copies(enrolment: &Enrolment) -> Vec<Self> {
        let standing = |holder: &Holder| match holder.standing() {
            HolderStanding::Quarantined => Some("quarantined"),
            HolderStanding::Accepted => Some("accepted"),
            HolderStanding::Rejected => Some("rejected"),
            HolderStanding::Probation => Some("probation"),
            HolderStanding::Counted | HolderStanding::Displaced | HolderStanding::Unspecified => None,
        };
        let row = |holder: &Holder| {
            Some(Self {
                status: standing(holder)?,
                enrolment: enrolment.id.clone(),
                license_server: enrolment.license_server.clone(),
                copy: Some(holder.number),
                realm: Some(enrolment.realm.clone()).filter(|realm| !realm.is_empty()),
                host: format!("{} ({})", holder.host, holder.address),
                enrolled_at: stamp(holder.since.as_ref()),
                last_connected: stamp(holder.seen_at.as_ref()),
                certificate_ends: None,
                recoveries_left: 0,
            })
        };
        enrolment.holders.iter().filter_map(row).collect()
    }
}

pub(crate) async fn enrolments(channel: &Channel, asked: Enrolments, view: &View) -> Result<bool> {
    let mut client = AccessServiceClient::new(channel.clone());
    match asked {
        Enrolments::Invite { server, realm, ttl, uses, url, approve, offline } => {
            let request = InviteAgentRequest {
                license_server: server.clone().unwrap_or_default(),
                realm: realm.unwrap_or_default(),
                valid_for: ttl,
                uses,
                url: url.unwrap_or_default(),
                needs_approval: approve,
                is_sealed: offline,
            };
            let invited = client.invite_agent(request).await?.into_inner();
            if view.is_json() {
                let line = Line { line: invited.token, expires_at: stamp(invited.expires_at.as_ref()) };
                answer!("{}", serde_json::to_string_pretty(&line)?);
                return Ok(true);
            }
            if !view.is_for_people() {
                answer!("{}", invited.token);
                return Ok(true);
            }
            let expires = invited.expires_at.context("the answer has no end")?;
            let whom = server.map_or_else(String::new, |server| format!(" for {}", visible(&server)));
            let uses = count(uses.into(), "agent");
            answer!(
                "Run this{whom} on the license server, as administrator. It is for {uses}, until {}:\n",
                utc(expires.seconds)
            );
            answer!("seatmeter-agent enroll {}", invited.token);
            Ok(true)
        }
        Enrolments::Enrolled { server } => list(client, server.unwrap_or_default(), view).await,
        Enrolments::Revoke { id } => {
            let revoked = client.revoke_enrolment(RevokeEnrolmentRequest { id }).await?.into_inner();
            let revoked = revoked.enrolment.unwrap_or_default();
            answer!("{} for {} is revoked.", visible(&revoked.id), visible(&revoked.license_server));
            Ok(true)
        }
        Enrolments::Reject { id, copy } => {
            let rejected = client.reject_copy(RejectCopyRequest { id, copy }).await?.into_inner();
            let license_server = rejected.enrolment.unwrap_or_default().license_server;
            answer!(
                "The copy never counts for {}. Stop it, or enrol it under a name of its own.",
                visible(&license_server)
            );
            Ok(true)
        }
        Enrolments::Accept { id, copy } => {
            let accepted = client.accept_enrolment(AcceptEnrolmentRequest { id, copy }).await?.into_inner();
            let Enrolment { id, license_server, recoveries_left, .. } = accepted.enrolment.unwrap_or_default();
            let times = count(recoveries_left.into(), "time");
            let (id, license_server) = (visible(&id), visible(&license_server));
            answer!("{id} for {license_server} is accepted, and may renew an expired certificate {times}.");
            Ok(true)
        }
    }
}

async fn list(mut client: AccessServiceClient<Channel>, license_server: String, view: &View) -> Result<bool> {
    let mut request = ListEnrolmentsRequest { license_server, page_size: 1000, page_token: String::new() };
    let mut enrolments = Vec::new();
    let (time_zone, total) = loop {
        let page = client.list_enrolments(request.clone()).await?.into_inner();
        enrolments.extend(page.enrolments);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break (page.time_zone, page.total_size as u64);
        }
    };
    let now = jiff::Timestamp::now().as_second();
    let rows_of = |enrolment: Enrolment| {
        let copies = Row::copies(&enrolment);
        std::iter::once(Row::new(enrolment, now)).chain(copies)
    };
    let mut rows: Vec<Row> = enrolments.into_iter().flat_map(rows_of).collect();
    // Enrolled again, an agent is a new one: the one before it is no trouble.
    let replaced: HashSet<(String, String)> = rows
        .iter()
        .filter(|row| row.status == "ok")
        .map(|row| (row.license_server.clone(), row.host.clone()))
        .collect();
    for row in rows.iter_mut().filter(|row| row.status == "expired") {
        if replaced.contains(&(row.license_server.clone(), row.host.clone())) {
            row.status = "replaced";
        }
    }
    let is_well = rows.iter().all(|row| !["expired", "waiting", "quarantined"].contains(&row.status));
    print_whole(view, COLUMNS, &rows, (total, time_zone))?;
    Ok(is_well)
}
