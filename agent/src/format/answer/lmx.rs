//! `lmxendutil` of LM-X: `-licstatxml` and `-licstat`. The vendor of a feature stands for the vendor daemon.

use std::collections::HashMap;

use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

use super::pool::{self, Pool};
use super::text::{cut, cut_last, iso, lines, number, time, words};
use super::{Answer, Holding, Name, NoAnswer, Seat, shown};
use crate::format::Stamp;

pub(super) fn is_xml(answer: &[u8]) -> bool {
    let head = answer.trim_ascii_start();
    let has = |mark: &str| memchr::memmem::find(answer, mark.as_bytes()).is_some();
    (head.starts_with(b"<") || head.starts_with(b"\xef\xbb\xbf<")) && (has("<LICENSE_PATH") || has("<LM-X "))
}

pub(super) fn is_text(answer: &[u8]) -> bool {
    let has = |mark: &str| memchr::memmem::find(answer, mark.as_bytes()).is_some();
    has("LM-X License Server on ") || has("LM-X End-user Utility") || has(" license(s) used")
}

/// How deep the elements of an answer can be nested. Known answers have four levels.
const DEEPEST: usize = 32;

/// Reads XML: features with their users. Entities are those of XML alone, and never those that the document declares.
pub(super) fn read_xml(answer: &[u8]) -> Result<Answer<'_>, NoAnswer> {
    let mut reader = Reader::from_reader(answer);
    let mut read = Answer::default();
    let mut feature = Feature::default();
    let (mut depth, mut paths) = (0usize, Paths::default());
    loop {
        let damaged = |position: u64| NoAnswer::Damaged(format!("at byte {position}"));
        let event = reader.read_event().map_err(|_| damaged(reader.error_position()))?;
        let element = match &event {
            Event::Start(element) => {
                depth += 1;
                element
            }
            Event::Empty(element) => element,
            Event::End(_) => {
                depth = depth.saturating_sub(1);
                continue;
            }
            Event::Eof if depth == 0 => break,
            Event::Eof => return Err(damaged(reader.buffer_position())),
            _ => continue,
        };
        if depth > DEEPEST {
            return Err(damaged(reader.buffer_position()));
        }
        let attribute = |name: &str| value(element, name);
        match element.name().as_ref() {
            "LICENSE_PATH" => {
                feature.settle(&mut read);
                feature = Feature::default();
                paths.next();
                read.manager("LM-X", attribute("SERVER_VERSION").unwrap_or_default().as_bytes());
                match attribute("STATUS").filter(|status| !status.eq_ignore_ascii_case("SUCCESS")) {
                    None => paths.is_up = true,
                    Some(status) => paths.missing.push(format!("{}: {status}", attribute("HOST").unwrap_or_default())),
                }
                read.ignored();
            }
            "FEATURE" => {
                feature.settle(&mut read);
                let used = attribute("USED_LICENSES").and_then(|used| used.parse().ok());
                feature = Feature {
                    vendor: bytes(attribute("VENDOR")),
                    name: bytes(attribute("NAME")),
                    used: used.unwrap_or(0),
                    told: 0,
                };
                let licenses = attribute("TOTAL_LICENSES").and_then(|total| pool::licenses(total.as_bytes()));
                if let Some(licenses) = licenses {
                    paths.pool(
                        Pool {
                            daemon: feature.vendor.clone(),
                            feature: feature.name.clone(),
                            version: bytes(attribute("VERSION")),
                            licenses,
                            expires: attribute("END").and_then(|end| pool::expiry(end.as_bytes())),
                            starts: attribute("START").and_then(|start| pool::day(start.as_bytes())),
                            serial: Name::default(),
                        },
                        &mut read,
                    );
                }
                paths.is_up = true;
                read.ignored();
            }
            "USER" => {
                let since = attribute("CHECKOUT_TIME").or_else(|| attribute("LOGIN_TIME"));
                let shared: Vec<String> =
                    ["IP", "SHARE_CUSTOM", "SHARE_HOST", "SHARE_USER"].into_iter().filter_map(attribute).collect();
                let seat = Seat {
                    daemon: feature.vendor.clone(),
                    feature: feature.name.clone(),
                    user: bytes(attribute("NAME")),
                    host: bytes(attribute("HOST")),
                    session: Name::Owned(shared.join(" ").into_bytes()),
                    since: since.and_then(|since| moment(since.as_bytes())),
                    seats: attribute("USED_LICENSES").and_then(|seats| seats.parse().ok()).unwrap_or(1),
                    holding: Holding::Held,
                };
                feature.told += u64::from(seat.seats);
                paths.take(seat, &mut read);
            }
            _ => read.ignored(),
        }
    }
    feature.settle(&mut read);
    paths.settle(read, "run lmxendutil with -licstatxml")
}

