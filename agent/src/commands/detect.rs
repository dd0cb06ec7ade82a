//! `seatmeter-agent detect`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use seatmeter_agent::config::Config;
use seatmeter_agent::configure::{is_template, settings};
use seatmeter_agent::detect::{Finding, Proposal, detect};
use seatmeter_agent::source::poll::asker::Asker;
use seatmeter_service::answer;
use seatmeter_service::screen::text::{count, visible};

use crate::Configured;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    configured: Configured,
    /// Add what is found, and not configured yet, to the configuration
    #[arg(long)]
    write: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let path = &arguments.configured.config;
    let known = Config::load(path);
    let findings = detect();
    let (mut added, mut is_well) = (String::new(), !findings.is_empty());
    for Finding { why, source } in &findings {
        answer!("# {}", visible(why));
        let Some(table) = settings(source, None) else {
            answer!("# {}\n", visible(&source.to_string()));
            is_well = false;
            continue;
        };
        let is_known = known.as_ref().is_ok_and(|known| has(known, source));
        let text = format!("[[source]]\n{table}");
        let state = if is_known { "# This one is configured.\n" } else { "" };
        answer!("{state}{}", text.lines().map(|line| visible(line) + "\n").collect::<String>());
        if !is_known {
            added.push_str(&format!("\n# {}\n{text}", visible(why)));
        }
    }
    if findings.is_empty() {
        let more = if is_root() { "" } else { " As root, more is seen: run this with sudo." };
        answer!("No license manager was found.{more} Else name a log:");
        answer!("seatmeter-agent configure --aggregator URL --log FILE");
    }
    if arguments.write {
        add(path, &added)?;
    }
    Ok(super::exit(is_well))
}

/// Whether this account sees all processes.
fn is_root() -> bool {
    #[cfg(unix)]
    return std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    #[cfg(not(unix))]
    return true;
}

/// Whether a source is configured.
fn has(config: &Config, source: &Proposal) -> bool {
    let canonical = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    match source {
        Proposal::Log(log) => config.sources.iter().any(|known| canonical(&known.path) == canonical(log)),
        Proposal::Command(command) => config.polls.iter().any(|known| match &known.asker {
            Asker::Tool(tool, _) => Some(&tool.program) == command.first() && tool.arguments == command[1..],
            Asker::Page(..) | Asker::Monitor(_) | Asker::Files(_) => false,
        }),
        Proposal::LicenseFiles(path) => config.polls.iter().any(|known| match &known.asker {
            Asker::Files(files) => canonical(files.path()) == canonical(path),
            Asker::Tool(..) | Asker::Page(..) | Asker::Monitor(_) => false,
        }),
        Proposal::Nothing(_) => false,
    }
}

/// Adds sources to the configuration, if it is right then.
fn add(path: &Path, sources: &str) -> Result<()> {
    let missing = "`seatmeter-agent configure --aggregator URL` writes a configuration, with what is found";
    let text = std::fs::read_to_string(path).map_err(|error| super::unreadable(path, &error, missing))?;
    if is_template(&text) {
        bail!(
            "{} names no aggregator yet: `seatmeter-agent configure --aggregator URL` writes it, with what is found",
            path.display()
        );
    }
    let added = sources.matches("[[source]]").count() as u64;
    if added == 0 {
        answer!("{} needs no change.", path.display());
        return Ok(());
    }
    let text = format!("{}\n{sources}", text.trim_end());
    Config::parse(path, &text).context("nothing is written")?;
    std::fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))?;
    answer!(
        "{} has {} more. Restart the agent, then see `seatmeter-agent status`.",
        path.display(),
        count(added, "source")
    );
    Ok(())
}
