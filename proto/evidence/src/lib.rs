//! What is kept of a closed month, and how a stranger proves it: with no server, no database, and, but for the recount, with standard
//! tools alone.
//!
//! | module | one idea |
//! |---|---|
//! | [`document`] | the report of a month and the people behind it, as JSON |
//! | [`pack`] | the archive that is handed on |
//! | [`verify`] | proves an archive |

pub mod document;
pub mod pack;
pub mod verify;

use data_encoding::HEXLOWER;
use ring::digest::{SHA256, digest};

/// Returns the SHA-256 of bytes, in hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    HEXLOWER.encode(digest(&SHA256, bytes).as_ref())
}
