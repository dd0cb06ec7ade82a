//! `seatmeter rules`: the rules by which usage is counted and billed.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use seatmeter_proto::v1::rule_service_client::RuleServiceClient;
use seatmeter_proto::v1::{
    ChangeRulesRequest, ExportRulesRequest, GetRuleVersionRequest, ImportRulesRequest, ListRuleVersionsRequest,
    ListRulesRequest, Rule, RuleEffect, RuleFormat, RuleVersion, UndoRuleVersionRequest,
};
use seatmeter_service::answer;
use seatmeter_service::screen::table::{Column, Kind, View, WIDE};
use seatmeter_service::screen::text::{count, visible};
use serde::Serialize;

use crate::connect::Channel;
use crate::notes::{print_whole, stamp, yellow, zone};
use crate::rule_words::{people, words};

/// The most bytes of an answer: a thousand rules, or what a change comes to.
const LONGEST: usize = 64 << 20;

/// What is done about rules.
#[derive(clap::Subcommand)]
pub(crate) enum Rules {
    /// The rules that are in force
    ///
    /// Examples:
    ///   seatmeter rules list --kind free          who is free
    ///   seatmeter rules list --month 2026-11      what was valid then
    #[command(verbatim_doc_comment)]
    List {
        /// Only this kind: counted, domains, domain, alias, split, no_person, department, free, sku, never_counted, customer, assign or
        /// entitled
        #[arg(long, value_name = "KIND", default_value = "", hide_default_value = true)]
        kind: String,
        /// Only rules that are valid in this month, as YYYY-MM
        #[arg(long, value_name = "MONTH", default_value = "", hide_default_value = true)]
        month: String,
    },
    /// Add rules, written as in a file of rules
    ///
    /// Examples:
    ///   seatmeter rules add 'free = { who = { user = "jo" }, cause = "test", from = "2026-11" }'
    ///   seatmeter rules add 'customer = { id = "acme", name = "Acme Ltd" }'
    ///   seatmeter rules add 'assign = { customer = "acme", who = { server = "LIC01" } }'
    #[command(verbatim_doc_comment)]
    Add {
        /// The rules
        #[arg(required = true)]
        rules: Vec<String>,
        #[command(flatten)]
        how: How,
    },
    /// Add the rules of a file; with --as, in place of those that were imported as the same before
    ///
    /// A file is TOML, as `rules export` writes it, or a table with a header line (CSV).
    /// For free users: user, realm, pattern, domain, department, server, feature, cause
    /// (trial, test, administrative, internal), reason, from, through, cap.
    /// For a directory: user, mail, upn, department, realm.
    ///
    /// Examples:
    ///   seatmeter rules import free.csv --table free --as hr --preview
    ///   seatmeter rules import catalogue.toml --reason "new price list"
    #[command(verbatim_doc_comment)]
    Import {
        /// The file; - reads the standard input
        file: PathBuf,
        /// What the table is of
        #[arg(long, value_name = "KIND")]
        table: Option<Table>,
        /// A name for the source: what came from it before and is not in the file any more is removed
        #[arg(long = "as", value_name = "NAME", default_value = "", hide_default_value = true)]
        origin: String,
        #[command(flatten)]
        how: How,
    },
    /// Remove rules, by the numbers that `rules list` shows
    ///
    /// Example: seatmeter rules remove 12 13 --reason "left the company"
    Remove {
        /// The numbers
        #[arg(required = true)]
        numbers: Vec<u64>,
        #[command(flatten)]
        how: How,
    },
    /// Write the rules that are in force as a file, which `rules import` takes
    ///
    /// Example: seatmeter rules export --kind sku >catalogue.toml
    Export {
        /// Only this kind
        #[arg(long, value_name = "KIND", default_value = "", hide_default_value = true)]
        kind: String,
    },
    /// Who changed the rules, when and why
    Log,
    /// What a version of the rules has changed
    ///
    /// Example: seatmeter rules show 12
    Show {
        /// The number that `rules log` shows
        version: u64,
    },
    /// Take a version back: remove what it has added, add what it has removed
    ///
    /// Example: seatmeter rules undo 12 --preview
    Undo {
        /// The number that `rules log` shows
        version: u64,
        #[command(flatten)]
        how: How,
    },
}

