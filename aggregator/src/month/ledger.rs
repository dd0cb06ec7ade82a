//! The ledger of months: revisions, and how they come to be billed. What is approved is never changed: what comes later is another
//! revision.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use seatmeter_count::Month;
use seatmeter_count::name::fold_case;

use seatmeter_evidence::document::{Document, DocumentAcknowledgement, DocumentPerson, tally};

use super::document::{self, About};
use super::statement::{Statement, Statements};
use crate::store::engine::Connection;
use crate::store::in_transaction;
use crate::store::months::{self as store, Adjustment, Event, Revision, State, What};
pub use error::LedgerError;

mod error;

/// What can be said of a month.
pub struct MonthView {
    /// Its revisions.
    pub revisions: Vec<Revision>,
    /// What happened to it.
    pub events: Vec<Event>,
    /// The adjustments in force.
    pub adjustments: Vec<Adjustment>,
    /// The license servers that lack something.
    pub incomplete: Vec<String>,
    /// Those of them that are acknowledged.
    pub acknowledged: Vec<String>,
    /// What is charged by the last revision and would be now, where it differs: by customer and SKU.
    pub differences: Vec<((String, String), u64, u64)>,
}

/// The ledger of all months.
#[derive(Clone)]
pub struct Ledger {
    writer: Arc<Mutex<Box<dyn Connection>>>,
    statements: Statements,
    /// Whether whoever reviews a month may not approve it.
    two_people: bool,
}

impl Ledger {
    /// Keeps months by a connection to their database. Reports are made by statements.
    pub fn new(writer: Arc<Mutex<Box<dyn Connection>>>, statements: Statements, two_people: bool) -> Self {
        Self { writer, statements, two_people }
    }

    /// Whether whoever reviews a month may not approve it.
    pub fn two_people(&self) -> bool {
        self.two_people
    }

    /// Returns what reports are made by.
    pub fn statements(&self) -> &Statements {
        &self.statements
    }

    /// Returns the report of a month as it is now; of one customer, if one is named.
    pub fn live(&self, month: Month, customer: &str) -> Result<Statement, LedgerError> {
        let (adjustments, previous) = {
            let mut writer = self.lock();
            let adjustments = store::adjustments(writer.as_mut(), month.number())?;
            (adjustments, closed(writer.as_mut(), month.previous())?.map(|(_, document)| document))
        };
        Ok(self.statements.of(month, customer, &adjustments, previous.as_ref())?)
    }

    /// Returns the revision of a month that is billed, with its document; `None` if none is.
    pub fn closed(&self, month: Month) -> Result<Option<(Revision, Document)>, LedgerError> {
        closed(self.lock().as_mut(), month)
    }

    /// Returns all revisions, by month.
    pub fn revisions(&self) -> Result<Vec<Revision>, LedgerError> {
        Ok(store::revisions(self.lock().as_mut())?)
    }

    /// Returns what can be said of a month.
    pub fn view(&self, month: Month) -> Result<MonthView, LedgerError> {
        let live = self.live(month, "")?;
        let mut writer = self.lock();
        let mut revisions = store::revisions(writer.as_mut())?;
        revisions.retain(|revision| revision.month == month.number());
        let events = store::events(writer.as_mut(), month.number())?;
        let adjustments = store::adjustments(writer.as_mut(), month.number())?;
        let last = revisions.iter().rev().find(|revision| revision.state != State::Withdrawn);
        let differences = match last {
            Some(last) => differences(&read(writer.as_mut(), month, last)?, &live),
            None => Vec::new(),
        };
        let incomplete = lacking(&live);
        let acknowledged = acknowledgements(&events).into_iter().map(|one| one.license_server);
        let acknowledged = acknowledged.filter(|server| incomplete.contains(server)).collect();
        Ok(MonthView { revisions, events, adjustments, incomplete, acknowledged, differences })
    }

