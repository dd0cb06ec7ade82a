//! Folds the case of names, so that spellings of the same name compare equal.

use std::borrow::Cow;

/// Returns a name with its case folded (Unicode's full case folding). Spellings that differ only in case become equal.
/// Nothing else about the name changes: domains and accents are kept.
pub fn fold_case(name: &str) -> Cow<'_, str> {
    if name.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()) {
        Cow::Borrowed(name)
    } else if name.is_ascii() {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Owned(unicase::UniCase::unicode(name).to_folded_case())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_is_ignored_and_nothing_else() {
        assert_eq!(fold_case("upm"), "upm");
        assert_eq!(fold_case("UPM"), "upm");
        assert_eq!(fold_case("STRASSE"), fold_case("straße"));
        assert_eq!(fold_case("ΣΊΣΥΦΟΣ"), fold_case("σίσυφος"));
        assert_eq!(fold_case("Mª Luz"), "mª luz");
        assert_eq!(fold_case("E\u{fffd}X"), "e\u{fffd}x");
        assert_ne!(fold_case("a@eng.com"), fold_case("a@citrite.com"));
    }
}