/// How a change is made.
#[derive(clap::Args)]
pub(crate) struct How {
    /// Why; it stays with the change
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    /// Say which figures and people would change, and change nothing
    #[arg(long)]
    preview: bool,
    /// Only if the rules are still of this version, as a preview has shown it
    #[arg(long, value_name = "VERSION", default_value = "", hide_default_value = true)]
    seen: String,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Table {
    /// Who is free
    Free,
    /// The accounts of people
    Directory,
}

/// A rule. The field names are those in JSON and CSV, and must not change.
#[derive(Serialize)]
struct RuleRow {
    number: u64,
    kind: &'static str,
    rule: String,
    from: Option<String>,
    through: Option<String>,
    origin: Option<String>,
    reason: Option<String>,
}

const COLUMNS: &[Column] = &[
    Column::new("number", "Number", Kind::Number, 0),
    Column::new("kind", "Kind", Kind::Text, 0),
    Column::new("rule", "Rule", Kind::Text, 0),
    Column::new("from", "From", Kind::Text, 1),
    Column::new("through", "Through", Kind::Text, 1),
    Column::new("origin", "Origin", Kind::Text, 3),
    Column::new("reason", "Reason", Kind::Text, 2),
];

impl From<&Rule> for RuleRow {
    fn from(rule: &Rule) -> Self {
        let told = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let (kind, text) = words(rule);
        Self {
            number: rule.number,
            kind,
            rule: text,
            from: told(&rule.from_month),
            through: told(&rule.through_month),
            origin: told(&rule.origin),
            reason: told(&rule.reason),
        }
    }
}

#[derive(Serialize)]
struct Envelope {
    total: i64,
    version: String,
}

/// A version. The field names are those in JSON and CSV, and must not change.
#[derive(Serialize)]
struct VersionRow {
    number: u64,
    version: String,
    made_at: Option<String>,
    author: String,
    added: u64,
    removed: u64,
    undoes: Option<u64>,
    reason: Option<String>,
    sha256: String,
}

const VERSION_COLUMNS: &[Column] = &[
    Column::new("number", "Number", Kind::Number, 0),
    Column::new("version", "Version", Kind::Text, 2),
    Column::new("made_at", "Made", Kind::Time, 0),
    Column::new("author", "By", Kind::Text, 0),
    Column::new("added", "Added", Kind::Number, 0),
    Column::new("removed", "Removed", Kind::Number, 0),
    Column::new("undoes", "Undoes", Kind::Number, 3),
    Column::new("reason", "Reason", Kind::Text, 1),
    Column::new("sha256", "SHA-256", Kind::Text, WIDE),
];

impl From<RuleVersion> for VersionRow {
    fn from(version: RuleVersion) -> Self {
        let sha256 = data_encoding::HEXLOWER.encode(&version.sha256);
        Self {
            number: version.number,
            version: sha256.chars().take(12).collect(),
            made_at: stamp(version.made_at.as_ref()),
            author: if version.author.is_empty() { "configuration".into() } else { version.author },
            added: version.added,
            removed: version.removed,
            undoes: Some(version.undoes).filter(|number| *number > 0),
            reason: Some(version.reason).filter(|reason| !reason.is_empty()),
            sha256,
        }
    }
}

/// What a change comes to. The field names are those in JSON, and must not change.
#[derive(Serialize)]
struct EffectJson {
    version: String,
    preview: bool,
    added: u64,
    removed: u64,
    months: Vec<MonthJson>,
}

#[derive(Serialize)]
struct MonthJson {
    month: String,
    lines: Vec<LineJson>,
    people: Vec<PersonJson>,
    people_count: u64,
}

#[derive(Serialize)]
struct LineJson {
    customer: Option<String>,
    sku: String,
    before: u64,
    after: u64,
}

#[derive(Serialize)]
struct PersonJson {
    realm: String,
    person: String,
    before: Vec<String>,
    after: Vec<String>,
}

pub(crate) async fn rules(channel: &Channel, asked: Rules, view: &View) -> Result<bool> {
    let mut client =
        RuleServiceClient::new(channel.clone()).max_decoding_message_size(LONGEST).max_encoding_message_size(LONGEST);
    let (effect, preview) = match asked {
        Rules::List { kind, month } => return list(&mut client, kind, month, view).await,
        Rules::Export { kind } => return export(&mut client, kind).await,
        Rules::Log => return log(&mut client, view).await,
        Rules::Show { version } => return show(&mut client, version, view).await,
        Rules::Add { rules, how } => {
            let format = RuleFormat::Toml.into();
            let text = one_file(&rules)?;
            let How { reason, preview, seen: seen_version } = how;
            let request = ImportRulesRequest { format, text, origin: String::new(), reason, seen_version, preview };
            (client.import_rules(request).await?.into_inner().effect, preview)
        }
        Rules::Import { file, table, origin, how } => {
            let text = read(&file)?;
            let format = match table {
                Some(Table::Free) => RuleFormat::FreeCsv,
                Some(Table::Directory) => RuleFormat::DirectoryCsv,
                None if file.extension().is_some_and(|end| end.eq_ignore_ascii_case("csv")) => {
                    bail!("say what the table is of: --table free, or --table directory")
                }
                None => RuleFormat::Toml,
            };
            let How { reason, preview, seen: seen_version } = how;
            let request = ImportRulesRequest { format: format.into(), text, origin, reason, seen_version, preview };
            (client.import_rules(request).await?.into_inner().effect, preview)
        }
        Rules::Remove { numbers, how: How { reason, preview, seen: seen_version } } => {
            let request = ChangeRulesRequest { add: Vec::new(), remove: numbers, reason, seen_version, preview };
            (client.change_rules(request).await?.into_inner().effect, preview)
        }
        Rules::Undo { version: number, how: How { reason, preview, seen: _ } } => {
            let request = UndoRuleVersionRequest { number, reason, preview };
            (client.undo_rule_version(request).await?.into_inner().effect, preview)
        }
    };
    tell(effect.unwrap_or_default(), preview, view)?;
    Ok(true)
}

/// Returns rules as one file of rules, in which several can be of one kind.
fn one_file(rules: &[String]) -> Result<String> {
    let mut file = toml::Table::new();
    for rule in rules {
        let table: toml::Table = toml::from_str(rule)
            .with_context(|| format!("{rule:?} is no rule: write it as split = {{ user = \"jo\" }}"))?;
        for (kind, entry) in table {
            let entries = file.entry(kind).or_insert_with(|| toml::Value::Array(Vec::new()));
            if let toml::Value::Array(entries) = entries {
                match entry {
                    toml::Value::Array(more) => entries.extend(more),
                    one => entries.push(one),
                }
            }
        }
    }
    Ok(toml::to_string(&file)?)
}

fn read(file: &PathBuf) -> Result<String> {
    let failed = || format!("cannot read {}", file.display());
    let bytes = if file.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin(), &mut bytes).with_context(failed)?;
        bytes
    } else {
        std::fs::read(file).with_context(failed)?
    };
    String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        anyhow::anyhow!("{} is not UTF-8 (line {}): save it as \"CSV UTF-8\"", file.display(), line + 1)
    })
}

