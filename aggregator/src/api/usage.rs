//! `seatmeter.v1.UsageService`.

use std::pin::Pin;
use std::time::Duration;

use prost::Message;
use seatmeter_count::Month;
use seatmeter_count::calendar::NotAMonth;
use seatmeter_count::name::fold_case;
use seatmeter_proto::v1::usage_service_server::UsageService;
use seatmeter_proto::v1::{
    ExportUsersRequest, ExportUsersResponse, GetMonthlyUsageRequest, GetMonthlyUsageResponse, GetTrendRequest,
    GetTrendResponse, ListActivityRequest, ListActivityResponse, ListCompletenessRequest, ListCompletenessResponse,
    ListEntitlementsRequest, ListEntitlementsResponse, ListSessionsRequest, ListSessionsResponse, ListUsersRequest,
    ListUsersResponse, PreviewRealmRequest, PreviewRealmResponse, UsageTotal, UserUsage,
};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::fleet::{day, day_text};
use super::paging::{MAX_BYTES, Page, ROWS, THINGS};
use super::status::ApiError;
use super::{ConcurrencyLimit, answer};
use crate::usage::{Filter, UsageError, UsageQuestions};

/// The longest range of months in a request.
const MAX_MONTHS: i32 = 120;

/// The most exports at a time.
const MAX_EXPORTS: usize = 8;

/// The number of people in one message of an export.
const EXPORT_PORTION: usize = 1000;

/// How long an export waits for a client to read before it ends.
const EXPORT_PATIENCE: Duration = Duration::from_secs(30);

/// Answers questions about usage.
pub struct UsageApi {
    usage: UsageQuestions,
    limit: ConcurrencyLimit,
    /// The limit on exports. Exports take long, so they have their own limit.
    exports: ConcurrencyLimit,
}

impl UsageApi {
    /// Creates the service over these questions, with a limit on requests.
    pub fn new(usage: UsageQuestions, limit: ConcurrencyLimit) -> Self {
        Self { usage, limit, exports: ConcurrencyLimit::new(MAX_EXPORTS) }
    }

    fn month(&self, field: &'static str, text: &str) -> Result<Month, ApiError> {
        let current = self.usage.current_month();
        let month = match text {
            "" | "current" => current,
            "last" => current.previous(),
            text => text.parse().map_err(|error: NotAMonth| ApiError::invalid(field, error.to_string()))?,
        };
        if month > current { Err(ApiError::FutureMonth { field, month, current }) } else { Ok(month) }
    }

    /// Returns the first and the last month of a request; by default, the twelve months through the last one.
    fn months(&self, asked: &GetTrendRequest) -> Result<(Month, Month), ApiError> {
        let through = self.month("through_month", &asked.through_month)?;
        let from = match asked.from_month.as_str() {
            "" => Month::from_number(through.number() - 11).unwrap_or(through),
            text => self.month("from_month", text)?,
        };
        if from > through {
            return Err(ApiError::invalid("from_month", format!("{from} is after the last month, {through}")));
        }
        if through.number() - from.number() >= MAX_MONTHS {
            let description =
                format!("{from} is {MAX_MONTHS} months or more before {through}: ask for a shorter range");
            return Err(ApiError::invalid("from_month", description));
        }
        Ok((from, through))
    }
}

#[tonic::async_trait]
impl UsageService for UsageApi {
    async fn get_monthly_usage(
        &self,
        request: Request<GetMonthlyUsageRequest>,
    ) -> Result<Response<GetMonthlyUsageResponse>, Status> {
        let _permit = self.limit.enter()?;
        let asked = request.into_inner();
        let month = self.month("month", &asked.month)?;
        let by = if asked.by_server { "by server" } else { "by SKU" };
        let scope = ["usage", &month.to_string(), &asked.license_server, &asked.sku, by];
        let page = Page::new(ROWS, asked.page_size, &asked.page_token, &scope)?;
        let filter = Filter { license_server: asked.license_server, sku: asked.sku };
        let usage = self.usage.clone();
        answer(move || {
            let found = usage.monthly(month, &filter, asked.by_server)?;
            let reported = found.completeness.has_reported() || found.total_users > 0;
            let rows = found
                .rows
                .into_iter()
                .map(|row| (vec![row.sku.id.clone(), row.license_server.clone().unwrap_or_default()], row.into()));
            let (rows, next_page_token) = page.cut(rows);
            Ok::<_, UsageError>(GetMonthlyUsageResponse {
                rows,
                basis: Some(usage.basis(month).into()),
                completeness: Some(found.completeness.into()),
                latest_month: found.latest_month.map(|month| month.to_string()).unwrap_or_default(),
                next_page_token,
                total: Some(UsageTotal {
                    unique_users: found.total_users,
                    free_users: found.free_users,
                    paid_users: found.total_users - found.free_users,
                    reported,
                }),
            })
        })
        .await
    }

