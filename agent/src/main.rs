//! `seatmeter-agent`: the command line.

mod commands;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use seatmeter_proto::transport::with_causes;
use seatmeter_service::VERSION;

#[derive(Parser)]
#[command(
    name = "seatmeter-agent",
    version = VERSION,
    about = "Reads a license server's logs and delivers what was checked out, exactly once",
    after_help = "Examples:\n  seatmeter-agent scan debug.log*          the monthly counts of these logs, with no server\n  \
                  seatmeter-agent check-config             is the configuration right?\n  \
                  seatmeter-agent run                      follow the logs and deliver, until told to stop\n  \
                  seatmeter-agent status                   the state of the running agent\n\n\
                  Exit codes: 0 all is well, 1 failed, 2 wrong arguments, 3 done, and something needs attention"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Count what is in logs: people per month and feature, with no server
    ///
    /// All files given are parts of one license server's log; they may be packed with gzip or zstd, and are counted in
    /// the order of their dates. Months are those of the log's own clock. The exit code is 3 where a line was not
    /// recognised or a file not counted.
    Scan(commands::scan::Arguments),
    /// Follow the logs and deliver, until told to stop
    Run(Configured),
    /// Show the state of the running agent, or its last report
    Status(commands::status::Arguments),
    /// Show what is in the buffer: what was read, and what waits to be delivered
    Inspect(commands::inspect::Arguments),
    /// Write a first configuration: where the aggregator is, and which logs to follow
    ///
    /// Examples: seatmeter-agent configure --aggregator https://aggregator:7470
    /// seatmeter-agent configure --aggregator https://aggregator:7470 --log /opt/flexlm/debug.log
    Configure(commands::configure::Arguments),
    /// Enrol this machine's agent with an aggregator: certificate, configuration, start
    ///
    /// The line comes from `seatmeter agents invite`. It names the aggregator and its authority,
    /// so no other can take its place. The key never leaves this machine. Run it as root; it ends
    /// when the agent delivers.
    ///
    /// Examples:
    ///   seatmeter-agent enroll seatmeter1.AbC...
    ///   seatmeter-agent enroll --token-file line.txt --log /opt/flexlm/debug.log
    #[command(verbatim_doc_comment)]
    Enroll(commands::enroll::Arguments),
    /// Without a network: write all that waits into a file, encrypted for the aggregator and signed
    ///
    /// An export has all that nobody has acknowledged yet, so one that is lost costs nothing.
    ///
    /// Example: seatmeter-agent export /media/stick/lic01.sealed
    Export(commands::sealed::Export),
    /// Without a network: hand the answer to an export to the agent, which frees its buffer
    ///
    /// Example: seatmeter-agent acknowledge /media/stick/lic01.sealed.answer
    Acknowledge(commands::sealed::Acknowledge),
    /// Find the license managers of this machine, and show how each is configured; exit code 3 if one cannot be
    ///
    /// It looks at running processes (as root, at all of them), at the services that FlexNet's lmtools has registered, and at the
    /// places of Citrix's license server. A log is proposed where there is one, else the tool that asks.
    Detect(commands::detect::Arguments),
    /// Install, remove, start or stop the agent as a service of Windows
    #[cfg(windows)]
    #[command(subcommand)]
    Service(commands::service::Action),
    /// List every code of the health log: its meaning, and what to do
    Codes,
    /// Check the configuration: can the logs be read, and the aggregator be reached?
    CheckConfig(commands::check_config::Arguments),
    /// Show who holds what, as an answer of a license manager tells it
    ///
    /// The answer is a file into which a tool has printed it; the content determines its format. With --source, it is read as
    /// that source of the configuration reads it, and without a file, the tool is run.
    ///
    /// Examples: seatmeter-agent try-source lmstat.txt
    /// seatmeter-agent try-source --source lmstat
    TrySource(commands::try_source::Arguments),
    /// Keys with which names of users and machines are made unreadable before they are stored or sent
    #[command(subcommand)]
    Pseudonyms(commands::pseudonyms::Pseudonyms),
    /// Print a completion script for a shell, or the manual page
    ///
    /// Example: seatmeter-agent generate bash >/etc/bash_completion.d/seatmeter-agent
    Generate(seatmeter_service::manual::Generate),
}

/// The location of the configuration file.
#[derive(Clone, clap::Args)]
pub(crate) struct Configured {
    /// The configuration file
    #[arg(long, short, value_name = "FILE", default_value_os_t = seatmeter_agent::config::default_path())]
    config: PathBuf,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Scan(arguments) => commands::scan::run(&arguments),
        Command::Run(configured) => commands::run::run(&configured),
        Command::Status(arguments) => commands::status::run(&arguments),
        Command::Inspect(arguments) => commands::inspect::run(&arguments),
        Command::Configure(arguments) => commands::configure::run(&arguments),
        Command::Enroll(arguments) => commands::enroll::run(&arguments),
        Command::Export(arguments) => commands::sealed::run_export(&arguments),
        Command::Acknowledge(arguments) => commands::sealed::run_acknowledge(&arguments),
        Command::Detect(arguments) => commands::detect::run(&arguments),
        #[cfg(windows)]
        Command::Service(action) => commands::service::run(&action),
        Command::Codes => commands::codes::run(),
        Command::CheckConfig(arguments) => commands::check_config::run(&arguments),
        Command::TrySource(arguments) => commands::try_source::run(&arguments),
        Command::Pseudonyms(asked) => commands::pseudonyms::run(&asked),
        Command::Generate(generate) => generate.print(Arguments::command()).map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {}", with_causes(error.as_ref()));
        ExitCode::FAILURE
    })
}
