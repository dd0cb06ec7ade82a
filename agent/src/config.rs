//! Reads and validates the agent's configuration file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Date;
use seatmeter_count::Day;
use seatmeter_count::calendar::day_of;
use seatmeter_proto::transport::{Dialer, Identity, TransportError, client_tls};
use seatmeter_service::config::{self, ConfigError, config_folder, state_folder};
use seatmeter_service::health;
use serde::Deserialize;

use crate::format::Format;
use crate::format::answer::mapped::{self, Mapping};
use crate::format::answer::{AnswerFormat, Reading};
use crate::source::file::parts::glob;
use crate::source::file::status::{LogSource, OtherSource};
use crate::source::poll::PollSource;
use crate::source::poll::tool::Tool;

/// The configuration file as written, before validation.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    state: Option<PathBuf>,
    #[serde(default)]
    license_server: LicenseServer,
    aggregator: Aggregator,
    #[serde(default)]
    buffer: BufferSettings,
    #[serde(default)]
    health_log: health::Settings,
    #[serde(default)]
    source: Vec<Source>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LicenseServer {
    name: Option<String>,
    #[serde(default)]
    realm: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Aggregator {
    url: String,
    authority: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BufferSettings {
    #[serde(default = "default_quota")]
    quota_mib: u64,
    #[serde(default = "default_keep")]
    keep_days: u64,
    #[serde(default = "default_alarm")]
    alarm_after_hours: u64,
}

impl Default for BufferSettings {
    fn default() -> Self {
        Self { quota_mib: default_quota(), keep_days: default_keep(), alarm_after_hours: default_alarm() }
    }
}

/// The default quota, in MiB: enough for a month of a busy license server (100 million events).
const fn default_quota() -> u64 {
    1024
}

const fn default_keep() -> u64 {
    30
}

const fn default_alarm() -> u64 {
    24
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    #[serde(default)]
    kind: SourceKind,
    path: Option<PathBuf>,
    name: Option<String>,
    #[serde(default)]
    archives: Vec<PathBuf>,
    format: Option<String>,
    time_zone: Option<String>,
    date: Option<String>,
    moved_quiet_seconds: Option<u64>,
    #[serde(default)]
    command: Vec<String>,
    every_seconds: Option<u64>,
    timeout_seconds: Option<u64>,
    read: Option<mapped::Settings>,
}

/// How long a log that was moved away must be quiet until it is no longer read, in seconds: a daemon that was not told to
/// open its log anew goes on writing to it.
const MOVED_QUIET: u64 = 60;

/// How often a license manager is asked, in seconds, and how long the answer may take.
const POLL_EVERY: u64 = 300;
const POLL_TIMEOUT: u64 = 60;

/// The kind of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SourceKind {
    /// A log file with its rotated parts.
    #[default]
    File,
    /// A tool that asks a license manager who holds what.
    Command,
}

/// A source, after validation.
enum Checked {
    Log(Box<LogSource>),
    Poll(PollSource),
}

/// The agent's settings, after validation.
#[derive(Clone)]
pub struct Config {
    /// The folder for the buffer and the agent's identity.
    pub state: PathBuf,
    /// The license server's name.
    pub license_server: String,
    /// The realm of the license server's user names; empty means the default realm.
    pub realm: String,
    /// The dialer that connects to the aggregator.
    pub aggregator: Dialer,
    /// How long batches stay in the buffer after their capture once they are acknowledged, in seconds.
    pub keep: u64,
    /// The maximum size of the batches in the buffer, in bytes.
    pub quota: u64,
    /// How long a batch may wait before the agent raises an alarm, in seconds.
    pub alarm_after: u64,
    /// The settings of the health log.
    pub health_log: health::Settings,
    /// The logs to follow.
    pub sources: Vec<LogSource>,
    /// The license managers to ask.
    pub polls: Vec<PollSource>,
}

/// Returns the default path of the configuration file.
pub fn default_path() -> PathBuf {
    config_folder().join("agent.toml")
}

impl Config {
    /// Reads and checks a configuration file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(path, &config::read(path)?)
    }

    /// Checks the text of a configuration file. Errors name the file as `path`.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let file: File = config::parse(path, text)?;
        let mut problems = Vec::new();
        let mut note = |problem: String| problems.push(problem);
        let license_server = file.license_server.name.unwrap_or_else(host_name);
        if license_server.trim().is_empty() || license_server.len() > 255 {
            note("license_server.name must have 1 to 255 bytes".into());
        }
        if file.state.as_ref().is_some_and(|state| state.as_os_str().is_empty()) {
            note("state is empty: name a folder, or leave it out".into());
        }
        let aggregator = dialer(path, &file.aggregator).map_err(|error| note(format!("aggregator: {error}"))).ok();
        let (mut sources, mut polls) = (Vec::new(), Vec::new());
        if file.source.is_empty() {
            note("there is no [[source]]: add one, with the `path` of a log, or the `command` that asks a license manager".into());
        }
        for (index, settings) in file.source.into_iter().enumerate() {
            match source(path, settings) {
                Ok(Checked::Log(source)) => sources.push(*source),
                Ok(Checked::Poll(source)) => polls.push(source),
                Err(problem) => note(format!("source {}: {problem}", index + 1)),
            }
        }
        let logs = sources.iter().map(|source: &LogSource| source.name.as_str());
        let mut names: Vec<&str> = logs.chain(polls.iter().map(|poll: &PollSource| poll.name.as_str())).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            note(format!("two sources are named {:?}: give each a `name` of its own", twice[0]));
        }
        introduce(&mut sources);
        if file.buffer.quota_mib == 0 {
            note("buffer.quota_mib must be at least 1".into());
        }
        match aggregator {
            Some(aggregator) if problems.is_empty() => Ok(Self {
                state: file.state.map_or_else(|| state_folder("agent", path), |state| config::beside(path, &state)),
                license_server,
                realm: file.license_server.realm,
                aggregator,
                quota: file.buffer.quota_mib.saturating_mul(1 << 20),
                keep: file.buffer.keep_days.saturating_mul(86_400),
                alarm_after: file.buffer.alarm_after_hours.saturating_mul(3600),
                health_log: file.health_log,
                sources,
                polls,
            }),
            _ => Err(ConfigError::Values { path: path.to_owned(), problems }),
        }
    }
}

