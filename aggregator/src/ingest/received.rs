//! What was received: license servers, logs, streams and their marks, kept in memory as the database has them.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use seatmeter_count::Kind;
use seatmeter_count::name::fold_case;
use seatmeter_proto::batch;
use seatmeter_proto::v1::{Batch, BatchOutcome, Columns, Hello, IngestResponse};
use tokio::sync::mpsc;

use super::marks::{Placement, place};
use crate::store::StoreError;
use crate::store::engine::Connection;
use crate::store::received::{self, LicenseServer, Log, Stream, Unrecognised};

/// A batch on its way into the store.
pub struct Delivery {
    /// By whom.
    pub hello: Arc<Hello>,
    /// The batch, ...
    pub batch: Batch,
    /// ... and what is in it.
    pub columns: Columns,
    /// Where the answer goes.
    pub answer: mpsc::Sender<Result<IngestResponse, tonic::Status>>,
}

/// What was received, as the database has it.
#[derive(Default)]
pub(super) struct Received {
    servers: HashMap<String, LicenseServer>,
    pub(super) logs: BTreeMap<i64, Log>,
    log_ids: HashMap<(i64, String), i64>,
    streams: HashMap<(i64, Vec<u8>), Stream>,
    /// The last stream of each log: its beginning and its name.
    latest: HashMap<i64, (i64, Vec<u8>)>,
    next_server: i64,
    next_log: i64,
    next_stream: i64,
    last_batch: i64,
}

/// What became of one batch in its transaction.
pub(super) struct Placed {
    pub(super) outcome: BatchOutcome,
    pub(super) expected: u64,
    /// A batch to fold: its id, stream, and the position from which on it is new.
    pub(super) fold: Option<(i64, Stream, u64)>,
}

impl Received {
    pub(super) fn load(connection: &mut dyn Connection) -> Result<Self, StoreError> {
        let mut received = Self { last_batch: received::last_batch_id(connection)?, ..Self::default() };
        for server in received::servers(connection)? {
            received.next_server = received.next_server.max(server.id);
            received.servers.insert(server.key.clone(), server);
        }
        for log in received::logs(connection)? {
            received.next_log = received.next_log.max(log.id);
            received.log_ids.insert((log.server_id, log.name.clone()), log.id);
            received.logs.insert(log.id, log);
        }
        for stream in received::streams(connection)? {
            received.next_stream = received.next_stream.max(stream.id);
            // They come in the order of their logs' streams.
            received.latest.insert(stream.log_id, (stream.begins_at, stream.fingerprint.clone()));
            received.streams.insert((stream.server_id, stream.fingerprint.clone()), stream);
        }
        Ok(received)
    }

    /// The license server that an agent speaks for; a new one is added, a new realm noted.
    pub(super) fn server(&mut self, connection: &mut dyn Connection, hello: &Hello) -> Result<i64, StoreError> {
        let key = fold_case(&hello.license_server);
        if let Some(known) = self.servers.get_mut(key.as_ref()) {
            if known.realm != hello.realm {
                known.realm.clone_from(&hello.realm);
                received::save_server(connection, known)?;
            }
            return Ok(known.id);
        }
        self.next_server += 1;
        let server = LicenseServer {
            id: self.next_server,
            name: hello.license_server.clone(),
            key: key.into_owned(),
            realm: hello.realm.clone(),
        };
        received::save_server(connection, &server)?;
        self.servers.insert(server.key.clone(), server);
        Ok(self.next_server)
    }

    fn log(&mut self, connection: &mut dyn Connection, server_id: i64, name: &str) -> Result<i64, StoreError> {
        if let Some(id) = self.log_ids.get(&(server_id, name.to_owned())) {
            return Ok(*id);
        }
        self.next_log += 1;
        let log = Log {
            id: self.next_log,
            server_id,
            name: name.to_owned(),
            last_line_at: 0,
            folded_through: 0,
            needs_refold: false,
            state: Vec::new(),
        };
        received::add_log(connection, &log)?;
        self.log_ids.insert((server_id, name.to_owned()), log.id);
        self.logs.insert(log.id, log);
        Ok(self.next_log)
    }

