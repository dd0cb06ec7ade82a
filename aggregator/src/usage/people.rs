//! Maps identities to people, by rules that are applied when a question is asked.

use hashbrown::HashMap;
use roaring::RoaringBitmap;
use seatmeter_count::name::{fold_case, split_domain};
use serde::Deserialize;

use crate::store::names::Name;

/// How the domains of user names decide which identities are the same person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DomainRule {
    /// `jo@a.com` and `jo@b.com` are two people.
    #[default]
    Keep,
    /// `jo@a.com` and `jo@b.com` are one person: domains are cut off, as Citrix license servers do by default.
    Truncate,
    /// `jo@a.com` and `jo@b.com` are one person if the map gives both domains the same name. A domain that is mapped to
    /// an empty name is cut off.
    Map,
}

/// The rules that map identities to people.
#[derive(Clone, Debug, Default)]
pub struct IdentityRules {
    /// The rule for domains.
    pub domains: DomainRule,
    /// The new name of each domain, for [`DomainRule::Map`]; keys and values are case-folded.
    pub map: HashMap<String, String>,
}

impl IdentityRules {
    /// Returns the key of the person behind a case-folded user name. Two names of a realm are the same person if their
    /// keys are equal. `DOMAIN\user` is the same as `user@domain`.
    fn person(&self, key: &str) -> String {
        let (user, domain) = split_domain(key);
        let domain = match self.domains {
            DomainRule::Keep => domain,
            DomainRule::Truncate => "",
            DomainRule::Map => self.map.get(domain).map_or(domain, String::as_str),
        };
        if domain.is_empty() { user.to_owned() } else { format!("{user}@{domain}") }
    }
}

/// A person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// The realm.
    pub realm: String,
    /// The name of the person by the identity rules, case-folded.
    pub key: String,
    /// The ids of the person's identities.
    pub identities: Vec<u32>,
}

/// An identity's name, and the index of its person.
#[derive(Debug)]
struct Identity {
    name: String,
    person: u32,
}

/// All people with their identities. Identities are only added; they never change.
#[derive(Debug, Default)]
pub struct People {
    rules: IdentityRules,
    identities: HashMap<u32, Identity>,
    next_identity: u32,
    people: Vec<Person>,
    by_key: HashMap<(String, String), u32>,
}

impl People {
    /// Creates an empty set of people with these rules.
    pub fn new(rules: IdentityRules) -> Self {
        Self { rules, ..Self::default() }
    }

    /// Returns the lowest id that a new identity can have.
    pub fn next_identity(&self) -> u32 {
        self.next_identity
    }

    /// Adds identities, which must be ordered by id.
    pub fn add(&mut self, names: Vec<Name>) {
        for name in names {
            let key = (name.realm.clone(), self.rules.person(&name.key));
            let person = *self.by_key.entry(key).or_insert_with_key(|(realm, key)| {
                self.people.push(Person { realm: realm.clone(), key: key.clone(), identities: Vec::new() });
                self.people.len() as u32 - 1
            });
            self.people[person as usize].identities.push(name.id);
            self.next_identity = name.id.saturating_add(1);
            self.identities.insert(name.id, Identity { name: name.name, person });
        }
    }

    /// Returns the name of an identity, as first written; empty if the identity is unknown.
    pub fn name(&self, identity: u32) -> &str {
        self.identities.get(&identity).map_or("", |identity| &identity.name)
    }

    /// Returns the person at an index.
    pub fn get(&self, person: u32) -> &Person {
        &self.people[person as usize]
    }

    /// Returns the people behind these identities.
    pub fn of(&self, identities: &RoaringBitmap) -> RoaringBitmap {
        identities.iter().filter_map(|identity| Some(self.identities.get(&identity)?.person)).collect()
    }

    /// Returns the number of people behind these identities.
    pub fn count(&self, identities: &RoaringBitmap) -> u64 {
        // If every person has exactly one identity, no look-up is needed.
        if self.people.len() == self.identities.len() { identities.len() } else { self.of(identities).len() }
    }
}

/// Returns the map with keys and values case-folded, as [`IdentityRules::map`] needs them.
pub fn domain_map(map: impl IntoIterator<Item = (String, String)>) -> HashMap<String, String> {
    map.into_iter().map(|(from, to)| (fold_case(&from).into_owned(), fold_case(&to).into_owned())).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn people(domains: DomainRule, map: &[(&str, &str)], names: &[(&str, &str)]) -> Vec<Vec<u32>> {
        let map = domain_map(map.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())));
        let mut people = People::new(IdentityRules { domains, map });
        let names = names.iter().enumerate().map(|(id, (realm, name))| Name {
            id: id as u32,
            realm: (*realm).to_owned(),
            name: (*name).to_owned(),
            key: fold_case(name).into_owned(),
        });
        people.add(names.collect());
        people.people.into_iter().map(|person| person.identities).collect()
    }

    const NAMES: [(&str, &str); 6] =
        [("", "jo"), ("", "JO@A.com"), ("", "A.COM\\jo"), ("", "jo@b.com"), ("other", "jo"), ("", "b\\")];

    #[test]
    fn domains_are_kept_cut_off_or_mapped() {
        use DomainRule::{Keep, Map, Truncate};
        assert_eq!(people(Keep, &[], &NAMES), [vec![0], vec![1, 2], vec![3], vec![4], vec![5]]);
        assert_eq!(people(Truncate, &[], &NAMES), [vec![0, 1, 2, 3], vec![4], vec![5]]);
        assert_eq!(people(Map, &[("B.com", "a.com")], &NAMES), [vec![0], vec![1, 2, 3], vec![4], vec![5]]);
        assert_eq!(people(Map, &[("b.com", "")], &NAMES), [vec![0, 3], vec![1, 2], vec![4], vec![5]]);
    }

    proptest! {
        /// Cutting off domains never increases the number of people, and every identity belongs to exactly one person.
        #[test]
        fn truncation_only_unites(names in prop::collection::hash_set("[ab]{1,2}(@[cd])?|[cd]\\\\[ab]", 0..20)) {
            let names: Vec<(&str, &str)> = names.iter().map(|name| ("", name.as_str())).collect();
            let kept = people(DomainRule::Keep, &[], &names);
            let truncated = people(DomainRule::Truncate, &[], &names);
            prop_assert!(truncated.len() <= kept.len());
            for list in [&kept, &truncated] {
                let mut all: Vec<u32> = list.iter().flatten().copied().collect();
                all.sort_unstable();
                prop_assert_eq!(all, (0..names.len() as u32).collect::<Vec<_>>());
            }
            for person in kept {
                prop_assert!(truncated.iter().any(|other| person.iter().all(|identity| other.contains(identity))));
            }
        }
    }
}
