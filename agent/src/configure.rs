//! A first configuration, from the few answers that no default can give.

use std::path::{Path, PathBuf};

/// Every key with its meaning: what an administrator finds in the file.
const TEMPLATE: &str = include_str!("../../deploy/agent.toml");

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

/// The text of a configuration file in this folder.
pub fn render(answers: &Answers, folder: &Path) -> String {
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
    fn the_delivered_file_is_known_again() {
        assert!(is_untouched(&TEMPLATE.replace('\n', "\r\n")));
        assert!(!is_untouched(&TEMPLATE.replace("7470", "7471")));
    }
}