    /// Makes what is new of a batch durable, with its stream's mark.
    pub(super) fn place(
        &mut self,
        connection: &mut dyn Connection,
        delivery: &Delivery,
        now: i64,
    ) -> Result<Placed, StoreError> {
        let (hello, batch) = (&delivery.hello, &delivery.batch);
        let server_id = self.server(connection, hello)?;
        // A batch without a stream does not get through its check.
        let named = batch.stream.clone().unwrap_or_default();
        let key = (server_id, named.fingerprint);
        let mut stream = match self.streams.get(&key) {
            Some(stream) => stream.clone(),
            None => {
                let log_id = self.log(connection, server_id, &named.log)?;
                self.next_stream += 1;
                Stream {
                    id: self.next_stream,
                    server_id,
                    log_id,
                    fingerprint: key.1.clone(),
                    realm: hello.realm.clone(),
                    begins_at: named.begins_at,
                    mark: 0,
                    last_line_at: 0,
                    lines: [0; 3],
                }
            }
        };
        if batch.replaces_tail && received::last_batch(connection, stream.id)? == Some((batch.start, stream.mark)) {
            received::drop_batches_from(connection, stream.id, batch.start)?;
            stream.mark = batch.start;
            self.demand_refold(connection, stream.log_id)?;
        }
        let (outcome, from) = match place(stream.mark, batch) {
            Placement::Gap => return Ok(Placed { outcome: BatchOutcome::Gap, expected: stream.mark, fold: None }),
            Placement::Duplicate => {
                return Ok(Placed { outcome: BatchOutcome::Duplicate, expected: stream.mark, fold: None });
            }
            Placement::Trimmed => (BatchOutcome::Trimmed, stream.mark),
            Placement::New { lost } => {
                if lost > 0 {
                    received::add_gap(connection, stream.id, stream.mark, batch.start, now)?;
                }
                (BatchOutcome::Committed, batch.start)
            }
        };
        let order = (stream.begins_at, stream.fingerprint.clone());
        match self.latest.get(&stream.log_id) {
            Some(latest) if *latest > order => self.demand_refold(connection, stream.log_id)?,
            _ => _ = self.latest.insert(stream.log_id, order),
        }
        self.last_batch += 1;
        received::archive(connection, self.last_batch, stream.id, from, now, batch)?;
        for (position, near, line) in samples(batch, &delivery.columns) {
            let sample = Unrecognised { stream_id: stream.id, position, near, line: line.to_owned() };
            received::add_unrecognised(connection, &sample)?;
        }
        stream.mark = batch.end;
        stream.last_line_at = stream.last_line_at.max(batch.last_line_at);
        // What a trimmed batch counts cannot be divided: its lines were counted with the batch before, for the most part.
        if let (Some(lines), BatchOutcome::Committed) = (&batch.lines, outcome) {
            for (sum, count) in stream.lines.iter_mut().zip([lines.events, lines.noise, lines.unrecognised]) {
                *sum = sum.saturating_add_unsigned(count);
            }
        }
        received::save_stream(connection, &stream)?;
        self.streams.insert(key, stream.clone());
        Ok(Placed { outcome, expected: stream.mark, fold: Some((self.last_batch, stream, from)) })
    }

    fn demand_refold(&mut self, connection: &mut dyn Connection, log_id: i64) -> Result<(), StoreError> {
        match self.logs.get_mut(&log_id) {
            Some(log) if !log.needs_refold => {
                received::demand_refold(connection, log_id)?;
                log.needs_refold = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// The samples of lines that no rule understands, with their positions and moments.
fn samples<'a>(batch: &Batch, columns: &'a Columns) -> impl Iterator<Item = (u64, i64, &'a str)> {
    batch::events(columns, batch.start)
        .filter(|(_, event)| event.kind == Kind::Unrecognised)
        .map(|(position, event)| (position, event.at, columns.strings[event.client as usize].as_str()))
        .filter(|(_, _, text)| !text.is_empty())
}
