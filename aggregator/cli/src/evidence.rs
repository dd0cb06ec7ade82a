//! `seatmeter evidence`: what proves a closed month.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use data_encoding::HEXLOWER;
use seatmeter_evidence::verify::{Proved, verify};
use seatmeter_proto::v1::report_service_client::ReportServiceClient;
use seatmeter_proto::v1::{ExportEvidenceRequest, GetEvidenceKeyRequest};
use seatmeter_service::answer;
use seatmeter_service::screen::table::View;
use seatmeter_service::screen::text::{count, visible};
use serde::Serialize;

use crate::connect::Channel;
use crate::files::NewFile;
use crate::rule_words::people;

/// What is done about evidence.
#[derive(clap::Subcommand)]
pub(crate) enum Evidence {
    /// Write the evidence of a month that is approved: a zip archive with its report, its rules, and a signature
    ///
    /// Example: seatmeter evidence export 2026-11 2026-11.zip
    Export {
        /// The month, as YYYY-MM or `last`
        month: String,
        /// The file to write; it must not exist
        file: PathBuf,
    },
    /// Prove an archive: with no aggregator, and no login
    ///
    /// That it is whole, that its signature is of its key, that its rules are those of the report,
    /// and that the people of each line come to what it says. The archive's README says how to
    /// do all but the last with standard tools.
    ///
    /// Examples:
    ///   seatmeter evidence verify 2026-11.zip --signed-by 5f0c...
    ///   seatmeter evidence verify 2026-11.zip --after 2026-10.zip
    #[command(verbatim_doc_comment)]
    Verify(Verify),
    /// The public key with which evidence is signed: hand its SHA-256 over by another way than the evidence
    Key,
}

#[derive(clap::Args)]
pub(crate) struct Verify {
    /// The archive
    file: PathBuf,
    /// SHA-256 of the key that must have signed it, as `seatmeter evidence key` shows it
    #[arg(long, value_name = "HEX")]
    signed_by: Option<String>,
    /// The archive of the month before, which it must follow
    #[arg(long, value_name = "FILE")]
    after: Option<PathBuf>,
}

/// What is proved. The field names are those in JSON, and must not change.
#[derive(Serialize)]
struct ProvedJson {
    month: String,
    revision: u64,
    report_sha256: String,
    key_sha256: String,
    recounted_lines: usize,
    users: u64,
    made_by: String,
    made_at: String,
}

/// Proves an archive.
pub(crate) fn verify_file(asked: &Verify, view: &View) -> Result<bool> {
    let proved = read(&asked.file)?;
    if let Some(key) = &asked.signed_by {
        proved.must_be_of(key)?;
    }
    if let Some(after) = &asked.after {
        proved.must_follow(&read(after)?)?;
    }
    let document = &proved.document;
    if !view.is_for_people() {
        let told = ProvedJson {
            month: document.month.clone(),
            revision: document.revision,
            report_sha256: proved.report_sha256.clone(),
            key_sha256: proved.key_sha256.clone(),
            recounted_lines: proved.recounted,
            users: document.users,
            made_by: document.made_by.clone(),
            made_at: document.made_at.clone(),
        };
        answer!("{}", serde_json::to_string_pretty(&told)?);
        return Ok(true);
    }
    let (lines, people) = (count(proved.recounted as u64, "line"), people(document.users));
    answer!("{}, revision {}, made by {}: whole", document.month, document.revision, visible(&document.made_by));
    answer!("{lines} counted again from {people}: right");
    answer!("report     SHA-256 {}", proved.report_sha256);
    match asked.signed_by {
        Some(_) => answer!("signed by  the key that you named"),
        None => {
            answer!("signed by  SHA-256 {}", proved.key_sha256);
            answer!("Compare the key with what whoever made the archive has told you by another way (--signed-by).");
        }
    }
    if asked.after.is_some() {
        answer!("It follows the month before, as that was billed.");
    }
    Ok(true)
}

fn read(file: &Path) -> Result<Proved> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    verify(&bytes).with_context(|| format!("{} proves nothing", file.display()))
}

pub(crate) async fn evidence(channel: &Channel, asked: Evidence, view: &View) -> Result<bool> {
    let mut client = ReportServiceClient::new(channel.clone());
    match asked {
        Evidence::Export { month, file } => {
            let mut pieces = client.export_evidence(ExportEvidenceRequest { month }).await?.into_inner();
            let mut out = NewFile::create(&file)?;
            while let Some(piece) = pieces.message().await? {
                out.write(&piece.data)?;
            }
            out.finish(view)?;
        }
        Evidence::Verify(asked) => return verify_file(&asked, view),
        Evidence::Key => {
            let key = client.get_evidence_key(GetEvidenceKeyRequest {}).await?.into_inner();
            let sha256 = HEXLOWER.encode(&key.sha256);
            match view.is_json() {
                true => answer!("{}", serde_json::json!({ "pem": key.pem, "sha256": sha256 })),
                false => answer!("{}SHA-256 {sha256}", key.pem),
            }
        }
    }
    Ok(true)
}
