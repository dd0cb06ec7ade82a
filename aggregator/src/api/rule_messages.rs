//! Rules as messages of the contract, and back.

use seatmeter_count::Month;
use seatmeter_proto::v1;
use seatmeter_proto::v1::rule::Says as Said;
use seatmeter_proto::v1::selector::Selects;

use super::status::ApiError;
use crate::month::effect::MonthEffect;
use crate::rules::rule::{
    Account, Alias, Assign, Cause, Counted, Customer, Department, Domain, DomainRule, Domains, Entitled, Free,
    NeverCounted, NoPerson, PersonRule, Rule, Says, Selected, Selector, SkuRule, Unit,
};
use crate::rules::set::Numbered;

impl From<Numbered> for v1::Rule {
    fn from(Numbered { number, origin, rule }: Numbered) -> Self {
        let month = |month: Option<Month>| month.map(|month| month.to_string()).unwrap_or_default();
        Self {
            number,
            origin,
            from_month: month(rule.from),
            through_month: month(rule.through),
            reason: rule.reason,
            says: Some(rule.says.into()),
        }
    }
}

impl From<Says> for Said {
    fn from(says: Says) -> Self {
        match says {
            Says::Counted(counted) => Self::Counted(v1::PersonRule::from(counted.who).into()),
            Says::Domains(domains) => Self::Domains(v1::DomainRule::from(domains.rule).into()),
            Says::Domain(Domain { name, is }) => Self::Domain(v1::DomainName { name, is }),
            Says::Alias(Alias { user, realm, person }) => Self::Alias(v1::Alias { user, realm, person }),
            Says::Split(Account { user, realm }) => Self::Split(v1::Account { user, realm }),
            Says::NoPerson(NoPerson { pattern, realm }) => Self::NoPerson(v1::Nobody { pattern, realm }),
            Says::Department(Department { user, realm, department }) => {
                Self::Department(v1::Department { user, realm, department })
            }
            Says::Free(free) => Self::Free(v1::FreeUse {
                who: Some((&free.who).into()),
                cause: v1::FreeCause::from(free.cause).into(),
                cap: free.cap.unwrap_or_default(),
            }),
            Says::Sku(sku) => Self::Sku(v1::CatalogueEntry {
                id: sku.id,
                product: sku.product,
                daemon: sku.daemon,
                features: sku.features,
                unit: v1::Unit::from(sku.unit).into(),
                part_number: sku.part_number,
                edition_of: sku.edition_of,
                rank: sku.rank,
                price: sku.price,
            }),
            Says::NeverCounted(NeverCounted { daemon, features }) => {
                Self::NeverCounted(v1::Features { daemon, features })
            }
            Says::Customer(customer) => Self::Customer(customer.into()),
            Says::Assign(Assign { customer, who }) => {
                Self::Assign(v1::Assignment { customer, who: Some((&who).into()) })
            }
            Says::Entitled(Entitled { sku, customer, quantity, minimum }) => {
                let minimum = minimum.unwrap_or_default();
                Self::Entitled(v1::EntitledQuantity { sku, customer, quantity, minimum })
            }
        }
    }
}

impl From<Customer> for v1::Customer {
    fn from(Customer { id, name, address, country, contract, confidential }: Customer) -> Self {
        Self { id, name, address, country, contract, confidential }
    }
}

impl From<&Selector> for v1::Selector {
    fn from(selector: &Selector) -> Self {
        let selects = selector.selected().map(|selected| match selected {
            Selected::User(user, realm) => Selects::User(v1::Account { user: user.into(), realm: realm.into() }),
            Selected::Department(name) => Selects::Department(name.into()),
            Selected::Pattern(name) => Selects::Pattern(name.into()),
            Selected::Domain(name) => Selects::Domain(name.into()),
            Selected::Feature(name) => Selects::Feature(name.into()),
            Selected::Server(name) => Selects::Server(name.into()),
            Selected::Realm(name) => Selects::Realm(name.into()),
        });
        Self { selects }
    }
}

