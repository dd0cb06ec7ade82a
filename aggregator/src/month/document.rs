//! The document of a month's revision: the report and the people behind it, as JSON, which its hash proves byte for byte.

use seatmeter_count::Month;
use serde::{Deserialize, Serialize};

use super::statement::{StatedLine, Statement};
use crate::rules::catalogue::Sku;
use crate::rules::rule::{Customer, DomainRule, PersonRule, Unit};
use crate::store::months::Adjustment;
use crate::usage::completeness::ServerCompleteness;

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
    pub customers: Vec<Customer>,
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
    /// Who counts.
    pub counted: PersonRule,
    /// What domains mean.
    pub domains: DomainRule,
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
    /// What is counted.
    pub unit: Unit,
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

impl From<&StatedLine> for DocumentLine {
    fn from(line: &StatedLine) -> Self {
        let Sku { id, product, catalogued, unit, part_number, price, .. } = line.sku.clone();
        Self {
            customer: line.customer.clone(),
            sku: id,
            product,
            part_number,
            unit,
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
            unit: line.unit,
            part_number: line.part_number.clone(),
            price: line.price.clone(),
            ..Self::default()
        }
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
        let lacks = server.reasons.iter().map(|reason| format!("{reason:?}"));
        Self {
            license_server: server.license_server.clone(),
            reported_through: server.reported_through.map(moment),
            lacks: lacks.collect(),
        }
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
    /// The hash of the rules.
    pub rules_sha256: String,
}

impl Document {
    /// Makes the document of a statement.
    pub fn new(
        statement: &Statement,
        people: Vec<DocumentPerson>,
        adjustments: &[Adjustment],
        acknowledgements: Vec<DocumentAcknowledgement>,
        about: About,
    ) -> Self {
        Self {
            format: FORMAT.into(),
            month: statement.month.to_string(),
            revision: about.revision,
            time_zone: statement.basis.time_zone.clone(),
            made_at: moment(about.made_at),
            made_by: about.made_by,
            correction: about.correction,
            previous_month_sha256: about.previous_month_sha256,
            rules: DocumentRules {
                sha256: about.rules_sha256,
                counted: statement.basis.person,
                domains: statement.basis.domains,
            },
            software: env!("CARGO_PKG_VERSION").into(),
            complete: statement.completeness.is_complete(),
            servers: statement.completeness.servers.iter().map(Into::into).collect(),
            customers: statement.customers.clone(),
            lines: statement.lines.iter().map(Into::into).collect(),
            totals: statement.totals.iter().map(Into::into).collect(),
            users: statement.users,
            free_users: statement.free_users,
            adjustments: adjustments.iter().map(Into::into).collect(),
            acknowledgements,
            people,
        }
    }

    /// Returns the month; `None` if there is none such.
    pub fn month(&self) -> Option<Month> {
        self.month.parse().ok()
    }

    /// Returns what is charged of each line: by customer and SKU.
    pub fn charges(&self) -> std::collections::BTreeMap<(String, String), u64> {
        self.lines.iter().map(|line| ((line.customer.clone(), line.sku.clone()), line.quantity)).collect()
    }
}

/// Returns a moment as text.
pub fn moment(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap_or_default().to_string()
}
