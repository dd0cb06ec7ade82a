//! `seatmeter month`: from figures to the bill.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use data_encoding::HEXLOWER;
use seatmeter_proto::v1::report_service_client::ReportServiceClient;
use seatmeter_proto::v1::*;
use seatmeter_service::answer;
use seatmeter_service::screen::table::{Column, Kind, View, WIDE};
use seatmeter_service::screen::text::{count, minute, visible};
use serde::Serialize;

use crate::connect::Channel;
use crate::files::NewFile;
use crate::notes::{print_whole, stamp, yellow, zone};

/// What is done about months.
#[derive(clap::Subcommand)]
pub(crate) enum Months {
    /// The months, and how far each is on its way to the bill
    List,
    /// A month: its revisions, what happened to it, what stands in the way of its approval, and what has changed since; exit code 3 if
    /// something stands in the way, or has changed
    Show {
        /// The month, as YYYY-MM or `last` [default: last]
        month: Option<String>,
    },
    /// Make a revision of a month from its figures, for review: of one that is approved, a correction
    ///
    /// Examples:
    ///   seatmeter month review 2026-11
    ///   seatmeter month review 2026-11 --reason "LIC04 was repaired and has delivered"
    #[command(verbatim_doc_comment)]
    Review {
        /// The month, as YYYY-MM or `last` [default: last]
        month: Option<String>,
        #[command(flatten)]
        why: Why,
    },
    /// Take a revision back that is in review
    Withdraw {
        /// The month, as YYYY-MM or `last` [default: last]
        month: Option<String>,
        #[command(flatten)]
        why: Why,
    },
    /// Approve the revision in review: from then on, nothing changes it
    ///
    /// Refused if the figures have changed since, if a license server lacks something that nobody
    /// has acknowledged, or, where two people are required, if you have reviewed it yourself.
    #[command(verbatim_doc_comment)]
    Approve {
        /// The month, as YYYY-MM or `last` [default: last]
        month: Option<String>,
        /// Only if its document has this SHA-256, as `month list` shows it
        #[arg(long, value_name = "HEX")]
        sha256: Option<String>,
        #[command(flatten)]
        why: Why,
    },
    /// Note that the approved revision was handed on, to a distributor or as a bill
    Submit {
        /// The month, as YYYY-MM or `last` [default: last]
        month: Option<String>,
        /// By which it is known there, as an order number
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        reference: String,
    },
    /// Acknowledge what a license server lacks in a month, so that it can be approved all the same
    ///
    /// Example: seatmeter month acknowledge 2026-11 LIC04 --reason "out of service since the 3rd"
    Acknowledge {
        /// The month, as YYYY-MM or `last`
        month: String,
        /// The license server
        license_server: String,
        #[command(flatten)]
        why: Why,
    },
    /// Add to what is charged of a line, or take away
    ///
    /// Example: seatmeter month adjust 2026-11 --customer acme --sku CAD-PRO -2 --reason "as agreed on the phone"
    #[command(allow_negative_numbers = true)]
    Adjust {
        /// The month, as YYYY-MM or `last`
        month: String,
        /// How many; negative takes away
        quantity: i64,
        /// The customer, by its short name; nobody's use, if none is named
        #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
        customer: String,
        /// The SKU
        #[arg(long, value_name = "SKU")]
        sku: String,
        #[command(flatten)]
        why: Why,
    },
    /// Take an adjustment back, by the number that `month show` shows
    Unadjust {
        /// The month, as YYYY-MM or `last`
        month: String,
        /// The number
        number: u64,
    },
    /// Write the document of a revision: the report and the people behind it, as JSON
    ///
    /// `sha256sum FILE` proves it by the hash that `month list` shows.
    Export {
        /// The month, as YYYY-MM or `last`
        month: String,
        /// The file to write; it must not exist
        file: PathBuf,
        /// The revision [default: the one that is billed, or else the one in review]
        #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true)]
        revision: u64,
    },
}

