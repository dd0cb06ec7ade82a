//! Months: their revisions, what happened to them, and adjustments.

use super::StoreError;
use super::engine::{Connection, Row, Value};
use super::sql::statements;

statements! {
    SELECT_REVISIONS = "SELECT month, revision, state, sha256 FROM month_revision ORDER BY month, revision";
    SELECT_DOCUMENT = "SELECT document FROM month_revision WHERE month = $1 AND revision = $2";
    INSERT_REVISION = "INSERT INTO month_revision (month, revision, state, document, sha256) VALUES ($1, $2, $3, $4, $5)";
    SET_REVISION_STATE = "UPDATE month_revision SET state = $1 WHERE month = $2 AND revision = $3";
    WITHDRAW_REVISION = "UPDATE month_revision SET state = $1, document = $2 WHERE month = $3 AND revision = $4";
    INSERT_MONTH_EVENT = "INSERT INTO month_event (number, month, revision, at, author, what, subject, reason)
         SELECT coalesce(max(number), 0) + 1, $1, $2, $3, $4, $5, $6, $7 FROM month_event";
    SELECT_MONTH_EVENTS = "SELECT number, revision, at, author, what, subject, reason FROM month_event
         WHERE month = $1 ORDER BY number";
    INSERT_ADJUSTMENT = "INSERT INTO adjustment (number, month, customer, sku, quantity, reason, author, at, withdrawn_at)
         SELECT coalesce(max(number), 0) + 1, $1, $2, $3, $4, $5, $6, $7, NULL FROM adjustment";
    WITHDRAW_ADJUSTMENT = "UPDATE adjustment SET withdrawn_at = $1 WHERE month = $2 AND number = $3 AND withdrawn_at IS NULL";
    SELECT_ADJUSTMENTS = "SELECT number, customer, sku, quantity, reason, author, at FROM adjustment
         WHERE month = $1 AND withdrawn_at IS NULL ORDER BY number";
}

/// The state of a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It waits for approval.
    InReview = 1,
    /// It is what is billed.
    Approved,
    /// It was handed on.
    Submitted,
    /// A later one has taken its place.
    Superseded,
    /// It was taken back before it was approved.
    Withdrawn,
}

impl State {
    fn of(number: i64) -> Self {
        match number {
            1 => Self::InReview,
            2 => Self::Approved,
            3 => Self::Submitted,
            4 => Self::Superseded,
            // A number of a later version: what is not understood is not billed.
            _ => Self::Withdrawn,
        }
    }

    /// Whether it is what is billed.
    pub fn is_closed(self) -> bool {
        matches!(self, Self::Approved | Self::Submitted)
    }
}

/// A revision of a month.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// The month's number.
    pub month: i32,
    /// Counts the revisions of the month, from 1.
    pub revision: u64,
    /// Its state.
    pub state: State,
    /// SHA-256 of its document.
    pub sha256: Vec<u8>,
}

/// What happened to a month.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A revision was made, for review.
    Reviewed = 1,
    /// It was taken back.
    Withdrawn,
    /// It was approved.
    Approved,
    /// It was handed on.
    Submitted,
    /// What a license server lacks is acknowledged.
    Acknowledged,
    /// What is charged was adjusted.
    Adjusted,
    /// An adjustment was taken back.
    AdjustmentWithdrawn,
}

impl What {
    const ALL: [Self; 7] = [
        Self::Reviewed,
        Self::Withdrawn,
        Self::Approved,
        Self::Submitted,
        Self::Acknowledged,
        Self::Adjusted,
        Self::AdjustmentWithdrawn,
    ];
}

/// Something that happened to a month.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Counts the events of all months.
    pub number: u64,
    /// The revision; 0 if it is of the month as a whole.
    pub revision: u64,
    /// When, in seconds since 1970 UTC.
    pub at: i64,
    /// Who did it.
    pub author: String,
    /// What; `None` if a later version knows it.
    pub what: Option<What>,
    /// What it is about: a license server, a reference.
    pub subject: String,
    /// Why.
    pub reason: String,
}

/// An adjustment of what is charged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adjustment {
    /// Its number.
    pub number: u64,
    /// The customer's short name; empty for nobody's use.
    pub customer: String,
    /// The SKU's id.
    pub sku: String,
    /// What is added to what is charged; negative takes away.
    pub quantity: i64,
    /// Why.
    pub reason: String,
    /// Who says so.
    pub author: String,
    /// When, in seconds since 1970 UTC.
    pub at: i64,
}

