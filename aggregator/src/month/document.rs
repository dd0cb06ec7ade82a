//! A month's report as a document: figures and people in the words of the evidence.

use std::sync::Arc;

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use seatmeter_evidence::document::{
    Document, DocumentAcknowledgement, DocumentAdjustment, DocumentCustomer, DocumentLine, DocumentPerson,
    DocumentRules, DocumentServer, FORMAT,
};

use super::statement::{StatedLine, Statement};
use crate::rules::catalogue::Sku;
use crate::rules::rule::{Customer, DomainRule, PersonRule, Unit};
use crate::rules::set::{RuleSet, built_in};
use crate::store::months::Adjustment;
use crate::usage::completeness::{Reason, ServerCompleteness};

/// The units, each with its word.
const UNITS: [(Unit, &str); 5] = [
    (Unit::User, "user"),
    (Unit::Device, "device"),
    (Unit::UserOrDevice, "user_or_device"),
    (Unit::Concurrent, "concurrent"),
    (Unit::SeatHour, "seat_hour"),
];

/// The ways to count people, and what domains can mean, each with its word.
const COUNTED: [(PersonRule, &str); 2] = [(PersonRule::Held, "held"), (PersonRule::CheckedOut, "checked_out")];
const DOMAINS: [(DomainRule, &str); 3] =
    [(DomainRule::Keep, "keep"), (DomainRule::Truncate, "truncate"), (DomainRule::Map, "map")];

fn word<T: PartialEq>(words: &[(T, &str)], meant: &T) -> String {
    words.iter().find(|(known, _)| known == meant).map_or("", |(_, word)| word).to_owned()
}

fn meant<T: Copy>(words: &[(T, &str)], word: &str, usual: T) -> T {
    words.iter().find(|(_, known)| *known == word).map_or(usual, |(meant, _)| *meant)
}

/// Returns what is counted, of a document's word.
pub fn unit(word: &str) -> Unit {
    meant(&UNITS, word, Unit::User)
}

/// Returns who counts and what domains mean, of a document's words.
pub fn basis(rules: &DocumentRules) -> (PersonRule, DomainRule) {
    (meant(&COUNTED, &rules.counted, PersonRule::Held), meant(&DOMAINS, &rules.domains, DomainRule::Keep))
}

impl From<&StatedLine> for DocumentLine {
    fn from(line: &StatedLine) -> Self {
        let Sku { id, product, catalogued, unit, part_number, price, .. } = line.sku.clone();
        Self {
            customer: line.customer.clone(),
            sku: id,
            product,
            part_number,
            unit: word(&UNITS, &unit),
            quantity: line.quantity,
            adjustment: line.adjustment,
            users: line.users,
            free_users: line.free_users,
            counted_elsewhere: line.counted_elsewhere,
            devices: line.devices,
            peak_concurrent: line.peak,
            seat_hours: line.seat_hours,
            previous_quantity: line.previous,
            entitled: line.entitled,
            minimum: line.minimum,
            price,
            catalogued,
        }
    }
}

impl From<&DocumentLine> for Sku {
    fn from(line: &DocumentLine) -> Self {
        Self {
            id: line.sku.clone(),
            product: line.product.clone(),
            catalogued: line.catalogued,
            unit: unit(&line.unit),
            part_number: line.part_number.clone(),
            price: line.price.clone(),
            ..Self::default()
        }
    }
}

impl From<&Customer> for DocumentCustomer {
    fn from(customer: &Customer) -> Self {
        let Customer { id, name, address, country, contract, confidential } = customer.clone();
        Self { id, name, address, country, contract, confidential }
    }
}

impl From<&Adjustment> for DocumentAdjustment {
    fn from(adjustment: &Adjustment) -> Self {
        let Adjustment { customer, sku, quantity, reason, author, .. } = adjustment.clone();
        Self { customer, sku, quantity, reason, author }
    }
}

impl From<&ServerCompleteness> for DocumentServer {
    fn from(server: &ServerCompleteness) -> Self {
        Self {
            license_server: server.license_server.clone(),
            reported_through: server.reported_through.map(moment),
            lacks: server.reasons.iter().map(lack).collect(),
        }
    }
}

/// Returns what a license server lacks, in words.
fn lack(reason: &Reason) -> String {
    let between = |from: i64, through: i64| format!("between {} and {}", moment(from), moment(through));
    match reason {
        Reason::NothingReceived => "nothing was received".into(),
        Reason::BeginsAfterMonth => "the logs begin after the month".into(),
        Reason::BeginsLate(at) => format!("the logs begin at {}", moment(*at)),
        Reason::EndsEarly { log, last_line } => format!("{log} ends at {}", moment(*last_line)).trim().to_owned(),
        Reason::Rebuilding => "the figures were being made again".into(),
        Reason::Gaps { log, count, from, through } => match from {
            Some(from) => format!("{count} parts of {log} are lost, {}", between(*from, *through)),
            None => format!("{count} parts of {log} are lost, before {}", moment(*through)),
        },
        Reason::Apart { log, lines } => format!("{} lines of {log} have dates that cannot be right", lines.lines),
        Reason::Silences { log, count, from, through, is_asked } => {
            let what = if *is_asked { "did not answer" } else { "has no line" };
            format!("{log} {what} {count} times, {}", between(*from, *through))
        }
        Reason::UnreadParts { log, count, detail, through } => {
            format!("{count} parts of {log} before {} could not be read: {detail}", moment(*through))
        }
        Reason::UndatedLines(count) => format!("{count} lines have no date"),
        Reason::Source { log, state, detail } => format!("{log} is {} {detail}", state.as_str_name()).trim().to_owned(),
    }
}

/// What a document says beside the figures.
pub struct About {
    /// The revision.
    pub revision: u64,
    /// When it is made, in seconds since 1970 UTC.
    pub made_at: i64,
    /// Who makes it.
    pub made_by: String,
    /// Why it corrects an earlier revision.
    pub correction: String,
    /// The hash of the month before.
    pub previous_month_sha256: String,
    /// The rules.
    pub rules: Arc<RuleSet>,
}

/// Makes the document of a statement.
pub fn document(
    statement: &Statement,
    people: Vec<DocumentPerson>,
    adjustments: &[Adjustment],
    acknowledgements: Vec<DocumentAcknowledgement>,
    about: About,
) -> Document {
    Document {
        format: FORMAT.into(),
        month: statement.month.to_string(),
        revision: about.revision,
        time_zone: statement.basis.time_zone.clone(),
        made_at: moment(about.made_at),
        made_by: about.made_by,
        correction: about.correction,
        previous_month_sha256: about.previous_month_sha256,
        rules: DocumentRules {
            sha256: HEXLOWER.encode(&about.rules.hash),
            version: about.rules.number,
            built_in: built_in().trim_end().to_owned(),
            counted: word(&COUNTED, &statement.basis.person),
            domains: word(&DOMAINS, &statement.basis.domains),
        },
        software: env!("CARGO_PKG_VERSION").into(),
        complete: statement.completeness.is_complete(),
        servers: statement.completeness.servers.iter().map(Into::into).collect(),
        customers: statement.customers.iter().map(Into::into).collect(),
        lines: statement.lines.iter().map(Into::into).collect(),
        totals: statement.totals.iter().map(Into::into).collect(),
        users: statement.users,
        free_users: statement.free_users,
        adjustments: adjustments.iter().map(Into::into).collect(),
        acknowledgements,
        people,
    }
}

/// Returns a moment as text (RFC 3339).
pub fn moment(seconds: i64) -> String {
    Timestamp::from_second(seconds).unwrap_or_default().to_string()
}
