//! `seatmeter.v1.AccessService`: who may speak with the aggregator.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use seatmeter_count::Day;
use seatmeter_count::name::fold_case;
use seatmeter_proto::sealed::Address;
use seatmeter_proto::timestamp;
use seatmeter_proto::v1::access_service_server::AccessService;
use seatmeter_proto::v1::{
    AcceptEnrolmentRequest, AcceptEnrolmentResponse, Enrolment, Holder, HolderStanding, InviteAgentRequest,
    InviteAgentResponse, ListEnrolmentsRequest, ListEnrolmentsResponse, RejectCopyRequest, RejectCopyResponse,
    RevokeEnrolmentRequest, RevokeEnrolmentResponse,
};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tonic::{Request, Response, Status};

use super::fleet::must_be_a_name;
use super::invitations::{url, valid_for};
use super::paging::{Page, THINGS};
use super::status::ApiError;
use super::{ConcurrencyLimit, answer, say};
use crate::access::authority::Authority;
use crate::access::enrolment::{EnrolmentError, Enrolments, Wanted, sealed};
use crate::codes;
use crate::ingest::archiver::{Command, Word};
use crate::quarantine::Copy;
use crate::store::enrolments as store;
use crate::store::holders::{self, Standing};

/// How long an invitation can be used, if nobody says otherwise; and at most, in days.
const USUAL: Duration = Duration::from_secs(30 * 60);
const MOST_DAYS: u32 = 30;

/// The same, if the agent has no network: its first export is carried.
const USUAL_SEALED: Duration = Duration::from_secs(30 * 86_400);

/// The most agents of one invitation.
const MOST_USES: u32 = 1000;

/// How the aggregator is known to agents without a network.
pub struct Sealed {
    /// The authority that signs the answers to their exports.
    pub authority: Arc<Authority>,
    /// The key with which they seal them.
    pub key: [u8; 32],
}

impl Sealed {
    fn address(&self) -> String {
        Address { key: self.key, authority: self.authority.sha256() }.to_string()
    }
}

/// Makes invitations, and tells and ends enrolments.
pub struct AccessApi {
    /// `None` if agents are not enrolled here.
    enrolments: Option<Enrolments>,
    /// The aggregator's address, as agents reach it.
    url: String,
    /// How it is known to agents without a network; `None` if agents are not enrolled here.
    sealed: Option<Sealed>,
    /// The IANA name of the billing time zone.
    time_zone: String,
    limit: ConcurrencyLimit,
    commands: mpsc::Sender<Command>,
}

impl AccessApi {
    /// Creates the service over enrolments, if agents are enrolled here, with a limit on requests. Agents reach the aggregator at
    /// `url`, or know it by the other address if they have no network; clients show moments in `time_zone`. What a copy has sent that is accepted moves by a command to the archiver.
    pub fn new(
        enrolments: Option<Enrolments>,
        (url, sealed): (String, Option<Sealed>),
        time_zone: String,
        limit: ConcurrencyLimit,
        commands: mpsc::Sender<Command>,
    ) -> Self {
        Self { enrolments, url, sealed, time_zone, limit, commands }
    }

    fn enrolments(&self) -> Result<Enrolments, ApiError> {
        self.enrolments.clone().ok_or(ApiError::NoEnrolments)
    }
}

#[tonic::async_trait]
impl AccessService for AccessApi {
    async fn invite_agent(
        &self,
        request: Request<InviteAgentRequest>,
    ) -> Result<Response<InviteAgentResponse>, Status> {
        let _permit = self.limit.enter()?;
        let (enrolments, asked) = (self.enrolments()?, request.into_inner());
        for (field, name) in [("license_server", &asked.license_server), ("realm", &asked.realm)] {
            if !name.is_empty() {
                must_be_a_name(field, name)?;
            }
        }
        if asked.uses > MOST_USES {
            return Err(ApiError::invalid("uses", format!("must be at most {MOST_USES}")).into());
        }
        let url = match asked.is_sealed {
            true => self.sealed.as_ref().ok_or(ApiError::NoEnrolments)?.address(),
            false => url(asked.url, &self.url)?,
        };
        let usual = if asked.is_sealed { USUAL_SEALED } else { USUAL };
        let wanted = Wanted {
            license_server: asked.license_server,
            realm: asked.realm,
            valid_for: valid_for(asked.valid_for, usual, MOST_DAYS)?,
            uses: asked.uses.max(1),
            url,
            needs_approval: asked.needs_approval,
        };
        answer(move || {
            let (invitation, expires_at) = enrolments.invite(&wanted)?;
            let (token, expires_at) = (invitation.to_string(), Some(timestamp(expires_at)));
            Ok::<_, EnrolmentError>(InviteAgentResponse { token, expires_at })
        })
        .await
    }

