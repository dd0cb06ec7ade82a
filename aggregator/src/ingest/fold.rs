//! From events to facts: the fold of one log.

use hashbrown::HashMap;
use prost::Message;
use seatmeter_count::retries::Retries;
use seatmeter_count::sessions::OpenSession;
use seatmeter_count::{ClientId, Ending, FeatureId, Kind, Ledger, Sessions};
use seatmeter_proto::batch;
use seatmeter_proto::v1::{Batch, Columns};

use super::book::{Book, Stretch};
use super::directory::{Client, Directory};
use crate::store::facts::{ESTIMATED, MOMENT};
use crate::store::{Failure, StoreError};

/// Where a log stands: what is open, and what can still be retried.
#[derive(Default)]
pub struct LogFold {
    sessions: Sessions,
    retries: Retries,
    levels: HashMap<FeatureId, Level>,
    /// The last dated line.
    pub last_line_at: i64,
}

/// Seats of a feature in use, and the most in the hour that is going on.
#[derive(Clone, Copy, Default)]
struct Level {
    seats: u64,
    hour: i64,
    peak: u64,
    peak_at: i64,
}

/// A garbage date must not fill centuries of hours: a feature whose seats are held for longer than this has its older
/// hours left out.
const LONGEST_CARRY: i64 = 400 * 24;

/// A [`LogFold`] in the database.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Saved {
    #[prost(uint32, repeated, tag = "1")]
    features: Vec<u32>,
    #[prost(uint32, repeated, tag = "2")]
    identities: Vec<u32>,
    #[prost(uint32, repeated, tag = "3")]
    devices: Vec<u32>,
    #[prost(sint64, repeated, tag = "4")]
    from: Vec<i64>,
    #[prost(uint32, repeated, tag = "5")]
    seats: Vec<u32>,
    #[prost(uint32, repeated, tag = "6")]
    denied_features: Vec<u32>,
    #[prost(uint32, repeated, tag = "7")]
    denied_identities: Vec<u32>,
    #[prost(uint32, repeated, tag = "8")]
    denied_devices: Vec<u32>,
    #[prost(sint64, repeated, tag = "9")]
    denied_at: Vec<i64>,
}

/// An open session in the database's own ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenSeat {
    /// Of which feature.
    pub feature: u32,
    /// By whom.
    pub client: Client,
    /// Since when.
    pub from: i64,
    /// How many seats.
    pub seats: u32,
}

impl Saved {
    /// Reads what [`LogFold::save`] wrote.
    pub fn read(bytes: &[u8]) -> Result<Self, StoreError> {
        let failed = |reason: String| {
            StoreError::new(
                Failure::Corrupt,
                format!("a log's state cannot be read: {reason}; run `seatmeter-aggregator rebuild`"),
            )
        };
        let saved = Self::decode(bytes).map_err(|error| failed(error.to_string()))?;
        let open = [saved.identities.len(), saved.devices.len(), saved.from.len(), saved.seats.len()];
        let denied = [saved.denied_identities.len(), saved.denied_devices.len(), saved.denied_at.len()];
        let is_whole = open.iter().all(|length| *length == saved.features.len())
            && denied.iter().all(|length| *length == saved.denied_features.len());
        if is_whole { Ok(saved) } else { Err(failed("its columns differ in length".into())) }
    }

    /// The sessions that were open at the log's last line.
    pub fn open(&self) -> impl Iterator<Item = OpenSeat> + '_ {
        (0..self.features.len()).map(|index| OpenSeat {
            feature: self.features[index],
            client: Client { identity: self.identities[index], device: self.devices[index] },
            from: self.from[index],
            seats: self.seats[index],
        })
    }
}

impl LogFold {
    /// Goes on from a saved state.
    pub fn restore(saved: &Saved, last_line_at: i64, directory: &mut Directory) -> Self {
        let open: Vec<OpenSession> = saved
            .open()
            .map(|seat| OpenSession {
                feature: seat.feature,
                client: directory.client(seat.client),
                from: seat.from,
                seats: seat.seats,
            })
            .collect();
        let mut levels: HashMap<FeatureId, Level> = HashMap::new();
        for session in &open {
            let level = levels.entry(session.feature).or_default();
            level.seats += u64::from(session.seats);
            // The hour's peak so far is in the database.
            level.hour = hour_of(last_line_at);
        }
        let denied = (0..saved.denied_features.len()).map(|index| {
            let client = Client { identity: saved.denied_identities[index], device: saved.denied_devices[index] };
            (saved.denied_features[index], directory.client(client), saved.denied_at[index])
        });
        let retries = Retries::restore(denied.collect::<Vec<_>>());
        Self { sessions: Sessions::restore(open), retries, levels, last_line_at }
    }

