//! Months and lengths of time as people name them.

use jiff::{Span, SpanRelativeTo};

/// Returns a month in the form that the API takes. The aggregator decides, in the billing time zone, which month is the
/// current or the last one.
pub(crate) fn month(text: Option<&str>) -> String {
    match text {
        None | Some("this" | "now") => "current".into(),
        Some("previous") => "last".into(),
        Some(text) => text.to_owned(),
    }
}

/// Reads a time, as `30m` or `7d`.
pub(crate) fn time(text: &str) -> Result<prost_types::Duration, String> {
    let duration = text.parse::<Span>().and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()));
    let duration = duration.map_err(|_| "write a time as 30m, 2h or 7d".to_owned())?;
    Ok(prost_types::Duration { seconds: duration.as_secs(), nanos: 0 })
}
