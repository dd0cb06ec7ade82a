//! Events: what a license server reports, each with its time.

use std::num::NonZero;

/// An index into the feature table of the events' owner: a batch, a scan or the store. A feature belongs to a vendor
/// daemon; the feature with an empty name stands for the daemon itself.
pub type FeatureId = u32;

/// An index into the client table of the events' owner. A client is a user on a host.
pub type ClientId = u32;

/// The kind of an event. The wire and stored batches use these numbers: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A client took seats.
    Checkout = 1,
    /// A client returned seats.
    Checkin = 2,
    /// The server refused a checkout.
    Denial = 3,
    /// The number of seats of a checkout changed; `detail` is the previous number.
    Upgrade = 4,
    /// The server queued a request.
    Queued = 5,
    /// A request left the queue.
    Dequeued = 6,
    /// The server reported again that seats are in use.
    InUse = 7,
    /// A client asked for a feature that the server does not have.
    Unsupported = 8,
    /// The license manager started. All open sessions count as ended `detail` seconds earlier.
    ManagerStart = 9,
    /// A vendor daemon started. All its open sessions count as ended `detail` seconds earlier.
    DaemonStart = 10,
    /// A line that no parser rule recognises. It has a position; a sample of such lines also has its text.
    Unrecognised = 11,
    /// The license manager ended, and its vendor daemons with it. Checkins may follow.
    ManagerExit = 12,
    /// A vendor daemon ended. Its checkins may follow.
    DaemonExit = 13,
    /// A line tells the day on which it was written: `detail` is the day. Days that are told again in the same
    /// reckoning are left out.
    Date = 14,
    /// From here on, the stamps of lines tell this offset from UTC: `detail` is the seconds east of it, or
    /// [`NO_OFFSET`].
    Offset = 15,
    /// The time of a line that reports no use, where the clock steps back.
    Clock = 16,
    /// The session with a key ended; the line names neither its feature nor its client.
    SessionEnd = 17,
    /// An answer of a license manager begins that states all that is in use. The answer before it came `detail` seconds
    /// earlier: what that one did not state began no earlier.
    AnswerBegin = 18,
    /// The answer ends. Open sessions that it has not stated again count as ended `detail` seconds earlier.
    AnswerEnd = 19,
    /// An answer does not state the session with a key any more.
    NoLongerInUse = 20,
    /// A list tells that a client used seats at this moment, and nothing of when that began or ended.
    Used = 21,
    /// A record tells of a session that has ended: its client held seats from this moment on. `detail` is a [`RecordKey`].
    Recorded = 22,
    /// The session that a record told of ended at this moment. `detail` is its key, and nothing else.
    RecordEnd = 23,
}

impl Kind {
    /// Returns whether an event of this kind has a client: a user and a host.
    pub fn has_client(self) -> bool {
        let has_session_alone = matches!(self, Self::SessionEnd | Self::NoLongerInUse | Self::RecordEnd);
        self.has_feature() && !self.is_lifecycle() && !has_session_alone
    }

    /// Returns whether an event of this kind has a feature. The start or the end of a daemon, and the end of a session that
    /// is not named, have an unnamed one, of that daemon.
    pub fn has_feature(self) -> bool {
        let is_of_all = matches!(self, Self::ManagerStart | Self::ManagerExit | Self::AnswerBegin | Self::AnswerEnd);
        !is_of_all && self != Self::Unrecognised && !self.is_mark()
    }

    /// Returns whether an event of this kind can have a [`SessionKey`].
    pub fn has_session(self) -> bool {
        let ends = matches!(self, Self::Checkin | Self::SessionEnd | Self::NoLongerInUse | Self::RecordEnd);
        ends || matches!(self, Self::Checkout | Self::InUse | Self::Recorded)
    }

    /// Returns whether the detail of an event of this kind says how many seconds before it the last line is.
    pub fn tells_last_line(self) -> bool {
        self.is_start() || matches!(self, Self::AnswerBegin | Self::AnswerEnd)
    }

    /// Returns whether an event of this kind only helps to date others.
    pub fn is_mark(self) -> bool {
        matches!(self, Self::Date | Self::Offset | Self::Clock)
    }

