//! What FlexNet's `lmtools` has written to the registry of Windows: a key for each service, with the daemon, its log and its
//! license file.

use std::path::Path;

use windows_registry::LOCAL_MACHINE;

use super::{Finding, managers};

/// The keys, of programs with 64 and with 32 bits.
const KEYS: [&str; 2] = [r"SOFTWARE\FLEXlm License Manager", r"SOFTWARE\WOW6432Node\FLEXlm License Manager"];

/// Returns the license managers that are installed as a service.
pub(super) fn services() -> Vec<Finding> {
    let mut found = Vec::new();
    for key in KEYS.iter().filter_map(|key| LOCAL_MACHINE.open(key).ok()) {
        for name in key.keys().into_iter().flatten() {
            let Ok(service) = key.open(&name) else { continue };
            let value = |value: &str| service.get_string(value).ok().filter(|text| !text.is_empty());
            let (log, license) = (value("LMGRD_LOG_FILE"), value("License"));
            if let Some(program) = value("Lmgrd") {
                found.extend(managers::of_service(&name, Path::new(&program), log.as_deref(), license.as_deref()));
            }
        }
    }
    found
}
