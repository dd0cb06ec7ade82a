//! Gathers consecutive events of one stream into batches.

use std::borrow::Cow;
use std::sync::Arc;

use seatmeter_count::interner::{Interned, MAX_WAITING};
use seatmeter_count::name::decode;
use seatmeter_count::timeline::Told;
use seatmeter_count::{Event, InternQueue, Interner, Kind};
use seatmeter_proto::batch::{self, MAX_COLUMNS, MAX_EVENTS, MAX_NAME, MAX_RANGE};
use seatmeter_proto::pseudonym::Key;
use seatmeter_proto::v1::{Batch, Columns, LineCounts, Stream};

use crate::checkpoint::{Checkpoint, Configured};
use crate::format::interpreter::{self, Mark, Timed};

/// The maximum length of the sample of an unrecognised line, in bytes.
const MAX_SAMPLE: usize = 200;

/// The number of unrecognised lines per batch that are sent with their text. The others are sent with their position
/// only.
const SAMPLES: usize = 20;

/// The maximum size of a batch's names, in bytes, so that its columns stay within their limit. Replacing invalid UTF-8
/// can triple the size of the names, and each event adds up to 36 bytes. The names that wait to be looked up, and the
/// last line's four names, come on top.
const MAX_NAMES: usize = MAX_COLUMNS / 8;
const _: () = assert!(3 * (MAX_NAMES + MAX_WAITING + 2 * MAX_NAME) + 36 * MAX_EVENTS <= MAX_COLUMNS);

/// The maximum memory of a batch's clients while the batch is gathered, in bytes. A few names can form many clients.
const MAX_CLIENTS: usize = 16 << 20;

/// Returns a batch without events.
fn empty_batch() -> std::io::Result<Batch> {
    let (columns, columns_size) = batch::seal(&Columns::default())?;
    Ok(Batch { columns: columns.into(), columns_size, lines: Some(LineCounts::default()), ..Batch::default() })
}

/// Returns a batch at `end` that says that the stream's content from its checkpoint to there cannot be read any more.
pub fn gap(checkpoint: &Checkpoint, configured: &Configured, end: u64) -> std::io::Result<Batch> {
    let (last_line_time, told) = checkpoint.last_line();
    Ok(Batch {
        stream: Some(checkpoint.stream(configured)),
        start_position: end,
        end_position: end,
        lost_before: true,
        last_line_time,
        told_first_day: told.first_day,
        told_offset: told.offset,
        ..empty_batch()?
    })
}

/// Gathers the events of one stream.
pub struct Batcher {
    stream: Stream,
    start: u64,
    /// What the lines before the batch tell of the date.
    told: Told,
    last_position: u64,
    last_at: i64,
    columns: Columns,
    features: Interner,
    clients: Interner,
    /// Clients that wait to be looked up together; `waiting` holds the indices of their events.
    queue: InternQueue,
    waiting: Vec<usize>,
    strings: Interner,
    samples: usize,
    /// Makes what is sent in place of names; `None` if names are sent.
    pseudonyms: Option<Arc<Key>>,
}

impl Batcher {
    /// Creates a batcher whose first batch starts at a position of the stream. The lines before it tell this of the date. With a key of
    /// pseudonyms, no name of a user or a machine stands in a batch.
    pub fn new(stream: Stream, start: u64, told: Told, pseudonyms: Option<Arc<Key>>) -> Self {
        Self {
            stream,
            start,
            told,
            last_position: start,
            last_at: 0,
            columns: Columns::default(),
            features: Interner::default(),
            clients: Interner::default(),
            queue: InternQueue::default(),
            waiting: Vec::new(),
            strings: Interner::default(),
            samples: 0,
            pseudonyms,
        }
    }

