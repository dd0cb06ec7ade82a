//! `seatmeter-agent inspect`.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use seatmeter_agent::buffer::Buffer;
use seatmeter_agent::config::Config;
use seatmeter_agent::health::at;
use seatmeter_proto::answer;
use seatmeter_proto::batch;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    configured: crate::Configured,
    /// Show the events of this batch
    #[arg(long, value_name = "SEQUENCE")]
    batch: Option<u64>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let config = Config::load(&arguments.configured.config)?;
    ensure!(config.state.join("buffer.db").exists(), "there is no buffer in {}", config.state.display());
    let buffer = Buffer::open(&config.state, config.quota)?;
    match arguments.batch {
        Some(sequence) => show_batch(&buffer, sequence)?,
        None => show_all(&buffer)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn show_all(buffer: &Buffer) -> Result<()> {
    let mut streams = super::table(&["Stream", "Log", "Begins", "Last line", "Read to"], 4);
    for stream in buffer.streams()? {
        streams.add_row([
            short(&stream.fingerprint),
            stream.log.clone(),
            at(stream.state.begins_at),
            at(stream.state.bookmark.last_line().utc),
            stream.position.to_string(),
        ]);
    }
    answer!("{streams}");
    let mut waiting = super::table(&["Batch", "Stream", "From", "To", "Events", "Bytes"], 2);
    let mut after = 0;
    loop {
        let batches = buffer.batches_after(after, 1 << 20)?;
        let Some(last) = batches.last() else { break };
        after = last.sequence;
        for batch in &batches {
            let stream = batch.stream.as_ref().map(|stream| short(&stream.fingerprint)).unwrap_or_default();
            waiting.add_row([
                batch.sequence.to_string(),
                stream,
                batch.start.to_string(),
                batch.end.to_string(),
                batch.event_count.to_string(),
                batch.columns.len().to_string(),
            ]);
        }
    }
    answer!("{waiting}");
    Ok(())
}

fn show_batch(buffer: &Buffer, sequence: u64) -> Result<()> {
    let found = buffer.batches_after(sequence.saturating_sub(1), 1)?;
    let batch = found.first().filter(|batch| batch.sequence == sequence);
    let batch =
        batch.with_context(|| format!("batch {sequence} is not in the buffer: it was delivered, or never was"))?;
    let columns = batch::open(batch)?;
    let name = |index: u32| columns.strings.get(index as usize).map_or("", String::as_str);
    let mut table =
        super::table(&["Position", "Time", "Kind", "Daemon", "Feature", "User", "Host", "Seats", "Detail"], 7);
    for (position, event) in batch::events(&columns, batch.start) {
        let feature = event.feature as usize;
        let client = event.client as usize;
        table.add_row([
            position.to_string(),
            at(event.at),
            format!("{:?}", event.kind),
            name(columns.feature_daemons.get(feature).copied().unwrap_or(0)).to_owned(),
            name(columns.feature_names.get(feature).copied().unwrap_or(0)).to_owned(),
            name(columns.client_users.get(client).copied().unwrap_or(0)).to_owned(),
            name(columns.client_hosts.get(client).copied().unwrap_or(0)).to_owned(),
            event.seats.to_string(),
            event.detail.to_string(),
        ]);
    }
    answer!("{table}");
    Ok(())
}

fn short(fingerprint: &[u8]) -> String {
    fingerprint.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}
