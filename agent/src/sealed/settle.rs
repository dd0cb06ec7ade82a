//! Frees the buffer of what the answers to exports acknowledge, has read again what the aggregator lacks, and says of itself what goes
//! into the next export, for as long as the agent runs.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use prost::Message;
use seatmeter_proto::sealed::{Address, AnswerError, open_answer};
use seatmeter_proto::v1::{BatchOutcome, BatchResult, Heartbeat, SealedAcknowledgement};
use seatmeter_service::private;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::hand_over::{ANSWER, DAMAGED, HEARTBEAT, folder};
use crate::acknowledged::acknowledged;
use crate::buffer::{Buffer, BufferError};
use crate::capture::Capture;
use crate::checkpoint::{Rewind, RewindCause};
use crate::codes;
use crate::health::{self, UplinkState, UplinkStatus};

/// How often the folder is looked at, and in how many looks the agent once says how it is.
const LOOK: Duration = Duration::from_secs(2);
const SAID: u64 = 10;

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

/// Reads an answer, if it is one of the aggregator that is known by this address.
pub fn read(path: &Path, address: &Address) -> Result<(Vec<u8>, SealedAcknowledgement), SettleError> {
    if fs::metadata(path)?.len() > LONGEST {
        return Err(AnswerError::NoAnswer.into());
    }
    let bytes = fs::read(path)?;
    let acknowledgement = open_answer(&bytes, &address.authority)?;
    Ok((bytes, acknowledgement))
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
    /// What the key is known by with which the agent makes pseudonyms; empty if it exports names.
    pub pseudonym_key_id: String,
    /// The incarnation of the aggregator's database, until all that it lacks was read again.
    pub incarnation: Mutex<Option<String>>,
}

impl Settler {
    /// Settles until `stop` becomes true.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        self.status.send_modify(|status| status.state = UplinkState::Sealed);
        let this = Arc::new(self);
        for look in 0_u64.. {
            let settler = this.clone();
            let settled = spawn_blocking(move || {
                if look % SAID == 0 {
                    settler.tried(settler.say_how_it_is());
                }
                settler.look()
            });
            if let Ok(true) = settled.await {
                this.status.send_modify(|status| status.acknowledged_at = Some(Timestamp::now().as_second()));
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Settles what commands have put there. Returns whether there was an answer.
    fn look(&self) -> bool {
        self.tried(self.note_delivered());
        let Ok(entries) = fs::read_dir(folder(&self.state)) else { return false };
        let mut has_settled = false;
        for path in entries.flatten().map(|entry| entry.path()) {
            let done = match path.extension().and_then(|end| end.to_str()) {
                Some(ANSWER) => read(&path, &self.address).and_then(|(_, told)| self.settle(&told)),
                Some(DAMAGED) => self.replace_damaged(&path).map_err(SettleError::from),
                _ => continue,
            };
            match done {
                Ok(()) => has_settled |= path.extension().is_some_and(|end| end == ANSWER),
                Err(error @ SettleError::Buffer(_)) => {
                    self.tried(Err(error));
                    continue;
                }
                Err(error) => {
                    tracing::error!(code = codes::ANSWER_USELESS, reason = %error, "an answer to an export is of no use")
                }
            }
            let _ = fs::remove_file(&path);
        }
        has_settled
    }

    /// Tells of a failure of something that is tried again.
    fn tried(&self, outcome: Result<(), SettleError>) {
        if let Err(error) = outcome {
            tracing::error!(code = codes::SETTLE_FAILED, reason = %error, "it is tried again");
        }
    }

    /// Keeps what the agent says of itself where the next export finds it, if it has changed.
    fn say_how_it_is(&self) -> Result<(), SettleError> {
        let beat = health::heartbeat(&self.buffer, self.buffer.depth()?, &self.capture);
        // Each export tells its own moment.
        let beat = Heartbeat { clock: None, pseudonym_key_id: self.pseudonym_key_id.clone(), ..beat };
        let (path, bytes) = (self.state.join(HEARTBEAT), beat.encode_to_vec());
        match fs::read(&path) {
            Ok(before) if before == bytes => Ok(()),
            _ => Ok(private::write(&path, &bytes, None)?),
        }
    }

    /// Has the stream of a damaged batch read again.
    fn replace_damaged(&self, note: &Path) -> Result<(), BufferError> {
        let Some(sequence) = note.file_stem().and_then(|stem| stem.to_str()?.parse().ok()) else { return Ok(()) };
        if let Some(fingerprint) = self.buffer.drop_damaged(sequence)? {
            tracing::error!(
                code = codes::BATCH_DAMAGED,
                sequence,
                "a batch in the buffer is damaged: its log is read again, where it is still there"
            );
            self.capture.rewind(Rewind { fingerprint, cause: RewindCause::Damaged, mark: 0 });
        }
        Ok(())
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
        self.compare(told)?;
        tracing::info!(
            code = codes::ANSWER_SETTLED,
            number = told.number,
            batches = done.len(),
            "an export is acknowledged"
        );
        Ok(())
    }

    /// Requests that what an aggregator lacks whose database is another one than before be read again.
    fn compare(&self, told: &SealedAcknowledgement) -> Result<(), BufferError> {
        if told.incarnation.is_empty() || told.incarnation == self.buffer.incarnation()? {
            return Ok(());
        }
        let marks: HashMap<&[u8], _> = told.marks.iter().map(|mark| (&*mark.fingerprint, mark)).collect();
        let mut lacking = 0_u64;
        for sent in acknowledged(&self.buffer, &self.capture)? {
            // A stream that has begun after the export was not acknowledged.
            let Some(mark) = marks.get(&sent.fingerprint[..]) else { continue };
            if let Some(mark) = sent.lacks_from(mark.position, &mark.check) {
                lacking += 1;
                self.capture.rewind(Rewind { fingerprint: sent.fingerprint, cause: RewindCause::Lacking, mark });
            }
        }
        if lacking > 0 {
            tracing::warn!(
                code = codes::AGGREGATOR_RESTORED,
                streams = lacking,
                "the aggregator lacks what it had acknowledged: it is in the next export, from the buffer or from the logs, where it is still there"
            );
        }
        *self.incarnation.lock().unwrap_or_else(PoisonError::into_inner) = Some(told.incarnation.clone());
        Ok(())
    }

    /// Once nothing has to be read again, records that the aggregator's database has all that was acknowledged.
    fn note_delivered(&self) -> Result<(), SettleError> {
        let mut incarnation = self.incarnation.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = incarnation.as_ref().filter(|_| self.capture.has_rewound()) {
            self.buffer.set_incarnation(known)?;
            *incarnation = None;
        }
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
