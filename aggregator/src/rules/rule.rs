//! A rule, as it is kept: what it says, in which months, and why. Its canonical form is a line of JSON, whose fields stand in the order of
//! these types.

use std::fmt;

use seatmeter_count::Month;
use seatmeter_count::name::fold_case;
use serde::{Deserialize, Serialize};

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// What it says.
    #[serde(flatten)]
    pub says: Says,
    /// The first month in which it is valid; `None` if it always was.
    #[serde(default, with = "month", skip_serializing_if = "Option::is_none")]
    pub from: Option<Month>,
    /// The last month in which it is valid; `None` if it has no end.
    #[serde(default, with = "month", skip_serializing_if = "Option::is_none")]
    pub through: Option<Month>,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

impl Rule {
    /// Returns whether it is valid in a month.
    pub fn is_valid_in(&self, month: Month) -> bool {
        self.from.is_none_or(|from| from <= month) && self.through.is_none_or(|through| month <= through)
    }

    /// Returns whether there is a month in which both are valid.
    pub fn overlaps(&self, other: &Self) -> bool {
        let begins_before_end = |one: &Self, two: &Self| match (one.from, two.through) {
            (Some(from), Some(through)) => from <= through,
            _ => true,
        };
        begins_before_end(self, other) && begins_before_end(other, self)
    }

    /// Returns the canonical form.
    pub fn canonical(&self) -> String {
        // Nothing but strings, numbers and booleans is in it, so writing it cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// What a rule says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Says {
    /// Who counts as a user of a month.
    Counted(Counted),
    /// What domains mean.
    Domains(Domains),
    /// The other name of a domain.
    Domain(Domain),
    /// The person behind an account.
    Alias(Alias),
    /// An account is a person of its own, whatever its domain means.
    Split(Account),
    /// Accounts that are nobody's.
    NoPerson(NoPerson),
    /// The department of an account.
    Department(Department),
    /// Who is free.
    Free(Free),
    /// The features of a SKU.
    Sku(SkuRule),
    /// Features that never count.
    NeverCounted(NeverCounted),
    /// A customer.
    Customer(Customer),
    /// Whose use is a customer's.
    Assign(Assign),
    /// What is licensed, or agreed.
    Entitled(Entitled),
}

/// Who counts as a user of a month.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counted {
    /// Who.
    pub who: PersonRule,
}

/// Who counts as a user of a month.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PersonRule {
    /// Everyone who held a seat at any moment of the month.
    #[default]
    Held,
    /// Everyone who checked out a seat in the month.
    CheckedOut,
}

/// What domains mean.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Domains {
    /// What.
    pub rule: DomainRule,
}

/// How the domains of user names decide which identities are the same person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DomainRule {
    /// `jo@a.com` and `jo@b.com` are two people.
    #[default]
    Keep,
    /// `jo@a.com` and `jo@b.com` are one person: domains are cut off, as Citrix license servers do by default.
    Truncate,
    /// `jo@a.com` and `jo@b.com` are one person if the rules give both domains the same name. A domain whose other name is empty is cut
    /// off.
    Map,
}

/// The other name of a domain: its NetBIOS name, or that of the domain that it has become.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Domain {
    /// The domain.
    pub name: String,
    /// The domain that it is; empty if it is cut off.
    pub is: String,
}

/// An account: a name of a user, in a realm. `DOMAIN\user` is the same as `user@domain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// The name.
    pub user: String,
    /// The realm; empty is the default one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub realm: String,
}

/// The person behind an account, who is known by another name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alias {
    /// The account.
    pub user: String,
    /// Its realm; empty is the default one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub realm: String,
    /// The person: another account of the same realm.
    pub person: String,
}

/// Accounts that are nobody's: of services and of machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoPerson {
    /// What their names are like; `*` stands for any characters, `?` for one.
    pub pattern: String,
    /// Only in this realm; all if none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realm: Option<String>,
}

/// The department of an account, as a directory tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Department {
    /// The account.
    pub user: String,
    /// Its realm; empty is the default one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub realm: String,
    /// The department.
    pub department: String,
}

/// Who is free.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Free {
    /// Who.
    pub who: Selector,
    /// As what.
    pub cause: Cause,
    /// At most so many people of them are free in a month, the first by name; the others are paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap: Option<u64>,
}

