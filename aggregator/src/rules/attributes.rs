//! Who is free, and whose use is which customer's: of identities, and of what is used on a license server or of a feature.

use super::pattern::Pattern;
use super::rule::{Cause, Customer, Rule, Says, Selected, Selector, account};
use super::set::hash_of;
use crate::store::names::Name;
use hashbrown::HashMap;
use roaring::RoaringBitmap;
use seatmeter_count::name::{fold_case, split_domain};

/// Gives each selection of a rule to those whom it selects.
#[derive(Debug)]
struct Selections<T> {
    users: HashMap<(String, String), Vec<T>>,
    departments: HashMap<String, Vec<T>>,
    patterns: Vec<(Pattern, T)>,
    domains: HashMap<String, Vec<T>>,
    features: HashMap<String, Vec<T>>,
    servers: HashMap<String, Vec<T>>,
    realms: HashMap<String, Vec<T>>,
}

impl<T> Default for Selections<T> {
    fn default() -> Self {
        Self {
            users: HashMap::new(),
            departments: HashMap::new(),
            patterns: Vec::new(),
            domains: HashMap::new(),
            features: HashMap::new(),
            servers: HashMap::new(),
            realms: HashMap::new(),
        }
    }
}

impl<T: Copy> Selections<T> {
    fn add(&mut self, who: &Selector, given: T) {
        let folded = |name: &str| fold_case(name).into_owned();
        match who.selected() {
            Some(Selected::User(user, realm)) => {
                self.users.entry((realm.to_owned(), account(&fold_case(user)))).or_default().push(given);
            }
            Some(Selected::Department(name)) => self.departments.entry(folded(name)).or_default().push(given),
            Some(Selected::Pattern(name)) => self.patterns.push((Pattern::new(name), given)),
            Some(Selected::Domain(name)) => self.domains.entry(folded(name)).or_default().push(given),
            // Codes of features differ in case.
            Some(Selected::Feature(name)) => self.features.entry(name.to_owned()).or_default().push(given),
            Some(Selected::Server(name)) => self.servers.entry(folded(name)).or_default().push(given),
            Some(Selected::Realm(name)) => self.realms.entry(name.to_owned()).or_default().push(given),
            // Such a rule is refused.
            None => {}
        }
    }

    /// Returns what is given to an identity, by how specific it is: the most specific first.
    fn of_identity(&self, name: &Name, department: Option<&String>) -> [Vec<T>; 4] {
        let found = |known: Option<&Vec<T>>| known.cloned().unwrap_or_default();
        let (_, domain) = split_domain(&name.key);
        [
            match self.users.is_empty() {
                true => Vec::new(),
                false => found(self.users.get(&(name.realm.clone(), account(&name.key)))),
            },
            found(department.and_then(|name| self.departments.get(name))),
            self.patterns.iter().filter(|(pattern, _)| pattern.matches(&name.key)).map(|(_, given)| *given).collect(),
            found(self.domains.get(domain).filter(|_| !domain.is_empty())),
        ]
    }

    /// Returns what is given to all use of a feature on a license server, by how specific it is: the most specific first.
    fn of_place(&self, place: Place<'_>) -> [&[T]; 3] {
        let found = [
            self.features.get(place.feature),
            self.servers.get(&*fold_case(place.server)),
            self.realms.get(place.realm),
        ];
        found.map(|known| known.map_or(&[][..], |given| given))
    }
}

/// Where something is used: a feature of a license server in a realm.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The code of the feature.
    pub feature: &'a str,
    /// The license server's name.
    pub server: &'a str,
    /// Its realm.
    pub realm: &'a str,
}

/// The rules of who is free, and whose use is which customer's.
#[derive(Debug, Default)]
pub struct AttributeRules {
    departments: HashMap<(String, String), String>,
    /// Who is free, by the index of the rule in `free_rules`.
    free: Selections<usize>,
    free_rules: Vec<FreeRule>,
    /// Whose use is whose, by the index of the customer.
    customers: Selections<usize>,
    customer_count: usize,
    /// The hash of the canonical forms of all of these rules.
    hash: [u8; 32],
}

