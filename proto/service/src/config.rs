//! Configuration files, as all of Seatmeter's programs read them: TOML, unknown keys refused, every error with its place
//! and, where one can be guessed, the remedy.

use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
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
    } else if let Some(hint) = hint(&message, text.lines().nth(line - 1).unwrap_or_default()) {
        message.push_str(&format!("; {hint}"));
    }
    ConfigError::Syntax { path: path.to_owned(), line, column, message }
}

/// What to write instead, for mistakes that people make again and again; `line` is the text of the line in question.
fn hint(message: &str, line: &str) -> Option<String> {
    if message.contains("escape") && line.contains('"') {
        return Some("write paths of Windows in single quotes, as in 'C:\\flexlm\\debug.log'".into());
    }
    let header = line.trim().trim_matches(['[', ']']);
    if message.contains("expected a sequence") && line.trim_start().starts_with('[') && !line.contains("[[") {
        return Some(format!("write [[{header}]], in two pairs of brackets: there can be several"));
    }
    if message.starts_with("unknown field `log`") {
        return Some("what was [[log]] is [[source]] now".into());
    }
    let missing = message.strip_prefix("missing field `")?.trim_end_matches('`');
    Some(format!("add `{missing} = ...`, or a section [{missing}]"))
}

/// The time zone of a name, or this machine's where none is given.
pub fn time_zone(name: Option<&str>) -> Result<TimeZone, String> {
    match name {
        None => Ok(TimeZone::system()),
        Some(name) => TimeZone::get(name).map_err(|_| {
            format!(
                "time_zone {name:?} is not known: write an IANA name, for example \"Europe/Berlin\" or \"UTC\"; on \
                 Linux, names come with the package tzdata"
            )
        }),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        #[allow(dead_code)]
        path: String,
        #[allow(dead_code)]
        source: Vec<toml::Value>,
    }

    #[test]
    fn mistakes_that_people_make_get_their_remedy() {
        for (text, place, remedy) in [
            ("path = \"C:\\temp\\new\"\n", "f:1:", "single quotes"),
            ("path = 'x'\n[source]\nkind = 'file'\n", "f:2:", "write [[source]]"),
            ("path = 'x'\n[[log]]\n", "f:2:", "is [[source]] now"),
            ("path = 'x'\n", "f:1:", "add `source = ...`"),
            ("pth = 'x'\nsource = []\n", "f:1:", "did you mean `path`?"),
        ] {
            let error = parse::<File>(Path::new("f"), text).unwrap_err().to_string();
            assert!(error.starts_with(place) && error.contains(remedy), "{error}");
        }
    }
}
