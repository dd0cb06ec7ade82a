//! `seatmeter audit`: who changed what, who read names, who was refused; and the proof that nothing of it was removed or altered.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use seatmeter_proto::audit::{Noted, Verifier, micros, timestamp};
use seatmeter_proto::v1::audit_service_client::AuditServiceClient;
use seatmeter_proto::v1::{AuditRecord, ExportAuditRequest, ListAuditRequest};
use seatmeter_service::answer;
use seatmeter_service::screen::table::{Column, Kind, View, WIDE};
use seatmeter_service::screen::text::thousands;
use serde::{Deserialize, Serialize};
use tokio_stream::StreamExt;

use crate::connect::Channel;
use crate::notes::{tell_zone, zone};

/// What is asked of the audit trail.
#[derive(clap::Subcommand)]
pub(crate) enum Audit {
    /// The latest entries: who, from where, what, and what came of it
    ///
    /// Examples:
    ///   seatmeter audit list --since 2026-11-01 --who anna
    ///   seatmeter audit list --refused
    #[command(verbatim_doc_comment)]
    List {
        /// Only this operator's, or this license server's
        #[arg(long, value_name = "NAME")]
        who: Option<String>,
        /// Only this action, for example ExportUsers (of `seatmeter users`)
        #[arg(long, value_name = "NAME")]
        action: Option<String>,
        /// Only from this day on, as YYYY-MM-DD, in UTC
        #[arg(long, value_name = "DATE")]
        since: Option<jiff::civil::Date>,
        /// Only what was refused, or failed
        #[arg(long)]
        refused: bool,
        /// At most this many entries
        #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    Verify(Verify),
    /// Write the whole trail into a file, a line of JSON for each record
    ///
    /// Example: seatmeter audit export audit-2026-11.jsonl
    Export {
        /// The file, which must not exist yet; `-` for standard output
        file: PathBuf,
    },
}

/// Prove that no record was removed, altered or moved; exit code 1 if one was
///
/// Whoever can write the aggregator's database could write a whole new trail. So note its end elsewhere: the health log tells it
/// daily (code audit_head), and this command prints it.
///
/// Examples:
///   seatmeter audit verify
///   seatmeter audit verify --file audit-2026-11.jsonl --noted 4711:9f86d0...
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Verify {
    /// An export, in place of the aggregator's trail: nothing is asked of the aggregator
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// A record that was noted elsewhere, with its hash, and must be found; can be given several times
    #[arg(long, value_name = "NUMBER:HASH", value_parser = noted)]
    noted: Vec<Noted>,
}

fn noted(text: &str) -> Result<Noted, String> {
    let parsed = text.split_once(':').and_then(|(number, hash)| {
        let hash = data_encoding::HEXLOWER_PERMISSIVE.decode(hash.as_bytes()).ok().filter(|hash| hash.len() == 32)?;
        Some(Noted { number: number.parse().ok().filter(|number| *number > 0)?, hash })
    });
    parsed.ok_or_else(|| "write a record's number and its whole hash, with a colon between them".to_owned())
}

/// A record. The field names are those in JSON, CSV and exports, and must not change.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    at: String,
    who: String,
    address: String,
    action: String,
    detail: String,
    result: String,
    number: i64,
    result_of: i64,
    hash: String,
}

const COLUMNS: &[Column] = &[
    Column::new("at", "When", Kind::Time, 0),
    Column::new("who", "Who", Kind::Text, 0),
    Column::new("address", "From", Kind::Text, 2),
    Column::new("action", "Action", Kind::Text, 0),
    Column::new("result", "Result", Kind::Text, 0),
    Column::new("detail", "What", Kind::Text, 1),
    Column::new("number", "Record", Kind::Number, WIDE),
    Column::new("result_of", "Result of", Kind::Number, WIDE),
    Column::new("hash", "Hash", Kind::Text, WIDE),
];

impl From<AuditRecord> for Row {
    fn from(record: AuditRecord) -> Self {
        Self {
            at: Timestamp::from_microsecond(micros(&record)).unwrap_or_default().to_string(),
            who: record.who,
            address: record.address,
            action: record.action,
            detail: record.detail,
            result: record.result,
            number: record.number,
            result_of: record.result_of,
            hash: data_encoding::HEXLOWER.encode(&record.hash),
        }
    }
}

impl Row {
    fn record(self) -> Result<AuditRecord> {
        let at: Timestamp = self.at.parse().with_context(|| format!("{:?} is no moment", self.at))?;
        let hash = data_encoding::HEXLOWER.decode(self.hash.as_bytes());
        let hash = hash.with_context(|| format!("{:?} is no hash", self.hash))?;
        Ok(AuditRecord {
            number: self.number,
            at: Some(timestamp(at.as_microsecond())),
            who: self.who,
            address: self.address,
            action: self.action,
            detail: self.detail,
            result: self.result,
            result_of: self.result_of,
            hash,
        })
    }
}

#[derive(Serialize)]
struct Envelope {
    time_zone: String,
    /// Whether there are more than were asked for.
    more: bool,
}