fn dialer(config: &Path, settings: &Aggregator) -> Result<Dialer, TransportError> {
    let beside = |file: &Path| config::beside(config, file);
    let identity = match (&settings.certificate, &settings.key) {
        (Some(certificate), Some(key)) => Some(Identity { certificate: beside(certificate), key: beside(key) }),
        (None, None) => None,
        (Some(_), None) => {
            return Err(TransportError::Tls("`certificate` is set and `key` is not: set both or none".into()));
        }
        (None, Some(_)) => {
            return Err(TransportError::Tls("`key` is set and `certificate` is not: set both or none".into()));
        }
    };
    Dialer::check(&settings.url)?;
    let authority = settings.authority.as_deref().map(beside);
    let tls = authority.map(|authority| client_tls(&authority, identity.as_ref())).transpose()?;
    Dialer::new(&settings.url, tls)
}

fn source(config: &Path, settings: Source) -> Result<Checked, String> {
    Ok(match settings.kind {
        SourceKind::File => Checked::Log(Box::new(log(config, settings)?)),
        SourceKind::Command => Checked::Poll(poll(settings)?),
    })
}

fn log(config: &Path, settings: Source) -> Result<LogSource, String> {
    let Source { path, name, archives, format, time_zone, date, moved_quiet_seconds, .. } = settings;
    let is_asked = settings.every_seconds.is_some() || settings.timeout_seconds.is_some() || settings.read.is_some();
    if is_asked || !settings.command.is_empty() {
        return Err("`command`, `every_seconds`, `timeout_seconds` and `read` need `kind = \"command\"`".into());
    }
    let path = path.filter(|path| !path.as_os_str().is_empty()).ok_or("`path` is missing: the log file to follow")?;
    let path = config::beside(config, &path);
    let archives: Vec<PathBuf> = archives.iter().map(|pattern| config::beside(config, pattern)).collect();
    let zone = config::time_zone(time_zone.as_deref())?;
    let date = date.as_deref().map(day).transpose()?;
    let format =
        format.map(|name| Format::named(&name).ok_or_else(|| unknown_format(&name, Format::names()))).transpose()?;
    let name = named(name.unwrap_or_else(|| path.display().to_string()))?;
    for pattern in archives.iter().filter_map(|pattern| pattern.file_name()) {
        glob(&pattern.to_string_lossy()).map_err(|error| format!("archives: {error}"))?;
    }
    let moved_quiet = Duration::from_secs(moved_quiet_seconds.unwrap_or(MOVED_QUIET));
    Ok(LogSource { name, path, archives, others: Vec::new(), format, zone, date, moved_quiet })
}