#[derive(clap::Args)]
pub(crate) struct Why {
    /// Why; it stays with the month
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
}

/// A month. The field names are those in JSON and CSV, and must not change.
#[derive(Serialize)]
struct MonthRow {
    month: String,
    state: &'static str,
    revision: Option<u64>,
    ended: bool,
    sha256: Option<String>,
}

const COLUMNS: &[Column] = &[
    Column::new("month", "Month", Kind::Text, 0),
    Column::new("state", "State", Kind::Text, 0),
    Column::new("revision", "Revision", Kind::Number, 0),
    Column::new("ended", "Ended", Kind::Text, 2),
    Column::new("sha256", "SHA-256", Kind::Text, WIDE),
];

/// A month, whole. The field names are those in JSON, and must not change.
#[derive(Serialize)]
struct WholeMonth {
    month: String,
    state: &'static str,
    ended: bool,
    revisions: Vec<RevisionJson>,
    events: Vec<EventJson>,
    adjustments: Vec<AdjustmentJson>,
    incomplete_servers: Vec<String>,
    acknowledged_servers: Vec<String>,
    differences: Vec<DifferenceJson>,
    two_people: bool,
    time_zone: String,
}

#[derive(Serialize)]
struct RevisionJson {
    revision: u64,
    state: &'static str,
    sha256: String,
}

#[derive(Serialize)]
struct EventJson {
    at: Option<String>,
    author: String,
    what: &'static str,
    revision: Option<u64>,
    subject: Option<String>,
    reason: Option<String>,
}

#[derive(Serialize)]
struct AdjustmentJson {
    number: u64,
    customer: Option<String>,
    sku: String,
    quantity: i64,
    reason: String,
    author: String,
}

#[derive(Serialize)]
struct DifferenceJson {
    customer: Option<String>,
    sku: String,
    revision_quantity: u64,
    quantity: u64,
}

/// Returns the state of a month, or of a revision, in a word.
pub(crate) fn state_word(state: MonthState) -> &'static str {
    match state {
        MonthState::Unspecified => "open",
        MonthState::InReview => "in_review",
        MonthState::Approved => "approved",
        MonthState::Submitted => "submitted",
        MonthState::Superseded => "superseded",
        MonthState::Withdrawn => "withdrawn",
    }
}

fn event_word(kind: MonthEventKind) -> &'static str {
    match kind {
        MonthEventKind::Unspecified => "unknown",
        MonthEventKind::Reviewed => "put into review",
        MonthEventKind::Withdrawn => "taken back",
        MonthEventKind::Approved => "approved",
        MonthEventKind::Submitted => "submitted",
        MonthEventKind::Acknowledged => "acknowledged",
        MonthEventKind::Adjusted => "adjusted",
        MonthEventKind::AdjustmentWithdrawn => "adjustment taken back",
    }
}

type Client = ReportServiceClient<Channel>;

