//! Reads the configuration files of all Seatmeter programs. The files are TOML, and unknown keys are refused. Every
//! error states its place and, if one can be guessed, the remedy.

use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The path of the file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The text does not parse, or a key or type is wrong.
    #[error("{path}:{line}:{column}: {message}")]
    Syntax {
        /// The path of the file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The column in characters, counted from 1.
        column: usize,
        /// The problem, with a suggestion if there is one.
        message: String,
    },
    /// Some values cannot be used.
    #[error("{path}: {}", problems.join("\n"))]
    Values {
        /// The path of the file.
        path: PathBuf,
        /// All problems found, one line each.
        problems: Vec<String>,
    },
}

/// Reads the text of a configuration file.
pub fn read(path: &Path) -> Result<String, ConfigError> {
    let text = std::fs::metadata(path).and_then(|metadata| {
        // A device, such as /dev/full, may have no end.
        if metadata.is_file() { std::fs::read_to_string(path) } else { Err(std::io::Error::other("it is not a file")) }
    });
    text.map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}

/// Returns a path that a configuration file names. A relative one begins in the folder of that file.
pub fn beside(config: &Path, named: &Path) -> PathBuf {
    config.parent().map_or_else(|| named.to_owned(), |folder| folder.join(named))
}

/// Parses the text of a configuration file. Errors name the file as `path`.
pub fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigError> {
    let document = DeTable::parse(text).map_err(|error| syntax(path, text, &error))?;
    if let Some(offset) = document.get_ref().values().find_map(control_character) {
        let (line, column) = place(text, offset);
        let message = format!("a text holds a control character; {SINGLE_QUOTES}");
        return Err(ConfigError::Syntax { path: path.to_owned(), line, column, message });
    }
    toml::from_str(text).map_err(|error| syntax(path, text, &error))
}

/// Returns the offset of the first text that holds a control character: `"C:\temp"` holds a tab. No setting needs one.
fn control_character(value: &Spanned<DeValue<'_>>) -> Option<usize> {
    match value.get_ref() {
        DeValue::String(text) => text.contains(char::is_control).then_some(value.span().start),
        DeValue::Array(values) => values.iter().find_map(control_character),
        DeValue::Table(table) => table.values().find_map(control_character),
        _ => None,
    }
}

/// Converts an error of the TOML parser, adding its place and a remedy.
pub fn syntax(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let (line, column) = place(text, error.span().map_or(0, |span| span.start));
    let mut message = error.message().to_owned();
    if let Some(meant) = closest(&message) {
        message.push_str(&format!("; did you mean `{meant}`?"));
    } else if let Some(hint) = hint(&message, text.lines().nth(line - 1).unwrap_or_default()) {
        message.push_str(&format!("; {hint}"));
    }
    ConfigError::Syntax { path: path.to_owned(), line, column, message }
}

/// Returns the line and the column of an offset, both counted from 1.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset)];
    let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    (before.matches('\n').count() + 1, column)
}

/// The remedy for backslashes in double quotes.
const SINGLE_QUOTES: &str = "write Windows paths in single quotes, as in 'C:\\flexlm\\debug.log'";

/// Returns the remedy for a common mistake. `line` is the text of the line with the mistake.
fn hint(message: &str, line: &str) -> Option<String> {
    if message.contains("escape") && line.contains('"') {
        return Some(SINGLE_QUOTES.into());
    }
    let header = line.trim().trim_matches(['[', ']']);
    if message.contains("expected a sequence") && line.trim_start().starts_with('[') && !line.contains("[[") {
        return Some(format!("write [[{header}]], in two pairs of brackets: there can be several"));
    }
    if message.starts_with("unknown field `log`") {
        return Some("[[log]] was renamed: it is [[source]] now".into());
    }
    let missing = message.strip_prefix("missing field `")?.trim_end_matches('`');
    Some(format!("add `{missing} = ...`, or a section [{missing}]"))
}

/// Returns the time zone with this name, or this machine's if there is no name.
pub fn time_zone(name: Option<&str>) -> Result<TimeZone, String> {
    match name {
        // A small container has neither TZ nor a time zone, and is in UTC.
        None if std::env::var_os("TZ").is_none_or(|zone| zone.is_empty()) => Ok(TimeZone::system()),
        None => TimeZone::try_system().map_err(|error| {
            format!("the variable TZ names no time zone that is known here ({error}): correct it, or set `time_zone`")
        }),
        Some(name) => TimeZone::get(name).map_err(|_| {
            format!(
                "time_zone {name:?} is not known: write an IANA name, for example \"Europe/Berlin\" or \"UTC\"; on \
                 Linux, names come with the package tzdata"
            )
        }),
    }
}

/// Returns the name closest to the unknown one, from those that an "unknown field" message expects. `None` if none is
/// close.
fn closest(message: &str) -> Option<&str> {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = quoted.next().filter(|_| message.starts_with("unknown field"))?;
    quoted
        .map(|name| (strsim::jaro_winkler(unknown, name), name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// Returns the folder of configuration files: `/etc/seatmeter`, or `%ProgramData%\Seatmeter` on Windows.
pub fn config_folder() -> PathBuf {
    if cfg!(windows) { program_data() } else { PathBuf::from("/etc/seatmeter") }
}

/// Returns the default state folder of a program (`agent` or `aggregator`) whose configuration is at `config`. On
/// Windows, the folder is beside the configuration, because a service may see another `%ProgramData%` than the users
/// who ask for its status.
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
            ("path = \"C:\\temp\\new\"\n", "f:1:8:", "single quotes"),
            ("path = \"C:\\lmgrd\\debug.log\"\n", "f:1:", "single quotes"),
            ("path = 'x'\nsource = ['a', \"C:\\new\"]", "f:2:16:", "single quotes"),
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
