//! `seatmeter.v1.AuthorityService`: the authority, and its renewal.

use std::sync::Arc;

use seatmeter_proto::timestamp;
use seatmeter_proto::v1::authority_service_server::AuthorityService;
use seatmeter_proto::v1::{
    AuthorityStep, CertificateAuthority, GetAuthorityRequest, GetAuthorityResponse, RenewAuthorityRequest,
    RenewAuthorityResponse,
};
use tonic::{Request, Response, Status};

use super::status::ApiError;
use super::{ConcurrencyLimit, answer};
use crate::access::authority::renewal::Step;
use crate::access::authority::{Authority, AuthorityError};
use crate::access::enrolment::{EnrolmentError, Enrolments};

/// The most agents that are named.
const MAX_NAMED: usize = 100;

/// Tells of the authority, and renews it.
pub struct AuthorityApi {
    /// `None` if both ports have certificates from elsewhere, or none.
    authority: Option<Arc<Authority>>,
    /// `None` if agents are not enrolled here.
    enrolments: Option<Enrolments>,
    /// The IANA name of the billing time zone.
    time_zone: String,
    limit: ConcurrencyLimit,
}

impl AuthorityApi {
    /// Creates the service over an authority and the agents that trust it, with a limit on requests. Clients show moments in
    /// `time_zone`.
    pub fn new(
        authority: Option<Arc<Authority>>,
        enrolments: Option<Enrolments>,
        time_zone: String,
        limit: ConcurrencyLimit,
    ) -> Self {
        Self { authority, enrolments, time_zone, limit }
    }

    fn authority(&self) -> Result<Arc<Authority>, ApiError> {
        self.authority.clone().ok_or(ApiError::NoEnrolments)
    }
}

#[tonic::async_trait]
impl AuthorityService for AuthorityApi {
    async fn get_authority(&self, _: Request<GetAuthorityRequest>) -> Result<Response<GetAuthorityResponse>, Status> {
        let _permit = self.limit.enter()?;
        let (authority, enrolments, time_zone) = (self.authority()?, self.enrolments.clone(), self.time_zone.clone());
        answer(move || {
            let (agents, mut not_ready) = not_ready(enrolments.as_ref())?;
            let not_ready_count = not_ready.len() as u64;
            not_ready.truncate(MAX_NAMED);
            let step = match authority.step() {
                Step::None => AuthorityStep::Unspecified,
                Step::Prepared => AuthorityStep::Prepare,
                Step::Activated => AuthorityStep::Activate,
            };
            let authorities = authority.shown().into_iter().map(|shown| CertificateAuthority {
                sha256: shown.sha256.to_vec(),
                made_at: Some(timestamp(shown.made_at)),
                ends_at: Some(timestamp(shown.ends_at)),
                signs: shown.signs,
            });
            Ok::<_, EnrolmentError>(GetAuthorityResponse {
                authorities: authorities.collect(),
                step: step.into(),
                not_ready,
                not_ready_count,
                agents,
                time_zone,
            })
        })
        .await
    }

    async fn renew_authority(
        &self,
        request: Request<RenewAuthorityRequest>,
    ) -> Result<Response<RenewAuthorityResponse>, Status> {
        let _permit = self.limit.enter()?;
        let (authority, enrolments, asked) = (self.authority()?, self.enrolments.clone(), request.into_inner());
        let step = match asked.step() {
            AuthorityStep::Unspecified => return Err(ApiError::invalid("step", "is missing").into()),
            step => step,
        };
        answer(move || {
            match step {
                AuthorityStep::Prepare | AuthorityStep::Unspecified => authority.prepare()?,
                AuthorityStep::Activate => authority.activate()?,
                AuthorityStep::Complete => {
                    let (_, not_ready) = not_ready(enrolments.as_ref())?;
                    if let (Step::Activated, Some(first)) = (authority.step(), not_ready.first()) {
                        let (count, first) = (not_ready.len(), first.clone());
                        return Err(AuthorityError::LeftBehind { count, first }.into());
                    }
                    authority.complete()?;
                }
            }
            Ok::<_, EnrolmentError>(RenewAuthorityResponse {})
        })
        .await
    }
}

/// Returns how many agents are enrolled, and the license servers of those that are not ready for the end of a renewal.
fn not_ready(enrolments: Option<&Enrolments>) -> Result<(u64, Vec<String>), EnrolmentError> {
    enrolments.map_or_else(|| Ok((0, Vec::new())), Enrolments::not_ready)
}
