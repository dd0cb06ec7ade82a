//! What a change of the rules comes to: which figures and which people change, in each month.

use std::collections::{BTreeMap, BTreeSet};

use roaring::RoaringBitmap;
use seatmeter_count::Month;

use super::statement::Statements;
use crate::rules::set::RuleSet;
use crate::usage::UsageError;
use crate::usage::report::{Line, Report};

/// In how many months it is told, from the current one back.
const MOST_MONTHS: i32 = 24;

/// The most people that are told, of a month.
const MOST_PEOPLE: usize = 100;

/// What a change comes to in a month.
#[derive(Debug, PartialEq, Eq)]
pub struct MonthEffect {
    /// The month.
    pub month: Month,
    /// The lines that change.
    pub lines: Vec<LineEffect>,
    /// The people who are charged otherwise, the first ones by realm and name.
    pub people: Vec<PersonEffect>,
    /// How many there are.
    pub people_count: u64,
}

/// What is charged of a line: by customer, empty for nobody's use, and SKU.
#[derive(Debug, PartialEq, Eq)]
pub struct LineEffect {
    /// The customer's short name.
    pub customer: String,
    /// The SKU's id.
    pub sku: String,
    /// Before the change.
    pub before: u64,
    /// After it.
    pub after: u64,
}

/// A person who is charged otherwise, with the lines before and after.
#[derive(Debug, PartialEq, Eq)]
pub struct PersonEffect {
    /// The realm.
    pub realm: String,
    /// The name by the identity rules.
    pub person: String,
    /// The lines in which the person is charged before.
    pub before: Vec<String>,
    /// The same after.
    pub after: Vec<String>,
}

impl Statements {
    /// Returns the months in which figures or people change, the last one first.
    pub fn effects(&self, before: &RuleSet, after: &RuleSet) -> Result<Vec<MonthEffect>, UsageError> {
        let usage = self.usage();
        let current = usage.current_month();
        let Some(first) = usage.first_month()? else { return Ok(Vec::new()) };
        let first = first.max(Month::from_number(current.number() - MOST_MONTHS + 1).unwrap_or(first));
        let mut effects = Vec::new();
        let mut month = current;
        while month >= first {
            if differ(before, after, month) {
                effects.extend(compare(&usage.report(month, before)?, &usage.report(month, after)?));
            }
            month = month.previous();
        }
        Ok(effects)
    }
}

/// Returns whether other rules are valid in a month.
fn differ(before: &RuleSet, after: &RuleSet, month: Month) -> bool {
    let valid = |set: &RuleSet| {
        let rules = set.rules.iter().map(|numbered| &numbered.rule).filter(|rule| rule.is_valid_in(month));
        let mut lines: Vec<String> = rules.map(crate::rules::rule::Rule::canonical).collect();
        lines.sort_unstable();
        lines
    };
    valid(before) != valid(after)
}

/// Returns what differs between two reports of a month.
fn compare(before: &Report, after: &Report) -> Option<MonthEffect> {
    let (of_before, of_after) = (by_key(before), by_key(after));
    let keys: BTreeSet<&Key> = of_before.keys().chain(of_after.keys()).collect();
    let has_same_people = before.in_force.rules.identity.hash() == after.in_force.rules.identity.hash();
    let mut lines = Vec::new();
    let mut changed: BTreeSet<(String, String)> = BTreeSet::new();
    let none = RoaringBitmap::new();
    for key in keys {
        let quantity = |line: Option<&&Line>| line.map_or(0, |line| line.quantity());
        let charged = |line: Option<&&Line>| line.map_or(none.clone(), |line| line.charged());
        let (old, new) = (of_before.get(key), of_after.get(key));
        if quantity(old) != quantity(new) {
            let (customer, sku) = key.clone();
            lines.push(LineEffect { customer, sku, before: quantity(old), after: quantity(new) });
        }
        let (old, new) = (charged(old), charged(new));
        if has_same_people {
            changed.extend(before.names(&(&old ^ &new)));
        } else {
            changed.extend(after.not_among(before.names(&old), &new));
            changed.extend(before.not_among(after.names(&new), &old));
        }
    }
    if lines.is_empty() && changed.is_empty() {
        return None;
    }
    let people_count = changed.len() as u64;
    let people = changed.into_iter().take(MOST_PEOPLE).map(|(realm, person)| PersonEffect {
        before: lines_of(before, &of_before, &realm, &person),
        after: lines_of(after, &of_after, &realm, &person),
        realm,
        person,
    });
    Some(MonthEffect { month: after.month, lines, people: people.collect(), people_count })
}

/// A customer's short name, and a SKU's id.
type Key = (String, String);

fn by_key(report: &Report) -> BTreeMap<Key, &Line> {
    let customers = &report.in_force.rules.customers;
    let customer = |line: &Line| line.customer.and_then(|index| customers.get(index)).map(|known| known.id.clone());
    report.lines.iter().map(|line| ((customer(line).unwrap_or_default(), line.sku.id.clone()), line)).collect()
}

/// Returns the lines in which a person is charged.
fn lines_of(report: &Report, lines: &BTreeMap<Key, &Line>, realm: &str, name: &str) -> Vec<String> {
    let Some(person) = report.person(realm, name) else { return Vec::new() };
    let charged = lines.iter().filter(|(_, line)| line.charged().contains(person));
    charged
        .map(|((customer, sku), _)| if customer.is_empty() { sku.clone() } else { format!("{customer}: {sku}") })
        .collect()
}
