//! The rules by which questions are answered, and the version that names them.

use serde::Deserialize;

use super::catalogue::Catalogue;
use super::people::IdentityRules;

/// Who counts as a user of a month.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PersonRule {
    /// Whoever held a seat at any moment of it.
    #[default]
    Held,
    /// Whoever checked one out in it.
    CheckedOut,
}

impl PersonRule {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::CheckedOut => "checked_out",
        }
    }
}

/// All of them.
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
