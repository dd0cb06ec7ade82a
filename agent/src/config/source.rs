//! The sources of the configuration: logs to follow, and license managers to ask.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use reqwest::Url;
use seatmeter_service::config;
use serde::Deserialize;

use super::{day, host_name};
use crate::format::Format;
use crate::format::answer::mapped::{self, Mapping};
use crate::format::answer::monitor::Features;
use crate::format::answer::{AnswerFormat, Reading};
use crate::source::file::parts::glob;
use crate::source::file::status::LogSource;
use crate::source::poll::PollSource;
use crate::source::poll::asker::{Asker, Page};
use crate::source::poll::license_files::LicenseFiles;
use crate::source::poll::monitor::{Access, Site};
use crate::source::poll::tool::Tool;
use crate::source::poll::web::{Login, Secret, Web};

/// A source as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Source {
    #[serde(default)]
    kind: Kind,
    path: Option<PathBuf>,
    name: Option<String>,
    archives: Option<Vec<PathBuf>>,
    format: Option<String>,
    time_zone: Option<String>,
    date: Option<String>,
    moved_quiet_seconds: Option<u64>,
    command: Option<Vec<String>>,
    every_seconds: Option<u64>,
    timeout_seconds: Option<u64>,
    read: Option<mapped::Settings>,
    url: Option<String>,
    user: Option<String>,
    secret_file: Option<PathBuf>,
    secret_env: Option<String>,
    authority: Option<PathBuf>,
    proxy: Option<String>,
    customer: Option<String>,
    client_id: Option<String>,
    tokens_url: Option<String>,
    feature: Option<String>,
    features: Option<HashMap<String, String>>,
    history_days: Option<u32>,
}

/// The kind of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    /// A log file with its rotated parts.
    #[default]
    File,
    /// A tool that asks a license manager who holds what.
    Command,
    /// A server that tells who holds what at an address.
    Http,
    /// The Citrix Monitor service, which keeps the sessions of a site.
    CitrixMonitor,
    /// License files, which tell which licenses there are.
    LicenseFile,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Command => "command",
            Self::Http => "http",
            Self::CitrixMonitor => "citrix-monitor",
            Self::LicenseFile => "license-file",
        }
    }
}

/// A source, after validation.
pub(super) enum Checked {
    Log(Box<LogSource>),
    Poll(Box<PollSource>),
}

/// How long a log that was moved away must be quiet until it is no longer read, in seconds: a daemon that was not told to
/// open its log anew goes on writing to it.
const MOVED_QUIET: u64 = 60;

/// How often a license manager is asked, in seconds, and how long the answer may take.
const POLL_EVERY: u64 = 300;
const POLL_TIMEOUT: u64 = 60;

/// How often license files are read, in seconds.
const LICENSES_EVERY: u64 = 3600;

/// How far back the first question to a site reaches, in days: a month that is being reported, and the one before it.
const HISTORY_DAYS: u32 = 45;

/// Where Citrix Cloud issues tokens.
const CLOUD_TOKENS: &str = "https://api.cloud.com/cctrustoauth2/";

impl Source {
    /// Checks the settings. `config` is the file that holds them. The error says what is wrong, for people.
    pub(super) fn check(self, config: &Path) -> Result<Checked, String> {
        self.refuse_others()?;
        Ok(match self.kind {
            Kind::File => Checked::Log(Box::new(self.log(config)?)),
            Kind::Command => Checked::Poll(Box::new(self.command()?)),
            Kind::Http => Checked::Poll(Box::new(self.http(config)?)),
            Kind::CitrixMonitor => Checked::Poll(Box::new(self.monitor(config)?)),
            Kind::LicenseFile => Checked::Poll(Box::new(self.license_files(config)?)),
        })
    }

    /// Refuses settings of other kinds.
    fn refuse_others(&self) -> Result<(), String> {
        use Kind::{CitrixMonitor, Command, File, Http, LicenseFile};
        let settings: [(&str, bool, &[Kind]); 22] = [
            ("path", self.path.is_some(), &[File, LicenseFile]),
            ("archives", self.archives.is_some(), &[File]),
            ("date", self.date.is_some(), &[File]),
            ("moved_quiet_seconds", self.moved_quiet_seconds.is_some(), &[File]),
            ("format", self.format.is_some(), &[File, Command, Http]),
            ("time_zone", self.time_zone.is_some(), &[File, Command, Http]),
            ("command", self.command.is_some(), &[Command]),
            ("read", self.read.is_some(), &[Command, Http]),
            ("every_seconds", self.every_seconds.is_some(), &[Command, Http, CitrixMonitor, LicenseFile]),
            ("timeout_seconds", self.timeout_seconds.is_some(), &[Command, Http, CitrixMonitor]),
            ("url", self.url.is_some(), &[Http, CitrixMonitor]),
            ("user", self.user.is_some(), &[Http, CitrixMonitor]),
            ("secret_file", self.secret_file.is_some(), &[Http, CitrixMonitor]),
            ("secret_env", self.secret_env.is_some(), &[Http, CitrixMonitor]),
            ("authority", self.authority.is_some(), &[Http, CitrixMonitor]),
            ("proxy", self.proxy.is_some(), &[Http, CitrixMonitor]),
            ("customer", self.customer.is_some(), &[CitrixMonitor]),
            ("client_id", self.client_id.is_some(), &[CitrixMonitor]),
            ("tokens_url", self.tokens_url.is_some(), &[CitrixMonitor]),
            ("feature", self.feature.is_some(), &[CitrixMonitor]),
            ("features", self.features.is_some(), &[CitrixMonitor]),
            ("history_days", self.history_days.is_some(), &[CitrixMonitor]),
        ];
        for (name, is_set, kinds) in settings {
            if is_set && !kinds.contains(&self.kind) {
                let kinds: Vec<String> = kinds.iter().map(|kind| format!("`kind = {:?}`", kind.name())).collect();
                return Err(format!("`{name}` is for {}, and this is {:?}", kinds.join(" and "), self.kind.name()));
            }
        }
        Ok(())
    }

