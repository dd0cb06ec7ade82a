//! All rules of a version, and what they come to in a month.

use std::sync::{Arc, OnceLock};

use data_encoding::HEXLOWER;
use ring::digest::{Context, SHA256, digest};
use seatmeter_count::Month;

use super::catalogue::CITRIX;
use super::month_rules::MonthRules;
use super::rule::Rule;

/// How many hexadecimal digits of the hash name a version.
const DIGITS: usize = 12;

/// A rule with its number, by which people name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// The number.
    pub number: u64,
    /// What it was imported from; empty if an operator says it.
    pub origin: String,
    /// The rule.
    pub rule: Rule,
}

/// All rules of a version.
#[derive(Debug)]
pub struct RuleSet {
    /// The number of the version; 0 before the first one, and of one that is only planned.
    pub number: u64,
    /// The rules, by number.
    pub rules: Vec<Numbered>,
    /// SHA-256 of their canonical form.
    pub hash: [u8; 32],
    /// The first months in which other rules are valid than before.
    borders: Vec<Month>,
    /// What the rules come to before the first border, and after each.
    compiled: Vec<OnceLock<Arc<MonthRules>>>,
}

impl RuleSet {
    /// Makes the set of rules of a version.
    pub fn new(number: u64, rules: Vec<Numbered>) -> Self {
        let firsts = rules.iter().filter_map(|numbered| numbered.rule.from);
        let ends = rules.iter().filter_map(|numbered| numbered.rule.through).map(Month::next);
        let mut borders: Vec<Month> = firsts.chain(ends).collect();
        borders.sort_unstable();
        borders.dedup();
        let compiled = (0..=borders.len()).map(|_| OnceLock::new()).collect();
        Self { number, hash: hash(rules.iter().map(|numbered| &numbered.rule)), rules, borders, compiled }
    }

    /// Returns the version's name.
    pub fn version(&self) -> String {
        HEXLOWER.encode(&self.hash)[..DIGITS].to_owned()
    }

    /// Returns what the rules come to in a month.
    pub fn of(&self, month: Month) -> &Arc<MonthRules> {
        let index = self.borders.partition_point(|border| *border <= month);
        self.compiled[index].get_or_init(|| {
            let valid = self.rules.iter().map(|numbered| &numbered.rule).filter(|rule| rule.is_valid_in(month));
            Arc::new(MonthRules::new(valid, self.version()))
        })
    }
}

/// Returns the hash of rules: of a line that says what is built in, and of their canonical forms, sorted, each with a line feed.
pub fn hash<'a>(rules: impl Iterator<Item = &'a Rule>) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    hash.update(built_in().as_bytes());
    add_sorted(&mut hash, rules.map(Rule::canonical).collect());
    finish(hash)
}

/// Returns the hash of the canonical forms of some rules, in whatever order they come.
pub(super) fn hash_of(lines: Vec<String>) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    add_sorted(&mut hash, lines);
    finish(hash)
}

fn add_sorted(hash: &mut Context, mut lines: Vec<String>) {
    lines.sort_unstable();
    for line in lines {
        hash.update(line.as_bytes());
        hash.update(b"\n");
    }
}

fn finish(hash: Context) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(hash.finish().as_ref());
    bytes
}

/// Returns the line that says what is built in.
pub fn built_in() -> String {
    let catalogue = HEXLOWER.encode(digest(&SHA256, CITRIX.as_bytes()).as_ref());
    format!("seatmeter rules 1, built-in catalogue {catalogue}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::rule::DomainRule;

    fn set(rules: &[&str]) -> RuleSet {
        let rules = rules.iter().zip(1..).map(|(text, number)| Numbered {
            number,
            origin: String::new(),
            rule: serde_json::from_str(text).unwrap(),
        });
        RuleSet::new(0, rules.collect())
    }

    #[test]
    fn a_month_has_the_rules_that_are_valid_in_it() {
        let set = set(&[
            r#"{"domains":{"rule":"truncate"},"from":"2026-02","through":"2026-03"}"#,
            r#"{"domain":{"name":"old","is":"new"},"from":"2026-03"}"#,
        ]);
        let rule = |month: &str| set.of(month.parse().unwrap()).identity.domains();
        assert_eq!(rule("2026-01"), DomainRule::Keep);
        assert_eq!(rule("2026-02"), DomainRule::Truncate);
        assert_eq!(rule("2026-03"), DomainRule::Truncate);
        assert_eq!(rule("2026-04"), DomainRule::Map);
        assert!(Arc::ptr_eq(set.of("2026-04".parse().unwrap()), set.of("2031-01".parse().unwrap())));
    }

    #[test]
    fn the_version_is_that_of_the_rules_in_whatever_order() {
        let (one, two) = (r#"{"split":{"user":"a"}}"#, r#"{"split":{"user":"b"}}"#);
        assert_eq!(set(&[one, two]).hash, set(&[two, one]).hash);
        assert_ne!(set(&[one]).hash, set(&[two]).hash);
        assert_eq!(set(&[one]).version().len(), DIGITS);
    }
}
