//! `seatmeter.v1.AuditService`: the audit trail.

use std::pin::Pin;
use std::time::Duration;

use seatmeter_count::name::fold_case;
use seatmeter_proto::audit::micros;
use seatmeter_proto::v1::audit_service_server::AuditService;
use seatmeter_proto::v1::{AuditRecord, ExportAuditRequest, ExportAuditResponse, ListAuditRequest, ListAuditResponse};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::methods::Method;
use super::paging::{Page, THINGS};
use super::status::ApiError;
use super::{ConcurrencyLimit, answer};
use crate::access::trail::{ASKED, OK, Trail};
use crate::store::StoreError;

/// The records that are read at a time.
const PORTION: u32 = 1000;

/// The most exports at a time, and how long one waits for a client to read.
const MAX_EXPORTS: usize = 4;
const PATIENCE: Duration = Duration::from_secs(30);

/// Tells the audit trail.
pub struct AuditApi {
    trail: Trail,
    /// The IANA name of the billing time zone.
    time_zone: String,
    limit: ConcurrencyLimit,
    exports: ConcurrencyLimit,
}

impl AuditApi {
    /// Creates the service over a trail, with a limit on requests. Clients show moments in `time_zone`.
    pub fn new(trail: Trail, time_zone: String, limit: ConcurrencyLimit) -> Self {
        Self { trail, time_zone, limit, exports: ConcurrencyLimit::new(MAX_EXPORTS) }
    }
}

/// Returns whether a record is of what was asked for.
fn is_wanted(record: &AuditRecord, asked: &ListAuditRequest) -> bool {
    let is_meant = |wanted: &str, found: &str| wanted.is_empty() || fold_case(wanted) == fold_case(found);
    let is_refusal = record.result != OK && record.result != ASKED;
    is_meant(&asked.who, &record.who) && is_meant(&asked.action, &record.action) && (is_refusal || !asked.only_refused)
}

#[tonic::async_trait]
impl AuditService for AuditApi {
    async fn list_audit(&self, request: Request<ListAuditRequest>) -> Result<Response<ListAuditResponse>, Status> {
        let _permit = self.limit.enter()?;
        let asked = request.into_inner();
        if !asked.action.is_empty() && !Method::is_action(&asked.action) {
            let description = "is no action: write it as `seatmeter audit list` shows it, for example ExportUsers";
            return Err(ApiError::invalid("action", description).into());
        }
        let since = asked.since.map(|since| since.seconds);
        let filters = [since.unwrap_or_default().to_string(), asked.only_refused.to_string()];
        let scope = ["audit", &asked.who, &asked.action, &filters[0], &filters[1]];
        let page = Page::new(THINGS, asked.page_size, &asked.page_token, &scope)?;
        let mut before = match page.after::<1>()? {
            Some([number]) => number.parse().map_err(|_| ApiError::PageToken)?,
            None => i64::MAX,
        };
        let (trail, time_zone) = (self.trail.clone(), self.time_zone.clone());
        answer(move || {
            let (mut records, mut is_whole) = (Vec::new(), false);
            while records.len() < page.size() && !is_whole {
                let portion = trail.before(before, PORTION)?;
                is_whole = portion.len() < PORTION as usize;
                for record in portion {
                    before = record.number;
                    if since.is_some_and(|since| micros(&record) < since.saturating_mul(1_000_000)) {
                        is_whole = true;
                        break;
                    }
                    if is_wanted(&record, &asked) {
                        records.push(record);
                    }
                    if records.len() == page.size() {
                        break;
                    }
                }
            }
            let is_last = is_whole && records.len() < page.size() || before <= 1;
            let next_page_token = if is_last { String::new() } else { page.token(&[before.to_string()]) };
            Ok::<_, StoreError>(ListAuditResponse { records, next_page_token, time_zone })
        })
        .await
    }

    type ExportAuditStream = Pin<Box<dyn Stream<Item = Result<ExportAuditResponse, Status>> + Send>>;

    async fn export_audit(
        &self,
        request: Request<ExportAuditRequest>,
    ) -> Result<Response<Self::ExportAuditStream>, Status> {
        let permit = self.exports.enter()?;
        let mut after = request.into_inner().after_number;
        let head = self.trail.clone();
        let head = answer(move || head.head()).await?.into_inner();
        let last_number = head.map_or(0, |head| head.number);
        let (trail, (sender, receiver)) = (self.trail.clone(), mpsc::channel(1));
        tokio::spawn(async move {
            let _permit = permit;
            loop {
                let part = trail.clone();
                let part = tokio::task::spawn_blocking(move || part.after(after, PORTION)).await;
                let part = part.map_err(|_| ApiError::Internal).and_then(|part| part.map_err(ApiError::from));
                let message = match part {
                    Ok(records) if records.is_empty() => return,
                    Ok(records) => {
                        after = records.last().map_or(after, |last| last.number);
                        Ok(ExportAuditResponse { records, last_number })
                    }
                    Err(error) => Err(Status::from(error)),
                };
                let is_over = message.is_err();
                let sent = tokio::time::timeout(PATIENCE, sender.send(message)).await;
                if is_over || !matches!(sent, Ok(Ok(()))) {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}