/// A rule of who is free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreeRule {
    /// Whom it is about.
    pub who: Selector,
    /// As what.
    pub cause: Cause,
    /// The most people that are free by it.
    pub cap: Option<u64>,
}

impl AttributeRules {
    /// Takes what rules say of identities and places. The customers are those of the month, in their order.
    pub fn of<'a>(rules: impl Iterator<Item = &'a Rule>, customers: &[Customer]) -> Self {
        let index: HashMap<String, usize> =
            customers.iter().enumerate().map(|(index, known)| (fold_case(&known.id).into_owned(), index)).collect();
        let mut found = Self { customer_count: customers.len(), ..Self::default() };
        let mut lines = Vec::new();
        for rule in rules {
            if matches!(rule.says, Says::Department(_) | Says::Free(_) | Says::Assign(_) | Says::Customer(_)) {
                lines.push(rule.canonical());
            }
            match &rule.says {
                Says::Department(of) => {
                    let department = fold_case(&of.department).into_owned();
                    found.departments.insert((of.realm.clone(), account(&fold_case(&of.user))), department);
                }
                Says::Free(free) => {
                    found.free.add(&free.who, found.free_rules.len());
                    found.free_rules.push(FreeRule { who: free.who.clone(), cause: free.cause, cap: free.cap });
                }
                Says::Assign(assign) => {
                    if let Some(customer) = index.get(&*fold_case(&assign.customer)) {
                        found.customers.add(&assign.who, *customer);
                    }
                }
                _ => {}
            }
        }
        found.hash = hash_of(lines);
        found
    }

    /// Returns the rules of who is free.
    pub fn free_rules(&self) -> &[FreeRule] {
        &self.free_rules
    }

    /// Returns a hash that two sets of rules have in common if they say the same.
    pub fn hash(&self) -> [u8; 32] {
        self.hash
    }

    /// Returns whether all that is used there is free.
    pub fn is_free(&self, place: Place<'_>) -> bool {
        self.free.of_place(place).iter().any(|rules| !rules.is_empty())
    }

    /// Returns the customers whose use it is what is used there, unless identities say otherwise: by their indexes.
    pub fn customers_of(&self, place: Place<'_>) -> &[usize] {
        self.customers.of_place(place).into_iter().find(|found| !found.is_empty()).unwrap_or_default()
    }
}

/// What rules say of identities. Identities are only added; they never change.
#[derive(Debug)]
pub struct Attributes {
    rules: std::sync::Arc<AttributeRules>,
    next_identity: u32,
    /// The identities that are free by each rule.
    free: Vec<RoaringBitmap>,
    /// The identities whose use is a customer's, by the index of the customer.
    customers: Vec<RoaringBitmap>,
    /// The identities whose use is any customer's.
    assigned: RoaringBitmap,
}

impl Attributes {
    /// Creates the attributes of no identity yet.
    pub fn new(rules: std::sync::Arc<AttributeRules>) -> Self {
        let free = vec![RoaringBitmap::new(); rules.free_rules.len()];
        let customers = vec![RoaringBitmap::new(); rules.customer_count];
        Self { rules, next_identity: 0, free, customers, assigned: RoaringBitmap::new() }
    }

    /// Returns the lowest id that a new identity can have.
    pub fn next_identity(&self) -> u32 {
        self.next_identity
    }

    /// Adds identities, which must be ordered by id.
    pub fn add(&mut self, names: &[Name]) {
        for name in names {
            self.next_identity = name.id + 1;
            let department = match self.rules.departments.is_empty() {
                true => None,
                false => self.rules.departments.get(&(name.realm.clone(), account(&name.key))),
            };
            for rule in self.rules.free.of_identity(name, department).into_iter().flatten() {
                self.free[rule].insert(name.id);
            }
            let levels = self.rules.customers.of_identity(name, department);
            for customer in levels.into_iter().find(|found| !found.is_empty()).unwrap_or_default() {
                self.customers[customer].insert(name.id);
                self.assigned.insert(name.id);
            }
        }
    }

