//! The contract between agents, the aggregator and operators, and what keeping it takes on every side.
//!
//! | module | one idea |
//! |---|---|
//! | [`v1`] | the messages and services, generated from `seatmeter/v1/*.proto` by `cargo xtask codegen` |
//! | [`batch`] | events to columns and back; the one place where what a batch claims is checked |
//! | [`split`] | a batch over another side's limits becomes several |
//! | [`transport`] | how the contract is carried: TLS 1.3, limits, plain text only on loopback |

pub mod batch;
pub mod split;
pub mod transport;

/// The messages and services of package `seatmeter.v1`.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod v1 {
    include!("generated/seatmeter.v1.rs");

    /// The package's descriptors, for reflection.
    pub const DESCRIPTOR: &[u8] = include_bytes!("generated/descriptor.bin");
}

/// A moment on the wire.
pub fn timestamp(seconds: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds, nanos: 0 }
}