    /// Adds the event of the line at a position. If it names no daemon, it is one of `daemon`.
    pub fn event<'a>(&mut self, position: u64, timed: &Timed<'a>, daemon: &'a [u8]) {
        let usage = &timed.usage;
        let daemon = timed.daemon_or(daemon);
        let feature = if usage.kind.has_feature() { self.feature(daemon, usage.feature) } else { 0 };
        let event =
            Event { kind: usage.kind, at: timed.time, feature, client: 0, seats: usage.seats, detail: usage.detail };
        if usage.kind.has_client() {
            self.waiting.push(self.events());
            self.queue.push(&self.clients, cut(usage.user), cut(usage.host));
        }
        self.push(position, event);
        if self.queue.is_full() {
            self.number_clients();
        }
    }

    /// Adds what the line at a position tells of the date.
    pub fn mark(&mut self, position: u64, mark: &Mark) {
        self.push(position, mark.event());
    }

    /// Adds the unrecognised line at a position, written after the line with the stream time `previous_line_time`.
    pub fn unrecognised(&mut self, position: u64, previous_line_time: i64, text: &[u8]) {
        self.samples += 1;
        // What nobody can read, nobody can free of names.
        let text =
            if self.samples > SAMPLES || self.pseudonyms.is_some() { &b""[..] } else { within(text, MAX_SAMPLE) };
        let text = self.string(text);
        self.push(
            position,
            Event { kind: Kind::Unrecognised, at: previous_line_time, feature: 0, client: text, seats: 1, detail: 0 },
        );
    }

    /// Whether the batch is full, if it ends at `position`.
    pub fn is_full(&self, position: u64) -> bool {
        self.events() >= MAX_EVENTS
            || self.strings.size() > MAX_NAMES
            || self.clients.size() > MAX_CLIENTS
            || position - self.start > MAX_RANGE / 2
    }

    /// Returns the number of events in the batch.
    pub fn events(&self) -> usize {
        self.columns.kinds.len()
    }

    /// Returns the position at which the batch starts.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Returns the batch up to the position `end`, and starts the next batch there. `last_line_time` is the stream time of the
    /// last line, and `told` what the lines up to it tell of the date.
    pub fn seal(
        &mut self,
        end: u64,
        (last_line_time, told): (i64, Told),
        lines: interpreter::LineCounts,
    ) -> std::io::Result<Batch> {
        self.number_clients();
        for number in 0..self.strings.len() as u32 {
            let name = decode(self.strings.get(number).0).into_owned();
            self.columns.strings.push(name);
        }
        let (columns, columns_size) = batch::seal(&self.columns)?;
        let is_full = self.is_full(end);
        let batch = Batch {
            stream: Some(self.stream.clone()),
            start_position: self.start,
            end_position: end,
            last_line_time,
            told_first_day: self.told.first_day,
            told_offset: self.told.offset,
            event_count: self.events() as u32,
            columns_size,
            columns: columns.into(),
            lines: Some(LineCounts { events: lines.events, ignored: lines.ignored, unrecognised: lines.unrecognised }),
            ..Batch::default()
        };
        if is_full {
            self.restart(end);
        } else {
            // All available lines are read. The memory is freed, because more lines may not come for a long time.
            *self = Self::new(self.stream.clone(), end, self.told, self.pseudonyms.take());
        }
        self.told = told;
        Ok(batch)
    }

    /// Starts the next batch, reusing the memory of this one.
    fn restart(&mut self, start: u64) {
        let mut columns = std::mem::take(&mut self.columns);
        for column in [
            &mut columns.feature_daemons,
            &mut columns.feature_names,
            &mut columns.client_users,
            &mut columns.client_hosts,
            &mut columns.position_deltas,
            &mut columns.features,
            &mut columns.clients,
            &mut columns.seats,
        ] {
            column.clear();
        }
        columns.strings.clear();
        columns.kinds.clear();
        columns.time_deltas.clear();
        columns.details.clear();
        self.columns = columns;
        self.features.clear();
        self.clients.clear();
        self.strings.clear();
        (self.start, self.last_position, self.samples) = (start, start, 0);
    }

    fn push(&mut self, position: u64, event: Event) {
        // The difference fits: a batch is sealed long before its range outgrows the column.
        let delta = (position - self.last_position) as u32;
        self.last_position = position;
        batch::push(&mut self.columns, &mut self.last_at, delta, event);
    }

    fn feature(&mut self, daemon: &[u8], feature: &[u8]) -> u32 {
        let Interned { number, is_new } = self.features.intern(daemon, feature);
        if is_new {
            let (daemon, feature) = (self.string(daemon), self.string(feature));
            self.columns.feature_daemons.push(daemon);
            self.columns.feature_names.push(feature);
        }
        number
    }

    /// Looks up the waiting clients and sets their numbers in their events.
    fn number_clients(&mut self) {
        for (event, client) in self.waiting.drain(..).zip(self.queue.intern(&mut self.clients)) {
            if client.is_new {
                let (user, host) = self.clients.get(client.number);
                let (user, host) = match &self.pseudonyms {
                    None => (Cow::Borrowed(user), Cow::Borrowed(host)),
                    Some(key) => {
                        let (user, host) = (key.user(&decode(user)), key.host(&decode(host)));
                        (Cow::Owned(user.into_bytes()), Cow::Owned(host.into_bytes()))
                    }
                };
                self.columns.client_users.push(self.strings.intern(&user, b"").number);
                self.columns.client_hosts.push(self.strings.intern(&host, b"").number);
            }
            self.columns.clients[event] = client.number;
        }
    }

    fn string(&mut self, name: &[u8]) -> u32 {
        self.strings.intern(cut(name), b"").number
    }
}

/// Truncates a name for sending. Decoding can triple its length.
fn cut(name: &[u8]) -> &[u8] {
    within(name, MAX_NAME / 3)
}

/// Returns the beginning of a text, of at most `length` bytes and whole characters: a character of UTF-8 that is cut
/// would make the text look like another encoding.
fn within(text: &[u8], length: usize) -> &[u8] {
    if text.len() <= length {
        return text;
    }
    let is_continuation = |byte: &u8| byte & 0xc0 == 0x80;
    let cut = text[..=length].iter().rev().take(4).take_while(|byte| is_continuation(byte)).count();
    &text[..length - if cut < 4 { cut } else { 0 }]
}
