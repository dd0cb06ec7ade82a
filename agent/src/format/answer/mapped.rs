//! Answers in a shape that the configuration declares, so that any license manager can be asked whose answers are lines, CSV or
//! JSON.

use std::borrow::Cow;

use jiff::civil::DateTime;
use jiff::fmt::strtime::{self, BrokenDownTime};
use regex_lite::{Captures, Regex};
use seatmeter_count::calendar::day_of;
use seatmeter_count::name::decode;
use serde::Deserialize;
use serde_json::Value;

use super::pool::{self, Expiry, Pool};
use super::text::lines;
use super::{Answer, Holding, Name, NoAnswer, Seat};
use crate::format::Stamp;

/// The shape of answers, and where in them stands what.
#[derive(Clone, Debug)]
pub struct Mapping {
    shape: Shape,
    fields: Fields,
    /// The vendor daemon of all seats.
    daemon: String,
    /// The feature of all seats; empty if the answers tell it.
    feature: String,
    /// The form of times, as `strftime` has it; `None` for ISO 8601 and for seconds since 1970.
    since_format: Option<String>,
    /// A text that an answer in which nobody holds a seat contains.
    empty_if: Option<String>,
    /// Whether rows tell which licenses there are, and nothing of who uses them.
    tells_licenses: bool,
}

#[derive(Clone, Debug)]
enum Shape {
    /// A line for each session. Headings name the feature of the lines that follow.
    Lines { pattern: Regex, heading: Option<Regex> },
    /// A table with a heading.
    Csv { separator: u8 },
    /// An array of objects, behind a JSON pointer.
    Json { rows: String },
}

/// Where a column of CSV or a member of a JSON object stands, by its name or as a JSON pointer.
#[derive(Clone, Debug, Default)]
struct Fields {
    user: Option<String>,
    host: Option<String>,
    feature: Option<String>,
    since: Option<String>,
    session: Option<String>,
    seats: Option<String>,
    licenses: Option<String>,
    version: Option<String>,
    expires: Option<String>,
}

/// The settings of a mapping, as they stand in the configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pattern: Option<String>,
    heading: Option<String>,
    separator: Option<char>,
    rows: Option<String>,
    user: Option<String>,
    host: Option<String>,
    feature: Option<String>,
    feature_is: Option<String>,
    daemon_is: Option<String>,
    since: Option<String>,
    since_format: Option<String>,
    session: Option<String>,
    seats: Option<String>,
    licenses: Option<String>,
    version: Option<String>,
    expires: Option<String>,
    empty_if: Option<String>,
}

impl Mapping {
    /// The names of the shapes in the configuration.
    pub const SHAPES: [&str; 3] = ["lines", "csv", "json"];

