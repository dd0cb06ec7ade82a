//! Which rules contradict each other, and which make no sense by themselves.

use std::fmt;

use hashbrown::{HashMap, HashSet};
use seatmeter_count::name::fold_case;

use super::rule::{Rule, Says, SkuRule, account};

/// The longest text of a rule, and the longest reason, in bytes.
const LONGEST: usize = 255;
const LONGEST_REASON: usize = 1000;

/// The most features of a rule.
const MOST_FEATURES: usize = 1000;

/// What is wrong with rules. The places are indexes into the rules that were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The rule.
    pub rule: usize,
    /// The other rule, if there is one.
    pub other: Option<usize>,
    /// What is wrong, and what to do.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The most problems that are told at once.
const MOST_TOLD: usize = 20;

/// Returns what is wrong with rules that are to be valid together.
pub fn check(rules: &[&Rule]) -> Vec<Problem> {
    let mut problems: Vec<Problem> = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        problems.extend(alone(rule).map(|text| Problem { rule: index, other: None, text }));
        if problems.len() >= MOST_TOLD {
            return problems;
        }
    }
    if problems.is_empty() {
        problems = together(rules);
    }
    problems
}

/// Returns what is wrong with a rule by itself.
fn alone(rule: &Rule) -> Option<String> {
    if let (Some(from), Some(through)) = (rule.from, rule.through)
        && from > through
    {
        return Some(format!("it ends in {through}, before it begins in {from}"));
    }
    let unfit = texts(&rule.says).into_iter().find_map(|(name, text, may_be_empty)| match text {
        "" if !may_be_empty => Some(format!("{name} is empty")),
        text if text.trim() != text => Some(format!("{name} {text:?} has space around it")),
        text if text.len() > LONGEST => Some(format!("{name} has more than {LONGEST} bytes")),
        text if text.chars().any(char::is_control) => Some(format!("{name} {text:?} has control characters")),
        _ => None,
    });
    if unfit.is_some() {
        return unfit;
    }
    if rule.reason.len() > LONGEST_REASON || rule.reason.chars().any(|c| c.is_control() && c != '\n') {
        return Some(format!("the reason has more than {LONGEST_REASON} bytes, or control characters"));
    }
    match &rule.says {
        Says::Free(free) if free.who.selected().is_none() => Some(ONE_THING.into()),
        Says::Assign(assign) if assign.who.selected().is_none() => Some(ONE_THING.into()),
        Says::Free(free) if free.cap == Some(0) => Some("cap is 0: leave the rule out".into()),
        Says::Sku(SkuRule { features, .. }) if features.is_empty() => Some("it has no features".into()),
        Says::Sku(SkuRule { features, .. }) if features.len() > MOST_FEATURES => {
            Some(format!("it has more than {MOST_FEATURES} features: write several rules of one SKU"))
        }
        Says::Sku(sku) if sku.rank > 0 && sku.edition_of.is_empty() => {
            Some("it has a rank, and is no edition: say `edition_of`".into())
        }
        Says::Customer(customer) if !is_country(&customer.country) => {
            Some(format!("country {:?} is no code of two letters, as DE", customer.country))
        }
        Says::Alias(alias) if account(&fold_case(&alias.user)) == account(&fold_case(&alias.person)) => {
            Some(format!("{:?} and {:?} are the same account", alias.user, alias.person))
        }
        _ => None,
    }
}

const ONE_THING: &str = "`who` names not exactly one of user, pattern, domain, department, feature, server and realm (which may stand beside user)";

fn is_country(code: &str) -> bool {
    code.is_empty() || (code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase()))
}

