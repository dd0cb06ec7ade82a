//! What a rule says, in words.

use seatmeter_proto::v1::rule::Says;
use seatmeter_proto::v1::selector::Selects;
use seatmeter_proto::v1::{Account, DomainRule, FreeCause, FreeUse, PersonRule, Rule, Selector, Unit};

/// Returns the kind of a rule, and what it says.
pub(crate) fn words(rule: &Rule) -> (&'static str, String) {
    let Some(says) = &rule.says else { return ("unknown", "of a later version".into()) };
    match says {
        Says::Counted(counted) => ("counted", counted_words(*counted).into()),
        Says::Domains(rule) => ("domains", domain_words(*rule).into()),
        Says::Domain(domain) if domain.is.is_empty() => ("domain", format!("{} is cut off", domain.name)),
        Says::Domain(domain) => ("domain", format!("{} is {}", domain.name, domain.is)),
        Says::Alias(alias) => ("alias", format!("{}{} is {}", alias.user, in_realm(&alias.realm), alias.person)),
        Says::Split(account) => ("split", format!("{} is a person of its own", of(account))),
        Says::NoPerson(nobody) => {
            let realm = nobody.realm.as_deref().map(in_realm).unwrap_or_default();
            ("no_person", format!("{}{realm} are nobody", nobody.pattern))
        }
        Says::Department(department) => {
            let text = format!("{}{} is of {}", department.user, in_realm(&department.realm), department.department);
            ("department", text)
        }
        Says::Free(free) => ("free", free_words(free)),
        Says::Sku(sku) => {
            let unit = match sku.unit() {
                Unit::Unspecified | Unit::User => String::new(),
                other => format!(", by {}", unit_words(other)),
            };
            ("sku", format!("{} ({}) is {} of {}{unit}", sku.id, sku.product, sku.features.join(", "), sku.daemon))
        }
        Says::NeverCounted(never) => {
            ("never_counted", format!("{} of {} never count", never.features.join(", "), never.daemon))
        }
        Says::Customer(customer) => ("customer", format!("{} is {}", customer.id, customer.name)),
        Says::Assign(assign) => ("assign", format!("{} is {}'s", selector_words(assign.who.as_ref()), assign.customer)),
        Says::Entitled(entitled) => {
            let whose = match entitled.customer.as_str() {
                "" => "all together".to_owned(),
                customer => customer.to_owned(),
            };
            ("entitled", format!("{} of {} for {whose}", entitled.quantity, entitled.sku))
        }
    }
}

fn counted_words(rule: i32) -> &'static str {
    match PersonRule::try_from(rule) {
        Ok(PersonRule::CheckedOut) => "who checked a seat out in the month counts",
        _ => "who held a seat in the month counts",
    }
}

fn domain_words(rule: i32) -> &'static str {
    match DomainRule::try_from(rule) {
        Ok(DomainRule::Truncate) => "domains are cut off",
        Ok(DomainRule::Map) => "domains are mapped",
        _ => "domains are kept",
    }
}

fn free_words(free: &FreeUse) -> String {
    let cause = match free.cause() {
        FreeCause::Trial => "trial",
        FreeCause::Test => "test",
        FreeCause::Administrative => "administrative",
        FreeCause::Internal => "internal",
        FreeCause::Unspecified => "unknown",
    };
    let cap = if free.cap > 0 { format!(", at most {} people", free.cap) } else { String::new() };
    format!("{} ({cause}{cap})", selector_words(free.who.as_ref()))
}

fn of(account: &Account) -> String {
    format!("{}{}", account.user, in_realm(&account.realm))
}

fn in_realm(realm: &str) -> String {
    if realm.is_empty() { String::new() } else { format!(" in realm {realm}") }
}

fn selector_words(selector: Option<&Selector>) -> String {
    match selector.and_then(|selector| selector.selects.as_ref()) {
        Some(Selects::User(account)) => format!("user {}", of(account)),
        Some(Selects::Pattern(pattern)) => format!("users like {pattern}"),
        Some(Selects::Domain(name)) => format!("domain {name}"),
        Some(Selects::Department(name)) => format!("department {name}"),
        Some(Selects::Feature(name)) => format!("feature {name}"),
        Some(Selects::Server(name)) => format!("server {name}"),
        Some(Selects::Realm(name)) => format!("realm {name}"),
        None => "nobody".into(),
    }
}

/// Returns what is counted of a SKU, in words.
pub(crate) fn unit_words(unit: Unit) -> &'static str {
    match unit {
        Unit::Unspecified | Unit::User => "user",
        Unit::Device => "device",
        Unit::UserOrDevice => "user or device",
        Unit::Concurrent => "concurrent seat",
        Unit::SeatHour => "seat-hour",
    }
}

/// Returns so many people, in words.
pub(crate) fn people(count: u64) -> String {
    match count {
        1 => "1 person".into(),
        count => format!("{} people", seatmeter_service::screen::text::thousands(count)),
    }
}
