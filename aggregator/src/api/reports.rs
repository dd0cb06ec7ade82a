//! `seatmeter.v1.ReportService`: what is reported and billed of a month.

use jiff::Timestamp;
use seatmeter_proto::timestamp;
use seatmeter_proto::v1::report_service_server::ReportService;
use seatmeter_proto::v1::{GetReportRequest, GetReportResponse, ReportLine, Unit};
use tonic::{Request, Response, Status};

use super::status::ApiError;
use super::{ConcurrencyLimit, answer};
use crate::month::statement::{ReportError, StatedLine, Statements};
use crate::rules::rule;

/// Tells reports.
pub struct ReportsApi {
    statements: Statements,
    limit: ConcurrencyLimit,
}

impl ReportsApi {
    /// Creates the service over statements, with a limit on requests.
    pub fn new(statements: Statements, limit: ConcurrencyLimit) -> Self {
        Self { statements, limit }
    }
}

#[tonic::async_trait]
impl ReportService for ReportsApi {
    async fn get_report(&self, request: Request<GetReportRequest>) -> Result<Response<GetReportResponse>, Status> {
        let _permit = self.limit.enter()?;
        let asked = request.into_inner();
        let current = self.statements.usage().current_month();
        let month = match asked.month.as_str() {
            "" | "last" => current.previous(),
            "current" => current,
            text => text
                .parse()
                .map_err(|error: seatmeter_count::calendar::NotAMonth| ApiError::invalid("month", error.to_string()))?,
        };
        if month > current {
            return Err(ApiError::FutureMonth { field: "month", month, current }.into());
        }
        let statements = self.statements.clone();
        answer(move || {
            let made_at = Some(timestamp(Timestamp::now().as_second()));
            let found = statements.of(month, &asked.customer)?;
            Ok::<_, ReportError>(GetReportResponse {
                month: month.to_string(),
                lines: found.lines.into_iter().map(Into::into).collect(),
                totals: found.totals.into_iter().map(Into::into).collect(),
                users: found.users,
                free_users: found.free_users,
                customers: found.customers.into_iter().map(Into::into).collect(),
                basis: Some(found.basis.into()),
                completeness: Some(found.completeness.into()),
                ended: month < current,
                made_at,
            })
        })
        .await
    }
}

impl From<StatedLine> for ReportLine {
    fn from(line: StatedLine) -> Self {
        let unit: fn(rule::Unit) -> Unit = Unit::from;
        Self {
            customer: line.customer,
            unit: unit(line.sku.unit).into(),
            sku: line.sku.id,
            product: line.sku.product,
            part_number: line.sku.part_number,
            quantity: line.quantity,
            users: line.users,
            free_users: line.free_users,
            counted_elsewhere: line.counted_elsewhere,
            devices: line.devices,
            peak_concurrent: line.peak,
            seat_hours: line.seat_hours,
            previous_quantity: line.previous,
            entitled: line.entitled,
            minimum: line.minimum,
            price: line.sku.price,
            catalogued: line.sku.catalogued,
        }
    }
}
