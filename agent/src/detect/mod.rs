//! Finds the license managers of this machine, and how to read or to ask each.
//!
//! - [`processes`]: what runs, with its arguments (Linux)
//! - [`managers`]: what the command line of a license manager tells of its log; and the tool that asks it, where there is none
//! - `registry`: what is installed as a service (Windows)
//! - [`places`]: where license managers are installed, if nobody has changed it

pub mod managers;
pub mod places;
#[cfg(target_os = "linux")]
pub mod processes;
#[cfg(windows)]
mod registry;

use std::fmt;
use std::path::PathBuf;

/// A source that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How it was found, for people.
    pub why: String,
    /// The source.
    pub source: Proposal,
}

/// A source to configure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proposal {
    /// A log to follow.
    Log(PathBuf),
    /// A license manager to ask, by a tool and its arguments.
    Command(Vec<String>),
    /// License files, which tell what there is: a file, or a folder of several.
    LicenseFiles(PathBuf),
    /// A license manager that can neither be read nor asked; what to do, for people.
    Nothing(String),
}

impl fmt::Display for Proposal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(path) | Self::LicenseFiles(path) => write!(formatter, "{}", path.display()),
            Self::Command(command) => formatter.write_str(&command.join(" ")),
            Self::Nothing(remedy) => formatter.write_str(remedy),
        }
    }
}

/// Looks for license managers. What is found twice is told once.
pub fn detect() -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    #[cfg(target_os = "linux")]
    found.extend(processes::running().iter().flat_map(managers::of_process));
    #[cfg(windows)]
    found.extend(registry::services());
    found.extend(places::installed(&places::PLACES));
    let mut told: Vec<Finding> = Vec::new();
    for finding in found {
        if !told.iter().any(|other| other.source == finding.source) {
            told.push(finding);
        }
    }
    told
}
