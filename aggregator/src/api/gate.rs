//! Through which every call to the operators' port goes: who calls, may it, is it written down, and only then is it answered.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use seatmeter_proto::connection::Peer;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::methods::{Audited, Method, Who};
use super::status::{ApiError, reason_of};
use crate::access::operators::{Operators, Principal};
use crate::access::refusals::Refusals;
use crate::access::trail::{ASKED, Entry, OK, Trail};
use crate::codes;
use crate::store::{Failure, StoreError};

/// How long a client may take to send such a request.
const REQUEST_WITHIN: Duration = Duration::from_secs(30);

/// How long whoever is not known waits for the answer: who guesses, guesses slowly.
const GUESS: Duration = Duration::from_secs(1);

/// What a token is announced by.
const BEARER: &str = "Bearer ";

/// Lets in who may, and writes down what is asked.
#[derive(Clone)]
pub struct Gate {
    operators: Operators,
    trail: Trail,
    refusals: Arc<Refusals>,
}

impl Gate {
    /// Lets these operators in, and writes into this trail.
    pub fn new(operators: Operators, trail: Trail) -> Self {
        let refusals = Arc::new(Refusals::new(trail.clone()));
        Self { operators, trail, refusals }
    }

    /// Returns who calls: known by a token, else by a certificate.
    fn caller(&self, request: &Request<Body>) -> Result<Option<Principal>, ApiError> {
        if let Some(told) = request.headers().get("authorization") {
            let token = told.to_str().ok().and_then(|told| told.strip_prefix(BEARER));
            return token
                .and_then(|token| self.operators.by_token(token.trim()))
                .map(Some)
                .ok_or(ApiError::TokenUnknown);
        }
        let shown = request.extensions().get::<Peer>().and_then(|peer| peer.certificate.as_ref());
        Ok(shown.and_then(|certificate| self.operators.by_certificate(certificate)))
    }

    /// Returns who calls, if it may call the method.
    fn admit(&self, request: &Request<Body>, method: &Method) -> Result<Option<Principal>, (String, ApiError)> {
        let Who::AtLeast(role) = method.who else { return Ok(None) };
        let caller = self.caller(request).map_err(|error| (String::new(), error))?;
        let caller = caller.ok_or((String::new(), ApiError::NoToken))?;
        if !caller.customer.is_empty() && !method.is_for_customers() {
            let customer = caller.customer.clone();
            return Err((caller.name, ApiError::Confined { customer }));
        }
        if caller.role < role {
            return Err((caller.name, ApiError::NotAllowed { own: caller.role, needed: role }));
        }
        Ok(Some(caller))
    }

    async fn pass<S>(self, mut request: Request<Body>, mut inner: S) -> Result<Response<Body>, S::Error>
    where
        S: Service<Request<Body>, Response = Response<Body>> + Send + 'static,
        S::Future: Send,
        S::Error: Send,
    {
        let Some(method) = Method::of(request.uri().path()) else {
            return Ok(Status::unimplemented("there is no such method here").into_http());
        };
        let address = request.extensions().get::<Peer>().and_then(|peer| peer.address).map(|address| address.ip());
        let caller = match self.admit(&request, method) {
            Ok(caller) => caller,
            Err((who, error)) => {
                let is_guess = matches!(error, ApiError::TokenUnknown);
                return Ok(self.refuse(who, address, method, error.into(), is_guess).await.into_http());
            }
        };
        if let Some(caller) = &caller {
            let (operators, caller) = (self.operators.clone(), caller.clone());
            // When it last called is for people to know: a failure of the database is told by what needs it more.
            tokio::task::spawn_blocking(move || operators.note_use(&caller));
        }
        let entry = Entry {
            who: caller.as_ref().map(|caller| caller.name.clone()).unwrap_or_default(),
            address: address.map(|address| address.to_string()).unwrap_or_default(),
            action: method.name().to_owned(),
            ..Entry::default()
        };
        if let Some(caller) = caller {
            request.extensions_mut().insert(caller);
        }
        if method.audited == Audited::Nothing {
            return inner.call(request).await;
        }
        // A client that goes away takes nothing along of what is written down.
        let answered = tokio::spawn(async move {
            let (request, asked) = match self.write_down(request, method, entry).await {
                Ok(written) => written,
                Err(status) => return Ok(status.into_http()),
            };
            let response = inner.call(request).await?;
            let failed = Status::from_header_map(response.headers()).filter(|status| status.code() != Code::Ok);
            match (asked, failed) {
                (Some(asked), failed) => self.write_result(asked, method, failed.as_ref()).await,
                (None, Some(failed)) => {
                    return Ok(self.refuse(String::new(), address, method, failed, true).await.into_http());
                }
                (None, None) => {}
            }
            Ok(response)
        });
        answered.await.unwrap_or_else(|_| Ok(Status::from(ApiError::Internal).into_http()))
    }