    /// Returns the identities that are free by each rule, in the order of the rules.
    pub fn free(&self) -> impl Iterator<Item = (&FreeRule, &RoaringBitmap)> {
        self.rules.free_rules.iter().zip(&self.free)
    }

    /// Returns the identities whose use is a customer's, whatever they use.
    pub fn of_customer(&self, customer: usize) -> &RoaringBitmap {
        &self.customers[customer]
    }

    /// Returns the identities whose use is any customer's, whatever they use.
    pub fn assigned(&self) -> &RoaringBitmap {
        &self.assigned
    }

    /// Returns the rules.
    pub fn rules(&self) -> &AttributeRules {
        &self.rules
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn attributes(rules: &[&str], names: &[&str]) -> Attributes {
        let rules: Vec<Rule> = rules.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
        let customers: Vec<Customer> = rules
            .iter()
            .filter_map(|rule| match &rule.says {
                Says::Customer(customer) => Some(customer.clone()),
                _ => None,
            })
            .collect();
        let mut attributes = Attributes::new(Arc::new(AttributeRules::of(rules.iter(), &customers)));
        let names = names.iter().zip(0..).map(|(name, id)| {
            let (realm, name) = name.split_once('/').unwrap_or(("", name));
            Name { id, realm: realm.into(), name: name.into(), key: fold_case(name).into_owned() }
        });
        attributes.add(&names.collect::<Vec<_>>());
        attributes
    }

    #[test]
    fn the_most_specific_word_decides_whose_use_it_is() {
        let found = attributes(
            &[
                r#"{"customer":{"id":"a","name":"A"}}"#,
                r#"{"customer":{"id":"b","name":"B"}}"#,
                r#"{"assign":{"customer":"a","who":{"domain":"ACME"}}}"#,
                r#"{"assign":{"customer":"b","who":{"user":"acme\\jo"}}}"#,
                r#"{"assign":{"customer":"b","who":{"department":"Sales"}}}"#,
                r#"{"department":{"user":"eve@acme","department":"SALES"}}"#,
                r#"{"assign":{"customer":"A","who":{"server":"LIC01"}}}"#,
                r#"{"assign":{"customer":"B","who":{"server":"lic01"}}}"#,
                r#"{"assign":{"customer":"b","who":{"feature":"cad"}}}"#,
            ],
            &["jo@acme", "Kim@Acme", "eve@acme", "max", "other/jo@acme"],
        );
        let of = |customer| found.of_customer(customer).iter().collect::<Vec<u32>>();
        assert_eq!((of(0), of(1)), (vec![1, 4], vec![0, 2]));
        assert_eq!(found.assigned().len(), 4);
        let place = |feature, server| Place { feature, server, realm: "" };
        assert_eq!(found.rules().customers_of(place("x", "Lic01")), [0, 1], "both of them");
        assert_eq!(found.rules().customers_of(place("cad", "Lic01")), [1]);
        assert_eq!(found.rules().customers_of(place("CAD", "LIC02")), [0; 0]);
    }

    #[test]
    fn whoever_any_rule_names_is_free() {
        let found = attributes(
            &[
                r#"{"free":{"who":{"pattern":"test-*"},"cause":"test","cap":2}}"#,
                r#"{"free":{"who":{"user":"jo","realm":"r"},"cause":"trial"}}"#,
                r#"{"free":{"who":{"server":"LAB"},"cause":"internal"}}"#,
            ],
            &["Test-1", "jo", "r/JO", "ACME\\test-2"],
        );
        let free: Vec<(Option<u64>, Vec<u32>)> =
            found.free().map(|(rule, who)| (rule.cap, who.iter().collect())).collect();
        assert_eq!(free, [(Some(2), vec![0, 3]), (None, vec![2]), (None, vec![])]);
        assert!(found.rules().is_free(Place { feature: "f", server: "lab", realm: "" }));
        assert!(!found.rules().is_free(Place { feature: "f", server: "lab2", realm: "" }));
    }
}
