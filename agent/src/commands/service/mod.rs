//! `seatmeter-agent service`: the agent as a service of Windows. On Linux, systemd does all of this.

mod installation;
mod running;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use seatmeter_agent::config::Config;
use seatmeter_service::answer;
use windows_service::service::{Service, ServiceAccess, ServiceState};
use windows_service::service_manager::{ServiceManager, ServiceManagerAccess};

use super::{configure, enroll};
use crate::Configured;

/// The service's name, as `sc query` and `NT SERVICE\` know it.
const NAME: &str = "SeatmeterAgent";

/// The longest that a start or stop may take.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Subcommand)]
pub(crate) enum Action {
    /// Register the service, or renew its registration, and start it
    ///
    /// Examples: seatmeter-agent service install --token-file lic01.txt
    /// seatmeter-agent service install --aggregator https://aggregator:7470 --log C:\flexlm\debug.log
    Install(Install),
    /// Stop the service and remove its registration
    Uninstall(Uninstall),
    /// Start the service
    Start,
    /// Stop the service
    Stop,
    /// Show whether the service is running, and the state of the agent
    Status(Configured),
    /// Run as the service; only the service control manager starts this
    #[command(hide = true)]
    Run(Configured),
}

#[derive(clap::Args)]
pub(crate) struct Install {
    #[command(flatten)]
    configured: Configured,
    /// A file with what `seatmeter agents invite` has shown: the agent is enrolled
    #[arg(long, value_name = "FILE")]
    token_file: Option<String>,
    /// The aggregator, if there is no configuration yet, and the agent is not enrolled: https://host:7470
    #[arg(long, value_name = "URL")]
    aggregator: Option<String>,
    /// A log of this license server, if there is no configuration yet; can be given several times. If none is given, what `detect`
    /// finds is configured
    #[arg(long = "log", value_name = "FILE")]
    logs: Vec<String>,
    /// The authority that signed the aggregator's certificate; authority.pem beside the configuration if none is named
    #[arg(long, value_name = "PEM")]
    authority: Option<String>,
    /// The license server's name; this machine's if none is given
    #[arg(long)]
    name: Option<String>,
    /// Register the service, and leave it stopped
    #[arg(long)]
    no_start: bool,
}

#[derive(clap::Args)]
pub(crate) struct Uninstall {
    #[command(flatten)]
    configured: Configured,
    /// Keep the configuration, the buffer and the agent's identity
    #[arg(long, conflicts_with = "purge")]
    keep: bool,
    /// Remove the configuration, the buffer and the agent's identity
    #[arg(long)]
    purge: bool,
}

