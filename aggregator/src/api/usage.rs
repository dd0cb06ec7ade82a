//! `seatmeter.v1.UsageService`. Each method in one order: limit, validate, act.

use seatmeter_count::Month;
use seatmeter_proto::v1::usage_service_server::UsageService;
use seatmeter_proto::v1::{
    GetActivityRequest, GetActivityResponse, GetMonthlyUsageRequest, GetMonthlyUsageResponse, GetTrendRequest,
    GetTrendResponse, ListUsersRequest, ListUsersResponse,
};
use tonic::{Request, Response, Status};

use super::paging::{page_size, read_token, write_token};
use super::status::invalid;
use super::{Gate, answer};
use crate::usage::Usage;
use crate::usage::questions::Filter;

/// A range of months is at most this long.
const MAX_MONTHS: i32 = 120;

/// Answers questions about use.
pub struct UsageApi {
    usage: Usage,
    gate: Gate,
}

impl UsageApi {
    /// Answers by these, at most as many at a time as the gate lets in.
    pub fn new(usage: Usage, gate: Gate) -> Self {
        Self { usage, gate }
    }

    fn month(&self, field: &str, text: &str) -> Result<Month, Status> {
        if text.is_empty() {
            return Ok(self.usage.current_month());
        }
        text.parse().map_err(|error: seatmeter_count::calendar::NotAMonth| invalid(field, error.to_string()))
    }
}

#[tonic::async_trait]
impl UsageService for UsageApi {
    async fn get_monthly_usage(
        &self,
        request: Request<GetMonthlyUsageRequest>,
    ) -> Result<Response<GetMonthlyUsageResponse>, Status> {
        let _place = self.gate.enter()?;
        let asked = request.into_inner();
        let month = self.month("month", &asked.month)?;
        let filter = Filter { license_server: asked.license_server, sku: asked.sku };
        let usage = self.usage.clone();
        answer(move || {
            let found = usage.monthly(month, &filter, asked.by_server)?;
            Ok(GetMonthlyUsageResponse {
                rows: found.rows,
                basis: Some(usage.basis()),
                completeness: Some(found.completeness),
                latest_month: found.latest_month.map(|month| month.to_string()).unwrap_or_default(),
            })
        })
        .await
    }

    async fn list_users(&self, request: Request<ListUsersRequest>) -> Result<Response<ListUsersResponse>, Status> {
        let _place = self.gate.enter()?;
        let asked = request.into_inner();
        let month = self.month("month", &asked.month)?;
        let size = page_size(asked.page_size)?;
        let after = match read_token(&asked.page_token)?.as_deref() {
            None => None,
            Some([realm, name]) => Some((realm.clone(), name.clone())),
            Some(_) => return Err(invalid("page_token", "is not one of this method's")),
        };
        let filter = Filter { license_server: asked.license_server, sku: asked.sku };
        let usage = self.usage.clone();
        answer(move || {
            let page = usage.users(month, &filter, after.as_ref(), size)?;
            Ok(ListUsersResponse {
                users: page.users,
                next_page_token: page.next.map(|(realm, name)| write_token(&[&realm, &name])).unwrap_or_default(),
                total_size: page.total as i64,
                basis: Some(usage.basis()),
            })
        })
        .await
    }

    async fn get_trend(&self, request: Request<GetTrendRequest>) -> Result<Response<GetTrendResponse>, Status> {
        let _place = self.gate.enter()?;
        let asked = request.into_inner();
        let through = self.month("through_month", &asked.through_month)?;
        let from = match asked.from_month.as_str() {
            "" => Month::from_number(through.number() - 11).unwrap_or(through),
            text => self.month("from_month", text)?,
        };
        if from > through {
            return Err(invalid("from_month", "is after through_month"));
        }
        if through.number() - from.number() >= MAX_MONTHS {
            return Err(invalid("from_month", format!("is more than {MAX_MONTHS} months before through_month")));
        }
        let filter = Filter { license_server: asked.license_server, sku: asked.sku };
        let usage = self.usage.clone();
        answer(move || Ok(GetTrendResponse { rows: usage.trend(from, through, &filter)?, basis: Some(usage.basis()) }))
            .await
    }

    async fn get_activity(
        &self,
        request: Request<GetActivityRequest>,
    ) -> Result<Response<GetActivityResponse>, Status> {
        let _place = self.gate.enter()?;
        let asked = request.into_inner();
        let month = if asked.month.is_empty() { None } else { Some(self.month("month", &asked.month)?) };
        let usage = self.usage.clone();
        answer(move || Ok(GetActivityResponse { rows: usage.activity(&asked.license_server, month)? })).await
    }
}
