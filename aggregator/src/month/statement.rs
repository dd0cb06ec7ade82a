//! The report of a month, in words and numbers alone: what is shown, and what is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use seatmeter_count::Month;
use seatmeter_count::name::fold_case;

use seatmeter_evidence::document::{Document, DocumentLine};

use crate::rules::book::RuleBook;
use crate::rules::catalogue::Sku;
use crate::rules::month_rules::MonthRules;
use crate::rules::rule::Customer;
use crate::rules::set::RuleSet;
use crate::store::months::Adjustment;
use crate::usage::completeness::Completeness;
use crate::usage::report::{Line, Report};
use crate::usage::{Basis, UsageError, UsageQuestions};

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The usage cannot be told.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// There is no such customer.
    #[error("there is no customer {id:?} in that month")]
    UnknownCustomer {
        /// The short name that was asked for.
        id: String,
        /// Those that there are.
        known: Vec<String>,
    },
}

/// The report of a month.
#[derive(Clone, Debug)]
pub struct Statement {
    /// The month.
    pub month: Month,
    /// By customer, nobody's use last, then by SKU.
    pub lines: Vec<StatedLine>,
    /// A line for each SKU, over all customers: each person once. Empty if the report is one customer's.
    pub totals: Vec<StatedLine>,
    /// The people who used anything, each once.
    pub users: u64,
    /// Those of them who are free.
    pub free_users: u64,
    /// The customers of the month.
    pub customers: Vec<Customer>,
    /// The rules behind it.
    pub basis: Basis,
    /// How complete the month is.
    pub completeness: Completeness,
}

/// The use of a SKU by a customer, or by all.
#[derive(Clone, Debug)]
pub struct StatedLine {
    /// The customer's short name; empty for nobody's use, and for that of all.
    pub customer: String,
    /// The SKU.
    pub sku: Sku,
    /// What is charged.
    pub quantity: u64,
    /// What adjustments add to what was counted.
    pub adjustment: i64,
    /// The people who used it.
    pub users: u64,
    /// Those of them who are free.
    pub free_users: u64,
    /// Those of them who are not, and count for a higher edition.
    pub counted_elsewhere: u64,
    /// Hosts on which seats were held that are not free.
    pub devices: u64,
    /// The most such seats in use at once.
    pub peak: u64,
    /// Hours for which such seats were held, begun ones in full.
    pub seat_hours: u64,
    /// What is charged in the month before.
    pub previous: u64,
    /// What may be used; `None` if no rule says it.
    pub entitled: Option<u64>,
    /// What is paid at least; `None` if no rule says it.
    pub minimum: Option<u64>,
}

impl StatedLine {
    fn of(line: &Line, customers: &[Customer]) -> Self {
        let customer = line.customer.and_then(|index| customers.get(index));
        Self {
            customer: customer.map(|customer| customer.id.clone()).unwrap_or_default(),
            sku: line.sku.clone(),
            quantity: line.quantity(),
            adjustment: 0,
            users: line.users.len(),
            free_users: line.users.len() - line.paid.len(),
            counted_elsewhere: line.elsewhere.len(),
            devices: line.devices,
            peak: line.peak.seats,
            seat_hours: line.seat_seconds.div_ceil(3600),
            previous: 0,
            entitled: None,
            minimum: None,
        }
    }

    /// Returns a line of which nothing was used.
    fn zero(customer: &str, sku: Sku) -> Self {
        Self {
            customer: customer.to_owned(),
            sku,
            quantity: 0,
            adjustment: 0,
            users: 0,
            free_users: 0,
            counted_elsewhere: 0,
            devices: 0,
            peak: 0,
            seat_hours: 0,
            previous: 0,
            entitled: None,
            minimum: None,
        }
    }

    /// Adds to what is charged, which is never less than nothing.
    fn adjust(&mut self, quantity: i64) {
        self.adjustment += quantity;
        self.quantity = self.quantity.saturating_add_signed(quantity);
    }

    fn key(&self) -> (String, String) {
        (fold_case(&self.customer).into_owned(), self.sku.id.clone())
    }
}

/// Makes reports.
#[derive(Clone)]
pub struct Statements {
    usage: UsageQuestions,
    book: RuleBook,
}

impl Statements {
    /// Makes reports of usage, by the rules in a book.
    pub fn new(usage: UsageQuestions, book: RuleBook) -> Self {
        Self { usage, book }
    }

    /// Returns the questions that reports are made of.
    pub fn usage(&self) -> &UsageQuestions {
        &self.usage
    }

    /// Returns the rules that are in force.
    pub fn rules(&self) -> Arc<RuleSet> {
        self.book.current()
    }

