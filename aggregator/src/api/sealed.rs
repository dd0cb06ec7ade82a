//! `seatmeter.v1.SealedService`: what agents export that have no network, and somebody carries here.

use std::fs::{self, File};
use std::io::{BufReader, Seek, SeekFrom, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use prost::Message;
use ring::digest::{Context, SHA256};
use seatmeter_proto::batch;
use seatmeter_proto::sealed::{Opener, SealingKey};
use seatmeter_proto::v1::ingest_request::Message as Up;
use seatmeter_proto::v1::sealed_record::Record;
use seatmeter_proto::v1::sealed_service_server::SealedService;
use seatmeter_proto::v1::{
    Batch, BatchOutcome, BatchResult, Heartbeat, Hello, ImportRequest, ImportResponse, SealedAcknowledgement,
    SealedAnswer, SealedHead, UploadRequest, UploadResponse,
};
use tokio::sync::mpsc;
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

/// The most bytes of a piece, and of an export.
const LONGEST_PIECE: usize = 1 << 20;
const LONGEST_EXPORT: u64 = 64 << 30;

/// The most uploads that are not taken in yet.
const MOST_UPLOADS: usize = 20;

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
    /// Where uploads are kept until they are taken in.
    folder: PathBuf,
    commands: mpsc::Sender<Command>,
    /// The IANA name of the billing time zone.
    time_zone: String,
}

impl SealedApi {
    /// Creates the service of an aggregator that enrols no agents.
    pub fn without_agents(limit: ConcurrencyLimit) -> Self {
        Self { inner: None, limit }
    }

    /// Creates the service over an authority, its enrolments and a key, with a limit on requests. Uploads are kept in the state folder;
    /// batches go to the archiver as commands. Clients show moments in `time_zone`.
    pub fn new(
        (authority, enrolments, key): (Arc<Authority>, Enrolments, SealingKey),
        state: &Path,
        commands: mpsc::Sender<Command>,
        time_zone: String,
        limit: ConcurrencyLimit,
    ) -> Self {
        let folder = state.join("imports");
        // What was not taken in before a restart is uploaded again.
        let _ = fs::remove_dir_all(&folder);
        let inner = Inner { authority, enrolments, key, folder, commands, time_zone };
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
        answer(move || inner.keep(&piece)).await
    }

    async fn import(&self, request: Request<ImportRequest>) -> Result<Response<ImportResponse>, Status> {
        let _permit = self.limit.enter()?;
        let (inner, from, asked) = (self.inner()?, address(&request), request.into_inner());
        answer(move || {
            // Taken away from whoever uploads: what is checked is what is taken in.
            let (uploaded, path) = (inner.upload(&asked.upload)?, inner.upload(&uuid::Uuid::new_v4().to_string())?);
            fs::rename(&uploaded, &path).map_err(|_| ApiError::invalid("upload", "is not there: upload it first"))?;
            let taken = inner.take_in(&path, asked.size, from);
            // It is carried again, if need be.
            let _ = fs::remove_file(&path);
            taken
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
    fn upload(&self, name: &str) -> Result<PathBuf, ApiError> {
        let name = uuid::Uuid::try_parse(name).map_err(|_| ApiError::invalid("upload", "must be a UUID"))?;
        Ok(self.folder.join(name.to_string()))
    }

    fn keep(&self, piece: &UploadRequest) -> Result<UploadResponse, ApiError> {
        let path = self.upload(&piece.upload)?;
        if piece.data.len() > LONGEST_PIECE || piece.position > LONGEST_EXPORT {
            return Err(ApiError::invalid("data", "must be at most a megabyte, of at most 64 GiB"));
        }
        let failed = |error| ApiError::Upload(error);
        seatmeter_service::state::make(&self.folder).map_err(std::io::Error::other).map_err(failed)?;
        let is_first = piece.position == 0;
        if is_first && !path.exists() && fs::read_dir(&self.folder).map_err(failed)?.count() >= MOST_UPLOADS {
            return Err(ApiError::TooMany);
        }
        let mut file = File::options().create(is_first).write(true).truncate(false).open(&path).map_err(failed)?;
        if file.metadata().map_err(failed)?.len() < piece.position {
            return Err(ApiError::invalid("position", "must not be behind the end of what was uploaded"));
        }
        file.seek(SeekFrom::Start(piece.position)).and_then(|_| file.write_all(&piece.data)).map_err(failed)?;
        Ok(UploadResponse {})
    }

    /// Takes in an export. First all of it is opened: nothing is taken of one that was altered, or not signed by who it names.
    fn take_in(&self, path: &Path, size: u64, from: Option<IpAddr>) -> Result<ImportResponse, ApiError> {
        let there = fs::metadata(path).map_or(0, |metadata| metadata.len());
        if there != size {
            return Err(ApiError::invalid("size", format!("must be what was uploaded: {there} bytes")));
        }
        let (Beginning { head, hello }, batches) = self.check(path)?;
        validate(&hello)?;
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
        let results = self.deliver(path, &hello)?;
        let outcome = |wanted: BatchOutcome| results.iter().filter(|result| result.outcome() == wanted).count() as u64;
        let new_batches = outcome(BatchOutcome::Committed) + outcome(BatchOutcome::Trimmed);
        let refused_batches = batches - new_batches - outcome(BatchOutcome::Duplicate);
        let export = Export { number: head.number, sha256 };
        self.enrolments.note_import(&let_in, &hello.epoch, &export, Timestamp::now().as_second())?;
        let acknowledgement = SealedAcknowledgement { epoch: hello.epoch.clone(), number: head.number, results };
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
        let Some((second, _)) = opener.next_record()? else { return Err(wrong("no Hello")) };
        let Some(Record::Request(request)) = second.record else { return Err(wrong("no Hello")) };
        let Some(Up::Hello(hello)) = request.message else { return Err(wrong("no Hello")) };
        let (mut batches, mut is_signed) = (0, false);
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
                Some(Record::Request(request)) => batches += u64::from(matches!(request.message, Some(Up::Batch(_)))),
                Some(Record::Head(_)) => return Err(wrong("two heads")),
                // Of a later version.
                None => {}
            }
        }
        if is_signed { Ok((Beginning { head, hello }, batches)) } else { Err(wrong("no signature")) }
    }

    /// Hands the batches of an export to the archiver. Returns what became of each.
    fn deliver(&self, path: &Path, hello: &Arc<Hello>) -> Result<Vec<BatchResult>, ApiError> {
        let send = |command| self.commands.blocking_send(command).map_err(|_| ApiError::Stopping);
        let (answers, mut answered) = mpsc::channel(IN_FLIGHT + 1);
        let (mut results, mut in_flight) = (Vec::new(), 0);
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
                _ => {}
            }
            while in_flight >= IN_FLIGHT {
                in_flight -= settle(answered.blocking_recv(), &mut results)?;
            }
        }
        while in_flight > 0 {
            in_flight -= settle(answered.blocking_recv(), &mut results)?;
        }
        Ok(results)
    }
}

/// An agent's clock was carried, too: how far it is ahead cannot be told.
fn heard(hello: &Arc<Hello>, heartbeat: Heartbeat) -> Command {
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
