//! Proves the archive of a closed month.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};

use data_encoding::BASE64;
use ring::signature::{ED25519, UnparsedPublicKey};
use zip::ZipArchive;

use crate::document::{Document, FORMAT, tally};
use crate::pack::{AUDIT, KEY, KEY_PREFIX, README, REPORT, RULES, SIGNATURE, SUMS};
use crate::sha256;

/// The most bytes of a file of an archive, and the most files.
const LONGEST: u64 = 1 << 30;
const MOST_FILES: usize = 20;

/// Why an archive is not proved.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It is something else.
    #[error("this is no evidence of a month: {0}")]
    NoArchive(String),
    /// A file is missing, or is one too many.
    #[error("{name} {problem}: the archive was altered, or is not whole")]
    File {
        /// The file.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The signature is not of the key.
    #[error("the signature is not of the key in the archive: SHA256SUMS was altered")]
    Signature,
    /// The key is another one than expected.
    #[error("the archive is signed by another key: {found}, and not {expected}")]
    OtherKey {
        /// SHA-256 of the key's file.
        found: String,
        /// The one that was expected.
        expected: String,
    },
    /// The figures are not what the people come to.
    #[error("the line of customer {customer:?} and SKU {sku:?} says {said}, and its people come to {counted}")]
    Line {
        /// The customer.
        customer: String,
        /// The SKU.
        sku: String,
        /// What the line says.
        said: String,
        /// What the people come to.
        counted: String,
    },
    /// The rules are not those that the report names.
    #[error("the rules have the hash {found}, and the report names {named}")]
    Rules {
        /// The hash of the rules.
        found: String,
        /// The one that the report names.
        named: String,
    },
    /// The month before is another one.
    #[error("the report names a month before with the hash {named}, and that of the other archive is {found}")]
    Chain {
        /// The hash that the report names; empty if none.
        named: String,
        /// The one of the other archive.
        found: String,
    },
}

/// What is proved.
#[derive(Debug)]
pub struct Proved {
    /// The report.
    pub document: Document,
    /// SHA-256 of the report's file.
    pub report_sha256: String,
    /// SHA-256 of the key's file: to be compared with what the signer has told by another way.
    pub key_sha256: String,
    /// How many lines were counted again from their people.
    pub recounted: usize,
}

/// Proves an archive: that it is whole, that its signature is of its key, that the rules are those of the report, and that the people of
/// each line that counts people come to what it says.
pub fn verify(archive: &[u8]) -> Result<Proved, VerifyError> {
    let files = files(archive)?;
    let file = |name: &str| {
        let missing = || VerifyError::File { name: name.to_owned(), problem: "is missing" };
        files.get(name).map(Vec::as_slice).ok_or_else(missing)
    };
    let sums = String::from_utf8_lossy(file(SUMS)?).into_owned();
    let listed: BTreeMap<&str, &str> =
        sums.lines().filter_map(|line| line.split_once("  ")).map(|(hash, name)| (name, hash)).collect();
    for name in [README, REPORT, RULES, AUDIT] {
        if listed.get(name) != Some(&sha256(file(name)?).as_str()) {
            return Err(VerifyError::File { name: name.to_owned(), problem: "is not what SHA256SUMS says" });
        }
    }
    let is_known =
        |name: &&String| listed.contains_key(name.as_str()) || [SUMS, SIGNATURE, KEY].contains(&name.as_str());
    if let Some(name) = files.keys().find(|name| !is_known(name)) {
        return Err(VerifyError::File { name: name.clone(), problem: "is one too many" });
    }
    let key = public_key(file(KEY)?)
        .ok_or_else(|| VerifyError::File { name: KEY.to_owned(), problem: "is no Ed25519 key" })?;
    UnparsedPublicKey::new(&ED25519, key)
        .verify(sums.as_bytes(), file(SIGNATURE)?)
        .map_err(|_| VerifyError::Signature)?;
    let report = file(REPORT)?;
    let document: Document =
        serde_json::from_slice(report).map_err(|error| VerifyError::NoArchive(error.to_string()))?;
    if document.format != FORMAT {
        return Err(VerifyError::NoArchive(format!("the report is {:?}, of another version", document.format)));
    }
    let rules = sha256(file(RULES)?);
    if rules != document.rules.sha256 {
        return Err(VerifyError::Rules { found: rules, named: document.rules.sha256 });
    }
    let recounted = recount(&document)?;
    Ok(Proved { recounted, report_sha256: sha256(report), key_sha256: sha256(file(KEY)?), document })
}

impl Proved {
    /// Proves that the key is the one with this hash.
    pub fn must_be_of(&self, key_sha256: &str) -> Result<(), VerifyError> {
        let expected = key_sha256.trim().to_lowercase();
        match self.key_sha256 == expected {
            true => Ok(()),
            false => Err(VerifyError::OtherKey { found: self.key_sha256.clone(), expected }),
        }
    }

    /// Proves that this month follows another one, as it was billed.
    pub fn must_follow(&self, before: &Self) -> Result<(), VerifyError> {
        let (named, found) = (self.document.previous_month_sha256.clone(), before.report_sha256.clone());
        if named == found { Ok(()) } else { Err(VerifyError::Chain { named, found }) }
    }
}

fn files(archive: &[u8]) -> Result<BTreeMap<String, Vec<u8>>, VerifyError> {
    let wrong = |error: &dyn std::fmt::Display| VerifyError::NoArchive(error.to_string());
    let mut archive = ZipArchive::new(Cursor::new(archive)).map_err(|error| wrong(&error))?;
    if archive.len() > MOST_FILES {
        return Err(wrong(&"it has too many files"));
    }
    let mut files = BTreeMap::new();
    for index in 0..archive.len() {
        let file = archive.by_index(index).map_err(|error| wrong(&error))?;
        let name = file.name().map_err(|error| wrong(&error))?.into_owned();
        let mut bytes = Vec::new();
        let read = file.take(LONGEST).read_to_end(&mut bytes).map_err(|error| wrong(&error))?;
        if read as u64 == LONGEST || files.insert(name.clone(), bytes).is_some() {
            return Err(VerifyError::File { name, problem: "is too long, or there twice" });
        }
    }
    Ok(files)
}

