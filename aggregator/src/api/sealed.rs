//! `seatmeter.v1.SealedService`: what agents export that have no network, and somebody carries here.

use std::fs::File;
use std::io::{BufReader, Write};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use uploads::Uploads;

use jiff::Timestamp;
use prost::Message;
use ring::digest::{Context, SHA256};
use seatmeter_proto::sealed::{MOST_BATCHES, Opener, SealingKey};
use seatmeter_proto::v1::ingest_request::Message as Up;
use seatmeter_proto::v1::sealed_record::Record;
use seatmeter_proto::v1::sealed_service_server::SealedService;
use seatmeter_proto::v1::{
    Batch, BatchOutcome, BatchResult, Heartbeat, Hello, ImportRequest, ImportResponse, SealedAcknowledgement,
    SealedAnswer, SealedHead, SealedMark, UploadRequest, UploadResponse,
};
use seatmeter_proto::{MAX_OFFER, batch};
use tokio::sync::{mpsc, oneshot};
use tonic::{Request, Response, Status};

use super::ingest::{bound, validate};
use super::status::ApiError;
use super::{ConcurrencyLimit, address, answer};
use crate::access::authority::Authority;
use crate::access::enrolment::{EnrolmentError, Enrolments};
use crate::codes;
use crate::ingest::archiver::Command;
use crate::ingest::{Answer, Delivery, Outcome, Refusal};
use crate::store::exports::Export;

mod uploads;

/// The most streams that an export offers.
const MOST_OFFERED: usize = 100 * MAX_OFFER;

/// The most batches that are with the archiver at a time.
const IN_FLIGHT: usize = 32;

/// Takes exports.
#[derive(Clone)]
pub struct SealedApi {
    /// `None` if agents are not enrolled here.
    inner: Option<Arc<Inner>>,
    limit: ConcurrencyLimit,
}

struct Inner {
    authority: Arc<Authority>,
    enrolments: Enrolments,
    key: SealingKey,
    uploads: Uploads,
    commands: mpsc::Sender<Command>,
    /// The incarnation of the archive.
    incarnation: String,
    /// The IANA name of the billing time zone.
    time_zone: String,
}

impl SealedApi {
    /// Creates the service of an aggregator that enrols no agents.
    pub fn without_agents(limit: ConcurrencyLimit) -> Self {
        Self { inner: None, limit }
    }

    /// Creates the service over an authority, its enrolments and a key, with a limit on requests. Uploads are kept in the state folder;
    /// batches go as commands to the archiver of the archive with this incarnation. Clients show moments in `time_zone`.
    pub fn new(
        (authority, enrolments, key): (Arc<Authority>, Enrolments, SealingKey),
        state: &Path,
        (commands, incarnation): (mpsc::Sender<Command>, String),
        time_zone: String,
        limit: ConcurrencyLimit,
    ) -> Self {
        let uploads = Uploads::of(state);
        let inner = Inner { authority, enrolments, key, uploads, commands, incarnation, time_zone };
        Self { inner: Some(Arc::new(inner)), limit }
    }

    fn inner(&self) -> Result<Arc<Inner>, ApiError> {
        self.inner.clone().ok_or(ApiError::NoEnrolments)
    }
}

#[tonic::async_trait]
impl SealedService for SealedApi {
    async fn upload(&self, request: Request<UploadRequest>) -> Result<Response<UploadResponse>, Status> {
        let _permit = self.limit.enter()?;
        let (inner, piece) = (self.inner()?, request.into_inner());
        answer(move || inner.uploads.keep(&piece).map(|()| UploadResponse {})).await
    }

    async fn import(&self, request: Request<ImportRequest>) -> Result<Response<ImportResponse>, Status> {
        let _permit = self.limit.enter()?;
        let (inner, from, asked) = (self.inner()?, address(&request), request.into_inner());
        answer(move || {
            let taken = inner.uploads.take(&asked.upload, asked.size)?;
            inner.take_in(taken.path(), from)
        })
        .await
    }
}

/// What an export holds before its batches.
struct Beginning {
    head: SealedHead,
    hello: Hello,
}

