//! `seatmeter operators`: who may ask and change what.

use anyhow::{Context, Result};
use clap::ValueEnum;
use clap::builder::NonEmptyStringValueParser;
use seatmeter_proto::v1::operator_service_client::OperatorServiceClient;
use seatmeter_proto::v1::{
    AddOperatorRequest, ChangeOperatorRequest, InviteOperatorRequest, ListOperatorsRequest, Operator, Role,
};
use seatmeter_service::answer;
use seatmeter_service::screen::table::{Column, Kind, View, WIDE};
use seatmeter_service::screen::text::{utc, visible};
use serde::Serialize;

use crate::connect::{Channel, Connection};
use crate::months::time;
use crate::notes::{print_whole, stamp};

/// What is done about operators.
#[derive(clap::Subcommand)]
pub(crate) enum Operators {
    /// Add an operator: print the line with which they log in
    ///
    /// Whoever has the line can log in in their place until somebody has: send it as you would a password.
    ///
    /// Examples:
    ///   seatmeter operators add anna --role admin
    ///   seatmeter operators add billing@example.com --role reporter --ttl 2h
    ///   seatmeter operators add it@acme.example --role viewer --customer acme
    #[command(verbatim_doc_comment)]
    Add {
        /// The name
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        name: String,
        /// What they may do
        #[arg(long, value_name = "ROLE")]
        role: Allowed,
        /// The DNS name or mail address in a certificate that lets them in without a token
        #[arg(long, value_name = "NAME")]
        certificate_name: Option<String>,
        /// Confine them to the reports of this customer, by its short name; the role must be viewer
        #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
        customer: String,
        #[command(flatten)]
        invited: Invited,
    },
    /// Print another line for an operator to log in with: on another machine, or after the token has ended
    ///
    /// Example: seatmeter operators invite anna
    Invite {
        /// The name
        name: String,
        #[command(flatten)]
        invited: Invited,
    },
    /// The operators, what they may do, and when they last called
    List,
    /// Give an operator another role
    ///
    /// Example: seatmeter operators role anna viewer
    Role {
        /// The name
        name: String,
        /// What they may do
        role: Allowed,
    },
    /// Let an operator in no longer, at once: their tokens and invitations end
    Disable {
        /// The name
        name: String,
    },
    /// Let an operator in again, who needs a new invitation
    Enable {
        /// The name
        name: String,
    },
}

#[derive(clap::Args)]
pub(crate) struct Invited {
    /// How long the line can be used, up to 30 days: 30m, 2h, 7d
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = time)]
    ttl: prost_types::Duration,
    /// The aggregator's address as they reach it, where it is not the one that you do
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

/// What an operator may do.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Allowed {
    /// See figures, license servers and agents, but no names of users
    Viewer,
    /// See the names of users, too
    Reporter,
    /// Change everything, and read the audit trail
    Admin,
}

impl From<Allowed> for Role {
    fn from(allowed: Allowed) -> Self {
        match allowed {
            Allowed::Viewer => Self::Viewer,
            Allowed::Reporter => Self::Reporter,
            Allowed::Admin => Self::Admin,
        }
    }
}

/// Returns a role as operators write it.
pub(crate) fn role_word(role: i32) -> &'static str {
    match Role::try_from(role) {
        Ok(Role::Viewer) => "viewer",
        Ok(Role::Reporter) => "reporter",
        Ok(Role::Admin) => "admin",
        Ok(Role::Unspecified) | Err(_) => "unknown",
    }
}

/// An operator. The field names are those in JSON and CSV, and must not change.
#[derive(Serialize)]
struct Row {
    status: &'static str,
    name: String,
    role: &'static str,
    tokens: u32,
    last_seen: Option<String>,
    added_at: Option<String>,
    added_by: Option<String>,
    certificate_name: Option<String>,
    customer: Option<String>,
}

const COLUMNS: &[Column] = &[
    Column::new("status", "Status", Kind::State, 0),
    Column::new("name", "Name", Kind::Text, 0),
    Column::new("role", "Role", Kind::Text, 0),
    Column::new("tokens", "Tokens", Kind::Number, 1),
    Column::new("last_seen", "Last seen", Kind::Time, 0),
    Column::new("added_at", "Added", Kind::Time, 2),
    Column::new("added_by", "Added by", Kind::Text, 2),
    Column::new("certificate_name", "Certificate", Kind::Text, WIDE),
    Column::new("customer", "Customer", Kind::Text, 3),
];

