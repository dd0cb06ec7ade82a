//! What rules come to in a month.

use std::sync::Arc;

use seatmeter_count::name::fold_case;

use super::attributes::AttributeRules;
use super::catalogue::Catalogue;
use super::people::IdentityRules;
use super::rule::{Customer, Entitled, PersonRule, Rule, Says};

/// What rules come to in a month.
#[derive(Debug)]
pub struct MonthRules {
    /// The version of the rules.
    pub version: String,
    /// Who counts.
    pub person: PersonRule,
    /// Which identities are one person.
    pub identity: IdentityRules,
    /// Which SKU a feature belongs to.
    pub catalogue: Catalogue,
    /// Who is free, and whose use is which customer's.
    pub attributes: Arc<AttributeRules>,
    /// The customers, by name.
    pub customers: Vec<Customer>,
    /// What is licensed, or agreed.
    pub entitled: Vec<Entitled>,
}

impl MonthRules {
    /// Compiles the rules that are valid in a month.
    pub fn new<'a>(rules: impl Iterator<Item = &'a Rule> + Clone, version: String) -> Self {
        let mut customers: Vec<Customer> = rules
            .clone()
            .filter_map(|rule| match &rule.says {
                Says::Customer(customer) => Some(customer.clone()),
                _ => None,
            })
            .collect();
        customers.sort_by_key(|customer| fold_case(&customer.id).into_owned());
        let counted = rules.clone().find_map(|rule| match &rule.says {
            Says::Counted(counted) => Some(counted.who),
            _ => None,
        });
        let entitled = rules.clone().filter_map(|rule| match &rule.says {
            Says::Entitled(entitled) => Some(entitled.clone()),
            _ => None,
        });
        Self {
            version,
            person: counted.unwrap_or_default(),
            identity: IdentityRules::of(rules.clone()),
            catalogue: Catalogue::of(rules.clone()),
            attributes: Arc::new(AttributeRules::of(rules.clone(), &customers)),
            entitled: entitled.collect(),
            customers,
        }
    }
}
