//! Months as people name them.

/// A month as the API takes it. Which month is the current or the last one, the aggregator decides, in the billing time
/// zone.
pub(crate) fn month(text: Option<&str>) -> String {
    match text {
        None | Some("this" | "now") => "current".into(),
        Some("previous") => "last".into(),
        Some(text) => text.to_owned(),
    }
}
