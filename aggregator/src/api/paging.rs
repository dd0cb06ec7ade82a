//! Pages: their sizes, and the tokens that name the place between two pages.
//!
//! A page has at most as many rows as the request asks for. It also ends once its rows exceed [`MAX_BYTES`], so that no
//! answer reaches the size limit of a gRPC message, whatever the rows contain.

use data_encoding::BASE64URL_NOPAD;
use prost::Message;

use super::status::ApiError;

/// The size of the rows after which a page ends, in bytes. A gRPC message may be four times as large.
pub(super) const MAX_BYTES: usize = 1 << 20;

/// The sizes of a method's pages, in rows.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    /// The size of a page if the request names none.
    pub(super) default: usize,
    /// The largest size of a page.
    pub(super) max: usize,
}

/// Pages of things: servers, people, lines.
pub(super) const THINGS: Sizes = Sizes { default: 100, max: 1000 };

/// Pages of rows of figures.
pub(super) const ROWS: Sizes = Sizes { default: 1000, max: 10_000 };

/// A page that was asked for.
pub(super) struct Page {
    /// The method and its filters. A token is valid for one scope.
    scope: Vec<String>,
    /// The key of the last row of the previous page; `None` on the first page.
    after: Option<Vec<String>>,
    size: usize,
}

impl Page {
    /// Reads the page that a request asks for. The scope names the method and its filters.
    pub(super) fn new(sizes: Sizes, page_size: i32, page_token: &str, scope: &[&str]) -> Result<Self, ApiError> {
        let size = match usize::try_from(page_size) {
            Err(_) => return Err(ApiError::invalid("page_size", "must not be negative")),
            Ok(0) => sizes.default,
            Ok(size) => size.min(sizes.max),
        };
        let scope: Vec<String> = scope.iter().map(|part| (*part).to_owned()).collect();
        let after =
            if page_token.is_empty() { None } else { Some(after(page_token, &scope).ok_or(ApiError::PageToken)?) };
        Ok(Self { scope, after, size })
    }

    /// Returns the key of the last row of the previous page, in `PARTS` parts; `None` on the first page.
    pub(super) fn after<const PARTS: usize>(&self) -> Result<Option<[&str; PARTS]>, ApiError> {
        let Some(after) = &self.after else { return Ok(None) };
        let parts: Vec<&str> = after.iter().map(String::as_str).collect();
        parts.try_into().map(Some).map_err(|_| ApiError::PageToken)
    }

    /// Returns the number of rows asked for.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Returns the page from rows that are ordered by key, and the token of the next page, empty on the last page.
    pub(super) fn cut<M: Message>(&self, rows: impl Iterator<Item = (Vec<String>, M)>) -> (Vec<M>, String) {
        let (mut page, mut bytes, mut last) = (Vec::new(), 0, None);
        for (key, row) in rows {
            if self.after.as_ref().is_some_and(|after| key <= *after) {
                continue;
            }
            if page.len() == self.size || bytes > MAX_BYTES {
                return (page, last.map(|key: Vec<String>| self.token(&key)).unwrap_or_default());
            }
            bytes += row.encoded_len();
            page.push(row);
            last = Some(key);
        }
        (page, String::new())
    }

    /// Returns the token of the page that begins after the row with this key.
    pub(super) fn token(&self, key: &[String]) -> String {
        let parts = Parts { scope: self.scope.clone(), after: key.to_vec() };
        BASE64URL_NOPAD.encode(&parts.encode_to_vec())
    }
}

/// The content of a token. Clients treat a token as opaque.
#[derive(Clone, PartialEq, prost::Message)]
struct Parts {
    #[prost(string, repeated, tag = "1")]
    scope: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    after: Vec<String>,
}

fn after(token: &str, scope: &[String]) -> Option<Vec<String>> {
    let bytes = BASE64URL_NOPAD.decode(token.as_bytes()).ok()?;
    let parts = Parts::decode(bytes.as_slice()).ok()?;
    (parts.scope == scope).then_some(parts.after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(size: i32, token: &str, scope: &[&str]) -> Page {
        Page::new(THINGS, size, token, scope).unwrap_or_else(|error| panic!("{error:?}"))
    }

    #[test]
    fn all_rows_come_once_whatever_the_size_of_a_page() {
        let rows = |count: usize, width: usize| {
            (0..count).map(move |n| (vec![format!("{n:05}"), "Mª".into()], "x".repeat(width)))
        };
        for (size, width, pages) in [(1, 3, 10), (3, 3, 4), (0, 3, 1), (1000, 1 << 19, 5)] {
            let (mut token, mut seen, mut turns) = (String::new(), 0, 0);
            loop {
                let (rows, next) = page(size, &token, &["m"]).cut(rows(10, width));
                seen += rows.len();
                turns += 1;
                assert!(!rows.is_empty() && rows.iter().map(String::len).sum::<usize>() < 4 << 20);
                if next.is_empty() {
                    break;
                }
                token = next;
            }
            assert_eq!((seen, turns), (10, pages), "pages of {size}");
        }
    }

    #[test]
    fn a_token_is_good_for_its_own_question_alone() {
        let token = page(1, "", &["users", "2026-01"]).token(&["jo".into()]);
        assert_eq!(page(1, &token, &["users", "2026-01"]).after::<1>().unwrap(), Some(["jo"]));
        assert!(page(1, &token, &["users", "2026-01"]).after::<2>().is_err());
        for (token, scope) in [(token.as_str(), "2026-02"), ("x", "2026-01"), ("====", "2026-01"), ("ª", "2026-01")] {
            assert!(matches!(Page::new(THINGS, 0, token, &["users", scope]), Err(ApiError::PageToken)), "{token}");
        }
        assert!(Page::new(THINGS, -1, "", &[]).is_err());
        assert_eq!(page(5000, "", &[]).size(), 1000);
    }
}
