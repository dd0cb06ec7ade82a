//! The archive of a closed month that is handed on: files whose hashes are signed.
//!
//! | file | what it holds |
//! |---|---|
//! | `README.txt` | how to prove all of it with standard tools |
//! | `report.json` | the month's document |
//! | `rules.jsonl` | the rules, whose hash the document has: a line that says what is built in, then each in its canonical form, sorted |
//! | `audit.jsonl` | what the audit trail says of the month |
//! | `SHA256SUMS` | the hash of each file above |
//! | `SHA256SUMS.sig` | its Ed25519 signature |
//! | `signing-key.pem` | the public key |

use std::io::{self, Cursor, Write};

use data_encoding::BASE64;
use ring::signature::{Ed25519KeyPair, KeyPair};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::sha256;

/// The names of the files.
pub const README: &str = "README.txt";
/// See the module.
pub const REPORT: &str = "report.json";
/// See the module.
pub const RULES: &str = "rules.jsonl";
/// See the module.
pub const AUDIT: &str = "audit.jsonl";
/// See the module.
pub const SUMS: &str = "SHA256SUMS";
/// See the module.
pub const SIGNATURE: &str = "SHA256SUMS.sig";
/// See the module.
pub const KEY: &str = "signing-key.pem";

/// What stands before an Ed25519 key in a SubjectPublicKeyInfo (RFC 8410).
pub(crate) const KEY_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

const TEXT: &str = "\
This archive holds the report of a month, and what proves it.

Prove it with standard tools alone (sha256sum and OpenSSL 3):

  sha256sum --check SHA256SUMS
  openssl pkeyutl -verify -rawin -pubin -inkey signing-key.pem -sigfile SHA256SUMS.sig -in SHA256SUMS
  sha256sum signing-key.pem        compare it with what whoever has made this archive has told you by another way
  sha256sum rules.jsonl            is what report.json says under \"rules\"

`seatmeter evidence verify FILE` does the same, and counts the people of each line again.

report.json    the report: lines, customers, license servers and what they lack, and each person with what was used
rules.jsonl    the rules by which it was counted, one a line
audit.jsonl    who reviewed, acknowledged, adjusted and approved it
";

/// Returns a public key as PEM.
pub fn public_pem(key: &Ed25519KeyPair) -> String {
    let der = [&KEY_PREFIX, key.public_key().as_ref()].concat();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", BASE64.encode(&der))
}

/// Packs the evidence of a month. The same contents give the same bytes.
pub fn pack(report: &[u8], rules: &str, audit: &str, key: &Ed25519KeyPair) -> io::Result<Vec<u8>> {
    let files = [(README, TEXT.as_bytes()), (REPORT, report), (RULES, rules.as_bytes()), (AUDIT, audit.as_bytes())];
    let sums: String = files.iter().map(|(name, bytes)| format!("{}  {name}\n", sha256(bytes))).collect();
    let (signature, public) = (key.sign(sums.as_bytes()), public_pem(key));
    let signed = [(SUMS, sums.as_bytes()), (SIGNATURE, signature.as_ref()), (KEY, public.as_bytes())];
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .last_modified_time(DateTime::default())
        .unix_permissions(0o644);
    for (name, bytes) in files.into_iter().chain(signed) {
        archive.start_file(name, options)?;
        archive.write_all(bytes)?;
    }
    Ok(archive.finish()?.into_inner())
}
