//! `seatmeter`: the operators' command line. A client of the aggregator's API and nothing else.

mod activity;
mod connect;
mod output;
mod servers;
mod usage;
mod users;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use connect::{Connection, Unreachable};
use output::Output;

#[derive(Parser)]
#[command(
    name = "seatmeter",
    version,
    about = "Who used which licensed product, month by month",
    after_help = "Examples:\n  seatmeter usage                          this month, by SKU\n  \
                  seatmeter usage 2026-11 --output csv     a month, for a spreadsheet\n  \
                  seatmeter users 2026-11 --sku XDT_ENT_UD the people behind a number\n  \
                  seatmeter servers                        which license servers report\n\n\
                  Exit codes: 0 answered, 1 failed, 2 wrong arguments, 4 the aggregator cannot be reached"
)]
struct Arguments {
    #[command(flatten)]
    connection: Connection,
    /// The form of the answer
    #[arg(long, short, global = true, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A month's unique users, checkouts, denials and peaks, by SKU
    Usage(usage::Usage),
    /// The people behind a month's numbers
    Users(users::Users),
    /// Unique users month by month
    Trend(usage::Trend),
    /// License servers, and whether they report
    Servers(servers::Servers),
    /// Agents, and how they are
    Agents,
    /// The figures of `seatmeter-agent scan`, by license server
    Activity(activity::Activity),
    /// Samples of the log lines that were not understood
    Unrecognised(servers::Unrecognised),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", connect::explain(&error));
            if error.is::<Unreachable>() { ExitCode::from(4) } else { ExitCode::FAILURE }
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let channel = arguments.connection.open().await?;
        let output = arguments.output;
        match arguments.command {
            Command::Usage(asked) => usage::usage(channel, asked, output).await,
            Command::Users(asked) => users::users(channel, asked, output).await,
            Command::Trend(asked) => usage::trend(channel, asked, output).await,
            Command::Servers(asked) => servers::servers(channel, asked, output).await,
            Command::Agents => servers::agents(channel, output).await,
            Command::Activity(asked) => activity::activity(channel, asked, output).await,
            Command::Unrecognised(asked) => servers::unrecognised(channel, asked, output).await,
        }
    })
}