/// Returns the texts of a rule: name, text, and whether it may be empty.
fn texts(says: &Says) -> Vec<(&'static str, &str, bool)> {
    match says {
        Says::Counted(_) | Says::Domains(_) => Vec::new(),
        Says::Domain(domain) => vec![("name", &domain.name, false), ("is", &domain.is, true)],
        Says::Alias(alias) => {
            vec![("user", &alias.user, false), ("realm", &alias.realm, true), ("person", &alias.person, false)]
        }
        Says::Split(split) => vec![("user", &split.user, false), ("realm", &split.realm, true)],
        Says::NoPerson(none) => {
            vec![("pattern", &none.pattern, false), ("realm", none.realm.as_deref().unwrap_or_default(), true)]
        }
        Says::Department(of) => {
            vec![("user", &of.user, false), ("realm", &of.realm, true), ("department", &of.department, false)]
        }
        Says::Free(free) => free.who.texts(),
        Says::Assign(assign) => [vec![("customer", &*assign.customer, false)], assign.who.texts()].concat(),
        Says::Sku(sku) => {
            let own = [
                ("id", &*sku.id, false),
                ("product", &sku.product, false),
                ("daemon", &sku.daemon, false),
                ("part_number", &sku.part_number, true),
                ("edition_of", &sku.edition_of, true),
                ("price", &sku.price, true),
            ];
            own.into_iter().chain(sku.features.iter().map(|feature| ("features", &**feature, false))).collect()
        }
        Says::NeverCounted(never) => {
            let features = never.features.iter().map(|feature| ("features", &**feature, false));
            [("daemon", &*never.daemon, false)].into_iter().chain(features).collect()
        }
        Says::Customer(customer) => vec![
            ("id", &customer.id, false),
            ("name", &customer.name, false),
            ("address", &customer.address, true),
            ("country", &customer.country, true),
            ("contract", &customer.contract, true),
        ],
        Says::Entitled(entitled) => vec![("sku", &entitled.sku, false), ("customer", &entitled.customer, true)],
    }
}

impl super::rule::Selector {
    fn texts(&self) -> Vec<(&'static str, &str, bool)> {
        let all = [
            ("user", &self.user),
            ("pattern", &self.pattern),
            ("domain", &self.domain),
            ("department", &self.department),
            ("feature", &self.feature),
            ("server", &self.server),
        ];
        let mut texts: Vec<_> =
            all.into_iter().filter_map(|(name, text)| Some((name, text.as_deref()?, false))).collect();
        texts.extend(self.realm.as_deref().map(|realm| ("realm", realm, true)));
        texts
    }
}

/// Returns what rules that are valid in the same months decide differently.
fn together(rules: &[&Rule]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut deciding: HashMap<String, Vec<usize>> = HashMap::new();
    for (index, rule) in rules.iter().enumerate() {
        for (key, name) in decides(&rule.says) {
            let others = deciding.entry(key).or_default();
            if let Some(other) = others.iter().find(|other| rules[**other].overlaps(rule)) {
                let text = format!(
                    "another rule says {name} in the same months: remove that one, or let the months of both not overlap"
                );
                problems.push(Problem { rule: index, other: Some(*other), text });
                if problems.len() >= MOST_TOLD {
                    return problems;
                }
            }
            others.push(index);
        }
    }
    problems.extend(unknown_customers(rules));
    problems.extend(skus_that_differ(rules));
    problems.extend(circles(rules));
    problems.truncate(MOST_TOLD);
    problems
}

/// Returns what a rule decides, so that no other rule may decide it in the same months: a key, and a name for people.
fn decides(says: &Says) -> Vec<(String, String)> {
    let of_account = |user: &str, realm: &str| {
        let key = format!("account {realm:?} {}", account(&fold_case(user)));
        vec![(key, format!("who {user} is"))]
    };
    match says {
        Says::Counted(_) => vec![("counted".into(), "who counts".into())],
        Says::Domains(_) => vec![("domains".into(), "what domains mean".into())],
        Says::Domain(domain) => {
            vec![(format!("domain {}", fold_case(&domain.name)), format!("what domain {} is", domain.name))]
        }
        Says::Alias(alias) => of_account(&alias.user, &alias.realm),
        Says::Split(split) => of_account(&split.user, &split.realm),
        Says::NoPerson(none) => {
            vec![(format!("nobody {:?} {}", none.realm, fold_case(&none.pattern)), "that these are nobody's".into())]
        }
        Says::Department(of) => {
            let key = format!("department {:?} {}", of.realm, account(&fold_case(&of.user)));
            vec![(key, format!("which department {} is of", of.user))]
        }
        Says::Free(free) => vec![(format!("free {}", free.who.key()), format!("that {} is free", free.who))],
        Says::Assign(assign) => {
            let key = format!("assign {} {}", fold_case(&assign.customer), assign.who.key());
            vec![(key, format!("that the use of {} is customer {}'s", assign.who, assign.customer))]
        }
        Says::Sku(sku) => sku.features.iter().map(|feature| of_feature(&sku.daemon, feature)).collect(),
        Says::NeverCounted(never) => never.features.iter().map(|feature| of_feature(&never.daemon, feature)).collect(),
        Says::Customer(customer) => {
            vec![(format!("customer {}", fold_case(&customer.id)), format!("who customer {} is", customer.id))]
        }
        Says::Entitled(entitled) => {
            let key = format!("entitled {:?} {:?}", fold_case(&entitled.sku), fold_case(&entitled.customer));
            vec![(key, format!("what is licensed of {}", entitled.sku))]
        }
    }
}