impl Inner {
    /// Takes in an export. First all of it is opened: nothing is taken of one that was altered, or not signed by who it names.
    fn take_in(&self, path: &Path, from: Option<IpAddr>) -> Result<ImportResponse, ApiError> {
        let (Beginning { head, hello }, batches) = self.check(path)?;
        validate(&hello)?;
        if hello.license_server.chars().any(char::is_control) {
            return Err(ApiError::invalid("hello.license_server", "must not contain control characters"));
        }
        let sha256 = hash_of(path).map_err(ApiError::Upload)?;
        let let_in = self.enrolments.let_in(&head, &hello, &sha256, from)?;
        if let_in.differs {
            tracing::warn!(
                code = codes::EXPORTS_DIFFER,
                license_server = hello.license_server,
                number = head.number,
                host = hello.host,
                "another export of this number was imported before, with other content"
            );
        }
        let (license_server, realm) = (let_in.enrolment.license_server.clone(), let_in.enrolment.realm.clone());
        let hello = Arc::new(Hello { license_server, realm, ..hello });
        let (results, marks) = self.deliver(path, &hello)?;
        let outcome = |wanted: BatchOutcome| results.iter().filter(|result| result.outcome() == wanted).count() as u64;
        let new_batches = outcome(BatchOutcome::Committed) + outcome(BatchOutcome::Trimmed);
        let refused_batches = batches - new_batches - outcome(BatchOutcome::Duplicate);
        let export = Export { number: head.number, sha256 };
        self.enrolments.note_import(&let_in, &hello.epoch, &export, Timestamp::now().as_second())?;
        let acknowledgement = SealedAcknowledgement {
            epoch: hello.epoch.clone(),
            number: head.number,
            results,
            incarnation: self.incarnation.clone(),
            marks,
        };
        let acknowledgement = acknowledgement.encode_to_vec();
        let (authority, signature) = self.authority.sign(&acknowledgement).map_err(EnrolmentError::from)?;
        Ok(ImportResponse {
            license_server: let_in.enrolment.license_server,
            number: head.number,
            made_at: head.made_at,
            batches,
            new_batches,
            refused_batches,
            missing: let_in.missing,
            differs: let_in.differs,
            answer: SealedAnswer { authority, acknowledgement, signature }.encode_to_vec(),
            time_zone: self.time_zone.clone(),
        })
    }

    fn open(&self, path: &Path) -> Result<Opener<BufReader<File>>, ApiError> {
        let file = File::open(path).map_err(ApiError::Upload)?;
        Ok(Opener::begin(BufReader::new(file), &self.key)?)
    }

    /// Opens all of an export. Returns its beginning, and the number of its batches.
    fn check(&self, path: &Path) -> Result<(Beginning, u64), ApiError> {
        let mut opener = self.open(path)?;
        let wrong = ApiError::Content;
        let Some((first, _)) = opener.next_record()? else { return Err(wrong("nothing")) };
        let Some(Record::Head(head)) = first.record else { return Err(wrong("no head at its beginning")) };
        // Whoever has the public key can seal whatever they like: nobody else's is read to its end.
        self.enrolments.may_export(&head)?;
        let Some((second, _)) = opener.next_record()? else { return Err(wrong("no Hello")) };
        let Some(Record::Request(request)) = second.record else { return Err(wrong("no Hello")) };
        let Some(Up::Hello(hello)) = request.message else { return Err(wrong("no Hello")) };
        let (mut batches, mut offered, mut is_signed) = (0, 0, false);
        while let Some((record, hash)) = opener.next_record()? {
            if is_signed {
                return Err(wrong("more after its signature"));
            }
            match record.record {
                Some(Record::Signature(signature)) => {
                    if !Enrolments::has_signed(&head, &hash, &signature) {
                        return Err(wrong("a signature of somebody else"));
                    }
                    is_signed = true;
                }
                Some(Record::Request(request)) => match request.message {
                    Some(Up::Batch(_)) if batches == MOST_BATCHES => {
                        return Err(wrong("more batches than an export can"));
                    }
                    Some(Up::Batch(_)) => batches += 1,
                    Some(Up::Offer(offer)) => {
                        offered += offer.fingerprints.len();
                        if offered > MOST_OFFERED || offer.fingerprints.iter().any(|name| name.len() != 32) {
                            return Err(wrong("streams that are none, or too many"));
                        }
                    }
                    _ => {}
                },
                Some(Record::Head(_)) => return Err(wrong("two heads")),
                // Of a later version.
                None => {}
            }
        }
        if is_signed { Ok((Beginning { head, hello }, batches)) } else { Err(wrong("no signature")) }
    }

