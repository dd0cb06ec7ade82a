//! What invitations have in common, of agents and of operators.

use std::time::Duration;

use seatmeter_proto::invitation::MOST_URL;
use seatmeter_proto::transport::Dialer;

use super::status::ApiError;

/// A day.
pub(super) const DAY: Duration = Duration::from_secs(86_400);

/// The shortest time for which something can be valid.
const SHORTEST: Duration = Duration::from_secs(60);

/// Returns for how long something is to be valid: as asked, which is at most so many days, else as usual.
pub(super) fn valid_for(
    asked: Option<prost_types::Duration>,
    usual: Duration,
    most_days: u32,
) -> Result<Duration, ApiError> {
    let Some(asked) = asked else { return Ok(usual) };
    let asked = Duration::try_from(asked).ok().filter(|asked| (SHORTEST..=DAY * most_days).contains(asked));
    asked.ok_or_else(|| ApiError::invalid("valid_for", format!("must be from a minute to {most_days} days")))
}

/// Returns the aggregator's address that an invitation tells: as asked, else the usual one.
pub(super) fn url(asked: String, usual: &str) -> Result<String, ApiError> {
    let url = if asked.is_empty() { usual.to_owned() } else { asked };
    Dialer::check(&url).map_err(|error| ApiError::invalid("url", error.to_string()))?;
    if url.len() > MOST_URL || url.contains('@') {
        return Err(ApiError::invalid("url", format!("must have at most {MOST_URL} bytes, and no user")));
    }
    Ok(url)
}
