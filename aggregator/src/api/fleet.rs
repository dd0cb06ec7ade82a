//! `seatmeter.v1.FleetService`.

use std::sync::Arc;

use jiff::tz::TimeZone;
use seatmeter_count::Day;
use seatmeter_count::calendar::{date_of, day_of};
use seatmeter_count::name::fold_case;
use seatmeter_proto::v1::fleet_service_server::FleetService;
use seatmeter_proto::v1::{
    ExpectLicenseServerRequest, ExpectLicenseServerResponse, ListAgentsRequest, ListAgentsResponse,
    ListLicenseServersRequest, ListLicenseServersResponse, ListStreamsRequest, ListStreamsResponse,
    ListUnrecognisedLinesRequest, ListUnrecognisedLinesResponse, PreviewTimeZoneRequest, PreviewTimeZoneResponse,
    Rebuilding, RenameLicenseServerRequest, RenameLicenseServerResponse, RetireLicenseServerRequest,
    RetireLicenseServerResponse, SetStreamDateRequest, SetStreamDateResponse, WatchFleetRequest, WatchFleetResponse,
};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::ingest::MAX_TEXT;
use super::paging::{Page, THINGS};
use super::status::ApiError;
use super::watch::follow;
use super::{ConcurrencyLimit, answer, caller, say};
use crate::access::operators::Operators;
use crate::fleet::alerts::Open;
use crate::fleet::{Fleet, FleetError};
use crate::ingest::archiver::{Command, Word};
use crate::ingest::projector::Steps;
use crate::quarantine;

/// Answers questions about license servers and agents.
pub struct FleetApi {
    fleet: Fleet,
    /// The IANA name of the billing time zone.
    time_zone: String,
    limit: ConcurrencyLimit,
    /// To the archiver.
    commands: mpsc::Sender<Command>,
    /// How far the figures are brought up to date after a start.
    progress: watch::Receiver<Option<Steps>>,
    /// The alerts that are raised.
    alerts: watch::Receiver<Option<Arc<Open>>>,
    operators: Operators,
    /// The limit on those who follow them.
    followers: ConcurrencyLimit,
}

/// The most operators who follow the alerts at a time.
const MAX_FOLLOWERS: usize = 200;

impl FleetApi {
    /// Creates the service over a fleet, with a limit on requests. Clients show moments in `time_zone`. What operators say
    /// goes to the archiver, as commands; the projector tells its progress after a start. Operators follow `alerts` for as long as they
    /// are let in.
    pub fn new(
        fleet: Fleet,
        time_zone: String,
        limit: ConcurrencyLimit,
        commands: mpsc::Sender<Command>,
        progress: watch::Receiver<Option<Steps>>,
        (alerts, operators): (watch::Receiver<Option<Arc<Open>>>, Operators),
    ) -> Self {
        let followers = ConcurrencyLimit::new(MAX_FOLLOWERS);
        Self { fleet, time_zone, limit, commands, progress, alerts, operators, followers }
    }
}

impl FleetApi {
    /// Refuses a name that no license server has.
    async fn must_know(&self, name: &str) -> Result<(), Status> {
        let (fleet, name) = (self.fleet.clone(), name.to_owned());
        answer(move || fleet.must_know(&name)).await.map(drop)
    }
}

/// Refuses a name that no agent could have.
pub(super) fn must_be_a_name(field: &'static str, name: &str) -> Result<(), ApiError> {
    if name.trim().is_empty() || name.len() > MAX_TEXT || name.chars().any(char::is_control) {
        return Err(ApiError::invalid(field, "must be a name of 1 to 255 bytes, without control characters"));
    }
    if quarantine::is_name(name) {
        return Err(ApiError::invalid(field, "ends as the names that copies of agents get: choose another one"));
    }
    Ok(())
}

/// Reads a day; `None` if the text is empty.
pub(super) fn day(text: &str) -> Result<Option<Day>, ApiError> {
    let date = match text {
        "" => return Ok(None),
        text => text.parse::<jiff::civil::Date>(),
    };
    let in_range = date.ok().filter(|date| (1990..=2900).contains(&date.year()));
    in_range
        .map(|date| Some(day_of(date)))
        .ok_or_else(|| ApiError::invalid("date", "must be a day from 1990 on, as YYYY-MM-DD"))
}

