//! `lmutil lmstat -a`, of all versions that were seen: FLEXlm 9 to FlexNet 11.19, Citrix's among them.
//!
//! ```text
//! Users of feature1:  (Total of 1814 licenses issued;  Total of 1206 licenses in use)
//!
//!   "feature0" v61.9, vendor: VENDOR1
//!     user1 server9 /dev/tty (v61.9) (host3.domain.net/27002 18856), start Fri 10/20 14:12, 16 licenses
//! ```
//!
//! Lines of users are read from the right, since names and displays hold blanks. Where the border between a user and a host is
//! told by nothing but their order, see [`split`].

use std::collections::HashSet;

use super::pool::{self, Expiry, Pool};
use super::text::{american, cut, cut_last, lines, number, time, words};
use super::{Answer, Holding, Name, NoAnswer, Seat, shown};
use crate::format::Format;

pub(super) fn is_one(answer: &[u8]) -> bool {
    let has = |mark: &str| memchr::memmem::find(answer, mark.as_bytes()).is_some();
    has("lmstat - Copyright")
        || has("lmutil - Copyright")
        || has("Flexible License Manager status on ")
        || has("NOTE: lmstat -i")
        || has("Error getting status")
        || (has("License server status:") || has("\nUsers of ") || answer.starts_with(b"Users of "))
}

/// What the parser knows at a line.
#[derive(Default)]
struct Place<'a> {
    /// The vendor daemon of the lines that follow.
    daemon: &'a [u8],
    /// The feature of the lines that follow; empty before the first heading.
    feature: &'a [u8],
    /// The number of seats in use that the heading tells, and those of which a line tells who has them.
    in_use: u64,
    told: u64,
    /// The licenses of the feature, as the heading tells: `None` where it does not, and no number where they are not counted.
    issued: Option<Option<u32>>,
    /// The version and the expiry of each of the feature's pools.
    pools: Vec<(&'a [u8], Option<Expiry>)>,
    is_in_daemons: bool,
    is_in_table: bool,
}

pub(super) fn read(answer: &[u8]) -> Result<Answer<'_>, NoAnswer> {
    let hosts = known_hosts(answer);
    let (mut read, mut place) = (Answer::default(), Place::default());
    let (mut has_features, mut trouble) = (false, None);
    let mut servers = Servers::default();
    let mut table = Vec::new();
    for line in lines(answer) {
        let text = line.trim_ascii_start();
        if let Some(heading) = text.strip_prefix(b"Users of ") {
            settle(&place, &mut read);
            has_features = true;
            begin(heading, &mut place, &mut read);
            read.ignored();
        } else if let Some(seat) = place.seat(text, &hosts) {
            place.told += u64::from(seat.seats);
            read.seat(seat);
        } else if text.starts_with(b"License server status") {
            servers.settle(&mut read);
            read.ignored();
        } else if let Some((_, told)) = cut(text, "license server UP") {
            servers.is_up = true;
            read.manager("FlexNet", words(told).find(|word| word.starts_with(b"v")).unwrap_or_default());
            read.ignored();
        } else if let Some((_, taken)) = cut(text, "Flexible License Manager status on ") {
            // `Fri 10/20/2017 17:02`
            let mut told = words(taken).skip(1);
            let taken = told.next().zip(told.next()).and_then(|(date, clock)| american(date, time(clock)?));
            read.taken_at = read.taken_at.or(taken);
            read.ignored();
        } else if is_trouble(text) {
            trouble = trouble.or(Some(text));
            if !place.note_daemon(text, &mut read) {
                servers.missing.push(text);
            }
            read.ignored();
        } else if let Some(pool) = place.row(text) {
            table.push(pool);
            read.ignored();
        } else if place.takes(text, &mut read) {
            read.ignored();
        } else {
            read.unrecognised(line, "no line of lmstat that is known");
        }
    }
    settle(&place, &mut read);
    servers.settle(&mut read);
    // `lmstat -i` alone reads license files, and asks nobody.
    read.knows_nobody = !has_features && !table.is_empty();
    prefer(table, &mut read);
    match (has_features || read.knows_nobody, trouble) {
        (true, _) => Ok(read),
        (false, Some(trouble)) => Err(NoAnswer::Down(shown(trouble))),
        (false, None) => Err(NoAnswer::NoFeature("run lmstat with -a")),
    }
}

