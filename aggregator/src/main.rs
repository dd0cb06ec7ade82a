//! `seatmeter-aggregator`: the command line.

mod commands;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use seatmeter_aggregator::config;
use seatmeter_proto::transport::with_causes;
use seatmeter_service::VERSION;

#[derive(Parser)]
#[command(
    name = "seatmeter-aggregator",
    version = VERSION,
    about = "Receives from all agents and computes unique users per SKU per month",
    after_help = "Examples:\n  seatmeter-aggregator check-config        is the configuration right?\n  \
                  seatmeter-aggregator serve               receive and answer, until told to stop\n  \
                  seatmeter-aggregator administrator anna  let anna administer it: prints the line to log in with\n  \
                  seatmeter-aggregator status              is the aggregator running, and do license servers report?\n  \
                  seatmeter-aggregator verify              prove that the figures are the sum of what was received\n\n\
                  Exit codes: 0 all is well, 1 failed, 2 wrong arguments, 3 something needs attention"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Receive from agents and answer operators, until told to stop
    Serve(Configured),
    /// Check the configuration and show the resulting settings
    CheckConfig(Configured),
    /// Show whether the aggregator is running, where it listens, and how many license servers report
    Status(Status),
    /// Recompute all figures and compare them with the stored ones; can run beside `serve`
    Verify(Configured),
    /// Copy the database to a file, as one consistent state; can run beside `serve`
    ///
    /// Example: seatmeter-aggregator backup /backup/seatmeter-2026-11-24.db
    Backup(Copying),
    /// Replace the database with a backup and keep the old one aside; `serve` must not be running
    Restore(Copying),
    /// Rebuild all figures from the batches received, and store them; `serve` must not be running
    Rebuild(Configured),
    /// Make an administrator, whoever they were before, and print the line with which they log in; `serve` must have run
    ///
    /// Whoever may write the state folder may do this: it is the first administrator's way in, and the
    /// way back for one who has lost their token. The audit trail tells it.
    ///
    /// Example: seatmeter-aggregator administrator anna
    #[command(verbatim_doc_comment)]
    Administrator(Administrator),
    /// List every code of the health log, its meaning and what to do
    Codes,
    /// Print a completion script for a shell, or the manual page
    ///
    /// Example: seatmeter-aggregator generate bash >/etc/bash_completion.d/seatmeter-aggregator
    Generate(seatmeter_service::manual::Generate),
}

#[derive(clap::Args)]
struct Configured {
    /// The configuration file
    #[arg(long, short, value_name = "FILE", default_value_os_t = config::default_path())]
    config: PathBuf,
}

#[derive(clap::Args)]
struct Status {
    #[command(flatten)]
    configured: Configured,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct Administrator {
    #[command(flatten)]
    configured: Configured,
    /// The operator's name
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    name: String,
    /// The aggregator's address as the operator reaches it, where it is not the one that the configuration tells
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

#[derive(clap::Args)]
struct Copying {
    #[command(flatten)]
    configured: Configured,
    /// The backup file
    file: PathBuf,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Serve(configured) => commands::serve(&configured.config),
        Command::CheckConfig(configured) => commands::check_config(&configured.config),
        Command::Status(status) => commands::status(&status.configured.config, status.json),
        Command::Verify(configured) => commands::verify(&configured.config),
        Command::Backup(copying) => commands::backup(&copying.configured.config, &copying.file),
        Command::Restore(copying) => commands::restore(&copying.configured.config, &copying.file),
        Command::Rebuild(configured) => commands::rebuild(&configured.config),
        Command::Administrator(asked) => commands::administrator(&asked.configured.config, &asked.name, asked.url),
        Command::Codes => commands::codes(),
        Command::Generate(generate) => generate.print(Arguments::command()).map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {}", with_causes(error.as_ref()));
        ExitCode::FAILURE
    })
}