async fn list(client: &mut RuleServiceClient<Channel>, kind: String, month: String, view: &View) -> Result<bool> {
    let mut request = ListRulesRequest { kind, month, page_size: 1000, page_token: String::new() };
    let mut rows = Vec::new();
    let envelope = loop {
        let page = client.list_rules(request.clone()).await?.into_inner();
        rows.extend(page.rules.iter().map(RuleRow::from));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break Envelope { total: page.total_size, version: page.version };
        }
    };
    view.print(COLUMNS, &rows, &envelope, &zone(""))?;
    if view.is_for_people() {
        let rules = count(rows.len() as u64, "rule");
        answer!("{rules}, version {}. What is built in is not among them.", envelope.version);
    }
    Ok(true)
}

async fn export(client: &mut RuleServiceClient<Channel>, kind: String) -> Result<bool> {
    let mut pieces = client.export_rules(ExportRulesRequest { kind }).await?.into_inner();
    while let Some(piece) = pieces.message().await? {
        let mut out = std::io::stdout().lock();
        std::io::Write::write_all(&mut out, piece.text.as_bytes())?;
    }
    Ok(true)
}

async fn log(client: &mut RuleServiceClient<Channel>, view: &View) -> Result<bool> {
    let mut request = ListRuleVersionsRequest { page_size: 1000, page_token: String::new() };
    let mut rows: Vec<VersionRow> = Vec::new();
    let told = loop {
        let page = client.list_rule_versions(request.clone()).await?.into_inner();
        rows.extend(page.versions.into_iter().map(VersionRow::from));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break (page.total_size as u64, page.time_zone);
        }
    };
    print_whole(view, VERSION_COLUMNS, &rows, told)?;
    Ok(true)
}

