//! `seatmeter-agent enroll`.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use seatmeter_agent::configure::{Answers, fill, is_template, is_untouched, render};
use seatmeter_agent::detect::Proposal;
use seatmeter_agent::health::{Status, UplinkState, status_file};
use seatmeter_agent::identity::calls::{CallError, enrol};
use seatmeter_agent::identity::files::Files;
use seatmeter_proto::invitation::{Invitation, MARK};
use seatmeter_proto::sealed::Address;
use seatmeter_service::answer;
use seatmeter_service::config::state_folder;
use seatmeter_service::screen::text::{utc, visible};

use super::configure::{absolute, found};
use crate::Configured;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The line that `seatmeter agents invite` has shown
    #[arg(required_unless_present = "token_file", conflicts_with = "token_file")]
    pub(super) token: Option<String>,
    /// A file with what it has shown, which other accounts need not see; - reads it from the standard input
    #[arg(long, value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) configured: Configured,
    /// A log of this license server; can be given several times. If none is given and none is configured, what `detect` finds is
    /// configured
    #[arg(long = "log", value_name = "FILE")]
    pub(super) logs: Vec<PathBuf>,
    /// The license server's name, where the invitation leaves it open; this machine's if none is given
    #[arg(long)]
    pub(super) name: Option<String>,
    /// The folder for the buffer and the agent's identity
    #[arg(long, value_name = "FOLDER")]
    pub(super) state: Option<PathBuf>,
    /// Enrol and configure, and leave the service as it is
    #[arg(long)]
    pub(super) no_start: bool,
}

/// How long the service may take until it delivers.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let text = token(arguments)?;
    // All that `seatmeter agents invite` has printed can be given.
    let token = text.split_whitespace().find(|word| word.starts_with(MARK)).unwrap_or(&text);
    let invitation: Invitation = token.parse()?;
    let path = absolute(&arguments.configured.config)?;
    let known = Known::read(&path, arguments)?;
    let sources = sources(arguments, &known)?;
    let files = Files::of(&known.state);
    let starts = !arguments.no_start && path == seatmeter_agent::config::default_path();
    if starts && cfg!(windows) {
        // It closes the folders to other accounts, before the key is in them.
        run_each("seatmeter-agent", &[&["service", "install", "--no-start"]])?;
    }
    let host = hostname::get().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name = arguments.name.clone().or_else(|| known.name.clone()).unwrap_or_else(|| host.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Before the invitation is used.
    super::configure::can_write(&path)?;
    let is_sealed = Address::read(&invitation.url).is_some();
    let (server, realm) = if is_sealed {
        // The first export enrols it.
        files.prepare_without_network(&invitation.secret)?;
        answer!("prepared    without a network: its first export enrols it");
        (name, String::new())
    } else {
        let enrolled = runtime
            .block_on(enrol(&invitation, &files, &name, &host))
            .map_err(|error| explained(error, &invitation))?;
        let server = &enrolled.license_server;
        answer!("enrolled    for license server {}, with {}", visible(server), visible(&invitation.url));
        answer!("certificate until {}, and is renewed by itself", utc(enrolled.expires.as_second()));
        (enrolled.license_server, enrolled.realm)
    };
    let server = &server;
    let text = match known.text {
        Some(edited) => fill(&edited, &invitation.url, server, &realm)?,
        None => {
            let answers = Answers {
                aggregator: invitation.url.clone(),
                is_enrolled: true,
                name: Some(server.clone()),
                realm: Some(realm).filter(|realm| !realm.is_empty()),
                state: arguments.state.as_deref().map(absolute).transpose()?,
                sources,
                ..Answers::default()
            };
            render(&answers, path.parent().context("the configuration is a file in a folder")?)?
        }
    };
    super::configure::write(&path, &text)?;
    if !is_sealed {
        files.forget_next_key()?;
    }
    answer!("configured  {}", path.display());
    if !starts {
        answer!("Now start the agent, then see `seatmeter-agent status`.");
        return Ok(ExitCode::SUCCESS);
    }
    start()?;
    if is_sealed {
        answer!("Now, and then every so often: `seatmeter-agent export FILE`");
        return Ok(ExitCode::SUCCESS);
    }
    wait_until_delivered(&known.state)
}

