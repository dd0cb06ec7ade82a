//! Files of rules: TOML with all kinds, and tables (CSV) of those that come in numbers.
//!
//! In TOML, each rule is an entry of an array that is named by its kind, with `from`, `through` and `reason` beside what it says:
//!
//! ```toml
//! [[free]]
//! who = { domain = "test.example.com" }
//! cause = "test"
//! from = "2026-01"
//! reason = "the test department"
//! ```

use std::fmt::Write;

use seatmeter_count::Month;
use serde::Deserialize;
use toml::{Table, Value};

use super::rule::{Account, Alias, Department, Free, Rule, Says, Selector, account};
use seatmeter_count::name::fold_case;

/// Why a file is of no use: problems, each with its place.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is no TOML.
    #[error("{0}")]
    Syntax(#[from] toml::de::Error),
    /// Something in it makes no sense.
    #[error("{}", .0.join("\n"))]
    Entries(Vec<String>),
}

/// The most problems that are told at once.
const MOST_TOLD: usize = 20;

/// Reads rules from TOML.
pub fn parse(text: &str) -> Result<Vec<Rule>, FileError> {
    let (mut rules, mut problems) = (Vec::new(), Vec::new());
    for (kind, entries) in toml::from_str::<Table>(text)? {
        let entries = match entries {
            Value::Array(entries) => entries,
            one => vec![one],
        };
        for (index, entry) in entries.into_iter().enumerate() {
            match rule(&kind, entry) {
                Ok(rule) => rules.push(rule),
                Err(problem) if problems.len() < MOST_TOLD => {
                    problems.push(format!("{kind}, entry {}: {problem}", index + 1));
                }
                Err(_) => {}
            }
        }
    }
    if problems.is_empty() { Ok(rules) } else { Err(FileError::Entries(problems)) }
}

fn rule(kind: &str, entry: Value) -> Result<Rule, String> {
    let Value::Table(mut fields) = entry else { return Err(format!("write [[{kind}]]")) };
    let mut text = |name: &str| match fields.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("{name} must be a text")),
    };
    let month = |text: Option<String>| text.map(|text| text.parse::<Month>()).transpose();
    let from = month(text("from")?).map_err(|error| error.to_string())?;
    let through = month(text("through")?).map_err(|error| error.to_string())?;
    let reason = text("reason")?.unwrap_or_default();
    // As catalogues of earlier versions say it.
    if kind == "sku"
        && let Some(Value::Boolean(concurrent)) = fields.remove("concurrent")
        && concurrent
    {
        fields.insert("unit".into(), "concurrent".into());
    }
    let says = Table::from_iter([(kind.to_owned(), Value::Table(fields))]);
    let says = Says::deserialize(Value::Table(says)).map_err(|error| error.message().trim().to_owned())?;
    Ok(Rule { says, from, through, reason })
}

/// Writes rules as TOML, so that [`parse`] reads the same.
pub fn write<'a>(rules: impl Iterator<Item = &'a Rule>) -> String {
    let mut text = String::new();
    for rule in rules {
        // Every rule is a table of strings, numbers and booleans.
        let Ok(Value::Table(mut fields)) = Value::try_from(rule) else { continue };
        let beside: Vec<_> =
            ["from", "through", "reason"].into_iter().filter_map(|name| fields.remove_entry(name)).collect();
        for (kind, said) in fields {
            let Value::Table(mut said) = said else { continue };
            said.extend(beside.iter().cloned());
            let _ = writeln!(text, "[[{kind}]]");
            for (name, value) in said {
                let _ = writeln!(text, "{name} = {value}");
            }
            text.push('\n');
        }
    }
    text
}

/// A kind of table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKind {
    /// Who is free.
    Free,
    /// The accounts of people, as a directory exports them.
    Directory,
}

