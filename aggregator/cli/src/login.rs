//! `seatmeter login`, `logout` and `whoami`.

use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use ring::digest::{SHA256, digest};
use seatmeter_proto::invitation::{Invitation, MARK};
use seatmeter_proto::tls::PinnedAuthority;
use seatmeter_proto::transport::{Credentials, Dialer, host};
use seatmeter_proto::v1::operator_service_client::OperatorServiceClient;
use seatmeter_proto::v1::{GetSelfRequest, LogInRequest, Operator, RevokeTokenRequest};
use seatmeter_service::screen::table::View;
use seatmeter_service::screen::text::{minute, utc, visible};
use seatmeter_service::{answer, private};
use serde::Serialize;
use tonic::{Code, Request};

use crate::connect::{Bearer, Channel, Connection, Unreachable, pem_of};
use crate::notes::{stamp, tell_zone, yellow, zone};
use crate::operators::role_word;
use crate::profile::{self, Pending, Profile, Token};

/// Log in, with the line that an administrator has given you
///
/// Makes a token on this machine, has it made valid, and keeps it in a file that nobody else may read. From then on, all commands
/// know the aggregator, and the aggregator knows you.
///
/// Examples:
///   seatmeter login seatmeter1.Wd3...
///   seatmeter login                     asks for the line
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Login {
    /// The line, from "seatmeter1." on; without it, it is read from standard input
    line: Option<String>,
    /// What the token is for, as a list of tokens shows it; by default, your name and that of this machine
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
}

/// Returns what a token is for, as it is shown: who uses it, and where.
fn usual_label() -> String {
    let user = ["USER", "USERNAME"].into_iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default();
    let host = hostname::get().ok().and_then(|host| host.into_string().ok()).unwrap_or_default();
    let label = if user.is_empty() { host } else { format!("{user}@{host}") };
    label.chars().filter(char::is_ascii_graphic).take(100).collect()
}

pub(crate) async fn login(connection: &Connection, asked: Login) -> Result<bool> {
    let line = match asked.line {
        Some(line) => line,
        None => {
            let mut text = String::new();
            let read = if io::stdin().is_terminal() {
                eprintln!("Paste the line that you were given:");
                io::stdin().read_line(&mut text)
            } else {
                io::stdin().read_to_string(&mut text)
            };
            read.context("cannot read the line")?;
            text
        }
    };
    // Whatever stands around it, as it was copied or piped.
    let line = line.split_whitespace().find(|word| word.starts_with(MARK)).unwrap_or(&line);
    let invitation: Invitation = line.parse()?;
    let path = connection.login_file()?;
    let digits = data_encoding::HEXLOWER.encode(digest(&SHA256, line.as_bytes()).as_ref());
    // If an answer was lost, the token that it was to make valid is asked for again.
    let pending_file = path.with_extension("pending");
    let pending = profile::load::<Pending>(&pending_file)?.filter(|pending| pending.invitation == digits);
    let token = pending.map_or_else(Token::new, |pending| Ok(pending.token))?;
    profile::save(&pending_file, &Pending { invitation: digits, token: token.clone() })?;
    let pinned = invitation.authority.filter(|_| connection.authority().is_none()).map(PinnedAuthority::new);
    let credentials = match &pinned {
        Some(pinned) => Some(Credentials::Fixed(pinned.clone().tls()?)),
        None => connection.credentials(None),
    };
    let dialer = Dialer::new(&invitation.url, credentials)?;
    let mut client = OperatorServiceClient::new(dialer.connect().await.map_err(Unreachable)?);
    let request = LogInRequest {
        secret: invitation.secret.to_vec(),
        token_sha256: token.sha256(),
        label: asked.label.unwrap_or_else(usual_label),
    };
    let before = profile::load::<Profile>(&path)?;
    let answer = match client.log_in(request).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => {
            if status.code() == Code::PermissionDenied {
                profile::forget(&pending_file)?;
            }
            if status.code() == Code::Unimplemented {
                bail!(
                    "this line is for `seatmeter-agent enroll`: one to log in with comes of `seatmeter operators invite`"
                );
            }
            return Err(status.into());
        }
    };
    let authority = keep_authority(&path, pinned.as_deref(), connection.authority())?;
    profile::save(&path, &Profile { aggregator: invitation.url.clone(), authority, token })?;
    profile::forget(&pending_file)?;
    if let Some(before) = before.filter(|before| host(&before.aggregator) == host(&invitation.url)) {
        // Nobody has it any more. It ends by itself if this fails.
        let mut request = Request::new(RevokeTokenRequest::default());
        Bearer::new(Some(&before.token))?.put_into(&mut request);
        let _ = client.revoke_token(request).await;
    }
    let operator = answer.operator.unwrap_or_default();
    let until = utc(answer.expires_at.context("the answer has no end")?.seconds);
    answer!(
        "You are logged in to {} as {}, {}, until {until}.",
        visible(&invitation.url),
        visible(&operator.name),
        role_word(operator.role)
    );
    Ok(true)
}

