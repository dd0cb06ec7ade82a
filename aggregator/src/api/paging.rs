//! Pages: their sizes, and the tokens that name the place between two of them.

use tonic::Status;

use super::status::invalid;

const DEFAULT_SIZE: usize = 100;
const MAX_SIZE: usize = 1000;

/// The size of a page: 100 where none is asked for, and never more than 1000.
pub(super) fn page_size(asked: i32) -> Result<usize, Status> {
    match usize::try_from(asked) {
        Err(_) => Err(invalid("page_size", "must not be negative")),
        Ok(0) => Ok(DEFAULT_SIZE),
        Ok(size) => Ok(size.min(MAX_SIZE)),
    }
}

/// A token of these parts: opaque to clients.
pub(super) fn write_token(parts: &[&str]) -> String {
    let joined =
        parts.iter().flat_map(|part| [&part.len().to_string(), ":", part].concat().into_bytes()).collect::<Vec<u8>>();
    joined.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The parts of a token; `None` where there is none.
pub(super) fn read_token(token: &str) -> Result<Option<Vec<String>>, Status> {
    if token.is_empty() {
        return Ok(None);
    }
    parts_of(token).map(Some).ok_or_else(|| invalid("page_token", "is not one that was given out"))
}

fn parts_of(token: &str) -> Option<Vec<String>> {
    let bytes: Option<Vec<u8>> =
        token.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
    let text = String::from_utf8(bytes?).ok()?;
    let (mut rest, mut parts) = (text.as_str(), Vec::new());
    while !rest.is_empty() {
        let (length, after) = rest.split_once(':')?;
        let part = after.get(..length.parse().ok()?)?;
        parts.push(part.to_owned());
        rest = &after[part.len()..];
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_carry_any_text_and_garbage_is_refused() {
        for parts in [vec!["", "jo"], vec!["1:2", "Mª Luz"], vec!["", ""]] {
            assert_eq!(read_token(&write_token(&parts)).unwrap().unwrap(), parts);
        }
        for garbage in ["x", "zz", "3a", "313a", "ff", "ª"] {
            assert!(read_token(garbage).is_err(), "{garbage}");
        }
        assert!(read_token("").unwrap().is_none());
        assert_eq!((page_size(0).unwrap(), page_size(5000).unwrap()), (100, 1000));
        assert!(page_size(-1).is_err());
    }
}