    /// Makes a revision of a month, for review.
    pub fn review(&self, month: Month, author: &str, reason: &str) -> Result<Revision, LedgerError> {
        if month >= self.statements.usage().current_month() {
            return Err(LedgerError::NotEnded(month));
        }
        let rules = self.statements.rules();
        let live = self.live(month, "")?;
        let people = self.statements.people(month)?;
        if self.statements.rules().hash != rules.hash || !accounts_for(&people, &live) {
            return Err(LedgerError::Unsteady(month));
        }
        let now = Timestamp::now().as_second();
        self.write(|connection| {
            let known = of_month(connection, month)?;
            if let Some(waiting) = known.iter().find(|revision| revision.state == State::InReview) {
                return Err(LedgerError::InReview { month, revision: waiting.revision });
            }
            if let Some((before, was)) = closed(connection, month)? {
                if reason.trim().is_empty() {
                    return Err(LedgerError::NoReason(month));
                }
                if differences(&was, &live).is_empty() {
                    return Err(LedgerError::NothingChanged { month, revision: before.revision });
                }
            }
            let previous = closed(connection, month.previous())?;
            let is_correction = known.iter().any(|revision| revision.state.is_closed());
            let about = About {
                revision: known.last().map_or(1, |last| last.revision + 1),
                made_at: now,
                made_by: author.to_owned(),
                correction: if is_correction { reason.to_owned() } else { String::new() },
                previous_month_sha256: previous.map(|(last, _)| HEXLOWER.encode(&last.sha256)).unwrap_or_default(),
                rules,
            };
            let adjustments = store::adjustments(connection, month.number())?;
            let acknowledged = acknowledgements(&store::events(connection, month.number())?);
            let document = document::document(&live, people, &adjustments, acknowledged, about);
            let bytes =
                serde_json::to_vec_pretty(&document).map_err(|error| damaged(month, document.revision, &error))?;
            let revision = Revision {
                month: month.number(),
                revision: document.revision,
                state: State::InReview,
                sha256: digest(&SHA256, &bytes).as_ref().to_vec(),
            };
            store::add_revision(connection, &revision, &bytes)?;
            note(connection, month, What::Reviewed, revision.revision, author, "", reason)?;
            Ok(revision)
        })
    }

    /// Takes the revision in review back.
    pub fn withdraw(&self, month: Month, author: &str, reason: &str) -> Result<(), LedgerError> {
        self.write(|connection| {
            let waiting = in_review(connection, month)?;
            store::set_state(connection, month.number(), waiting.revision, State::Withdrawn)?;
            note(connection, month, What::Withdrawn, waiting.revision, author, "", reason)
        })
    }

    /// Approves the revision in review, if it is the one that was looked at (`seen`: its hash; empty if any will do).
    pub fn approve(&self, month: Month, author: &str, seen: &[u8], reason: &str) -> Result<Revision, LedgerError> {
        let live = self.live(month, "")?;
        self.write(|connection| {
            let waiting = in_review(connection, month)?;
            let revision = waiting.revision;
            if !seen.is_empty() && seen != waiting.sha256 {
                return Err(LedgerError::OtherDocument { month, revision });
            }
            let document = read(connection, month, &waiting)?;
            if self.two_people && fold_case(&document.made_by) == fold_case(author) {
                return Err(LedgerError::SamePerson(month));
            }
            if !differences(&document, &live).is_empty() {
                return Err(LedgerError::Changed { month, revision });
            }
            let acknowledged: BTreeSet<String> = acknowledgements(&store::events(connection, month.number())?)
                .into_iter()
                .map(|one| one.license_server)
                .collect();
            let mut servers = lacking(&live);
            servers.retain(|server| !acknowledged.contains(server));
            if !servers.is_empty() {
                return Err(LedgerError::Incomplete { month, servers });
            }
            for before in of_month(connection, month)?.iter().filter(|revision| revision.state.is_closed()) {
                store::set_state(connection, month.number(), before.revision, State::Superseded)?;
            }
            store::set_state(connection, month.number(), revision, State::Approved)?;
            note(connection, month, What::Approved, revision, author, "", reason)?;
            Ok(Revision { state: State::Approved, ..waiting })
        })
    }

