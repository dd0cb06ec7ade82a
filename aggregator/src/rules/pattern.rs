//! What names of accounts are like.

use seatmeter_count::name::{fold_case, split_domain};
use wildmatch::WildMatch;

use super::rule::account;

/// A pattern: `*` stands for any characters, `?` for one. With a domain, as `*@acme` or `ACME\*`, it is of whole accounts; else of
/// users, whatever their domains are.
#[derive(Clone, Debug)]
pub struct Pattern {
    pattern: WildMatch,
    has_domain: bool,
}

impl Pattern {
    /// Reads a pattern.
    pub fn new(text: &str) -> Self {
        let text = account(&fold_case(text));
        Self { has_domain: !split_domain(&text).1.is_empty(), pattern: WildMatch::new(&text) }
    }

    /// Returns whether a case-folded name is like this.
    pub fn matches(&self, key: &str) -> bool {
        match self.has_domain {
            true => self.pattern.matches(&account(key)),
            false => self.pattern.matches(split_domain(key).0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_known_whatever_their_domains_and_however_they_are_written() {
        let matching = |pattern: &str| -> Vec<&str> {
            let names = ["pc1$", "acme\\pc2$", "pc3$@acme", "pc4$@other", "kim@acme", "kim"];
            names.into_iter().filter(|name| Pattern::new(pattern).matches(name)).collect()
        };
        assert_eq!(matching("*$"), ["pc1$", "acme\\pc2$", "pc3$@acme", "pc4$@other"]);
        assert_eq!(matching("ACME\\PC?$"), ["acme\\pc2$", "pc3$@acme"]);
        assert_eq!(matching("*@acme"), ["acme\\pc2$", "pc3$@acme", "kim@acme"]);
        assert_eq!(matching("kim"), ["kim@acme", "kim"]);
    }
}