/// Returns the revisions of all months, in order.
pub fn revisions(connection: &mut dyn Connection) -> Result<Vec<Revision>, StoreError> {
    let mut found = Vec::new();
    connection.query(SELECT_REVISIONS, &[], &mut |row: &dyn Row| {
        found.push(Revision {
            month: row.int(0)? as i32,
            revision: row.int(1)? as u64,
            state: State::of(row.int(2)?),
            sha256: row.blob(3)?.into(),
        });
        Ok(())
    })?;
    Ok(found)
}

/// Returns the document of a revision; empty if there is none.
pub fn document(connection: &mut dyn Connection, month: i32, revision: u64) -> Result<Vec<u8>, StoreError> {
    let mut found = Vec::new();
    connection.query(SELECT_DOCUMENT, &[month.into(), revision.into()], &mut |row| {
        found = row.blob(0)?.into();
        Ok(())
    })?;
    Ok(found)
}

/// Keeps a new revision, with its document.
pub fn add_revision(connection: &mut dyn Connection, revision: &Revision, document: &[u8]) -> Result<(), StoreError> {
    let Revision { month, revision, state, sha256 } = revision;
    let values = [(*month).into(), (*revision).into(), (*state as i64).into(), document.into(), Value::Blob(sha256)];
    connection.execute(INSERT_REVISION, &values).map(drop)
}

/// Gives a revision another state. One that is withdrawn loses its document.
pub fn set_state(connection: &mut dyn Connection, month: i32, revision: u64, state: State) -> Result<(), StoreError> {
    let number = (state as i64).into();
    let done = match state {
        State::Withdrawn => {
            connection.execute(WITHDRAW_REVISION, &[number, Value::Blob(&[]), month.into(), revision.into()])
        }
        _ => connection.execute(SET_REVISION_STATE, &[number, month.into(), revision.into()]),
    };
    done.map(drop)
}

/// Takes note of something that happened to a month. Its number is given.
pub fn add_event(connection: &mut dyn Connection, month: i32, event: &Event) -> Result<(), StoreError> {
    let values = [
        month.into(),
        event.revision.into(),
        event.at.into(),
        (*event.author).into(),
        event.what.map_or(0, |what| what as i64).into(),
        (*event.subject).into(),
        (*event.reason).into(),
    ];
    connection.execute(INSERT_MONTH_EVENT, &values).map(drop)
}

/// Returns what happened to a month, in order.
pub fn events(connection: &mut dyn Connection, month: i32) -> Result<Vec<Event>, StoreError> {
    let mut found = Vec::new();
    connection.query(SELECT_MONTH_EVENTS, &[month.into()], &mut |row| {
        let what = row.int(4)?;
        found.push(Event {
            number: row.int(0)? as u64,
            revision: row.int(1)? as u64,
            at: row.int(2)?,
            author: row.text(3)?.into(),
            what: What::ALL.into_iter().find(|known| *known as i64 == what),
            subject: row.text(5)?.into(),
            reason: row.text(6)?.into(),
        });
        Ok(())
    })?;
    Ok(found)
}

/// Keeps an adjustment of a month. Its number is given.
pub fn add_adjustment(connection: &mut dyn Connection, month: i32, one: &Adjustment) -> Result<(), StoreError> {
    let values = [
        month.into(),
        (*one.customer).into(),
        (*one.sku).into(),
        one.quantity.into(),
        (*one.reason).into(),
        (*one.author).into(),
        one.at.into(),
    ];
    connection.execute(INSERT_ADJUSTMENT, &values).map(drop)
}

/// Takes an adjustment of a month back. Returns whether there was one.
pub fn withdraw_adjustment(
    connection: &mut dyn Connection,
    month: i32,
    number: u64,
    at: i64,
) -> Result<bool, StoreError> {
    Ok(connection.execute(WITHDRAW_ADJUSTMENT, &[at.into(), month.into(), number.into()])? > 0)
}

/// Returns the adjustments of a month that are not taken back.
pub fn adjustments(connection: &mut dyn Connection, month: i32) -> Result<Vec<Adjustment>, StoreError> {
    let mut found = Vec::new();
    connection.query(SELECT_ADJUSTMENTS, &[month.into()], &mut |row| {
        found.push(Adjustment {
            number: row.int(0)? as u64,
            customer: row.text(1)?.into(),
            sku: row.text(2)?.into(),
            quantity: row.int(3)?,
            reason: row.text(4)?.into(),
            author: row.text(5)?.into(),
            at: row.int(6)?,
        });
        Ok(())
    })?;
    Ok(found)
}