fn public_key(pem: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(pem).ok()?;
    let encoded: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = BASE64.decode(encoded.as_bytes()).ok()?;
    der.strip_prefix(&KEY_PREFIX).map(<[u8]>::to_vec)
}

/// Counts the people of each line again. Returns how many lines there are.
fn recount(document: &Document) -> Result<usize, VerifyError> {
    let counted = tally(&document.people);
    for line in &document.lines {
        let found = counted.get(&(&*line.customer, &*line.sku)).copied().unwrap_or_default();
        let users = found.charged + found.free + found.elsewhere;
        let mut is_right =
            (users, found.free, found.elsewhere) == (line.users, line.free_users, line.counted_elsewhere);
        if line.unit == "user" {
            is_right &= line.quantity == found.charged.saturating_add_signed(line.adjustment);
        }
        if !is_right {
            return Err(VerifyError::Line {
                customer: line.customer.clone(),
                sku: line.sku.clone(),
                said: format!("{} charged of {} people, {} free", line.quantity, line.users, line.free_users),
                counted: format!("{} charged of {users}, {} free", found.charged, found.free),
            });
        }
    }
    let (users, adjusted) = (document.people.len() as u64, document.adjustments.iter());
    let of_lines: i64 = document.lines.iter().map(|line| line.adjustment).sum();
    if users != document.users || adjusted.map(|one| one.quantity).sum::<i64>() != of_lines {
        return Err(VerifyError::Line {
            customer: String::new(),
            sku: String::new(),
            said: format!("{} people in all", document.users),
            counted: format!("{users}, or the adjustments are not those of the lines"),
        });
    }
    Ok(document.lines.len())
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::Ed25519KeyPair;

    use super::*;
    use crate::pack::pack;

    const REPORT_TEXT: &str = r#"{"format":"seatmeter month 1","month":"2026-01","revision":1,"time_zone":"UTC","made_at":"","made_by":"ann",
        "correction":"","previous_month_sha256":"","rules":{"sha256":"RULES","version":1,"built_in":"built in","counted":"held","domains":"keep"},"software":"1",
        "complete":true,"servers":[],"customers":[],"totals":[],"users":1,"free_users":0,"adjustments":[],"acknowledgements":[],
        "lines":[{"customer":"","sku":"A","product":"A","part_number":"","unit":"user","quantity":1,"adjustment":0,"users":1,
        "free_users":0,"counted_elsewhere":0,"devices":1,"peak_concurrent":1,"seat_hours":1,"previous_quantity":0,"entitled":null,
        "minimum":null,"price":"","catalogued":true}],"people":[{"realm":"","person":"jo","accounts":["JO"],"first_used":"",
        "last_used":"","days":1,"uses":[{"customer":"","sku":"A","counts":"charged"}]}]}"#;

    fn key() -> Ed25519KeyPair {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap()
    }

    fn packed(report: &str, key: &Ed25519KeyPair) -> Vec<u8> {
        let rules = "built in\n";
        pack(report.replace("RULES", &sha256(rules.as_bytes())).as_bytes(), rules, "{}\n", key).unwrap()
    }

    #[test]
    fn a_whole_archive_is_proved_and_an_altered_one_is_not() {
        let key = key();
        let archive = packed(REPORT_TEXT, &key);
        let proved = verify(&archive).unwrap();
        assert_eq!((proved.document.month.as_str(), proved.recounted), ("2026-01", 1));
        proved.must_be_of(&proved.key_sha256).unwrap();
        assert!(matches!(proved.must_be_of("00"), Err(VerifyError::OtherKey { .. })));
        assert!(matches!(proved.must_follow(&proved), Err(VerifyError::Chain { .. })));
        assert_eq!(archive, packed(REPORT_TEXT, &key), "the same bytes twice");
        for cut in [0, 10, archive.len() / 2, archive.len() - 1] {
            assert!(verify(&archive[..cut]).is_err());
        }
        // Each byte of the archive matters, but for those that only say how a file is kept.
        let mut found = 0;
        for at in (0..archive.len()).step_by(7) {
            let mut altered = archive.clone();
            altered[at] ^= 0x55;
            match verify(&altered) {
                Err(_) => found += 1,
                Ok(again) => assert_eq!(again.report_sha256, proved.report_sha256),
            }
        }
        assert!(found > archive.len() / 7 / 2, "{found}");
    }

    #[test]
    fn figures_that_are_not_what_the_people_come_to_are_found() {
        let key = key();
        for (from, to) in [
            ("\"quantity\":1", "\"quantity\":2"),
            ("\"users\":1,\n        \"free", "\"users\":2,\n        \"free"),
            ("\"counts\":\"charged\"", "\"counts\":\"free\""),
            ("\"users\":1,\"free_users\":0,\"adj", "\"users\":3,\"free_users\":0,\"adj"),
        ] {
            let report = REPORT_TEXT.replace(from, to);
            assert_ne!(report, REPORT_TEXT, "{from}");
            assert!(matches!(verify(&packed(&report, &key)), Err(VerifyError::Line { .. })), "{from}");
        }
        let other = REPORT_TEXT.replace("RULES", "0000");
        assert!(matches!(verify(&packed(&other, &key)), Err(VerifyError::Rules { .. })));
    }
}