pub(crate) async fn months(channel: &Channel, asked: Months, view: &View) -> Result<bool> {
    let mut client = ReportServiceClient::new(channel.clone());
    match asked {
        Months::List => list(&mut client, view).await,
        Months::Show { month } => show(&mut client, month.unwrap_or_default(), view).await,
        Months::Review { month, why: Why { reason } } => {
            let month = month.unwrap_or_else(|| "last".into());
            let request = ReviewMonthRequest { month: month.clone(), reason };
            let made = client.review_month(request).await?.into_inner().revision.unwrap_or_default();
            done(
                view,
                &made,
                &format!(
                    "Revision {} is in review: look at it (`seatmeter month export`, `seatmeter report`),",
                    made.revision
                ),
            )?;
            if view.is_for_people() {
                answer!("then approve it: `seatmeter month approve {month}`");
            }
            Ok(true)
        }
        Months::Withdraw { month, why: Why { reason } } => {
            client.withdraw_review(WithdrawReviewRequest { month: month.unwrap_or_default(), reason }).await?;
            said(view, "The revision is taken back: the figures are open again.");
            Ok(true)
        }
        Months::Approve { month, sha256, why: Why { reason } } => {
            let sha256 = sha256.unwrap_or_default().to_lowercase();
            let sha256 = HEXLOWER.decode(sha256.as_bytes()).context("--sha256 is no SHA-256: 64 hexadecimal digits")?;
            if !matches!(sha256.len(), 0 | 32) {
                bail!("--sha256 is no SHA-256: 64 hexadecimal digits");
            }
            let request = ApproveMonthRequest { month: month.unwrap_or_default(), sha256, reason };
            let made = client.approve_month(request).await?.into_inner().revision.unwrap_or_default();
            let hash = HEXLOWER.encode(&made.sha256);
            done(view, &made, &format!("Revision {} is approved. SHA-256 of its document: {hash}", made.revision))?;
            Ok(true)
        }
        Months::Submit { month, reference } => {
            let request = SubmitMonthRequest { month: month.unwrap_or_default(), reference };
            let made = client.submit_month(request).await?.into_inner().revision.unwrap_or_default();
            done(view, &made, &format!("Revision {} is noted as submitted.", made.revision))?;
            Ok(true)
        }
        Months::Acknowledge { month, license_server, why: Why { reason } } => {
            client.acknowledge_server(AcknowledgeServerRequest { month, license_server, reason }).await?;
            said(view, "It is acknowledged, and stands in the report.");
            Ok(true)
        }
        Months::Adjust { month, quantity, customer, sku, why: Why { reason } } => {
            client.adjust_month(AdjustMonthRequest { month, customer, sku, quantity, reason }).await?;
            said(view, "It is adjusted, and stands in the report.");
            Ok(true)
        }
        Months::Unadjust { month, number } => {
            client.withdraw_adjustment(WithdrawAdjustmentRequest { month, number }).await?;
            said(view, "The adjustment is taken back.");
            Ok(true)
        }
        Months::Export { month, file, revision } => export(&mut client, month, revision, &file, view).await,
    }
}

fn said(view: &View, text: &str) {
    if view.is_for_people() {
        answer!("{text}");
    }
}

fn done(view: &View, made: &MonthRevision, text: &str) -> Result<()> {
    if view.is_for_people() {
        answer!("{text}");
    } else {
        answer!("{}", serde_json::to_string_pretty(&RevisionJson::from(made))?);
    }
    Ok(())
}

impl From<&MonthRevision> for RevisionJson {
    fn from(made: &MonthRevision) -> Self {
        Self { revision: made.revision, state: state_word(made.state()), sha256: HEXLOWER.encode(&made.sha256) }
    }
}

async fn list(client: &mut Client, view: &View) -> Result<bool> {
    let found = client.list_months(ListMonthsRequest {}).await?.into_inner();
    let rows: Vec<MonthRow> = found
        .months
        .into_iter()
        .map(|month| MonthRow {
            state: state_word(month.state()),
            revision: Some(month.revision).filter(|revision| *revision > 0),
            ended: month.ended,
            sha256: Some(HEXLOWER.encode(&month.sha256)).filter(|hash| !hash.is_empty()),
            month: month.month,
        })
        .collect();
    print_whole(view, COLUMNS, &rows, (rows.len() as u64, found.time_zone))?;
    Ok(true)
}