    /// Checks settings for a shape. The error says what is wrong, for people.
    pub fn new(shape: &str, settings: Settings) -> Result<Self, String> {
        let are_lines = shape == "lines";
        let fields = Fields {
            user: settings.user,
            host: settings.host,
            feature: settings.feature,
            since: settings.since,
            session: settings.session,
            seats: settings.seats,
            licenses: settings.licenses,
            version: settings.version,
            expires: settings.expires,
        };
        let regex = |name: &str, text: &str| Regex::new(text).map_err(|error| format!("read.{name}: {error}"));
        if !are_lines && (settings.pattern.is_some() || settings.heading.is_some()) {
            return Err("read.pattern and read.heading are for `format = \"lines\"`".into());
        }
        if shape != "csv" && settings.separator.is_some() {
            return Err("read.separator is for `format = \"csv\"`".into());
        }
        if shape != "json" && settings.rows.is_some() {
            return Err("read.rows is for `format = \"json\"`".into());
        }
        let shape = match shape {
            "lines" => {
                if fields.is_any() {
                    return Err("`format = \"lines\"` takes names from groups of read.pattern, as (?<user>\\S+)".into());
                }
                let pattern = settings
                    .pattern
                    .ok_or("read.pattern is missing: a regular expression with groups, as (?<user>\\S+)")?;
                let heading = settings.heading.map(|heading| regex("heading", &heading)).transpose()?;
                Shape::Lines { pattern: regex("pattern", &pattern)?, heading }
            }
            "csv" => {
                let separator = settings.separator.unwrap_or(',');
                Shape::Csv {
                    separator: u8::try_from(u32::from(separator))
                        .ok()
                        .filter(u8::is_ascii)
                        .ok_or("read.separator must be one ASCII character")?,
                }
            }
            _ => Shape::Json { rows: settings.rows.unwrap_or_default() },
        };
        let has_group = |name: &str| match &shape {
            Shape::Lines { pattern, .. } => pattern.capture_names().flatten().any(|group| group == name),
            Shape::Csv { .. } | Shape::Json { .. } => false,
        };
        let has_heading = |name: &str| match &shape {
            Shape::Lines { heading: Some(heading), .. } => heading.capture_names().flatten().any(|group| group == name),
            _ => false,
        };
        let tells_users = fields.user.is_some() || fields.host.is_some() || has_group("user") || has_group("host");
        let tells_licenses = fields.licenses.is_some() || has_group("licenses");
        if !tells_users && !tells_licenses {
            return Err(
                "read says neither `user` nor `host`: who holds the seats? (Or `licenses`: how many are there?)".into(),
            );
        }
        if tells_users && tells_licenses {
            return Err("read says who holds seats, and `licenses` too: make two sources of it".into());
        }
        let feature = settings.feature_is.unwrap_or_default();
        if feature.is_empty() && fields.feature.is_none() && !has_group("feature") && !has_heading("feature") {
            return Err(
                "read says no `feature`: name where it stands, or the only one there is with `feature_is`".into()
            );
        }
        if let Some(format) = &settings.since_format {
            // Any moment will do: what it is written as must be read as the same one.
            let moment = jiff::Timestamp::UNIX_EPOCH.in_tz("UTC").map_err(|error| error.to_string())?;
            let read = strtime::format(format, &moment)
                .and_then(|written| BrokenDownTime::parse(format, written)?.to_datetime())
                .map_err(|error| format!("read.since_format: {error}"))?;
            if read != moment.datetime() {
                return Err("read.since_format does not tell a date and a time of day".into());
            }
        }
        let daemon = settings.daemon_is.unwrap_or_default();
        let (since_format, empty_if) = (settings.since_format, settings.empty_if.filter(|text| !text.is_empty()));
        Ok(Self { shape, fields, daemon, feature, since_format, empty_if, tells_licenses })
    }

