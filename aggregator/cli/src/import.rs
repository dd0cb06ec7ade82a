//! `seatmeter import`: takes in what an agent without a network has exported.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use seatmeter_proto::v1::sealed_service_client::SealedServiceClient;
use seatmeter_proto::v1::{ImportRequest, ImportResponse, UploadRequest};
use seatmeter_service::answer;
use seatmeter_service::screen::table::View;
use seatmeter_service::screen::text::{count, minute, visible};
use serde::Serialize;

use crate::connect::Channel;
use crate::notes::{stamp, yellow, zone};

/// Take in what an agent without a network has exported, and write the answer to carry back
///
/// Files can be given in any order, and as often as you like: nothing counts twice.
///
/// Example: seatmeter import lic01.sealed
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Import {
    /// The file that `seatmeter-agent export` has written
    file: PathBuf,
    /// Where to write the answer [default: FILE.answer]
    #[arg(long, value_name = "FILE")]
    answer: Option<PathBuf>,
}

/// How many bytes are sent at a time.
const PIECE: usize = 1 << 20;

/// The most bytes of what comes back: it tells the outcome of each batch.
const LONGEST_ANSWER: usize = 256 << 20;

/// What was taken in. The field names are those in JSON, and must not change.
#[derive(Serialize)]
struct Report {
    license_server: String,
    number: u64,
    made_at: Option<String>,
    batches: u64,
    new_batches: u64,
    refused_batches: u64,
    missing_exports: Vec<u64>,
    differs: bool,
    answer: String,
}

pub(crate) async fn import(channel: &Channel, asked: &Import, view: &View) -> Result<bool> {
    let answer_file = asked.answer.clone().unwrap_or_else(|| {
        let mut name = asked.file.clone().into_os_string();
        name.push(".answer");
        name.into()
    });
    let mut client = SealedServiceClient::new(channel.clone()).max_decoding_message_size(LONGEST_ANSWER);
    let (upload, size) = send(&mut client, asked).await?;
    let taken = client.import(ImportRequest { upload, size }).await?.into_inner();
    std::fs::write(&answer_file, &taken.answer)
        .with_context(|| format!("it is taken in, but the answer cannot be written to {}", answer_file.display()))?;
    let is_well = taken.refused_batches == 0 && !taken.differs;
    if view.is_for_people() {
        tell(&taken);
        answer!("The answer to carry back is {}: `seatmeter-agent acknowledge`", answer_file.display());
    } else {
        let report = Report {
            license_server: taken.license_server,
            number: taken.number,
            made_at: stamp(taken.made_at.as_ref()),
            batches: taken.batches,
            new_batches: taken.new_batches,
            refused_batches: taken.refused_batches,
            missing_exports: taken.missing,
            differs: taken.differs,
            answer: answer_file.display().to_string(),
        };
        answer!("{}", serde_json::to_string_pretty(&report)?);
    }
    Ok(is_well)
}

/// Uploads a file. Returns the upload's name, and the file's size.
async fn send(client: &mut SealedServiceClient<Channel>, asked: &Import) -> Result<(String, u64)> {
    let failed = || format!("cannot read {}", asked.file.display());
    let mut file = File::open(&asked.file).with_context(failed)?;
    let upload = uuid::Uuid::new_v4().to_string();
    let mut position = 0;
    loop {
        let mut data = vec![0; PIECE];
        let read = match file.read(&mut data) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read.with_context(failed)?,
        };
        if read == 0 {
            break;
        }
        data.truncate(read);
        client.upload(UploadRequest { upload: upload.clone(), position, data }).await?;
        position += read as u64;
    }
    if position == 0 {
        bail!("{} is empty", asked.file.display());
    }
    Ok((upload, position))
}

fn tell(taken: &ImportResponse) {
    let made = taken.made_at.as_ref().map(|at| minute(at.seconds, &zone(&taken.time_zone))).unwrap_or_default();
    let (server, number) = (visible(&taken.license_server), taken.number);
    answer!(
        "Export {number} of {server}, made {made}: {}, {} of them new",
        count(taken.batches, "batch"),
        taken.new_batches
    );
    let note = |text: String| anstream::eprintln!("{}: {text}", yellow("note"));
    if !taken.missing.is_empty() {
        let missing: Vec<String> = taken.missing.iter().rev().map(u64::to_string).collect();
        note(format!(
            "never imported: {}. What they held and nobody has acknowledged is in this one, too",
            missing.join(", ")
        ));
    }
    if taken.refused_batches > 0 {
        let refused = count(taken.refused_batches, "batch");
        note(format!("{refused} could not be taken; the answer tells the agent, and the next export has them again"));
    }
    if taken.differs {
        note("another export of this number was imported before, with other content: was the machine copied, or set back?".into());
    }
}