/// Keeps the authority that the aggregator was known by, beside the login. Returns its file.
fn keep_authority(login: &Path, pinned: Option<&PinnedAuthority>, named: Option<&PathBuf>) -> Result<Option<PathBuf>> {
    let path = login.with_extension("pem");
    let text = match (pinned.and_then(PinnedAuthority::shown), named) {
        (Some(shown), _) => pem_of(&[shown]),
        (None, Some(named)) => {
            std::fs::read_to_string(named).with_context(|| format!("cannot read {}", named.display()))?
        }
        (None, None) => return Ok(None),
    };
    private::write(&path, text.as_bytes(), None).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Some(std::path::absolute(&path)?))
}

/// Ends the token of the login, and forgets the login.
pub(crate) async fn logout(connection: &Connection) -> Result<bool> {
    let path = connection.login_file()?;
    if profile::load::<Profile>(&path)?.is_none() {
        answer!("You were not logged in.");
        return Ok(true);
    }
    let ended = match connection.open().await {
        Ok(channel) => {
            let ended = OperatorServiceClient::new(channel).revoke_token(RevokeTokenRequest::default()).await;
            ended.map(drop).map_err(anyhow::Error::from)
        }
        Err(error) => Err(error),
    };
    profile::forget(&path)?;
    profile::forget(&path.with_extension("pem"))?;
    // Its folder, too, if nothing else is in it.
    let _ = path.parent().map(std::fs::remove_dir);
    match ended {
        Ok(()) => answer!("You are logged out, and the token is valid no more."),
        Err(error) => {
            answer!("You are logged out here.");
            let reason = crate::explain::explain(&error);
            anstream::eprintln!(
                "{}: the aggregator could not be told, so the token is valid until its end: {reason}",
                yellow("note")
            );
        }
    }
    Ok(true)
}

/// Who the caller is. The field names are those in JSON, and must not change.
#[derive(Serialize)]
struct Myself {
    name: String,
    role: &'static str,
    aggregator: String,
    token: Option<String>,
    expires_at: Option<String>,
}

pub(crate) async fn whoami(connection: &Connection, channel: &Channel, view: &View) -> Result<bool> {
    let told = OperatorServiceClient::new(channel.clone()).get_self(GetSelfRequest {}).await?.into_inner();
    let (Operator { name, role, .. }, token) = (told.operator.unwrap_or_default(), told.token);
    let expires = token.as_ref().and_then(|token| token.expires_at);
    let myself = Myself {
        name,
        role: role_word(role),
        aggregator: connection.url()?,
        token: token.map(|token| token.id),
        expires_at: stamp(expires.as_ref()),
    };
    if !view.is_for_people() {
        answer!("{}", serde_json::to_string_pretty(&myself)?);
        return Ok(true);
    }
    let zone = zone(&told.time_zone);
    let until =
        expires.map_or_else(|| "by certificate".to_owned(), |end| format!("until {}", minute(end.seconds, &zone)));
    answer!("{}, {}, {until}, at {}", visible(&myself.name), myself.role, visible(&myself.aggregator));
    tell_zone(&zone);
    Ok(true)
}
