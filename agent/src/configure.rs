//! Renders a first configuration from the few values that have no default.

use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};
use toml_edit::{DocumentMut, Item, Table, value};

use crate::detect::Proposal;

/// The template of the configuration file: every key with its meaning.
const TEMPLATE: &str = include_str!("../../deploy/agent.toml");

/// The configuration keys of the agent's own certificate, and the files that are used if they are beside the
/// configuration.
const IDENTITY: [(&str, &str); 2] = [("certificate", "agent.pem"), ("key", "agent.key")];

/// The first line of a file that `configure` wrote; a checksum of the rest follows.
const MARK: &str = "# Written by `seatmeter-agent configure`, which overwrites it until somebody edits it. ";

/// The values from which a configuration is rendered.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// The aggregator's URL: `https://host:7470`, or `http://` to a loopback address.
    pub aggregator: String,
    /// Whether the aggregator has enrolled the agent, whose certificate and authority are then in its state folder.
    pub is_enrolled: bool,
    /// Path of the certificate of the authority that signed the aggregator's certificate; `None` means `authority.pem`
    /// beside the configuration.
    pub authority: Option<PathBuf>,
    /// The license server's name; `None` means the machine's name.
    pub name: Option<String>,
    /// The realm of the license server's user names; `None` means the default realm.
    pub realm: Option<String>,
    /// The state folder; `None` means the default folder.
    pub state: Option<PathBuf>,
    /// The time zone of the license server's clock; `None` means the machine's time zone.
    pub time_zone: Option<String>,
    /// The sources: absolute paths of logs, tools that ask license managers, license files.
    pub sources: Vec<Proposal>,
}

/// Returns the text of a configuration file in this folder. If the folder contains `agent.pem` and `agent.key`, the
/// configuration names them as the agent's own certificate and key.
pub fn render(answers: &Answers, folder: &Path) -> Result<String, toml_edit::TomlError> {
    let mut document: DocumentMut = TEMPLATE.parse()?;
    let mut comments = Comments::default();
    let aggregator = &mut document["aggregator"];
    aggregator["url"] = value(&answers.aggregator);
    if answers.is_enrolled || answers.aggregator.starts_with("http://") {
        if let Some(table) = aggregator.as_table_mut() {
            table.remove("authority");
        }
    } else {
        let authority = answers.authority.clone().unwrap_or_else(|| folder.join("authority.pem"));
        aggregator["authority"] = value(text(&authority));
    }
    if !answers.is_enrolled && IDENTITY.iter().all(|(_, file)| folder.join(file).exists()) {
        for (key, file) in IDENTITY {
            comments.uncomment("aggregator", key, &text(&folder.join(file)));
        }
    }
    for (section, key, answer) in [
        ("", "state", answers.state.as_deref().map(text)),
        ("license_server", "name", answers.name.clone()),
        ("license_server", "realm", answers.realm.clone()),
        ("source", "time_zone", answers.time_zone.clone()),
    ] {
        if let Some(answer) = answer {
            comments.uncomment(section, key, &answer);
        }
    }
    // The first log takes the place of the template's.
    let first = answers.sources.iter().enumerate().find_map(|(index, source)| match source {
        Proposal::Log(log) => Some((index, log)),
        _ => None,
    });
    let sources = document["source"].as_array_of_tables_mut();
    if let (Some((_, log)), Some(source)) = (first, sources.and_then(|sources| sources.get_mut(0))) {
        source["path"] = value(text(log));
    }
    let mut text = document.to_string();
    if first.is_none() {
        text = without_the_first_source(&text);
    }
    let mut body = comments.apply(&text);
    let more = answers.sources.iter().enumerate().filter(|(index, _)| first.is_none_or(|(first, _)| first != *index));
    for source in more.filter_map(|(_, source)| settings(source, answers.time_zone.as_deref())) {
        body.push_str(&format!("\n[[source]]\n{source}"));
    }
    Ok(format!("{MARK}{}\n{body}", checksum(&body)))
}