/// Says what the words of TLS mean here.
fn explained(error: CallError, invitation: &Invitation) -> anyhow::Error {
    let text = error.to_string();
    let means = if text.contains("UnknownIssuer") || text.contains("BadSignature") {
        format!(
            "the aggregator at {} has another authority than the one that has made the invitation: ask for a new one there, or \
             find out who answers",
            visible(&invitation.url)
        )
    } else if text.contains("not valid before") || text.contains("expired") {
        "is this machine's clock right?".to_owned()
    } else {
        return error.into();
    };
    anyhow::Error::from(error).context(means)
}

fn token(arguments: &Arguments) -> Result<String> {
    match (&arguments.token, &arguments.token_file) {
        (Some(token), _) => Ok(token.clone()),
        (None, Some(file)) if file.as_os_str() == "-" => {
            let mut text = String::new();
            std::io::stdin().take(10_000).read_to_string(&mut text).context("the standard input cannot be read")?;
            Ok(text)
        }
        (None, Some(file)) => std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display())),
        (None, None) => bail!("name the line that `seatmeter agents invite` has shown"),
    }
}

/// What the configuration says already.
struct Known {
    /// Its text, if its sources are to stay.
    text: Option<String>,
    state: PathBuf,
    name: Option<String>,
}

impl Known {
    fn read(path: &Path, arguments: &Arguments) -> Result<Self> {
        let text = std::fs::read_to_string(path).ok().filter(|text| !is_template(text));
        // One that was written for other logs, and not edited since, is written anew for these.
        let text = text.filter(|text| arguments.logs.is_empty() || !is_untouched(text));
        let document: toml_edit::DocumentMut =
            text.as_deref().unwrap_or_default().parse().with_context(|| format!("{}", path.display()))?;
        let own = document.get("state").and_then(|state| state.as_str()).map(PathBuf::from);
        let state = match (&arguments.state, own) {
            (Some(state), _) => absolute(state)?,
            (None, Some(own)) => seatmeter_service::config::beside(path, &own),
            (None, None) => state_folder("agent", path),
        };
        let name = document.get("license_server").and_then(|server| server.get("name")).and_then(|name| name.as_str());
        Ok(Self { name: name.map(str::to_owned), state, text })
    }
}

/// Returns the sources to configure, where those of the configuration do not stay.
fn sources(arguments: &Arguments, known: &Known) -> Result<Vec<Proposal>> {
    if known.text.is_some() {
        if !arguments.logs.is_empty() {
            bail!("the configuration was edited: add the log there, and leave --log out");
        }
        return Ok(Vec::new());
    }
    if arguments.logs.is_empty() {
        return found();
    }
    arguments.logs.iter().map(|log| Ok(Proposal::Log(absolute(log)?))).collect()
}

/// Starts the service, or starts it anew.
fn start() -> Result<()> {
    if cfg!(windows) {
        run_each("seatmeter-agent", &[&["service", "stop"], &["service", "start"]])
    } else {
        run_each("systemctl", &[&["enable", "seatmeter-agent"], &["restart", "seatmeter-agent"]])
    }
}

/// Runs a program with these arguments, one after the other. On Windows, it is this program itself.
fn run_each(program: &str, all: &[&[&str]]) -> Result<()> {
    let path = if cfg!(windows) {
        std::env::current_exe().context("the program cannot find its own path")?
    } else {
        program.into()
    };
    for arguments in all {
        let ran = Command::new(&path).args(*arguments).stdin(Stdio::null()).output();
        let ran =
            ran.with_context(|| format!("{program} cannot be run: start the agent by hand, or add --no-start"))?;
        if !ran.status.success() {
            let said = String::from_utf8_lossy(&ran.stderr);
            bail!("{program} {}: {}; start the agent by hand", arguments.join(" "), said.trim());
        }
    }
    Ok(())
}

/// Waits until the service says that it delivers.
fn wait_until_delivered(state: &Path) -> Result<ExitCode> {
    let (began, deadline) = (jiff::Timestamp::now().as_second(), Instant::now() + PATIENCE);
    let mut last = "it has not reported yet".to_owned();
    while Instant::now() < deadline {
        let status =
            std::fs::read(status_file(state)).ok().and_then(|text| serde_json::from_slice::<Status>(&text).ok());
        match status.filter(|status| status.at >= began) {
            Some(status) if status.uplink == UplinkState::Connected => {
                answer!("delivering  {}", visible(&status.aggregator));
                return Ok(ExitCode::SUCCESS);
            }
            Some(status) => last = status.uplink.to_string(),
            None => {}
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    bail!("the agent is enrolled and started, and does not deliver yet: {last}; see `seatmeter-agent status`")
}