    /// Returns whether an event of this kind is the start of a process.
    pub fn is_start(self) -> bool {
        matches!(self, Self::ManagerStart | Self::DaemonStart)
    }

    /// Returns whether an event of this kind is the start or the end of a process.
    pub fn is_lifecycle(self) -> bool {
        matches!(self, Self::ManagerStart | Self::DaemonStart | Self::ManagerExit | Self::DaemonExit)
    }

    /// Returns the kind with this number on the wire; `None` if the number is unknown.
    pub fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Checkout,
            2 => Self::Checkin,
            3 => Self::Denial,
            4 => Self::Upgrade,
            5 => Self::Queued,
            6 => Self::Dequeued,
            7 => Self::InUse,
            8 => Self::Unsupported,
            9 => Self::ManagerStart,
            10 => Self::DaemonStart,
            11 => Self::Unrecognised,
            12 => Self::ManagerExit,
            13 => Self::DaemonExit,
            14 => Self::Date,
            15 => Self::Offset,
            16 => Self::Clock,
            17 => Self::SessionEnd,
            18 => Self::AnswerBegin,
            19 => Self::AnswerEnd,
            20 => Self::NoLongerInUse,
            21 => Self::Used,
            22 => Self::Recorded,
            23 => Self::RecordEnd,
            _ => return None,
        })
    }
}

/// The detail of a start, or of an answer's end, before which its stream has no line: sessions of the stream before end at
/// that one's last line.
pub const NO_LINE_BEFORE: i64 = i64::MIN;

/// The detail of an offset that is not told any more.
pub const NO_OFFSET: i64 = i64::MIN;

/// One event, with indexes in place of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The kind of the event.
    pub kind: Kind,
    /// The time of the event: a stream time as it is sent, and seconds since 1970-01-01 UTC once it is dated.
    pub at: i64,
    /// The index of the feature.
    pub feature: FeatureId,
    /// The index of the client.
    pub client: ClientId,
    /// The number of seats; at least 1 for kinds that take or return seats.
    pub seats: u32,
    /// A number whose meaning depends on the kind (see [`Kind`]). For a denial, the license manager's error code; for a
    /// checkout, a checkin, seats in use, which are in use no longer, and the end of a session, its [`SessionKey`], or 0.
    pub detail: i64,
}

/// What a record tells of a session that has ended: the number by which it is known, and how long it lasted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordKey {
    /// The session's number.
    pub own: NonZero<u32>,
    /// How long it lasted, in seconds.
    pub seconds: u32,
}

impl RecordKey {
    /// Returns the key in an event's detail; `None` if it has none.
    pub fn in_detail(detail: i64) -> Option<Self> {
        // The halves of the detail.
        Some(Self { own: NonZero::new(detail as u32)?, seconds: (detail >> 32) as u32 })
    }

    /// Returns the key as an event's detail.
    pub fn detail(self) -> i64 {
        i64::from(self.own.get()) | i64::from(self.seconds) << 32
    }
}

/// The number that a license manager gives a session. No other session of the daemon has it at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionKey {
    /// The session's own number.
    pub own: NonZero<u32>,
    /// The number of the session whose seats it shares; its own number if it shares none.
    pub shared: NonZero<u32>,
}

impl SessionKey {
    /// Creates a key from a license manager's numbers; `None` if one of them is 0.
    pub fn new(own: u64, shared: u64) -> Option<Self> {
        // Numbers are below 2^32 wherever they were seen. Larger ones are seldom the same after they are folded.
        let folded = |number: u64| NonZero::new((number ^ (number >> 32)) as u32).unwrap_or(NonZero::<u32>::MAX);
        let short = |number: u64| (number != 0).then(|| folded(number));
        Some(Self { own: short(own)?, shared: short(shared)? })
    }

    /// Returns the key in an event's detail; `None` if it has none.
    pub fn in_detail(detail: i64) -> Option<Self> {
        let (own, shared) = (NonZero::new(detail as u32)?, NonZero::new((detail >> 32) as u32));
        Some(Self { own, shared: shared.unwrap_or(own) })
    }

    /// Returns the key as an event's detail.
    pub fn detail(self) -> i64 {
        let shared = if self.shared == self.own { 0 } else { self.shared.get() };
        i64::from(self.own.get()) | i64::from(shared) << 32
    }
}