pub(crate) fn run(action: &Action) -> Result<ExitCode> {
    match action {
        Action::Install(arguments) => install(arguments)?,
        Action::Uninstall(arguments) => uninstall(arguments)?,
        Action::Start => {
            start()?;
            answer!("{NAME} is running");
        }
        Action::Stop => {
            stop(&open(ServiceAccess::STOP | ServiceAccess::QUERY_STATUS)?)?;
            answer!("{NAME} is stopped");
        }
        Action::Status(configured) => return status(configured),
        Action::Run(configured) => running::dispatch(configured.clone())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn install(arguments: &Install) -> Result<()> {
    let configured = absolute(&arguments.configured)?;
    let config = &configured.config;
    // The installer passes every argument, and passes an empty one if it was not given a value.
    let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let logs: Vec<PathBuf> = arguments.logs.iter().filter_map(given).map(Into::into).collect();
    let name = arguments.name.as_ref().and_then(given);
    if let Some(file) = arguments.token_file.as_ref().and_then(given) {
        // The registration closes the folders to other accounts, before the key is in them.
        let was_there = open(ServiceAccess::QUERY_STATUS).is_ok();
        register(config)?;
        let enrolled = enroll::run(&enroll::Arguments {
            token: None,
            token_file: Some(file.into()),
            configured: configured.clone(),
            logs,
            name,
            state: None,
            no_start: true,
        });
        if enrolled.is_err() && !was_there {
            open(ServiceAccess::DELETE)?.delete().context("the service cannot be removed")?;
        }
        enrolled?;
    } else {
        if let Some(aggregator) = arguments.aggregator.as_ref().and_then(given)
            && !configure::is_edited(config)
        {
            configure::run(&configure::Arguments {
                configured: configured.clone(),
                aggregator,
                logs,
                authority: arguments.authority.as_ref().and_then(given).map(Into::into),
                name,
                realm: None,
                state: None,
                time_zone: None,
                // The license server may be installed later, and its log with it.
                force: true,
            })?;
        }
        register(config)?;
    }
    answer!("{NAME} is registered");
    if !configure::is_filled_in(config) {
        answer!("there is no configuration yet: see `seatmeter-agent configure --help`, then `service start`");
    } else if !arguments.no_start {
        start()?;
        answer!("{NAME} is running");
    }
    Ok(())
}

/// Registers the service, or renews its registration.
fn register(config: &Path) -> Result<()> {
    for warning in installation::install(config)? {
        eprintln!("warning: {warning}");
    }
    Ok(())
}

fn uninstall(arguments: &Uninstall) -> Result<()> {
    let Configured { config } = absolute(&arguments.configured)?;
    let purge = arguments.purge || (!arguments.keep && asks_to_purge()?);
    // The configuration is read before anything is removed, because it names the state folder.
    let state = Config::load(&config).map(|config| config.state).ok();
    match open(ServiceAccess::STOP | ServiceAccess::QUERY_STATUS | ServiceAccess::DELETE) {
        Ok(service) => {
            stop(&service)?;
            service.delete().context("the service cannot be removed")?;
            answer!("{NAME} is removed");
        }
        Err(error) => eprintln!("warning: {error:#}"),
    }
    installation::forget_event_source();
    if purge {
        for path in installation::remains(&config, state.as_deref()) {
            answer!("{} {}", path.display(), installation::remove(&path)?);
        }
    }
    Ok(())
}

/// Asks the person at the terminal whether to remove everything. Without a terminal, everything is kept.
fn asks_to_purge() -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    eprint!(
        "Remove the configuration, the buffer and the agent's identity, too? What was not delivered is lost. [y/N] "
    );
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}

fn status(configured: &Configured) -> Result<ExitCode> {
    let state = open(ServiceAccess::QUERY_STATUS)?.query_status()?.current_state;
    answer!("service     {}", format!("{state:?}").to_lowercase());
    super::status::run(&super::status::Arguments { configured: configured.clone(), json: false })
}

/// Makes the path of the configuration absolute, because Windows starts the service in a system folder.
fn absolute(Configured { config }: &Configured) -> Result<Configured> {
    Ok(Configured { config: configure::absolute(config)? })
}

fn manager(access: ServiceManagerAccess) -> Result<ServiceManager> {
    ServiceManager::local_computer(None::<&str>, ServiceManagerAccess::CONNECT | access)
        .context("the service control manager refuses: run this as an administrator")
}

fn open(access: ServiceAccess) -> Result<Service> {
    let manager = manager(ServiceManagerAccess::empty())?;
    manager.open_service(NAME, access).with_context(|| format!("{NAME} cannot be opened: is it installed?"))
}

fn start() -> Result<()> {
    let service = open(ServiceAccess::START | ServiceAccess::QUERY_STATUS)?;
    if service.query_status()?.current_state != ServiceState::Running {
        service.start::<&str>(&[]).context("the service cannot be started")?;
    }
    wait_for(&service, ServiceState::Running)
}

fn stop(service: &Service) -> Result<()> {
    if service.query_status()?.current_state == ServiceState::Stopped {
        return Ok(());
    }
    service.stop().context("the service cannot be stopped")?;
    wait_for(service, ServiceState::Stopped)
}

fn wait_for(service: &Service, wanted: ServiceState) -> Result<()> {
    let began = Instant::now();
    loop {
        let state = service.query_status()?.current_state;
        if state == wanted {
            return Ok(());
        }
        if wanted == ServiceState::Running && state == ServiceState::Stopped {
            bail!("{NAME} has ended at once: its health log and the Event Log say why");
        }
        if began.elapsed() > PATIENCE {
            bail!("{NAME} is {state:?} after {} seconds: see its health log", PATIENCE.as_secs());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
