//! `seatmeter usage`.

use anyhow::Result;
use seatmeter_proto::v1::usage_service_client::UsageServiceClient;
use seatmeter_proto::v1::{GetMonthlyUsageRequest, GetMonthlyUsageResponse, SkuUsage};
use seatmeter_service::answer;
use seatmeter_service::screen::table::{Column, Kind, View, WIDE};
use serde::Serialize;

use crate::connect::Channel;
use crate::months::month;
use crate::notes::{BasisJson, CompletenessJson, stamp, tell_basis, tell_completeness, zone};
use crate::watch::Watch;

#[derive(clap::Args)]
pub(crate) struct Usage {
    /// The month: YYYY-MM, `this` or `last`; the current one if none is given
    month: Option<String>,
    /// Only this license server
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
    /// Only this SKU
    #[arg(long, value_name = "SKU")]
    sku: Option<String>,
    /// A row for each SKU and license server (rows do not add up: one person can use several license servers)
    #[arg(long)]
    by_server: bool,
    #[command(flatten)]
    pub(crate) watch: Watch,
}

/// The usage of a SKU in a month. The field names are those in JSON and CSV, and must not change.
#[derive(Serialize)]
pub(crate) struct SkuRow {
    pub(crate) month: String,
    pub(crate) sku: String,
    product: Option<String>,
    license_server: Option<String>,
    pub(crate) unique_users: Option<u64>,
    free_users: Option<u64>,
    paid_users: Option<u64>,
    devices: Option<u64>,
    checkouts: Option<u64>,
    denials: Option<u64>,
    denial_lines: Option<u64>,
    seat_hours: Option<f64>,
    peak_concurrent: Option<u64>,
    peak_at: Option<String>,
    peak_exact: Option<bool>,
    catalogued: Option<bool>,
    concurrent_model: Option<bool>,
    pub(crate) complete: bool,
}

pub(crate) const COLUMNS: &[Column] = &[
    Column::new("month", "Month", Kind::Text, 4),
    Column::new("sku", "SKU", Kind::Text, 0),
    Column::new("product", "Product", Kind::Text, 1),
    Column::new("license_server", "Server", Kind::Text, 5),
    Column::new("unique_users", "Users", Kind::Number, 0),
    Column::new("free_users", "Free", Kind::Number, WIDE),
    Column::new("paid_users", "Paid", Kind::Number, WIDE),
    Column::new("devices", "Devices", Kind::Number, 6),
    Column::new("checkouts", "Checkouts", Kind::Number, 3),
    Column::new("denials", "Denials", Kind::Number, 2),
    Column::new("denial_lines", "Denial lines", Kind::Number, WIDE),
    Column::new("seat_hours", "Seat-hours", Kind::Number, 8),
    Column::new("peak_concurrent", "Peak", Kind::Number, 5),
    Column::new("peak_at", "Peak at", Kind::Time, WIDE),
    Column::new("peak_exact", "Exact peak", Kind::Text, WIDE),
    Column::new("catalogued", "In catalogue", Kind::Text, WIDE),
    Column::new("concurrent_model", "Concurrent", Kind::Text, WIDE),
    Column::new("complete", "Complete", Kind::Text, 0),
];

impl From<SkuUsage> for SkuRow {
    fn from(usage: SkuUsage) -> Self {
        // If no license server has reported, the figures are unknown.
        let known = |figure: u64| usage.reported.then_some(figure);
        Self {
            unique_users: known(usage.unique_users),
            free_users: known(usage.free_users),
            paid_users: known(usage.paid_users),
            devices: known(usage.devices),
            checkouts: known(usage.checkouts),
            denials: known(usage.denials),
            denial_lines: known(usage.denial_lines),
            // Two digits: a hundredth of an hour is 36 seconds.
            seat_hours: usage.reported.then_some((usage.seat_seconds as f64 / 36.0).round() / 100.0),
            peak_concurrent: known(usage.peak_concurrent),
            peak_at: stamp(usage.peak_at.as_ref()),
            peak_exact: usage.reported.then_some(usage.peak_exact),
            month: usage.month,
            sku: usage.sku,
            product: usage.catalogued.then_some(usage.product),
            license_server: Some(usage.license_server).filter(|name| !name.is_empty()),
            catalogued: Some(usage.catalogued),
            concurrent_model: Some(usage.concurrent_model),
            complete: usage.complete,
        }
    }
}

/// The fields of JSON beside the rows.
#[derive(Serialize)]
struct Envelope {
    total: Total,
    basis: Option<BasisJson>,
    completeness: Option<CompletenessJson>,
}

