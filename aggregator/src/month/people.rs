//! The people behind a month's report.

use std::collections::HashMap;

use seatmeter_count::Month;

use seatmeter_evidence::document::{Counts, DocumentPerson, DocumentUse};

use super::document::moment;
use super::statement::Statements;
use crate::usage::report::{Line, Report};
use crate::usage::users::UserUsage;
use crate::usage::{Filter, UsageError};

/// How many people are read at a time.
const PORTION: usize = 1000;

impl Statements {
    /// Returns the people who used anything in a month, by realm and name, and how it counts.
    pub fn people(&self, month: Month) -> Result<Vec<DocumentPerson>, UsageError> {
        let report = self.usage().report(month, &self.rules())?;
        let mut uses = uses(&report);
        let mut people = Vec::new();
        self.usage().each_page_of_users(month, &Filter::default(), PORTION, &mut |page| {
            for UserUsage { person, realm, identities, figures, .. } in page.users {
                let uses = report.person(&realm, &person).and_then(|person| uses.remove(&person)).unwrap_or_default();
                people.push(DocumentPerson {
                    realm,
                    person,
                    accounts: identities,
                    first_used: moment(figures.first_at),
                    last_used: moment(figures.last_at),
                    days: figures.days.count_ones(),
                    uses,
                });
            }
            true
        })?;
        Ok(people)
    }
}

/// Returns what each person of a report used.
fn uses(report: &Report) -> HashMap<u32, Vec<DocumentUse>> {
    let customers = &report.in_force.rules.customers;
    let mut found: HashMap<u32, Vec<DocumentUse>> = HashMap::new();
    for line in &report.lines {
        let customer = line.customer.and_then(|index| customers.get(index)).map(|known| known.id.clone());
        for person in &line.users {
            let counts = counts(line, person);
            let (customer, sku) = (customer.clone().unwrap_or_default(), line.sku.id.clone());
            found.entry(person).or_default().push(DocumentUse { customer, sku, counts });
        }
    }
    found
}

fn counts(line: &Line, person: u32) -> Counts {
    match (line.paid.contains(person), line.elsewhere.contains(person)) {
        (false, _) => Counts::Free,
        (true, true) => Counts::Elsewhere,
        (true, false) => Counts::Charged,
    }
}
