//! The gRPC contract between agents, the aggregator and operators, and the code that every side needs to keep it.
//!
//! | module | one idea |
//! |---|---|
//! | [`v1`] | the messages and services, generated from `seatmeter/v1/*.proto` by `cargo xtask codegen` |
//! | [`batch`] | converts events to columns and back; the only place that validates an incoming batch |
//! | [`split`] | splits a batch that exceeds the receiver's limits |
//! | [`tls`] | certificates and keys, TLS 1.3 with them |
//! | [`transport`] | dialling; plain text only on loopback |
//! | [`invitation`] | the line with which an agent enrols, or an operator logs in |
//! | [`audit`] | how the audit trail holds together |
//! | [`sealed`] | exports of agents that have no network |
//! | [`accept`] | a server's connections, within limits |
//! | [`pseudonym`] | what is sent in place of names |
//! | `place` | the places of connections, counted for each address |
//! | [`connection`] | a connection, and the deadlines for its beginning |

pub mod accept;
pub mod audit;
pub mod batch;
pub mod connection;
pub mod invitation;
mod place;
pub mod pseudonym;
pub mod sealed;
pub mod split;
pub mod tls;
pub mod transport;

/// The messages and services of package `seatmeter.v1`.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod v1 {
    include!("generated/seatmeter.v1.rs");

    /// The package's descriptors, for reflection.
    pub const DESCRIPTOR: &[u8] = include_bytes!("generated/descriptor.bin");
}

/// The most streams that an `Offer` may name, as the contract has it.
pub const MAX_OFFER: usize = 1000;

/// Returns the protobuf timestamp of a time in seconds since 1970 UTC.
pub fn timestamp(seconds: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds, nanos: 0 }
}
