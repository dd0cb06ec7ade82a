//! Who may speak with the aggregator, and for which license server.
//!
//! - [`authority`]: the aggregator's own authority, which signs its certificate and those of its agents
//! - [`enrolment`]: invitations, agents that were enrolled by them, and their certificates
//! - [`door`]: who is let in at the agents' port
//! - [`refusals`]: tells who is not, and not too often
//! - [`tls`]: the TLS configuration of both ports, renewed while they are open

pub mod authority;
pub mod door;
pub mod enrolment;
pub mod refusals;
pub mod tls;
