//! `seatmeter-aggregator`: the command line.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use seatmeter_aggregator::codes;
use seatmeter_aggregator::config::{self, Config};
use seatmeter_aggregator::ingest::verify::verify;
use seatmeter_aggregator::ingest::writer::Writer;
use seatmeter_aggregator::serve::serve;
use seatmeter_aggregator::store::{Store, backup};
use seatmeter_proto::answer;
use seatmeter_service::health::code::as_markdown;
use seatmeter_service::health::{self, Service};
use seatmeter_service::state::{self, asked_to_stop};
use tokio::sync::watch;

#[derive(Parser)]
#[command(
    name = "seatmeter-aggregator",
    version,
    about = "Receives from all agents and computes unique users per SKU per month",
    after_help = "Examples:\n  seatmeter-aggregator serve               receive and answer, until told to stop\n  \
                  seatmeter-aggregator verify              prove that the figures are the sum of what was received\n\n\
                  Exit codes: 0 all is well, 1 failed, 2 wrong arguments, 3 verified, and something differs"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Receive from agents and answer operators, until told to stop
    Serve(Configured),
    /// Make all figures again from the batches received, beside those stored, and compare; works beside `serve`
    Verify(Configured),
    /// Copy the database into a file, as one consistent state; works beside `serve`
    ///
    /// Example: seatmeter-aggregator backup /backup/seatmeter-2026-11-24.db
    Backup(Copying),
    /// Put a backup into the place of the database, which is set aside; `serve` must not be running
    Restore(Copying),
    /// List every code of the health log: what it tells, and what to do
    Codes,
    /// Make all figures again from the batches received, and store them; `serve` must not be running
    Rebuild(Configured),
}

#[derive(clap::Args)]
struct Configured {
    /// The configuration file
    #[arg(long, short, value_name = "FILE", default_value_os_t = config::default_path())]
    config: PathBuf,
}

#[derive(clap::Args)]
struct Copying {
    #[command(flatten)]
    configured: Configured,
    /// The backup
    file: PathBuf,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Serve(configured) => run(&configured),
        Command::Verify(configured) => prove(&configured),
        Command::Backup(copying) => back_up(&copying),
        Command::Restore(copying) => restore(&copying),
        Command::Codes => {
            answer::bytes(as_markdown(codes::ALL).as_bytes());
            Ok(ExitCode::SUCCESS)
        }
        Command::Rebuild(configured) => rebuild(&configured),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(configured: &Configured) -> Result<ExitCode> {
    let config = Config::load(&configured.config)?;
    let service = Service { name: "seatmeter-aggregator", codes: codes::ALL };
    health::start(&service, &config.health_log, &config.state)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let done = runtime.block_on(async {
        let (stopper, stop) = watch::channel(false);
        tokio::spawn(async move {
            asked_to_stop().await;
            // Nobody listens: the aggregator has stopped by itself.
            let _ = stopper.send(true);
            // Asked a second time, it does not wait any longer.
            asked_to_stop().await;
            std::process::exit(1);
        });
        serve(config, stop).await
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    if let Err(error) = &done {
        tracing::error!(code = codes::FAILED, reason = %error, "the aggregator ends");
    }
    done?;
    Ok(ExitCode::SUCCESS)
}

fn prove(configured: &Configured) -> Result<ExitCode> {
    let config = Config::load(&configured.config)?;
    let store = Store::open_embedded(&config.state)?;
    let scratch = config.state.join(format!("verify-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
    let found = verify(&store, &config.calendar, &scratch);
    std::fs::remove_dir_all(&scratch).with_context(|| format!("cannot remove {}", scratch.display()))?;
    let found = found?;
    for log in &found.pending {
        answer!("not verified: {log}: its figures are just being made again");
    }
    for difference in &found.differences {
        answer!("differs: {difference}");
    }
    answer!("{} figures verified, {} differ", found.compared, found.differences.len());
    if found.differences.is_empty() && found.pending.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("`seatmeter-aggregator rebuild` makes the figures again");
    Ok(ExitCode::from(3))
}

fn back_up(copying: &Copying) -> Result<ExitCode> {
    let config = Config::load(&copying.configured.config)?;
    let bytes = backup::backup(&config.state, &copying.file)?;
    answer!("{} is written: {} MiB, checked", copying.file.display(), bytes.div_ceil(1 << 20));
    Ok(ExitCode::SUCCESS)
}

fn restore(copying: &Copying) -> Result<ExitCode> {
    let config = Config::load(&copying.configured.config)?;
    let _lock = state::lock(&config.state)?;
    let kept = backup::restore(&config.state, &copying.file)?;
    answer!("{} is restored; start the aggregator", copying.file.display());
    if let Some(kept) = kept {
        answer!("what was there is kept in {}", kept.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn rebuild(configured: &Configured) -> Result<ExitCode> {
    let config = Config::load(&configured.config)?;
    let _lock = state::lock(&config.state)?;
    let mut writer = Writer::open(Store::open_embedded(&config.state)?, config.calendar)?;
    let mut logs = 0;
    writer.rebuild(|done, all| {
        logs = all;
        eprintln!("log {} of {all}", done + 1);
    })?;
    answer!("the figures of {logs} logs were made again");
    Ok(ExitCode::SUCCESS)
}
