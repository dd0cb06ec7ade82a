//! `seatmeter sessions`.

use anyhow::Result;
use seatmeter_proto::v1::usage_service_client::UsageServiceClient;
use seatmeter_proto::v1::{self, Basis, ListSessionsRequest};
use seatmeter_service::answer;
use seatmeter_service::screen::table::{Column, Kind, View};
use seatmeter_service::screen::text::count;
use serde::Serialize;

use crate::connect::Channel;
use crate::notes::{stamp, tell_zone, zone};
use crate::watch::Watch;

#[derive(clap::Args)]
pub(crate) struct Sessions {
    /// Only seats of this SKU
    #[arg(long, value_name = "SKU")]
    sku: Option<String>,
    /// Only seats of this license server
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
    #[command(flatten)]
    pub(crate) watch: Watch,
}

/// A session that is not known to have ended. The field names are those in JSON and CSV, and must not change.
#[derive(Serialize)]
struct SessionRow {
    license_server: String,
    daemon: String,
    feature: String,
    sku: Option<String>,
    user: String,
    host: Option<String>,
    seats: u32,
    since: Option<String>,
    known_through: Option<String>,
    log: String,
}

const COLUMNS: &[Column] = &[
    Column::new("license_server", "Server", Kind::Text, 0),
    Column::new("daemon", "Daemon", Kind::Text, 4),
    Column::new("feature", "Feature", Kind::Text, 0),
    Column::new("sku", "SKU", Kind::Text, 5),
    Column::new("user", "User", Kind::Text, 0),
    Column::new("host", "Host", Kind::Text, 1),
    Column::new("seats", "Seats", Kind::Number, 0),
    Column::new("since", "Since", Kind::Time, 0),
    Column::new("known_through", "Known through", Kind::Time, 3),
    Column::new("log", "Told by", Kind::Text, 6),
];

impl From<v1::OpenSession> for SessionRow {
    fn from(session: v1::OpenSession) -> Self {
        let told = |text: String| Some(text).filter(|text| !text.is_empty());
        Self {
            license_server: session.license_server,
            daemon: session.daemon,
            feature: session.feature,
            sku: told(session.sku),
            user: session.user,
            host: told(session.host),
            seats: session.seats,
            since: stamp(session.since.as_ref()),
            known_through: stamp(session.known_through.as_ref()),
            log: session.log,
        }
    }
}

#[derive(Serialize)]
struct Envelope {
    total: u64,
    time_zone: String,
}

pub(crate) async fn sessions(channel: &Channel, asked: &Sessions, view: &View) -> Result<bool> {
    let mut client = UsageServiceClient::new(channel.clone());
    let mut request = ListSessionsRequest {
        sku: asked.sku.clone().unwrap_or_default(),
        license_server: asked.server.clone().unwrap_or_default(),
        page_size: 1000,
        page_token: String::new(),
    };
    let (mut rows, mut basis): (Vec<SessionRow>, _) = (Vec::new(), Basis::default());
    loop {
        let page = client.list_sessions(request.clone()).await?.into_inner();
        rows.extend(page.sessions.into_iter().map(SessionRow::from));
        basis = page.basis.unwrap_or(basis);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    let zone = zone(&basis.time_zone);
    let envelope = Envelope { total: rows.len() as u64, time_zone: basis.time_zone.clone() };
    view.print(COLUMNS, &rows, &envelope, &zone)?;
    if view.is_for_people() {
        answer!("{} not known to have ended.", count(rows.len() as u64, "session"));
        tell_zone(&zone);
    }
    Ok(true)
}
