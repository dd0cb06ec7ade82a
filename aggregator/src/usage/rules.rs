//! The rules by which questions are answered, and the version that names them.

use serde::Deserialize;

use super::catalogue::Catalogue;
use super::people::{DomainRule, IdentityRules};

/// Who counts as a user of a month.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PersonRule {
    /// Everyone who held a seat at any moment of it.
    #[default]
    Held,
    /// Everyone who checked a seat out in it.
    CheckedOut,
}

/// The rules behind an answer.
#[derive(Clone, Debug)]
pub struct Basis {
    /// The IANA name of the time zone of days and months.
    pub time_zone: String,
    /// Who counts.
    pub person: PersonRule,
    /// What domains mean.
    pub domains: DomainRule,
    /// A name that changes whenever the rules or the catalogue do.
    pub version: String,
}

/// All rules.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Who is one person.
    pub identity: IdentityRules,
    /// Who counts.
    pub person: PersonRule,
    /// What is sold.
    pub catalogue: Catalogue,
    /// Changes with every change of the above.
    pub version: String,
}