fn of_feature(daemon: &str, feature: &str) -> (String, String) {
    (format!("feature {daemon:?} {feature:?}"), format!("which SKU feature {feature} of daemon {daemon} is"))
}

/// Assignments to customers of whom there is no rule.
fn unknown_customers(rules: &[&Rule]) -> Vec<Problem> {
    let mut known: HashMap<String, Vec<&Rule>> = HashMap::new();
    for rule in rules {
        if let Says::Customer(customer) = &rule.says {
            known.entry(fold_case(&customer.id).into_owned()).or_default().push(rule);
        }
    }
    let mut problems = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        let named = match &rule.says {
            Says::Assign(assign) => &assign.customer,
            Says::Entitled(entitled) if !entitled.customer.is_empty() => &entitled.customer,
            _ => continue,
        };
        let is_known = known.get(&*fold_case(named)).is_some_and(|of| of.iter().any(|other| other.overlaps(rule)));
        if !is_known {
            let text = format!("there is no customer {named:?} in these months: add a rule that says who that is");
            problems.push(Problem { rule: index, other: None, text });
        }
    }
    problems
}

/// Rules of one SKU that say different things of it, and SKUs that cannot be told apart.
fn skus_that_differ(rules: &[&Rule]) -> Vec<Problem> {
    let mut known: HashMap<String, Vec<(usize, &SkuRule)>> = HashMap::new();
    let mut problems = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        let Says::Sku(sku) = &rule.says else { continue };
        let of_id = known.entry(fold_case(&sku.id).into_owned()).or_default();
        let said = |sku: &SkuRule| SkuRule { daemon: String::new(), features: Vec::new(), ..sku.clone() };
        let other = of_id.iter().find(|(other, known)| rules[*other].overlaps(rule) && said(known) != said(sku));
        if let Some((other, known)) = other {
            let text = match known.id == sku.id {
                true => format!("another rule says other things of SKU {:?}: say the same in both", sku.id),
                false => {
                    format!("SKUs {:?} and {:?} differ in case alone: write the id in one way", known.id, sku.id)
                }
            };
            problems.push(Problem { rule: index, other: Some(*other), text });
        }
        of_id.push((index, sku));
    }
    problems
}

