//! The event: one thing a license server said happened, with its moment.

/// An index into the features the events' owner knows (a batch, a scan, the store). A feature belongs to a vendor
/// daemon; the feature with an empty name stands for the daemon itself.
pub type FeatureId = u32;

/// An index into the clients the events' owner knows: a user on a host.
pub type ClientId = u32;

/// What happened. The numbers are those of the wire and of stored batches: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Seats were taken.
    Checkout = 1,
    /// Seats were returned.
    Checkin = 2,
    /// A checkout was refused.
    Denial = 3,
    /// A checkout's number of seats changed; `detail` holds the number before.
    Upgrade = 4,
    /// A request was put in a queue.
    Queued = 5,
    /// A request left the queue.
    Dequeued = 6,
    /// The server repeated that seats are in use.
    InUse = 7,
    /// A feature was asked for that the server does not have.
    Unsupported = 8,
    /// The license manager started: whatever was open has ended, `detail` seconds before.
    ManagerStart = 9,
    /// A vendor daemon started: whatever it had open has ended, `detail` seconds before.
    DaemonStart = 10,
    /// A line that no rule understands. It has a position and, for a sample of them, a text.
    Unrecognised = 11,
}

impl Kind {
    /// Whether somebody did it: what a server does by itself has no user and no host.
    pub fn has_client(self) -> bool {
        !matches!(self, Self::ManagerStart | Self::DaemonStart)
    }

    /// The kind with this number on the wire.
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
            _ => return None,
        })
    }
}

/// One event, its names replaced by indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: Kind,
    /// When: seconds since 1970-01-01 UTC.
    pub at: i64,
    /// To which feature.
    pub feature: FeatureId,
    /// By whom.
    pub client: ClientId,
    /// How many seats; at least 1 for what takes or returns seats.
    pub seats: u32,
    /// A number whose meaning depends on the kind: see [`Kind`]. For a denial, the license manager's error code.
    pub detail: i64,
}
