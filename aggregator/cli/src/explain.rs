//! Errors for people: what went wrong, in the words of the command line, and what to do.

use std::error::Error;

use seatmeter_proto::transport::with_causes;
use seatmeter_service::screen::text::visible;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Returns the text for an error. No text of a library reaches the screen.
pub(crate) fn explain(error: &anyhow::Error) -> String {
    match error.downcast_ref::<Status>() {
        Some(status) => of_status(status),
        None => with_causes(error.as_ref()),
    }
}

fn of_status(status: &Status) -> String {
    if status.code() == Code::Unimplemented {
        return "this is the port for agents, or an older aggregator: operators connect to another port (by default 7471; \
                see --aggregator)"
            .into();
    }
    // The client made a status that has a source: the connection failed, and the aggregator sent no status.
    if status.source().is_some() {
        return "the aggregator closed the connection; see its health log, or ask again".into();
    }
    let text = visible(status.message());
    match status.get_details_bad_request() {
        Some(wrong) if status.code() == Code::InvalidArgument && !wrong.field_violations.is_empty() => {
            let fields = wrong.field_violations.iter();
            fields
                .map(|field| format!("{}: {}", flag(&field.field), visible(&field.description)))
                .collect::<Vec<_>>()
                .join("; ")
        }
        _ => text,
    }
}

/// Returns the command-line argument that sets a field of a request.
fn flag(field: &str) -> &str {
    match field {
        "from_month" => "--from",
        "through_month" => "--through",
        "license_server" => "--server",
        "sku" => "--sku",
        "valid_for" => "--ttl",
        "label" => "--for",
        "certificate_name" => "--certificate-name",
        "action" => "--action",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn an_error_speaks_of_flags_and_never_of_a_library() {
        let mut details = ErrorDetails::new();
        details.add_bad_request_violation("from_month", "2026-05 is after the last month, 2026-01");
        let status = Status::with_error_details(Code::InvalidArgument, "from_month: ...", details);
        assert_eq!(explain(&status.into()), "--from: 2026-05 is after the last month, 2026-01");
        let broken = Status::from_error(Box::new(std::io::Error::other("h2 protocol error: http2 error")));
        assert!(explain(&broken.into()).starts_with("the aggregator closed the connection"));
        assert!(explain(&Status::unimplemented("").into()).contains("port for agents"));
    }
}
