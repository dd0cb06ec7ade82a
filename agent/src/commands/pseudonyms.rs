//! `seatmeter-agent pseudonyms`: keys with which names are made unreadable, and what becomes of a name.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use seatmeter_agent::config::{Config, key_of_pseudonyms};
use seatmeter_proto::pseudonym::Key;
use seatmeter_service::screen::text::visible;
use seatmeter_service::{answer, private};

use crate::Configured;

/// What is done about pseudonyms.
#[derive(clap::Subcommand)]
pub(crate) enum Pseudonyms {
    /// Make a key, in a file that nobody but its owner may read
    ///
    /// All agents of a realm need the same key, or one person counts as several. Whoever has it can
    /// find out whether a name that they know is among those that were sent: keep it from the
    /// aggregator. Where it is lost, names can never be told again.
    ///
    /// Example: seatmeter-agent pseudonyms new-key /etc/seatmeter/names.key
    #[command(verbatim_doc_comment)]
    NewKey {
        /// The file, which must not exist yet
        file: PathBuf,
    },
    /// Show what is sent in place of names: to find a person, or for a list of free users
    ///
    /// Examples:
    ///   seatmeter-agent pseudonyms of jo 'EXAMPLE\ann'
    ///   seatmeter-agent pseudonyms of --key names.key --hosts pc1
    #[command(verbatim_doc_comment)]
    Of {
        #[command(flatten)]
        configured: Configured,
        /// The file of the key; by default, the one that the configuration names
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// The names are those of machines
        #[arg(long)]
        hosts: bool,
        /// The names
        #[arg(required = true)]
        names: Vec<String>,
    },
}

pub(crate) fn run(asked: &Pseudonyms) -> Result<ExitCode> {
    match asked {
        Pseudonyms::NewKey { file } => new_key(file)?,
        Pseudonyms::Of { configured, key, hosts, names } => {
            let key = match key {
                Some(file) => key_of_pseudonyms(file).map_err(anyhow::Error::msg)?,
                None => Config::load(&configured.config)?
                    .pseudonyms
                    .context("the configuration names no key (`pseudonyms` in [privacy]): name its file (--key)")?,
            };
            for name in names {
                let pseudonym = if *hosts { key.host(name) } else { key.user(name) };
                answer!("{pseudonym}  {}", visible(name));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn new_key(file: &Path) -> Result<()> {
    match std::fs::symlink_metadata(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        _ => bail!("{} exists: a key that is in use must not be replaced; name another file", file.display()),
    }
    let key = Key::new()?;
    // As root, it is made for the service's account.
    let state = PathBuf::from("/var/lib/seatmeter-agent");
    private::write(file, key.text().as_bytes(), Some(&*state).filter(|state| state.is_dir()))
        .with_context(|| format!("cannot write {}", file.display()))?;
    answer!("{}: a new key, known as {}", file.display(), key.id());
    answer!("Copy it to the other license servers of the realm, and name it in each agent.toml:");
    answer!("[privacy]\npseudonyms = {:?}", file.display().to_string());
    Ok(())
}
