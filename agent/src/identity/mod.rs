//! Who the agent is to the aggregator that has enrolled it: a key that never leaves this machine, and a certificate that is
//! renewed long before it ends.
//!
//! - [`files`]: where key, certificate and authority are kept
//! - [`calls`]: how certificates are asked for
//! - [`keeper`]: renews the certificate in time, for as long as the agent runs

pub mod calls;
pub mod files;
pub mod keeper;