    /// Reads an answer.
    pub fn read<'a>(&self, answer: &'a [u8]) -> Result<Answer<'a>, NoAnswer> {
        let mut read = Answer { knows_nobody: self.tells_licenses, ..Answer::default() };
        let has_table = match &self.shape {
            Shape::Lines { pattern, heading } => {
                self.read_lines(answer, pattern, heading.as_ref(), &mut read);
                false
            }
            Shape::Csv { separator } => self.read_csv(answer, *separator, &mut read)?,
            Shape::Json { rows } => self.read_json(answer, rows, &mut read)?,
        };
        let is_empty =
            self.empty_if.as_ref().is_some_and(|text| memchr::memmem::find(answer, text.as_bytes()).is_some());
        if self.tells_licenses && read.pools.is_none() {
            return Err(NoAnswer::NoFeature("no row tells licenses, and that does not mean that there are none"));
        }
        if !self.tells_licenses && read.seats.is_empty() && !has_table && !is_empty {
            return Err(NoAnswer::NoFeature(
                "if it means that nobody holds a seat, say by `read.empty_if` how it shows",
            ));
        }
        Ok(read)
    }

    fn read_lines<'a>(&self, answer: &'a [u8], pattern: &Regex, heading: Option<&Regex>, read: &mut Answer<'a>) {
        let mut feature = self.feature.clone();
        for line in lines(answer) {
            let text = decode(line);
            if let Some(found) = heading.and_then(|heading| heading.captures(&text)) {
                feature = group(&found, "feature").unwrap_or_default().to_owned();
                read.ignored();
                continue;
            }
            let Some(found) = pattern.captures(&text) else {
                read.ignored();
                continue;
            };
            let row = |name: &str| group(&found, name).map(str::to_owned);
            let feature = row("feature").unwrap_or_else(|| feature.clone());
            self.row(feature, &|name, _| row(name), line.into(), read);
        }
    }

    /// Returns whether there is a table, with all columns that the mapping names.
    fn read_csv<'a>(&self, answer: &'a [u8], separator: u8, read: &mut Answer<'a>) -> Result<bool, NoAnswer> {
        let damaged = |error: csv::Error| NoAnswer::Damaged(error.to_string());
        let mut reader = csv::ReaderBuilder::new().delimiter(separator).flexible(true).from_reader(answer);
        let names: Vec<String> =
            reader.byte_headers().map_err(damaged)?.iter().map(|name| decode(name.trim_ascii()).into_owned()).collect();
        if let Some(missing) = self.fields.all().find(|wanted| !names.iter().any(|name| name == wanted)) {
            return Err(NoAnswer::Damaged(format!(
                "its heading has no column {missing:?}; there are: {}",
                names.join(", ")
            )));
        }
        for record in reader.byte_records() {
            let record = record.map_err(damaged)?;
            let column = |name: &str| {
                let value = record.get(names.iter().position(|known| known == name)?)?;
                Some(decode(value.trim_ascii()).into_owned()).filter(|value| !value.is_empty())
            };
            let feature = self.fields.feature.as_ref().and_then(|name| column(name)).unwrap_or(self.feature.clone());
            let sample = record.as_slice().to_vec();
            self.row(feature, &|_, place| column(place?), sample.into(), read);
        }
        Ok(true)
    }

    /// Returns whether there is an array.
    fn read_json<'a>(&self, answer: &'a [u8], rows: &str, read: &mut Answer<'a>) -> Result<bool, NoAnswer> {
        let parsed: Value = serde_json::from_slice(without_mark(answer).trim_ascii())
            .map_err(|error| NoAnswer::Damaged(error.to_string()))?;
        let Some(Value::Array(found)) = parsed.pointer(rows) else {
            let reason = format!(
                "there is no array at {rows:?}, which is a JSON pointer: \"\" is the answer itself, \"/a/b\" b in a"
            );
            return Err(NoAnswer::Damaged(reason));
        };
        for object in found {
            let member = |place: &str| {
                let value = if place.starts_with('/') { object.pointer(place) } else { object.get(place) };
                match value? {
                    Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
                    // A part of the answer, and no name.
                    Value::Null | Value::Object(_) | Value::Array(_) => None,
                    other => Some(other.to_string()),
                }
            };
            let feature = self.fields.feature.as_ref().and_then(|place| member(place)).unwrap_or(self.feature.clone());
            self.row(feature, &|_, place| member(place?), object.to_string().into_bytes().into(), read);
        }
        Ok(true)
    }

    /// Takes a row, whose values `value` returns by the name of a group, or by the place that the mapping names.
    fn row<'a>(
        &self,
        feature: String,
        value: &dyn Fn(&str, Option<&str>) -> Option<String>,
        line: Name<'a>,
        read: &mut Answer<'a>,
    ) {
        let of = |name: &str, place: &Option<String>| value(name, place.as_deref());
        if self.tells_licenses {
            return self.pool(feature, &of, line, read);
        }
        let (user, host) = (of("user", &self.fields.user), of("host", &self.fields.host));
        let since = of("since", &self.fields.since);
        let stamp = since.as_ref().and_then(|since| self.stamp(since));
        let seats = of("seats", &self.fields.seats).map(|seats| seats.trim().parse::<u32>());
        if matches!(seats, Some(Ok(0))) {
            // Tools that list everybody list those who hold nothing.
            return read.ignored();
        }
        let problem = match &seats {
            _ if user.is_none() && host.is_none() => Some("a row without a user and a host"),
            _ if feature.is_empty() => Some("a row without a feature"),
            Some(Err(_)) => Some("a number of seats that is none"),
            _ => None,
        };
        if let Some(problem) = problem {
            return read.unrecognised(line, problem);
        }
        if let (Some(since), None) = (&since, stamp) {
            read.trouble(format!(
                "a time cannot be read: {since:?}; its session counts from when it was first answered"
            ));
        }
        let name = |name: Option<String>| -> Name<'a> { Cow::Owned(name.unwrap_or_default().into_bytes()) };
        read.seat(Seat {
            daemon: name(Some(self.daemon.clone())),
            feature: name(Some(feature)),
            user: name(user),
            host: name(host),
            session: name(of("session", &self.fields.session)),
            since: stamp,
            seats: seats.and_then(Result::ok).unwrap_or(1),
            holding: Holding::Held,
        });
    }

    /// Takes a row that tells licenses.
    fn pool<'a>(
        &self,
        feature: String,
        of: &dyn Fn(&str, &Option<String>) -> Option<String>,
        line: Name<'a>,
        read: &mut Answer<'a>,
    ) {
        let licenses = of("licenses", &self.fields.licenses);
        let Some(licenses) = licenses.and_then(|licenses| pool::licenses(licenses.trim().as_bytes())) else {
            return read.unrecognised(line, "a row without a number of licenses");
        };
        if feature.is_empty() {
            return read.unrecognised(line, "a row without a feature");
        }
        let told = of("expires", &self.fields.expires);
        let expires = told.as_ref().and_then(|told| {
            let day = |stamp| match stamp {
                Stamp::DateTime { day, .. } => Some(Expiry::On(day)),
                Stamp::MonthDay { .. } | Stamp::Time(_) => None,
            };
            pool::expiry(told.as_bytes()).or_else(|| self.stamp(told).and_then(day))
        });
        if let (Some(told), None) = (&told, expires) {
            read.trouble(format!("a day cannot be read: {told:?}; when its licenses expire is not known"));
        }
        let name = |name: String| -> Name<'a> { Cow::Owned(name.into_bytes()) };
        read.lines.events += 1;
        read.pool(Pool {
            daemon: name(self.daemon.clone()),
            feature: name(feature),
            version: name(of("version", &self.fields.version).unwrap_or_default()),
            licenses,
            expires,
            starts: None,
            serial: name(of("session", &self.fields.session).unwrap_or_default()),
        });
    }

    fn stamp(&self, since: &str) -> Option<Stamp> {
        let of = |moment: DateTime, offset: Option<i32>| {
            let time = moment.time();
            let seconds = i32::from(time.hour()) * 3600 + i32::from(time.minute()) * 60 + i32::from(time.second());
            Some(Stamp::DateTime { day: day_of(moment.date()), time: u32::try_from(seconds).ok()?, offset })
        };
        if let Some(format) = &self.since_format {
            let parsed = BrokenDownTime::parse(format, since.trim()).ok()?;
            return of(parsed.to_datetime().ok()?, parsed.offset().map(|offset| offset.seconds()));
        }
        let utc = |moment: jiff::Timestamp| of(jiff::tz::TimeZone::UTC.to_datetime(moment), Some(0));
        // As PowerShell writes moments in JSON.
        let milliseconds = since.strip_prefix("/Date(").and_then(|rest| rest.strip_suffix(")/"));
        if let Some(milliseconds) = milliseconds.and_then(|text| text.parse::<i64>().ok()) {
            return utc(jiff::Timestamp::from_millisecond(milliseconds).ok()?);
        }
        if let Ok(seconds) = since.trim().parse::<i64>() {
            return utc(jiff::Timestamp::from_second(seconds).ok()?);
        }
        if let Ok(moment) = since.trim().parse::<jiff::Timestamp>() {
            return utc(moment);
        }
        of(since.trim().parse().ok()?, None)
    }
}

impl Fields {
    fn all(&self) -> impl Iterator<Item = &str> {
        let users = [&self.user, &self.host, &self.since, &self.seats];
        let licenses = [&self.licenses, &self.version, &self.expires];
        let all = users.into_iter().chain(licenses).chain([&self.feature, &self.session]);
        all.filter_map(|field| field.as_deref())
    }

    fn is_any(&self) -> bool {
        self.all().next().is_some()
    }
}

/// Returns what a group has matched; `None` if it has matched nothing.
fn group<'a>(found: &Captures<'a>, name: &str) -> Option<&'a str> {
    found.name(name).map(|group| group.as_str().trim()).filter(|text| !text.is_empty())
}

/// Returns a text without its byte order mark.
fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}
