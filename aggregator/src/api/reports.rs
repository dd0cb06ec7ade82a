//! `seatmeter.v1.ReportService`: what is reported and billed of a month, and how a month is closed.

use std::pin::Pin;

use jiff::Timestamp;
use seatmeter_count::Month;
use seatmeter_count::calendar::NotAMonth;
use seatmeter_count::name::fold_case;
use seatmeter_proto::v1::report_service_server::ReportService;
use seatmeter_proto::v1::*;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::report_messages::{of_document, of_statement};
use super::rules::must_be_a_reason;
use super::status::ApiError;
use super::{ConcurrencyLimit, answer, caller};
use crate::month::evidence::Evidence;
use crate::month::ledger::{Ledger, LedgerError};
use crate::month::statement::{ReportError, unknown_customer};
use crate::store::months as store;

/// The most months that are listed.
const MOST_MONTHS: usize = 120;

/// The longest text beside a reason, in bytes.
const LONGEST: usize = 255;

/// The most an adjustment can add or take away.
const MOST_ADJUSTED: i64 = 1_000_000_000;

/// The bytes of a piece of a document.
const PIECE: usize = 1 << 20;

/// Tells reports, and closes months.
#[derive(Clone)]
pub struct ReportsApi {
    ledger: Ledger,
    evidence: Evidence,
    limit: ConcurrencyLimit,
}

impl ReportsApi {
    /// Creates the service over a ledger and its evidence, with a limit on requests.
    pub fn new(ledger: Ledger, evidence: Evidence, limit: ConcurrencyLimit) -> Self {
        Self { ledger, evidence, limit }
    }

    fn current(&self) -> Month {
        self.ledger.statements().usage().current_month()
    }

    /// Reads the month of a request: the last one, if none is named.
    fn month(&self, text: &str) -> Result<Month, ApiError> {
        let current = self.current();
        let month = match text {
            "" | "last" => current.previous(),
            "current" => current,
            text => text.parse().map_err(|error: NotAMonth| ApiError::invalid("month", error.to_string()))?,
        };
        if month > current { Err(ApiError::FutureMonth { field: "month", month, current }) } else { Ok(month) }
    }

    fn time_zone(&self) -> String {
        self.ledger.statements().usage().time_zone()
    }
}

/// Returns the report of a month: the one that is billed, or the figures as they are now.
fn report(ledger: &Ledger, month: Month, asked: &GetReportRequest) -> Result<GetReportResponse, LedgerError> {
    let closed = if asked.live { None } else { ledger.closed(month)? };
    match closed {
        Some((revision, document)) => of_document(document, &revision, &asked.customer),
        None => Ok(of_statement(ledger.live(month, &asked.customer)?)),
    }
}

/// Returns an error that does not say which other customers there are.
fn without_others(error: LedgerError) -> LedgerError {
    match error {
        LedgerError::Report(ReportError::UnknownCustomer { id, .. }) => unknown_customer(&id, Vec::new()).into(),
        other => other,
    }
}

fn must_be_short(field: &'static str, text: &str, may_be_empty: bool) -> Result<(), ApiError> {
    let is_empty = text.trim().is_empty();
    if text.len() > LONGEST || text.chars().any(char::is_control) || (is_empty && !may_be_empty) {
        let least = if may_be_empty { 0 } else { 1 };
        return Err(ApiError::invalid(
            field,
            format!("must have {least} to {LONGEST} bytes, and no control characters"),
        ));
    }
    Ok(())
}

fn must_have_a_reason(reason: &str) -> Result<(), ApiError> {
    if reason.trim().is_empty() {
        return Err(ApiError::invalid("reason", "is missing: say why (--reason)"));
    }
    must_be_a_reason(reason)
}

#[tonic::async_trait]
impl ReportService for ReportsApi {
    type ExportRevisionStream = Pin<Box<dyn Stream<Item = Result<ExportRevisionResponse, Status>> + Send>>;
    type ExportEvidenceStream = Pin<Box<dyn Stream<Item = Result<ExportEvidenceResponse, Status>> + Send>>;

    async fn get_report(&self, request: Request<GetReportRequest>) -> Result<Response<GetReportResponse>, Status> {
        let _permit = self.limit.enter()?;
        let own = caller(&request)?.customer;
        let mut asked = request.into_inner();
        if !own.is_empty() {
            if !asked.customer.is_empty() && fold_case(&asked.customer) != fold_case(&own) {
                return Err(ApiError::Confined { customer: own }.into());
            }
            asked.customer.clone_from(&own);
        }
        let (month, ended) = (self.month(&asked.month)?, self.month(&asked.month)? < self.current());
        let ledger = self.ledger.clone();
        answer(move || {
            let told = report(&ledger, month, &asked);
            let mut report = told.map_err(|error| if own.is_empty() { error } else { without_others(error) })?;
            report.ended = ended;
            // Which license servers there are is nothing to a customer.
            if let Some(completeness) = report.completeness.as_mut().filter(|_| !own.is_empty()) {
                *completeness = Completeness { complete: completeness.complete, ..Completeness::default() };
            }
            Ok::<_, LedgerError>(report)
        })
        .await
    }

