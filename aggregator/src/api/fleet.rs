//! `seatmeter.v1.FleetService`. Each method in one order: limit, validate, act.

use seatmeter_proto::v1::fleet_service_server::FleetService;
use seatmeter_proto::v1::{
    ListAgentsRequest, ListAgentsResponse, ListLicenseServersRequest, ListLicenseServersResponse,
    ListUnrecognisedLinesRequest, ListUnrecognisedLinesResponse,
};
use tonic::{Request, Response, Status};

use super::paging::{page_size, read_token, write_token};
use super::status::invalid;
use super::{Gate, answer};
use crate::fleet::Fleet;

/// Answers questions about license servers and agents.
pub struct FleetApi {
    fleet: Fleet,
    gate: Gate,
}

impl FleetApi {
    /// Answers by these, at most as many at a time as the gate lets in.
    pub fn new(fleet: Fleet, gate: Gate) -> Self {
        Self { fleet, gate }
    }
}

#[tonic::async_trait]
impl FleetService for FleetApi {
    async fn list_license_servers(
        &self,
        _request: Request<ListLicenseServersRequest>,
    ) -> Result<Response<ListLicenseServersResponse>, Status> {
        let _place = self.gate.enter()?;
        let fleet = self.fleet.clone();
        answer(move || Ok(ListLicenseServersResponse { license_servers: fleet.license_servers()? })).await
    }

    async fn list_agents(&self, _request: Request<ListAgentsRequest>) -> Result<Response<ListAgentsResponse>, Status> {
        let _place = self.gate.enter()?;
        let fleet = self.fleet.clone();
        answer(move || Ok(ListAgentsResponse { agents: fleet.agents()? })).await
    }

    async fn list_unrecognised_lines(
        &self,
        request: Request<ListUnrecognisedLinesRequest>,
    ) -> Result<Response<ListUnrecognisedLinesResponse>, Status> {
        let _place = self.gate.enter()?;
        let asked = request.into_inner();
        let size = page_size(asked.page_size)?;
        let wrong = || invalid("page_token", "is not one of this method's");
        let after = match read_token(&asked.page_token)?.as_deref() {
            None => (0, -1),
            Some([stream, position]) => (stream.parse().map_err(|_| wrong())?, position.parse().map_err(|_| wrong())?),
            Some(_) => return Err(wrong()),
        };
        let fleet = self.fleet.clone();
        answer(move || {
            let (lines, next) = fleet.unrecognised(&asked.license_server, after, size)?;
            let token = next.map(|(stream, position)| write_token(&[&stream.to_string(), &position.to_string()]));
            Ok(ListUnrecognisedLinesResponse { lines, next_page_token: token.unwrap_or_default() })
        })
        .await
    }
}
