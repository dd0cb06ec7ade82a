//! Splits a record of a report log into its fields.

/// The most fields of a record that are looked at. The longest documented one has 17, and a name can have blanks.
const MOST: usize = 40;

/// A word, or a text in quotes, which is without them here.
#[derive(Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) text: &'a [u8],
    pub(super) is_quoted: bool,
    /// Where the field begins in its record.
    pub(super) start: usize,
}

/// The fields of a record, in its order.
pub(super) struct Fields<'a> {
    fields: [Field<'a>; MOST],
    count: usize,
}

impl<'a> Fields<'a> {
    /// Splits a record; `None` if it ends within quotes, or has more fields than any record.
    pub(super) fn split(record: &'a [u8]) -> Option<Self> {
        let mut fields = Self { fields: [Field { text: b"", is_quoted: false, start: 0 }; MOST], count: 0 };
        let mut at = 0;
        loop {
            at += record[at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            let rest = &record[at..];
            let (text, length, is_quoted) = match rest {
                [] => return Some(fields),
                [b'"', quoted @ ..] => {
                    let end = closing_quote(quoted)?;
                    (&quoted[..end], end + 2, true)
                }
                word => {
                    let end = memchr::memchr2(b' ', b'\t', word).unwrap_or(word.len());
                    (&word[..end], end, false)
                }
            };
            *fields.fields.get_mut(fields.count)? = Field { text, is_quoted, start: at };
            fields.count += 1;
            at += length;
        }
    }

    pub(super) fn as_slice(&self) -> &[Field<'a>] {
        &self.fields[..self.count]
    }
}

/// Returns where a quoted text ends. A quote within it has no blank behind it.
fn closing_quote(quoted: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'"', quoted).find(|end| matches!(quoted.get(end + 1), None | Some(b' ' | b'\t')))
}