    /// Hands the batches of an export to the archiver. Returns what became of each, and how far each stream is archived then that
    /// the export offers.
    fn deliver(&self, path: &Path, hello: &Arc<Hello>) -> Result<(Vec<BatchResult>, Vec<SealedMark>), ApiError> {
        let send = |command| self.commands.blocking_send(command).map_err(|_| ApiError::Stopping);
        let (answers, mut answered) = mpsc::channel(IN_FLIGHT + 1);
        let (mut results, mut in_flight, mut offered) = (Vec::new(), 0, Vec::new());
        send(Command::Hello(hello.clone(), 0))?;
        let mut opener = self.open(path)?;
        while let Some((record, _)) = opener.next_record()? {
            let Some(Record::Request(request)) = record.record else { continue };
            match request.message {
                Some(Up::Heartbeat(mut heartbeat)) => {
                    bound(&mut heartbeat);
                    send(heard(hello, heartbeat))?;
                }
                Some(Up::Batch(batch)) => match batch::open(&batch) {
                    Ok(columns) => {
                        let delivery = Delivery { hello: hello.clone(), batch, columns, answers: answers.clone() };
                        send(Command::Batch(Box::new(delivery)))?;
                        in_flight += 1;
                    }
                    Err(error) => results.push(invalid(&batch, error)),
                },
                Some(Up::Offer(offer)) => offered.extend(offer.fingerprints),
                _ => {}
            }
            while in_flight >= IN_FLIGHT {
                in_flight -= settle(answered.blocking_recv(), &mut results)?;
            }
        }
        // Whoever answers has one of their own: the last of them is gone if the archiver is.
        drop(answers);
        while in_flight > 0 {
            in_flight -= settle(answered.blocking_recv(), &mut results)?;
        }
        let (answer, marks) = oneshot::channel();
        send(Command::Marks(hello.clone(), offered.clone(), answer))?;
        let marks = marks.blocking_recv().map_err(|_| ApiError::Stopping)?;
        let mark = |(fingerprint, (position, check))| SealedMark { fingerprint, position, check };
        Ok((results, offered.into_iter().zip(marks).map(mark).collect()))
    }
}

/// An agent's clock was carried, too: how far it is ahead cannot be told. That batches wait is as it should be.
fn heard(hello: &Arc<Hello>, heartbeat: Heartbeat) -> Command {
    let heartbeat = Heartbeat { oldest_batch_age_seconds: 0, ..heartbeat };
    Command::Heartbeat(hello.clone(), Box::new(heartbeat), 0)
}

fn invalid(batch: &Batch, error: batch::InvalidBatch) -> BatchResult {
    let outcome = Outcome::Refused(Refusal::Invalid(error));
    BatchResult::from(Answer { sequence: batch.sequence, outcome, expected_start_position: 0 })
}

/// Takes note of answers. Returns how many there were. A database that fails ends the import: what was taken in stays, and the
/// export is imported again.
fn settle(answers: Option<Vec<Answer>>, results: &mut Vec<BatchResult>) -> Result<usize, ApiError> {
    let answers = answers.ok_or(ApiError::Stopping)?;
    let count = answers.len();
    for answer in answers {
        if let Outcome::Refused(refusal @ (Refusal::DiskFull | Refusal::DatabaseFailed)) = answer.outcome {
            return Err(ApiError::Upload(std::io::Error::other(refusal.to_string())));
        }
        results.push(answer.into());
    }
    Ok(count)
}

fn hash_of(path: &Path) -> std::io::Result<Vec<u8>> {
    struct Hash(Context);
    impl Write for Hash {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut hash = Hash(Context::new(&SHA256));
    std::io::copy(&mut File::open(path)?, &mut hash)?;
    Ok(hash.0.finish().as_ref().to_vec())
}
