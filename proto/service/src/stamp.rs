//! Reads and writes times: seconds since 1970 UTC in Rust, RFC 3339 in JSON.

use crate::screen::text::rfc3339;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Reads and writes an optional time; `None` is `null`.
pub mod optional {
    use super::*;

    /// Writes a time; one that no calendar has becomes `null`.
    pub fn serialize<S: Serializer>(seconds: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
        seconds.and_then(rfc3339).serialize(serializer)
    }

    /// Reads a time.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
        let text: Option<String> = Option::deserialize(deserializer)?;
        text.map(|text| parse(&text).map_err(serde::de::Error::custom)).transpose()
    }
}

/// Writes a time; one that no calendar has becomes `null`.
pub fn serialize<S: Serializer>(seconds: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    rfc3339(*seconds).serialize(serializer)
}

/// Reads a time.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

fn parse(text: &str) -> Result<i64, jiff::Error> {
    text.parse::<Timestamp>().map(Timestamp::as_second)
}
