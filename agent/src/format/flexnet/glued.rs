//! Finds a line that follows another one in the same line, because its predecessor had no line feed: a daemon was killed
//! in the middle of a write, or two processes wrote at the same time.

use memchr::memchr_iter;

use super::{VERBS, stamp};

/// What follows in the same line.
pub(super) enum Glued<'a> {
    /// Nothing.
    None,
    /// A line that begins with its own stamp.
    Line {
        /// The text before that line.
        own: &'a [u8],
        /// That line.
        rest: &'a [u8],
    },
    /// An event without a stamp. Where the text before it ends is not certain.
    Event,
}

/// Looks for an event behind the beginning of a message: a verb before a quote.
#[cold]
pub(super) fn split(message: &[u8]) -> Glued<'_> {
    for quote in memchr_iter(b'"', message) {
        // Nearly every quote is that of the message's own feature, or ends it.
        if let [.., b':' | b' ' | b'\t'] = &message[..quote]
            && let Some(verb) = verb_before(&message[..quote])
        {
            return match stamp::start_before(message, verb) {
                Some(start) => Glued::Line { own: &message[..start], rest: &message[start..] },
                None => Glued::Event,
            };
        }
    }
    Glued::None
}

/// Returns where the verb at the end of a text begins; `None` if there is none, or if the text is nothing but the verb.
fn verb_before(text: &[u8]) -> Option<usize> {
    let text = text.trim_ascii_end();
    let verb = VERBS.iter().find(|verb| text.ends_with(verb))?;
    let start = text.len() - verb.len();
    // `SERVER-OUT:` and `LOGIN:` are other verbs.
    let is_part_of_word = |byte: &u8| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_');
    let is_behind_text = !text[..start].trim_ascii().is_empty();
    (is_behind_text && !text[..start].last().is_some_and(is_part_of_word)).then_some(start)
}
