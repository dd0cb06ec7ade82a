//! `seatmeter-agent export` and `acknowledge`: an agent without a network.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use seatmeter_agent::config::{Config, Reach};
use seatmeter_agent::run::{agent_id, hello};
use seatmeter_agent::sealed::export::export;
use seatmeter_agent::sealed::hand_over;
use seatmeter_agent::sealed::settle::read;
use seatmeter_proto::sealed::Address;
use seatmeter_service::answer;
use seatmeter_service::screen::text::{count, size};

use crate::Configured;

#[derive(clap::Args)]
pub(crate) struct Export {
    /// The file to write; it must not exist
    file: PathBuf,
    #[command(flatten)]
    configured: Configured,
}

#[derive(clap::Args)]
pub(crate) struct Acknowledge {
    /// The answer that `seatmeter import` has written
    file: PathBuf,
    #[command(flatten)]
    configured: Configured,
}

fn configured(configured: &Configured) -> Result<(Arc<Config>, Address)> {
    let config = Config::load(&configured.config)?;
    let address = match &config.aggregator {
        Reach::Sealed(address) => address.clone(),
        Reach::Network(dialer) => {
            bail!(
                "this agent delivers over the network, to {}: one without is enrolled by `seatmeter agents invite --offline`",
                dialer.url()
            )
        }
    };
    Ok((Arc::new(config), address))
}

pub(crate) fn run_export(arguments: &Export) -> Result<ExitCode> {
    let (config, address) = configured(&arguments.configured)?;
    let path = &arguments.file;
    if path.exists() {
        bail!("{} is there already: name another file", path.display());
    }
    let hello = hello(&config, agent_id(&config.state)?);
    let exported = export(&config.state, &address, hello, path)
        .with_context(|| format!("nothing is exported to {}", path.display()))?;
    let bytes = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let batches = count(exported.batches, "batch");
    answer!("Export {}: {batches}, {}, in {}", exported.number, size(bytes), path.display());
    if exported.damaged > 0 {
        let damaged = count(exported.damaged, "batch");
        answer!(
            "note: {damaged} in the buffer cannot be read any more, and the agent reads the log again: what they held is in the next \
             export, if the log is still there"
        );
    }
    if exported.is_cut {
        answer!("note: more waits than an export can hold: once its answer is here, export again");
    }
    answer!(
        "Carry it to where an operator runs `seatmeter import FILE`, and carry the answer back: `seatmeter-agent acknowledge FILE`"
    );
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn run_acknowledge(arguments: &Acknowledge) -> Result<ExitCode> {
    let (config, address) = configured(&arguments.configured)?;
    let path = &arguments.file;
    let (bytes, told) = read(path, &address).with_context(|| path.display().to_string())?;
    hand_over::answer(&config.state, &bytes).context("the answer cannot be handed to the agent")?;
    answer!(
        "The answer to export {} is handed to the agent, which frees its buffer of what was taken in.",
        told.number
    );
    Ok(ExitCode::SUCCESS)
}
