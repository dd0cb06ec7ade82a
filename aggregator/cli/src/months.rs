//! Months as people name them.

/// Returns a month in the form that the API takes. The aggregator decides, in the billing time zone, which month is the
/// current or the last one.
pub(crate) fn month(text: Option<&str>) -> String {
    match text {
        None | Some("this" | "now") => "current".into(),
        Some("previous") => "last".into(),
        Some(text) => text.to_owned(),
    }
}