    async fn list_enrolments(
        &self,
        request: Request<ListEnrolmentsRequest>,
    ) -> Result<Response<ListEnrolmentsResponse>, Status> {
        let _permit = self.limit.enter()?;
        let (enrolments, asked) = (self.enrolments()?, request.into_inner());
        let page = Page::new(THINGS, asked.page_size, &asked.page_token, &["enrolments", &asked.license_server])?;
        let time_zone = self.time_zone.clone();
        answer(move || {
            let (mut listed, mut holders) = (enrolments.list()?, holders_of(&enrolments)?);
            let wanted = fold_case(&asked.license_server);
            listed.retain(|enrolment| wanted.is_empty() || fold_case(&enrolment.license_server) == wanted);
            let total_size = listed.len() as i64;
            let rows = listed.into_iter().map(|enrolment| {
                let key = vec![
                    fold_case(&enrolment.license_server).into_owned(),
                    format!("{:020}", enrolment.enrolled_at),
                    enrolment.id.clone(),
                ];
                let holders = holders.remove(&enrolment.id).unwrap_or_default();
                (key, message(enrolment, holders))
            });
            let (enrolments, next_page_token) = page.cut(rows);
            Ok::<_, EnrolmentError>(ListEnrolmentsResponse { enrolments, next_page_token, total_size, time_zone })
        })
        .await
    }

    async fn revoke_enrolment(
        &self,
        request: Request<RevokeEnrolmentRequest>,
    ) -> Result<Response<RevokeEnrolmentResponse>, Status> {
        let _permit = self.limit.enter()?;
        let (enrolments, id) = (self.enrolments()?, request.into_inner().id);
        answer(move || {
            let revoked = enrolments.revoke(&id)?;
            let (enrolment, license_server) = (&revoked.id, &revoked.license_server);
            tracing::info!(code = codes::AGENT_REVOKED, enrolment, license_server, "an agent's enrolment is revoked");
            Ok::<_, EnrolmentError>(RevokeEnrolmentResponse { enrolment: Some(message(revoked, Vec::new())) })
        })
        .await
    }

    async fn accept_enrolment(
        &self,
        request: Request<AcceptEnrolmentRequest>,
    ) -> Result<Response<AcceptEnrolmentResponse>, Status> {
        let _permit = self.limit.enter()?;
        let (enrolments, asked) = (self.enrolments()?, request.into_inner());
        let (register, id) = (enrolments.clone(), asked.id.clone());
        let copy = answer(move || match register.judge(&id, asked.copy, Standing::Accepted) {
            Ok((enrolment, copy)) => {
                let copy = Copy { enrolment: &enrolment.id, number: copy.number, since: copy.since };
                Ok(Some((copy.name(&enrolment.license_server), enrolment.license_server)))
            }
            // What waits can be something else than a copy.
            Err(EnrolmentError::NoCopy(_)) if asked.copy == 0 => Ok(None),
            Err(error) => Err(error),
        });
        if let Some((copy, license_server)) = copy.await?.into_inner() {
            say(&self.commands, Word::Renamed(copy, license_server)).await?;
        }
        answer(move || {
            let accepted = enrolments.accept(&asked.id)?;
            let holders = holders_of(&enrolments)?.remove(&accepted.id).unwrap_or_default();
            Ok::<_, EnrolmentError>(AcceptEnrolmentResponse { enrolment: Some(message(accepted, holders)) })
        })
        .await
    }

