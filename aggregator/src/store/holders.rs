//! Who holds the identity of an enrolment: the agent itself, and copies of it.

use super::StoreError;
use super::engine::Connection;
use super::sql::statements;

statements! {
    SELECT_HOLDERS = "SELECT number, presented, issued, has_issued, standing, host, address, since, seen_at FROM holder
         WHERE enrolment_id = $1 ORDER BY number";
    SELECT_ALL_HOLDERS = "SELECT enrolment_id, number, presented, issued, has_issued, standing, host, address, since, seen_at FROM holder
         ORDER BY enrolment_id, number";
    UPSERT_HOLDER = "INSERT INTO holder (enrolment_id, number, presented, issued, has_issued, standing, host, address, since, seen_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         ON CONFLICT (enrolment_id, number) DO UPDATE SET presented = excluded.presented, issued = excluded.issued, has_issued = excluded.has_issued,
         standing = excluded.standing, host = excluded.host, address = excluded.address, seen_at = excluded.seen_at";
    SET_ISSUED = "UPDATE holder SET has_issued = 1 WHERE enrolment_id = $1 AND number = $2 AND issued = $3";
    DELETE_DISPLACED = "DELETE FROM holder WHERE enrolment_id = $1 AND standing = 1 AND number < $2";
}

/// What becomes of what a holder sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It counts.
    Counted,
    /// Another holder has taken its place, and it has not come back.
    Displaced,
    /// It is kept, and counts nowhere, until an operator says what it is.
    Quarantined,
    /// An operator says that it counts, too.
    Accepted,
    /// An operator says that it never counts: nothing is taken of it any more.
    Rejected,
    /// It counts once it is clear that the holder before does not come back; until then it is kept.
    Probation,
}

impl Standing {
    /// Whether an operator can say what becomes of it.
    pub fn is_undecided(self) -> bool {
        matches!(self, Self::Quarantined | Self::Probation)
    }

    const ALL: [Self; 6] =
        [Self::Counted, Self::Displaced, Self::Quarantined, Self::Accepted, Self::Rejected, Self::Probation];

    fn of(number: i64) -> Self {
        let index = usize::try_from(number).unwrap_or(usize::MAX);
        // A number of a later version: what is not understood does not count.
        Self::ALL.get(index).copied().unwrap_or(Self::Quarantined)
    }
}

/// One who holds an identity. Moments are in seconds since 1970 UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Counts the holders of an enrolment, from 1.
    pub number: i64,
    /// The generation with which it came last.
    pub presented: Vec<u8>,
    /// The generation that it was given then.
    pub issued: Vec<u8>,
    /// Whether it has certainly got that one.
    pub has_issued: bool,
    /// What becomes of what it sends.
    pub standing: Standing,
    /// The machine that it says it runs on.
    pub host: String,
    /// The address that it came from last.
    pub address: String,
    /// When it came first.
    pub since: i64,
    /// When it came last.
    pub seen_at: i64,
}

impl Holder {
    /// Whether somebody who comes with this generation is this holder: with the last one that it was given, or, unless that one has
    /// certainly arrived, with the one before.
    pub fn comes_with(&self, generation: &[u8]) -> bool {
        let is_answer_lost = !self.has_issued && self.presented == generation;
        !generation.is_empty() && (self.issued == generation || is_answer_lost)
    }

    /// Whether it is known to be a copy, and none that an operator has accepted.
    pub fn is_copy(&self) -> bool {
        matches!(self.standing, Standing::Quarantined | Standing::Rejected)
    }
}

/// Returns the holders of an enrolment, the first one first.
pub fn holders(connection: &mut dyn Connection, enrolment: &str) -> Result<Vec<Holder>, StoreError> {
    let mut found = Vec::new();
    connection.query(SELECT_HOLDERS, &[enrolment.into()], &mut |row| {
        found.push(holder(row, 0)?);
        Ok(())
    })?;
    Ok(found)
}

/// Returns all holders, each with its enrolment, in the order of both.
pub fn all_holders(connection: &mut dyn Connection) -> Result<Vec<(String, Holder)>, StoreError> {
    let mut found = Vec::new();
    connection.query(SELECT_ALL_HOLDERS, &[], &mut |row| {
        found.push((row.text(0)?.to_owned(), holder(row, 1)?));
        Ok(())
    })?;
    Ok(found)
}

fn holder(row: &dyn super::engine::Row, from: usize) -> Result<Holder, StoreError> {
    Ok(Holder {
        number: row.int(from)?,
        presented: row.blob(from + 1)?.into(),
        issued: row.blob(from + 2)?.into(),
        has_issued: row.int(from + 3)? != 0,
        standing: Standing::of(row.int(from + 4)?),
        host: row.text(from + 5)?.into(),
        address: row.text(from + 6)?.into(),
        since: row.int(from + 7)?,
        seen_at: row.int(from + 8)?,
    })
}

/// Keeps a holder of an enrolment.
pub fn save_holder(connection: &mut dyn Connection, enrolment: &str, holder: &Holder) -> Result<(), StoreError> {
    let values = [
        enrolment.into(),
        holder.number.into(),
        (*holder.presented).into(),
        (*holder.issued).into(),
        i64::from(holder.has_issued).into(),
        (holder.standing as i64).into(),
        (*holder.host).into(),
        (*holder.address).into(),
        holder.since.into(),
        holder.seen_at.into(),
    ];
    connection.execute(UPSERT_HOLDER, &values).map(drop)
}

/// Takes note that a holder has got the generation that it was given, if that is still this one.
pub fn set_issued(
    connection: &mut dyn Connection,
    enrolment: &str,
    number: i64,
    generation: &[u8],
) -> Result<(), StoreError> {
    connection.execute(SET_ISSUED, &[enrolment.into(), number.into(), generation.into()]).map(drop)
}

/// Forgets the displaced holders of an enrolment with a number below this one.
pub fn forget_displaced(connection: &mut dyn Connection, enrolment: &str, below: i64) -> Result<(), StoreError> {
    connection.execute(DELETE_DISPLACED, &[enrolment.into(), below.into()]).map(drop)
}
