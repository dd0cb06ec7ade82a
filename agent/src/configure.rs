//! A first configuration, from the few answers that no default can give.

use std::path::{Path, PathBuf};

/// Every key with its meaning: what an administrator finds in the file.
const TEMPLATE: &str = include_str!("../../deploy/agent.toml");

/// The keys of the agent's own certificate, and the files that are taken where they are beside the configuration.
const IDENTITY: [(&str, &str); 2] = [("certificate", "agent.pem"), ("key", "agent.key")];

/// What is asked.
pub struct Answers {
    /// `https://host:7470`, or `http://` to a loopback address.
    pub aggregator: String,
    /// The authority that signed the aggregator's certificate; `authority.pem` beside the configuration if none is named.
    pub authority: Option<PathBuf>,
    /// The license server's name; the machine's if none is named.
    pub name: Option<String>,
    /// The logs: at least one.
    pub logs: Vec<PathBuf>,
}

/// The text of a configuration file in this folder. Where the agent's own certificate and key are in it, as `agent.pem`
/// and `agent.key`, they are used.
pub fn render(answers: &Answers, folder: &Path) -> String {
    let has_identity = IDENTITY.iter().all(|(_, file)| folder.join(file).exists());
    let mut text = String::new();
    let mut logs = answers.logs.iter();
    for line in TEMPLATE.lines() {
        let line = if line.starts_with("url = ") {
            format!("url = {}", quoted(&answers.aggregator))
        } else if line.starts_with("authority = ") {
            if answers.aggregator.starts_with("http://") {
                continue;
            }
            let authority = answers.authority.clone().unwrap_or_else(|| folder.join("authority.pem"));
            format!("authority = {}", quoted(&authority.display().to_string()))
        } else if has_identity
            && let Some((key, file)) = IDENTITY.iter().find(|(key, _)| line.starts_with(&format!("#{key} = ")))
        {
            format!("{key} = {}", quoted(&folder.join(file).display().to_string()))
        } else if line.starts_with("#name = \"lic01\"")
            && let Some(name) = &answers.name
        {
            format!("name = {}", quoted(name))
        } else if line.starts_with("path = ")
            && let Some(log) = logs.next()
        {
            format!("path = {}", quoted(&log.display().to_string()))
        } else {
            line.to_owned()
        };
        text.push_str(&line);
        text.push('\n');
    }
    for log in logs {
        text.push_str(&format!("\n[[log]]\npath = {}\n", quoted(&log.display().to_string())));
    }
    text
}

/// Whether a configuration file still is as it was delivered: it may be overwritten.
pub fn is_untouched(text: &str) -> bool {
    text.lines().eq(TEMPLATE.lines())
}

/// A TOML string. In single quotes nothing needs an escape, as paths of Windows would in double ones.
fn quoted(text: &str) -> String {
    if text.contains('\'') || text.contains('\n') { format!("{text:?}") } else { format!("'{text}'") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn what_is_answered_is_what_is_configured() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.toml");
        let answers = Answers {
            aggregator: "http://127.0.0.1:7470".into(),
            authority: None,
            name: Some("lic'01".into()),
            logs: vec![PathBuf::from(r"C:\flexlm\new\debug.log"), PathBuf::from("/var/log/second.log")],
        };
        std::fs::write(&path, render(&answers, folder.path())).unwrap();
        let config = Config::load(&path).unwrap();
        assert_eq!(config.license_server, "lic'01");
        assert_eq!(config.logs.iter().map(|log| log.path.clone()).collect::<Vec<_>>(), answers.logs);
        assert_eq!(config.aggregator.url(), "http://127.0.0.1:7470");
    }

    #[test]
    fn a_certificate_beside_the_configuration_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let answers = Answers {
            aggregator: "https://aggregator:7470".into(),
            authority: None,
            name: None,
            logs: vec!["debug.log".into()],
        };
        let key = folder.path().join("agent.key");
        let line = format!("\nkey = '{}'\n", key.display());
        assert!(!render(&answers, folder.path()).contains(&line));
        std::fs::write(folder.path().join("agent.pem"), "").unwrap();
        std::fs::write(&key, "").unwrap();
        assert!(render(&answers, folder.path()).contains(&line));
    }

    #[test]
    fn the_delivered_file_is_known_again() {
        assert!(is_untouched(&TEMPLATE.replace('\n', "\r\n")));
        assert!(!is_untouched(&TEMPLATE.replace("7470", "7471")));
    }
}
