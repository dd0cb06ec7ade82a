//! Who may speak with the aggregator, and for which license server.
//!
//! - [`authority`]: the aggregator's own authority, which signs its certificate and those of its agents
//! - [`registrar`]: the one writer of what follows
//! - [`enrolment`]: invitations, agents that were enrolled by them, and their certificates
//! - [`door`]: who is let in at the agents' port
//! - [`holders`]: the agent that holds an identity, and copies of it
//! - [`operators`]: who is let in at the operators' port, by tokens or by the names in certificates (`certificate_names`)
//! - [`trail`]: the audit trail
//! - [`refusals`]: tells who is not let in, and not too often
//! - [`sealing`]: the key for what agents export
//! - [`tls`]: the TLS configuration of both ports, renewed while they are open

pub mod authority;
mod certificate_names;
pub mod door;
pub mod enrolment;
pub mod holders;
pub mod operators;
pub mod refusals;
pub mod registrar;
pub mod sealing;
pub mod tls;
pub mod trail;