    async fn list_completeness(
        &self,
        request: Request<ListCompletenessRequest>,
    ) -> Result<Response<ListCompletenessResponse>, Status> {
        let _permit = self.limit.enter()?;
        let asked = request.into_inner();
        let month = self.month("month", &asked.month)?;
        let only = if asked.only_incomplete { "incomplete" } else { "all" };
        let scope = ["completeness", &month.to_string(), &asked.license_server, only];
        let page = Page::new(THINGS, asked.page_size, &asked.page_token, &scope)?;
        let usage = self.usage.clone();
        answer(move || {
            let mut servers = usage.completeness(month, &asked.license_server)?.servers;
            servers.retain(|server| !asked.only_incomplete || !server.is_complete());
            let total_size = servers.len() as i64;
            let rows =
                servers.into_iter().map(|server| (vec![fold_case(&server.license_server).into_owned()], server.into()));
            let (servers, next_page_token) = page.cut(rows);
            let basis = Some(usage.basis(month).into());
            Ok::<_, UsageError>(ListCompletenessResponse { servers, next_page_token, total_size, basis })
        })
        .await
    }

    async fn list_users(&self, request: Request<ListUsersRequest>) -> Result<Response<ListUsersResponse>, Status> {
        let _permit = self.limit.enter()?;
        let asked = request.into_inner();
        let month = self.month("month", &asked.month)?;
        let scope = ["users", &month.to_string(), &asked.license_server, &asked.sku];
        let page = Page::new(THINGS, asked.page_size, &asked.page_token, &scope)?;
        let after = page.after::<2>()?.map(|[realm, person]| (realm.to_owned(), person.to_owned()));
        let filter = Filter { license_server: asked.license_server, sku: asked.sku };
        let usage = self.usage.clone();
        answer(move || {
            let found = usage.users(month, &filter, after.as_ref(), page.size())?;
            let rows = found.users.into_iter().map(|user| (vec![user.realm.clone(), user.person.clone()], user.into()));
            let (users, cut_token) = page.cut(rows);
            let next = found.next.map(|(realm, person)| page.token(&[realm, person])).unwrap_or_default();
            Ok::<_, UsageError>(ListUsersResponse {
                users,
                next_page_token: if cut_token.is_empty() { next } else { cut_token },
                total_size: found.total as i64,
                basis: Some(usage.basis(month).into()),
                completeness: Some(found.completeness.into()),
            })
        })
        .await
    }

    type ExportUsersStream = Pin<Box<dyn Stream<Item = Result<ExportUsersResponse, Status>> + Send>>;