    async fn list_months(&self, _: Request<ListMonthsRequest>) -> Result<Response<ListMonthsResponse>, Status> {
        let _permit = self.limit.enter()?;
        let (ledger, current, time_zone) = (self.ledger.clone(), self.current(), self.time_zone());
        answer(move || {
            let revisions = ledger.revisions()?;
            let first_used = ledger.statements().usage().first_month()?;
            let first_kept = revisions.first().and_then(|revision| Month::from_number(revision.month));
            let first = first_used.into_iter().chain(first_kept).min().unwrap_or(current);
            let months = std::iter::successors(Some(current), |month| (*month > first).then(|| month.previous()));
            let summary = |month: Month| {
                let of_month = revisions.iter().filter(|revision| revision.month == month.number());
                let last = of_month.rev().find(|revision| revision.state != store::State::Withdrawn);
                MonthSummary {
                    month: month.to_string(),
                    state: last.map_or(MonthState::Unspecified, |last| last.state.into()).into(),
                    revision: last.map_or(0, |last| last.revision),
                    ended: month < current,
                    sha256: last.map(|last| last.sha256.clone()).unwrap_or_default(),
                }
            };
            let months = months.take(MOST_MONTHS).map(summary).collect();
            Ok::<_, LedgerError>(ListMonthsResponse { months, time_zone })
        })
        .await
    }

    async fn get_month(&self, request: Request<GetMonthRequest>) -> Result<Response<GetMonthResponse>, Status> {
        let _permit = self.limit.enter()?;
        let month = self.month(&request.into_inner().month)?;
        let (ledger, ended, time_zone) = (self.ledger.clone(), month < self.current(), self.time_zone());
        answer(move || {
            let view = ledger.view(month)?;
            let last = view.revisions.iter().rev().find(|revision| revision.state != store::State::Withdrawn);
            let difference = |((customer, sku), revision_quantity, quantity)| LineDifference {
                customer,
                sku,
                revision_quantity,
                quantity,
            };
            Ok::<_, LedgerError>(GetMonthResponse {
                month: month.to_string(),
                state: last.map_or(MonthState::Unspecified, |last| last.state.into()).into(),
                revisions: view.revisions.into_iter().map(Into::into).collect(),
                events: view.events.into_iter().map(Into::into).collect(),
                adjustments: view.adjustments.into_iter().map(Into::into).collect(),
                incomplete_servers: view.incomplete,
                acknowledged_servers: view.acknowledged,
                ended,
                differences: view.differences.into_iter().map(difference).collect(),
                two_people: ledger.two_people(),
                time_zone,
            })
        })
        .await
    }

    async fn review_month(
        &self,
        request: Request<ReviewMonthRequest>,
    ) -> Result<Response<ReviewMonthResponse>, Status> {
        let _permit = self.limit.enter()?;
        let (author, asked, ledger) = (caller(&request)?.name, request.into_inner(), self.ledger.clone());
        must_be_a_reason(&asked.reason)?;
        let month = self.month(&asked.month)?;
        answer(move || {
            let revision = Some(ledger.review(month, &author, &asked.reason)?.into());
            Ok::<_, LedgerError>(ReviewMonthResponse { revision })
        })
        .await
    }

    async fn withdraw_review(
        &self,
        request: Request<WithdrawReviewRequest>,
    ) -> Result<Response<WithdrawReviewResponse>, Status> {
        let _permit = self.limit.enter()?;
        let (author, asked, ledger) = (caller(&request)?.name, request.into_inner(), self.ledger.clone());
        must_be_a_reason(&asked.reason)?;
        let month = self.month(&asked.month)?;
        answer(move || ledger.withdraw(month, &author, &asked.reason).map(|()| WithdrawReviewResponse {})).await
    }

    async fn approve_month(
        &self,
        request: Request<ApproveMonthRequest>,
    ) -> Result<Response<ApproveMonthResponse>, Status> {
        let _permit = self.limit.enter()?;
        let (author, asked, ledger) = (caller(&request)?.name, request.into_inner(), self.ledger.clone());
        must_be_a_reason(&asked.reason)?;
        let month = self.month(&asked.month)?;
        answer(move || {
            let revision = Some(ledger.approve(month, &author, &asked.sha256, &asked.reason)?.into());
            Ok::<_, LedgerError>(ApproveMonthResponse { revision })
        })
        .await
    }

