//! Frees the buffer of what the answers to exports acknowledge, for as long as the agent runs.
//!
//! An answer is a file in a folder of the state, into which `seatmeter-agent acknowledge` puts it: the agent alone changes its buffer.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use seatmeter_proto::sealed::{Address, AnswerError, open_answer};
use seatmeter_proto::v1::{BatchOutcome, BatchResult, SealedAcknowledgement};
use seatmeter_service::private;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use crate::buffer::{Buffer, BufferError};
use crate::capture::Capture;
use crate::checkpoint::{Rewind, RewindCause};
use crate::codes;
use crate::health::{UplinkState, UplinkStatus};

/// How often the folder is looked at.
const LOOK: Duration = Duration::from_secs(2);

/// The longest answer that is read, in bytes.
const LONGEST: u64 = 256 << 20;

/// Why an answer is of no use.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    /// It is something else, or somebody else's.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// It is for another buffer.
    #[error("the answer is for a buffer that this agent does not have any more, or for another machine's")]
    OtherBuffer,
    /// The file cannot be used.
    #[error("the answer cannot be used: {0}")]
    File(#[from] io::Error),
    /// The buffer cannot be used.
    #[error(transparent)]
    Buffer(#[from] BufferError),
}

/// Returns the folder into which answers are put.
fn folder(state: &Path) -> PathBuf {
    state.join("answers")
}

/// Reads an answer, if it is one of the aggregator that is known by this address.
pub fn read(path: &Path, address: &Address) -> Result<(Vec<u8>, SealedAcknowledgement), SettleError> {
    if fs::metadata(path)?.len() > LONGEST {
        return Err(AnswerError::NoAnswer.into());
    }
    let bytes = fs::read(path)?;
    let acknowledgement = open_answer(&bytes, &address.authority)?;
    Ok((bytes, acknowledgement))
}

/// Puts an answer where the agent finds it.
pub fn hand_over(state: &Path, bytes: &[u8]) -> Result<(), SettleError> {
    let folder = folder(state);
    private::make_folder(&folder)?;
    private::give_away(&folder, state)?;
    let name = format!("{}.answer", uuid::Uuid::new_v4());
    Ok(private::write(&folder.join(name), bytes, Some(state))?)
}

/// Settles what answers acknowledge.
pub struct Settler {
    /// The aggregator.
    pub address: Address,
    /// The state folder.
    pub state: PathBuf,
    /// The buffer with the batches that were exported.
    pub buffer: Arc<Buffer>,
    /// The capture, which reads a stream again if the aggregator lacks a part of it.
    pub capture: Arc<Capture>,
    /// The channel that publishes the state of delivery.
    pub status: watch::Sender<UplinkStatus>,
}

impl Settler {
    /// Settles until `stop` becomes true.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        self.status.send_modify(|status| status.state = UplinkState::Sealed);
        let this = Arc::new(self);
        loop {
            let settler = this.clone();
            if let Ok(true) = spawn_blocking(move || settler.look()).await {
                this.status.send_modify(|status| status.acknowledged_at = Some(Timestamp::now().as_second()));
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Settles the answers that are there. Returns whether there was one.
    fn look(&self) -> bool {
        let Ok(entries) = fs::read_dir(folder(&self.state)) else { return false };
        let answers = entries.flatten().map(|entry| entry.path());
        let answers: Vec<PathBuf> =
            answers.filter(|path| path.extension().is_some_and(|end| end == "answer")).collect();
        let mut has_settled = false;
        for path in answers {
            let settled = read(&path, &self.address).and_then(|(_, told)| self.settle(&told));
            match settled {
                Ok(()) => has_settled = true,
                // It is tried again.
                Err(SettleError::Buffer(_)) => continue,
                Err(error) => {
                    tracing::error!(code = codes::ANSWER_USELESS, reason = %error, "an answer to an export is of no use")
                }
            }
            let _ = fs::remove_file(&path);
        }
        has_settled
    }

    fn settle(&self, told: &SealedAcknowledgement) -> Result<(), SettleError> {
        if told.epoch != self.buffer.epoch() {
            return Err(SettleError::OtherBuffer);
        }
        let mut done = Vec::new();
        for result in &told.results {
            match result.outcome() {
                BatchOutcome::Committed | BatchOutcome::Duplicate | BatchOutcome::Trimmed => done.push(result.sequence),
                BatchOutcome::Gap => self.rewind(result, RewindCause::Lacking)?,
                BatchOutcome::OtherContent => self.rewind(result, RewindCause::OtherContent)?,
                BatchOutcome::Invalid => {
                    let sequence = result.sequence;
                    tracing::error!(
                        code = codes::BATCH_REFUSED,
                        sequence,
                        reason = result.detail,
                        "the aggregator will never take this batch: it is kept aside in the buffer; report it as a bug"
                    );
                    self.buffer.set_aside(sequence)?;
                }
                BatchOutcome::Unavailable | BatchOutcome::Unspecified => {}
            }
        }
        self.buffer.acknowledge(&done)?;
        tracing::info!(
            code = codes::ANSWER_SETTLED,
            number = told.number,
            batches = done.len(),
            "an export is acknowledged"
        );
        Ok(())
    }

    /// Requests that a stream be read again, of which a batch was not taken.
    fn rewind(&self, result: &BatchResult, cause: RewindCause) -> Result<(), SettleError> {
        let batches = self.buffer.batches_after(result.sequence.saturating_sub(1), 1)?;
        let batch = batches.first().filter(|batch| batch.sequence == result.sequence);
        let fingerprint = batch.and_then(|batch| batch.stream.as_ref()?.fingerprint.as_slice().try_into().ok());
        if let Some(fingerprint) = fingerprint {
            self.capture.rewind(Rewind { fingerprint, cause, mark: result.expected_start_position });
        }
        Ok(())
    }
}