    fn log(self, config: &Path) -> Result<LogSource, String> {
        let path = self.path.filter(|path| !path.as_os_str().is_empty());
        let path = config::beside(config, &path.ok_or("`path` is missing: the log file to follow")?);
        let archives = self.archives.unwrap_or_default();
        let archives: Vec<PathBuf> = archives.iter().map(|pattern| config::beside(config, pattern)).collect();
        let zone = config::time_zone(self.time_zone.as_deref())?;
        let date = self.date.as_deref().map(day).transpose()?;
        let format = self.format.map(|name| Format::named(&name).ok_or_else(|| unknown_format(&name, Format::names())));
        let format = format.transpose()?;
        let name = named(self.name.unwrap_or_else(|| path.display().to_string()))?;
        for pattern in archives.iter().filter_map(|pattern| pattern.file_name()) {
            glob(&pattern.to_string_lossy()).map_err(|error| format!("archives: {error}"))?;
        }
        let moved_quiet = Duration::from_secs(self.moved_quiet_seconds.unwrap_or(MOVED_QUIET));
        Ok(LogSource { name, path, archives, others: Vec::new(), format, zone, date, moved_quiet, pseudonyms: None })
    }

    fn command(mut self) -> Result<PollSource, String> {
        let command = self.command.take().unwrap_or_default();
        let (program, arguments) = command
            .split_first()
            .filter(|(program, _)| !program.is_empty())
            .ok_or("`command` is missing: the tool and its arguments, as [\"lmutil\", \"lmstat\", \"-a\"]")?;
        let reading = reading(self.format.as_deref(), self.read.take())?;
        let (interval, time_limit) = self.rhythm(POLL_EVERY)?;
        let tool =
            Tool { program: program.clone(), arguments: arguments.to_vec(), time_limit, readers: Arc::default() };
        self.poll(command.join(" "), Asker::Tool(tool, reading), interval)
    }

    fn http(mut self, config: &Path) -> Result<PollSource, String> {
        let url = address("url", self.url.as_deref().ok_or("`url` is missing: where the answer is")?)?;
        let reading = reading(self.format.as_deref(), self.read.take())?;
        let (interval, time_limit) = self.rhythm(POLL_EVERY)?;
        let web = self.web(config, &url, time_limit)?;
        let login = self.login(config, &url)?;
        let name = crate::source::poll::web::shown(&url);
        self.poll(name, Asker::Page(Box::new(Page { url, web, login }), reading), interval)
    }

    fn monitor(self, config: &Path) -> Result<PollSource, String> {
        const EXAMPLE: &str = "https://director.example/Citrix/Monitor/OData/v4/Data";
        let url = self.url.as_deref().ok_or_else(|| format!("`url` is missing: as {EXAMPLE:?}"))?;
        let url = address("url", url)?;
        if url.path().trim_end_matches('/').ends_with("/Sessions") {
            return Err(format!("`url` ends with the entity, which the agent adds: write it as {EXAMPLE:?}"));
        }
        let (interval, time_limit) = self.rhythm(POLL_EVERY)?;
        let web = self.web(config, &url, time_limit)?;
        let access = match (&self.customer, &self.client_id) {
            (None, None) if self.tokens_url.is_some() => {
                return Err("`tokens_url` needs `customer` and `client_id`".into());
            }
            (None, None) => Access::Login(self.login(config, &url)?),
            (Some(customer), Some(client)) if self.user.is_none() => {
                let tokens = match &self.tokens_url {
                    Some(tokens) => address("tokens_url", tokens)?,
                    None => address("customer", &format!("{CLOUD_TOKENS}{customer}/tokens/clients"))?,
                };
                let secret =
                    self.secret(config)?.ok_or("`secret_file` is missing: the file with the client's secret")?;
                over_tls(&url)?;
                over_tls(&tokens)?;
                Access::Cloud { customer: customer.clone(), client: client.clone(), secret, tokens }
            }
            (Some(_), Some(_)) => return Err("`user` is for a site on premises; leave it out".into()),
            _ => return Err("Citrix Cloud needs both `customer` and `client_id`".into()),
        };
        let features = Features {
            site: self.feature.clone().unwrap_or_default(),
            groups: self.features.clone().unwrap_or_default(),
        };
        if features.site.is_empty() && features.groups.is_empty() {
            return Err("`feature` is missing: the license that sessions of this site use, as \"XDT_PLT_UD\"; or \
                        [source.features], with one for each delivery group"
                .into());
        }
        let history = self.history_days.unwrap_or(HISTORY_DAYS);
        if !(1..=400).contains(&history) {
            return Err(format!("history_days is {history}: from 1 to 400"));
        }
        let history = SignedDuration::from_hours(i64::from(history) * 24);
        let name = crate::source::poll::web::shown(&url);
        self.poll(name, Asker::Monitor(Box::new(Site { url, web, access, features, history })), interval)
    }