/// Why somebody is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// For a trial.
    Trial,
    /// For tests.
    Test,
    /// For administration.
    Administrative,
    /// For the provider itself.
    Internal,
}

/// Whom or what a rule is about: exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selector {
    /// An account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The accounts whose names are like this; `*` stands for any characters, `?` for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// The accounts of a domain, as it is written in their names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// The accounts of a department.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub department: Option<String>,
    /// All that is used of a feature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature: Option<String>,
    /// All that is used on a license server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// All that is used on the license servers of a realm; beside an account, its realm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realm: Option<String>,
}

/// Whom or what a rule is about. The first ones are more specific than those after them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Selected<'a> {
    /// An account, and its realm.
    User(&'a str, &'a str),
    /// The accounts of a department.
    Department(&'a str),
    /// The accounts whose names are like this.
    Pattern(&'a str),
    /// The accounts of a domain.
    Domain(&'a str),
    /// All that is used of a feature.
    Feature(&'a str),
    /// All that is used on a license server.
    Server(&'a str),
    /// All that is used on the license servers of a realm.
    Realm(&'a str),
}

impl Selector {
    /// Returns what is selected; `None` if it is not exactly one thing.
    pub fn selected(&self) -> Option<Selected<'_>> {
        let Self { user, pattern, domain, department, feature, server, realm } = self;
        let realm_of_user = realm.as_deref().unwrap_or_default();
        let mut found = [
            user.as_deref().map(|user| Selected::User(user, realm_of_user)),
            department.as_deref().map(Selected::Department),
            pattern.as_deref().map(Selected::Pattern),
            domain.as_deref().map(Selected::Domain),
            feature.as_deref().map(Selected::Feature),
            server.as_deref().map(Selected::Server),
            realm.as_deref().filter(|_| user.is_none()).map(Selected::Realm),
        ]
        .into_iter()
        .flatten();
        found.next().filter(|_| found.next().is_none())
    }

    /// Returns a text that two selectors have in common if they select the same.
    pub fn key(&self) -> String {
        match self.selected() {
            Some(Selected::User(user, realm)) => format!("user {realm:?} {:?}", account(&fold_case(user))),
            Some(Selected::Realm(realm)) => format!("realm {realm:?}"),
            Some(other) => fold_case(&format!("{other:?}")).into_owned(),
            None => String::new(),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.selected() {
            Some(Selected::User(user, "")) => write!(f, "user {user}"),
            Some(Selected::User(user, realm)) => write!(f, "user {user} of realm {realm}"),
            Some(Selected::Department(name)) => write!(f, "department {name}"),
            Some(Selected::Pattern(name)) => write!(f, "users like {name}"),
            Some(Selected::Domain(name)) => write!(f, "domain {name}"),
            Some(Selected::Feature(name)) => write!(f, "feature {name}"),
            Some(Selected::Server(name)) => write!(f, "license server {name}"),
            Some(Selected::Realm(name)) => write!(f, "realm {name}"),
            None => f.write_str("nobody"),
        }
    }
}

/// The features of a SKU. A SKU can have several such rules, for several daemons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SkuRule {
    /// The id. It is a text, since leading zeros matter.
    pub id: String,
    /// The product's name.
    pub product: String,
    /// The vendor daemon.
    pub daemon: String,
    /// The codes of its features.
    pub features: Vec<String>,
    /// What is counted.
    #[serde(default, skip_serializing_if = "Unit::is_user")]
    pub unit: Unit,
    /// The number by which the distributor knows it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub part_number: String,
    /// The product of which it is an edition: who uses several editions counts for the highest one alone.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub edition_of: String,
    /// The rank among the editions; higher ones count.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rank: u32,
    /// The price of one, with its currency, as `12.50 EUR`: shown, and calculated with nowhere.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub price: String,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// What is counted of a SKU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// People.
    #[default]
    User,
    /// Hosts on which seats were held.
    Device,
    /// People or hosts, whichever are fewer.
    UserOrDevice,
    /// The most seats in use at once.
    Concurrent,
    /// Hours for which seats were held, begun ones in full.
    SeatHour,
}

impl Unit {
    fn is_user(&self) -> bool {
        *self == Self::User
    }
}

/// Features that never count: what starts with the daemon, and what diagnoses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NeverCounted {
    /// The vendor daemon.
    pub daemon: String,
    /// The codes of the features.
    pub features: Vec<String>,
}

/// A customer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Customer {
    /// The short name by which other rules know it.
    pub id: String,
    /// The name on reports.
    pub name: String,
    /// The address, in one line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// The country, as ISO 3166 writes it in two letters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub country: String,
    /// The number of the contract.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub contract: String,
    /// Whether its name is to stand on no report that leaves the house.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub confidential: bool,
}

/// Whose use is a customer's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assign {
    /// The customer's short name.
    pub customer: String,
    /// Whose use, or the use of what.
    pub who: Selector,
}

/// What is licensed, or agreed, of a SKU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entitled {
    /// The SKU's id.
    pub sku: String,
    /// The customer's short name; empty is all of them together.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub customer: String,
    /// How many may be used.
    pub quantity: u64,
    /// At least so many are paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum: Option<u64>,
}

