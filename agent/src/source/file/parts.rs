//! Tells from their names which files beside a log are its rotated parts.
//!
//! Two logs can lie beside each other (`debug.log`, `debug_2.log`, `debug-27010.log`), so a file is a part only if its
//! name is one that rotation makes of the log's name: with a number, a date, a time stamp, or `old`.

use std::path::{Path, PathBuf};

use globset::{Glob, GlobBuilder};

/// Why a file is taken as a part of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Its name is the log's name with this number, as in `debug.log.1`.
    Number(u32),
    /// Its name is the log's name with a date or a time stamp, as in `debug.20260101_080723.log`.
    Date,
    /// Its name is the log's name with a word for an old file, as in `debug.log.old`.
    Old,
    /// It matches this pattern of `archives`.
    Archive(PathBuf),
}

impl std::fmt::Display for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(_) => f.write_str("rotated: a number in its name"),
            Self::Date => f.write_str("rotated: a date in its name"),
            Self::Old => f.write_str("rotated: an old file by its name"),
            Self::Archive(pattern) => write!(f, "matches {}", pattern.display()),
        }
    }
}

/// What packers add to the names of files.
const PACKED: [&str; 8] = [".gz", ".zst", ".xz", ".bz2", ".Z", ".lz4", ".zip", ".7z"];

/// Returns why a file is a part of a log in the same folder, and how long the part of its name is that it shares with
/// the log's; `None` if its name says nothing of the kind.
pub fn claim(log: &str, file: &str) -> Option<(Claim, usize)> {
    let bare = PACKED.iter().find_map(|packed| file.strip_suffix(packed)).unwrap_or(file);
    if let Some(rest) = bare.strip_prefix(log) {
        return added(rest, true).map(|claim| (claim, log.len()));
    }
    let (stem, extension) = log.rsplit_once('.').filter(|(stem, _)| !stem.is_empty())?;
    let rest = bare.strip_prefix(stem)?.strip_suffix(extension)?.strip_suffix('.')?;
    added(rest, false).map(|claim| (claim, stem.len()))
}

/// Returns what a rotation has added to a name. Within a name, a short number after `-` or `_` is another log's.
fn added(rest: &str, is_at_end: bool) -> Option<Claim> {
    let text = rest.strip_prefix(['.', '-', '_'])?;
    if ["old", "bak", "prev"].iter().any(|word| text.eq_ignore_ascii_case(word)) {
        return Some(Claim::Old);
    }
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let is_number = digits == text.len() && digits > 0;
    if is_number && digits < SHORTEST_DATE {
        let number = text.parse().ok()?;
        return (is_at_end || rest.starts_with('.')).then_some(Claim::Number(number));
    }
    let letters = text.split(|char: char| !char.is_ascii_alphabetic()).filter(|word| !word.is_empty());
    let has_month = letters.clone().any(is_month);
    let are_of_a_date = letters.into_iter().all(|word| matches!(word, "T" | "t" | "Z" | "z") || is_month(word));
    let is_plain = text.chars().all(|char| char.is_ascii_alphanumeric() || "-_.:+ ".contains(char));
    (is_plain && are_of_a_date && (digits >= SHORTEST_DATE || has_month && digits > 0)).then_some(Claim::Date)
}

/// The digits of the shortest date, `260131`.
const SHORTEST_DATE: usize = 6;

fn is_month(word: &str) -> bool {
    const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    MONTHS.iter().any(|month| word.eq_ignore_ascii_case(month))
}

/// Whether a pattern matches the name of a file. In the last component of its path, `*` matches any characters, `?` one
/// character, `[a-z]` one of several, and `{a,b}` either.
pub fn matches(pattern: &Path, file: &str) -> bool {
    let name = pattern.file_name().map(|name| name.to_string_lossy());
    name.and_then(|name| glob(&name).ok()).is_some_and(|glob| glob.compile_matcher().is_match(file))
}

/// Parses the pattern of a file name. A backslash does not escape, because it separates folders on Windows.
pub fn glob(name: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(name).backslash_escape(false).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotated_parts_are_known_by_their_names_and_nothing_else_is() {
        for (file, expected) in [
            ("debug.log.1", Claim::Number(1)),
            ("debug.log.2.gz", Claim::Number(2)),
            ("debug.log.12.zst", Claim::Number(12)),
            ("debug.log-3", Claim::Number(3)),
            ("debug.1.log", Claim::Number(1)),
            ("debug.log-20260101.gz", Claim::Date),
            ("debug.log.2026-01-01", Claim::Date),
            ("debug.20230921_080723.log", Claim::Date),
            ("debug.2026_T1200.log.xz", Claim::Date),
            ("debug_20260101.log", Claim::Date),
            ("debug-01Jan2026.log", Claim::Date),
            ("debug.log.2026-01-01T12:00:00Z", Claim::Date),
            ("debug.log.old", Claim::Old),
            ("debug.old.log.gz", Claim::Old),
            ("debug.log.BAK", Claim::Old),
        ] {
            assert_eq!(claim("debug.log", file).map(|(claim, _)| claim), Some(expected), "{file}");
        }
        for other in [
            "debug.log",
            "debug_2.log",
            "debug-27010.log",
            "debug_2.log.1",
            "debug.log.swp",
            "other.log.1",
            "debug.logs",
            "debugger.1.log",
            "debug.txt",
            "debug.log.gz",
            "debug - Copy.log",
            "debug.log.20260101.part",
            "debug_server7.log",
        ] {
            assert_eq!(claim("debug.log", other), None, "{other}");
        }
    }

    #[test]
    fn patterns_match_names() {
        assert!(matches(Path::new("/x/debug.log.*"), "debug.log.swp"));
        assert!(matches(Path::new("*.1"), "other.log.1"));
        assert!(matches(Path::new("o*r.l*1"), "other.log.1"));
        assert!(!matches(Path::new("debug.log"), "debug.log.1"));
    }
}
