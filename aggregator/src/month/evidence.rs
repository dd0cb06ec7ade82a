//! The evidence of a month: its document with all that proves it, signed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_encoding::{BASE64, HEXLOWER};
use ring::rand::SystemRandom;
use ring::signature::Ed25519KeyPair;
use seatmeter_count::Month;
use seatmeter_evidence::document::Document;
use seatmeter_evidence::pack::{pack, public_pem};
use seatmeter_evidence::sha256;

use super::ledger::{Ledger, LedgerError};
use crate::access::authority::{AuthorityError, FOLDER, write_new};
use crate::access::trail::Trail;
use crate::rules::book::RuleBook;

/// How many records of the audit trail are read at a time.
const PORTION: u32 = 1000;

/// What the audit trail calls what is done with months and rules.
const ACTIONS: [&str; 10] = [
    "ReviewMonth",
    "WithdrawReview",
    "ApproveMonth",
    "SubmitMonth",
    "AcknowledgeServer",
    "AdjustMonth",
    "WithdrawAdjustment",
    "ChangeRules",
    "ImportRules",
    "UndoRuleVersion",
];

/// Makes evidence.
#[derive(Clone)]
pub struct Evidence {
    ledger: Ledger,
    book: RuleBook,
    trail: Trail,
    key: Arc<Ed25519KeyPair>,
}

impl Evidence {
    /// Makes evidence of the months in a ledger, by the rules in a book, with what an audit trail says. It is signed by the key in a state
    /// folder, which is made if there is none.
    pub fn open(state: &Path, ledger: Ledger, book: RuleBook, trail: Trail) -> Result<Self, AuthorityError> {
        Ok(Self { ledger, book, trail, key: Arc::new(key(state)?) })
    }

    /// Returns the public key, as PEM.
    pub fn public_key(&self) -> String {
        public_pem(&self.key)
    }

    /// Returns the archive of the month's revision that is billed.
    pub fn of(&self, month: Month) -> Result<Vec<u8>, LedgerError> {
        let (revision, document) = self.ledger.closed(month)?.ok_or(LedgerError::NotApproved(month))?;
        let report = self.ledger.export(month, revision.revision)?;
        let rules = self.rules(&document).ok_or_else(|| LedgerError::Damaged {
            month,
            revision: revision.revision,
            reason: format!(
                "version {} of the rules has not the hash {}",
                document.rules.version, document.rules.sha256
            ),
        })?;
        pack(&report, &rules, &self.audit(month)?, &self.key).map_err(|error| LedgerError::Damaged {
            month,
            revision: revision.revision,
            reason: error.to_string(),
        })
    }

    /// Returns the rules that a document names, in their canonical form.
    fn rules(&self, document: &Document) -> Option<String> {
        let rules = self.book.rules_of(document.rules.version).ok()?;
        let mut lines: Vec<String> = rules.iter().map(|numbered| numbered.rule.canonical()).collect();
        lines.sort_unstable();
        let first = format!("{}\n", document.rules.built_in);
        let text = lines.into_iter().fold(first, |text, line| text + &line + "\n");
        (sha256(text.as_bytes()) == document.rules.sha256).then_some(text)
    }

    /// Returns what the audit trail says of rules and of a month, a record a line.
    fn audit(&self, month: Month) -> Result<String, LedgerError> {
        let (mut text, mut after, named) = (String::new(), 0, format!("{:?}", month.to_string()));
        loop {
            let records = self.trail.after(after, PORTION)?;
            let Some(last) = records.last() else { return Ok(text) };
            after = last.number;
            for record in records {
                let is_of_rules = record.action.ends_with("Rules") || record.action.contains("RuleVersion");
                let is_of_month = record.detail.contains(&named) || record.detail.contains("month: \"\"");
                if ACTIONS.contains(&record.action.as_str()) && (is_of_rules || is_of_month) {
                    let line = serde_json::json!({
                        "number": record.number,
                        "at": super::document::moment(seatmeter_proto::audit::micros(&record).div_euclid(1_000_000)),
                        "who": record.who,
                        "action": record.action,
                        "detail": record.detail,
                        "result": record.result,
                        "hash": HEXLOWER.encode(&record.hash),
                    });
                    text += &format!("{line}\n");
                }
            }
        }
    }
}

/// Reads the key in a state folder. Makes one if there is none.
fn key(state: &Path) -> Result<Ed25519KeyPair, AuthorityError> {
    let path = state.join(FOLDER).join("evidence.key");
    let failed = |source| AuthorityError::File { path: path.clone(), source };
    let document = match fs::read_to_string(&path) {
        Ok(text) => {
            seatmeter_proto::tls::refuse_open(&path)?;
            BASE64.decode(text.trim().as_bytes()).map_err(|error| unusable(&path, &error))?
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| AuthorityError::Random)?;
            seatmeter_service::state::make(&state.join(FOLDER)).map_err(io::Error::other).map_err(failed)?;
            write_new(&path, &BASE64.encode(made.as_ref()), 0o600).map_err(failed)?;
            made.as_ref().to_vec()
        }
        Err(error) => return Err(failed(error)),
    };
    Ed25519KeyPair::from_pkcs8(&document).map_err(|error| unusable(&path, &error))
}

fn unusable(path: &Path, reason: &dyn std::fmt::Display) -> AuthorityError {
    AuthorityError::Unusable { path: PathBuf::from(path), reason: reason.to_string() }
}
