//! The service's registration with Windows, and its files on disk.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use seatmeter_agent::config::Config;
use seatmeter_service::config::{config_folder, state_folder};
use windows_registry::LOCAL_MACHINE;
use windows_service::service::{
    Service, ServiceAccess, ServiceAction, ServiceActionType, ServiceErrorControl, ServiceFailureActions,
    ServiceFailureResetPeriod, ServiceInfo, ServiceSidType, ServiceStartType, ServiceType,
};
use windows_service::service_manager::ServiceManagerAccess;

use super::{NAME, manager};

/// The account of the service. Windows creates it with the service. It has no password, and only the rights granted to
/// it.
const ACCOUNT: &str = r"NT SERVICE\SeatmeterAgent";

const DESCRIPTION: &str =
    "Reads the logs of the license server on this machine and reports to Seatmeter who used which license.";

/// The registry key of the agent as a source of the Application log.
const EVENT_SOURCE: &str = r"SYSTEM\CurrentControlSet\Services\EventLog\Application\seatmeter-agent";

/// How long the system waits for the service to stop when it shuts down.
const PRESHUTDOWN: Duration = Duration::from_secs(20);

/// Registers the service, or renews its registration. Returns a warning for each setting that the system refused and
/// the service does not depend on.
pub(super) fn install(config: &Path) -> Result<Vec<String>> {
    let info = ServiceInfo {
        name: NAME.into(),
        display_name: "Seatmeter Agent".into(),
        service_type: ServiceType::OWN_PROCESS,
        start_type: ServiceStartType::AutoStart,
        error_control: ServiceErrorControl::Normal,
        executable_path: std::env::current_exe().context("the program cannot find its own path")?,
        launch_arguments: ["service", "run", "--config"]
            .map(OsString::from)
            .into_iter()
            .chain([config.into()])
            .collect(),
        dependencies: Vec::new(),
        account_name: Some(ACCOUNT.into()),
        account_password: None,
    };
    let access = ServiceAccess::CHANGE_CONFIG | ServiceAccess::START | ServiceAccess::QUERY_CONFIG;
    let manager = manager(ServiceManagerAccess::CREATE_SERVICE)?;
    let service = match manager.open_service(NAME, access) {
        Ok(service) => {
            service.change_config(&info).context("the service's registration cannot be renewed")?;
            service
        }
        Err(_) => manager.create_service(&info, access).context("the service cannot be registered")?,
    };
    let mut warnings = Vec::new();
    let mut note = |what: &str, done: Result<()>| {
        if let Err(error) = done {
            warnings.push(format!("{what}: {error:#}"));
        }
    };
    note("no description", service.set_description(DESCRIPTION).map_err(Into::into));
    note("no delayed start", service.set_delayed_auto_start(true).map_err(Into::into));
    note("no time to stop at a shutdown", service.set_preshutdown_timeout(PRESHUTDOWN).map_err(Into::into));
    note("no restart after a crash", restart_after_crash(&service));
    note(
        "no identity of its own for access lists",
        service.set_config_service_sid_info(ServiceSidType::Unrestricted).map_err(Into::into),
    );
    note("the Event Log shows no texts", register_event_source());
    for folder in folders(config) {
        note("other accounts may use the folder", restrict(&folder));
    }
    Ok(warnings)
}

fn restart_after_crash(service: &Service) -> Result<()> {
    let restart =
        |seconds| ServiceAction { action_type: ServiceActionType::Restart, delay: Duration::from_secs(seconds) };
    service.update_failure_actions(ServiceFailureActions {
        reset_period: ServiceFailureResetPeriod::After(Duration::from_secs(86_400)),
        reboot_msg: None,
        command: None,
        actions: Some(vec![restart(5), restart(30), restart(60)]),
    })?;
    // The system also restarts an agent that ends with an error.
    service.set_failure_actions_on_non_crash_failures(true)?;
    Ok(())
}

fn register_event_source() -> Result<()> {
    const ERROR_WARNING_INFORMATION: u32 = 7;
    let source = LOCAL_MACHINE.create(EVENT_SOURCE)?;
    source.set_expand_string("EventMessageFile", r"%SystemRoot%\System32\EventCreate.exe")?;
    source.set_u32("TypesSupported", ERROR_WARNING_INFORMATION)?;
    Ok(())
}

/// Removes the registration for the Event Log, if there is one.
pub(super) fn forget_event_source() {
    let _ = LOCAL_MACHINE.remove_tree(EVENT_SOURCE);
}

/// Returns the folder of the configuration, and the state folder if it is elsewhere.
fn folders(config: &Path) -> Vec<PathBuf> {
    let state = Config::load(config).map_or_else(|_| state_folder("agent", config), |config| config.state);
    let home = config.parent().map_or_else(config_folder, Path::to_owned);
    if state.starts_with(&home) { vec![home] } else { vec![home, state] }
}

/// Creates a folder that only the system, administrators and the service may use. `icacls` is part of every Windows
/// since Vista. The system and administrators are named by their identifiers, because Windows translates their names.
fn restrict(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let mut icacls = Command::new("icacls");
    icacls.arg(folder).args(["/inheritance:r", "/grant:r", "*S-1-5-18:(OI)(CI)F", "*S-1-5-32-544:(OI)(CI)F"]);
    icacls.arg(format!("{ACCOUNT}:(OI)(CI)M")).arg("/Q").stdin(Stdio::null());
    let output = icacls.output().context("icacls cannot be started")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    anyhow::ensure!(output.status.success(), "icacls {}: {}", folder.display(), said.trim());
    Ok(())
}

/// Returns the paths that a purge removes: the state, the configuration, and their folder if it is then empty.
pub(super) fn remains(config: &Path, state: Option<&Path>) -> Vec<PathBuf> {
    let state = state.map_or_else(|| state_folder("agent", config), Path::to_owned);
    [Some(state), Some(config.to_owned()), config.parent().map(Path::to_owned)]
        .into_iter()
        .flatten()
        .filter(|path| path.exists())
        .collect()
}

/// Removes a file, a state folder with all its content, or any other folder if it is empty. Returns what it did, for
/// the message. Certificates that an administrator has put beside the configuration are kept.
pub(super) fn remove(path: &Path) -> Result<&'static str> {
    let is_state = path.join("agent-id").exists() || path.join("buffer.db").exists();
    let removed = match (path.is_dir(), is_state) {
        (true, true) => std::fs::remove_dir_all(path),
        (true, false) => match std::fs::remove_dir(path) {
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {
                return Ok("is kept: it contains files that are not the agent's");
            }
            other => other,
        },
        (false, _) => std::fs::remove_file(path),
    };
    removed.map(|()| "is removed").with_context(|| format!("{} cannot be removed", path.display()))
}