impl From<Operator> for Row {
    fn from(operator: Operator) -> Self {
        let can_log_in = operator.tokens > 0 || !operator.certificate_name.is_empty();
        let status = match (operator.disabled, can_log_in) {
            (true, _) => "disabled",
            (false, false) => "not logged in",
            (false, true) => "ok",
        };
        Self {
            status,
            role: role_word(operator.role),
            tokens: operator.tokens,
            last_seen: stamp(operator.seen_at.as_ref()),
            added_at: stamp(operator.added_at.as_ref()),
            added_by: Some(operator.added_by).filter(|name| !name.is_empty()),
            certificate_name: Some(operator.certificate_name).filter(|name| !name.is_empty()),
            customer: Some(operator.customer).filter(|name| !name.is_empty()),
            name: operator.name,
        }
    }
}

pub(crate) async fn operators(
    connection: &Connection,
    channel: &Channel,
    asked: Operators,
    view: &View,
) -> Result<bool> {
    let mut client = OperatorServiceClient::new(channel.clone());
    let url = |invited: &Invited| invited.url.clone().map_or_else(|| connection.url(), Ok);
    match asked {
        Operators::Add { name, role, certificate_name, customer, invited } => {
            let request = AddOperatorRequest {
                name,
                role: Role::from(role).into(),
                certificate_name: certificate_name.unwrap_or_default(),
                url: url(&invited)?,
                valid_for: Some(invited.ttl),
                customer,
            };
            let added = client.add_operator(request).await?.into_inner();
            let operator = added.operator.unwrap_or_default();
            let whom = format!("{} is added as {}", visible(&operator.name), role_word(operator.role));
            tell_line(&whom, &added.invitation, added.expires_at, view)
        }
        Operators::Invite { name, invited } => {
            let request =
                InviteOperatorRequest { name: name.clone(), url: url(&invited)?, valid_for: Some(invited.ttl) };
            let again = client.invite_operator(request).await?.into_inner();
            tell_line(&format!("{} is invited", visible(&name)), &again.invitation, again.expires_at, view)
        }
        Operators::List => list(client, view).await,
        Operators::Role { name, role } => change(client, name, Some(role.into()), None).await,
        Operators::Disable { name } => change(client, name, None, Some(true)).await,
        Operators::Enable { name } => change(client, name, None, Some(false)).await,
    }
}

/// A line to log in, or to enrol with. The field names are those in JSON, and must not change.
#[derive(Serialize)]
pub(crate) struct Line {
    pub(crate) line: String,
    pub(crate) expires_at: Option<String>,
}

/// Prints the line to log in with.
fn tell_line(whom: &str, line: &str, expires_at: Option<prost_types::Timestamp>, view: &View) -> Result<bool> {
    if view.is_json() {
        let line = Line { line: line.to_owned(), expires_at: stamp(expires_at.as_ref()) };
        answer!("{}", serde_json::to_string_pretty(&line)?);
    } else if view.is_for_people() {
        let expires = expires_at.context("the answer has no end")?;
        answer!("{whom}. This line is for one login, until {}:\n", utc(expires.seconds));
        answer!("seatmeter login {line}");
    } else {
        answer!("{line}");
    }
    Ok(true)
}

async fn change(
    mut client: OperatorServiceClient<Channel>,
    name: String,
    role: Option<Role>,
    disabled: Option<bool>,
) -> Result<bool> {
    let request = ChangeOperatorRequest { name, role: role.unwrap_or_default().into(), disabled };
    let operator = client.change_operator(request).await?.into_inner().operator.unwrap_or_default();
    let (name, role) = (visible(&operator.name), role_word(operator.role));
    match (operator.disabled, disabled) {
        (true, _) => answer!("{name}, {role}, is not let in."),
        (false, Some(false)) => answer!("{name}, {role}, may log in again: `seatmeter operators invite {name}`."),
        (false, _) => answer!("{name} is {role} now."),
    }
    Ok(true)
}

async fn list(mut client: OperatorServiceClient<Channel>, view: &View) -> Result<bool> {
    let mut request = ListOperatorsRequest { page_size: 1000, page_token: String::new() };
    let mut rows: Vec<Row> = Vec::new();
    let (time_zone, total) = loop {
        let page = client.list_operators(request.clone()).await?.into_inner();
        rows.extend(page.operators.into_iter().map(Row::from));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break (page.time_zone, page.total_size as u64);
        }
    };
    print_whole(view, COLUMNS, &rows, (total, time_zone))?;
    Ok(true)
}
