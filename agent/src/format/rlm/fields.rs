//! Splits a record of a report log into its fields.

/// The most fields of a record that are looked at. The longest documented one has 17, and a name can have blanks.
const MOST: usize = 40;

/// A word, or a text in quotes, which is without them here.
#[derive(Clone, Copy, Default)]
pub(super) struct Field {
    start: u32,
    end: u32,
    pub(super) is_quoted: bool,
}

/// The fields of a record, in its order.
pub(super) struct Fields<'a> {
    record: &'a [u8],
    fields: [Field; MOST],
    count: usize,
}

impl<'a> Fields<'a> {
    /// Splits a record; `None` if it ends within quotes, or has more fields than any record.
    pub(super) fn split(record: &'a [u8]) -> Option<Self> {
        u32::try_from(record.len()).ok()?;
        let mut fields = Self { record, fields: [Field::default(); MOST], count: 0 };
        let mut at = 0;
        loop {
            at += record[at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            // Positions fit, since the length does.
            let (field, next) = match &record[at..] {
                [] => return Some(fields),
                [b'"', quoted @ ..] => {
                    let end = at + 1 + closing_quote(quoted)?;
                    (Field { start: at as u32 + 1, end: end as u32, is_quoted: true }, end + 1)
                }
                word => {
                    let length = word.iter().take_while(|byte| !matches!(byte, b' ' | b'\t')).count();
                    (Field { start: at as u32, end: (at + length) as u32, is_quoted: false }, at + length)
                }
            };
            *fields.fields.get_mut(fields.count)? = field;
            fields.count += 1;
            at = next;
        }
    }

    pub(super) fn all(&self) -> &[Field] {
        &self.fields[..self.count]
    }

    pub(super) fn text(&self, field: &Field) -> &'a [u8] {
        &self.record[field.start as usize..field.end as usize]
    }

    /// Returns the words of a name as they stand in the record; `None` if there are none.
    pub(super) fn name(&self, words: &[Field]) -> Option<&'a [u8]> {
        let (first, last) = (words.first()?, words.last()?);
        Some(&self.record[first.start as usize..last.end as usize])
    }
}

/// Returns where a quoted text ends. A quote within it has no blank behind it.
fn closing_quote(quoted: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'"', quoted).find(|end| matches!(quoted.get(end + 1), None | Some(b' ' | b'\t')))
}
