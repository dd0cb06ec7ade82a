//! `seatmeter users`.

use anyhow::{Result, ensure};
use seatmeter_proto::v1::usage_service_client::UsageServiceClient;
use seatmeter_proto::v1::{Basis, Completeness, ExportUsersRequest, UserUsage};
use seatmeter_service::answer;
use seatmeter_service::screen::table::{Column, Kind, View, WIDE};
use seatmeter_service::screen::text::thousands;
use serde::Serialize;
use tokio_stream::StreamExt;

use crate::connect::Channel;
use crate::months::month;
use crate::notes::{BasisJson, CompletenessJson, stamp, tell_basis, tell_completeness, zone};

#[derive(clap::Args)]
pub(crate) struct Users {
    /// The month: YYYY-MM, `this` or `last`; the current one if none is given
    month: Option<String>,
    /// Only people who used this SKU
    #[arg(long, value_name = "SKU")]
    sku: Option<String>,
    /// Only people in the logs of this license server
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
    /// At most this many people; all if none is given
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

/// The usage of a person in a month. The field names are those in JSON and CSV, and must not change.
#[derive(Serialize)]
struct UserRow {
    person: String,
    realm: Option<String>,
    identities: Vec<String>,
    skus: Vec<String>,
    first_used: Option<String>,
    last_used: Option<String>,
    days: u32,
    checkouts: u64,
    seat_hours: f64,
    estimated: bool,
    complete: bool,
}

const COLUMNS: &[Column] = &[
    Column::new("person", "Person", Kind::Text, 0),
    Column::new("realm", "Realm", Kind::Text, 5),
    Column::new("identities", "Identities", Kind::Text, WIDE),
    Column::new("skus", "SKUs", Kind::Text, 2),
    Column::new("first_used", "First used", Kind::Time, 3),
    Column::new("last_used", "Last used", Kind::Time, 1),
    Column::new("days", "Days", Kind::Number, 0),
    Column::new("checkouts", "Checkouts", Kind::Number, 0),
    Column::new("seat_hours", "Seat-hours", Kind::Number, 4),
    Column::new("estimated", "Estimated", Kind::Text, 6),
    Column::new("complete", "Complete", Kind::Text, WIDE),
];

impl UserRow {
    fn new(user: UserUsage, complete: bool) -> Self {
        Self {
            first_used: stamp(user.first_used.as_ref()),
            last_used: stamp(user.last_used.as_ref()),
            person: user.person,
            realm: Some(user.realm).filter(|realm| !realm.is_empty()),
            identities: user.identities,
            skus: user.skus,
            days: user.days,
            checkouts: user.checkouts,
            seat_hours: (user.seat_seconds as f64 / 36.0).round() / 100.0,
            estimated: user.estimated,
            complete,
        }
    }
}

#[derive(Serialize)]
struct Envelope {
    total: u64,
    basis: BasisJson,
    completeness: CompletenessJson,
}

pub(crate) async fn users(channel: &Channel, asked: Users, view: &View) -> Result<bool> {
    let limit = asked.limit.unwrap_or(usize::MAX);
    let request = ExportUsersRequest {
        month: month(asked.month.as_deref()),
        sku: asked.sku.unwrap_or_default(),
        license_server: asked.server.unwrap_or_default(),
    };
    let mut parts = UsageServiceClient::new(channel.clone()).export_users(request).await?.into_inner();
    let (mut rows, mut total) = (Vec::new(), 0);
    let (mut basis, mut completeness) = (Basis::default(), Completeness::default());
    while let Some(part) = parts.next().await.transpose()? {
        total = part.total_size as u64;
        basis = part.basis.unwrap_or(basis);
        completeness = part.completeness.unwrap_or(completeness);
        rows.extend(part.users.into_iter().map(|user| UserRow::new(user, completeness.complete)));
        if rows.len() >= limit && view.sort.is_none() {
            break;
        }
    }
    let expected = if view.sort.is_some() { total } else { total.min(limit as u64) };
    ensure!(rows.len() as u64 >= expected, "the answer was cut short: ask again");
    view.limit(COLUMNS, &mut rows, limit)?;
    let zone = zone(&basis.time_zone);
    let envelope = Envelope { total, basis: basis.clone().into(), completeness: CompletenessJson::new(&completeness) };
    view.print(COLUMNS, &rows, &envelope, &zone)?;
    if view.is_for_people() {
        match rows.len() as u64 {
            1 if total == 1 => answer!("1 person."),
            shown if shown == total => answer!("{} people.", thousands(total)),
            shown => answer!("{} of {} people.", thousands(shown), thousands(total)),
        }
        tell_basis(&basis);
        tell_completeness(&completeness, &zone);
    }
    Ok(true)
}
