//! The quarantine: what a copy of an agent sends is kept under a license server's name of its own, and counts nowhere.
//!
//! The name alone says it, so that everything that is known of license servers (its logs, its agents, how far it reports) is known of
//! a copy, too, and what it has sent moves to the license server that it is of as after any other renaming.

use jiff::Timestamp;

/// What stands behind the name of the license server that a copy was made of, before what tells copies apart.
const MARK: &str = " (copy ";

/// The longest name of a license server, in bytes.
const LONGEST: usize = 255;

/// How many digits of an enrolment's id stand in a name.
const ID_DIGITS: usize = 8;

/// A copy of an agent, as no other one is called: not one of another agent of the same license server, and none that came before a
/// database was restored.
pub struct Copy<'a> {
    /// The id of the enrolment.
    pub enrolment: &'a str,
    /// Counts the holders of the enrolment.
    pub number: i64,
    /// When it came first, in seconds since 1970 UTC.
    pub since: i64,
}

impl Copy<'_> {
    fn short(&self) -> String {
        let id: String = self.enrolment.chars().take(ID_DIGITS).collect();
        format!("{id}-{}", self.number)
    }

    /// Returns the license server's name under which what it sends is kept.
    pub fn name(&self, license_server: &str) -> String {
        let since = Timestamp::from_second(self.since).unwrap_or_default();
        let end = format!("{MARK}{}, {})", self.short(), since.strftime("%Y-%m-%d %H:%M:%S"));
        let kept = license_server.floor_char_boundary(LONGEST - end.len());
        format!("{}{end}", &license_server[..kept])
    }

    /// Returns the id of its agent, which has that of the agent that it was copied from.
    pub fn agent_id(&self, id: &str) -> String {
        let end = format!("#{}", self.short());
        format!("{}{end}", &id[..id.floor_char_boundary(LONGEST - end.len())])
    }
}

/// Returns whether this is the name of a copy, so that nothing under it counts, and nobody may take it for a license server.
pub fn is_name(name: &str) -> bool {
    let told = name.strip_suffix(')').and_then(|name| Some(name.rsplit_once(MARK)?.1));
    told.and_then(|told| told.split_once(", ")).is_some_and(|(short, since)| {
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let has_number = short.rsplit_once('-').is_some_and(|(_, number)| is_number(number));
        has_number && since.bytes().all(|byte| byte.is_ascii_digit() || b"-: ".contains(&byte))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_a_name_that_no_license_server_has() {
        let copy = Copy { enrolment: "1c80e7aa-0000-4000-8000-000000000000", number: 12, since: 1_780_000_000 };
        assert_eq!(copy.name("LIC01"), "LIC01 (copy 1c80e7aa-12, 2026-05-28 20:26:40)");
        assert_eq!(copy.agent_id("id"), "id#1c80e7aa-12");
        let long = copy.name(&"ä".repeat(200));
        assert!(is_name(&long) && is_name(&copy.name("")) && long.len() <= LONGEST);
        for name in ["LIC01", "LIC01 (copy )", "LIC01 (copy 2)", "LIC01 (copy a-1, b)", "LIC01 (copy a-1, 2) x", ""] {
            assert!(!is_name(name), "{name}");
        }
    }
}
