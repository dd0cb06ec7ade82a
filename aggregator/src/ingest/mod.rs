//! Receives batches from agents, and turns them into facts.
//!
//! ```text
//! api -> Delivery -> archiver -> stream_registry -> archive                        durable, then answered
//!                        | news
//!                    projector -> log_projection (sessions) -> pending_facts -> facts    a little later
//! ```
//!
//! The archiver waits for nothing; the projector follows the archive with a mark of its own.
//!
//! | module | one idea |
//! |---|---|
//! | [`archiver`] | the only writer of the archive |
//! | [`projector`] | the only writer of the facts, which follows the archive |
//! | [`news`] | what the one tells the other |
//! | [`stream_registry`] | license servers, logs, streams and marks, in memory |
//! | [`marks`] | the high-water rule |
//! | `content` | whether two streams, or a stream and a batch, say the same |
//! | `common_beginnings` | streams that begin alike, and what they have in common |
//! | [`silence`] | when a log's silence proves a loss |
//! | [`horizon`] | how far ahead of now a line can be dated |
//! | [`name_registry`] | names to ids |
//! | [`log_projection`] | events of one log to facts |
//! | [`pending_facts`] | facts that are not written yet |
//! | [`projection`] | the projections of all logs |
//! | [`verify`] | proof that the facts are the sum of the batches |

pub mod archiver;
mod common_beginnings;
mod content;
pub mod horizon;
pub mod log_projection;
pub mod marks;
pub mod name_registry;
pub mod news;
pub mod pending_facts;
pub mod projection;
pub mod projector;
pub mod silence;
pub mod stream_registry;
pub mod verify;

use std::sync::Arc;

use seatmeter_proto::batch::InvalidBatch;
use seatmeter_proto::v1::{Batch, Columns, Hello};
use tokio::sync::mpsc;

/// A batch on its way into the store, checked and decompressed.
pub struct Delivery {
    /// The agent that sent the batch.
    pub hello: Arc<Hello>,
    /// The batch as the agent sent it.
    pub batch: Batch,
    /// The batch's columns.
    pub columns: Columns,
    /// The channel for the answer.
    pub answers: Answers,
}

/// Takes the answers to one agent's batches. A full channel means that the agent does not read its answers.
pub type Answers = mpsc::Sender<Vec<Answer>>;

/// The answer to one batch.
#[derive(Debug)]
pub struct Answer {
    /// The sequence number of the batch.
    pub sequence: u64,
    /// The outcome of the batch.
    pub outcome: Outcome,
    /// Where the stream's next batch must start: everything before this position is durable.
    pub expected_start_position: u64,
}

/// The outcome of a batch.
#[derive(Debug)]
pub enum Outcome {
    /// The whole batch was new, and is now durable.
    Committed,
    /// The whole batch was known.
    Duplicate,
    /// The beginning of the batch was known; the rest was new, and is now durable.
    Trimmed,
    /// The batch starts after the mark of its stream: something before it is missing.
    Gap,
    /// The stream of the batch's name has other content than the batch.
    OtherContent,
    /// The batch was refused.
    Refused(Refusal),
}

/// Why a batch was refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The batch contradicts itself or exceeds a limit. Sending it again changes nothing.
    #[error(transparent)]
    Invalid(#[from] InvalidBatch),
    /// No space is left on the database's disk.
    #[error("no space is left on the aggregator's disk")]
    DiskFull,
    /// The database failed.
    #[error("the aggregator's database failed")]
    DatabaseFailed,
}
