//! Errors as gRPC status, with details that a program can read.

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::codes;
use crate::store::{Failure, StoreError};

/// A field of a request is wrong.
pub fn invalid(field: &str, description: impl Into<String>) -> Status {
    let description = description.into();
    let message = format!("{field}: {description}");
    let mut details = ErrorDetails::new();
    details.add_bad_request_violation(field, description);
    Status::with_error_details(Code::InvalidArgument, message, details)
}

/// Something that was asked for is not there.
pub fn not_found(kind: &str, name: &str, remedy: &str) -> Status {
    let mut details = ErrorDetails::new();
    details.set_resource_info(kind, name, "", remedy);
    Status::with_error_details(Code::NotFound, format!("there is no {kind} {name:?}: {remedy}"), details)
}

/// The store failed.
pub fn of_store(error: &StoreError) -> Status {
    tracing::error!(code = codes::QUERY_FAILED, reason = %error, "a question could not be answered");
    let code = match error.failure {
        Failure::Transient => Code::Unavailable,
        Failure::DiskFull => Code::ResourceExhausted,
        Failure::Corrupt => Code::DataLoss,
        Failure::Permanent => Code::FailedPrecondition,
    };
    let mut details = ErrorDetails::new();
    details.set_error_info(format!("{:?}", error.failure).to_uppercase(), "seatmeter.v1", []);
    Status::with_error_details(code, error.to_string(), details)
}
