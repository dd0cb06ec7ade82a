//! Converts errors into gRPC statuses with details that a program can read: the reason, as named in the contract's
//! `ErrorReason`, the field that must change, and when to try again.

use std::time::Duration;

use seatmeter_count::Month;
use seatmeter_proto::sealed::SealedError;
use seatmeter_proto::v1::{ErrorReason, Role};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::access::authority::AuthorityError;
use crate::access::door::Refused;
use crate::access::enrolment::EnrolmentError;
use crate::access::operators::OperatorError;
use crate::codes;
use crate::fleet::FleetError;
use crate::fleet::snapshot::UnknownServer;
use crate::month::ledger::LedgerError;
use crate::month::statement::ReportError;
use crate::rules::book::RuleError;
use crate::store::{Failure, StoreError};
use crate::usage::UsageError;

/// The domain of error reasons.
const DOMAIN: &str = "seatmeter.v1";

/// How long a client should wait before it repeats a request that can succeed later.
const RETRY: Duration = Duration::from_secs(1);

/// The most known names listed in the error for an unknown name.
const MAX_KNOWN: usize = 10;

/// Why a request is not answered.
#[derive(Debug)]
pub enum ApiError {
    /// The value of a field is invalid.
    Invalid {
        /// The field, by its path in the request.
        field: &'static str,
        /// What is wrong with the value, and what to write instead.
        description: String,
    },
    /// The request names a month that has not begun.
    FutureMonth {
        /// The field that names the month.
        field: &'static str,
        /// The month that was asked for.
        month: Month,
        /// The current month, in the billing time zone.
        current: Month,
    },
    /// A page token that this method did not give out for these filters.
    PageToken,
    /// The agent sent a message that the protocol does not allow at this point of the stream.
    Protocol(&'static str),
    /// Too many requests are being answered.
    TooMany,
    /// The client of an export has not read it for too long.
    NotRead,
    /// The aggregator is stopping.
    Stopping,
    /// A question about usage has no answer.
    Usage(UsageError),
    /// A question about the fleet has no answer.
    Fleet(FleetError),
    /// An agent is not let in.
    Refused(Refused),
    /// A call about enrolments fails.
    Enrolment(EnrolmentError),
    /// The rules cannot be told or changed.
    Rules(RuleError),
    /// There is no report.
    Report(ReportError),
    /// Something cannot be done with a month.
    Ledger(LedgerError),
    /// The caller sees the reports of a customer, and nothing else.
    Confined {
        /// The customer.
        customer: String,
    },
    /// Another connection of the same agent has taken the place of this one.
    Displaced,
    /// An upload cannot be kept or taken in.
    Upload(std::io::Error),
    /// An export does not open.
    Sealed(SealedError),
    /// An export holds what it should not.
    Content(&'static str),
    /// Agents are not enrolled here.
    NoEnrolments,
    /// The call comes without a token, and without a certificate that names an operator.
    NoToken,
    /// The token is not valid.
    TokenUnknown,
    /// The operator's role may not do this.
    NotAllowed {
        /// The role.
        own: Role,
        /// The least role that may.
        needed: Role,
    },
    /// What was asked cannot be written into the audit trail.
    Unrecorded(StoreError),
    /// A call about operators fails.
    Operator(OperatorError),
    /// The database failed.
    Store(StoreError),
    /// A bug: the task that should have answered panicked.
    Internal,
}

impl ApiError {
    /// Returns the error for a field with an invalid value.
    pub fn invalid(field: &'static str, description: impl Into<String>) -> Self {
        Self::Invalid { field, description: description.into() }
    }
}

impl From<UsageError> for ApiError {
    fn from(error: UsageError) -> Self {
        Self::Usage(error)
    }
}

impl From<FleetError> for ApiError {
    fn from(error: FleetError) -> Self {
        Self::Fleet(error)
    }
}

impl From<SealedError> for ApiError {
    fn from(error: SealedError) -> Self {
        match error {
            SealedError::File(error) => Self::Upload(error),
            other => Self::Sealed(other),
        }
    }
}

impl From<Refused> for ApiError {
    fn from(error: Refused) -> Self {
        match error {
            Refused::Enrolment(error) => Self::Enrolment(error),
            other => Self::Refused(other),
        }
    }
}

impl From<EnrolmentError> for ApiError {
    fn from(error: EnrolmentError) -> Self {
        Self::Enrolment(error)
    }
}

impl From<RuleError> for ApiError {
    fn from(error: RuleError) -> Self {
        Self::Rules(error)
    }
}

impl From<LedgerError> for ApiError {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(error)
    }
}

impl From<ReportError> for ApiError {
    fn from(error: ReportError) -> Self {
        Self::Report(error)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<OperatorError> for ApiError {
    fn from(error: OperatorError) -> Self {
        Self::Operator(error)
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Invalid { field, description } => wrong_field(ErrorReason::InvalidField, field, &description),
            ApiError::PageToken => {
                let description = "was not issued by this method for these filters: begin with an empty token";
                wrong_field(ErrorReason::InvalidPageToken, "page_token", description)
            }
            ApiError::Protocol(text) => with_reason(Code::InvalidArgument, ErrorReason::Protocol, text),
            ApiError::TooMany => {
                let text = "too many requests are being answered: ask again in a moment";
                retryable(Code::ResourceExhausted, ErrorReason::TooManyRequests, text)
            }
            ApiError::NotRead => {
                let text = "the export was not read for too long, and is cut short: ask again";
                with_reason(Code::Aborted, ErrorReason::NotRead, text)
            }
            ApiError::Stopping => retryable(Code::Unavailable, ErrorReason::Stopping, "the aggregator is stopping"),
            ApiError::Usage(UsageError::Store(error)) | ApiError::Fleet(FleetError::Store(error)) => store(&error),
            ApiError::Fleet(error @ (FleetError::UnknownStream(_) | FleetError::SeveralStreams { .. })) => {
                Status::from(ApiError::invalid("stream", error.to_string()))
            }
            ApiError::Fleet(error @ FleetError::UnknownLog { .. }) => {
                Status::from(ApiError::invalid("log", error.to_string()))
            }
            ApiError::Fleet(error @ FleetError::StillReports(_)) => {
                Status::from(ApiError::invalid("name", error.to_string()))
            }
            ApiError::Usage(UsageError::UnknownServer(error)) | ApiError::Fleet(FleetError::UnknownServer(error)) => {
                unknown_server(&error)
            }
            ApiError::Usage(UsageError::UnknownSku { id, known }) => {
                unknown(ErrorReason::UnknownSku, "sku", "SKU", &id, &known)
            }
            ApiError::FutureMonth { field, month, current } => {
                let description = format!("{month} has not begun; the current month is {current}");
                wrong_field(ErrorReason::FutureMonth, field, &description)
            }
            ApiError::Usage(UsageError::FutureMonth { month, current }) => {
                ApiError::FutureMonth { field: "month", month, current }.into()
            }
            ApiError::Refused(Refused::Enrolment(error)) | ApiError::Enrolment(error) => enrolment(&error),
            ApiError::Refused(error @ Refused::NoCertificate) => {
                with_reason(Code::Unauthenticated, ErrorReason::Unauthenticated, &error.to_string())
            }
            ApiError::Refused(error) => {
                with_reason(Code::PermissionDenied, ErrorReason::NotEnrolled, &error.to_string())
            }
            ApiError::NoEnrolments => {
                let text =
                    "agents are not enrolled here: leave certificate, key and plaintext out of [agents], and restart";
                with_reason(Code::FailedPrecondition, ErrorReason::NoEnrolments, text)
            }
            ApiError::Upload(error) => {
                tracing::error!(code = codes::QUERY_FAILED, reason = %error, "an export cannot be taken in");
                let text = format!("the export cannot be taken in: {error}; nothing is lost: import it again");
                with_reason(Code::Unavailable, ErrorReason::DatabaseUnusable, &text)
            }
            ApiError::Sealed(error) => wrong_field(ErrorReason::InvalidField, "upload", &error.to_string()),
            ApiError::Content(what) => {
                let text =
                    format!("the export holds {what}: it was not made by `seatmeter-agent export`, or was altered");
                wrong_field(ErrorReason::InvalidField, "upload", &text)
            }
            ApiError::Rules(error) => rules(&error),
            ApiError::Confined { customer } => {
                let text =
                    format!("you see the reports of customer {customer:?}, and nothing else: ask an administrator");
                let details = details_with(ErrorReason::NotAllowed, [("customer".to_owned(), customer)]);
                Status::with_error_details(Code::PermissionDenied, text, details)
            }
            ApiError::Ledger(LedgerError::Store(error)) => store(&error),
            ApiError::Ledger(LedgerError::Report(error)) => ApiError::Report(error).into(),
            ApiError::Ledger(error) => {
                with_reason(Code::FailedPrecondition, ErrorReason::MonthState, &few(&error.to_string()))
            }
            ApiError::Report(ReportError::Usage(error)) => ApiError::Usage(error).into(),
            ApiError::Report(ReportError::UnknownCustomer { id, known }) => {
                unknown(ErrorReason::UnknownCustomer, "customer", "customer", &id, &known)
            }
            ApiError::Displaced => Status::aborted("another connection of this agent has taken the place of this one"),
            ApiError::NoToken => {
                let text = "who are you? Log in (`seatmeter login`), or give a token (--token-file)";
                with_reason(Code::Unauthenticated, ErrorReason::Unauthenticated, text)
            }
            ApiError::TokenUnknown => {
                let text = "the token is not valid, or not any more: log in again (`seatmeter login`)";
                with_reason(Code::Unauthenticated, ErrorReason::Unauthenticated, text)
            }
            ApiError::NotAllowed { own, needed } => {
                let (own, needed) = (role_name(own), role_name(needed));
                let text = format!("this takes the role {needed}, and yours is {own}: ask an administrator");
                let details = details_with(ErrorReason::NotAllowed, [("role".to_owned(), needed)]);
                Status::with_error_details(Code::PermissionDenied, text, details)
            }
            ApiError::Unrecorded(error) => {
                let known = store(&error);
                let text = format!("nothing was done, since the audit trail cannot be written: {}", known.message());
                Status::with_error_details(known.code(), text, known.get_error_details())
            }
            ApiError::Operator(error) => operator(&error),
            ApiError::Store(error) => store(&error),
            ApiError::Internal => {
                let text = "the request could not be answered; this is a bug: please report it";
                with_reason(Code::Internal, ErrorReason::Internal, text)
            }
        }
    }
}

/// The most bytes of an error text: it travels in headers, twice, and encoded.
const MOST_TEXT: usize = 1500;

/// Returns as many lines of a text as an error can tell, and how many more there are.
pub(super) fn few(text: &str) -> String {
    let mut told = String::new();
    for (index, line) in text.lines().enumerate() {
        if !told.is_empty() && told.len() + line.len() > MOST_TEXT {
            return format!("{told}\nand {} more", text.lines().count() - index);
        }
        let separator = if told.is_empty() { "" } else { "\n" };
        told = format!("{told}{separator}{}", &line[..line.floor_char_boundary(MOST_TEXT)]);
    }
    told
}

/// Returns the status of a call about rules that fails.
fn rules(error: &RuleError) -> Status {
    let text = error.to_string();
    match error {
        RuleError::Store(error) => store(error),
        RuleError::Problems(_) => wrong_field(ErrorReason::RulesContradict, "add", &few(&text)),
        RuleError::NoRule(_) => with_reason(Code::NotFound, ErrorReason::UnknownRule, &text),
        RuleError::NoVersion(_) => with_reason(Code::NotFound, ErrorReason::UnknownRule, &text),
        RuleError::Configured(_) => wrong_field(ErrorReason::InvalidField, "remove", &text),
        RuleError::Changed(_) => with_reason(Code::Aborted, ErrorReason::RulesChanged, &text),
        RuleError::Nothing => with_reason(Code::FailedPrecondition, ErrorReason::NothingChanges, &text),
        RuleError::TooMany => wrong_field(ErrorReason::InvalidField, "add", &text),
    }
}

/// Returns the status of a call about enrolments that fails.
pub(super) fn enrolment(error: &EnrolmentError) -> Status {
    let text = error.to_string();
    match error {
        EnrolmentError::Store(error) => store(error),
        EnrolmentError::Authority(AuthorityError::Step(_) | AuthorityError::LeftBehind { .. }) => {
            with_reason(Code::FailedPrecondition, ErrorReason::InvalidField, &text)
        }
        EnrolmentError::Authority(error) => {
            tracing::error!(code = codes::QUERY_FAILED, reason = %error, "no certificate can be issued");
            with_reason(Code::Internal, ErrorReason::Internal, &text)
        }
        EnrolmentError::Request(_) => wrong_field(ErrorReason::InvalidField, "signing_request", &text),
        EnrolmentError::NoServer => wrong_field(ErrorReason::InvalidField, "license_server", &text),
        EnrolmentError::Invitation => with_reason(Code::PermissionDenied, ErrorReason::InvitationRefused, &text),
        EnrolmentError::Unknown | EnrolmentError::Expired => {
            with_reason(Code::Unauthenticated, ErrorReason::Unauthenticated, &text)
        }
        EnrolmentError::Revoked(_)
        | EnrolmentError::Superseded(_)
        | EnrolmentError::TooOften(_)
        | EnrolmentError::Rejected(_)
        | EnrolmentError::Copy(_)
        | EnrolmentError::TooManyCopies(_)
        | EnrolmentError::OtherServer { .. }
        | EnrolmentError::OtherRealm { .. }
        | EnrolmentError::Waits { .. } => with_reason(Code::PermissionDenied, ErrorReason::NotEnrolled, &text),
        EnrolmentError::NoCopy(_) | EnrolmentError::SeveralCopies { .. } => {
            wrong_field(ErrorReason::InvalidField, "copy", &text)
        }
        EnrolmentError::NoEnrolment(_) | EnrolmentError::Several { .. } => {
            with_reason(Code::NotFound, ErrorReason::UnknownEnrolment, &text)
        }
    }
}

fn operator(error: &OperatorError) -> Status {
    let text = error.to_string();
    match error {
        OperatorError::Store(error) => store(error),
        OperatorError::Random => with_reason(Code::Internal, ErrorReason::Internal, &text),
        OperatorError::Invitation => with_reason(Code::PermissionDenied, ErrorReason::InvitationRefused, &text),
        OperatorError::Unknown(_) => with_reason(Code::NotFound, ErrorReason::UnknownOperator, &text),
        OperatorError::Exists(_) => with_reason(Code::AlreadyExists, ErrorReason::OperatorExists, &text),
        OperatorError::CertificateTaken { .. } => wrong_field(ErrorReason::InvalidField, "certificate_name", &text),
        OperatorError::LastAdmin(_) => with_reason(Code::FailedPrecondition, ErrorReason::LastAdmin, &text),
        OperatorError::Disabled(_) => wrong_field(ErrorReason::InvalidField, "name", &text),
        OperatorError::NoToken(_) => with_reason(Code::NotFound, ErrorReason::UnknownToken, &text),
        OperatorError::TooMany => with_reason(Code::ResourceExhausted, ErrorReason::InvalidField, &text),
        OperatorError::Name => wrong_field(ErrorReason::InvalidField, "name", &text),
        OperatorError::TokenExists => wrong_field(ErrorReason::InvalidField, "token_sha256", &text),
    }
}

/// Returns the name of a role, as operators write it.
fn role_name(role: Role) -> String {
    role.as_str_name().trim_start_matches("ROLE_").to_ascii_lowercase()
}

/// Returns the reason of a status, as the audit trail has it.
pub(super) fn reason_of(status: &Status) -> String {
    status.get_details_error_info().map_or_else(|| format!("{:?}", status.code()), |info| info.reason)
}

fn unknown_server(UnknownServer { name, known }: &UnknownServer) -> Status {
    unknown(ErrorReason::UnknownLicenseServer, "license_server", "license server", name, known)
}

/// Returns details with the reason, named as in the contract but without the prefix `ERROR_REASON_`.
fn details(reason: ErrorReason) -> ErrorDetails {
    details_with(reason, [])
}

fn details_with<const N: usize>(reason: ErrorReason, metadata: [(String, String); N]) -> ErrorDetails {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason.as_str_name().trim_start_matches("ERROR_REASON_"), DOMAIN, metadata);
    details
}

fn with_reason(code: Code, reason: ErrorReason, text: &str) -> Status {
    Status::with_error_details(code, text, details(reason))
}

fn retryable(code: Code, reason: ErrorReason, text: &str) -> Status {
    let mut details = details(reason);
    details.set_retry_info(Some(RETRY));
    Status::with_error_details(code, text, details)
}

fn wrong_field(reason: ErrorReason, field: &str, description: &str) -> Status {
    let mut details = details(reason);
    details.add_bad_request_violation(field, description);
    Status::with_error_details(Code::InvalidArgument, format!("{field}: {description}"), details)
}

/// Returns the status for an unknown name. Lists some of the known names.
fn unknown(reason: ErrorReason, field: &str, kind: &str, name: &str, known: &[String]) -> Status {
    let listed = known.iter().take(MAX_KNOWN).cloned().collect::<Vec<_>>().join(", ");
    let more = known.len().saturating_sub(MAX_KNOWN);
    let remedy = match (known.is_empty(), more) {
        (true, _) => format!("no {kind} has reported yet"),
        (false, 0) => format!("known: {listed}"),
        (false, more) => format!("known: {listed} and {more} more"),
    };
    let mut details = details_with(reason, [("known".to_owned(), listed)]);
    details.add_bad_request_violation(field, remedy.clone());
    details.set_resource_info(kind, name, "", remedy.clone());
    Status::with_error_details(Code::NotFound, format!("there is no {kind} {name:?}; {remedy}"), details)
}

fn store(error: &StoreError) -> Status {
    tracing::error!(code = codes::QUERY_FAILED, reason = %error, "a request could not be answered");
    let text = error.to_string();
    match error.failure {
        Failure::Transient | Failure::Stopped => retryable(Code::Unavailable, ErrorReason::DatabaseBusy, &text),
        Failure::DiskFull => with_reason(Code::ResourceExhausted, ErrorReason::DiskFull, &text),
        Failure::Corrupt => with_reason(Code::DataLoss, ErrorReason::DatabaseDamaged, &text),
        Failure::Permanent => with_reason(Code::FailedPrecondition, ErrorReason::DatabaseUnusable, &text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_lines() {
        let text: Vec<String> = (0..100).map(|number| format!("line {number}: {}", "x".repeat(100))).collect();
        let told = few(&text.join("\n"));
        assert!(told.len() < MOST_TEXT + 20 && told.ends_with("and 87 more"), "{told}");
        assert_eq!(few("one\ntwo"), "one\ntwo");
        assert_eq!(few(&"ä".repeat(2000)).len(), MOST_TEXT);
    }

    #[test]
    fn an_error_names_its_reason_the_field_and_the_remedy() {
        let known = (0..12).map(|number| format!("lic{number}")).collect();
        let error = UsageError::UnknownServer(UnknownServer { name: "nowhere".into(), known });
        let status = Status::from(ApiError::from(error));
        assert_eq!(status.code(), Code::NotFound);
        assert!(status.message().ends_with("lic9 and 2 more"), "{}", status.message());
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("UNKNOWN_LICENSE_SERVER", DOMAIN));
        assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "license_server");
        let busy = Status::from(ApiError::TooMany);
        assert_eq!(busy.get_details_retry_info().unwrap().retry_delay, Some(RETRY));
        assert_eq!(busy.get_details_error_info().unwrap().reason, "TOO_MANY_REQUESTS");
    }
}
