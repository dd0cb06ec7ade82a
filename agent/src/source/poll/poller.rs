//! Asks one license manager, and hands on what changed since its last answer.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use seatmeter_count::timeline::DAY;
use seatmeter_proto::v1::{Batch, Licenses};
use seatmeter_service::screen::text::duration;

use super::PollSource;
use super::asker::AskError;
use super::monitor::Known;
use super::statement::{Stated, Statement, moment};
use crate::batcher::{self, Batcher};
use crate::buffer::{Buffer, BufferError};
use crate::checkpoint::{Checkpoint, PollCheckpoint, RewindCause, SourceCheckpoint};
use crate::format::answer::Answer;
use crate::format::interpreter::LineCounts;
use crate::source::file::status::{LogState, SharedStatus};
use crate::source::rewinds::Rewinds;

/// Why a license manager was asked in vain.
#[derive(Debug, thiserror::Error)]
pub enum PollError {
    /// There is no answer.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The answer was made long ago.
    #[error(
        "{by} has an answer that was made {} ago: is it the license manager itself that is asked?",
        duration(*age)
    )]
    Stale {
        /// The program, or the address.
        by: String,
        /// The age of the answer, in seconds.
        age: u64,
    },
    /// The buffer cannot take the answer. The next one tells the same.
    #[error(transparent)]
    Buffer(#[from] BufferError),
    /// The answer cannot be compressed.
    #[error("an answer cannot be packed: {0}")]
    Pack(std::io::Error),
}

/// What came of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It was not time to ask.
    NotDue,
    /// The license manager told all.
    Wholly,
    /// It leaves open who holds a part of what is in use; what that is, for people.
    Partly(String),
}

/// The oldest answer that is taken for one of now, in seconds: a day, and as much as time zones can be apart.
const OLDEST: i64 = 36 * 3600;

/// The largest difference between two clocks over one interval that is no step of one of them, in seconds.
const LARGEST_STEP: i64 = 60;

/// The most unrecognised lines that a run tells.
const MOST_UNRECOGNISED: usize = 100;

/// Asks one license manager.
pub struct Poller {
    source: PollSource,
    buffer: Arc<Buffer>,
    status: SharedStatus,
    rewinds: Arc<Rewinds>,
    stop: Arc<AtomicBool>,
    stated: Stated,
    /// The stream of this run; `None` before the first answer.
    checkpoint: Option<Checkpoint>,
    /// The unrecognised lines that were told.
    unrecognised: HashSet<Vec<u8>>,
    /// How many lines of the last answer were not recognised, and the first of them.
    unrecognised_before: (u64, Vec<Vec<u8>>),
    /// The last change that answers of this run told, by the license manager's clock.
    changed_through: Option<i64>,
    /// Whether the aggregator lacks answers that nobody has any more: a license manager that keeps a history tells it again.
    is_history_lost: bool,
    /// When the last answer came: by the clock that only runs, and by that of the wall, in seconds since 1970 UTC.
    answered: Option<(Instant, i64)>,
    due: Instant,
}

impl Poller {
    /// Creates a poller that asks at once, and hands on to a buffer. It ends a tool that runs when `stop` becomes true.
    pub fn new(
        source: PollSource,
        buffer: Arc<Buffer>,
        status: SharedStatus,
        rewinds: Arc<Rewinds>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        status.lock().unwrap_or_else(PoisonError::into_inner).answers = Some(0);
        let (stated, unrecognised, due) = (Stated::of(source.pseudonyms.as_deref()), HashSet::new(), Instant::now());
        Self {
            source,
            buffer,
            status,
            rewinds,
            stop,
            stated,
            checkpoint: None,
            unrecognised,
            unrecognised_before: Default::default(),
            changed_through: None,
            is_history_lost: false,
            answered: None,
            due,
        }
    }

    /// Returns when the license manager is asked next.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Whether the agent stops.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Does what is due: delivers again what the aggregator lacks, and asks.
    pub fn poll(&mut self) -> Result<Asked, PollError> {
        self.rewind()?;
        if Instant::now() < self.due {
            return Ok(Asked::NotDue);
        }
        // In step, but never to make up for polls that a slow tool has left out.
        self.due = (self.due + self.source.interval).max(Instant::now());
        let outcome = self.ask();
        self.note(&outcome);
        outcome
    }

