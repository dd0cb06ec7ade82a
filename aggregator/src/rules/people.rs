//! Maps identities to people, by rules that are applied when a question is asked.

use super::pattern::Pattern;
use super::rule::{DomainRule, Rule, Says, account};
use super::set::hash_of;
use crate::store::names::Name;
use hashbrown::{HashMap, HashSet};
use roaring::RoaringBitmap;
use seatmeter_count::name::{fold_case, split_domain};

/// The most steps from an account to the person behind it.
const MOST_STEPS: usize = 16;

/// The rules that map identities to people.
#[derive(Clone, Debug, Default)]
pub struct IdentityRules {
    domains: DomainRule,
    /// The other name of each domain; case-folded.
    map: HashMap<String, String>,
    /// The person behind an account, by realm and account.
    aliases: HashMap<(String, String), String>,
    /// The accounts that are people of their own, by realm and account.
    splits: HashSet<(String, String)>,
    /// Accounts that are nobody's, perhaps only in a realm.
    nobody: Vec<(Option<String>, Pattern)>,
    /// The hash of the canonical forms of all of these rules.
    hash: [u8; 32],
}

impl IdentityRules {
    /// Takes what rules say of identities.
    pub fn of<'a>(rules: impl Iterator<Item = &'a Rule>) -> Self {
        let mut identity = Self::default();
        let mut lines: Vec<String> = Vec::new();
        for rule in rules {
            match &rule.says {
                Says::Domains(domains) => identity.domains = domains.rule,
                Says::Domain(domain) => {
                    let [name, is] = [&domain.name, &domain.is].map(|name| fold_case(name).into_owned());
                    identity.map.insert(name, is);
                }
                Says::Alias(alias) => {
                    let [user, person] = [&alias.user, &alias.person].map(|name| account(&fold_case(name)));
                    identity.aliases.insert((alias.realm.clone(), user), person);
                }
                Says::Split(split) => {
                    identity.splits.insert((split.realm.clone(), account(&fold_case(&split.user))));
                }
                Says::NoPerson(nobody) => {
                    identity.nobody.push((nobody.realm.clone(), Pattern::new(&nobody.pattern)));
                }
                _ => continue,
            }
            lines.push(rule.canonical());
        }
        identity.hash = hash_of(lines);
        identity
    }

    /// Returns what domains mean.
    pub fn domains(&self) -> DomainRule {
        match self.domains {
            DomainRule::Truncate => DomainRule::Truncate,
            _ if self.map.is_empty() => DomainRule::Keep,
            _ => DomainRule::Map,
        }
    }

    /// Returns a hash that two sets of rules have in common if they map all identities to the same people.
    pub fn hash(&self) -> [u8; 32] {
        self.hash
    }

    /// Returns the key of the person behind a case-folded user name; `None` if it is nobody's. Two names of a realm are the same
    /// person if their keys are equal. `DOMAIN\user` is the same as `user@domain`.
    fn person(&self, realm: &str, key: &str) -> Option<String> {
        let is_nobody = |(only, pattern): &(Option<String>, Pattern)| {
            only.as_ref().is_none_or(|only| only == realm) && pattern.matches(key)
        };
        if self.nobody.iter().any(is_nobody) {
            return None;
        }
        let mut account = account(key);
        if !self.aliases.is_empty() || !self.splits.is_empty() {
            let mut place = (realm.to_owned(), account);
            for _ in 0..MOST_STEPS {
                let Some(next) = self.aliases.get(&place) else { break };
                place.1.clone_from(next);
            }
            if self.splits.contains(&place) {
                return Some(place.1);
            }
            account = place.1;
        }
        let (user, domain) = split_domain(&account);
        let domain = match self.domains {
            DomainRule::Truncate => "",
            _ => self.map.get(domain).map_or(domain, String::as_str),
        };
        Some(if domain.is_empty() { user.to_owned() } else { format!("{user}@{domain}") })
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

/// Where an identity has no person.
const NOBODY: u32 = u32::MAX;

/// All people with their identities. Identities are only added; they never change.
#[derive(Debug, Default)]
pub struct People {
    rules: IdentityRules,
    /// The name of each identity, and the index of its person, by the identity's id.
    names: Vec<String>,
    persons: Vec<u32>,
    people: Vec<Person>,
    by_key: HashMap<(String, String), u32>,
    /// Whether every identity is a person by itself.
    is_one_to_one: bool,
}

impl People {
    /// Creates an empty set of people with these rules.
    pub fn new(rules: IdentityRules) -> Self {
        Self { rules, is_one_to_one: true, ..Self::default() }
    }

    /// Returns the lowest id that a new identity can have.
    pub fn next_identity(&self) -> u32 {
        self.persons.len() as u32
    }

    /// Adds identities, which must be ordered by id.
    pub fn add(&mut self, names: &[Name]) {
        for name in names {
            // Ids are given one after the other; of one that was left out, there is nothing to say.
            self.names.resize(name.id as usize, String::new());
            self.persons.resize(name.id as usize, NOBODY);
            let person = match self.rules.person(&name.realm, &name.key) {
                Some(key) => self.person(&name.realm, key),
                None => NOBODY,
            };
            match self.people.get_mut(person as usize) {
                Some(person) => person.identities.push(name.id),
                None => self.is_one_to_one = false,
            }
            self.names.push(name.name.clone());
            self.persons.push(person);
        }
        self.is_one_to_one &= self.people.len() == self.persons.len();
    }

    /// Returns the index of the person with this key.
    fn person(&mut self, realm: &str, key: String) -> u32 {
        let next = self.people.len() as u32;
        let person = *self.by_key.entry((realm.to_owned(), key.clone())).or_insert(next);
        if person == next {
            self.people.push(Person { realm: realm.to_owned(), key, identities: Vec::new() });
        }
        person
    }

    /// Returns the name of an identity, as first written; empty if the identity is unknown.
    pub fn name(&self, identity: u32) -> &str {
        self.names.get(identity as usize).map_or("", String::as_str)
    }

    /// Returns the index of the person with this realm and key, if there is one.
    pub fn find(&self, realm: &str, key: &str) -> Option<u32> {
        self.by_key.get(&(realm.to_owned(), key.to_owned())).copied()
    }

    /// Returns the person at an index.
    pub fn get(&self, person: u32) -> &Person {
        &self.people[person as usize]
    }

    /// Returns the people behind these identities.
    pub fn of(&self, identities: &RoaringBitmap) -> RoaringBitmap {
        let person = |identity: u32| self.persons.get(identity as usize).copied().filter(|person| *person != NOBODY);
        identities.iter().filter_map(person).collect()
    }

    /// Returns the identities of these people that are among others.
    pub fn identities_of(&self, people: &RoaringBitmap, among: &RoaringBitmap) -> RoaringBitmap {
        let all = people.iter().flat_map(|person| &self.people[person as usize].identities);
        all.copied().filter(|identity| among.contains(*identity)).collect()
    }

    /// Returns the number of people behind these identities.
    pub fn count(&self, identities: &RoaringBitmap) -> u64 {
        // If every identity is a person, no look-up is needed.
        if self.is_one_to_one { identities.len() } else { self.of(identities).len() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rules::rule::{Account, Alias, Domain, Domains, NoPerson};

    fn people(domains: DomainRule, map: &[(&str, &str)], names: &[(&str, &str)]) -> Vec<Vec<u32>> {
        let map = map.iter().map(|(name, is)| Says::Domain(Domain { name: (*name).into(), is: (*is).into() }));
        by([Says::Domains(Domains { rule: domains })].into_iter().chain(map), names)
    }

    /// Returns the identities of each person, by rules.
    fn by(rules: impl Iterator<Item = Says>, names: &[(&str, &str)]) -> Vec<Vec<u32>> {
        let rules: Vec<Rule> =
            rules.map(|says| Rule { says, from: None, through: None, reason: String::new() }).collect();
        let mut people = People::new(IdentityRules::of(rules.iter()));
        let names = names.iter().enumerate().map(|(id, (realm, name))| Name {
            id: id as u32,
            realm: (*realm).to_owned(),
            name: (*name).to_owned(),
            key: fold_case(name).into_owned(),
        });
        people.add(&names.collect::<Vec<_>>());
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

    #[test]
    fn accounts_are_joined_split_or_nobodys() {
        let alias = |user: &str, person: &str| {
            Says::Alias(Alias { user: user.into(), realm: String::new(), person: person.into() })
        };
        let split = |user: &str| Says::Split(Account { user: user.into(), realm: String::new() });
        let nobody = |pattern: &str, realm: Option<&str>| {
            Says::NoPerson(NoPerson { pattern: pattern.into(), realm: realm.map(str::to_owned) })
        };
        let truncate = Says::Domains(Domains { rule: DomainRule::Truncate });
        let names = [("", "jo"), ("", "JO@A.com"), ("", "joanna"), ("", "jo@b.com"), ("other", "jo"), ("", "PC1$")];
        let found = |rules: Vec<Says>| by(rules.into_iter(), &names);
        assert_eq!(found(vec![alias("A.COM\\jo", "Joanna")]), [vec![0], vec![1, 2], vec![3], vec![4], vec![5]]);
        // An alias of an alias; and what is split, is, whatever its domain means.
        let rules = vec![alias("jo", "joanna"), alias("jo@b.com", "JO"), nobody("*$", None)];
        assert_eq!(found(rules), [vec![0, 2, 3], vec![1], vec![4]]);
        let rules = vec![truncate.clone(), split("jo@b.com"), nobody("*", Some("other"))];
        assert_eq!(found(rules), [vec![0, 1], vec![2], vec![3], vec![5]]);
        // An alias leads to whoever that is by its domain.
        assert_eq!(found(vec![truncate, alias("joanna", "x@a.com")]), [vec![0, 1, 3], vec![2], vec![4], vec![5]]);
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