    async fn reject_copy(&self, request: Request<RejectCopyRequest>) -> Result<Response<RejectCopyResponse>, Status> {
        let _permit = self.limit.enter()?;
        let (enrolments, asked) = (self.enrolments()?, request.into_inner());
        let (register, id) = (enrolments.clone(), asked.id.clone());
        let rejected = answer(move || {
            let (enrolment, copy) = register.judge(&id, asked.copy, Standing::Rejected)?;
            let copy = Copy { enrolment: &enrolment.id, number: copy.number, since: copy.since };
            Ok::<_, EnrolmentError>((copy.name(&enrolment.license_server), enrolment))
        });
        let (copy, enrolment) = rejected.await?.into_inner();
        // Nothing more is expected of it: in no time zone is that day to come. It can have sent nothing at all.
        let yesterday = Timestamp::now().as_second().div_euclid(86_400) as Day - 1;
        let _ = say(&self.commands, Word::RetiredFrom(copy, Some(yesterday))).await;
        answer(move || {
            let holders = holders_of(&enrolments)?.remove(&enrolment.id).unwrap_or_default();
            Ok::<_, EnrolmentError>(RejectCopyResponse { enrolment: Some(message(enrolment, holders)) })
        })
        .await
    }
}

/// Repeats what operators have said of copies, in case that the aggregator was stopped before it was done.
pub async fn settle_copies(enrolments: Enrolments, commands: mpsc::Sender<Command>) {
    let Ok(Ok(accepted)) = spawn_blocking(move || enrolments.accepted_copies()).await else { return };
    for (enrolment, holder) in accepted {
        let copy = Copy { enrolment: &enrolment.id, number: holder.number, since: holder.since };
        // Of most of them, nothing has been kept apart since.
        let _ = say(&commands, Word::Renamed(copy.name(&enrolment.license_server), enrolment.license_server)).await;
    }
}

/// Returns the holders of each enrolment that has had more than one, or only a copy.
fn holders_of(enrolments: &Enrolments) -> Result<HashMap<String, Vec<Holder>>, EnrolmentError> {
    let mut found: HashMap<String, Vec<holders::Holder>> = HashMap::new();
    for (enrolment, holder) in enrolments.holders()? {
        found.entry(enrolment).or_default().push(holder);
    }
    found.retain(|_, holders| holders.len() > 1 || holders.iter().any(holders::Holder::is_copy));
    let message =
        |(enrolment, holders): (_, Vec<holders::Holder>)| (enrolment, holders.into_iter().map(Holder::from).collect());
    Ok(found.into_iter().map(message).collect())
}

impl From<holders::Holder> for Holder {
    fn from(holder: holders::Holder) -> Self {
        let standing = match holder.standing {
            Standing::Counted => HolderStanding::Counted,
            Standing::Displaced => HolderStanding::Displaced,
            Standing::Quarantined => HolderStanding::Quarantined,
            Standing::Accepted => HolderStanding::Accepted,
            Standing::Rejected => HolderStanding::Rejected,
            Standing::Probation => HolderStanding::Probation,
        };
        Self {
            number: holder.number,
            standing: standing.into(),
            host: holder.host,
            address: holder.address,
            since: Some(timestamp(holder.since)),
            seen_at: Some(timestamp(holder.seen_at)),
        }
    }
}

fn message(enrolment: store::Enrolment, holders: Vec<Holder>) -> Enrolment {
    Enrolment {
        is_sealed: enrolment.expires_at == Some(sealed::NO_END),
        holders,
        id: enrolment.id,
        license_server: enrolment.license_server,
        realm: enrolment.realm,
        host: enrolment.host,
        enrolled_at: Some(timestamp(enrolment.enrolled_at)),
        expires_at: enrolment.expires_at.map(timestamp),
        seen_at: enrolment.seen_at.map(timestamp),
        revoked: enrolment.revoked_at.is_some(),
        recoveries_left: enrolment.recoveries_left,
        waits_for_approval: enrolment.waits,
    }
}