/// The license servers that one list of them names. Of redundant ones, one that is up answers for all.
#[derive(Default)]
struct Servers<'a> {
    is_up: bool,
    missing: Vec<&'a [u8]>,
}

impl<'a> Servers<'a> {
    /// Ends the list.
    fn settle(&mut self, read: &mut Answer<'a>) {
        let Self { is_up, missing } = std::mem::take(self);
        missing.into_iter().filter(|_| !is_up).for_each(|line| read.is_missing(line));
    }
}

/// Begins a feature with its heading, `NAME:  (Total of 6 licenses issued;  Total of 2 licenses in use)`.
fn begin<'a>(heading: &'a [u8], place: &mut Place<'a>, read: &mut Answer<'a>) {
    let (feature, told) = cut(heading, ": ").or_else(|| cut(heading, ":\t")).unwrap_or((heading, b""));
    let feature = feature.strip_suffix(b":").unwrap_or(feature).trim_ascii();
    let in_use = cut_last(told, "Total of ").and_then(|(_, rest)| number(words(rest).next()?));
    // Uncounted ones are never told.
    let is_uncounted = cut(told, "Uncounted").is_some() || cut(told, "uncounted").is_some();
    if in_use.is_none() && !is_uncounted {
        read.unknown.push((Name::Borrowed(place.daemon), Name::Borrowed(feature)));
    }
    let first = cut(told, "Total of ").and_then(|(_, rest)| number(words(rest).next()?));
    let issued = if is_uncounted { Some(None) } else { first.filter(|_| in_use.is_some()).map(Some) };
    *place = Place { daemon: place.daemon, feature, in_use: in_use.unwrap_or(0), issued, ..Place::default() };
}

/// Ends a feature. Where more seats are in use than lines tell of, it is not known who holds them.
fn settle<'a>(place: &Place<'a>, read: &mut Answer<'a>) {
    read.compare(place.daemon.into(), place.feature.into(), place.in_use, place.told);
    let Some(licenses) = place.issued else { return };
    // Of several pools, only what all have in common is that of all licenses.
    let mut pools = place.pools.iter();
    let first = pools.next().copied().unwrap_or_default();
    let (version, expires) = pools.fold(first, |(version, expires), pool| {
        (if version == pool.0 { version } else { b"" }, expires.filter(|expires| Some(*expires) == pool.1))
    });
    read.pool(Pool {
        daemon: place.daemon.into(),
        feature: place.feature.into(),
        version: version.into(),
        licenses,
        expires,
        ..Pool::default()
    });
}

/// Takes the licenses of features that a table tells (`lmstat -i`) from it: it knows more than the headings.
fn prefer<'a>(table: Vec<Pool<'a>>, read: &mut Answer<'a>) {
    if table.is_empty() {
        // The usual case.
        return;
    }
    let tabled: HashSet<Name<'a>> = table.iter().map(|pool| pool.feature.clone()).collect();
    read.pools.get_or_insert_default().retain(|pool| !tabled.contains(&pool.feature));
    table.into_iter().for_each(|pool| read.pool(pool));
}