    fn license_files(self, config: &Path) -> Result<PollSource, String> {
        let path = self.path.clone().filter(|path| !path.as_os_str().is_empty());
        let path =
            config::beside(config, &path.ok_or("`path` is missing: the license file, or the folder of several")?);
        let (interval, _) = self.rhythm(LICENSES_EVERY)?;
        self.poll(path.display().to_string(), Asker::Files(LicenseFiles::new(path)?), interval)
    }

    /// Returns how often to ask, and how long one answer may take.
    fn rhythm(&self, usually: u64) -> Result<(Duration, Duration), String> {
        let every = self.every_seconds.unwrap_or(usually);
        let time_limit = self.timeout_seconds.unwrap_or(POLL_TIMEOUT.min(every));
        if !(1..=86_400).contains(&every) {
            return Err(format!("every_seconds is {every}: from 1 second to a day (86400)"));
        }
        if !(1..=every).contains(&time_limit) {
            return Err(format!("timeout_seconds is {time_limit}: at least 1, and at most every_seconds ({every})"));
        }
        Ok((Duration::from_secs(every), Duration::from_secs(time_limit)))
    }

    fn poll(&self, default_name: String, asker: Asker, interval: Duration) -> Result<PollSource, String> {
        let own = self.name.clone().unwrap_or(default_name);
        let name = named(format!("{own} (asked by {})", host_name()))?;
        let zone = config::time_zone(self.time_zone.as_deref())?;
        Ok(PollSource { name, asker, zone, interval, pseudonyms: None })
    }

    fn web(&self, config: &Path, url: &Url, time_limit: Duration) -> Result<Web, String> {
        let authority = self.authority.as_deref().map(|path| config::beside(config, path));
        let is_tls = url.scheme() == "https" || self.customer.is_some();
        // A client's secret goes to another address than the questions.
        let are_tokens_tls = self.tokens_url.as_ref().is_none_or(|tokens| tokens.starts_with("https:"));
        let has_secret = self.secret_file.is_some() || self.secret_env.is_some();
        let is_proxied = !has_secret || (url.scheme() == "https" && are_tokens_tls);
        Web::new(authority.as_ref(), self.proxy.as_deref(), time_limit, is_tls, is_proxied)
    }

    /// Returns as whom to ask. A secret goes to this machine alone, or over TLS.
    fn login(&self, config: &Path, url: &Url) -> Result<Login, String> {
        let login = match (self.user.clone(), self.secret(config)?) {
            (None, None) => return Ok(Login::Nobody),
            (Some(user), Some(_)) if user.contains(':') => return Err("`user` holds a colon, which ends it".into()),
            (Some(user), Some(password)) => Login::User { user, password },
            (None, Some(token)) => Login::Bearer(token),
            (Some(_), None) => return Err("`user` needs `secret_file`: the file with the password".into()),
        };
        over_tls(url)?;
        Ok(login)
    }

    fn secret(&self, config: &Path) -> Result<Option<Secret>, String> {
        match (&self.secret_file, &self.secret_env) {
            (None, None) => Ok(None),
            (Some(file), None) => Ok(Some(Secret::File(config::beside(config, file)))),
            (None, Some(variable)) => Ok(Some(Secret::Variable(variable.clone()))),
            (Some(_), Some(_)) => {
                Err("`secret_file` and `secret_env` are both set: which one holds the secret?".into())
            }
        }
    }
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

/// Checks an address. A login in it would stand in logs.
fn address(setting: &str, text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| format!("{setting} {text:?} is no address: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(format!("{setting} {text:?} must begin with https:// or http://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!("{setting} holds a login: set `user` and `secret_file` instead"));
    }
    Ok(url)
}

/// Refuses to send a secret where others could read it.
fn over_tls(url: &Url) -> Result<(), String> {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let is_here = host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    if url.scheme() == "https" || is_here {
        return Ok(());
    }
    Err(format!("a secret would go to {host} in plain text: use https"))
}

fn unknown_format(name: &str, known: Vec<&str>) -> String {
    format!("format {name:?} is not known; the formats are {}; without `format`, the content tells", known.join(", "))
}
