//! Events: what a license server reports, each with its time.

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
}

impl Kind {
    /// Returns whether an event of this kind has a client: a user and a host.
    pub fn has_client(self) -> bool {
        !self.is_lifecycle() && self != Self::Unrecognised && !self.is_mark()
    }

    /// Returns whether an event of this kind has a feature. The start or the end of a daemon has an unnamed one, of that
    /// daemon.
    pub fn has_feature(self) -> bool {
        !matches!(self, Self::ManagerStart | Self::ManagerExit | Self::Unrecognised) && !self.is_mark()
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
            _ => return None,
        })
    }
}

/// The detail of a start before which its stream has no line: sessions of the stream before end at that one's last line.
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
    /// A number whose meaning depends on the kind (see [`Kind`]). For a denial, the license manager's error code.
    pub detail: i64,
}
