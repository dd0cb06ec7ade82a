//! The rules by which questions are answered, and the version that names them.

use serde::Deserialize;

use super::catalogue::Catalogue;
use super::people::{DomainRule, IdentityRules};

/// Who counts as a user of a month.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PersonRule {
    /// Everyone who held a seat at any moment of the month.
    #[default]
    Held,
    /// Everyone who checked out a seat in the month.
    CheckedOut,
}

/// The rules behind an answer.
#[derive(Clone, Debug)]
pub struct Basis {
    /// The IANA name of the time zone of days and months.
    pub time_zone: String,
    /// The rule that says who counts.
    pub person: PersonRule,
    /// The rule for the domains of user names.
    pub domains: DomainRule,
    /// The version of the rules, which changes whenever the rules or the catalogue change.
    pub version: String,
}

/// All rules by which questions are answered.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// The rules that map identities to people.
    pub identity: IdentityRules,
    /// The rule that says who counts.
    pub person: PersonRule,
    /// The catalogue, which maps features to SKUs.
    pub catalogue: Catalogue,
    /// The version, which changes with every change of the rules above.
    pub version: String,
}
