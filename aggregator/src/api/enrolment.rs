//! `seatmeter.v1.EnrolmentService`: how agents get certificates.

use seatmeter_proto::timestamp;
use seatmeter_proto::v1::enrolment_service_server::EnrolmentService;
use seatmeter_proto::v1::{EnrolRequest, EnrolResponse, RenewRequest, RenewResponse};
use tonic::{Request, Response, Status};

use super::ingest::MAX_TEXT;
use super::status::ApiError;
use super::{ConcurrencyLimit, answer};
use crate::access::enrolment::{EnrolmentError, Enrolments};
use crate::codes;

/// The most bytes of a signing request, of a certificate or of a signature.
const MAX_DER: usize = 16 << 10;

/// Issues certificates to agents.
pub struct EnrolmentApi {
    enrolments: Enrolments,
    limit: ConcurrencyLimit,
}

impl EnrolmentApi {
    /// Creates the service over enrolments, with a limit on requests.
    pub fn new(enrolments: Enrolments, limit: ConcurrencyLimit) -> Self {
        Self { enrolments, limit }
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
        let asked = request.into_inner();
        must_fit("signing_request", &asked.signing_request, MAX_DER)?;
        for (field, text) in [("license_server", &asked.license_server), ("host", &asked.host)] {
            must_fit(field, text.as_bytes(), MAX_TEXT)?;
            if text.chars().any(char::is_control) {
                return Err(ApiError::invalid(field, "has control characters").into());
            }
        }
        let enrolments = self.enrolments.clone();
        answer(move || {
            let issued =
                enrolments.enrol(&asked.secret, &asked.signing_request, asked.license_server.trim(), &asked.host)?;
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
        let asked = request.into_inner();
        must_fit("certificate", &asked.certificate, MAX_DER)?;
        must_fit("signing_request", &asked.signing_request, MAX_DER)?;
        must_fit("signature", &asked.signature, MAX_DER)?;
        let enrolments = self.enrolments.clone();
        answer(move || {
            let issued = enrolments.renew(&asked.certificate, &asked.signing_request, &asked.signature)?;
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