fn poll(settings: Source) -> Result<PollSource, String> {
    let Source { command, name, format, time_zone, every_seconds, timeout_seconds, read, .. } = settings;
    if settings.path.is_some()
        || !settings.archives.is_empty()
        || settings.date.is_some()
        || settings.moved_quiet_seconds.is_some()
    {
        return Err("`path`, `archives`, `date` and `moved_quiet_seconds` are for logs: `kind = \"file\"`".into());
    }
    let (program, arguments) = command
        .split_first()
        .filter(|(program, _)| !program.is_empty())
        .ok_or("`command` is missing: the tool and its arguments, as [\"lmutil\", \"lmstat\", \"-a\"]")?;
    let reading = reading(format.as_deref(), read)?;
    let every = every_seconds.unwrap_or(POLL_EVERY);
    let time_limit = timeout_seconds.unwrap_or(POLL_TIMEOUT.min(every));
    if !(1..=86_400).contains(&every) {
        return Err(format!("every_seconds is {every}: from 1 second to a day (86400)"));
    }
    if !(1..=every).contains(&time_limit) {
        return Err(format!("timeout_seconds is {time_limit}: at least 1, and at most every_seconds ({every})"));
    }
    let name = named(format!("{} (asked by {})", name.unwrap_or_else(|| command.join(" ")), host_name()))?;
    let tool = Tool {
        program: program.clone(),
        arguments: arguments.to_vec(),
        time_limit: Duration::from_secs(time_limit),
        readers: Arc::default(),
    };
    let zone = config::time_zone(time_zone.as_deref())?;
    Ok(PollSource { name, tool, reading, zone, interval: Duration::from_secs(every) })
}

fn reading(format: Option<&str>, read: Option<mapped::Settings>) -> Result<Reading, String> {
    match (format, read) {
        (Some(shape), Some(read)) if Mapping::SHAPES.contains(&shape) => {
            Ok(Reading::Mapped(Box::new(Mapping::new(shape, read)?)))
        }
        (Some(shape), None) if Mapping::SHAPES.contains(&shape) => {
            Err(format!("format {shape:?} needs a table [source.read], which says where names stand"))
        }
        (_, Some(_)) => Err(format!("[source.read] needs a `format` of {}", Mapping::SHAPES.join(", "))),
        (Some(name), None) => {
            let known = [AnswerFormat::names(), Mapping::SHAPES.to_vec()].concat();
            AnswerFormat::named(name).map(Reading::Known).ok_or_else(|| unknown_format(name, known))
        }
        (None, None) => Ok(Reading::ByContent),
    }
}

fn named(name: String) -> Result<String, String> {
    if name.is_empty() || name.len() > 1024 {
        return Err("the name must have 1 to 1024 bytes".into());
    }
    Ok(name)
}

/// Tells each source of the others.
fn introduce(sources: &mut [LogSource]) {
    let all: Vec<OtherSource> = sources
        .iter()
        .map(|source| OtherSource {
            name: source.name.clone(),
            path: source.path.clone(),
            archives: source.archives.clone(),
        })
        .collect();
    for (index, source) in sources.iter_mut().enumerate() {
        let others = all.iter().enumerate().filter(|(other, _)| *other != index);
        source.others = others.map(|(_, other)| other.clone()).collect();
    }
}

fn unknown_format(name: &str, known: Vec<&str>) -> String {
    format!("format {name:?} is not known; the formats are {}; without `format`, the content tells", known.join(", "))
}

/// Parses a day written as YYYY-MM-DD.
pub fn day(text: &str) -> Result<Day, String> {
    let date: Date = text.parse().map_err(|_| format!("date {text:?} is not a date: write YYYY-MM-DD"))?;
    Ok(day_of(date))
}

fn host_name() -> String {
    hostname::get().map_or_else(|_| "localhost".into(), |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
        [aggregator]
        url = 'http://127.0.0.1:7470'
        [[source]]
        path = '/var/log/debug.log'
        time_zone = 'Europe/Berlin'
    ";

    fn error(text: &str) -> String {
        Config::parse(Path::new("agent.toml"), text).err().unwrap().to_string()
    }

    #[test]
    fn the_shortest_configuration_is_enough() {
        let config = Config::parse(Path::new("agent.toml"), GOOD).unwrap();
        assert_eq!(config.license_server, host_name());
        assert_eq!(config.sources[0].name, "/var/log/debug.log");
        assert_eq!(config.quota, 1 << 30);
    }

    #[test]
    fn errors_name_their_place_and_the_remedy() {
        let unknown = error("[aggregator]\nurl = 'http://127.0.0.1:1'\n[[source]]\npth = 'x'\n");
        assert!(unknown.starts_with("agent.toml:4:1: unknown field `pth`"), "{unknown}");
        assert!(unknown.ends_with("did you mean `path`?"), "{unknown}");
        let wrong_type = error(&GOOD.replace("'/var/log/debug.log'", "7"));
        assert!(wrong_type.starts_with("agent.toml:5:16: invalid type: integer `7`"), "{wrong_type}");
        assert!(error(&GOOD.replace("127.0.0.1", "10.0.0.1")).contains("plain text"));
        assert!(error(&GOOD.replace("Europe/Berlin", "Berlin")).contains("IANA"));
        let twice = error(&format!("{GOOD}\n[[source]]\npath = '/var/log/debug.log'\ndate = '1.1.2026'"));
        assert!(twice.contains("YYYY-MM-DD"), "{twice}");
    }
}
