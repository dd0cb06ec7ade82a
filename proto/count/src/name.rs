//! Reads the bytes of names, and folds their case, so that spellings of the same name compare equal.

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

/// Splits `DOMAIN\user` or `user@domain` into user and domain. A name of neither form is a user with an empty domain.
pub fn split_domain(name: &str) -> (&str, &str) {
    if let Some((domain, user)) = name.split_once('\\')
        && !user.is_empty()
        && !domain.is_empty()
    {
        return (user, domain);
    }
    match name.rsplit_once('@') {
        Some((user, domain)) if !user.is_empty() && !domain.is_empty() => (user, domain),
        _ => (name, ""),
    }
}

/// Reads a name that a license server wrote: UTF-8, or Windows-1252 if it is not valid UTF-8. Servers write names in the
/// encoding of their system. Different bytes give different names.
pub fn decode(name: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(name) {
        Ok(name) => Cow::Borrowed(name),
        Err(_) => Cow::Owned(name.iter().map(|byte| windows_1252(*byte)).collect()),
    }
}

/// Returns a character of Windows-1252, as the WHATWG's Encoding Standard maps it: five bytes without a character stand
/// for control characters.
fn windows_1252(byte: u8) -> char {
    const HIGH: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘',
        '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
    ];
    match byte {
        0x80..=0x9f => HIGH[usize::from(byte - 0x80)],
        other => char::from(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_utf_8_are_windows_1252() {
        assert_eq!(decode("J\u{f6}rg".as_bytes()), "Jörg");
        assert_eq!(decode(b"J\xf6rg"), "Jörg");
        assert_eq!(decode(b"J\xfcrg \x80\x9f\x81"), "Jürg €Ÿ\u{81}");
        let all: std::collections::HashSet<char> = (0..=255).map(windows_1252).collect();
        assert_eq!(all.len(), 256, "different bytes give different characters");
    }

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
