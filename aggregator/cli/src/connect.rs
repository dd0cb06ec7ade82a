//! The connection to the aggregator.

use std::path::PathBuf;

use anyhow::Result;
use seatmeter_proto::tls::{Identity, Trust};
use seatmeter_proto::transport::{Credentials, Dialer, TransportError};
use tonic::transport::Channel;

#[derive(clap::Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    /// The aggregator's URL: https://HOST:PORT, or http:// to a loopback address
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "SEATMETER_AGGREGATOR",
        default_value = "http://127.0.0.1:7471"
    )]
    aggregator: String,
    /// The authority that signed the aggregator's certificate (PEM)
    #[arg(long, global = true, value_name = "FILE", env = "SEATMETER_AUTHORITY")]
    authority: Option<PathBuf>,
    /// Your own certificate, if the aggregator requires one (PEM)
    #[arg(long, global = true, value_name = "FILE", env = "SEATMETER_CERTIFICATE", requires = "key")]
    certificate: Option<PathBuf>,
    /// The key of your certificate (PEM)
    #[arg(long, global = true, value_name = "FILE", env = "SEATMETER_KEY", requires = "certificate")]
    key: Option<PathBuf>,
}

/// The aggregator cannot be reached.
#[derive(Debug, thiserror::Error)]
#[error("{0}. Is the aggregator running, and is its URL right (--aggregator or SEATMETER_AGGREGATOR)?")]
pub(crate) struct Unreachable(TransportError);

impl Connection {
    pub(crate) async fn open(&self) -> Result<Channel> {
        let identity =
            self.certificate.clone().zip(self.key.clone()).map(|(certificate, key)| Identity { certificate, key });
        let trust = self.authority.clone().map(|authority| Credentials::Files(Trust { authority, identity }));
        let dialer = Dialer::new(&self.aggregator, trust)?;
        Ok(dialer.connect().await.map_err(Unreachable)?)
    }
}