#[tonic::async_trait]
impl FleetService for FleetApi {
    async fn list_license_servers(
        &self,
        request: Request<ListLicenseServersRequest>,
    ) -> Result<Response<ListLicenseServersResponse>, Status> {
        let _permit = self.limit.enter()?;
        let asked = request.into_inner();
        let problems = if asked.only_problems { "problems" } else { "all" };
        let scope = ["servers", &asked.license_server, problems];
        let page = Page::new(THINGS, asked.page_size, &asked.page_token, &scope)?;
        let (fleet, time_zone) = (self.fleet.clone(), self.time_zone.clone());
        let rebuilding = self.progress.borrow().filter(|steps| steps.logs > 0).map(Rebuilding::from);
        answer(move || {
            let mut servers = fleet.license_servers(&asked.license_server)?;
            servers.retain(|server| !asked.only_problems || !server.state.is_well());
            let total_size = servers.len() as i64;
            let rows = servers.into_iter().map(|server| (vec![server.key.clone()], server.into()));
            let (license_servers, next_page_token) = page.cut(rows);
            Ok::<_, FleetError>(ListLicenseServersResponse {
                license_servers,
                next_page_token,
                total_size,
                time_zone,
                rebuilding,
            })
        })
        .await
    }

    async fn list_agents(&self, request: Request<ListAgentsRequest>) -> Result<Response<ListAgentsResponse>, Status> {
        let _permit = self.limit.enter()?;
        let asked = request.into_inner();
        let page = Page::new(THINGS, asked.page_size, &asked.page_token, &["agents", &asked.license_server])?;
        let (fleet, time_zone) = (self.fleet.clone(), self.time_zone.clone());
        answer(move || {
            let agents = fleet.agents(&asked.license_server)?;
            let total_size = agents.len() as i64;
            let rows = agents
                .into_iter()
                .map(|agent| (vec![fold_case(&agent.license_server).into_owned(), agent.id.clone()], agent.into()));
            let (agents, next_page_token) = page.cut(rows);
            Ok::<_, FleetError>(ListAgentsResponse { agents, next_page_token, total_size, time_zone })
        })
        .await
    }

    async fn list_unrecognised_lines(
        &self,
        request: Request<ListUnrecognisedLinesRequest>,
    ) -> Result<Response<ListUnrecognisedLinesResponse>, Status> {
        let _permit = self.limit.enter()?;
        let asked = request.into_inner();
        let page = Page::new(THINGS, asked.page_size, &asked.page_token, &["unrecognised", &asked.license_server])?;
        let after = match page.after::<2>()? {
            None => (0, -1),
            Some([stream, position]) => {
                let number = |text: &str| text.parse().map_err(|_| ApiError::PageToken);
                (number(stream)?, number(position)?)
            }
        };
        let (fleet, time_zone) = (self.fleet.clone(), self.time_zone.clone());
        answer(move || {
            // A sample is at most a few hundred bytes: a page of them is never too large.
            let (samples, next) = fleet.unrecognised(&asked.license_server, after, page.size())?;
            let next = next.map(|(stream, position)| page.token(&[stream.to_string(), position.to_string()]));
            Ok::<_, FleetError>(ListUnrecognisedLinesResponse {
                lines: samples.into_iter().map(Into::into).collect(),
                next_page_token: next.unwrap_or_default(),
                time_zone,
            })
        })
        .await
    }

    async fn list_streams(
        &self,
        request: Request<ListStreamsRequest>,
    ) -> Result<Response<ListStreamsResponse>, Status> {
        let _permit = self.limit.enter()?;
        let asked = request.into_inner();
        let page = Page::new(THINGS, asked.page_size, &asked.page_token, &["streams", &asked.license_server])?;
        let (fleet, time_zone) = (self.fleet.clone(), self.time_zone.clone());
        answer(move || {
            let streams = fleet.streams(&asked.license_server)?;
            let total_size = streams.len() as i64;
            let key = |number: usize| vec![format!("{number:012}")];
            let rows = streams.into_iter().enumerate().map(|(number, stream)| (key(number), stream.into()));
            let (streams, next_page_token) = page.cut(rows);
            Ok::<_, FleetError>(ListStreamsResponse { streams, next_page_token, total_size, time_zone })
        })
        .await
    }