/// Returns a configuration that somebody has edited, for an aggregator that has enrolled the agent as this license server: all else
/// stays as it is.
pub fn fill(edited: &str, aggregator: &str, license_server: &str, realm: &str) -> Result<String, toml_edit::TomlError> {
    let mut document: DocumentMut = edited.parse()?;
    let of_aggregator = document.entry("aggregator").or_insert_with(|| Item::Table(Table::new()));
    set(of_aggregator, "url", aggregator);
    for key in ["authority", "certificate", "key"] {
        unset(of_aggregator, key);
    }
    let server = document.entry("license_server").or_insert_with(|| Item::Table(Table::new()));
    set(server, "name", license_server);
    if realm.is_empty() {
        unset(server, "realm");
    } else {
        set(server, "realm", realm);
    }
    Ok(document.to_string())
}

/// Sets a key, and leaves what stands beside it as it is.
fn set(table: &mut Item, key: &str, text: &str) {
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(known) if known.as_str() == Some(text) => {}
        Some(known) => {
            let around = known.decor().clone();
            *known = text.into();
            *known.decor_mut() = around;
        }
        None => table[key] = value(text),
    }
}

fn unset(table: &mut Item, key: &str) {
    if let Some(table) = table.as_table_like_mut() {
        table.remove(key);
    }
}

/// Whether a configuration file is unchanged since it was delivered or `configure` wrote it, and may be overwritten.
pub fn is_untouched(text: &str) -> bool {
    let text = text.replace("\r\n", "\n");
    let is_own = text.strip_prefix(MARK).and_then(|rest| rest.split_once('\n'));
    is_own.is_some_and(|(sum, body)| sum == checksum(body)) || is_template(&text)
}

/// Whether a configuration file is the delivered template, which names no aggregator and no log yet.
pub fn is_template(text: &str) -> bool {
    text.lines().eq(TEMPLATE.lines())
}

/// Comments out the first source, which nobody has answered.
fn without_the_first_source(text: &str) -> String {
    let mut is_within = false;
    let lines = text.lines().map(|line| {
        is_within = line == "[[source]]" || (is_within && !line.is_empty());
        let comment = if is_within && !line.starts_with('#') { "#" } else { "" };
        format!("{comment}{line}\n")
    });
    lines.collect()
}

