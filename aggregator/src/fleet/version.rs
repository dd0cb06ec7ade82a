//! Versions as programs tell them: numbers with dots between them, somewhere in a text.

/// A version: its numbers, the most important first. Of two, the one with the higher first different number is the later one; numbers
/// that are missing are 0.
#[derive(Clone, Debug, Default)]
pub(super) struct Version(Vec<u64>);

impl Version {
    /// Finds the first version in a text, as in `FlexNet Licensing (v11.19.6.0 build 293152 x64_lsb)`; `None` if there is none.
    pub(super) fn find(text: &str) -> Option<Self> {
        let begin = text.find(|character: char| character.is_ascii_digit())?;
        let rest = &text[begin..];
        let end = rest.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(rest.len());
        let numbers = rest[..end].split('.').filter(|number| !number.is_empty());
        Some(Self(numbers.map(|number| number.parse().unwrap_or(u64::MAX)).collect()))
    }

    /// Whether this version is earlier than another one.
    pub(super) fn is_before(&self, other: &Self) -> bool {
        let numbers =
            |version: &Self| version.0.clone().into_iter().chain(std::iter::repeat(0)).take(8).collect::<Vec<_>>();
        numbers(self) < numbers(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_and_compared_by_their_numbers() {
        let is_before = |one: &str, other: &str| Version::find(one).unwrap().is_before(&Version::find(other).unwrap());
        assert!(is_before("FlexNet Licensing (v11.9.6.0 build 293152 x64_lsb)", "11.19"));
        assert!(!is_before("FlexNet Licensing (v11.19.6.0 build 1)", "11.19"));
        assert!(!is_before("11.19", "11.19.0.0"));
        assert!(is_before("RLM v14.2BL4", "15") && !is_before("RLM v99999999999999999999", "15"));
        assert!(Version::find("unknown").is_none() && Version::find("").is_none());
        assert!(!is_before("1...", "1"));
    }
}
