//! Why something cannot be done with a month.

use seatmeter_count::Month;

use crate::month::statement::ReportError;
use crate::store::StoreError;
use crate::usage::UsageError;

/// Why something cannot be done with a month.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no report.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The month goes on.
    #[error("{0} has not ended: it can be reviewed from the first day of the next month on")]
    NotEnded(Month),
    /// A revision waits already.
    #[error(
        "{month} is in review (revision {revision}): approve it (`seatmeter month approve {month}`), or take it back (`seatmeter month \
         withdraw {month}`)"
    )]
    InReview {
        /// The month.
        month: Month,
        /// The revision.
        revision: u64,
    },
    /// No revision waits.
    #[error("no revision of {0} is in review: `seatmeter month review {0}` makes one")]
    NotInReview(Month),
    /// What is received, or the rules, changed while the report was made.
    #[error("the figures of {0} have changed while they were read: try again")]
    Unsteady(Month),
    /// A correction needs a reason.
    #[error("{0} is approved: say why it is corrected (--reason)")]
    NoReason(Month),
    /// Nothing has changed.
    #[error("nothing has changed since revision {revision} of {month} was approved")]
    NothingChanged {
        /// The month.
        month: Month,
        /// The revision.
        revision: u64,
    },
    /// Somebody else has to approve it.
    #[error(
        "{0} was put into review by you: two people are required (`[months] two_people`), so somebody else must approve it"
    )]
    SamePerson(Month),
    /// What was looked at is not what is in review.
    #[error("revision {revision} of {month} is another one than you have looked at: look at it again")]
    OtherDocument {
        /// The month.
        month: Month,
        /// The revision.
        revision: u64,
    },
    /// The figures have changed since.
    #[error(
        "the figures of {month} have changed since revision {revision} was made: take it back (`seatmeter month withdraw {month}`), and \
         review them again"
    )]
    Changed {
        /// The month.
        month: Month,
        /// The revision.
        revision: u64,
    },
    /// License servers lack something.
    #[error(
        "{month} is not complete: {}. Wait until they have reported, or acknowledge each by name and reason (`seatmeter month acknowledge \
         {month} SERVER --reason ...`)",
        servers.join(", ")
    )]
    Incomplete {
        /// The month.
        month: Month,
        /// The license servers.
        servers: Vec<String>,
    },
    /// Nothing is approved.
    #[error("no revision of {0} is approved")]
    NotApproved(Month),
    /// There is no such license server that lacks something.
    #[error("license server {server:?} lacks nothing in {month}")]
    LacksNothing {
        /// The month.
        month: Month,
        /// The license server.
        server: String,
    },
    /// There is no such adjustment.
    #[error("{month} has no adjustment {number}: `seatmeter month show {month}` has their numbers")]
    NoAdjustment {
        /// The month.
        month: Month,
        /// The number.
        number: u64,
    },
    /// More would be taken away than is charged.
    #[error("only {charged} are charged of SKU {sku:?} in {month}: no more can be taken away")]
    TooMuch {
        /// The month.
        month: Month,
        /// The SKU.
        sku: String,
        /// What is charged.
        charged: u64,
    },
    /// There is no such line.
    #[error("{month} has no line of customer {customer:?} and SKU {sku:?}")]
    NoLine {
        /// The month.
        month: Month,
        /// The customer.
        customer: String,
        /// The SKU.
        sku: String,
    },
    /// There is no such revision, or it was taken back.
    #[error("there is no revision {revision} of {month}")]
    NoRevision {
        /// The month.
        month: Month,
        /// The revision.
        revision: u64,
    },
    /// A document cannot be read.
    #[error("revision {revision} of {month} cannot be read: {reason}; restore `months.db` from a backup")]
    Damaged {
        /// The month.
        month: Month,
        /// The revision.
        revision: u64,
        /// Why.
        reason: String,
    },
}

impl From<UsageError> for LedgerError {
    fn from(error: UsageError) -> Self {
        Self::Report(error.into())
    }
}