/// The totals over all rows, each person counted once; `None` if no license server has reported.
#[derive(Serialize)]
struct Total {
    unique_users: Option<u64>,
    free_users: Option<u64>,
    paid_users: Option<u64>,
}

pub(crate) async fn usage(channel: &Channel, asked: &Usage, view: &View) -> Result<bool> {
    let (mut rows, found) = fetch(channel, asked).await?;
    let total = found.total.unwrap_or_default();
    let completeness = found.completeness.clone().unwrap_or_default();
    let basis = found.basis.clone().unwrap_or_default();
    let zone = zone(&basis.time_zone);
    let notes = Notes::of(&rows);
    // In a sorted table, the total row could end up anywhere.
    if view.is_for_people() && view.sort.is_none() && rows.len() > 1 {
        rows.push(total_row(&rows[0], total.unique_users, completeness.complete));
    }
    let envelope = Envelope {
        total: Total {
            unique_users: total.reported.then_some(total.unique_users),
            free_users: total.reported.then_some(total.free_users),
            paid_users: total.reported.then_some(total.paid_users),
        },
        basis: found.basis.map(BasisJson::from),
        completeness: Some(CompletenessJson::new(&completeness)),
    };
    view.print(COLUMNS, &rows, &envelope, &zone)?;
    if view.is_for_people() {
        if rows.is_empty() && !found.latest_month.is_empty() {
            answer!("No usage in this month. The last month with usage is {}.", found.latest_month);
        }
        notes.tell();
        tell_basis(&basis);
        tell_completeness(&completeness, &zone);
    }
    Ok(true)
}

/// Fetches all pages of an answer. Returns all rows, and the last page.
async fn fetch(channel: &Channel, asked: &Usage) -> Result<(Vec<SkuRow>, GetMonthlyUsageResponse)> {
    let mut client = UsageServiceClient::new(channel.clone());
    let mut request = GetMonthlyUsageRequest {
        month: month(asked.month.as_deref()),
        license_server: asked.server.clone().unwrap_or_default(),
        sku: asked.sku.clone().unwrap_or_default(),
        by_server: asked.by_server,
        page_size: 10_000,
        page_token: String::new(),
    };
    let mut rows = Vec::new();
    loop {
        let mut page = client.get_monthly_usage(request.clone()).await?.into_inner();
        rows.extend(page.rows.drain(..).map(SkuRow::from));
        request.page_token.clone_from(&page.next_page_token);
        if page.next_page_token.is_empty() {
            return Ok((rows, page));
        }
    }
}

/// Returns the total row of a table, which counts each person once, whatever the person used.
fn total_row(like: &SkuRow, unique_users: u64, complete: bool) -> SkuRow {
    SkuRow {
        month: like.month.clone(),
        sku: "any SKU".into(),
        product: None,
        license_server: None,
        unique_users: Some(unique_users),
        free_users: None,
        paid_users: None,
        devices: None,
        checkouts: None,
        denials: None,
        denial_lines: None,
        seat_hours: None,
        peak_concurrent: None,
        peak_at: None,
        peak_exact: None,
        catalogued: None,
        concurrent_model: None,
        complete,
    }
}

/// The SKUs that need a note below the table.
#[derive(Default)]
struct Notes {
    uncatalogued: usize,
    concurrent: Vec<String>,
    inexact: Vec<String>,
}

impl Notes {
    fn of(rows: &[SkuRow]) -> Self {
        let named = |is_one: &dyn Fn(&&SkuRow) -> bool| {
            let mut skus: Vec<String> = rows.iter().filter(is_one).map(|row| row.sku.clone()).collect();
            skus.dedup();
            skus
        };
        Self {
            uncatalogued: named(&|row| row.catalogued == Some(false)).len(),
            concurrent: named(&|row| row.concurrent_model == Some(true)),
            inexact: named(&|row| row.peak_exact == Some(false)),
        }
    }

    fn tell(&self) {
        use seatmeter_service::screen::text::{count, list};
        if self.uncatalogued > 0 {
            answer!(
                "Not in the catalogue: {}; a feature without an entry counts as its own SKU.",
                count(self.uncatalogued as u64, "SKU")
            );
        }
        if !self.concurrent.is_empty() {
            answer!("Concurrent licenses, for which users are not the license figure: {}.", list(&self.concurrent));
        }
        if !self.inexact.is_empty() {
            answer!("Upper bounds of the peak, since several features or servers add up: {}.", list(&self.inexact));
        }
    }
}
