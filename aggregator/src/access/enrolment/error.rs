//! Why a call about enrolments fails.

use crate::access::authority::{AuthorityError, BadRequest};
use crate::store::StoreError;

/// Why a call about enrolments fails.
#[derive(Debug, thiserror::Error)]
pub enum EnrolmentError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No certificate can be issued.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The signing request is none.
    #[error(transparent)]
    Request(#[from] BadRequest),
    /// The invitation cannot be used.
    #[error(
        "the invitation is not known here, has expired, or has been used: ask for another one (`seatmeter agents invite`)"
    )]
    Invitation,
    /// Neither the invitation nor the agent names a license server.
    #[error("the invitation names no license server: say which one (--name)")]
    NoServer,
    /// The certificate is none that was issued here, or the proof of its key is wrong.
    #[error("the certificate is not known here: enrol the agent again")]
    Unknown,
    /// The certificate has expired.
    #[error("the certificate has expired")]
    Expired,
    /// The enrolment was revoked.
    #[error("the enrolment for license server {0:?} was revoked: enrol the agent again, if it may report")]
    Revoked(String),
    /// An operator must accept it first.
    #[error(
        "the enrolment for license server {license_server:?} waits for an operator: `seatmeter agents accept {id}`; until then, what \
         is read stays in the agent's buffer"
    )]
    Waits {
        /// The license server.
        license_server: String,
        /// The beginning of the enrolment's id.
        id: String,
    },
    /// Somebody else has renewed the identity.
    #[error(
        "the identity for license server {0:?} was renewed by another holder: one of two is a copy; enrol this one again, under a \
         name of its own if both are to report"
    )]
    Superseded(String),
    /// It is a copy in quarantine.
    #[error(
        "this agent is a copy of the one that reports for license server {0:?}: its certificate is not renewed until an operator says \
         what it is (`seatmeter agents enrolled`); enrol it under a name of its own if both are to report"
    )]
    Copy(String),
    /// An operator has said that it is a copy that never counts.
    #[error(
        "this agent is a copy of the one that reports for license server {0:?}, and was rejected: stop it, or enrol it under a name \
         of its own"
    )]
    Rejected(String),
    /// More copies wait for an operator's word than are kept apart.
    #[error(
        "too many copies of the agent for license server {0:?} are in quarantine: `seatmeter agents enrolled` lists them, `seatmeter \
         agents reject` makes room"
    )]
    TooManyCopies(String),
    /// Nothing waits for an operator's word.
    #[error("no copy of the agent for license server {0:?} is in quarantine")]
    NoCopy(String),
    /// More than one copy waits for an operator's word.
    #[error(
        "{count} copies of the agent for license server {license_server:?} are in quarantine: say which (`--copy {first}`)"
    )]
    SeveralCopies {
        /// The license server.
        license_server: String,
        /// How many there are.
        count: usize,
        /// The first one's number.
        first: i64,
    },
    /// The agent is enrolled for another license server.
    #[error(
        "the agent is enrolled for license server {enrolled:?}, and says {said:?}: correct `name` in its configuration, or enrol it again"
    )]
    OtherServer {
        /// The one that it may speak for.
        enrolled: String,
        /// The one that it names.
        said: String,
    },
    /// The agent is enrolled for another realm.
    #[error(
        "the agent is enrolled for realm {enrolled:?}, and says {said:?}: correct `realm` in its configuration, or enrol it again"
    )]
    OtherRealm {
        /// The one that its license server is in.
        enrolled: String,
        /// The one that it names.
        said: String,
    },
    /// An expired certificate was renewed too often.
    #[error(
        "the certificate for license server {0:?} expired too often: `seatmeter agents accept` lets it renew again"
    )]
    TooOften(String),
    /// No enrolment has the id.
    #[error("no enrolment has the id {0:?}: `seatmeter agents enrolled` lists them")]
    NoEnrolment(String),
    /// Several enrolments begin with the id.
    #[error("{count} enrolments begin with {id:?}: write more of the id")]
    Several {
        /// The beginning.
        id: String,
        /// How many begin with it.
        count: usize,
    },
}
