//! `seatmeter users`.

use anyhow::Result;
use seatmeter_proto::v1::usage_service_client::UsageServiceClient;
use seatmeter_proto::v1::{ListUsersRequest, UserUsage};
use serde::Serialize;
use tonic::transport::Channel;

use crate::output::{self, Output, Row, moment, safe, stamp, yes_no};

#[derive(clap::Args)]
pub(crate) struct Users {
    /// The month, YYYY-MM; the current one if none is given
    month: Option<String>,
    /// Only those who used this SKU
    #[arg(long, value_name = "SKU")]
    sku: Option<String>,
    /// Only those seen by this license server
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
    /// At most this many people; all if none is given
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

/// A person's month. The names of the fields are those of JSON and CSV, and stay.
#[derive(Serialize)]
struct UserRow {
    person: String,
    realm: String,
    identities: String,
    skus: String,
    first_used: String,
    last_used: String,
    days: u32,
    checkouts: u64,
    seat_hours: f64,
    estimated: bool,
}

impl From<UserUsage> for UserRow {
    fn from(user: UserUsage) -> Self {
        Self {
            first_used: stamp(user.first_used.as_ref()),
            last_used: stamp(user.last_used.as_ref()),
            person: user.person,
            realm: user.realm,
            identities: user.identities.join(", "),
            skus: user.skus.join(", "),
            days: user.days,
            checkouts: user.checkouts,
            seat_hours: (user.seat_seconds as f64 / 36.0).round() / 100.0,
            estimated: user.estimated,
        }
    }
}

impl Row for UserRow {
    const FIELDS: &'static [&'static str] = &[
        "person",
        "realm",
        "identities",
        "skus",
        "first_used",
        "last_used",
        "days",
        "checkouts",
        "seat_hours",
        "estimated",
    ];
    const COLUMNS: &'static [&'static str] =
        &["Person", "Realm", "SKUs", "First used", "Last used", "Days ", "Checkouts ", "Seat-hours ", "Estimated"];

    fn cells(&self) -> Vec<String> {
        vec![
            safe(&self.person),
            safe(&self.realm),
            safe(&self.skus),
            moment(&self.first_used),
            moment(&self.last_used),
            self.days.to_string(),
            self.checkouts.to_string(),
            format!("{:.1}", self.seat_hours),
            yes_no(self.estimated),
        ]
    }
}

/// People asked for in one call.
const PAGE: i32 = 1000;

pub(crate) async fn users(channel: Channel, asked: Users, output: Output) -> Result<()> {
    let mut client = UsageServiceClient::new(channel);
    let limit = asked.limit.unwrap_or(usize::MAX);
    let mut request = ListUsersRequest {
        month: asked.month.unwrap_or_default(),
        sku: asked.sku.unwrap_or_default(),
        license_server: asked.server.unwrap_or_default(),
        page_size: PAGE,
        page_token: String::new(),
    };
    let mut rows: Vec<UserRow> = Vec::new();
    let mut total;
    loop {
        let page = client.list_users(request.clone()).await?.into_inner();
        total = page.total_size;
        rows.extend(page.users.into_iter().map(UserRow::from));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() || rows.len() >= limit {
            break;
        }
    }
    rows.truncate(limit);
    output::print(&rows, output)?;
    if output == Output::Table {
        eprintln!("{} of {total} people.", rows.len());
    }
    Ok(())
}
