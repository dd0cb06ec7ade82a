//! Why a connection to the aggregator ended: for people, and in full for the health log.

use std::error::Error;

use seatmeter_proto::transport::{TransportError, with_causes};
use seatmeter_proto::v1::RefusalReason;
use tonic::{Code, Status};

use super::ANSWER_TIMEOUT;
use crate::buffer::BufferError;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    /// The connection could not be opened.
    #[error(transparent)]
    Connect(#[from] TransportError),
    /// The aggregator ended the connection with a message, or the network failed.
    #[error("{}", in_words(.0))]
    Status(#[from] Status),
    /// The aggregator closed the connection without a reason.
    #[error("the aggregator closed the connection")]
    Closed,
    /// The aggregator does not answer.
    #[error("the aggregator has not answered for {} seconds", ANSWER_TIMEOUT.as_secs())]
    Silent,
    /// The aggregator cannot store batches now.
    #[error("the aggregator cannot store batches now: {}", reason_in_words(*.reason))]
    Unavailable {
        /// Why, as the contract has it.
        reason: RefusalReason,
        /// The aggregator's own words.
        detail: String,
    },
    /// Batches that are not acknowledged must be sent again.
    #[error("batches are sent again from where the aggregator asked for")]
    Resend,
    /// The buffer failed.
    #[error(transparent)]
    Buffer(#[from] BufferError),
    /// The agent has a new certificate, which a new connection shows.
    #[error("the certificate is renewed")]
    Renewed,
    /// The agent stops.
    #[error("the agent stops")]
    Stop,
}

impl Ended {
    /// Whether the aggregator has not accepted the agent's certificate: by a status, by an alert of TLS, whose text is rustls', or by
    /// the end of a connection of which the alert came too late.
    pub(super) fn is_of_the_certificate(&self) -> bool {
        matches!(self, Self::Status(status) if status.code() == Code::Unauthenticated)
            || ["received fatal alert", "broken pipe"].iter().any(|text| self.chain().contains(text))
    }

    /// Returns the whole chain of causes, including the messages of libraries and of the aggregator; empty if it adds
    /// nothing to the reason.
    pub(super) fn chain(&self) -> String {
        match self {
            Self::Connect(TransportError::Connect { chain, .. }) => chain.clone(),
            Self::Status(status) => status.source().map(with_causes).unwrap_or_default(),
            Self::Unavailable { detail, .. } => detail.clone(),
            _ => String::new(),
        }
    }
}

/// Returns the aggregator's message. If a library in the agent created the status, returns that the connection is
/// closed.
fn in_words(status: &Status) -> String {
    if status.source().is_some() || status.message().is_empty() {
        "the aggregator closed the connection".into()
    } else {
        format!("the aggregator ended the connection: {}", status.message())
    }
}

/// Describes why the aggregator refused a batch.
pub(super) fn reason_in_words(reason: RefusalReason) -> &'static str {
    match reason {
        RefusalReason::DiskFull => "no space is left on its disk",
        RefusalReason::DatabaseFailed => "its database failed",
        RefusalReason::MissingField => "a field is missing",
        RefusalReason::LimitExceeded => "a limit is exceeded",
        RefusalReason::Compression => "the columns do not decompress",
        RefusalReason::Encoding => "the columns cannot be read",
        RefusalReason::ColumnLength => "a column has the wrong length",
        RefusalReason::Index => "an index points nowhere",
        RefusalReason::UnknownKind => "it does not know a kind of event: the agent is newer",
        RefusalReason::Position => "an event is outside its batch",
        RefusalReason::Unspecified => "for a reason that this version does not know",
    }
}