    /// Where it stands, to be saved. The same state gives the same bytes.
    pub fn save(&self, directory: &Directory) -> Vec<u8> {
        let mut saved = Saved::default();
        let client = |id: ClientId| directory.clients()[id as usize];
        let mut open = self.sessions.open();
        // Ids of clients differ from process to process; the order of the sessions of one client is theirs to keep.
        open.sort_by_key(|session| (session.feature, client(session.client)));
        for session in open {
            let Client { identity, device } = client(session.client);
            saved.features.push(session.feature);
            saved.identities.push(identity);
            saved.devices.push(device);
            saved.from.push(session.from);
            saved.seats.push(session.seats);
        }
        let mut denied = self.retries.pending(self.last_line_at);
        denied.sort_by_key(|(feature, id, _)| (*feature, client(*id)));
        for (feature, id, at) in denied {
            let Client { identity, device } = client(id);
            saved.denied_features.push(feature);
            saved.denied_identities.push(identity);
            saved.denied_devices.push(device);
            saved.denied_at.push(at);
        }
        saved.encode_to_vec()
    }

    /// Takes the events of a batch that stand at `from` or after.
    pub fn take(
        &mut self,
        (batch, columns): (&Batch, &Columns),
        from: u64,
        (log_id, realm): (i64, &str),
        directory: &mut Directory,
        book: &mut Book,
    ) {
        let resolved = directory.resolve(columns, realm);
        let mut scribe =
            Scribe { log_id, clients: directory.clients(), retries: &mut self.retries, levels: &mut self.levels, book };
        for (position, mut event) in batch::events(columns, batch.start) {
            if position < from {
                continue;
            }
            match event.kind {
                Kind::Unrecognised => continue,
                Kind::ManagerStart => {}
                Kind::DaemonStart => event.feature = resolved.features[event.feature as usize],
                _ => {
                    event.feature = resolved.features[event.feature as usize];
                    event.client = resolved.clients[event.client as usize];
                }
            }
            self.sessions.apply(&event, directory.daemon_of(), &mut scribe);
        }
        self.settle(batch.last_line_at, log_id, book);
    }

    /// Notes the last dated line, and brings the hours of seats that are in use up to it. Done with each batch, and with
    /// nothing else: so the same batches give the same hours whenever they are written.
    fn settle(&mut self, last_line_at: i64, log_id: i64, book: &mut Book) {
        self.last_line_at = last_line_at;
        let hour = hour_of(last_line_at);
        for (feature, level) in &mut self.levels {
            level.advance(hour, |hour, peak, at| book.peak(log_id, *feature, hour, peak, at));
            if level.peak > 0 {
                book.peak(log_id, *feature, level.hour, level.peak, level.peak_at);
            }
        }
    }
}

fn hour_of(at: i64) -> i64 {
    at.div_euclid(3600)
}

impl Level {
    /// Goes on to an hour: those before it are over.
    fn advance(&mut self, hour: i64, mut over: impl FnMut(i64, u64, i64)) {
        if hour <= self.hour {
            return;
        }
        if self.peak > 0 {
            over(self.hour, self.peak, self.peak_at);
        }
        if self.seats > 0 {
            for between in (self.hour + 1).max(hour - LONGEST_CARRY)..hour {
                over(between, self.seats, between * 3600);
            }
        }
        (self.hour, self.peak, self.peak_at) = (hour, self.seats, hour * 3600);
    }
}

/// Writes down what sessions mean.
struct Scribe<'a> {
    log_id: i64,
    clients: &'a [Client],
    retries: &'a mut Retries,
    levels: &'a mut HashMap<FeatureId, Level>,
    book: &'a mut Book,
}

impl Ledger for Scribe<'_> {
    fn checkout(&mut self, feature: FeatureId, client: ClientId, at: i64, _seats: u32) {
        let Client { identity, device } = self.clients[client as usize];
        self.book.checkout(self.log_id, feature, identity, device, at);
    }

    fn checkin(&mut self, feature: FeatureId, _client: ClientId, at: i64) {
        self.book.checkin(self.log_id, feature, at);
    }

    fn denial(&mut self, feature: FeatureId, client: ClientId, at: i64) {
        let is_retry = self.retries.is_retry(feature, client, at);
        self.book.denial(self.log_id, feature, at, is_retry);
    }

    fn held(&mut self, feature: FeatureId, client: ClientId, from: i64, through: i64, seats: u32, ending: Ending) {
        let Client { identity, device } = self.clients[client as usize];
        let flags = match ending {
            Ending::Checkin | Ending::StillOpen => 0,
            Ending::Implicit => ESTIMATED,
            Ending::Moment => MOMENT,
        };
        let log_id = self.log_id;
        self.book.held(Stretch { log_id, feature, identity, device, from, through, seats, flags });
    }

    fn in_use(&mut self, feature: FeatureId, at: i64, seats: u64) {
        let level = self.levels.entry(feature).or_insert(Level { hour: hour_of(at), ..Level::default() });
        let (log_id, book) = (self.log_id, &mut *self.book);
        level.advance(hour_of(at), |hour, peak, at| book.peak(log_id, feature, hour, peak, at));
        level.seats = seats;
        if seats > level.peak {
            (level.peak, level.peak_at) = (seats, at);
        }
    }
}