    fn ask(&mut self) -> Result<Asked, PollError> {
        let told = self.source.asker.ask(self.known()?, &self.stop)?;
        // What was answered held at some moment since it was asked: not later than now.
        let at = Timestamp::now().as_second();
        let answer = told.read()?;
        let age = answer.taken_at.and_then(|taken| moment(taken, at, &self.source.zone)).map_or(0, |taken| at - taken);
        if age > OLDEST {
            return Err(PollError::Stale { by: self.source.asker.name(), age: age.unsigned_abs() });
        }
        self.follow_clock(at);
        let mut stated = self.stated.clone();
        let statements = stated.take(&answer, at, &self.source.zone);
        let licenses = stated.licenses(&answer);
        let lines = self.count(&answer);
        if let Err(error) = self.hand_on(&answer, (&statements, licenses, lines), at) {
            // A part of it may be committed.
            self.begin_anew();
            return Err(error);
        }
        (self.stated, self.is_history_lost) = (stated, false);
        self.changed_through = self.changed_through.max(answer.changed_through);
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.lines += lines;
        status.last_line_at = Some(at);
        status.set_manager(&answer.manager);
        status.answers = status.answers.map(|answers| answers + 1);
        let missing = answer.troubles.join("; ");
        Ok(if missing.is_empty() { Asked::Wholly } else { Asked::Partly(missing) })
    }

    /// Returns what a license manager that keeps a history need not tell again.
    fn known(&self) -> Result<Known, BufferError> {
        let last = if self.is_history_lost { None } else { self.buffer.last_stream(&self.source.name)? };
        let last = last.map(|fingerprint| self.buffer.checkpoint(&fingerprint)).transpose()?.flatten();
        let answered_at = last.and_then(|checkpoint| checkpoint.moment(&TimeZone::UTC));
        Ok(Known { changed_through: self.changed_through, answered_at })
    }

    /// Begins a new run where the clock was set since the last answer: what was dated by a wrong one may count nowhere, and is
    /// stated again.
    fn follow_clock(&mut self, at: i64) {
        let now = Instant::now();
        let expected = self.answered.map(|(since, before)| before + (now - since).as_secs() as i64);
        if expected.is_some_and(|expected| (at - expected).abs() > LARGEST_STEP) {
            self.begin_anew();
        }
        self.answered = Some((now, at));
    }

    /// Begins a new run: a stream of its own, and a whole answer.
    fn begin_anew(&mut self) {
        let stated = Stated::of(self.source.pseudonyms.as_deref());
        (self.checkpoint, self.stated, self.changed_through) = (None, stated, None);
        self.unrecognised.clear();
        self.unrecognised_before = Default::default();
    }

    /// Counts the lines of an answer. Lines that were not recognised are news once: a file that stands there unchanged, or a tool that
    /// always says so, must not make thousands of them.
    fn count(&mut self, answer: &Answer<'_>) -> LineCounts {
        let mut lines = answer.lines;
        let unrecognised = answer.unrecognised.iter().map(|(line, _)| line.to_vec()).collect();
        let now = (lines.unrecognised, unrecognised);
        if now == self.unrecognised_before {
            (lines.ignored, lines.unrecognised) = (lines.ignored + lines.unrecognised, 0);
        }
        self.unrecognised_before = now;
        lines
    }

