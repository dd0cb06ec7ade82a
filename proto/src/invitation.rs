//! The line with which an agent enrols, or an operator logs in: where the aggregator is, which authority has signed its certificate, and
//! the secret of an invitation. Whoever has the line can use it in another's place, until somebody has.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;

/// The beginning of every line, with the version of what follows.
pub const MARK: &str = "seatmeter1.";

/// The most bytes of an aggregator's address.
pub const MOST_URL: usize = 300;

/// An invitation to enrol, or to log in. It is shown as one word of letters, digits, dots, dashes and underscores.
#[derive(Clone, PartialEq, Eq)]
pub struct Invitation {
    /// What the aggregator knows the invitation by. It keeps a hash of it alone.
    pub secret: [u8; 32],
    /// The SHA-256 of the authority's certificate; `None` where whoever is invited knows it, or needs none.
    pub authority: Option<[u8; 32]>,
    /// The aggregator's address.
    pub url: String,
}

/// A text is no invitation.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no invitation, or not all of it: copy the whole line that was shown, from {MARK:?} on")]
pub struct NoInvitation;

impl Display for Invitation {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let authority = self.authority.unwrap_or(NONE);
        let content = [&self.secret[..], &authority, self.url.as_bytes()].concat();
        // A piece that was lost on the way must not make another address.
        let check = ring::digest::digest(&ring::digest::SHA256, &content);
        let content = [&content[..], &check.as_ref()[..CHECK]].concat();
        write!(formatter, "{MARK}{}", BASE64URL_NOPAD.encode(&content))
    }
}

const CHECK: usize = 4;

/// Stands for no authority: nobody finds a certificate that has this hash.
const NONE: [u8; 32] = [0; 32];

/// The secret is not shown.
impl fmt::Debug for Invitation {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Invitation").field("url", &self.url).finish_non_exhaustive()
    }
}

impl FromStr for Invitation {
    type Err = NoInvitation;

    fn from_str(text: &str) -> Result<Self, NoInvitation> {
        let encoded = text.trim().strip_prefix(MARK).ok_or(NoInvitation)?;
        let content = BASE64URL_NOPAD.decode(encoded.as_bytes()).map_err(|_| NoInvitation)?;
        let (content, check) = content.split_at_checked(content.len().saturating_sub(CHECK)).ok_or(NoInvitation)?;
        if ring::digest::digest(&ring::digest::SHA256, content).as_ref()[..CHECK] != *check {
            return Err(NoInvitation);
        }
        let (secret, rest) = content.split_first_chunk().ok_or(NoInvitation)?;
        let (authority, url) = rest.split_first_chunk().ok_or(NoInvitation)?;
        let url = std::str::from_utf8(url).ok().filter(|url| !url.is_empty() && url.len() <= MOST_URL);
        let authority = (*authority != NONE).then_some(*authority);
        Ok(Self { secret: *secret, authority, url: url.ok_or(NoInvitation)?.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_invitation_comes_whole_or_not_at_all(secret: [u8; 32], authority: Option<[u8; 32]>, port: u16, lost in 1_usize..200) {
            let invitation = Invitation { secret, authority, url: format!("https://aggregator.example.com:{port}") };
            let text = invitation.to_string();
            prop_assert_eq!(format!(" {text}\r\n").parse(), Ok(invitation.clone()));
            let cut = &text[..text.len().saturating_sub(lost)];
            prop_assert_eq!(cut.parse::<Invitation>(), Err(NoInvitation));
            let shown = format!("{invitation:?}");
            prop_assert!(!shown.contains(&text[MARK.len()..MARK.len() + 20]), "the secret is shown");
        }

        #[test]
        fn no_text_panics(text in ".{0,300}") {
            let _ = text.parse::<Invitation>();
            let _ = format!("{MARK}{text}").parse::<Invitation>();
        }
    }
}
