//! `seatmeter`: the operators' command line. It is only a client of the aggregator's API.

mod activity;
mod alerts;
mod audit;
mod authority;
mod connect;
mod denials;
mod enrolments;
mod entitlements;
mod evidence;
mod explain;
mod files;
mod import;
mod login;
mod month;
mod months;
mod notes;
mod operators;
mod preview;
mod profile;
mod report;
mod rule_words;
mod rules;
mod say;
mod servers;
mod sessions;
mod streams;
mod tokens;
mod trend;
mod unrecognised;
mod usage;
mod users;
mod watch;
mod words;

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};
use seatmeter_service::VERSION;
use seatmeter_service::screen::table::{View, ViewError};

use connect::{Connection, Unreachable};
use seatmeter_proto::transport::TransportError;

#[derive(Parser)]
#[command(
    name = "seatmeter",
    version = VERSION,
    about = "Who used which licensed product, month by month",
    after_help = "Examples:\n  seatmeter login                            tell the aggregator who you are, once\n  \
                  seatmeter usage                            this month, by SKU\n  \
                  seatmeter usage last --output csv          last month, for a spreadsheet\n  \
                  seatmeter users 2026-11 --sku XDT_ENT_UD   the people behind a number\n  \
                  seatmeter servers --problems               which license servers do not report\n  \
                  seatmeter help words                       what the words mean\n\n\
                  Exit codes: 0 all is well, 1 failed, 2 wrong arguments, 3 answered, and something needs attention,\n\
                  4 the aggregator cannot be reached"
)]
struct Arguments {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    view: View,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A month's unique users, checkouts, denials and peaks, by SKU
    Usage(usage::Usage),
    /// The people behind a month's numbers
    Users(users::Users),
    Report(report::Report),
    /// Close a month: review, approve, submit; and what has changed since
    ///
    /// An approved month is never changed: late data and other rules show as differences, and become,
    /// by decision, another revision.
    #[command(subcommand, verbatim_doc_comment)]
    Month(month::Months),
    /// What proves a closed month to a stranger
    #[command(subcommand)]
    Evidence(evidence::Evidence),
    /// The rules by which usage is counted and billed: people, free users, SKUs, customers
    ///
    /// Each rule can be valid from a month on, or through a month. Every change is a version,
    /// with an author and a reason, and can be seen before it is made (--preview) and undone.
    #[command(subcommand)]
    Rules(rules::Rules),
    /// Unique users by SKU, month by month
    Trend(trend::Trend),
    /// Who holds seats now, as far as is known
    Sessions(sessions::Sessions),
    /// What was denied in a month, by license server and feature
    Denials(denials::Denials),
    Entitlements(entitlements::Entitlements),
    /// License servers and their logs: which report, and which do not; exit code 3 if one does not
    Servers(servers::Servers),
    Alerts(alerts::Alerts),
    /// Agents and their state; exit code 3 if one is silent. And which are enrolled
    Agents(servers::Agents),
    /// The figures of `seatmeter-agent scan`, by license server
    Activity(activity::Activity),
    /// Samples of the log lines that were not recognised
    #[command(visible_alias = "unrecognized")]
    Unrecognised(unrecognised::Unrecognised),
    /// The files that logs were read from, what dates them, and the day on which one was written
    #[command(subcommand)]
    Streams(streams::Streams),
    Preview(preview::Preview),
    Login(login::Login),
    /// End the token of your login, and forget the login
    Logout,
    /// Who you are to the aggregator, and what you may do
    Whoami,
    /// Operators: who may ask and change what
    #[command(subcommand)]
    Operators(operators::Operators),
    /// Tokens: for programs, and of logins
    #[command(subcommand)]
    Tokens(tokens::Tokens),
    /// The audit trail: who changed what, who read names, who was refused
    #[command(subcommand)]
    Audit(audit::Audit),
    Import(import::Import),
    /// The authority that signs the certificates of the aggregator and its agents, and its renewal
    ///
    /// An authority lasts for 20 years. Renew it before it ends, or if somebody else may have its key:
    /// `prepare`, `activate`, and once no agent is left behind, `complete`.
    Authority(authority::Authority),
    /// What the words mean
    #[command(long_about = words::GLOSSARY)]
    Words,
    /// Print a completion script for a shell, or the manual page
    ///
    /// Example: seatmeter generate bash >/etc/bash_completion.d/seatmeter
    Generate(seatmeter_service::manual::Generate),
}