    /// Commits what an answer states. A batch is committed even if nothing has changed: that the license manager answered is
    /// worth knowing.
    fn hand_on(
        &mut self,
        answer: &Answer<'_>,
        (statements, licenses, mut lines): (&[Statement<'_>], Option<Licenses>, LineCounts),
        at: i64,
    ) -> Result<(), PollError> {
        let configured = self.source.configured();
        let mut checkpoint = self.checkpoint.clone().unwrap_or_else(|| self.begin(at));
        let SourceCheckpoint::Poll(mut poll) = checkpoint.source.clone() else { return Ok(()) };
        let midnight = i64::from(poll.first_day) * DAY;
        poll.last_time = at - midnight;
        checkpoint.source = SourceCheckpoint::Poll(poll);
        let (stream, pseudonyms) = (checkpoint.stream(&configured), self.source.pseudonyms.clone());
        let mut batcher = Batcher::new(stream, checkpoint.position, poll.told(), pseudonyms);
        let is_partial = !answer.troubles.is_empty() && !answer.knows_nobody;
        // The answer's lines count with its first batch.
        let mut position = checkpoint.position;
        for statement in statements {
            if batcher.is_full(position) {
                self.commit(&mut batcher, &mut checkpoint, position, (std::mem::take(&mut lines), None, is_partial))?;
            }
            batcher.event(position, &statement.timed(midnight), b"");
            position += 1;
        }
        for (line, _) in &answer.unrecognised {
            let is_new = self.unrecognised.len() < MOST_UNRECOGNISED && self.unrecognised.insert(line.to_vec());
            if is_new {
                batcher.unrecognised(position, poll.last_time, line);
                position += 1;
            }
        }
        // One position more says that there was an answer.
        self.commit(&mut batcher, &mut checkpoint, position + 1, (lines, licenses, is_partial))
    }

    fn commit(
        &mut self,
        batcher: &mut Batcher,
        checkpoint: &mut Checkpoint,
        end: u64,
        (lines, licenses, answered_in_part): (LineCounts, Option<Licenses>, bool),
    ) -> Result<(), PollError> {
        let sealed = batcher.seal(end, checkpoint.last_line(), lines).map_err(PollError::Pack)?;
        let batch = Batch { licenses, answered_in_part, ..sealed };
        checkpoint.position = end;
        self.buffer.append(&batch, checkpoint)?;
        self.checkpoint = Some(checkpoint.clone());
        Ok(())
    }

    /// Begins the stream of this run, at its first answer.
    fn begin(&self, at: i64) -> Checkpoint {
        let first_day = i32::try_from(at.div_euclid(DAY)).unwrap_or(i32::MAX);
        let first_time = at.rem_euclid(DAY);
        let poll = PollCheckpoint { first_day, first_time, last_time: first_time };
        // Of two runs that begin in the same second, names that grow tell the order.
        let mut fingerprint = *blake3::hash(uuid::Uuid::new_v4().as_bytes()).as_bytes();
        let nanoseconds = u64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(0);
        fingerprint[..8].copy_from_slice(&nanoseconds.to_be_bytes());
        Checkpoint {
            fingerprint,
            log: self.source.name.clone(),
            is_last: true,
            position: 0,
            source: SourceCheckpoint::Poll(poll),
        }
    }

    /// Delivers again what the aggregator lacks of this and of earlier runs, as far as the buffer keeps it. The rest is a gap.
    fn rewind(&mut self) -> Result<(), PollError> {
        for rewind in self.rewinds.wanted_of(&self.source.name) {
            let Some(mut checkpoint) = self.buffer.checkpoint(&rewind.fingerprint)? else { continue };
            let is_foreign = checkpoint.log != self.source.name;
            if !self.rewinds.can_be_of(&checkpoint.log, &self.source.name)
                || (is_foreign && !self.rewinds.nobody_has(&rewind, &self.source.name))
            {
                continue;
            }
            if rewind.cause == RewindCause::OtherContent {
                checkpoint = self.buffer.name_anew(&checkpoint)?;
            }
            let is_delivered = rewind.cause == RewindCause::Lacking
                && self.buffer.deliver_again(&rewind.fingerprint, rewind.mark, true)?;
            let is_own = self.checkpoint.as_ref().is_some_and(|own| own.fingerprint == rewind.fingerprint);
            if !is_delivered && !is_foreign && (is_own || self.source.asker.keeps_history()) {
                // What the aggregator knows of this run, or of the ones before, has a hole.
                self.begin_anew();
                self.is_history_lost = true;
            }
            if !is_delivered && !self.buffer.accept_gap(&checkpoint.fingerprint)? {
                let end = checkpoint.position;
                let gap = batcher::gap(&checkpoint, &self.source.configured(), end).map_err(PollError::Pack)?;
                self.buffer.append(&gap, &checkpoint)?;
            }
            // Only now is the request fulfilled, even if the process ends here.
            self.rewinds.fulfilled(&rewind);
        }
        Ok(())
    }

    fn note(&self, outcome: &Result<Asked, PollError>) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        (status.state, status.message) = match outcome {
            Ok(Asked::Partly(missing)) => (LogState::Partial, missing.clone()),
            Ok(_) => (LogState::Following, String::new()),
            Err(error @ PollError::Buffer(cause)) if cause.is_pressure() => (LogState::BufferFull, error.to_string()),
            Err(error) => (LogState::Unreadable, error.to_string()),
        };
        status.detail = status.message.clone();
        // What an answer says where it cannot be read can hold names: it stays here.
        if self.source.pseudonyms.is_some() && !status.detail.is_empty() {
            let name = &self.source.name;
            status.detail = format!(
                "it does not answer as it should: `seatmeter-agent try-source --source '{name}'` there shows why"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::format::answer::Reading;
    use crate::source::poll::asker::Asker;
    use crate::source::poll::tool::Tool;

    #[test]
    fn a_clock_that_is_set_begins_a_new_run() {
        let folder = tempfile::tempdir().unwrap();
        let buffer = Arc::new(Buffer::open(folder.path(), 1 << 30, 0).unwrap());
        let tool = Tool {
            program: "lmutil".into(),
            arguments: Vec::new(),
            time_limit: Duration::from_secs(1),
            readers: Arc::default(),
        };
        let source = PollSource {
            name: "lmstat".into(),
            asker: Asker::Tool(tool, Reading::ByContent),
            zone: TimeZone::UTC,
            interval: Duration::from_secs(300),
            pseudonyms: None,
        };
        let mut poller = Poller::new(source, buffer, SharedStatus::default(), Arc::default(), Arc::default());
        assert!(poller.begin(1_000).fingerprint < poller.begin(1_000).fingerprint, "runs come in their order");
        for (at, goes_on) in [(1_000, true), (1_001, true), (5_000, false), (5_010, true), (1_000, false)] {
            poller.checkpoint = Some(poller.begin(at));
            poller.follow_clock(at);
            assert_eq!(poller.checkpoint.is_some(), goes_on, "{at}");
        }
    }
}
