//! `seatmeter-agent configure`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use seatmeter_agent::config::Config;
use seatmeter_agent::configure::{Answers, is_untouched, render};
use seatmeter_agent::detect::{Finding, Proposal, detect};
use seatmeter_agent::source::file::head::read_head;
use seatmeter_service::answer;
use seatmeter_service::screen::text::visible;

use crate::Configured;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) configured: Configured,
    /// The aggregator: https://host:7470
    #[arg(long, value_name = "URL")]
    pub(crate) aggregator: String,
    /// A log of this license server; can be given several times. If none is given, what `detect` finds is configured
    #[arg(long = "log", value_name = "FILE")]
    pub(crate) logs: Vec<PathBuf>,
    /// The authority that signed the aggregator's certificate; authority.pem beside the configuration if none is named
    #[arg(long, value_name = "PEM")]
    pub(crate) authority: Option<PathBuf>,
    /// The license server's name; this machine's if none is given
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// The realm of the license server's user names; the default realm if none is given
    #[arg(long)]
    pub(crate) realm: Option<String>,
    /// The folder for the buffer and the agent's identity
    #[arg(long, value_name = "FOLDER")]
    pub(crate) state: Option<PathBuf>,
    /// The time zone of the license server's clock, an IANA name; this machine's if none is given
    #[arg(long, value_name = "ZONE")]
    pub(crate) time_zone: Option<String>,
    /// Overwrite a configuration that was edited, and accept logs that do not exist or are not license logs
    #[arg(long)]
    pub(crate) force: bool,
}

/// Whether the configuration exists and names an aggregator and logs, so that the agent can start.
#[cfg(windows)]
pub(crate) fn is_filled_in(path: &Path) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| !seatmeter_agent::configure::is_template(&text))
}

/// Whether the configuration exists and somebody has edited it.
pub(crate) fn is_edited(path: &Path) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| !is_untouched(&text))
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let path = &arguments.configured.config;
    if is_edited(path) && !arguments.force {
        bail!("{} was edited: edit it further, or overwrite it with --force", path.display());
    }
    let mut answers = Answers {
        aggregator: arguments.aggregator.clone(),
        is_enrolled: false,
        authority: arguments.authority.as_deref().map(absolute).transpose()?,
        name: arguments.name.clone(),
        realm: arguments.realm.clone(),
        state: arguments.state.as_deref().map(absolute).transpose()?,
        time_zone: arguments.time_zone.clone(),
        sources: arguments.logs.iter().map(|log| Ok(Proposal::Log(absolute(log)?))).collect::<Result<_>>()?,
    };
    if answers.sources.is_empty() {
        answers.sources = found()?;
    }
    for source in answers.sources.iter().filter(|_| !arguments.force) {
        if let Proposal::Log(log) = source {
            read_head(log, None, false).context("--force accepts it all the same")?;
        }
    }
    write(path, &render(&answers, path.parent().context("the configuration is a file in a folder")?)?)?;
    answer!("{} is written and right.", path.display());
    answer!("Now start the service, then see `seatmeter-agent status`.");
    Ok(ExitCode::SUCCESS)
}

/// Returns the sources of the license managers of this machine.
pub(super) fn found() -> Result<Vec<Proposal>> {
    let mut sources = Vec::new();
    for Finding { why, source } in detect() {
        answer!("{}: {}", visible(&source.to_string()), visible(&why));
        sources.push(source);
    }
    if !sources.iter().any(|source| matches!(source, Proposal::Log(_) | Proposal::Command(_))) {
        bail!("no license manager was found that could be read or asked: name its log with --log");
    }
    Ok(sources)
}

/// Checks the new configuration, and writes it if it is right.
pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    Config::parse(path, text).context("nothing is written")?;
    let folder = path.parent().context("the configuration is a file in a folder")?;
    let failed = || format!("{} cannot be written", path.display());
    std::fs::create_dir_all(folder).with_context(failed)?;
    std::fs::write(path, text).with_context(failed)
}

/// Checks that a configuration can be written, and writes nothing.
pub(super) fn can_write(path: &Path) -> Result<()> {
    let failed = || format!("{} cannot be written", path.display());
    let folder = path.parent().context("the configuration is a file in a folder")?;
    std::fs::create_dir_all(folder).with_context(failed)?;
    let is_new = !path.exists();
    std::fs::File::options().append(true).create(true).open(path).with_context(failed)?;
    if is_new {
        std::fs::remove_file(path).with_context(failed)?;
    }
    Ok(())
}

/// Makes a path absolute, because a service runs in another folder than the person who configures it.
pub(super) fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{} is not a valid path", path.display()))
}