pub(crate) async fn audit(channel: &Channel, asked: Audit, view: &View) -> Result<bool> {
    let mut client = AuditServiceClient::new(channel.clone());
    match asked {
        Audit::List { who, action, since, refused, limit } => {
            let since = since.map(|day| TimeZone::UTC.to_timestamp(day.at(0, 0, 0, 0))).transpose()?;
            let request = ListAuditRequest {
                who: who.unwrap_or_default(),
                action: action.unwrap_or_default(),
                since: since.map(|since| seatmeter_proto::timestamp(since.as_second())),
                only_refused: refused,
                ..ListAuditRequest::default()
            };
            list(client, request, limit as usize, view).await
        }
        Audit::Verify(Verify { noted, .. }) => {
            let mut verifier = Verifier::new(noted);
            each(&mut client, |record| Ok(verifier.next(&record)?)).await?;
            tell_end(verifier, view)
        }
        Audit::Export { file } => export(client, &file, view).await,
    }
}

/// Shows the latest entries. What was asked and has a result is one entry.
async fn list(
    mut client: AuditServiceClient<Channel>,
    mut request: ListAuditRequest,
    limit: usize,
    view: &View,
) -> Result<bool> {
    let mut records: Vec<AuditRecord> = Vec::new();
    let mut more = false;
    let time_zone = loop {
        request.page_size = i32::try_from(limit.saturating_mul(2)).unwrap_or(1000).min(1000);
        let page = client.list_audit(request.clone()).await?.into_inner();
        for record in page.records {
            let has_result = records.iter().any(|later| later.result_of == record.number);
            more |= !has_result && records.len() == limit;
            if !has_result && records.len() < limit {
                records.push(record);
            }
        }
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() || more {
            break page.time_zone;
        }
    };
    let zone = zone(&time_zone);
    let rows: Vec<Row> = records.into_iter().map(Row::from).collect();
    view.print(COLUMNS, &rows, &Envelope { time_zone, more }, &zone)?;
    if view.is_for_people() {
        if more {
            answer!("These are the latest {}; --limit shows more.", thousands(limit as u64));
        }
        tell_zone(&zone);
    }
    Ok(true)
}

/// Goes through the whole trail.
async fn each(client: &mut AuditServiceClient<Channel>, mut take: impl FnMut(AuditRecord) -> Result<()>) -> Result<()> {
    let mut parts = client.export_audit(ExportAuditRequest::default()).await?.into_inner();
    let (mut last, mut through) = (0, 0);
    while let Some(part) = parts.next().await {
        let part = part?;
        through = part.last_number;
        last = part.records.last().map_or(last, |record| record.number);
        part.records.into_iter().try_for_each(&mut take)?;
    }
    if last < through {
        bail!("the answer was cut short, after record {last} of {through}: ask again");
    }
    Ok(())
}

async fn export(mut client: AuditServiceClient<Channel>, path: &Path, view: &View) -> Result<bool> {
    if path == Path::new("-") {
        each(&mut client, |record| {
            answer!("{}", serde_json::to_string(&Row::from(record))?);
            Ok(())
        })
        .await?;
        return Ok(true);
    }
    let failed = || format!("cannot write {}", path.display());
    let mut file = BufWriter::new(File::create_new(path).with_context(failed)?);
    let mut verifier = Verifier::new(Vec::new());
    each(&mut client, |record| {
        verifier.next(&record)?;
        serde_json::to_writer(&mut file, &Row::from(record))?;
        file.write_all(b"\n").with_context(failed)
    })
    .await?;
    file.into_inner().map_err(|error| error.into_error()).and_then(|file| file.sync_all()).with_context(failed)?;
    tell_end(verifier, view)
}

/// Verifies an export.
pub(crate) fn verify_file(asked: &Verify, view: &View) -> Result<bool> {
    let Some(path) = &asked.file else { bail!("no file is named") };
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut verifier = Verifier::new(asked.noted.clone());
    for (line, number) in BufReader::new(file).lines().zip(1_u64..) {
        let place = || format!("{}, line {number}", path.display());
        let row: Row = serde_json::from_str(&line.with_context(place)?).with_context(place)?;
        verifier.next(&row.record().with_context(place)?).with_context(place)?;
    }
    tell_end(verifier, view)
}

/// Tells where the trail ends, so that it can be noted.
fn tell_end(verifier: Verifier, view: &View) -> Result<bool> {
    let end = verifier.end()?;
    if end.number == 0 {
        bail!("there is no record: this is no trail, or an export that failed");
    }
    let hash = data_encoding::HEXLOWER.encode(&end.hash);
    if view.is_json() {
        answer!("{}", serde_json::json!({ "records": end.number, "end": format!("{}:{hash}", end.number) }));
        return Ok(true);
    }
    answer!(
        "{} records, none removed, altered or moved. The end, to be noted elsewhere:",
        thousands(end.number as u64)
    );
    answer!("{}:{hash}", end.number);
    Ok(true)
}
