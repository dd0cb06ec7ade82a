//! `seatmeter.v1.EnrolmentService`: how agents get certificates.

use std::net::IpAddr;
use std::sync::Arc;

use seatmeter_proto::timestamp;
use seatmeter_proto::v1::enrolment_service_server::EnrolmentService;
use seatmeter_proto::v1::{EnrolRequest, EnrolResponse, RenewRequest, RenewResponse};
use tonic::{Request, Response, Status};

use super::ingest::MAX_GENERATION;
use super::ingest::MAX_TEXT;
use super::status::{ApiError, enrolment, reason_of};
use super::{ConcurrencyLimit, address, answer};
use crate::access::enrolment::{EnrolmentError, Enrolments};
use crate::access::refusals::Refusals;
use crate::access::trail::Entry;
use crate::codes;

/// The most bytes of a signing request, of a certificate or of a signature.
const MAX_DER: usize = 16 << 10;

/// Issues certificates to agents.
#[derive(Clone)]
pub struct EnrolmentApi {
    enrolments: Enrolments,
    limit: ConcurrencyLimit,
    refusals: Arc<Refusals>,
}

impl EnrolmentApi {
    /// Creates the service over enrolments, with a limit on requests.
    pub fn new(enrolments: Enrolments, limit: ConcurrencyLimit, refusals: Arc<Refusals>) -> Self {
        Self { enrolments, limit, refusals }
    }

    /// Tells that a call was refused. What the database fails is told elsewhere.
    fn tell<T>(&self, address: Option<IpAddr>, action: &str, outcome: &Result<T, EnrolmentError>) {
        let Err(error) = outcome else { return };
        if matches!(error, EnrolmentError::Store(_) | EnrolmentError::Authority(_)) {
            return;
        }
        let address = address.map(|address| address.to_string()).unwrap_or_default();
        if let Some(untold) = self.refusals.note(&address) {
            tracing::warn!(code = codes::AGENT_REFUSED, address, untold, reason = %error, "an agent gets no certificate");
            let result = reason_of(&enrolment(error));
            self.refusals.write(Entry { address, action: action.to_owned(), result, ..Entry::default() });
        }
    }
}

fn must_fit(field: &'static str, bytes: &[u8], most: usize) -> Result<(), ApiError> {
    if bytes.len() > most {
        return Err(ApiError::invalid(field, format!("has more than {most} bytes")));
    }
    Ok(())
}

#[tonic::async_trait]
impl EnrolmentService for EnrolmentApi {
    async fn enrol(&self, request: Request<EnrolRequest>) -> Result<Response<EnrolResponse>, Status> {
        let _permit = self.limit.enter()?;
        let (address, asked) = (address(&request), request.into_inner());
        must_fit("signing_request", &asked.signing_request, MAX_DER)?;
        for (field, text) in [("license_server", &asked.license_server), ("host", &asked.host)] {
            must_fit(field, text.as_bytes(), MAX_TEXT)?;
            if text.chars().any(char::is_control) {
                return Err(ApiError::invalid(field, "has control characters").into());
            }
        }
        let api = self.clone();
        answer(move || {
            let license_server = asked.license_server.trim();
            let said = (license_server, asked.host.as_str());
            let issued = api.enrolments.enrol(&asked.secret, &asked.signing_request, said, address);
            api.tell(address, "Enrol", &issued);
            let issued = issued?;
            let license_server = &issued.license_server;
            tracing::info!(code = codes::AGENT_ENROLLED, license_server, host = asked.host, "an agent is enrolled");
            Ok::<_, EnrolmentError>(EnrolResponse {
                certificate: issued.certificate,
                license_server: issued.license_server,
                realm: issued.realm,
                expires_at: Some(timestamp(issued.expires_at)),
            })
        })
        .await
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        let _permit = self.limit.enter()?;
        let (address, asked) = (address(&request), request.into_inner());
        must_fit("certificate", &asked.certificate, MAX_DER)?;
        must_fit("signing_request", &asked.signing_request, MAX_DER)?;
        must_fit("signature", &asked.signature, MAX_DER)?;
        must_fit("generation", &asked.generation, MAX_GENERATION)?;
        let api = self.clone();
        answer(move || {
            let proof = (&*asked.signature, &*asked.generation);
            let issued = api.enrolments.renew(&asked.certificate, &asked.signing_request, proof);
            api.tell(address, "Renew", &issued);
            let issued = issued?;
            if issued.is_recovery {
                let license_server = &issued.license_server;
                tracing::info!(code = codes::AGENT_RECOVERED, license_server, "an expired certificate is renewed");
            }
            Ok::<_, EnrolmentError>(RenewResponse {
                certificate: issued.certificate,
                expires_at: Some(timestamp(issued.expires_at)),
            })
        })
        .await
    }
}