/// Exit code: an argument is wrong. The parser of the command line uses it, too.
const WRONG_ARGUMENTS: u8 = 2;

/// Exit code: the aggregator has answered, but something needs attention.
const ATTENTION: u8 = 3;

/// Exit code: the aggregator cannot be reached.
const UNREACHABLE: u8 = 4;

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(ATTENTION),
        Err(error) => {
            anstream::eprintln!("{}: {}", notes::red("error"), explain::explain(&error));
            exit_code(&error)
        }
    }
}

fn exit_code(error: &anyhow::Error) -> ExitCode {
    let is_refused = |status: &tonic::Status| status.code() == tonic::Code::InvalidArgument;
    if error.is::<Unreachable>() {
        ExitCode::from(UNREACHABLE)
    } else if error.is::<ViewError>() || error.is::<TransportError>() || error.downcast_ref().is_some_and(is_refused) {
        ExitCode::from(WRONG_ARGUMENTS)
    } else {
        ExitCode::FAILURE
    }
}

/// Runs a command. Returns whether all is well.
fn run(arguments: Arguments) -> Result<bool> {
    let Arguments { connection, view, command } = arguments;
    match command {
        Command::Words => {
            seatmeter_service::answer!("{}", words::GLOSSARY);
            return Ok(true);
        }
        Command::Evidence(evidence::Evidence::Verify(asked)) => return evidence::verify_file(&asked, &view),
        Command::Generate(generate) => {
            generate.print::<anyhow::Error>(Arguments::command())?;
            return Ok(true);
        }
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let command = match command {
            Command::Login(asked) => return login::login(&connection, asked).await,
            Command::Logout => return login::logout(&connection).await,
            Command::Audit(audit::Audit::Verify(asked)) if asked.file.is_some() => {
                return audit::verify_file(&asked, &view);
            }
            other => other,
        };
        let channel = connection.open().await?;
        match command {
            Command::Usage(asked) => {
                watch::repeat(asked.watch, async || usage::usage(&channel, &asked, &view).await).await
            }
            Command::Servers(servers::Servers { say: Some(said), .. }) => say::say(&channel, said).await,
            Command::Servers(asked) => {
                watch::repeat(asked.watch, async || servers::servers(&channel, &asked, &view).await).await
            }
            Command::Agents(servers::Agents { enrolments: Some(asked), .. }) => {
                enrolments::enrolments(&channel, asked, &view).await
            }
            Command::Agents(asked) => {
                watch::repeat(asked.watch, async || servers::agents(&channel, &asked, &view).await).await
            }
            Command::Sessions(asked) => {
                watch::repeat(asked.watch, async || sessions::sessions(&channel, &asked, &view).await).await
            }
            Command::Alerts(asked) => alerts::alerts(&channel, asked, &view).await,
            Command::Denials(asked) => denials::denials(&channel, asked, &view).await,
            Command::Entitlements(asked) => entitlements::entitlements(&channel, asked, &view).await,
            Command::Users(asked) => users::users(&channel, asked, &view).await,
            Command::Report(asked) => report::report(&channel, asked, &view).await,
            Command::Evidence(asked) => evidence::evidence(&channel, asked, &view).await,
            Command::Month(asked) => month::months(&channel, asked, &view).await,
            Command::Rules(asked) => rules::rules(&channel, asked, &view).await,
            Command::Trend(asked) => trend::trend(&channel, asked, &view).await,
            Command::Activity(asked) => activity::activity(&channel, asked, &view).await,
            Command::Unrecognised(asked) => unrecognised::unrecognised(&channel, asked, &view).await,
            Command::Streams(asked) => streams::streams(&channel, asked, &view).await,
            Command::Preview(asked) => preview::preview(&channel, asked, &view).await,
            Command::Whoami => login::whoami(&connection, &channel, &view).await,
            Command::Operators(asked) => operators::operators(&connection, &channel, asked, &view).await,
            Command::Tokens(asked) => tokens::tokens(&channel, asked, &view).await,
            Command::Audit(asked) => audit::audit(&channel, asked, &view).await,
            Command::Import(asked) => import::import(&channel, &asked, &view).await,
            Command::Authority(asked) => authority::authority(&channel, &asked, &view).await,
            Command::Words | Command::Generate(_) | Command::Login(_) | Command::Logout => Ok(true),
        }
    })
}