impl From<Unit> for v1::Unit {
    fn from(unit: Unit) -> Self {
        match unit {
            Unit::User => Self::User,
            Unit::Device => Self::Device,
            Unit::UserOrDevice => Self::UserOrDevice,
            Unit::Concurrent => Self::Concurrent,
            Unit::SeatHour => Self::SeatHour,
        }
    }
}

impl From<Cause> for v1::FreeCause {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Trial => Self::Trial,
            Cause::Test => Self::Test,
            Cause::Administrative => Self::Administrative,
            Cause::Internal => Self::Internal,
        }
    }
}

impl From<PersonRule> for v1::PersonRule {
    fn from(rule: PersonRule) -> Self {
        match rule {
            PersonRule::Held => Self::Held,
            PersonRule::CheckedOut => Self::CheckedOut,
        }
    }
}

impl From<DomainRule> for v1::DomainRule {
    fn from(rule: DomainRule) -> Self {
        match rule {
            DomainRule::Keep => Self::Keep,
            DomainRule::Truncate => Self::Truncate,
            DomainRule::Map => Self::Map,
        }
    }
}

/// Reads a rule that somebody wants to add.
pub(super) fn rule(message: v1::Rule) -> Result<Rule, ApiError> {
    let month = |field: &'static str, text: &str| match text {
        "" => Ok(None),
        text => text.parse::<Month>().map(Some).map_err(|error| ApiError::invalid(field, error.to_string())),
    };
    Ok(Rule {
        from: month("add.from_month", &message.from_month)?,
        through: month("add.through_month", &message.through_month)?,
        reason: message.reason,
        says: says(message.says.ok_or_else(|| ApiError::invalid("add.says", "is missing"))?)?,
    })
}

fn says(said: Said) -> Result<Says, ApiError> {
    let unknown = |field| ApiError::invalid(field, "is none that is known here");
    Ok(match said {
        Said::Counted(rule) => Says::Counted(Counted {
            who: match v1::PersonRule::try_from(rule) {
                Ok(v1::PersonRule::Held) => PersonRule::Held,
                Ok(v1::PersonRule::CheckedOut) => PersonRule::CheckedOut,
                _ => return Err(unknown("add.counted")),
            },
        }),
        Said::Domains(rule) => Says::Domains(Domains {
            rule: match v1::DomainRule::try_from(rule) {
                Ok(v1::DomainRule::Keep) => DomainRule::Keep,
                Ok(v1::DomainRule::Truncate) => DomainRule::Truncate,
                Ok(v1::DomainRule::Map) => DomainRule::Map,
                _ => return Err(unknown("add.domains")),
            },
        }),
        Said::Domain(v1::DomainName { name, is }) => Says::Domain(Domain { name, is }),
        Said::Alias(v1::Alias { user, realm, person }) => Says::Alias(Alias { user, realm, person }),
        Said::Split(v1::Account { user, realm }) => Says::Split(Account { user, realm }),
        Said::NoPerson(v1::Nobody { pattern, realm }) => Says::NoPerson(NoPerson { pattern, realm }),
        Said::Department(v1::Department { user, realm, department }) => {
            Says::Department(Department { user, realm, department })
        }
        Said::Free(free) => Says::Free(Free {
            cause: match free.cause() {
                v1::FreeCause::Trial => Cause::Trial,
                v1::FreeCause::Test => Cause::Test,
                v1::FreeCause::Administrative => Cause::Administrative,
                v1::FreeCause::Internal => Cause::Internal,
                v1::FreeCause::Unspecified => return Err(unknown("add.free.cause")),
            },
            cap: (free.cap > 0).then_some(free.cap),
            who: selector(free.who),
        }),
        Said::Sku(sku) => Says::Sku(SkuRule {
            unit: match v1::Unit::try_from(sku.unit) {
                Ok(v1::Unit::Unspecified | v1::Unit::User) => Unit::User,
                Ok(v1::Unit::Device) => Unit::Device,
                Ok(v1::Unit::UserOrDevice) => Unit::UserOrDevice,
                Ok(v1::Unit::Concurrent) => Unit::Concurrent,
                Ok(v1::Unit::SeatHour) => Unit::SeatHour,
                Err(_) => return Err(unknown("add.sku.unit")),
            },
            id: sku.id,
            product: sku.product,
            daemon: sku.daemon,
            features: sku.features,
            part_number: sku.part_number,
            edition_of: sku.edition_of,
            rank: sku.rank,
            price: sku.price,
        }),
        Said::NeverCounted(v1::Features { daemon, features }) => Says::NeverCounted(NeverCounted { daemon, features }),
        Said::Customer(v1::Customer { id, name, address, country, contract, confidential }) => {
            Says::Customer(Customer { id, name, address, country, contract, confidential })
        }
        Said::Assign(v1::Assignment { customer, who }) => Says::Assign(Assign { customer, who: selector(who) }),
        Said::Entitled(v1::EntitledQuantity { sku, customer, quantity, minimum }) => {
            Says::Entitled(Entitled { sku, customer, quantity, minimum: (minimum > 0).then_some(minimum) })
        }
    })
}