async fn show(client: &mut RuleServiceClient<Channel>, number: u64, view: &View) -> Result<bool> {
    let found = client.get_rule_version(GetRuleVersionRequest { number }).await?.into_inner();
    let mut rows: Vec<ChangedRow> = Vec::new();
    for (change, rules) in [("removed", &found.removed), ("added", &found.added)] {
        rows.extend(rules.iter().map(|rule| ChangedRow { change, rule: rule.into() }));
    }
    print_whole(view, CHANGED_COLUMNS, &rows, (rows.len() as u64, found.time_zone))?;
    Ok(true)
}

/// A rule that a version has added or removed. The field names are those in JSON and CSV, and must not change.
#[derive(Serialize)]
struct ChangedRow {
    change: &'static str,
    #[serde(flatten)]
    rule: RuleRow,
}

const CHANGED_COLUMNS: &[Column] = &[
    Column::new("change", "Change", Kind::Text, 0),
    Column::new("number", "Number", Kind::Number, 0),
    Column::new("kind", "Kind", Kind::Text, 0),
    Column::new("rule", "Rule", Kind::Text, 0),
    Column::new("from", "From", Kind::Text, 1),
    Column::new("through", "Through", Kind::Text, 1),
    Column::new("origin", "Origin", Kind::Text, 3),
    Column::new("reason", "Reason", Kind::Text, 2),
];

fn tell(effect: RuleEffect, preview: bool, view: &View) -> Result<()> {
    if !view.is_for_people() {
        let months = effect.months.into_iter().map(|month| MonthJson {
            month: month.month,
            lines: month
                .lines
                .into_iter()
                .map(|line| LineJson {
                    customer: Some(line.customer).filter(|name| !name.is_empty()),
                    sku: line.sku,
                    before: line.before,
                    after: line.after,
                })
                .collect(),
            people: month
                .people
                .into_iter()
                .map(|person| PersonJson {
                    realm: person.realm,
                    person: person.person,
                    before: person.before,
                    after: person.after,
                })
                .collect(),
            people_count: month.people_count,
        });
        let RuleEffect { version, added, removed, .. } = effect;
        let told = EffectJson { version, preview, added, removed, months: months.collect() };
        answer!("{}", serde_json::to_string_pretty(&told)?);
        return Ok(());
    }
    let (added, removed) = (count(effect.added, "rule"), count(effect.removed, "rule"));
    if !preview {
        answer!("{added} added, {removed} removed: the rules are of version {} now.", effect.version);
        return Ok(());
    }
    answer!("{added} would be added, {removed} removed.");
    for month in &effect.months {
        let people = people(month.people_count);
        answer!("{}: {people} charged otherwise", month.month);
        for line in &month.lines {
            let whose = if line.customer.is_empty() { String::new() } else { format!(" of {}", line.customer) };
            answer!("  {}{whose}: {} instead of {}", visible(&line.sku), line.after, line.before);
        }
        for person in month.people.iter().take(SHOWN) {
            let lines = |lines: &[String]| if lines.is_empty() { "nowhere".to_owned() } else { lines.join(", ") };
            answer!("  {}: {} instead of {}", visible(&person.person), lines(&person.after), lines(&person.before));
        }
        if month.people_count > SHOWN as u64 {
            answer!("  and {} more", month.people_count - SHOWN as u64);
        }
    }
    if effect.months.is_empty() {
        answer!("No figure of a month that has begun would change.");
    }
    anstream::eprintln!("{}: nothing is changed yet; without --preview, it is", yellow("note"));
    Ok(())
}

/// How many people a screen shows, of a month.
const SHOWN: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_on_the_command_line_are_one_file() {
        let rules = [r#"split = { user = "a, b" }"#, "split = { user = 'c' }", "domains = { rule = 'keep' }"];
        let text = one_file(&rules.map(str::to_owned)).unwrap();
        assert_eq!((text.matches("[[split]]").count(), text.matches("[[domains]]").count()), (2, 1), "{text}");
        for wrong in ["free", "free = x", "= {}"] {
            assert!(one_file(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }
}
