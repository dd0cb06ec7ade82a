//! What it takes to be a service, whatever the service does.
//!
//! | module | one idea |
//! |---|---|
//! | [`state`] | a folder for one process, and when the process is to stop |
//! | [`health`] | the health log: JSON lines with stable codes, in a file that is rotated and in the system's own log |
//! | [`manager`] | what the system's manager of services is told: ready, alive, stopping |

pub mod health;
pub mod manager;
pub mod state;