/// The license servers of an answer. Redundant ones each tell the same sessions, which count once.
#[derive(Default)]
struct Paths<'a> {
    /// The number of the current one.
    number: u32,
    /// Of each session, how often the servers before told of it, at most; the last one that did, and how often it has.
    told: HashMap<Seat<'a>, [u32; 3]>,
    /// The licenses that the servers before have told.
    pools: Vec<Pool<'a>>,
    /// The feature whose number of licenses is still to come.
    begun: Option<Pool<'a>>,
    /// The last session, where lines that tell more of it can follow.
    last: Option<Seat<'a>>,
    /// The servers that do not answer, and whether one does.
    missing: Vec<String>,
    is_up: bool,
}

impl<'a> Paths<'a> {
    /// Begins the next license server.
    fn next(&mut self) {
        self.number += 1;
    }

    /// Takes the last session, of which no line tells more.
    fn take_last(&mut self, read: &mut Answer<'a>) {
        if let Some(seat) = self.last.take() {
            self.take(seat, read);
        }
    }

    /// Ends the answer. A server that does not answer leaves open who holds what, unless it is a redundant one of those that do:
    /// nothing tells which it is.
    fn settle(mut self, mut read: Answer<'a>, remedy: &'static str) -> Result<Answer<'a>, NoAnswer> {
        self.take_last(&mut read);
        match (self.is_up, self.missing.first()) {
            (false, Some(missing)) => return Err(NoAnswer::Down(missing.clone())),
            (false, None) => return Err(NoAnswer::NoFeature(remedy)),
            (true, _) => {}
        }
        self.missing.iter().for_each(|missing| read.is_missing(missing.as_bytes()));
        Ok(read)
    }

    /// Takes licenses, which redundant servers tell alike.
    fn pool(&mut self, pool: Pool<'a>, read: &mut Answer<'a>) {
        if !self.pools.contains(&pool) {
            self.pools.push(pool.clone());
            read.pool(pool);
        }
    }

    fn take(&mut self, seat: Seat<'a>, read: &mut Answer<'a>) {
        let [before, by, now] = self.told.entry(seat.clone()).or_default();
        if *by != self.number {
            (*before, *by, *now) = ((*before).max(*now), self.number, 0);
        }
        *now += 1;
        if *now > *before { read.seat(seat) } else { read.ignored() }
    }
}

/// The feature of the users that follow.
#[derive(Default)]
struct Feature<'a> {
    vendor: Name<'a>,
    name: Name<'a>,
    used: u64,
    told: u64,
}

impl<'a> Feature<'a> {
    /// Ends a feature. Where more seats are in use than users are named, it is not known who holds them.
    fn settle(&self, read: &mut Answer<'a>) {
        read.compare(self.vendor.clone(), self.name.clone(), self.used, self.told);
    }
}

fn value(element: &BytesStart<'_>, name: &str) -> Option<String> {
    let attribute = element.try_get_attribute(name).ok()??;
    let decoded = attribute.normalized_value(XmlVersion::Explicit1_0).map(|value| value.into_owned());
    // What is no proper XML, as a lone ampersand, is taken as it stands.
    Some(decoded.unwrap_or_else(|_| attribute.value.to_string()))
}

fn bytes(value: Option<String>) -> Name<'static> {
    Name::Owned(value.unwrap_or_default().into_bytes())
}

/// Reads `2022-02-18 09:29`.
fn moment(text: &[u8]) -> Option<Stamp> {
    let mut told = words(text);
    iso(told.next()?, time(told.next()?)?)
}

