//! The process that the service control manager starts.

use std::ffi::OsString;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use seatmeter_agent::codes;
use seatmeter_agent::config::Config;
use seatmeter_service::config::state_folder;
use seatmeter_service::health::{self, Settings};
use tokio::sync::oneshot;
use windows_service::define_windows_service;
use windows_service::service::{
    ServiceControl, ServiceControlAccept, ServiceExitCode, ServiceState, ServiceStatus, ServiceType,
};
use windows_service::service_control_handler::{self, ServiceControlHandlerResult, ServiceStatusHandle};
use windows_service::service_dispatcher;

use super::NAME;
use crate::Configured;
use crate::commands::run::{SERVICE, work};

/// How long a stop may take before the service control manager considers the service hung.
const STOP_HINT: Duration = Duration::from_secs(20);

/// The arguments of the process. The service's function reads them here, because Windows calls it with other arguments.
static CONFIGURED: OnceLock<Configured> = OnceLock::new();

define_windows_service!(service_main, main_of_service);

/// Runs the service until the service control manager stops it.
pub(super) fn dispatch(configured: Configured) -> Result<()> {
    CONFIGURED.get_or_init(|| configured);
    service_dispatcher::start(NAME, service_main)
        .context("only the service control manager starts this; to follow the logs here, use `seatmeter-agent run`")
}

fn main_of_service(_arguments: Vec<OsString>) {
    let (stopper, stop) = oneshot::channel();
    let stopper = Mutex::new(Some(stopper));
    let handle = Arc::new(OnceLock::<ServiceStatusHandle>::new());
    let known = handle.clone();
    let control = move |control| match control {
        ServiceControl::Stop | ServiceControl::Shutdown | ServiceControl::Preshutdown => {
            if let Some(handle) = known.get() {
                report(handle, ServiceState::StopPending, ServiceExitCode::NO_ERROR);
            }
            if let Some(stopper) = stopper.lock().unwrap_or_else(PoisonError::into_inner).take() {
                // Sending fails only if the agent has already ended by itself.
                let _ = stopper.send(());
            }
            ServiceControlHandlerResult::NoError
        }
        ServiceControl::Interrogate => ServiceControlHandlerResult::NoError,
        _ => ServiceControlHandlerResult::NotImplemented,
    };
    let (Ok(registered), Some(configured)) = (service_control_handler::register(NAME, control), CONFIGURED.get())
    else {
        // Without a handle, the service cannot report its state.
        return;
    };
    let _ = handle.set(registered);
    report(&registered, ServiceState::Running, ServiceExitCode::NO_ERROR);
    let done = configuration(configured).and_then(|config| {
        work(config, async move {
            // The sender lives as long as the handler, and the handler outlives the stop.
            let _ = stop.await;
        })
    });
    let code = match done {
        Ok(()) => ServiceExitCode::NO_ERROR,
        Err(_) => ServiceExitCode::ServiceSpecific(1),
    };
    report(&registered, ServiceState::Stopped, code);
}

/// Loads the configuration. Nobody reads the standard error of a service. If the configuration cannot be used, the
/// reason is written to the Event Log and to the health log in the default state folder.
fn configuration(configured: &Configured) -> Result<Config> {
    Config::load(&configured.config).map_err(|error| {
        if health::start(&SERVICE, &Settings::default(), &state_folder("agent", &configured.config)).is_ok() {
            tracing::error!(code = codes::FAILED, reason = %error, "the agent ends");
        }
        error.into()
    })
}

fn report(handle: &ServiceStatusHandle, state: ServiceState, exit_code: ServiceExitCode) {
    let accepts = match state {
        ServiceState::Running => {
            ServiceControlAccept::STOP | ServiceControlAccept::SHUTDOWN | ServiceControlAccept::PRESHUTDOWN
        }
        _ => ServiceControlAccept::empty(),
    };
    let status = ServiceStatus {
        service_type: ServiceType::OWN_PROCESS,
        current_state: state,
        controls_accepted: accepts,
        exit_code,
        checkpoint: 0,
        wait_hint: if state == ServiceState::StopPending { STOP_HINT } else { Duration::ZERO },
        process_id: None,
    };
    // If this report fails, the service control manager notices the state by itself.
    let _ = handle.set_service_status(status);
}
