//! Sessions of the Citrix Monitor service: pages of JSON, by OData. A session is known by its key, and tells when it began and,
//! once it has, when it ended. It does not tell which license it uses: the site's feature, or that of its delivery group.
//!
//! ```text
//! {"value": [{"SessionKey": "...", "StartDate": "2026-05-04T08:00:12.5Z", "EndDate": null, "User": {"Upn": "ada@acme.example"}}],
//!  "@odata.nextLink": "..."}
//! ```

use std::collections::{BTreeSet, HashMap, HashSet};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use seatmeter_count::calendar::day_of;
use serde::Deserialize;
use serde_json::Value;

use super::{Answer, Holding, NoAnswer, Seat, shown};
use crate::format::Stamp;

/// The vendor daemon of all sessions: that of the Citrix license server, so that both tell of the same features.
const DAEMON: &[u8] = b"CITRIX";

/// The most sessions that are taken of an answer.
const MOST_SESSIONS: usize = 500_000;

/// The features that sessions use.
#[derive(Clone, Debug, Default)]
pub struct Features {
    /// That of the site; empty if only delivery groups have one.
    pub site: String,
    /// Those of delivery groups, by their names. Sessions of one with an empty feature do not count.
    pub groups: HashMap<String, String>,
}

/// The sessions of all pages of an answer.
#[derive(Debug, Default)]
pub struct Sessions {
    seats: Vec<Seat<'static>>,
    /// By the key of a session, its place in `seats`.
    places: HashMap<String, usize>,
    /// A hash of the key of each session, whether it counts or not.
    keys: HashSet<[u8; 16]>,
    /// The sessions of nobody: anonymous ones, and those of delivery groups that do not count.
    ignored: u64,
    without_user: u64,
    /// The sessions that cannot be read, and what is wrong with the first one.
    damaged: (u64, Option<String>),
    /// The delivery groups that have no feature.
    without_feature: BTreeSet<String>,
    /// The last moment at which a session was changed; `None` if no page tells any.
    changed_through: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Page {
    value: Vec<Value>,
    #[serde(rename = "@odata.nextLink")]
    next: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    session_key: String,
    start_date: Option<String>,
    end_date: Option<String>,
    modified_date: Option<String>,
    #[serde(default)]
    is_anonymous: Option<bool>,
    user: Option<User>,
    machine: Option<Machine>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct User {
    upn: Option<String>,
    user_name: Option<String>,
    domain: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Machine {
    desktop_group: Option<DesktopGroup>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DesktopGroup {
    name: Option<String>,
}

impl Sessions {
    /// Adds a page. Returns the address of the next one; `None` if it is the last.
    pub fn add_page(&mut self, page: &[u8], features: &Features) -> Result<Option<String>, NoAnswer> {
        let page = page.strip_prefix(b"\xef\xbb\xbf").unwrap_or(page).trim_ascii();
        let page: Value = match serde_json::from_slice(page) {
            Ok(page) => page,
            Err(_) if page.starts_with(b"<") => {
                return Err(NoAnswer::Damaged(
                    "it is a web page: does it want a login, or is the address wrong?".into(),
                ));
            }
            Err(error) => return Err(NoAnswer::Damaged(format!("it is no JSON: {error}"))),
        };
        let Ok(page) = Page::deserialize(&page) else {
            let said = page.pointer("/error/message").and_then(Value::as_str).unwrap_or("it lists no sessions");
            return Err(NoAnswer::Damaged(shown(said.as_bytes())));
        };
        for row in page.value {
            match Row::deserialize(&row) {
                Ok(row) => self.add(row, features)?,
                // The others still count.
                Err(error) => self.damaged(&error.to_string()),
            }
        }
        Ok(page.next)
    }

    /// Returns how many sessions the pages have told so far, each once; those that cannot be read by their number.
    pub fn told(&self) -> usize {
        self.keys.len() + usize::try_from(self.damaged.0).unwrap_or(usize::MAX)
    }

    fn damaged(&mut self, what: &str) {
        self.damaged.0 += 1;
        self.damaged.1.get_or_insert_with(|| shown(what.as_bytes()));
    }

    fn add(&mut self, row: Row, features: &Features) -> Result<(), NoAnswer> {
        let mut key = [0; 16];
        blake3::Hasher::new().update(row.session_key.as_bytes()).finalize_xof().fill(&mut key);
        self.keys.insert(key);
        let modified = row.modified_date.as_deref().and_then(moment);
        self.changed_through = self.changed_through.max(modified);
        let group = row.machine.and_then(|machine| machine.desktop_group).and_then(|group| group.name);
        let group = group.unwrap_or_default();
        let feature = features.groups.get(&group).unwrap_or(&features.site);
        let does_count =
            !(row.is_anonymous == Some(true) || (feature.is_empty() && features.groups.contains_key(&group)));
        if !does_count {
            self.ignored += 1;
            return Ok(());
        }
        if feature.is_empty() {
            self.without_feature.insert(group);
            return Ok(());
        }
        let Some(user) = row.user.as_ref().and_then(User::name) else {
            self.without_user += 1;
            return Ok(());
        };
        let (since, until) = (row.start_date.as_deref().map(moment), row.end_date.as_deref().map(moment));
        if since == Some(None) || until == Some(None) {
            self.damaged(&format!("session {} has a time that is none", row.session_key));
            return Ok(());
        }
        let (since, until) = (since.flatten().map(stamp), until.flatten().map(stamp));
        let seat = Seat {
            daemon: DAEMON.into(),
            feature: feature.clone().into_bytes().into(),
            user: user.into_bytes().into(),
            session: row.session_key.clone().into_bytes().into(),
            since,
            seats: 1,
            holding: until.map_or(Holding::Held, Holding::Until),
            ..Seat::default()
        };
        match self.places.get(&row.session_key) {
            // It ended between two pages.
            Some(place) if self.seats[*place].holding == Holding::Held => self.seats[*place] = seat,
            Some(_) => {}
            None if self.seats.len() == MOST_SESSIONS => {
                return Err(NoAnswer::Damaged("more than 500,000 sessions: set `history_days` lower".into()));
            }
            None => {
                self.places.insert(row.session_key, self.seats.len());
                self.seats.push(seat);
            }
        }
        Ok(())
    }

    /// Returns the answer.
    pub fn into_answer(self) -> Answer<'static> {
        let changed_through = self.changed_through.map(Timestamp::as_second);
        let mut answer = Answer { records_endings: true, changed_through, ..Answer::default() };
        answer.lines.events = self.seats.len() as u64;
        answer.lines.ignored = self.ignored;
        answer.lines.unrecognised = self.without_user + self.damaged.0;
        answer.seats = self.seats;
        if self.without_user > 0 {
            answer.trouble(format!("{} sessions name no user, and are no anonymous ones", self.without_user));
        }
        if let (count, Some(first)) = self.damaged {
            answer.trouble(format!("{count} sessions cannot be read, the first one: {first}"));
        }
        for group in self.without_feature {
            answer.trouble(format!("the delivery group {group:?} has no feature: add it to [source.features]"));
        }
        answer
    }
}

impl User {
    /// Returns the user's name: with its domain, wherever it is told.
    fn name(&self) -> Option<String> {
        let told =
            |name: &Option<String>| name.as_deref().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
        let with_domain = || match (told(&self.domain), told(&self.user_name)?) {
            (Some(domain), user) => Some(format!("{domain}\\{user}")),
            (None, user) => Some(user),
        };
        told(&self.upn).or_else(with_domain)
    }
}

/// Reads a time in UTC, with or without its `Z`.
fn moment(date: &str) -> Option<Timestamp> {
    let local = || TimeZone::UTC.to_timestamp(date.parse::<DateTime>().ok()?).ok();
    date.parse().ok().or_else(local)
}

fn stamp(moment: Timestamp) -> Stamp {
    let moment = TimeZone::UTC.to_datetime(moment);
    let time = moment.time();
    let seconds = i32::from(time.hour()) * 3600 + i32::from(time.minute()) * 60 + i32::from(time.second());
    Stamp::DateTime { day: day_of(moment.date()), time: seconds.unsigned_abs(), offset: Some(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(site: &str, groups: &[(&str, &str)]) -> Features {
        let groups = groups.iter().map(|(group, feature)| ((*group).into(), (*feature).into())).collect();
        Features { site: site.into(), groups }
    }

    fn row(key: &str, end: &str, user: &str, group: &str) -> String {
        format!(
            r#"{{"SessionKey":"{key}","StartDate":"2026-05-04T08:00:12.537Z","LogOnDuration":7,"EndDate":{end},"ExitCode":0,
                "ModifiedDate":"2026-05-04T09:00:00.1Z","User":{user},"Machine":{{"Name":"VDA1","DesktopGroup":{{"Name":"{group}"}}}}}}"#
        )
    }

    #[test]
    fn sessions_tell_their_user_and_their_times() {
        let upn = r#"{"Upn":"ada@acme.example","UserName":"ada","Domain":"ACME"}"#;
        let rows = [
            row("a", "null", upn, "Office"),
            row("b", r#""2026-05-04T08:30:00""#, r#"{"UserName":"bob","Domain":"ACME","Upn":""}"#, "Office"),
            row("c", "null", upn, "Test"),
            row("d", "null", upn, "New"),
            row("e", "null", "null", "Office"),
            row("a", r#""2026-05-04T08:45:00Z""#, upn, "Office"),
            row("a", "null", upn, "Office"),
        ];
        let page = format!(r#"{{"@odata.context":"x","value":[{}],"@odata.nextLink":"https://next"}}"#, rows.join(","));
        let mut sessions = Sessions::default();
        let features = features("", &[("Office", "XDT_PLT_UD"), ("Test", "")]);
        assert_eq!(sessions.add_page(page.as_bytes(), &features).unwrap().as_deref(), Some("https://next"));
        let answer = sessions.into_answer();
        let day = day_of(jiff::civil::date(2026, 5, 4));
        let at = |time| Stamp::DateTime { day, time, offset: Some(0) };
        let told: Vec<_> = answer.seats.iter().map(|seat| (&*seat.user, seat.since, seat.holding)).collect();
        assert_eq!(answer.changed_through, Some(i64::from(day) * 86_400 + 9 * 3600));
        let since = Some(at(8 * 3600 + 12));
        assert_eq!(told[0], (b"ada@acme.example".as_slice(), since, Holding::Until(at(8 * 3600 + 45 * 60))));
        assert_eq!(told[1], (br"ACME\bob".as_slice(), since, Holding::Until(at(8 * 3600 + 30 * 60))));
        assert_eq!((told.len(), answer.lines.ignored, answer.lines.unrecognised), (2, 1, 1));
        assert_eq!(answer.troubles.len(), 2, "{:?}", answer.troubles);
        assert!(answer.troubles[1].contains("\"New\""), "{:?}", answer.troubles);
    }

    #[test]
    fn what_is_no_page_is_refused() {
        for (page, reason) in [
            ("", "no JSON"),
            ("{}", "lists no sessions"),
            ("<html>", "web page"),
            (r#"{"error":{"code":"1","message":"Not allowed"}}"#, "Not allowed"),
        ] {
            match Sessions::default().add_page(page.as_bytes(), &features("F", &[])) {
                Err(NoAnswer::Damaged(said)) => assert!(said.contains(reason), "{page}: {said}"),
                other => panic!("{page}: {other:?}"),
            }
        }
        assert!(Sessions::default().add_page(b"\xef\xbb\xbf{\"value\":[]}", &features("F", &[])).is_ok());
    }

    #[test]
    fn a_session_that_cannot_be_read_stops_no_other() {
        let user = r#"{"Upn":"ada"}"#;
        let rows = [row("a", r#""yesterday""#, user, "G"), r#"{"SessionKey":1}"#.into(), row("b", "null", user, "G")];
        let mut sessions = Sessions::default();
        sessions.add_page(format!(r#"{{"value":[{}]}}"#, rows.join(",")).as_bytes(), &features("F", &[])).unwrap();
        let answer = sessions.into_answer();
        assert_eq!((answer.seats.len(), answer.lines.unrecognised), (1, 2));
        assert!(answer.troubles[0].starts_with("2 sessions cannot be read, the first one: session a has a time"));
    }
}
