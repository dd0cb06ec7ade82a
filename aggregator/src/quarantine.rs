//! The quarantine: what a copy of an agent sends is kept under a license server's name of its own, and counts nowhere.
//!
//! The name alone says it, so that everything that is known of license servers (its logs, its agents, how far it reports) is known of
//! a copy, too, and what it has sent moves to the license server that it is of as after any other renaming.

/// What stands behind the name of the license server that a copy was made of, before the number of the copy.
const MARK: &str = " (copy ";

/// The longest name of a license server, in bytes.
const LONGEST: usize = 255;

/// Returns the license server's name under which a copy of its agent is kept.
pub fn name_of(license_server: &str, number: i64) -> String {
    let end = format!("{MARK}{number})");
    let kept = license_server.floor_char_boundary(LONGEST - end.len());
    format!("{}{end}", &license_server[..kept])
}

/// Returns whether this is the name of a copy, so that nothing under it counts, and nobody may take it for a license server.
pub fn is_name(name: &str) -> bool {
    let number = name.strip_suffix(')').and_then(|name| Some(name.rsplit_once(MARK)?.1));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Returns the id of a copy's agent, which has that of the agent that it was copied from.
pub fn agent_id(id: &str, number: i64) -> String {
    let end = format!("#{number}");
    format!("{}{end}", &id[..id.floor_char_boundary(LONGEST - end.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_a_name_that_no_license_server_has() {
        assert_eq!(name_of("LIC01", 2), "LIC01 (copy 2)");
        assert!(is_name(&name_of(&"ä".repeat(200), 12)) && name_of(&"ä".repeat(200), 12).len() <= LONGEST);
        for name in ["LIC01", "LIC01 (copy )", "LIC01 (copy a)", "LIC01 (copy 1) x", "(copy 1)", ""] {
            assert!(!is_name(name), "{name}");
        }
    }
}