/// Returns the settings of a source; `None` if there is nothing to read or to ask.
pub fn settings(source: &Proposal, time_zone: Option<&str>) -> Option<Table> {
    let mut table = Table::new();
    match source {
        Proposal::Log(log) => {
            table["kind"] = value("file");
            table["path"] = value(text(log));
        }
        Proposal::Command(command) => {
            table["kind"] = value("command");
            table["command"] = value(command.iter().collect::<toml_edit::Array>());
        }
        Proposal::LicenseFiles(path) => {
            table["kind"] = value("license-file");
            table["path"] = value(text(path));
            // No time stands in a license file.
            return Some(table);
        }
        Proposal::Nothing(_) => return None,
    }
    if let Some(zone) = time_zone {
        table["time_zone"] = value(zone);
    }
    Some(table)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn checksum(body: &str) -> String {
    data_encoding::HEXLOWER.encode(&digest(&SHA256, body.as_bytes()).as_ref()[..8])
}

/// Keys that are commented out with `#` in the template and get a value.
#[derive(Default)]
struct Comments(Vec<(String, String, String)>);

impl Comments {
    fn uncomment(&mut self, section: &str, key: &str, answer: &str) {
        self.0.push((section.into(), key.into(), answer.into()));
    }

    /// Returns the text with the commented lines replaced, each in its own section.
    fn apply(&self, document: &str) -> String {
        let mut section = String::new();
        let mut text = String::new();
        for line in document.lines() {
            if line.starts_with('[') {
                section = line.trim_matches(['[', ']']).to_owned();
            } else if line.starts_with("#[") {
                // An example, of which nothing applies.
                section = line.to_owned();
            }
            let answer = self.0.iter().find(|(of, key, _)| *of == section && line.starts_with(&format!("#{key} = ")));
            match answer {
                Some((_, key, answer)) => text.push_str(&format!("{key} = {}\n", Item::Value(answer.as_str().into()))),
                None => {
                    text.push_str(line);
                    text.push('\n');
                }
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn what_is_answered_is_what_is_configured() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.toml");
        let logs = [PathBuf::from(r"C:\flexlm\new\debug.log"), PathBuf::from("/var/log/second.log")];
        let answers = Answers {
            aggregator: "http://127.0.0.1:7470".into(),
            name: Some("lic'01".into()),
            realm: Some("site".into()),
            state: Some(folder.path().join("state")),
            time_zone: Some("Europe/Berlin".into()),
            sources: logs.iter().cloned().map(Proposal::Log).collect(),
            ..Answers::default()
        };
        std::fs::write(&path, render(&answers, folder.path()).unwrap()).unwrap();
        let config = Config::load(&path).unwrap();
        assert_eq!((config.license_server.as_str(), config.realm.as_str()), ("lic'01", "site"));
        // On other systems, a path of Windows is a relative one.
        let logs: Vec<PathBuf> = logs.iter().map(|log| folder.path().join(log)).collect();
        assert_eq!(config.sources.iter().map(|source| source.path.clone()).collect::<Vec<_>>(), logs);
        assert!(config.sources.iter().all(|source| source.zone.iana_name() == Some("Europe/Berlin")));
        assert_eq!(config.aggregator.url(), "http://127.0.0.1:7470");
        // A license manager that is asked, its license files, and no log.
        let command = vec!["/opt/flexlm/lmutil".into(), "lmstat".into(), "-a \"b\"".into()];
        let sources = vec![Proposal::Command(command), Proposal::LicenseFiles("/opt/flexlm/a.lic".into())];
        let asking = Answers { sources, ..answers.clone() };
        std::fs::write(&path, render(&asking, folder.path()).unwrap()).unwrap();
        let config = Config::load(&path).unwrap();
        assert!(config.sources.is_empty());
        assert!(config.polls[0].name.starts_with("/opt/flexlm/lmutil lmstat -a \"b\" (asked by "));
        assert!(config.polls[1].name.starts_with("/opt/flexlm/a.lic (asked by "));
        assert_eq!(Some(config.state), answers.state);
    }

    #[test]
    fn what_somebody_has_edited_stays_but_for_what_enrolment_says() {
        let edited = "state = '/s' # here\n[license_server]\nname = 'old' # mine\nrealm = 'r'\n[aggregator]\nurl = 'https://x:1'\n\
                      key = 'k' # ours\n# more\n[[source]]\npath = '/d' # log\n";
        let filled = fill(edited, "https://y:2", "new", "").unwrap();
        let expected = "state = '/s' # here\n[license_server]\nname = \"new\" # mine\n[aggregator]\nurl = \"https://y:2\"\n\
                        # more\n[[source]]\npath = '/d' # log\n";
        assert_eq!(filled, expected);
        assert_eq!(fill(&filled, "https://y:2", "new", "").unwrap(), filled);
    }

    #[test]
    fn a_certificate_beside_the_configuration_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let answers = Answers {
            aggregator: "https://aggregator:7470".into(),
            sources: vec![Proposal::Log("/debug.log".into())],
            ..Answers::default()
        };
        let key = folder.path().join("agent.key");
        let line = format!("\nkey = \"{}\"\n", key.display());
        assert!(!render(&answers, folder.path()).unwrap().contains(&line));
        std::fs::write(folder.path().join("agent.pem"), "").unwrap();
        std::fs::write(&key, "").unwrap();
        let rendered = render(&answers, folder.path()).unwrap();
        assert!(rendered.contains(&line), "{rendered}");
    }

    #[test]
    fn what_was_delivered_and_what_configure_wrote_is_known_again() {
        assert!(is_untouched(&TEMPLATE.replace('\n', "\r\n")));
        assert!(!is_untouched(&TEMPLATE.replace("7470", "7471")));
        let answers = Answers { aggregator: "http://127.0.0.1:7470".into(), ..Answers::default() };
        let written = render(&answers, Path::new("/nowhere")).unwrap();
        assert!(is_untouched(&written) && is_untouched(&written.replace('\n', "\r\n")));
        assert!(!is_untouched(&written.replace("7470", "7471")));
    }
}