    /// Notes that the approved revision was handed on.
    pub fn submit(&self, month: Month, author: &str, reference: &str) -> Result<Revision, LedgerError> {
        self.write(|connection| {
            let approved = of_month(connection, month)?.into_iter().find(|revision| revision.state.is_closed());
            let approved = approved.ok_or(LedgerError::NotApproved(month))?;
            store::set_state(connection, month.number(), approved.revision, State::Submitted)?;
            note(connection, month, What::Submitted, approved.revision, author, reference, "")?;
            Ok(Revision { state: State::Submitted, ..approved })
        })
    }

    /// Acknowledges what a license server lacks.
    pub fn acknowledge(&self, month: Month, author: &str, server: &str, reason: &str) -> Result<(), LedgerError> {
        let lacking = lacking(&self.live(month, "")?);
        let server = lacking
            .into_iter()
            .find(|known| fold_case(known) == fold_case(server))
            .ok_or_else(|| LedgerError::LacksNothing { month, server: server.to_owned() })?;
        self.write(|connection| note(connection, month, What::Acknowledged, 0, author, &server, reason))
    }

    /// Adds to what is charged of a line, or takes away.
    pub fn adjust(&self, month: Month, adjustment: &Adjustment) -> Result<(), LedgerError> {
        let live = self.live(month, "")?;
        let is_line = |known: &super::statement::StatedLine| {
            fold_case(&known.customer) == fold_case(&adjustment.customer) && known.sku.id == adjustment.sku
        };
        let Some(line) = live.lines.iter().find(|line| is_line(line)) else {
            let (customer, sku) = (adjustment.customer.clone(), adjustment.sku.clone());
            return Err(LedgerError::NoLine { month, customer, sku });
        };
        if line.quantity.checked_add_signed(adjustment.quantity).is_none() {
            return Err(LedgerError::TooMuch { month, sku: adjustment.sku.clone(), charged: line.quantity });
        }
        let adjustment = Adjustment { customer: line.customer.clone(), ..adjustment.clone() };
        self.write(|connection| {
            store::add_adjustment(connection, month.number(), &adjustment)?;
            let subject = format!("{} {}: {:+}", adjustment.customer, adjustment.sku, adjustment.quantity);
            let (author, reason) = (&adjustment.author, &adjustment.reason);
            note(connection, month, What::Adjusted, 0, author, subject.trim(), reason)
        })
    }

    /// Takes an adjustment back.
    pub fn withdraw_adjustment(&self, month: Month, author: &str, number: u64) -> Result<(), LedgerError> {
        let now = Timestamp::now().as_second();
        self.write(|connection| {
            if !store::withdraw_adjustment(connection, month.number(), number, now)? {
                return Err(LedgerError::NoAdjustment { month, number });
            }
            note(connection, month, What::AdjustmentWithdrawn, 0, author, &number.to_string(), "")
        })
    }

    /// Returns the document of a revision, byte for byte; of the one that is billed or else in review, if none is named.
    pub fn export(&self, month: Month, revision: u64) -> Result<Vec<u8>, LedgerError> {
        let mut writer = self.lock();
        let known = of_month(writer.as_mut(), month)?;
        let is_meant = |known: &&Revision| match revision {
            0 => known.state.is_closed(),
            number => known.revision == number,
        };
        let waiting = known.iter().find(|known| revision == 0 && known.state == State::InReview);
        let meant = known.iter().find(is_meant).or(waiting).ok_or(LedgerError::NoRevision { month, revision })?;
        let bytes = store::document(writer.as_mut(), month.number(), meant.revision)?;
        if bytes.is_empty() { Err(LedgerError::NoRevision { month, revision }) } else { Ok(bytes) }
    }

    fn write<T>(&self, task: impl FnOnce(&mut dyn Connection) -> Result<T, LedgerError>) -> Result<T, LedgerError> {
        in_transaction(self.lock().as_mut(), task)
    }

