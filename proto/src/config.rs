//! Configuration files, as all of Seatmeter's programs read them: TOML, unknown keys refused, every error with its place
//! and, where one can be guessed, the remedy.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{path}:{line}:{column}: {message}")]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// Which column, from 1.
        column: usize,
        /// What is wrong, and what could have been meant.
        message: String,
    },
    /// Values that cannot be used.
    #[error("{path}: {}", problems.join("\n"))]
    Values {
        /// Which file.
        path: PathBuf,
        /// All that is wrong.
        problems: Vec<String>,
    },
}

/// Reads a file's text.
pub fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}

/// Parses a file's text.
pub fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| syntax(path, text, &error))
}

/// An error of a file's text, with its place.
pub fn syntax(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let offset = error.span().map_or(0, |span| span.start).min(text.len());
    let before = &text[..text.floor_char_boundary(offset)];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    let mut message = error.message().to_owned();
    if let Some(meant) = closest(&message) {
        message.push_str(&format!("; did you mean `{meant}`?"));
    }
    ConfigError::Syntax { path: path.to_owned(), line, column, message }
}

/// Of the names that an "unknown field" message expects, the one that is nearly the unknown one.
fn closest(message: &str) -> Option<&str> {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = quoted.next().filter(|_| message.starts_with("unknown field"))?;
    quoted
        .map(|name| (strsim::jaro_winkler(unknown, name), name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// The folder of configuration files: `/etc/seatmeter`, or `%ProgramData%\Seatmeter` on Windows.
pub fn config_folder() -> PathBuf {
    if cfg!(windows) { program_data() } else { PathBuf::from("/etc/seatmeter") }
}

/// The state folder of a program (`agent` or `aggregator`), if its configuration, which is at `config`, names none. On
/// Windows it is beside the configuration: a service may see another `%ProgramData%` than those who ask for its status.
pub fn state_folder(program: &str, config: &Path) -> PathBuf {
    if cfg!(windows) {
        config.parent().map_or_else(config_folder, Path::to_owned).join(program)
    } else {
        PathBuf::from(format!("/var/lib/seatmeter-{program}"))
    }
}

fn program_data() -> PathBuf {
    PathBuf::from(std::env::var_os("ProgramData").unwrap_or_else(|| "C:\\ProgramData".into())).join("Seatmeter")
}
