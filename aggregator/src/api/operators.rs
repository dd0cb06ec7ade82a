//! `seatmeter.v1.OperatorService`: operators, their roles and their tokens.

use std::sync::Arc;

use std::time::Duration;

use seatmeter_count::name::fold_case;
use seatmeter_proto::invitation::Invitation;
use seatmeter_proto::timestamp;
use seatmeter_proto::v1::operator_service_server::OperatorService;
use seatmeter_proto::v1::*;
use tonic::{Request, Response, Status};

use super::invitations::{DAY, url, valid_for};
use super::paging::{Page, THINGS};
use super::status::ApiError;
use super::{ConcurrencyLimit, address, answer, caller};
use crate::access::authority::Authority;
use crate::access::operators::{Invited, Listed, OperatorError, Operators, is_plain, token_id};
use crate::store::operators as store;

/// How long an invitation can be used, and a token lasts, if nobody says otherwise; and at most, in days.
const INVITATION: Duration = DAY;
const INVITATION_DAYS: u32 = 30;
const TOKEN: Duration = Duration::from_secs(90 * 86_400);
const TOKEN_DAYS: u32 = 366;

/// Where operators reach the aggregator, as their invitations tell it.
#[derive(Clone)]
pub struct Address {
    /// The URL.
    pub url: String,
    /// The authority by which they know it; `None` if it is not known, or not needed.
    pub authority: Option<Arc<Authority>>,
}

/// Keeps operators and their tokens.
pub struct OperatorsApi {
    operators: Operators,
    address: Address,
    /// The IANA name of the billing time zone.
    time_zone: String,
    limit: ConcurrencyLimit,
}

impl OperatorsApi {
    /// Creates the service over operators, who reach the aggregator at `address`, with a limit on requests. Clients show moments in
    /// `time_zone`.
    pub fn new(operators: Operators, address: Address, time_zone: String, limit: ConcurrencyLimit) -> Self {
        Self { operators, address, time_zone, limit }
    }

    fn invitation(&self, invited: Invited, url: String) -> (String, Option<prost_types::Timestamp>) {
        let invitation = Invitation {
            secret: invited.secret,
            authority: self.address.authority.as_ref().map(|authority| authority.sha256()),
            url,
        };
        (invitation.to_string(), Some(timestamp(invited.expires_at)))
    }
}

fn must_be_plain(field: &'static str, text: &str) -> Result<(), ApiError> {
    if is_plain(text) {
        return Ok(());
    }
    Err(ApiError::invalid(field, "must have 1 to 100 characters, none of them hidden, and no space around them"))
}

fn must_be_a_hash(hash: &[u8]) -> Result<(), ApiError> {
    if hash.len() == 32 { Ok(()) } else { Err(ApiError::invalid("token_sha256", "must have 32 bytes")) }
}

#[tonic::async_trait]
impl OperatorService for OperatorsApi {
    async fn log_in(&self, request: Request<LogInRequest>) -> Result<Response<LogInResponse>, Status> {
        let _permit = self.limit.enter()?;
        let (address, asked) = (address(&request), request.into_inner());
        must_be_a_hash(&asked.token_sha256)?;
        must_be_plain("label", &asked.label)?;
        let operators = self.operators.clone();
        answer(move || {
            let (listed, expires_at) = operators.log_in(&asked.secret, &asked.token_sha256, &asked.label, address)?;
            let expires_at = Some(timestamp(expires_at));
            Ok::<_, OperatorError>(LogInResponse { operator: Some(listed.into()), expires_at })
        })
        .await
    }

    async fn get_self(&self, request: Request<GetSelfRequest>) -> Result<Response<GetSelfResponse>, Status> {
        let _permit = self.limit.enter()?;
        let caller = caller(&request)?;
        let operator = self.operators.one(&caller.name_key).map(Into::into);
        let mut tokens = self.operators.tokens(&caller.name_key).into_iter();
        let token = tokens.find(|(token, _)| token.sha256 == caller.token).map(message);
        Ok(Response::new(GetSelfResponse { operator, token, time_zone: self.time_zone.clone() }))
    }

    async fn add_operator(
        &self,
        request: Request<AddOperatorRequest>,
    ) -> Result<Response<AddOperatorResponse>, Status> {
        let _permit = self.limit.enter()?;
        let (caller, asked) = (caller(&request)?, request.into_inner());
        must_be_plain("name", &asked.name)?;
        if !asked.certificate_name.is_empty() {
            must_be_plain("certificate_name", &asked.certificate_name)?;
        }
        let role = Role::try_from(asked.role).ok().filter(|role| *role != Role::Unspecified);
        let role = role.ok_or_else(|| ApiError::invalid("role", "must be viewer, reporter or admin"))?;
        if !asked.customer.is_empty() {
            must_be_plain("customer", &asked.customer)?;
            if role != Role::Viewer {
                return Err(ApiError::invalid("role", "must be viewer, for whoever is confined to a customer").into());
            }
        }
        let valid_for = valid_for(asked.valid_for, INVITATION, INVITATION_DAYS)?;
        let url = url(asked.url, &self.address.url)?;
        let (operators, name_key) = (self.operators.clone(), fold_case(&asked.name).into_owned());
        let added = answer(move || {
            let may = (role, asked.customer.as_str());
            operators.add(&asked.name, may, &asked.certificate_name, &caller.name, valid_for)
        })
        .await?;
        let (invitation, expires_at) = self.invitation(added.into_inner(), url);
        let operator = self.operators.one(&name_key).map(Into::into);
        Ok(Response::new(AddOperatorResponse { operator, invitation, expires_at }))
    }

