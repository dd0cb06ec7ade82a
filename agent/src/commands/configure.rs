//! `seatmeter-agent configure`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use seatmeter_agent::config::Config;
use seatmeter_agent::configure::{Answers, is_untouched, render};
use seatmeter_proto::answer;

use crate::Configured;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) configured: Configured,
    /// The aggregator: https://host:7470
    #[arg(long, value_name = "URL")]
    pub(crate) aggregator: String,
    /// A log of this license server; may be given several times
    #[arg(long = "log", value_name = "FILE", required = true)]
    pub(crate) logs: Vec<PathBuf>,
    /// The authority that signed the aggregator's certificate; authority.pem beside the configuration if none is named
    #[arg(long, value_name = "PEM")]
    pub(crate) authority: Option<PathBuf>,
    /// The license server's name; this machine's if none is given
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Overwrite a configuration that somebody wrote
    #[arg(long)]
    pub(crate) force: bool,
}

/// Whether somebody has written this configuration.
pub(crate) fn is_written(path: &Path) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| !is_untouched(&text))
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let path = &arguments.configured.config;
    if is_written(path) && !arguments.force {
        bail!("{} was written by somebody: edit it, or overwrite it with --force", path.display());
    }
    let folder = path.parent().context("the configuration is a file in a folder")?;
    let answers = Answers {
        aggregator: arguments.aggregator.clone(),
        authority: arguments.authority.clone(),
        name: arguments.name.clone(),
        logs: arguments.logs.clone(),
    };
    let failed = || format!("{} cannot be written", path.display());
    std::fs::create_dir_all(folder).with_context(failed)?;
    std::fs::write(path, render(&answers, folder)).with_context(failed)?;
    answer!("{} is written", path.display());
    Config::load(path)?;
    answer!("and right; start the service, then see `seatmeter-agent status`");
    Ok(ExitCode::SUCCESS)
}