async fn show(client: &mut Client, month: String, view: &View) -> Result<bool> {
    let found = client.get_month(GetMonthRequest { month }).await?.into_inner();
    let open = found.incomplete_servers.iter().filter(|server| !found.acknowledged_servers.contains(server));
    let (open, is_well) = (open.cloned().collect::<Vec<String>>(), found.differences.is_empty());
    let is_well = is_well && open.is_empty();
    if view.is_for_people() {
        tell(&found, &open);
        return Ok(is_well);
    }
    let told = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let whole = WholeMonth {
        state: state_word(found.state()),
        revisions: found.revisions.iter().map(RevisionJson::from).collect(),
        events: found
            .events
            .iter()
            .map(|event| EventJson {
                at: stamp(event.at.as_ref()),
                author: event.author.clone(),
                what: event_word(event.kind()),
                revision: Some(event.revision).filter(|revision| *revision > 0),
                subject: told(&event.subject),
                reason: told(&event.reason),
            })
            .collect(),
        adjustments: found
            .adjustments
            .iter()
            .map(|one| AdjustmentJson {
                number: one.number,
                customer: told(&one.customer),
                sku: one.sku.clone(),
                quantity: one.quantity,
                reason: one.reason.clone(),
                author: one.author.clone(),
            })
            .collect(),
        differences: found
            .differences
            .iter()
            .map(|line| DifferenceJson {
                customer: told(&line.customer),
                sku: line.sku.clone(),
                revision_quantity: line.revision_quantity,
                quantity: line.quantity,
            })
            .collect(),
        month: found.month,
        ended: found.ended,
        incomplete_servers: found.incomplete_servers,
        acknowledged_servers: found.acknowledged_servers,
        two_people: found.two_people,
        time_zone: found.time_zone,
    };
    answer!("{}", serde_json::to_string_pretty(&whole)?);
    Ok(is_well)
}

fn tell(found: &GetMonthResponse, open: &[String]) {
    let zone = zone(&found.time_zone);
    let ended = if found.ended { "" } else { ", and has not ended" };
    answer!("{} is {}{ended}.", found.month, state_word(found.state()).replace('_', " "));
    for revision in &found.revisions {
        let hash = HEXLOWER.encode(&revision.sha256);
        answer!("revision {}: {}, SHA-256 {hash}", revision.revision, state_word(revision.state()).replace('_', " "));
    }
    for event in &found.events {
        let at = event.at.as_ref().map(|at| minute(at.seconds, &zone)).unwrap_or_default();
        let revision = if event.revision > 0 { format!(" revision {}", event.revision) } else { String::new() };
        let subject = if event.subject.is_empty() { String::new() } else { format!(" {}", visible(&event.subject)) };
        let reason = if event.reason.is_empty() { String::new() } else { format!(": {}", visible(&event.reason)) };
        answer!("{at}  {} {}{revision}{subject}{reason}", visible(&event.author), event_word(event.kind()));
    }
    for one in &found.adjustments {
        let whose = if one.customer.is_empty() { String::new() } else { format!(" of {}", visible(&one.customer)) };
        let (sku, reason) = (visible(&one.sku), visible(&one.reason));
        answer!("adjustment {}: {:+} {sku}{whose}: {reason}", one.number, one.quantity);
    }
    for line in &found.differences {
        let whose = if line.customer.is_empty() { String::new() } else { format!(" of {}", visible(&line.customer)) };
        let sku = visible(&line.sku);
        answer!("changed since: {sku}{whose}: {} instead of {}", line.quantity, line.revision_quantity);
    }
    let note = |text: String| anstream::eprintln!("{}: {text}", yellow("note"));
    if !open.is_empty() {
        let servers = count(open.len() as u64, "license server");
        note(format!("{servers} not complete and not acknowledged: {}", open.join(", ")));
    }
    if !found.differences.is_empty() {
        note(format!("`seatmeter month review {} --reason ...` makes a revision of what is known now", found.month));
    }
}

async fn export(client: &mut Client, month: String, revision: u64, file: &Path, view: &View) -> Result<bool> {
    let mut pieces = client.export_revision(ExportRevisionRequest { month, revision }).await?.into_inner();
    let mut out = NewFile::create(file)?;
    while let Some(piece) = pieces.message().await? {
        out.write(&piece.data)?;
    }
    out.finish(view)?;
    Ok(true)
}