/// Reads rules from a table with a header line. Problems are told with their lines.
pub fn parse_table(kind: TableKind, text: &str) -> Result<Vec<Rule>, FileError> {
    let (mut rules, mut problems) = (Vec::new(), Vec::new());
    // Spreadsheets begin their exports with a mark, and those of some countries part fields by semicolons.
    let text = text.trim_start_matches('\u{feff}');
    let header = text.lines().next().unwrap_or_default();
    let delimiter = if header.contains(';') && !header.contains(',') { b';' } else { b',' };
    let mut table = csv::ReaderBuilder::new().delimiter(delimiter).trim(csv::Trim::All).from_reader(text.as_bytes());
    let header: Vec<String> = match table.headers() {
        Ok(header) => header.iter().map(|name| name.to_ascii_lowercase()).collect(),
        Err(error) => return Err(FileError::Entries(vec![format!("line 1: {error}")])),
    };
    let known: &[&str] = match kind {
        TableKind::Free => &FREE_COLUMNS,
        TableKind::Directory => &DIRECTORY_COLUMNS,
    };
    if let Some(unknown) = header.iter().find(|name| !known.contains(&name.as_str())) {
        let text = format!("line 1: there is no column {unknown:?}: the columns are {}", known.join(", "));
        return Err(FileError::Entries(vec![text]));
    }
    for record in table.records() {
        let (line, row) = match record {
            Ok(record) => {
                let line = record.position().map_or(0, csv::Position::line);
                let fields = header.iter().zip(record.iter()).filter(|(_, field)| !field.is_empty());
                let fields: Vec<(String, String)> =
                    fields.map(|(name, field)| (name.clone(), field.to_owned())).collect();
                (line, Ok(fields))
            }
            Err(error) => (error.position().map_or(0, csv::Position::line), Err(error.to_string())),
        };
        let read = row.and_then(|fields| match kind {
            TableKind::Free => free(&fields).map(|rule| vec![rule]),
            TableKind::Directory => person(&fields),
        });
        match read {
            Ok(read) => rules.extend(read),
            Err(problem) if problems.len() < MOST_TOLD => problems.push(format!("line {line}: {problem}")),
            Err(_) => {}
        }
    }
    if problems.is_empty() { Ok(rules) } else { Err(FileError::Entries(problems)) }
}

const FREE_COLUMNS: [&str; 12] = [
    "user",
    "realm",
    "pattern",
    "domain",
    "department",
    "server",
    "feature",
    "cause",
    "reason",
    "from",
    "through",
    "cap",
];

const DIRECTORY_COLUMNS: [&str; 5] = ["user", "mail", "upn", "department", "realm"];

fn free(fields: &[(String, String)]) -> Result<Rule, String> {
    let field = |name: &str| fields.iter().find(|(known, _)| known == name).map(|(_, text)| text.clone());
    let month = |name: &str| match field(name) {
        Some(text) => text.parse::<Month>().map(Some).map_err(|error| error.to_string()),
        None => Ok(None),
    };
    let who = Selector {
        user: field("user"),
        pattern: field("pattern"),
        domain: field("domain"),
        department: field("department"),
        feature: field("feature"),
        server: field("server"),
        realm: field("realm"),
    };
    if who.selected().is_none() {
        return Err(
            "it names nobody, or in several ways: fill one of user, pattern, domain, department, server, feature"
                .into(),
        );
    }
    let cause = field("cause").ok_or("cause is empty: write trial, test, administrative or internal")?;
    let cause = super::rule::Cause::deserialize(Value::String(cause.to_ascii_lowercase()))
        .map_err(|_| format!("cause {cause:?} is not trial, test, administrative or internal"))?;
    let cap = match field("cap") {
        Some(text) => Some(text.parse().map_err(|_| format!("cap {text:?} is no number"))?),
        None => None,
    };
    let says = Says::Free(Free { who, cause, cap });
    Ok(Rule { says, from: month("from")?, through: month("through")?, reason: field("reason").unwrap_or_default() })
}