/// Accounts that are, in the end, their own aliases.
fn circles(rules: &[&Rule]) -> Vec<Problem> {
    let mut next: HashMap<(&str, String), Vec<usize>> = HashMap::new();
    for (index, rule) in rules.iter().enumerate() {
        if let Says::Alias(alias) = &rule.says {
            next.entry((&alias.realm, account(&fold_case(&alias.user)))).or_default().push(index);
        }
    }
    let mut problems = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        let Says::Alias(alias) = &rule.says else { continue };
        let mut seen: HashSet<usize> = HashSet::new();
        seen.insert(index);
        let mut at = account(&fold_case(&alias.person));
        while let Some(step) = next
            .get(&(&*alias.realm, at.clone()))
            .and_then(|steps| steps.iter().find(|step| rules[**step].overlaps(rule)))
        {
            if !seen.insert(*step) {
                // Told once, of the rule that comes last.
                if seen.iter().all(|other| *other <= index) {
                    let text = format!("{} is, by other rules, its own alias: remove one of them", alias.user);
                    problems.push(Problem { rule: index, other: Some(*step), text });
                }
                break;
            }
            let Says::Alias(further) = &rules[*step].says else { break };
            at = account(&fold_case(&further.person));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns what is wrong with rules in their canonical form.
    fn wrong(rules: &[&str]) -> Vec<String> {
        let rules: Vec<Rule> = rules.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
        check(&rules.iter().collect::<Vec<_>>()).into_iter().map(|problem| problem.text).collect()
    }

    const ACME: &str = r#"{"customer":{"id":"acme","name":"Acme"}}"#;

    #[test]
    fn rules_that_make_no_sense_are_told() {
        for (rule, expected) in [
            (r#"{"domains":{"rule":"keep"},"from":"2026-02","through":"2026-01"}"#, "before it begins"),
            (r#"{"free":{"who":{},"cause":"test"}}"#, "exactly one"),
            (r#"{"free":{"who":{"user":"a","server":"b"},"cause":"test"}}"#, "exactly one"),
            (r#"{"free":{"who":{"user":""},"cause":"test"}}"#, "user is empty"),
            (r#"{"free":{"who":{"user":" a"},"cause":"test"}}"#, "space around"),
            (r#"{"free":{"who":{"user":"a"},"cause":"test","cap":0}}"#, "cap is 0"),
            (r#"{"sku":{"id":"A","product":"A","daemon":"d","features":[]}}"#, "no features"),
            (r#"{"sku":{"id":"A","product":"A","daemon":"d","features":["f"],"rank":1}}"#, "no edition"),
            (r#"{"customer":{"id":"a","name":"A","country":"Germany"}}"#, "two letters"),
            (r#"{"alias":{"user":"ACME\\jo","person":"jo@acme"}}"#, "same account"),
            (r#"{"assign":{"customer":"acme","who":{"server":"LIC01"}}}"#, "no customer \"acme\""),
        ] {
            let found = wrong(&[rule]);
            assert!(found.len() == 1 && found[0].contains(expected), "{rule}: {found:?}");
        }
        assert_eq!(wrong(&[ACME, r#"{"assign":{"customer":"ACME","who":{"server":"LIC01"}}}"#]), [""; 0]);
    }

    #[test]
    fn rules_contradict_each_other_in_the_same_months_alone() {
        let sku = |id: &str, months: &str| {
            format!(r#"{{"sku":{{"id":"{id}","product":"P","daemon":"d","features":["f"]}}{months}}}"#)
        };
        assert_eq!(wrong(&[&sku("A", ""), &sku("B", "")]).len(), 1);
        assert_eq!(
            wrong(&[&sku("A", r#","through":"2026-03""#), &sku("B", r#","from":"2026-04""#)]),
            [""; 0],
            "one after the other"
        );
        let never = r#"{"never_counted":{"daemon":"d","features":["f"]}}"#;
        assert!(wrong(&[&sku("A", ""), never])[0].contains("which SKU feature f"));
        let other = r#"{"sku":{"id":"a","product":"P","daemon":"d","features":["g"]}}"#;
        assert!(wrong(&[&sku("A", ""), other])[0].contains("differ in case alone"));
        let other = r#"{"sku":{"id":"A","product":"Q","daemon":"e","features":["g"]}}"#;
        assert!(wrong(&[&sku("A", ""), other])[0].contains("other things"));
        let free = |cause: &str| format!(r#"{{"free":{{"who":{{"user":"JO@acme"}},"cause":"{cause}"}}}}"#);
        assert!(wrong(&[&free("test"), &free("trial").replace("JO@acme", r"acme\\jo")])[0].contains("is free"));
        let split = r#"{"split":{"user":"jo"}}"#;
        assert!(wrong(&[split, r#"{"alias":{"user":"Jo","person":"joe"}}"#])[0].contains("who Jo is"));
    }

    #[test]
    fn nobody_is_their_own_alias() {
        let alias = |user: &str, person: &str| format!(r#"{{"alias":{{"user":"{user}","person":"{person}"}}}}"#);
        assert_eq!(wrong(&[&alias("a", "b"), &alias("b", "c"), &alias("d", "c")]), [""; 0]);
        let circle = wrong(&[&alias("a", "b"), &alias("b", "c"), &alias("c", "a")]);
        assert!(circle.len() == 1 && circle[0].contains("its own alias"), "{circle:?}");
    }
}
