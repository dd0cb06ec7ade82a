//! `seatmeter usage` and `seatmeter trend`.

use anyhow::Result;
use seatmeter_proto::v1::usage_service_client::UsageServiceClient;
use seatmeter_proto::v1::{Basis, Completeness, GetMonthlyUsageRequest, GetTrendRequest, SkuUsage};
use serde::Serialize;
use tonic::transport::Channel;

use crate::output::{self, Output, Row, moment, safe, stamp, yes_no};

#[derive(clap::Args)]
pub(crate) struct Usage {
    /// The month, YYYY-MM; the current one if none is given
    month: Option<String>,
    /// Only this license server
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
    /// Only this SKU
    #[arg(long, value_name = "SKU")]
    sku: Option<String>,
    /// A row for each SKU and license server (these never add up: one person can use several)
    #[arg(long)]
    by_server: bool,
}

#[derive(clap::Args)]
pub(crate) struct Trend {
    /// The first month, YYYY-MM; eleven months before the last if none is given
    #[arg(long, value_name = "MONTH")]
    from: Option<String>,
    /// The last month, YYYY-MM; the current one if none is given
    #[arg(long, value_name = "MONTH")]
    through: Option<String>,
    /// Only this SKU
    #[arg(long, value_name = "SKU")]
    sku: Option<String>,
    /// Only this license server
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
}

/// A SKU's month. The names of the fields are those of JSON and CSV, and stay.
#[derive(Serialize)]
struct SkuRow {
    month: String,
    sku: String,
    product: String,
    license_server: String,
    unique_users: u64,
    free_users: u64,
    paid_users: u64,
    devices: u64,
    checkouts: u64,
    denials: u64,
    denial_lines: u64,
    seat_hours: f64,
    peak_concurrent: u64,
    peak_at: String,
    peak_exact: bool,
    catalogued: bool,
    concurrent_model: bool,
    complete: bool,
}

impl From<SkuUsage> for SkuRow {
    fn from(usage: SkuUsage) -> Self {
        Self {
            peak_at: stamp(usage.peak_at.as_ref()),
            month: usage.month,
            sku: usage.sku,
            product: usage.product,
            license_server: usage.license_server,
            unique_users: usage.unique_users,
            free_users: usage.free_users,
            paid_users: usage.paid_users,
            devices: usage.devices,
            checkouts: usage.checkouts,
            denials: usage.denials,
            denial_lines: usage.denial_lines,
            // Two digits: a hundredth of an hour is 36 seconds.
            seat_hours: (usage.seat_seconds as f64 / 36.0).round() / 100.0,
            peak_concurrent: usage.peak_concurrent,
            peak_exact: usage.peak_exact,
            catalogued: usage.catalogued,
            concurrent_model: usage.concurrent_model,
            complete: usage.complete,
        }
    }
}

impl Row for SkuRow {
    const FIELDS: &'static [&'static str] = &[
        "month",
        "sku",
        "product",
        "license_server",
        "unique_users",
        "free_users",
        "paid_users",
        "devices",
        "checkouts",
        "denials",
        "denial_lines",
        "seat_hours",
        "peak_concurrent",
        "peak_at",
        "peak_exact",
        "catalogued",
        "concurrent_model",
        "complete",
    ];
    const COLUMNS: &'static [&'static str] = &[
        "Month",
        "SKU",
        "Product",
        "Server",
        "Users ",
        "Devices ",
        "Checkouts ",
        "Denials ",
        "Seat-hours ",
        "Peak ",
        "Complete",
    ];

    fn cells(&self) -> Vec<String> {
        let product = match (self.catalogued, self.concurrent_model) {
            (false, _) => "(not in the catalogue)".to_owned(),
            (true, true) => format!("{} [concurrent: no user count]", self.product),
            (true, false) => self.product.clone(),
        };
        vec![
            self.month.clone(),
            safe(&self.sku),
            safe(&product),
            if self.license_server.is_empty() { "all".into() } else { safe(&self.license_server) },
            self.unique_users.to_string(),
            self.devices.to_string(),
            self.checkouts.to_string(),
            self.denials.to_string(),
            format!("{:.1}", self.seat_hours),
            format!("{}{}", if self.peak_exact { "" } else { "≤ " }, self.peak_concurrent),
            yes_no(self.complete),
        ]
    }
}

pub(crate) async fn usage(channel: Channel, asked: Usage, output: Output) -> Result<()> {
    let request = GetMonthlyUsageRequest {
        month: asked.month.unwrap_or_default(),
        license_server: asked.server.unwrap_or_default(),
        sku: asked.sku.unwrap_or_default(),
        by_server: asked.by_server,
    };
    let found = UsageServiceClient::new(channel).get_monthly_usage(request).await?.into_inner();
    let rows: Vec<SkuRow> = found.rows.into_iter().map(SkuRow::from).collect();
    output::print(&rows, output)?;
    if output == Output::Table {
        if rows.is_empty() && !found.latest_month.is_empty() {
            eprintln!("No use in this month. The last month with any is {}.", found.latest_month);
        }
        tell_basis(found.basis.as_ref());
        tell_completeness(found.completeness.as_ref());
    }
    Ok(())
}

pub(crate) async fn trend(channel: Channel, asked: Trend, output: Output) -> Result<()> {
    let request = GetTrendRequest {
        from_month: asked.from.unwrap_or_default(),
        through_month: asked.through.unwrap_or_default(),
        sku: asked.sku.unwrap_or_default(),
        license_server: asked.server.unwrap_or_default(),
    };
    let found = UsageServiceClient::new(channel).get_trend(request).await?.into_inner();
    let rows: Vec<SkuRow> = found.rows.into_iter().map(SkuRow::from).collect();
    output::print(&rows, output)?;
    if output == Output::Table {
        tell_basis(found.basis.as_ref());
    }
    Ok(())
}

fn tell_basis(basis: Option<&Basis>) {
    if let Some(basis) = basis {
        eprintln!(
            "Months of {}; a person counts who {} a seat; domains: {}; rules {}.",
            basis.time_zone,
            if basis.person_rule == "held" { "held" } else { "checked out" },
            basis.domain_rule,
            basis.rules_version
        );
    }
}

/// What is missing, for each license server that lacks something: silence is never zero.
fn tell_completeness(completeness: Option<&Completeness>) {
    let Some(completeness) = completeness else { return };
    if completeness.servers.is_empty() {
        eprintln!("No license server has reported yet.");
    }
    for server in completeness.servers.iter().filter(|server| !server.complete) {
        let through = moment(&stamp(server.reported_through.as_ref()));
        eprintln!(
            "Incomplete: {} (reported through {through}): {}",
            safe(&server.license_server),
            safe(&server.reasons.join("; "))
        );
    }
}