    /// Writes down what is asked, if the method says so. Returns the request, and what was written.
    async fn write_down(
        &self,
        request: Request<Body>,
        method: &Method,
        entry: Entry,
    ) -> Result<(Request<Body>, Option<Entry>), Status> {
        if matches!(method.audited, Audited::Nothing | Audited::ByItself) {
            return Ok((request, None));
        }
        let (parts, body) = request.into_parts();
        let whole = tokio::time::timeout(REQUEST_WITHIN, Limited::new(body, method.most).collect()).await;
        let whole = whole.map_err(|_| Status::deadline_exceeded("the request took too long to arrive"))?;
        let whole = whole.map_err(|_| Status::resource_exhausted("the request is too long"))?.to_bytes();
        let detail = one_message(&whole).and_then(method.describe);
        let detail = detail.ok_or_else(|| Status::invalid_argument("the request is no message of this method"))?;
        let mut entry = Entry { detail, result: ASKED.to_owned(), ..entry };
        entry.result_of = self.write(entry.clone()).await.map_err(|error| Status::from(ApiError::Unrecorded(error)))?;
        Ok((Request::from_parts(parts, Body::new(Full::new(whole))), Some(entry)))
    }

    /// Writes down what came of it. That names were told needs no more words than that they were asked for.
    async fn write_result(&self, asked: Entry, method: &Method, failed: Option<&Status>) {
        if failed.is_none() && method.audited == Audited::Read {
            return;
        }
        let result = failed.map_or_else(|| OK.to_owned(), reason_of);
        if let Err(error) = self.write(Entry { result, ..asked }).await {
            tracing::error!(code = codes::AUDIT_FAILED, reason = %error, "what came of a call is not in the audit trail");
        }
    }

    async fn write(&self, entry: Entry) -> Result<i64, StoreError> {
        let trail = self.trail.clone();
        let written = tokio::task::spawn_blocking(move || trail.write(entry)).await;
        written.unwrap_or_else(|_| Err(StoreError::new(Failure::Stopped, "the aggregator is stopping")))
    }

    /// Tells that a call is refused, and writes it down; the same again, not more often than a trail can bear.
    async fn refuse(
        &self,
        who: String,
        address: Option<IpAddr>,
        method: &Method,
        status: Status,
        is_guess: bool,
    ) -> Status {
        let address = address.map(|address| address.to_string()).unwrap_or_default();
        let of = format!("{} {}", if who.is_empty() { &address } else { &who }, method.name());
        if let Some(untold) = self.refusals.note(&of) {
            let (action, reason) = (method.name(), status.message());
            tracing::warn!(code = codes::OPERATOR_REFUSED, who, address, untold, action, reason, "a call is refused");
            let detail = if untold > 0 { format!("and {untold} more before it") } else { String::new() };
            let result = reason_of(&status);
            let entry = Entry { who, address, action: action.to_owned(), detail, result, result_of: 0 };
            let refusals = self.refusals.clone();
            // If the process ends first, the health log has it.
            let _ = tokio::task::spawn_blocking(move || refusals.write(entry)).await;
        }
        if is_guess {
            tokio::time::sleep(GUESS).await;
        }
        status
    }
}

/// Returns the message of a request, if there is exactly one: what is written down must be what is answered.
fn one_message(body: &[u8]) -> Option<&[u8]> {
    // Before a message stand a mark of compression, which is not spoken here, and its length.
    let ([0, length @ ..], message) = body.split_first_chunk::<5>()? else { return None };
    (u32::from_be_bytes(*length) as usize == message.len()).then_some(message)
}

/// Puts the gate before services.
#[derive(Clone)]
pub struct GateLayer(pub Gate);

impl<S> Layer<S> for GateLayer {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { gate: self.0.clone(), inner }
    }
}

/// Services behind the gate.
#[derive(Clone)]
pub struct Guarded<S> {
    gate: Gate,
    inner: S,
}

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let fresh = self.inner.clone();
        // The one that was polled is ready; its clone need not be.
        let ready = std::mem::replace(&mut self.inner, fresh);
        Box::pin(self.gate.clone().pass(request, ready))
    }
}