    async fn export_users(
        &self,
        request: Request<ExportUsersRequest>,
    ) -> Result<Response<Self::ExportUsersStream>, Status> {
        let permit = self.exports.enter()?;
        let asked = request.into_inner();
        let month = self.month("month", &asked.month)?;
        let filter = Filter { license_server: asked.license_server, sku: asked.sku };
        let (parts, stream) = mpsc::channel(2);
        let (usage, timers) = (self.usage.clone(), Handle::current());
        tokio::task::spawn_blocking(move || {
            let outcome = export(&usage, month, &filter, &timers, &parts);
            drop(permit);
            if let Err(error) = outcome {
                // A stream that just ended would look whole. The send fails if the client has disconnected.
                timers.spawn(async move { parts.send(Err(error.into())).await });
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn get_trend(&self, request: Request<GetTrendRequest>) -> Result<Response<GetTrendResponse>, Status> {
        let _permit = self.limit.enter()?;
        let asked = request.into_inner();
        let (from, through) = self.months(&asked)?;
        let scope = ["trend", &from.to_string(), &through.to_string(), &asked.license_server, &asked.sku];
        let page = Page::new(ROWS, asked.page_size, &asked.page_token, &scope)?;
        let filter = Filter { license_server: asked.license_server, sku: asked.sku };
        let usage = self.usage.clone();
        answer(move || {
            let rows = usage.trend(from, through, &filter)?;
            let rows = rows.into_iter().map(|row| (vec![row.sku.id.clone(), row.month.to_string()], row.into()));
            let (rows, next_page_token) = page.cut(rows);
            Ok::<_, UsageError>(GetTrendResponse { rows, basis: Some(usage.basis(through).into()), next_page_token })
        })
        .await
    }

    async fn list_activity(
        &self,
        request: Request<ListActivityRequest>,
    ) -> Result<Response<ListActivityResponse>, Status> {
        let _permit = self.limit.enter()?;
        let asked = request.into_inner();
        let month = if asked.month.is_empty() { None } else { Some(self.month("month", &asked.month)?) };
        let page =
            Page::new(ROWS, asked.page_size, &asked.page_token, &["activity", &asked.license_server, &asked.month])?;
        let usage = self.usage.clone();
        answer(move || {
            let rows = usage.activity(&asked.license_server, month)?.into_iter().map(|row| {
                let (server, month, daemon, feature) = row.key();
                (vec![server.to_owned(), month.to_string(), daemon.to_owned(), feature.to_owned()], row.into())
            });
            let (rows, next_page_token) = page.cut(rows);
            Ok::<_, UsageError>(ListActivityResponse { rows, next_page_token, time_zone: usage.time_zone() })
        })
        .await
    }

    async fn preview_realm(
        &self,
        request: Request<PreviewRealmRequest>,
    ) -> Result<Response<PreviewRealmResponse>, Status> {
        let _permit = self.limit.enter()?;
        let PreviewRealmRequest { license_server, realm } = request.into_inner();
        let usage = self.usage.clone();
        answer(move || usage.realm_preview(&license_server, &realm).map(Into::into)).await
    }

    async fn list_entitlements(
        &self,
        request: Request<ListEntitlementsRequest>,
    ) -> Result<Response<ListEntitlementsResponse>, Status> {
        let _permit = self.limit.enter()?;
        let asked = request.into_inner();
        let day = day(&asked.date)?;
        let scope = ["entitlements", &asked.license_server, &asked.sku, &asked.date];
        let page = Page::new(THINGS, asked.page_size, &asked.page_token, &scope)?;
        let filter = Filter { license_server: asked.license_server, sku: asked.sku };
        let usage = self.usage.clone();
        answer(move || {
            let found = usage.entitlements(&filter, day)?;
            let total_size = found.rows.len() as i64;
            let key = |number: usize| vec![format!("{number:012}")];
            let rows = found.rows.into_iter().enumerate().map(|(number, row)| (key(number), row.into()));
            let (entitlements, next_page_token) = page.cut(rows);
            let (basis, date) = (Some(usage.basis(usage.month_of(found.day)).into()), day_text(Some(found.day)));
            Ok::<_, UsageError>(ListEntitlementsResponse { entitlements, next_page_token, total_size, basis, date })
        })
        .await
    }

    async fn list_sessions(
        &self,
        request: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsResponse>, Status> {
        let _permit = self.limit.enter()?;
        let asked = request.into_inner();
        let scope = ["sessions", &asked.license_server, &asked.sku];
        let page = Page::new(THINGS, asked.page_size, &asked.page_token, &scope)?;
        let filter = Filter { license_server: asked.license_server, sku: asked.sku };
        let usage = self.usage.clone();
        answer(move || {
            let held = usage.held_now(&filter)?;
            let total_size = held.len() as i64;
            let mut alike = 0u32;
            let mut before: Option<Vec<String>> = None;
            let rows = held.into_iter().map(|session| {
                // Sorted as the sessions are; of those that nothing tells apart, by their number.
                let since = format!("{:020}", session.since.max(0));
                let names = [
                    &session.license_server,
                    &session.daemon,
                    &session.feature,
                    &session.user,
                    &since,
                    &session.host,
                    &session.log,
                ];
                let mut key: Vec<String> = names.into_iter().cloned().collect();
                alike = if before.as_ref() == Some(&key) { alike + 1 } else { 0 };
                before = Some(key.clone());
                key.push(format!("{alike:010}"));
                (key, session.into())
            });
            let (sessions, next_page_token) = page.cut(rows);
            let basis = Some(usage.basis(usage.current_month()).into());
            Ok::<_, UsageError>(ListSessionsResponse { sessions, next_page_token, total_size, basis })
        })
        .await
    }
}

/// Sends all people of one consistent state, in messages of a limited number of people and bytes. Runs on a thread that
/// may block. Ends the export if the client does not read, since the export would otherwise hold the state for ever.
fn export(
    usage: &UsageQuestions,
    month: Month,
    filter: &Filter,
    timers: &Handle,
    parts: &mpsc::Sender<Result<ExportUsersResponse, Status>>,
) -> Result<(), ApiError> {
    let mut is_read = true;
    let mut send = |part: ExportUsersResponse| {
        let sent = timers.block_on(async { tokio::time::timeout(EXPORT_PATIENCE, parts.send(Ok(part))).await });
        is_read = matches!(sent, Ok(Ok(())));
        is_read
    };
    let mut is_first = true;
    usage.each_page_of_users(month, filter, EXPORT_PORTION, &mut |page| {
        let mut part = ExportUsersResponse { total_size: page.total as i64, ..ExportUsersResponse::default() };
        if std::mem::take(&mut is_first) {
            part.basis = Some(usage.basis(month).into());
            part.completeness = Some(page.completeness.into());
        }
        let mut bytes = 0;
        for user in page.users {
            let user = UserUsage::from(user);
            bytes += user.encoded_len();
            part.users.push(user);
            if bytes > MAX_BYTES {
                let rest = ExportUsersResponse { total_size: part.total_size, ..ExportUsersResponse::default() };
                if !send(std::mem::replace(&mut part, rest)) {
                    return false;
                }
                bytes = 0;
            }
        }
        (part.users.is_empty() && part.basis.is_none()) || send(part)
    })?;
    if is_read { Ok(()) } else { Err(ApiError::NotRead) }
}
