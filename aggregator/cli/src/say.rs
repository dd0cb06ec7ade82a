//! `seatmeter servers expect`, `retire` and `rename`: what an operator says of license servers.

use anyhow::Result;
use seatmeter_proto::v1::fleet_service_client::FleetServiceClient;
use seatmeter_proto::v1::{
    ExpectLicenseServerRequest, RenameLicenseServerRequest, RenameLicenseServerResponse, RetireLicenseServerRequest,
};
use seatmeter_service::answer;
use seatmeter_service::screen::text::{count, visible};

use crate::connect::Channel;

/// Something that an operator says of a license server.
#[derive(clap::Subcommand)]
pub(crate) enum Say {
    /// Say from which day on a license server must report, also one that has never done so
    ///
    /// From that day on, its months are incomplete until it reports; those before it lack nothing.
    ///
    /// Example: seatmeter servers expect LIC07 --from 2026-12-01
    Expect(Told),
    /// Say from which day on a license server need not report any more
    ///
    /// What it has reported stays; months after that day lack nothing of it.
    ///
    /// Example: seatmeter servers retire LIC03 --from 2026-11-15
    Retire(Told),
    /// Give a license server another name, or make one of two that are the same
    ///
    /// Shows what would move; with --yes, moves it. For one that no agent reports for any more: where one does, change
    /// `license_server` in its configuration, and what it has sent moves along by itself.
    ///
    /// Example: seatmeter servers rename lic-old LIC01 --yes
    Rename {
        /// The license server
        name: String,
        /// Its other name
        new_name: String,
        /// Change it
        #[arg(long)]
        yes: bool,
    },
}

#[derive(clap::Args)]
pub(crate) struct Told {
    /// The license server
    name: String,
    /// The first day, as YYYY-MM-DD, in the billing time zone
    #[arg(long, value_name = "DATE", required_unless_present = "undo", conflicts_with = "undo")]
    from: Option<String>,
    /// Take back what was said before
    #[arg(long)]
    undo: bool,
}

/// Passes on what an operator says.
pub(crate) async fn say(channel: &Channel, said: Say) -> Result<bool> {
    let mut client = FleetServiceClient::new(channel.clone());
    match said {
        Say::Expect(Told { name, from, .. }) => {
            let (license_server, date) = (name.clone(), from.clone().unwrap_or_default());
            client.expect_license_server(ExpectLicenseServerRequest { license_server, date }).await?;
            match from {
                Some(from) => answer!("{} is expected to report from {from} on.", visible(&name)),
                None => answer!("{} is not expected from a certain day on.", visible(&name)),
            }
        }
        Say::Retire(Told { name, from, .. }) => {
            let (license_server, date) = (name.clone(), from.clone().unwrap_or_default());
            client.retire_license_server(RetireLicenseServerRequest { license_server, date }).await?;
            match from {
                Some(from) => answer!("{} need not report from {from} on.", visible(&name)),
                None => answer!("{} is not retired.", visible(&name)),
            }
        }
        Say::Rename { name, new_name, yes } => {
            let request = RenameLicenseServerRequest {
                license_server: name.clone(),
                new_name: new_name.clone(),
                validate_only: !yes,
            };
            let RenameLicenseServerResponse { logs, streams, merged, .. } =
                client.rename_license_server(request).await?.into_inner();
            let (name, new_name) = (visible(&name), visible(&new_name));
            let what = match merged {
                true => format!("{name} and {new_name} become one license server, {new_name}"),
                false => format!("{name} gets the name {new_name}"),
            };
            answer!("{what}: {} with {}.", count(logs.len() as u64, "log"), count(streams, "file"));
            match yes {
                true => answer!("Done."),
                false => answer!("Nothing is changed yet; add --yes to change it."),
            }
        }
    }
    Ok(true)
}
