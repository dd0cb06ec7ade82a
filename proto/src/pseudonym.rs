//! Pseudonyms: what an agent sends in place of the names of users and of their machines, if it is told to. The same name has the same
//! pseudonym at all agents that have the same key; without the key, a pseudonym says nothing of its name.
//!
//! User and domain have pseudonyms of their own, and stand as they stood, so that all rules about domains hold as they do for names. As
//! with names, case makes no difference.

use std::fmt::{self, Formatter};
use std::str::FromStr;

use data_encoding::{BASE64URL_NOPAD, Encoding, Specification};
use ring::digest::{SHA256, digest};
use ring::hmac::{self, HMAC_SHA256};
use ring::rand::{SecureRandom, SystemRandom};
use seatmeter_count::name::{fold_case, split_domain};

/// The beginning of every key, with the version of what follows.
const MARK: &str = "seatmeter-names1.";

/// How much of a hash is told, in bytes: of a name, and of the key.
const OF_NAME: usize = 16;
const OF_KEY: usize = 3;

/// A key of pseudonyms. It is not shown.
#[derive(Clone)]
pub struct Key {
    secret: [u8; 32],
    hmac: hmac::Key,
    id: String,
}

/// A text is no key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("it holds no key of pseudonyms: one begins with {MARK:?}; `seatmeter-agent pseudonyms new-key FILE` makes one")]
pub struct NoKey;

/// The operating system has no random numbers.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gives no random numbers")]
pub struct NoRandom;

/// The key is not shown.
impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
}

impl FromStr for Key {
    type Err = NoKey;

    fn from_str(text: &str) -> Result<Self, NoKey> {
        let encoded = text.trim().strip_prefix(MARK).ok_or(NoKey)?;
        let secret = BASE64URL_NOPAD.decode(encoded.as_bytes()).ok().and_then(|secret| secret.try_into().ok());
        Ok(Self::of(secret.ok_or(NoKey)?))
    }
}

impl Key {
    /// Makes a key.
    pub fn new() -> Result<Self, NoRandom> {
        let mut secret = [0; 32];
        SystemRandom::new().fill(&mut secret).map_err(|_| NoRandom)?;
        Ok(Self::of(secret))
    }

    fn of(secret: [u8; 32]) -> Self {
        let hash = digest(&SHA256, &[b"seatmeter key of pseudonyms".as_slice(), &secret].concat());
        let id = base32().encode(&hash.as_ref()[..OF_KEY]);
        Self { secret, hmac: hmac::Key::new(HMAC_SHA256, &secret), id }
    }

    /// Returns the text of the key, for the file that holds it.
    pub fn text(&self) -> String {
        format!("{MARK}{}", BASE64URL_NOPAD.encode(&self.secret))
    }

    /// Returns what the key is known by, which says nothing about it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns a key for another purpose, which says nothing about this one.
    pub fn derived(&self, purpose: &str) -> [u8; 32] {
        let mut derived = [0; 32];
        derived.copy_from_slice(self.tag("derived", purpose).as_ref());
        derived
    }

    /// Returns the pseudonym of a user; an empty name stays empty.
    pub fn user(&self, name: &str) -> String {
        let folded = fold_case(name);
        let (user, domain) = split_domain(&folded);
        if domain.is_empty() {
            return self.pseudonym("user", user);
        }
        // The form stays: which forms are one person is a rule, and none where no rule is applied.
        let (of_user, of_domain) = (self.pseudonym("user", user), self.pseudonym("domain", domain));
        let is_before = folded.strip_prefix(domain).is_some_and(|rest| rest.strip_prefix('\\') == Some(user));
        if is_before { format!("{of_domain}\\{of_user}") } else { format!("{of_user}@{of_domain}") }
    }

    /// Returns the pseudonym of a machine; an empty name stays empty.
    pub fn host(&self, name: &str) -> String {
        self.pseudonym("host", &fold_case(name))
    }

    fn pseudonym(&self, kind: &str, name: &str) -> String {
        if name.is_empty() {
            return String::new();
        }
        format!("p-{}-{}", self.id, base32().encode(&self.tag(kind, name).as_ref()[..OF_NAME]))
    }

    fn tag(&self, kind: &str, name: &str) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.hmac);
        context.update(&(kind.len() as u64).to_be_bytes());
        context.update(kind.as_bytes());
        context.update(name.as_bytes());
        context.sign()
    }
}

/// Returns base 32 in lower case without padding: case must make no difference, and `-`, `@` and `\` must not stand in it.
fn base32() -> Encoding {
    let mut specification = Specification::new();
    specification.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    // 32 different symbols of ASCII are a specification.
    specification.encoding().unwrap_or(data_encoding::BASE32_NOPAD)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn key(secret: u8) -> Key {
        Key::of([secret; 32])
    }

    proptest! {
        /// Two names have the same pseudonym if, and only if, they are the same user and domain but for case; and of two with the same
        /// user, the parts before the domain are the same.
        #[test]
        fn pseudonyms_are_the_same_where_names_are(names in proptest::collection::vec("[aAbß@\\\\.]{0,4}", 1..20)) {
            let key = key(7);
            let mut known: HashMap<(String, String), String> = HashMap::new();
            let mut seen: HashMap<String, (String, String)> = HashMap::new();
            for name in &names {
                let folded = fold_case(name);
                let (user, domain) = split_domain(&folded);
                let pair = (user.to_owned(), domain.to_owned());
                let pseudonym = key.user(name);
                let (of_user, of_domain) = split_domain(&pseudonym);
                let pseudonym = format!("{of_user}@{of_domain}");
                prop_assert_eq!(known.entry(pair.clone()).or_insert_with(|| pseudonym.clone()), &pseudonym);
                prop_assert_eq!(seen.entry(pseudonym.clone()).or_insert_with(|| pair.clone()), &pair);
                let alone = key.pseudonym("user", user);
                prop_assert_eq!(of_user, &alone);
                prop_assert_eq!(of_domain.is_empty(), domain.is_empty());
                let folded = fold_case(&pseudonym);
                prop_assert_eq!(&*folded, &*pseudonym);
            }
        }

        #[test]
        fn no_text_panics(text in ".{0,60}") {
            let _ = text.parse::<Key>();
            let _ = format!("{MARK}{text}").parse::<Key>();
        }
    }

    #[test]
    fn a_key_is_read_as_it_was_written_and_not_shown() {
        let made = Key::new().unwrap();
        let read: Key = format!(" {}\r\n", made.text()).parse().unwrap();
        assert_eq!((read.id(), read.user("Jo")), (made.id(), made.user("jo")));
        assert!(!format!("{made:?}").contains(&made.text()[MARK.len()..]));
        assert_eq!(made.text()[1..].parse::<Key>().err(), Some(NoKey));
    }

    #[test]
    fn another_key_and_another_kind_give_other_pseudonyms() {
        let (one, other) = (key(1), key(2));
        assert_ne!(one.user("jo"), other.user("jo"));
        assert_ne!(one.id(), other.id());
        assert_ne!(one.user("jo"), one.host("jo"));
        assert_eq!((one.user(""), one.host("")), (String::new(), String::new()));
        let (before, after) = (one.user("EXAMPLE\\Jo"), one.user("jo@example"));
        assert_eq!(split_domain(&before), split_domain(&after));
        assert_ne!(before, after);
        // What is once told must not change: a golden value.
        assert_eq!(one.user("jo"), "p-kiags-7qrgr4xinhq2iodk5jd5bttyfa");
    }
}
