//! The aggregator's configuration file: the keys it may contain, and the settings that result.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::SpanRelativeTo;
use jiff::tz::TimeZone;
use rustls::pki_types::ServerName;
use seatmeter_count::Calendar;
use seatmeter_proto::tls::Identity;
use seatmeter_service::config::{self, ConfigError, config_folder, state_folder};
use seatmeter_service::health;
use seatmeter_service::screen::text::duration;
use serde::Deserialize;

use crate::access::tls::{Files, PortTls};
use crate::fleet::warnings::{Limits, Quotas};
use crate::rules::check::check;
use crate::rules::file::{self, FileError};
use crate::rules::rule::{Counted, Domain, DomainRule, Domains, PersonRule, Rule, Says};

/// The configuration file, as parsed.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    state: Option<PathBuf>,
    time_zone: Option<String>,
    catalogue: Option<PathBuf>,
    agents: Listen,
    operators: Listen,
    authority: AuthoritySettings,
    people: PeopleSettings,
    alerts: AlertSettings,
    months: MonthSettings,
    health_log: health::Settings,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listen {
    listen: Option<String>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    client_authority: Option<PathBuf>,
    #[serde(default)]
    plaintext: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct AuthoritySettings {
    names: Vec<String>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    agents_valid_for: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct MonthSettings {
    two_people: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct AlertSettings {
    silent_after: Option<String>,
    look_every: Option<String>,
    agents_at_least: Option<String>,
    license_managers_at_least: BTreeMap<String, String>,
    batches_a_day: Option<u64>,
    megabytes_a_day: Option<u64>,
    new_names_a_day: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PeopleSettings {
    counted: Option<PersonRule>,
    domains: Option<DomainRule>,
    domain_map: BTreeMap<String, String>,
}

/// The aggregator's settings, checked.
#[derive(Clone)]
pub struct Config {
    /// The state folder, which contains the database.
    pub state: PathBuf,
    /// The calendar of the billing time zone, which defines days and months.
    pub calendar: Calendar,
    /// The settings of the health log.
    pub health_log: health::Settings,
    /// The endpoint for agents.
    pub agents: Endpoint,
    /// The endpoint for operators.
    pub operators: Endpoint,
    /// The authority that signs certificates of agents, and perhaps the aggregator's own.
    pub authority: AuthorityConfig,
    /// From when on something is a warning.
    pub limits: Limits,
    /// How often alerts are looked for.
    pub look_every: Duration,
    /// The rules that the configuration says.
    pub rules: Vec<Rule>,
    /// Whether whoever reviews a month may not approve it.
    pub two_people: bool,
}

/// The settings of the authority.
#[derive(Clone)]
pub struct AuthorityConfig {
    /// The host names and addresses of the aggregator; the first one is that by which agents reach it.
    pub names: Vec<String>,
    /// The certificate and the key of an authority from elsewhere; `None` if the aggregator makes its own.
    pub files: Option<Identity>,
    /// How long a certificate of an agent lasts.
    pub agents_life: Duration,
}

/// An address to listen on, and its TLS settings.
#[derive(Clone)]
pub struct Endpoint {
    /// The IP address and the port.
    pub address: SocketAddr,
    /// Where the certificate is from.
    pub tls: PortTls,
}

/// Returns the default path of the configuration file.
pub fn default_path() -> PathBuf {
    config_folder().join("aggregator.toml")
}

impl Config {
    /// Reads and checks a configuration file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = config::read(path)?;
        let file: File = config::parse(path, &text)?;
        let rules = rules(path, file.catalogue.as_deref(), file.people)?;
        let mut problems = Vec::new();
        let zone = config::time_zone(file.time_zone.as_deref()).unwrap_or_else(|problem| {
            problems.push(problem);
            TimeZone::UTC
        });
        let authority = authority(path, file.authority).unwrap_or_else(|problem| {
            problems.push(format!("authority: {problem}"));
            AuthorityConfig { names: Vec::new(), files: None, agents_life: Duration::ZERO }
        });
        let (limits, look_every) = alerts(file.alerts).unwrap_or_else(|problem| {
            problems.push(format!("alerts: {problem}"));
            (Limits::default(), LOOK_EVERY)
        });
        let mut endpoint = |name: &str, listen: &Listen, default: &str, by_certificate: bool| {
            endpoint(path, listen, default, by_certificate)
                .map_err(|problem| problems.push(format!("{name}: {problem}")))
                .ok()
        };
        let agents = endpoint("agents", &file.agents, "127.0.0.1:7470", true);
        let operators = endpoint("operators", &file.operators, "127.0.0.1:7471", false);
        if let (Some(agents), Some(operators)) = (&agents, &operators)
            && agents.address == operators.address
            && agents.address.port() != 0
        {
            problems
                .push(format!("agents and operators both listen on {}: give each a port of its own", agents.address));
        }
        if file.state.as_ref().is_some_and(|state| state.as_os_str().is_empty()) {
            problems.push("state is empty: name a folder, or leave it out".into());
        }
        let (Some(agents), Some(operators), true) = (agents, operators, problems.is_empty()) else {
            return Err(ConfigError::Values { path: path.to_owned(), problems });
        };
        Ok(Self {
            state: file.state.map_or_else(|| state_folder("aggregator", path), |state| config::beside(path, &state)),
            calendar: Calendar::new(zone),
            agents,
            operators,
            health_log: file.health_log,
            authority,
            limits,
            look_every,
            rules,
            two_people: file.months.two_people,
        })
    }
}

impl Config {
    /// Returns the URL at which operators reach the aggregator, which listens for them on a port.
    pub fn operators_url(&self, port: u16) -> String {
        let scheme = if matches!(self.operators.tls, PortTls::Plain) { "http" } else { "https" };
        let ip = self.operators.address.ip();
        let is_local = ip.is_loopback() && !matches!(self.operators.tls, PortTls::Files(_));
        let address = match (is_local, ip) {
            (true, IpAddr::V6(ip)) => format!("[{ip}]"),
            (true, IpAddr::V4(ip)) => ip.to_string(),
            (false, _) => self.authority.names[0].clone(),
        };
        format!("{scheme}://{address}:{port}")
    }
}

/// Returns the rules that a configuration says: those of the file that it names, and those of people.
fn rules(config: &Path, named: Option<&Path>, people: PeopleSettings) -> Result<Vec<Rule>, ConfigError> {
    let path = named.map(|named| config::beside(config, named));
    let text = path.as_deref().map_or(Ok(String::new()), config::read)?;
    let path = path.as_deref().unwrap_or(config);
    let wrong = |problems| ConfigError::Values { path: path.to_owned(), problems };
    let mut rules = file::parse(&text).map_err(|error| match error {
        FileError::Syntax(error) => config::syntax(path, &text, &error),
        FileError::Entries(problems) => wrong(problems),
    })?;
    let counted = people.counted.map(|who| Says::Counted(Counted { who }));
    let domains = people.domains.map(|rule| Says::Domains(Domains { rule }));
    let is_mapped = people.domains == Some(DomainRule::Map);
    let map = people.domain_map.into_iter().filter(|_| is_mapped).map(|(name, is)| Says::Domain(Domain { name, is }));
    let said = counted.into_iter().chain(domains).chain(map);
    rules.extend(said.map(|says| Rule { says, from: None, through: None, reason: String::new() }));
    let problems = check(&rules.iter().collect::<Vec<_>>());
    match problems.is_empty() {
        true => Ok(rules),
        false => {
            let told = problems.into_iter().map(|problem| format!("{}: {problem}", rules[problem.rule].canonical()));
            Err(wrong(told.collect()))
        }
    }
}

/// Checks the settings of a port. The aggregator's own authority gives it a certificate if none is named. What comes `by_certificate`
/// alone must not come from another machine without one.
fn endpoint(config: &Path, listen: &Listen, default: &str, by_certificate: bool) -> Result<Endpoint, String> {
    let beside = |path: &PathBuf| config::beside(config, path);
    let text = listen.listen.as_deref().unwrap_or(default);
    let address: SocketAddr = text.parse().map_err(|_| format!("listen {text:?} is not an address: write IP:PORT"))?;
    let tls = match (&listen.certificate, &listen.key) {
        (Some(_), Some(_)) if by_certificate && listen.client_authority.is_none() && !address.ip().is_loopback() => {
            return Err("anybody could speak for any license server: add client_authority; or leave certificate and key out, and \
                        enrol the agents"
                .into());
        }
        (Some(certificate), Some(key)) => {
            let identity = Identity { certificate: beside(certificate), key: beside(key) };
            let files = Files { identity, client_authority: listen.client_authority.as_ref().map(beside) };
            files.load().map_err(|error| error.to_string())?;
            PortTls::Files(files)
        }
        (None, None) if listen.client_authority.is_some() => {
            return Err("client_authority needs certificate and key".into());
        }
        (None, None) if listen.plaintext && address.ip().is_loopback() => PortTls::Plain,
        (None, None) if listen.plaintext => {
            return Err(format!("{address} is not a loopback address: leave `plaintext` out"));
        }
        (None, None) => PortTls::Own,
        _ => return Err("certificate and key belong together: give both or none".into()),
    };
    Ok(Endpoint { address, tls })
}

/// How long a certificate of an agent lasts: a week; and at least, and at most.
const AGENTS_LIFE: Duration = Duration::from_secs(7 * 86_400);
const SHORTEST_LIFE: Duration = Duration::from_secs(10);
const LONGEST_LIFE: Duration = Duration::from_secs(90 * 86_400);

/// Reads a length of time, from the shortest to the longest that there can be; the usual one, if none is given.
fn time(name: &str, text: Option<&str>, usual: Duration, within: RangeInclusive<Duration>) -> Result<Duration, String> {
    let Some(text) = text else { return Ok(usual) };
    let span = text.parse::<jiff::Span>().and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()));
    let time = span.ok().and_then(|time| Duration::try_from(time).ok()).filter(|time| within.contains(time));
    let shown = |time: &Duration| duration(time.as_secs());
    time.ok_or_else(|| {
        let (least, most) = (shown(within.start()), shown(within.end()));
        format!("{name} is {text:?}: write a time as 12h or 7d, from {least} to {most}")
    })
}

/// How often alerts are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(30);

fn alerts(settings: AlertSettings) -> Result<(Limits, Duration), String> {
    let usual = Limits::default();
    let second = Duration::from_secs(1);
    let (day, hour, minute) = (second * 86_400, second * 3600, second * 60);
    let silent = time(
        "silent_after",
        settings.silent_after.as_deref(),
        Duration::from_secs(usual.silent_after.unsigned_abs()),
        minute * 5..=day * 90,
    )?;
    let look_every = time("look_every", settings.look_every.as_deref(), LOOK_EVERY, second..=hour)?;
    let limits = Limits {
        silent_after: i64::try_from(silent.as_secs()).unwrap_or(i64::MAX),
        counted_from: usual.counted_from,
        agents_at_least: settings.agents_at_least.unwrap_or(usual.agents_at_least),
        license_managers_at_least: settings.license_managers_at_least.into_iter().collect(),
        quotas: Quotas {
            batches: settings.batches_a_day.unwrap_or(usual.quotas.batches),
            bytes: settings.megabytes_a_day.map_or(usual.quotas.bytes, |megabytes| megabytes.saturating_mul(1_000_000)),
            new_names: settings.new_names_a_day.unwrap_or(usual.quotas.new_names),
        },
    };
    for least in limits.license_managers_at_least.iter().map(|(_, least)| least).chain([&limits.agents_at_least]) {
        if !least.starts_with(|character: char| character.is_ascii_digit()) {
            return Err(format!("{least:?} is no version: write it as 11.19"));
        }
    }
    Ok((limits, look_every))
}

fn authority(config: &Path, settings: AuthoritySettings) -> Result<AuthorityConfig, String> {
    let files = match (settings.certificate, settings.key) {
        (Some(certificate), Some(key)) => {
            let beside = |path: PathBuf| config::beside(config, &path);
            Some(Identity { certificate: beside(certificate), key: beside(key) })
        }
        (None, None) => None,
        _ => return Err("certificate and key belong together: give both or none".into()),
    };
    let asked = settings.agents_valid_for.as_deref();
    let agents_life = time("agents_valid_for", asked, AGENTS_LIFE, SHORTEST_LIFE..=LONGEST_LIFE)?;
    let mut names = settings.names;
    let is_name = |name: &String| ServerName::try_from(name.as_str()).is_ok();
    if let Some(wrong) = names.iter().find(|name| !is_name(name)) {
        return Err(format!("{wrong:?} is neither a host name nor an address"));
    }
    if names.is_empty() {
        // Some machines have names that no network knows.
        names.extend(hostname::get().ok().and_then(|name| name.into_string().ok()).filter(is_name));
    }
    // Whoever is on this machine can do without them.
    names.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
    Ok(AuthorityConfig { names, files, agents_life })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("aggregator.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path).map_err(|error| error.to_string())
    }

    const PLAIN: &str = "[agents]\nplaintext = true\n[operators]\nplaintext = true\n";

    #[test]
    fn plain_text_must_be_asked_for_and_stays_on_loopback() {
        assert!(load(PLAIN).is_ok());
        let none = load("").unwrap();
        assert!(matches!((&none.agents.tls, &none.operators.tls), (PortTls::Own, PortTls::Own)));
        for port in ["[agents]\nplaintext = true", "[operators]\nplaintext = true"] {
            let everywhere = load(&PLAIN.replacen(port, &format!("{port}\nlisten = '0.0.0.0:7470'"), 1));
            assert!(everywhere.err().unwrap().contains("not a loopback address"));
        }
        let own = load(&PLAIN.replacen("plaintext = true", "listen = '0.0.0.0:7470'", 1)).unwrap();
        assert!(matches!(own.agents.tls, PortTls::Own));
    }

    #[test]
    fn what_serve_would_refuse_is_refused() {
        let same = "[agents]\nplaintext = true\nlisten = '127.0.0.1:7471'\n[operators]\nplaintext = true\n";
        assert!(load(same).err().unwrap().contains("a port of its own"));
        assert!(load(&same.replace("7471", "0")).is_ok());
        assert!(load(&format!("state = ''\n{PLAIN}")).err().unwrap().contains("state is empty"));
        let missing = load(&format!("catalogue = 'skus.toml'\n{PLAIN}")).err().unwrap();
        assert!(missing.starts_with("cannot read ") && missing.contains("skus.toml"), "{missing}");
    }

    #[test]
    fn people_and_catalogue_are_rules() {
        assert!(load(PLAIN).unwrap().rules.is_empty());
        let text = format!("{PLAIN}[people]\ndomains = 'map'\ncounted = 'checked_out'\ndomain_map = {{ 'A' = 'b' }}\n");
        let lines: Vec<String> = load(&text).unwrap().rules.iter().map(Rule::canonical).collect();
        assert_eq!(
            lines,
            [
                r#"{"counted":{"who":"checked_out"}}"#,
                r#"{"domains":{"rule":"map"}}"#,
                r#"{"domain":{"name":"A","is":"b"}}"#
            ]
        );
        assert!(
            load(&format!("{PLAIN}[people]\ndomain = 'keep'\n")).err().unwrap().contains("did you mean `domains`?")
        );
    }
}