/// Reads the accounts of a person: all are known by the first of them that there is.
fn person(fields: &[(String, String)]) -> Result<Vec<Rule>, String> {
    let field = |name: &str| fields.iter().find(|(known, _)| known == name).map(|(_, text)| text.clone());
    let realm = field("realm").unwrap_or_default();
    let mut names: Vec<String> = Vec::new();
    for name in ["user", "upn", "mail"].into_iter().filter_map(field) {
        let is_same = |known: &String| account(&fold_case(known)) == account(&fold_case(&name));
        if !names.iter().any(is_same) {
            names.push(name);
        }
    }
    let Some((first, others)) = names.split_first() else {
        return Err("it names nobody: fill user, upn or mail".into());
    };
    let rule = |says| Rule { says, from: None, through: None, reason: String::new() };
    let mut rules: Vec<Rule> = others
        .iter()
        .map(|other| Alias { user: other.clone(), realm: realm.clone(), person: first.clone() })
        .map(|alias| rule(Says::Alias(alias)))
        .collect();
    if let Some(department) = field("department") {
        rules.extend(names.iter().map(|user| {
            let Account { user, realm } = Account { user: user.clone(), realm: realm.clone() };
            rule(Says::Department(Department { user, realm, department: department.clone() }))
        }));
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
[[free]]
who = { domain = "test.example.com" }
cause = "test"
from = "2026-01"
reason = "the \"test\" department"

[domains]
rule = "truncate"

[[sku]]
id = "0001"
product = "P"
daemon = "d"
features = ["f", "g"]
concurrent = true
"#;

    #[test]
    fn a_file_is_read_as_it_is_written() {
        let rules = parse(FILE).unwrap();
        assert_eq!(rules.len(), 3);
        let text = write(rules.iter());
        assert_eq!(parse(&text).unwrap(), rules, "{text}");
        let canonical: Vec<String> = rules.iter().map(Rule::canonical).collect();
        assert!(canonical.iter().any(|line| line.contains(r#""unit":"concurrent""#)), "{canonical:?}");
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_place() {
        for (text, expected) in [
            ("[[free]]\nwho = { usr = 'x' }\ncause = 'test'", "free, entry 1: unknown field `usr`"),
            ("[[free]]\nwho = { user = 'x' }\ncause = 'joke'", "free, entry 1: unknown variant `joke`"),
            ("[[split]]\nuser = 'a'\n[[split]]\nuser = 'b'\nfrom = '2026'", "split, entry 2: \"2026\" is not a month"),
            ("[[sku]]\nid = 'x'\nprice = 'y'", "sku, entry 1: missing field"),
            ("[[skus]]\nid = 'x'", "skus, entry 1: unknown variant `skus`"),
            ("sku = 5", "sku, entry 1: write [[sku]]"),
            ("[[sku", "TOML parse error at line 1"),
        ] {
            let told = parse(text).unwrap_err().to_string();
            assert!(told.contains(expected), "{told}");
        }
    }

    #[test]
    fn tables_are_read_line_by_line() {
        let table = "\u{feff}User;Cause;Reason;From;Cap\nACME\\jo;Test;\"a; b\";2026-01;\nkim;trial;;;3\n";
        let rules = parse_table(TableKind::Free, table).unwrap();
        assert_eq!(
            rules[0].canonical(),
            r#"{"free":{"who":{"user":"ACME\\jo"},"cause":"test"},"from":"2026-01","reason":"a; b"}"#
        );
        assert_eq!(rules[1].canonical(), r#"{"free":{"who":{"user":"kim"},"cause":"trial","cap":3}}"#);
        let table = "user,cause,from\nx,joke,\n,test,\ny,test,01/2026\nz,test,2026-02\nw\n";
        let told = parse_table(TableKind::Free, table).unwrap_err().to_string();
        for expected in ["line 2: cause \"joke\"", "line 3: it names nobody", "line 4: \"01/2026\" is not a month"] {
            assert!(told.contains(expected), "{told}");
        }
        assert!(told.lines().count() == 4 && told.contains("line 6"), "{told}");
        let told = parse_table(TableKind::Free, "name,cause\nx,test\n").unwrap_err().to_string();
        assert!(told.contains("no column \"name\""), "{told}");
    }

    #[test]
    fn a_directory_joins_the_accounts_of_a_person() {
        let table = "user,mail,upn,department\nACME\\jo,jo.doe@acme.com,jo@acme,Sales\n,,,\nkim,,,\n";
        let told = parse_table(TableKind::Directory, table).unwrap_err().to_string();
        assert!(told.contains("line 3: it names nobody"), "{told}");
        let rules = parse_table(TableKind::Directory, &table.replace(",,,\nkim", "kim")).unwrap();
        let lines: Vec<String> = rules.iter().map(Rule::canonical).collect();
        assert_eq!(
            lines,
            [
                r#"{"alias":{"user":"jo.doe@acme.com","person":"ACME\\jo"}}"#,
                r#"{"department":{"user":"ACME\\jo","department":"Sales"}}"#,
                r#"{"department":{"user":"jo.doe@acme.com","department":"Sales"}}"#,
            ]
        );
    }
}