/// One that selects nothing is refused with the rule.
fn selector(message: Option<v1::Selector>) -> Selector {
    let mut selector = Selector::default();
    match message.and_then(|message| message.selects) {
        Some(Selects::User(v1::Account { user, realm })) => {
            selector.user = Some(user);
            selector.realm = Some(realm).filter(|realm| !realm.is_empty());
        }
        Some(Selects::Pattern(name)) => selector.pattern = Some(name),
        Some(Selects::Domain(name)) => selector.domain = Some(name),
        Some(Selects::Department(name)) => selector.department = Some(name),
        Some(Selects::Feature(name)) => selector.feature = Some(name),
        Some(Selects::Server(name)) => selector.server = Some(name),
        Some(Selects::Realm(name)) => selector.realm = Some(name),
        None => {}
    }
    selector
}

impl From<MonthEffect> for v1::MonthEffect {
    fn from(effect: MonthEffect) -> Self {
        let line = |line: crate::month::effect::LineEffect| v1::LineEffect {
            customer: line.customer,
            sku: line.sku,
            before: line.before,
            after: line.after,
        };
        let person = |person: crate::month::effect::PersonEffect| v1::PersonEffect {
            realm: person.realm,
            person: person.person,
            before: person.before,
            after: person.after,
        };
        Self {
            month: effect.month.to_string(),
            lines: effect.lines.into_iter().map(line).collect(),
            people: effect.people.into_iter().map(person).collect(),
            people_count: effect.people_count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::file;

    /// Every kind of rule comes out of a message as it went in.
    #[test]
    fn rules_are_read_as_they_are_told() {
        let text = r#"
counted = { who = "checked_out", from = "2026-01" }
domains = { rule = "truncate" }
domain = { name = "a", is = "" }
alias = { user = "a", person = "b", realm = "r" }
split = { user = "a", through = "2026-02" }
no_person = [{ pattern = "*$" }, { pattern = "svc-*", realm = "" }]
department = { user = "a", department = "d", reason = "why" }
never_counted = { daemon = "d", features = ["f"] }
customer = { id = "c", name = "C", country = "DE", confidential = true }
entitled = [{ sku = "S", quantity = 0 }, { sku = "S", customer = "c", quantity = 5, minimum = 3 }]

[[free]]
who = { user = "a", realm = "r" }
cause = "trial"
cap = 3

[[assign]]
customer = "c"
who = { realm = "" }

[[sku]]
id = "S"
product = "P"
daemon = "d"
features = ["f"]
unit = "seat_hour"
edition_of = "P"
rank = 2
price = "1.50 EUR"
"#;
        let rules = file::parse(text).unwrap();
        assert_eq!(rules.len(), 15);
        for rule in rules {
            let numbered = Numbered { number: 1, origin: String::new(), rule: rule.clone() };
            assert_eq!(super::rule(numbered.into()).unwrap(), rule);
        }
    }
}