    async fn set_stream_date(
        &self,
        request: Request<SetStreamDateRequest>,
    ) -> Result<Response<SetStreamDateResponse>, Status> {
        let _permit = self.limit.enter()?;
        let SetStreamDateRequest { stream, date, validate_only, license_server } = request.into_inner();
        let day = day(&date)?;
        let fleet = self.fleet.clone();
        let redating = answer(move || fleet.redating(&license_server, &stream, day)).await?.into_inner();
        if !validate_only {
            say(&self.commands, Word::DateOf(redating.stream.id, day)).await?;
        }
        Ok(Response::new(redating.into()))
    }

    async fn preview_time_zone(
        &self,
        request: Request<PreviewTimeZoneRequest>,
    ) -> Result<Response<PreviewTimeZoneResponse>, Status> {
        let _permit = self.limit.enter()?;
        let PreviewTimeZoneRequest { license_server, log, time_zone } = request.into_inner();
        let zone = TimeZone::get(&time_zone)
            .map_err(|_| ApiError::invalid("time_zone", "must be an IANA name, as in Europe/Berlin"))?;
        let fleet = self.fleet.clone();
        answer(move || fleet.rezoning(&license_server, &log, &zone).map(Into::into)).await
    }

    async fn expect_license_server(
        &self,
        request: Request<ExpectLicenseServerRequest>,
    ) -> Result<Response<ExpectLicenseServerResponse>, Status> {
        let _permit = self.limit.enter()?;
        let ExpectLicenseServerRequest { license_server, date } = request.into_inner();
        let day = day(&date)?;
        match day {
            Some(_) => must_be_a_name("license_server", &license_server)?,
            None => self.must_know(&license_server).await?,
        }
        say(&self.commands, Word::ExpectedFrom(license_server, day)).await?;
        Ok(Response::new(ExpectLicenseServerResponse {}))
    }

    async fn retire_license_server(
        &self,
        request: Request<RetireLicenseServerRequest>,
    ) -> Result<Response<RetireLicenseServerResponse>, Status> {
        let _permit = self.limit.enter()?;
        let RetireLicenseServerRequest { license_server, date } = request.into_inner();
        let day = day(&date)?;
        self.must_know(&license_server).await?;
        say(&self.commands, Word::RetiredFrom(license_server, day)).await?;
        Ok(Response::new(RetireLicenseServerResponse {}))
    }

    async fn rename_license_server(
        &self,
        request: Request<RenameLicenseServerRequest>,
    ) -> Result<Response<RenameLicenseServerResponse>, Status> {
        let _permit = self.limit.enter()?;
        let RenameLicenseServerRequest { license_server, new_name, validate_only } = request.into_inner();
        must_be_a_name("new_name", &new_name)?;
        let (fleet, name, other) = (self.fleet.clone(), license_server.clone(), new_name.clone());
        let renaming = answer(move || fleet.renaming(&name, &other)).await?.into_inner();
        if !validate_only {
            say(&self.commands, Word::Renamed(license_server, new_name)).await?;
        }
        Ok(Response::new(renaming.into()))
    }

    type WatchFleetStream = ReceiverStream<Result<WatchFleetResponse, Status>>;

    async fn watch_fleet(
        &self,
        request: Request<WatchFleetRequest>,
    ) -> Result<Response<Self::WatchFleetStream>, Status> {
        let place = self.followers.enter()?;
        let (caller, name) = (caller(&request)?, request.into_inner().license_server);
        if !name.is_empty() {
            self.must_know(&name).await?;
        }
        let name_key = fold_case(&name).into_owned();
        Ok(Response::new(follow(self.alerts.clone(), name_key, self.operators.clone(), caller, place)))
    }
}

impl From<Steps> for Rebuilding {
    fn from(steps: Steps) -> Self {
        Self { logs: steps.logs, logs_done: steps.logs_done, percent: steps.percent() as u32 }
    }
}

/// Returns a day as YYYY-MM-DD; empty if there is none.
pub(super) fn day_text(day: Option<Day>) -> String {
    day.map(|day| date_of(day).to_string()).unwrap_or_default()
}