/// Reads text:
///
/// ```text
/// Feature: GlobalZoneEU Version: 21.0 Vendor: ALTAIR
/// 15000 license(s) used by ada@pc17 [192.0.2.9]
/// Login time: 2022-02-18 09:26   Checkout time: 2022-02-18 09:29
/// Shared on custom string: ada:pc17
/// ```
pub(super) fn read_text(answer: &[u8]) -> Result<Answer<'_>, NoAnswer> {
    let mut read = Answer::default();
    let mut feature = Feature::default();
    let mut paths = Paths::default();
    for line in lines(answer) {
        let text = line.trim_ascii_start();
        if cut(text, "LM-X License Server on ").is_some() {
            paths.take_last(&mut read);
            paths.next();
            read.ignored();
        } else if let Some(rest) = text.strip_prefix(b"Feature: ") {
            paths.take_last(&mut read);
            feature.settle(&mut read);
            let (name, rest) = cut(rest, " Version: ").unwrap_or((rest, b""));
            let vendor = cut(rest, " Vendor: ").map_or(&b""[..], |(_, vendor)| vendor);
            feature = Feature { vendor: vendor.into(), name: name.into(), used: 0, told: 0 };
            let version = cut(rest, " ").map_or(rest, |(version, _)| version);
            let (daemon, name) = (feature.vendor.clone(), feature.name.clone());
            paths.begun = Some(Pool { daemon, feature: name, version: version.into(), ..Pool::default() });
            paths.is_up = true;
            read.ignored();
        } else if let Some((seats, client)) = cut(text, " license(s) used by ") {
            let client = cut_last(client, " [").map_or((client, &b""[..]), |(client, address)| (client, address));
            let (user, host) = cut_last(client.0, "@").unwrap_or((client.0, b""));
            let address = client.1.strip_suffix(b"]").unwrap_or(client.1);
            let seats = number(seats).unwrap_or(1);
            feature.told += u64::from(seats);
            paths.take_last(&mut read);
            paths.last = Some(Seat {
                daemon: feature.vendor.clone(),
                feature: feature.name.clone(),
                user: user.into(),
                host: host.into(),
                session: address.into(),
                since: None,
                seats,
                holding: Holding::Held,
            });
        } else if let Some((start, end)) = cut(text, "Expire date: ") {
            if let Some(pool) = &mut paths.begun {
                pool.starts = cut(start, "Start date: ").and_then(|(_, start)| pool::day(start.trim_ascii()));
                pool.expires = pool::expiry(end);
            }
            read.ignored();
        } else if let Some((used, _)) = cut(text, " license(s) used") {
            let licenses = cut(used, " of ").and_then(|(_, total)| pool::licenses(total.trim_ascii()));
            if let Some((pool, licenses)) = paths.begun.take().zip(licenses) {
                paths.pool(Pool { licenses, ..pool }, &mut read);
            }
            feature.used = words(used).next().and_then(number).unwrap_or(0);
            read.ignored();
        } else if let Some((login, checkout)) = cut(text, "Checkout time: ") {
            if let Some(seat) = &mut paths.last {
                let logged_in = cut(login, "Login time: ").and_then(|(_, login)| moment(login));
                seat.since = moment(checkout).or(logged_in);
            }
            read.ignored();
        } else if let Some((_, shared)) = cut(text, "Shared on ") {
            if let Some(seat) = &mut paths.last {
                seat.session = [&seat.session, shared].join(&b' ').into();
            }
            read.ignored();
        } else if is_of_the_frame(text) {
            if let Some(told) = text.strip_prefix(b"Server version:") {
                read.manager("LM-X", words(told).next().unwrap_or_default());
            }
            read.ignored();
        } else if cut(text, "rror").is_some() || cut(text, "annot connect").is_some() {
            paths.missing.push(shown(text));
            read.ignored();
        } else {
            read.unrecognised(line, "no line of lmxendutil that is known");
        }
    }
    feature.settle(&mut read);
    paths.settle(read, "run lmxendutil with -licstat")
}

fn is_of_the_frame(text: &[u8]) -> bool {
    const BEGINNINGS: [&str; 10] = [
        "LM-X",
        "Copyright",
        "++++",
        "----",
        "Server version:",
        "Start date:",
        "Key type:",
        "Login time:",
        "License sharing:",
        "Uptime:",
    ];
    BEGINNINGS.iter().any(|beginning| text.starts_with(beginning.as_bytes()))
}
