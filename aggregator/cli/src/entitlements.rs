//! `seatmeter entitlements`.

use anyhow::Result;
use jiff::civil::Date;
use seatmeter_proto::v1::usage_service_client::UsageServiceClient;
use seatmeter_proto::v1::{self, Basis, ListEntitlementsRequest};
use seatmeter_service::answer;
use seatmeter_service::screen::table::{Column, Kind, View, WIDE};
use seatmeter_service::screen::text::count;
use serde::Serialize;

use crate::connect::Channel;
use crate::notes::{BasisJson, stamp, zone};

/// The licenses that there are, how many are used, and when they expire; exit code 3 if some have expired or soon will,
/// or if a source is silent that told them
///
/// License files and license managers that are asked tell them. Where several sources tell
/// of the same licenses, each has a row: they are never added. Peak and users are those of
/// the month.
///
/// Examples:
///   seatmeter entitlements --expiring              what has expired, or will within 30 days
///   seatmeter entitlements --on 2026-06-30         what there was on that day
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Entitlements {
    /// Only licenses of this SKU
    #[arg(long, value_name = "SKU")]
    sku: Option<String>,
    /// Only licenses of this license server
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
    /// On this day, as YYYY-MM-DD, in place of now
    #[arg(long, value_name = "DATE", default_value = "", hide_default_value = true)]
    on: String,
    /// Only those that have expired, or will within the days of --within, and those that may be others by now
    #[arg(long)]
    expiring: bool,
    /// How many days before licenses expire to say so
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    within: u16,
}

/// Licenses that are alike. The field names are those in JSON and CSV, and must not change.
#[derive(Serialize)]
struct LicenseRow {
    state: &'static str,
    license_server: String,
    daemon: String,
    feature: String,
    sku: Option<String>,
    licenses: Option<u64>,
    usable_licenses: Option<u64>,
    seats_in_use: Option<u64>,
    peak_concurrent: Option<u64>,
    unique_users: Option<u64>,
    expires: Option<String>,
    days_left: Option<i64>,
    version: Option<String>,
    pools: u32,
    log: String,
    told_at: Option<String>,
    last_told_at: Option<String>,
}

const COLUMNS: &[Column] = &[
    Column::new("state", "State", Kind::State, 0),
    Column::new("license_server", "Server", Kind::Text, 0),
    Column::new("daemon", "Daemon", Kind::Text, 4),
    Column::new("feature", "Feature", Kind::Text, 0),
    Column::new("sku", "SKU", Kind::Text, 7),
    Column::new("licenses", "Licenses", Kind::Number, 0),
    Column::new("usable_licenses", "Usable", Kind::Number, WIDE),
    Column::new("seats_in_use", "In use", Kind::Number, 0),
    Column::new("peak_concurrent", "Peak", Kind::Number, 1),
    Column::new("unique_users", "Users", Kind::Number, 1),
    Column::new("expires", "Expires", Kind::Text, 0),
    Column::new("days_left", "Days left", Kind::Number, WIDE),
    Column::new("version", "Version", Kind::Text, 2),
    Column::new("pools", "Pools", Kind::Number, 6),
    Column::new("log", "Told by", Kind::Text, 3),
    Column::new("told_at", "Since", Kind::Time, 5),
    Column::new("last_told_at", "Last told", Kind::Time, WIDE),
];

#[derive(Serialize)]
struct Envelope {
    total: u64,
    date: String,
    basis: Option<BasisJson>,
}

impl LicenseRow {
    fn of(row: v1::Entitlement, today: Option<Date>, within: u16) -> Self {
        let told = |text: String| Some(text).filter(|text| !text.is_empty());
        let last: Option<Date> = row.expires_on.parse().ok();
        let days_left = last.zip(today).and_then(|(last, today)| Some(today.until(last).ok()?.get_days().into()));
        let state = match days_left {
            _ if row.expired => "expired",
            Some(left) if left <= i64::from(within) => "soon",
            _ if row.stale => "stale",
            _ => "ok",
        };
        Self {
            state,
            license_server: row.license_server,
            daemon: row.daemon,
            feature: row.feature,
            sku: told(row.sku),
            licenses: row.licenses,
            usable_licenses: row.usable_licenses,
            seats_in_use: row.seats_in_use,
            peak_concurrent: (!row.use_unknown).then_some(row.peak_concurrent),
            unique_users: (!row.use_unknown).then_some(row.unique_users),
            expires: if row.permanent { Some("never".into()) } else { told(row.expires_on) },
            days_left,
            version: told(row.version),
            pools: row.pools,
            log: row.log,
            told_at: stamp(row.told_at.as_ref()),
            last_told_at: stamp(row.last_told_at.as_ref()),
        }
    }
}

pub(crate) async fn entitlements(channel: &Channel, asked: Entitlements, view: &View) -> Result<bool> {
    let mut client = UsageServiceClient::new(channel.clone());
    let mut request = ListEntitlementsRequest {
        license_server: asked.server.unwrap_or_default(),
        sku: asked.sku.unwrap_or_default(),
        date: asked.on,
        page_size: 1000,
        page_token: String::new(),
    };
    let (mut rows, mut basis): (Vec<LicenseRow>, _) = (Vec::new(), Basis::default());
    let date = loop {
        let page = client.list_entitlements(request.clone()).await?.into_inner();
        let today = page.date.parse().ok();
        rows.extend(page.entitlements.into_iter().map(|row| LicenseRow::of(row, today, asked.within)));
        basis = page.basis.unwrap_or(basis);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break page.date;
        }
    };
    let is_empty = rows.is_empty();
    let is_stale = |row: &LicenseRow| row.state == "stale";
    let stale = rows.iter().filter(|row| is_stale(row)).count() as u64;
    let expiring = rows.iter().filter(|row| row.state != "ok" && !is_stale(row)).count() as u64;
    rows.retain(|row| !asked.expiring || row.state != "ok");
    let zone = zone(&basis.time_zone);
    let envelope = Envelope { total: rows.len() as u64, date: date.clone(), basis: Some(basis.into()) };
    view.print(COLUMNS, &rows, &envelope, &zone)?;
    if view.is_for_people() {
        if is_empty && !request.date.is_empty() {
            answer!("No source had told licenses by {date}.");
        } else if is_empty {
            answer!(
                "No source has told licenses: name license files in the agent's configuration (`kind = \"license-file\"`),"
            );
            answer!("or let it ask a license manager that tells them.");
        }
        if expiring > 0 {
            let told = format!("{} expired, or will within {} days of {date}.", count(expiring, "row"), asked.within);
            answer!("{told}");
        }
        if stale > 0 {
            let rows = count(stale, "row");
            answer!("{rows} as last told, and can be others by now: `seatmeter servers` says which source is silent.");
        }
    }
    Ok(expiring == 0 && stale == 0)
}
