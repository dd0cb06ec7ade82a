//! The report of a month and the people behind it, as JSON, which its hash proves byte for byte. Fields may be added; those that there
//! are keep their meaning.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What stands at the beginning of each document. Fields may be added; those that there are keep their meaning.
pub const FORMAT: &str = "seatmeter month 1";

/// The document of a revision. Moments are RFC 3339.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// [`FORMAT`].
    pub format: String,
    /// The month, as YYYY-MM.
    pub month: String,
    /// Counts the revisions of the month, from 1.
    pub revision: u64,
    /// The IANA name of the time zone in which the month begins and ends.
    pub time_zone: String,
    /// When it was made.
    pub made_at: String,
    /// Who made it.
    pub made_by: String,
    /// Why it corrects an earlier revision; empty if it does not.
    pub correction: String,
    /// SHA-256 of the document of the month before, as it was billed then; empty if it was not.
    pub previous_month_sha256: String,
    /// The rules.
    pub rules: DocumentRules,
    /// The version of the aggregator.
    pub software: String,
    /// Whether nothing is known to be missing.
    pub complete: bool,
    /// The license servers.
    pub servers: Vec<DocumentServer>,
    /// The customers.
    pub customers: Vec<DocumentCustomer>,
    /// By customer, nobody's use last, then by SKU.
    pub lines: Vec<DocumentLine>,
    /// A line for each SKU, over all customers.
    pub totals: Vec<DocumentLine>,
    /// The people who used anything, each once.
    pub users: u64,
    /// Those of them who are free.
    pub free_users: u64,
    /// What was adjusted, and why.
    pub adjustments: Vec<DocumentAdjustment>,
    /// What license servers lack, and why it was approved all the same.
    pub acknowledgements: Vec<DocumentAcknowledgement>,
    /// The people, by realm and name.
    pub people: Vec<DocumentPerson>,
}

/// The rules behind a document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DocumentRules {
    /// SHA-256 of the rules' canonical form. Its beginning is the version's name.
    pub sha256: String,
    /// The number of the version; 0 if there was none yet.
    pub version: u64,
    /// The first line of the canonical form: what is built in.
    pub built_in: String,
    /// Who counts: `held` or `checked_out`.
    pub counted: String,
    /// What domains mean: `keep`, `truncate` or `map`.
    pub domains: String,
}

/// A customer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DocumentCustomer {
    /// The short name.
    pub id: String,
    /// The name on reports.
    pub name: String,
    /// The address, in one line.
    pub address: String,
    /// The country, in two letters.
    pub country: String,
    /// The number of the contract.
    pub contract: String,
    /// Whether its name is to stand on no report that leaves the house.
    pub confidential: bool,
}

/// A license server, and what it lacks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DocumentServer {
    /// Its name.
    pub license_server: String,
    /// The last line of its logs; `None` if there is none.
    pub reported_through: Option<String>,
    /// What it lacks; empty if nothing is known to be missing.
    pub lacks: Vec<String>,
}

/// The use of a SKU by a customer, or by all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DocumentLine {
    /// The customer's short name; empty for nobody's use, and for that of all.
    pub customer: String,
    /// The SKU's id.
    pub sku: String,
    /// The product's name.
    pub product: String,
    /// The number by which the distributor knows it.
    pub part_number: String,
    /// What is counted: `user`, `device`, `user_or_device`, `concurrent` or `seat_hour`.
    pub unit: String,
    /// What is charged.
    pub quantity: u64,
    /// What adjustments add to what was counted.
    pub adjustment: i64,
    /// The people who used it.
    pub users: u64,
    /// Those of them who are free.
    pub free_users: u64,
    /// Those of them who are not, and count for a higher edition.
    pub counted_elsewhere: u64,
    /// Hosts on which seats were held that are not free.
    pub devices: u64,
    /// The most such seats in use at once.
    pub peak_concurrent: u64,
    /// Hours for which such seats were held, begun ones in full.
    pub seat_hours: u64,
    /// What was charged in the month before.
    pub previous_quantity: u64,
    /// What may be used; `None` if no rule says it.
    pub entitled: Option<u64>,
    /// What is paid at least; `None` if no rule says it.
    pub minimum: Option<u64>,
    /// The price of one.
    pub price: String,
    /// Whether the catalogue has the SKU.
    pub catalogued: bool,
}

/// What was adjusted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DocumentAdjustment {
    /// The customer's short name; empty for nobody's use.
    pub customer: String,
    /// The SKU's id.
    pub sku: String,
    /// What is added to what was counted.
    pub quantity: i64,
    /// Why.
    pub reason: String,
    /// Who says so.
    pub author: String,
}

/// What a license server lacks, acknowledged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DocumentAcknowledgement {
    /// The license server.
    pub license_server: String,
    /// Why.
    pub reason: String,
    /// Who says so.
    pub author: String,
}

/// A person of the month.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DocumentPerson {
    /// The realm.
    pub realm: String,
    /// The name by the identity rules.
    pub person: String,
    /// The names that the sources wrote.
    pub accounts: Vec<String>,
    /// The first moment of use in the month.
    pub first_used: String,
    /// The last moment of use.
    pub last_used: String,
    /// The days with use.
    pub days: u32,
    /// What was used.
    pub uses: Vec<DocumentUse>,
}

/// The use of a SKU by a person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DocumentUse {
    /// The customer's short name; empty for nobody.
    pub customer: String,
    /// The SKU's id.
    pub sku: String,
    /// How it counts.
    pub counts: Counts,
}

/// How the use of a SKU by a person counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Counts {
    /// It is charged.
    Charged,
    /// It is free.
    Free,
    /// The person counts for a higher edition.
    Elsewhere,
}

/// What people of a line come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Those who are charged.
    pub charged: u64,
    /// Those who are free.
    pub free: u64,
    /// Those who count for a higher edition.
    pub elsewhere: u64,
}

/// Counts the people of each line: by customer and SKU.
pub fn tally(people: &[DocumentPerson]) -> BTreeMap<(&str, &str), Tally> {
    let mut found: BTreeMap<(&str, &str), Tally> = BTreeMap::new();
    for one in people.iter().flat_map(|person| &person.uses) {
        let tally = found.entry((&one.customer, &one.sku)).or_default();
        match one.counts {
            Counts::Charged => tally.charged += 1,
            Counts::Free => tally.free += 1,
            Counts::Elsewhere => tally.elsewhere += 1,
        }
    }
    found
}

impl Document {
    /// Returns what is charged of each line: by customer and SKU.
    pub fn charges(&self) -> BTreeMap<(String, String), u64> {
        self.lines.iter().map(|line| ((line.customer.clone(), line.sku.clone()), line.quantity)).collect()
    }
}