/// Returns a case-folded name of an account in the one form in which it is compared: `DOMAIN\user` as `user@domain`.
pub fn account(folded: &str) -> String {
    match seatmeter_count::name::split_domain(folded) {
        (user, "") => user.to_owned(),
        (user, domain) => format!("{user}@{domain}"),
    }
}

/// Months as texts.
mod month {
    use seatmeter_count::Month;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(month: &Option<Month>, serializer: S) -> Result<S::Ok, S::Error> {
        match month {
            Some(month) => serializer.collect_str(month),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Month>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(serde::de::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(from: Option<&str>, through: Option<&str>) -> Rule {
        let month = |text: &str| text.parse().unwrap();
        let who = Selector { user: Some("ACME\\Jo".into()), realm: Some("r".into()), ..Selector::default() };
        let says = Says::Free(Free { who, cause: Cause::Test, cap: None });
        Rule { says, from: from.map(month), through: through.map(month), reason: "asked for".into() }
    }

    #[test]
    fn the_canonical_form_is_read_as_it_is_written() {
        let rule = rule(Some("2026-01"), None);
        let text = rule.canonical();
        assert_eq!(
            text,
            "{\"free\":{\"who\":{\"user\":\"ACME\\\\Jo\",\"realm\":\"r\"},\"cause\":\"test\"},\"from\":\"2026-01\",\"reason\":\"asked for\"}"
        );
        assert_eq!(serde_json::from_str::<Rule>(&text).unwrap(), rule);
        assert!(serde_json::from_str::<Rule>("{\"free\":{\"who\":{\"usr\":\"x\"},\"cause\":\"test\"}}").is_err());
    }

    #[test]
    fn months_overlap_in_both_directions() {
        let cases = [
            (Some("2026-01"), Some("2026-03"), Some("2026-03"), None, true),
            (Some("2026-01"), Some("2026-03"), Some("2026-04"), None, false),
            (None, Some("2025-12"), Some("2026-01"), Some("2026-02"), false),
            (None, None, Some("2026-01"), Some("2026-02"), true),
        ];
        for (a, b, c, d, expected) in cases {
            let (one, other) = (rule(a, b), rule(c, d));
            assert_eq!((one.overlaps(&other), other.overlaps(&one)), (expected, expected));
        }
        assert!(rule(Some("2026-01"), Some("2026-01")).is_valid_in("2026-01".parse().unwrap()));
        assert!(!rule(Some("2026-01"), Some("2026-01")).is_valid_in("2026-02".parse().unwrap()));
    }

    #[test]
    fn a_selector_selects_one_thing() {
        let server = Selector { server: Some("LIC01".into()), ..Selector::default() };
        assert_eq!(server.selected(), Some(Selected::Server("LIC01")));
        let both = Selector { domain: Some("a".into()), ..server };
        assert_eq!((both.selected(), Selector::default().selected()), (None, None));
        let one = Selector { user: Some("ACME\\Jo".into()), ..Selector::default() };
        let same = Selector { user: Some("jo@acme".into()), ..Selector::default() };
        assert_eq!(one.key(), same.key());
    }
}