    async fn invite_operator(
        &self,
        request: Request<InviteOperatorRequest>,
    ) -> Result<Response<InviteOperatorResponse>, Status> {
        let _permit = self.limit.enter()?;
        let asked = request.into_inner();
        let valid_for = valid_for(asked.valid_for, INVITATION, INVITATION_DAYS)?;
        let url = url(asked.url, &self.address.url)?;
        let operators = self.operators.clone();
        let invited = answer(move || operators.invite(&asked.name, valid_for)).await?.into_inner();
        let (invitation, expires_at) = self.invitation(invited, url);
        Ok(Response::new(InviteOperatorResponse { invitation, expires_at }))
    }

    async fn change_operator(
        &self,
        request: Request<ChangeOperatorRequest>,
    ) -> Result<Response<ChangeOperatorResponse>, Status> {
        let _permit = self.limit.enter()?;
        let asked = request.into_inner();
        let role = Role::try_from(asked.role).map_err(|_| ApiError::invalid("role", "must be one of the contract"))?;
        let role = (role != Role::Unspecified).then_some(role);
        let operators = self.operators.clone();
        answer(move || {
            let operator = Some(operators.change(&asked.name, role, asked.disabled)?.into());
            Ok::<_, OperatorError>(ChangeOperatorResponse { operator })
        })
        .await
    }

    async fn list_operators(
        &self,
        request: Request<ListOperatorsRequest>,
    ) -> Result<Response<ListOperatorsResponse>, Status> {
        let _permit = self.limit.enter()?;
        let asked = request.into_inner();
        let page = Page::new(THINGS, asked.page_size, &asked.page_token, &["operators"])?;
        let operators = self.operators.clone();
        answer(move || operators.refresh()).await?;
        let listed = self.operators.list();
        let total_size = listed.len() as i64;
        let rows = listed.into_iter().map(|listed| (vec![listed.operator.name_key.clone()], listed.into()));
        let (operators, next_page_token) = page.cut(rows);
        let time_zone = self.time_zone.clone();
        Ok(Response::new(ListOperatorsResponse { operators, next_page_token, total_size, time_zone }))
    }

    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenResponse>, Status> {
        let _permit = self.limit.enter()?;
        let (caller, asked) = (caller(&request)?, request.into_inner());
        must_be_a_hash(&asked.token_sha256)?;
        must_be_plain("label", &asked.label)?;
        let valid_for = valid_for(asked.valid_for, TOKEN, TOKEN_DAYS)?;
        let operators = self.operators.clone();
        answer(move || {
            let token = operators.create_token(&caller, &asked.token_sha256, &asked.label, valid_for)?;
            Ok::<_, OperatorError>(CreateTokenResponse { token: Some(message((token, caller.name))) })
        })
        .await
    }

    async fn list_tokens(&self, request: Request<ListTokensRequest>) -> Result<Response<ListTokensResponse>, Status> {
        let _permit = self.limit.enter()?;
        let (caller, asked) = (caller(&request)?, request.into_inner());
        let wanted = fold_case(&asked.operator).into_owned();
        let page = Page::new(THINGS, asked.page_size, &asked.page_token, &["tokens", &wanted])?;
        let of_whom = match (caller.role, &*wanted) {
            (Role::Admin, wanted) => wanted,
            (_, wanted) if wanted.is_empty() || wanted == caller.name_key => &caller.name_key,
            (own, _) => return Err(ApiError::NotAllowed { own, needed: Role::Admin }.into()),
        };
        if self.operators.one(of_whom).is_none() && !of_whom.is_empty() {
            return Err(ApiError::from(OperatorError::Unknown(asked.operator)).into());
        }
        let listed = self.operators.tokens(of_whom);
        let total_size = listed.len() as i64;
        let key = |token: &store::Token| vec![token.name_key.clone(), data_encoding::HEXLOWER.encode(&token.sha256)];
        let (tokens, next_page_token) = page.cut(listed.into_iter().map(|listed| (key(&listed.0), message(listed))));
        let time_zone = self.time_zone.clone();
        Ok(Response::new(ListTokensResponse { tokens, next_page_token, total_size, time_zone }))
    }

    async fn revoke_token(
        &self,
        request: Request<RevokeTokenRequest>,
    ) -> Result<Response<RevokeTokenResponse>, Status> {
        let _permit = self.limit.enter()?;
        let (caller, id) = (caller(&request)?, request.into_inner().id);
        let operators = self.operators.clone();
        answer(move || {
            let token = Some(message(operators.revoke_token(&caller, &id)?));
            Ok::<_, OperatorError>(RevokeTokenResponse { token })
        })
        .await
    }
}

impl From<Listed> for Operator {
    fn from(Listed { operator, tokens }: Listed) -> Self {
        Self {
            name: operator.name,
            role: operator.role,
            disabled: operator.disabled_at.is_some(),
            added_at: Some(timestamp(operator.added_at)),
            added_by: operator.added_by,
            seen_at: operator.seen_at.map(timestamp),
            certificate_name: operator.certificate_name,
            customer: operator.customer,
            tokens,
        }
    }
}

fn message((token, operator): (store::Token, String)) -> Token {
    Token {
        id: token_id(&token.sha256),
        operator,
        label: token.label,
        created_at: Some(timestamp(token.created_at)),
        expires_at: Some(timestamp(token.expires_at)),
        used_at: token.used_at.map(timestamp),
    }
}