    fn lock(&self) -> MutexGuard<'_, Box<dyn Connection>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn of_month(connection: &mut dyn Connection, month: Month) -> Result<Vec<Revision>, LedgerError> {
    let mut found = store::revisions(connection)?;
    found.retain(|revision| revision.month == month.number());
    Ok(found)
}

fn in_review(connection: &mut dyn Connection, month: Month) -> Result<Revision, LedgerError> {
    let waiting = of_month(connection, month)?.into_iter().find(|revision| revision.state == State::InReview);
    waiting.ok_or(LedgerError::NotInReview(month))
}

fn closed(connection: &mut dyn Connection, month: Month) -> Result<Option<(Revision, Document)>, LedgerError> {
    let Some(revision) = of_month(connection, month)?.into_iter().find(|revision| revision.state.is_closed()) else {
        return Ok(None);
    };
    let document = read(connection, month, &revision)?;
    Ok(Some((revision, document)))
}

/// Reads the document of a revision, which its hash must prove.
fn read(connection: &mut dyn Connection, month: Month, revision: &Revision) -> Result<Document, LedgerError> {
    let bytes = store::document(connection, month.number(), revision.revision)?;
    if digest(&SHA256, &bytes).as_ref() != revision.sha256 {
        return Err(damaged(month, revision.revision, &"it is not what its hash says"));
    }
    serde_json::from_slice(&bytes).map_err(|error| damaged(month, revision.revision, &error))
}

fn damaged(month: Month, revision: u64, reason: &dyn std::fmt::Display) -> LedgerError {
    LedgerError::Damaged { month, revision, reason: reason.to_string() }
}

fn note(
    connection: &mut dyn Connection,
    month: Month,
    what: What,
    revision: u64,
    author: &str,
    subject: &str,
    reason: &str,
) -> Result<(), LedgerError> {
    let event = Event {
        number: 0,
        revision,
        at: Timestamp::now().as_second(),
        author: author.to_owned(),
        what: Some(what),
        subject: subject.to_owned(),
        reason: reason.to_owned(),
    };
    Ok(store::add_event(connection, month.number(), &event)?)
}

/// Returns whether the people of each line are as many as the line says.
fn accounts_for(people: &[DocumentPerson], statement: &Statement) -> bool {
    let counted = tally(people);
    statement.lines.iter().all(|line| {
        let found = counted.get(&(&*line.customer, &*line.sku.id)).copied().unwrap_or_default();
        let users = found.charged + found.free + found.elsewhere;
        (users, found.free, found.elsewhere) == (line.users, line.free_users, line.counted_elsewhere)
    })
}

/// The license servers that lack something.
fn lacking(statement: &Statement) -> Vec<String> {
    let servers = statement.completeness.servers.iter().filter(|server| !server.is_complete());
    servers.map(|server| server.license_server.clone()).collect()
}

/// What is acknowledged: of each license server, the last word.
fn acknowledgements(events: &[Event]) -> Vec<DocumentAcknowledgement> {
    let mut last: BTreeMap<&str, DocumentAcknowledgement> = BTreeMap::new();
    for event in events.iter().filter(|event| event.what == Some(What::Acknowledged)) {
        let Event { subject: license_server, reason, author, .. } = event.clone();
        last.insert(&event.subject, DocumentAcknowledgement { license_server, reason, author });
    }
    last.into_values().collect()
}

/// What a document charges and would be charged now, where it differs.
fn differences(document: &Document, live: &Statement) -> Vec<((String, String), u64, u64)> {
    let was = document.charges();
    let is: BTreeMap<(String, String), u64> =
        live.lines.iter().map(|line| ((line.customer.clone(), line.sku.id.clone()), line.quantity)).collect();
    let keys: BTreeSet<&(String, String)> = was.keys().chain(is.keys()).collect();
    let figures = keys.into_iter().map(|key| {
        let of = |charges: &BTreeMap<(String, String), u64>| charges.get(key).copied().unwrap_or_default();
        (key.clone(), of(&was), of(&is))
    });
    figures.filter(|(_, was, is)| was != is).collect()
}