impl<'a> Place<'a> {
    /// Reads a line of a user who holds seats; `None` if it is none.
    fn seat(&self, text: &'a [u8], hosts: &HashSet<&[u8]>) -> Option<Seat<'a>> {
        if self.feature.is_empty() {
            return None;
        }
        let UserLine { names, version, handle, since } = UserLine::read(text)?;
        let (user, host, display) = split(names, version, hosts)?;
        let mut told = words(since);
        let _weekday = told.next()?;
        let (date, clock) = (told.next()?, told.next()?);
        let since_then = american(date, time(clock.strip_suffix(b",").unwrap_or(clock))?)?;
        let mut seats = 1;
        let mut before = clock;
        for word in told {
            if word.starts_with(b"license") {
                seats = number(before)?;
            }
            before = word;
        }
        let process = cut(since, "PID: ").map_or(&b""[..], |(_, process)| process);
        Some(Seat {
            daemon: self.daemon.into(),
            feature: self.feature.into(),
            user: user.into(),
            host: host.into(),
            session: [display, handle, process].join(&b' ').into(),
            since: Some(since_then),
            seats,
            holding: Holding::Held,
        })
    }

    /// Reads a row of the table of licenses, whose last two columns come in both orders; `None` if the line is none:
    ///
    /// ```text
    /// Feature      Version     #licenses    Expires      Vendor
    /// feature1     2018.12      2           31-dec-2018  vendor1
    /// ```
    fn row(&self, text: &'a [u8]) -> Option<Pool<'a>> {
        if !self.is_in_table {
            return None;
        }
        let mut found = words(text);
        let (feature, version, licenses) = (found.next()?, found.next()?, pool::licenses(found.next()?)?);
        let (one, other) = (found.next()?, found.next()?);
        let (expires, daemon) =
            pool::expiry(one).map(|expires| (expires, other)).or_else(|| Some((pool::expiry(other)?, one)))?;
        Some(Pool {
            daemon: daemon.into(),
            feature: feature.into(),
            version: version.into(),
            licenses: licenses.filter(|licenses| *licenses > 0),
            expires: Some(expires),
            ..Pool::default()
        })
    }

    /// Takes a line that tells of no user. Returns whether it is a line of lmstat.
    fn takes(&mut self, text: &'a [u8], read: &mut Answer<'a>) -> bool {
        if text.starts_with(b"\"") {
            if let Some((head, vendor)) = cut(text, ", vendor: ") {
                self.daemon = cut(vendor, ",").map_or(vendor, |(vendor, _)| vendor).trim_ascii();
                let version = cut_last(head, "\" v").map_or(&b""[..], |(_, version)| version);
                let expires = cut(vendor, "expiry: ").and_then(|(_, expiry)| pool::expiry(expiry));
                self.pools.push((version, expires));
            }
            return true;
        }
        if text.starts_with(b"Vendor daemon status") {
            self.is_in_daemons = true;
            return true;
        }
        if text.starts_with(b"Feature usage info") {
            (self.is_in_daemons, self.is_in_table) = (false, false);
            return true;
        }
        if text.starts_with(b"Feature ") && cut(text, "Version").is_some() {
            self.is_in_table = true;
            return true;
        }
        if cut(text, " RESERVATION").is_some() {
            self.told += words(text).next().and_then(number::<u64>).unwrap_or(0);
            return true;
        }
        self.note_daemon(text, read)
            || cut(text, " queued for ").is_some()
            || self.is_in_table
            || is_of_the_frame(text)
            || Format::of_line(text) == Some(Format::FlexNet)
    }

    /// Takes note of a vendor daemon: `VENDOR1: UP v11.6`. Returns whether the line is one.
    fn note_daemon(&mut self, text: &'a [u8], read: &mut Answer<'a>) -> bool {
        let Some((name, state)) = cut(text, ": ") else { return false };
        let is_name = words(name).count() == 1 && cut(state, "license server").is_none();
        if is_name && state.starts_with(b"UP") {
            self.daemon = name;
            return true;
        }
        let is_down = is_name && self.is_in_daemons;
        if is_down {
            read.unknown.push((name.into(), Name::default()));
            read.trouble(shown(text));
        }
        is_down
    }
}

/// The parts of a line of a user, `NAMES (v61.9) (host/27002 18856), start Fri 10/20 14:12, 16 licenses`.
struct UserLine<'a> {
    names: &'a [u8],
    version: &'a [u8],
    handle: &'a [u8],
    since: &'a [u8],
}

impl<'a> UserLine<'a> {
    fn read(text: &'a [u8]) -> Option<Self> {
        let (head, since) = cut_last(text, ", start ")?;
        let (head, handle) = cut_last(head.strip_suffix(b")")?, " (")?;
        let (names, version) = cut_last(head.trim_ascii_end().strip_suffix(b")")?, " (v")?;
        Some(Self { names: names.trim_ascii(), version, handle, since })
    }
}

/// Returns the hosts that stand between a user and a display without doubt.
fn known_hosts(answer: &[u8]) -> HashSet<&[u8]> {
    let user_lines = lines(answer).filter_map(UserLine::read);
    let hosts = user_lines.filter_map(|UserLine { names, version, .. }| {
        let mut words: Vec<&[u8]> = words(names).collect();
        words.pop_if(|last| *last == version);
        (words.len() == 3).then(|| words[1])
    });
    hosts.collect()
}

/// Splits names into user, host and display; `None` if there are less than two. A user and a display can hold blanks, a host
/// holds none. Where there are more than three words, the host is the one that another line has as its host, or that the
/// display repeats or begins with, or the one before a display that is a terminal; else the last but one.
fn split<'a>(names: &'a [u8], version: &[u8], hosts: &HashSet<&[u8]>) -> Option<(&'a [u8], &'a [u8], &'a [u8])> {
    let mut found: Vec<&[u8]> = words(names).collect();
    if found.len() > 3 {
        // The version that was asked for can stand behind the display.
        found.pop_if(|last| *last == version);
    }
    if found.len() < 2 {
        return None;
    }
    let between = 1..found.len().saturating_sub(1);
    let is_terminal = |word: &[u8]| word.starts_with(b"/dev/") || word.starts_with(b":");
    let host = match found.len() {
        2 | 3 => 1,
        _ if found[0] == found[1] => 1,
        many => between
            .clone()
            .find(|index| hosts.contains(found[*index]))
            .or_else(|| between.clone().find(|index| found[*index + 1].starts_with(found[*index])))
            .or_else(|| between.clone().find(|index| is_terminal(found[*index + 1])))
            .unwrap_or(many - 2),
    };
    let start = |word: &[u8]| word.as_ptr() as usize - names.as_ptr() as usize;
    let at = start(found[host]);
    let user = names[..at].trim_ascii();
    let display = names[at + found[host].len()..].trim_ascii();
    Some((user, found[host], display))
}

