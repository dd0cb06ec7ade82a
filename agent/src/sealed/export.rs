//! Writes all that waits in the buffer into a file, sealed for the aggregator and signed by the agent.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use prost::Message;
use seatmeter_proto::sealed::{Address, MOST_BATCHES, SealedError, Sealer};
use seatmeter_proto::v1::ingest_request::Message as Up;
use seatmeter_proto::v1::sealed_record::Record;
use seatmeter_proto::v1::{Heartbeat, Hello, IngestRequest, Offer, SealedHead, SealedRecord};
use seatmeter_proto::{MAX_OFFER, timestamp};
use seatmeter_service::private;

use super::hand_over::{self, HEARTBEAT};
use crate::buffer::{BufferError, Onlooker};
use crate::identity::calls::{CallError, sign, signing_request};
use crate::identity::files::{FileError, Files};

/// How many bytes of batches are read from the buffer at a time.
const PORTION: usize = 16 << 20;

/// Why nothing is exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The buffer cannot be read.
    #[error(transparent)]
    Buffer(#[from] BufferError),
    /// The file cannot be written.
    #[error(transparent)]
    Sealed(#[from] SealedError),
    /// The agent's key cannot be used.
    #[error(transparent)]
    Key(#[from] CallError),
    /// The agent's files cannot be read.
    #[error(transparent)]
    Files(#[from] FileError),
    /// A file cannot be used.
    #[error("cannot use {path}: {source}")]
    File {
        /// The file's path.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
}

/// What was exported.
pub struct Exported {
    /// The number of the export.
    pub number: u64,
    /// The batches in it.
    pub batches: u64,
    /// Batches that are damaged in the buffer, and not in it: the agent reads their logs again.
    pub damaged: u64,
    /// Whether more batches wait than an export can hold.
    pub is_cut: bool,
}

/// Exports what waits in the buffer of a state folder into a file that is not there yet. `hello` is the agent's; epoch and clock are
/// filled in.
pub fn export(state: &Path, address: &Address, hello: Hello, path: &Path) -> Result<Exported, ExportError> {
    let (onlooker, files) = (Onlooker::open(state)?, Files::of(state));
    let (key, secret) = (files.key_without_certificate()?, files.secret()?);
    let number = next_number(state)?;
    let now = timestamp(Timestamp::now().as_second());
    let head =
        SealedHead { signing_request: signing_request(&key)?, secret: secret.to_vec(), number, made_at: Some(now) };
    let failed = |source| ExportError::File { path: path.to_owned(), source };
    // Whole or not at all: what is carried away has its name only once it is on the disk.
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = Path::new(&fresh);
    // What an earlier attempt has left, if it is not a link to something else.
    let _ = fs::remove_file(fresh);
    let file = File::options().write(true).create_new(true).open(fresh).map_err(failed)?;
    let mut sealer = Sealer::begin(BufWriter::new(file), &address.key)?;
    let record = |record| SealedRecord { record: Some(record) };
    let request = |message| record(Record::Request(IngestRequest { message: Some(message) }));
    sealer.add(&record(Record::Head(head)))?;
    sealer.add(&request(Up::Hello(Hello { epoch: onlooker.epoch()?, clock: Some(now), ..hello })))?;
    sealer.add(&request(Up::Heartbeat(Heartbeat { clock: Some(now), ..heartbeat(state) })))?;
    let (mut batches, mut after, mut damaged) = (0, 0, BTreeSet::new());
    let is_cut = 'reading: loop {
        let portion = match onlooker.batches_after(after, PORTION) {
            Err(BufferError::Damaged { sequence }) => {
                damaged.insert(sequence);
                after = sequence;
                continue;
            }
            portion => portion?,
        };
        let Some(last) = portion.last() else { break false };
        after = last.sequence;
        for batch in portion {
            if batches == MOST_BATCHES {
                break 'reading true;
            }
            sealer.add(&request(Up::Batch(batch)))?;
            batches += 1;
        }
    };
    for offered in onlooker.streams()?.chunks(MAX_OFFER) {
        let fingerprints = offered.iter().map(|stream| stream.fingerprint.to_vec()).collect();
        sealer.add(&request(Up::Offer(Offer { fingerprints })))?;
    }
    let file = sealer.end(|hash| sign(&key, hash).map_err(ExportError::from))?;
    let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(failed)?;
    // A link fails where there is such a file already; a renaming would put ours in its place.
    fs::hard_link(fresh, path)
        .and_then(|()| fs::remove_file(fresh))
        .or_else(|error| match path.exists() {
            true => Err(error),
            // A drive without links, as those that are carried.
            false => fs::rename(fresh, path),
        })
        .map_err(failed)?;
    sync_folder(path).map_err(failed)?;
    for sequence in &damaged {
        hand_over::damaged(state, *sequence).map_err(failed)?;
    }
    Ok(Exported { number, batches, damaged: damaged.len() as u64, is_cut })
}

/// Makes the name of a file durable.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Returns what the agent last said of itself; nothing if it has not run.
fn heartbeat(state: &Path) -> Heartbeat {
    fs::read(state.join(HEARTBEAT)).ok().and_then(|bytes| Heartbeat::decode(&bytes[..]).ok()).unwrap_or_default()
}

/// Returns the number of the next export of the buffer, which is then used up.
fn next_number(state: &Path) -> Result<u64, ExportError> {
    let path = state.join("exports");
    let failed = |source| ExportError::File { path: path.clone(), source };
    let last = match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(|_| failed(io::Error::other("it holds no number: remove it")))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(failed(error)),
    };
    let number: u64 = last + 1;
    private::write(&path, number.to_string().as_bytes(), Some(state)).map_err(failed)?;
    Ok(number)
}
