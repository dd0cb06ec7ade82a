//! Reads and validates the agent's configuration file.

mod source;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::civil::Date;
use seatmeter_count::Day;
use seatmeter_count::calendar::day_of;
use seatmeter_proto::pseudonym::Key;
use seatmeter_proto::sealed::{Address, SCHEME};
use seatmeter_proto::tls::{Identity, TlsError, Trust, refuse_open};
use seatmeter_proto::transport::{Credentials, Dialer, TransportError};
use seatmeter_service::config::{self, ConfigError, config_folder, state_folder};
use seatmeter_service::health;
use serde::Deserialize;

use crate::identity::files::Files;
use crate::source::file::status::{LogSource, OtherSource};
use crate::source::poll::PollSource;
use source::{Checked, Source};

/// The configuration file as written, before validation.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    state: Option<PathBuf>,
    #[serde(default)]
    license_server: LicenseServer,
    aggregator: Aggregator,
    #[serde(default)]
    privacy: Privacy,
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

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Privacy {
    pseudonyms: Option<PathBuf>,
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
    pub aggregator: Reach,
    /// The files of the agent's identity, if the aggregator has enrolled it.
    pub enrolled: Option<Files>,
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
    /// The key of pseudonyms; `None` if names are sent.
    pub pseudonyms: Option<Arc<Key>>,
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
        let state = file.state.map_or_else(|| state_folder("agent", path), |state| config::beside(path, &state));
        let aggregator = reach(path, &file.aggregator, &Files::of(&state));
        let aggregator = aggregator.map_err(|error| note(format!("aggregator: {error}"))).ok();
        let (mut sources, mut polls) = (Vec::new(), Vec::new());
        if file.source.is_empty() {
            note("there is no [[source]]: add one, with the `path` of a log, or the `command` that asks a license manager".into());
        }
        for (index, settings) in file.source.into_iter().enumerate() {
            match settings.check(path) {
                Ok(Checked::Log(source)) => sources.push(*source),
                Ok(Checked::Poll(source)) => polls.push(*source),
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
        let pseudonyms =
            file.privacy.pseudonyms.map(|file| key_of_pseudonyms(&config::beside(path, &file))).transpose();
        let pseudonyms = pseudonyms.unwrap_or_else(|problem| {
            note(format!("privacy.pseudonyms: {problem}"));
            None
        });
        sources.iter_mut().for_each(|source| source.pseudonyms.clone_from(&pseudonyms));
        polls.iter_mut().for_each(|source: &mut PollSource| source.pseudonyms.clone_from(&pseudonyms));
        if file.buffer.quota_mib == 0 {
            note("buffer.quota_mib must be at least 1".into());
        }
        match aggregator {
            Some((aggregator, enrolled)) if problems.is_empty() => Ok(Self {
                state,
                license_server,
                realm: file.license_server.realm,
                aggregator,
                enrolled,
                quota: file.buffer.quota_mib.saturating_mul(1 << 20),
                keep: file.buffer.keep_days.saturating_mul(86_400),
                alarm_after: file.buffer.alarm_after_hours.saturating_mul(3600),
                health_log: file.health_log,
                sources,
                polls,
                pseudonyms,
            }),
            _ => Err(ConfigError::Values { path: path.to_owned(), problems }),
        }
    }
}

/// How the agent reaches its aggregator.
#[derive(Clone)]
pub enum Reach {
    /// Over the network.
    Network(Box<Dialer>),
    /// By files that are carried.
    Sealed(Address),
}

impl Reach {
    /// Returns the aggregator's address, as the configuration has it.
    pub fn url(&self) -> String {
        match self {
            Self::Network(dialer) => dialer.url().to_owned(),
            Self::Sealed(address) => address.to_string(),
        }
    }
}

/// Returns how the aggregator is reached, and the files of the agent's identity, if it renews a certificate.
fn reach(config: &Path, settings: &Aggregator, files: &Files) -> Result<(Reach, Option<Files>), String> {
    if settings.url.starts_with(SCHEME) {
        let address = Address::read(&settings.url);
        let wrong = "the address is not all there: copy the one of the invitation, or enrol the agent again";
        return address.map(|address| (Reach::Sealed(address), None)).ok_or_else(|| wrong.to_owned());
    }
    let (dialer, files) = dialer(config, settings, files).map_err(|error| error.to_string())?;
    Ok((Reach::Network(Box::new(dialer)), files))
}

/// Returns how to connect, and the files of the agent's identity if it is enrolled: it is, unless the configuration names an
/// authority.
fn dialer(config: &Path, settings: &Aggregator, files: &Files) -> Result<(Dialer, Option<Files>), TransportError> {
    let beside = |file: &Path| config::beside(config, file);
    let refused = |reason: &str| TransportError::Tls(TlsError::Mismatch(reason.into()));
    let identity = match (&settings.certificate, &settings.key) {
        (Some(certificate), Some(key)) => Some(Identity { certificate: beside(certificate), key: beside(key) }),
        (None, None) => None,
        (Some(_), None) => return Err(refused("`certificate` is set and `key` is not: set both or none")),
        (None, Some(_)) => return Err(refused("`key` is set and `certificate` is not: set both or none")),
    };
    Dialer::check(&settings.url)?;
    match settings.authority.as_deref().map(beside) {
        Some(authority) => {
            let trust = Trust { authority, identity };
            Ok((Dialer::new(&settings.url, Some(Credentials::Files(trust)))?, None))
        }
        None if settings.url.starts_with("https:") && files.exist() => {
            let dialer = Dialer::new(&settings.url, Some(files.credentials()))?;
            Ok((dialer, Some(files.clone())))
        }
        None => Ok((Dialer::new(&settings.url, None)?, None)),
    }
}

/// Reads a key of pseudonyms, which the agent's account may read, and nobody else.
pub fn key_of_pseudonyms(path: &Path) -> Result<Arc<Key>, String> {
    refuse_open(path).map_err(|error| error.to_string())?;
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    text.parse().map(Arc::new).map_err(|error| format!("{}: {error}", path.display()))
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