/// Whether a line says that something does not answer.
fn is_trouble(text: &[u8]) -> bool {
    [
        "Error getting status",
        "Cannot connect",
        "lmgrd is not running",
        "is down",
        "Cannot find license file",
        "Invalid license",
        "license server DOWN",
        "No such host",
    ]
    .iter()
    .any(|mark| cut(text, mark).is_some())
}

/// Whether a line stands around the lists of users in each of lmstat's answers.
fn is_of_the_frame(text: &[u8]) -> bool {
    const BEGINNINGS: [&str; 18] = [
        "Copyright",
        "License file",
        "Users are",
        "floating license",
        "nodelocked license",
        "uncounted nodelocked",
        "uncounted",
        "vendor_string:",
        "NOTE:",
        "but only reads the license file",
        "licenses from ",
        "lmstat v",
        "lmstat",
        "lmutil",
        "----",
        "____",
        "====",
        "...",
    ];
    let has = |mark: &str| cut(text, mark).is_some();
    BEGINNINGS.iter().any(|beginning| text.starts_with(beginning.as_bytes()))
        || has(" - Copyright")
        || has("lmgrd processes")
        || has("lmstat -")
        // License files, one behind the other.
        || (text.ends_with(b":") && (has(".lic") || has(".dat") || has("/") || has("\\")))
}
