//! From agents: batches in, facts out.
//!
//! ```text
//! agent -> service (protocol, checks) -> writer -> received (marks, archive)   durable, then acknowledged
//!                                               -> fold (sessions) -> book     facts, written a little later
//! ```
//!
//! | module | one idea |
//! |---|---|
//! | [`service`] | the protocol of one agent's stream |
//! | [`writer`] | the one writer: what is done when |
//! | `received` | marks and archive, in the writer's memory |
//! | [`marks`] | the high-water rule |
//! | [`directory`] | names to ids |
//! | [`fold`] | events of one log to facts |
//! | [`book`] | facts to be written |
//! | `ledger` | the folds of all logs |
//! | [`verify`] | proof that the facts are the sum of the batches |

pub mod book;
pub mod directory;
pub mod fold;
mod ledger;
pub mod marks;
mod received;
pub mod service;
pub mod verify;
pub mod writer;
