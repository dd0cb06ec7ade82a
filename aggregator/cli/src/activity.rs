//! `seatmeter activity`.

use anyhow::Result;
use seatmeter_proto::answer;
use seatmeter_proto::v1::GetActivityRequest;
use seatmeter_proto::v1::usage_service_client::UsageServiceClient;
use serde::Serialize;
use tonic::transport::Channel;

use crate::output::{self, Output, Row, safe};

#[derive(clap::Args)]
pub(crate) struct Activity {
    /// Only this month, YYYY-MM; all if none is given
    month: Option<String>,
    /// Only this license server; with several, the table and JSON name it, and CSV asks for one
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
}

/// The form of `seatmeter-agent scan --output csv`: a contract.
#[derive(Serialize)]
struct ActivityRow {
    #[serde(skip)]
    license_server: String,
    month: String,
    daemon: String,
    feature: String,
    users_checked_out: u64,
    users_held: u64,
    outs: u64,
    ins: u64,
    denials: u64,
}

impl Row for ActivityRow {
    const FIELDS: &'static [&'static str] =
        &["month", "daemon", "feature", "users_checked_out", "users_held", "outs", "ins", "denials"];
    const COLUMNS: &'static [&'static str] =
        &["Server", "Month", "Daemon", "Feature", "Users ", "Checked out ", "Outs ", "Ins ", "Denial lines "];

    fn cells(&self) -> Vec<String> {
        vec![
            safe(&self.license_server),
            self.month.clone(),
            safe(&self.daemon),
            safe(&self.feature),
            self.users_held.to_string(),
            self.users_checked_out.to_string(),
            self.outs.to_string(),
            self.ins.to_string(),
            self.denials.to_string(),
        ]
    }
}

/// As JSON, each row names its license server.
#[derive(Serialize)]
struct WithServer {
    license_server: String,
    #[serde(flatten)]
    row: ActivityRow,
}

pub(crate) async fn activity(channel: Channel, asked: Activity, output: Output) -> Result<()> {
    let request =
        GetActivityRequest { license_server: asked.server.unwrap_or_default(), month: asked.month.unwrap_or_default() };
    let found = UsageServiceClient::new(channel).get_activity(request).await?.into_inner();
    let rows: Vec<ActivityRow> = found
        .rows
        .into_iter()
        .map(|row| ActivityRow {
            license_server: row.license_server,
            month: row.month,
            daemon: row.daemon,
            feature: row.feature,
            users_checked_out: row.users_checked_out,
            users_held: row.users_held,
            outs: row.outs,
            ins: row.ins,
            denials: row.denials,
        })
        .collect();
    let mut servers: Vec<&str> = rows.iter().map(|row| row.license_server.as_str()).collect();
    servers.dedup();
    if output == Output::Csv && servers.len() > 1 {
        anyhow::bail!("the CSV is one license server's: choose with --server, of {}", servers.join(", "));
    }
    if output == Output::Json {
        let rows: Vec<WithServer> =
            rows.into_iter().map(|row| WithServer { license_server: row.license_server.clone(), row }).collect();
        answer!("{}", serde_json::to_string_pretty(&rows)?);
        return Ok(());
    }
    output::print(&rows, output)
}