    async fn submit_month(
        &self,
        request: Request<SubmitMonthRequest>,
    ) -> Result<Response<SubmitMonthResponse>, Status> {
        let _permit = self.limit.enter()?;
        let (author, asked, ledger) = (caller(&request)?.name, request.into_inner(), self.ledger.clone());
        must_be_short("reference", &asked.reference, true)?;
        let month = self.month(&asked.month)?;
        answer(move || {
            let revision = Some(ledger.submit(month, &author, &asked.reference)?.into());
            Ok::<_, LedgerError>(SubmitMonthResponse { revision })
        })
        .await
    }

    async fn acknowledge_server(
        &self,
        request: Request<AcknowledgeServerRequest>,
    ) -> Result<Response<AcknowledgeServerResponse>, Status> {
        let _permit = self.limit.enter()?;
        let (author, asked, ledger) = (caller(&request)?.name, request.into_inner(), self.ledger.clone());
        must_have_a_reason(&asked.reason)?;
        must_be_short("license_server", &asked.license_server, false)?;
        let month = self.month(&asked.month)?;
        answer(move || {
            ledger.acknowledge(month, &author, &asked.license_server, &asked.reason)?;
            Ok::<_, LedgerError>(AcknowledgeServerResponse {})
        })
        .await
    }

    async fn adjust_month(
        &self,
        request: Request<AdjustMonthRequest>,
    ) -> Result<Response<AdjustMonthResponse>, Status> {
        let _permit = self.limit.enter()?;
        let (author, asked, ledger) = (caller(&request)?.name, request.into_inner(), self.ledger.clone());
        must_have_a_reason(&asked.reason)?;
        must_be_short("customer", &asked.customer, true)?;
        must_be_short("sku", &asked.sku, false)?;
        if asked.quantity == 0 || asked.quantity.abs() > MOST_ADJUSTED {
            return Err(ApiError::invalid("quantity", "must be a number other than 0, of at most a billion").into());
        }
        let month = self.month(&asked.month)?;
        let AdjustMonthRequest { customer, sku, quantity, reason, .. } = asked;
        let at = Timestamp::now().as_second();
        let adjustment = store::Adjustment { number: 0, customer, sku, quantity, reason, author, at };
        answer(move || ledger.adjust(month, &adjustment).map(|()| AdjustMonthResponse {})).await
    }

    async fn withdraw_adjustment(
        &self,
        request: Request<WithdrawAdjustmentRequest>,
    ) -> Result<Response<WithdrawAdjustmentResponse>, Status> {
        let _permit = self.limit.enter()?;
        let (author, asked, ledger) = (caller(&request)?.name, request.into_inner(), self.ledger.clone());
        let month = self.month(&asked.month)?;
        answer(move || {
            ledger.withdraw_adjustment(month, &author, asked.number)?;
            Ok::<_, LedgerError>(WithdrawAdjustmentResponse {})
        })
        .await
    }

    async fn export_revision(
        &self,
        request: Request<ExportRevisionRequest>,
    ) -> Result<Response<Self::ExportRevisionStream>, Status> {
        let _permit = self.limit.enter()?;
        let (asked, ledger) = (request.into_inner(), self.ledger.clone());
        let month = self.month(&asked.month)?;
        let bytes = answer(move || ledger.export(month, asked.revision)).await?.into_inner();
        let pieces: Vec<_> =
            bytes.chunks(PIECE).map(|piece| Ok(ExportRevisionResponse { data: piece.to_vec() })).collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(pieces))))
    }

    async fn export_evidence(
        &self,
        request: Request<ExportEvidenceRequest>,
    ) -> Result<Response<Self::ExportEvidenceStream>, Status> {
        let _permit = self.limit.enter()?;
        let (month, evidence) = (self.month(&request.into_inner().month)?, self.evidence.clone());
        let bytes = answer(move || evidence.of(month)).await?.into_inner();
        let pieces: Vec<_> =
            bytes.chunks(PIECE).map(|piece| Ok(ExportEvidenceResponse { data: piece.to_vec() })).collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(pieces))))
    }

    async fn get_evidence_key(
        &self,
        _: Request<GetEvidenceKeyRequest>,
    ) -> Result<Response<GetEvidenceKeyResponse>, Status> {
        let _permit = self.limit.enter()?;
        let pem = self.evidence.public_key();
        let sha256 = ring::digest::digest(&ring::digest::SHA256, pem.as_bytes()).as_ref().to_vec();
        Ok(Response::new(GetEvidenceKeyResponse { pem, sha256 }))
    }
}
