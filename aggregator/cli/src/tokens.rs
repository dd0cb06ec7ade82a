//! `seatmeter tokens`: tokens for programs, and those of logins.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::builder::NonEmptyStringValueParser;
use seatmeter_proto::v1::operator_service_client::OperatorServiceClient;
use seatmeter_proto::v1::{CreateTokenRequest, ListTokensRequest, RevokeTokenRequest, Token as Told};
use seatmeter_service::screen::table::{Column, Kind, View};
use seatmeter_service::screen::text::{utc, visible};
use seatmeter_service::{answer, private};
use serde::Serialize;

use crate::connect::Channel;
use crate::months::time;
use crate::notes::{print_whole, stamp};
use crate::profile::Token;

/// What is done about tokens.
#[derive(clap::Subcommand)]
pub(crate) enum Tokens {
    /// Make a token for a program, which may then do what you may: print it, this once
    ///
    /// Programs send it as `authorization: Bearer TOKEN`; `seatmeter` reads it with --token-file.
    ///
    /// Example: seatmeter tokens create --for "monthly report" --ttl 365d --file report.token
    Create {
        /// What it is for
        #[arg(long = "for", value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
        label: String,
        /// How long it lasts, up to 366 days: 12h, 90d
        #[arg(long, value_name = "TIME", default_value = "90d", value_parser = time)]
        ttl: prost_types::Duration,
        /// Write it into this file, which nobody else may read
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Your valid tokens and when they were last used; an administrator sees all
    List {
        /// Only this operator's
        #[arg(long, value_name = "NAME")]
        operator: Option<String>,
    },
    /// End a token, at once
    ///
    /// Example: seatmeter tokens revoke 1c80e7
    Revoke {
        /// The token, as `seatmeter tokens list` shows it; its first digits are enough
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        id: String,
    },
}

/// A token. The field names are those in JSON and CSV, and must not change.
#[derive(Serialize)]
struct Row {
    id: String,
    operator: String,
    label: String,
    created_at: Option<String>,
    last_used: Option<String>,
    expires_at: Option<String>,
}

/// A new token. The field names are those in JSON, and must not change.
#[derive(Serialize)]
struct Created {
    token: String,
    #[serde(flatten)]
    row: Row,
}

const COLUMNS: &[Column] = &[
    Column::new("id", "Token", Kind::Id, 0),
    Column::new("operator", "Operator", Kind::Text, 0),
    Column::new("label", "For", Kind::Text, 0),
    Column::new("created_at", "Made", Kind::Time, 1),
    Column::new("last_used", "Last used", Kind::Time, 0),
    Column::new("expires_at", "Ends", Kind::Time, 0),
];

impl From<Told> for Row {
    fn from(token: Told) -> Self {
        Self {
            id: token.id,
            operator: token.operator,
            label: token.label,
            created_at: stamp(token.created_at.as_ref()),
            last_used: stamp(token.used_at.as_ref()),
            expires_at: stamp(token.expires_at.as_ref()),
        }
    }
}

pub(crate) async fn tokens(channel: &Channel, asked: Tokens, view: &View) -> Result<bool> {
    let mut client = OperatorServiceClient::new(channel.clone());
    match asked {
        Tokens::Create { label, ttl, file } => {
            if let Some(there) = file.as_ref().filter(|file| file.exists()) {
                bail!("{} exists: name another file", there.display());
            }
            let token = Token::new()?;
            let request = CreateTokenRequest { token_sha256: token.sha256(), label, valid_for: Some(ttl) };
            let created = client.create_token(request).await?.into_inner().token.unwrap_or_default();
            let told = created.expires_at.map_or_else(String::new, |end| utc(end.seconds));
            let told = format!("Token {} for {:?}, until {told}", created.id, visible(&created.label));
            match file {
                Some(file) => {
                    let text = format!("{}\n", token.text());
                    private::write(&file, text.as_bytes(), None)
                        .with_context(|| format!("cannot write {}", file.display()))?;
                    answer!("{told}, is in {}.", file.display());
                }
                None if view.is_json() => {
                    let created = Created { token: token.text().to_owned(), row: created.into() };
                    answer!("{}", serde_json::to_string_pretty(&created)?);
                }
                None => {
                    // Beside the answer, so that the token alone goes where that goes.
                    if view.is_for_people() {
                        eprintln!("{told}. It is shown this once:\n");
                    }
                    answer!("{}", token.text());
                }
            }
            Ok(true)
        }
        Tokens::List { operator } => list(client, operator.unwrap_or_default(), view).await,
        Tokens::Revoke { id } => {
            let ended = client.revoke_token(RevokeTokenRequest { id }).await?.into_inner().token.unwrap_or_default();
            answer!(
                "Token {} of {}, for {:?}, is valid no more.",
                ended.id,
                visible(&ended.operator),
                visible(&ended.label)
            );
            Ok(true)
        }
    }
}

async fn list(mut client: OperatorServiceClient<Channel>, operator: String, view: &View) -> Result<bool> {
    let mut request = ListTokensRequest { operator, page_size: 1000, page_token: String::new() };
    let mut rows: Vec<Row> = Vec::new();
    let (time_zone, total) = loop {
        let page = client.list_tokens(request.clone()).await?.into_inner();
        rows.extend(page.tokens.into_iter().map(Row::from));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break (page.time_zone, page.total_size as u64);
        }
    };
    print_whole(view, COLUMNS, &rows, (total, time_zone))?;
    Ok(true)
}