    /// Returns the report of a month; of one customer, if one is named. `adjustments` are those of the month, and `previous` is the month
    /// before, as it was billed.
    pub fn of(
        &self,
        month: Month,
        customer: &str,
        adjustments: &[Adjustment],
        previous: Option<&Document>,
    ) -> Result<Statement, ReportError> {
        let set = self.book.current();
        let report = self.usage.report(month, &set)?;
        let rules = &report.in_force.rules;
        let customers = &rules.customers;
        let (mut lines, mut totals) = (stated(&report.lines, customers), stated(&report.totals, customers));
        let (before, total_before) = match previous {
            Some(document) => (billed(&document.lines), billed(&document.totals)),
            None => {
                let before = self.usage.report(month.previous(), &set)?;
                (stated(&before.lines, &before.in_force.rules.customers), stated(&before.totals, &[]))
            }
        };
        complete(&mut lines, &before, rules, false);
        complete(&mut totals, &total_before, rules, true);
        for Adjustment { customer, sku, quantity, .. } in adjustments {
            let is_meant =
                |line: &&mut StatedLine| line.sku.id == *sku && fold_case(&line.customer) == fold_case(customer);
            lines.iter_mut().filter(is_meant).for_each(|line| line.adjust(*quantity));
            totals.iter_mut().filter(|line| line.sku.id == *sku).for_each(|line| line.adjust(*quantity));
        }
        let mut statement = Statement {
            month,
            lines,
            totals,
            users: report.everybody.len(),
            free_users: report.everybody.len() - report.paid.len(),
            customers: customers.clone(),
            basis: self.usage.basis(month),
            completeness: report.completeness.clone(),
        };
        if !customer.is_empty() {
            statement.keep_only(customer, &report)?;
        }
        Ok(statement)
    }
}

impl Statement {
    /// Leaves what is one customer's.
    fn keep_only(&mut self, customer: &str, report: &Report) -> Result<(), ReportError> {
        let key = fold_case(customer).into_owned();
        let Some(index) = self.customers.iter().position(|known| fold_case(&known.id) == key) else {
            return Err(unknown_customer(customer, self.customers.iter().map(|known| known.id.clone()).collect()));
        };
        self.customers = vec![self.customers.swap_remove(index)];
        self.lines.retain(|line| fold_case(&line.customer) == key);
        self.totals.clear();
        let own = report.lines.iter().filter(|line| line.customer == Some(index));
        let mut users = roaring::RoaringBitmap::new();
        let mut paid = roaring::RoaringBitmap::new();
        for line in own {
            users |= &line.users;
            paid |= &line.paid;
        }
        (self.users, self.free_users) = (users.len(), users.len() - paid.len());
        Ok(())
    }
}

/// Returns the error for a customer that there is not.
pub fn unknown_customer(id: &str, known: Vec<String>) -> ReportError {
    ReportError::UnknownCustomer { id: id.to_owned(), known }
}

/// Returns what was billed, as far as the next month shows it.
fn billed(lines: &[DocumentLine]) -> Vec<StatedLine> {
    let line =
        |line: &DocumentLine| StatedLine { quantity: line.quantity, ..StatedLine::zero(&line.customer, line.into()) };
    lines.iter().map(line).collect()
}

fn stated(lines: &[Line], customers: &[Customer]) -> Vec<StatedLine> {
    lines.iter().map(|line| StatedLine::of(line, customers)).collect()
}

/// Adds what was charged before and what is agreed, and a line of zero for each of these of which nothing was used.
fn complete(lines: &mut Vec<StatedLine>, before: &[StatedLine], rules: &MonthRules, are_totals: bool) {
    let mut known: BTreeMap<(String, String), usize> =
        lines.iter().enumerate().map(|(index, line)| (line.key(), index)).collect();
    let mut at = |lines: &mut Vec<StatedLine>, customer: &str, sku: &str, or: Option<&Sku>| {
        let key = (fold_case(customer).into_owned(), sku.to_owned());
        if let Some(index) = known.get(&key) {
            return Some(*index);
        }
        let sku = rules.catalogue.sku(sku).or(or)?.clone();
        lines.push(StatedLine::zero(customer, sku));
        known.insert(key, lines.len() - 1);
        Some(lines.len() - 1)
    };
    for line in before.iter().filter(|line| line.quantity > 0) {
        if let Some(index) = at(lines, &line.customer, &line.sku.id, Some(&line.sku)) {
            lines[index].previous = line.quantity;
        }
    }
    for entitled in rules.entitled.iter().filter(|entitled| entitled.customer.is_empty() == are_totals) {
        if let Some(index) = at(lines, &entitled.customer, &entitled.sku, None) {
            (lines[index].entitled, lines[index].minimum) = (Some(entitled.quantity), entitled.minimum);
        }
    }
    lines.sort_by_cached_key(|line| (line.customer.is_empty(), line.key()));
}
