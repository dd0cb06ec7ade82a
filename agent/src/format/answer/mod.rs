//! Parsers for what license managers answer when they are asked who holds what. They are pure: bytes in, seats out.
//!
//! An answer is a whole state. Where it does not tell who holds a feature, that is unknown, and never taken for nobody; an
//! answer that tells nothing at all is an error that says what to do next.

mod dsls;
mod license_file;
mod lmstat;
mod lmx;
mod lsdyna;
pub mod mapped;
pub mod monitor;
mod olicense;
pub mod pool;
mod rlmstat;
mod text;
mod udadmin;

use std::borrow::Cow;

use seatmeter_count::name::decode;
use seatmeter_proto::batch::{MAX_POOL_NAMES, MAX_POOLS};

use super::Stamp;
use super::interpreter::LineCounts;
use super::looks::looks_like;
use mapped::Mapping;
use pool::Pool;

/// The formats of answers that the agent can read. The content determines it, or the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerFormat {
    /// `lmutil lmstat -a` of FlexNet license managers.
    Lmstat,
    /// `rlmutil rlmstat -a` of RLM.
    Rlmstat,
    /// `lmxendutil -licstatxml` of LM-X.
    LmxXml,
    /// `lmxendutil -licstat` of LM-X.
    LmxText,
    /// `DSLicSrv -admin`, with `getLicenseUsage -csv`, of Dassault Systèmes.
    Dsls,
    /// `lstc_qrun -r` of LS-Dyna.
    LsDyna,
    /// `olixtool` of OLicense.
    OLicense,
    /// What an OLicense server answers at `/LicenseStatusXML`.
    OLicenseXml,
    /// `udadmin -list -times` of Citrix: to whom licenses are assigned, and when they were last checked out.
    Udadmin,
    /// License files of FlexNet license managers: which licenses there are, and nothing of who uses them.
    LicenseFile,
}

impl AnswerFormat {
    /// All formats, in the order in which content is tried.
    pub const ALL: [Self; 10] = [
        Self::Lmstat,
        Self::Rlmstat,
        Self::LmxXml,
        Self::LmxText,
        Self::Dsls,
        Self::LsDyna,
        Self::OLicenseXml,
        Self::OLicense,
        Self::Udadmin,
        Self::LicenseFile,
    ];

    /// Returns the name of the format in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lmstat => "lmstat",
            Self::Rlmstat => "rlmstat",
            Self::LmxXml => "lmx-xml",
            Self::LmxText => "lmx-text",
            Self::Dsls => "dsls",
            Self::LsDyna => "lsdyna",
            Self::OLicense => "olicense",
            Self::OLicenseXml => "olicense-xml",
            Self::Udadmin => "udadmin",
            Self::LicenseFile => "license-file",
        }
    }

    /// Returns the names of all formats.
    pub fn names() -> Vec<&'static str> {
        Self::ALL.iter().map(|format| format.name()).collect()
    }

    /// Returns the format with this name; `None` if there is none.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// Returns the format of an answer; `None` if it is none of these.
    pub fn of(answer: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.is_of(answer))
    }

    fn is_of(self, answer: &[u8]) -> bool {
        match self {
            Self::Lmstat => lmstat::is_one(answer),
            Self::Rlmstat => rlmstat::is_one(answer),
            Self::LmxXml => lmx::is_xml(answer),
            Self::LmxText => lmx::is_text(answer),
            Self::Dsls => dsls::is_one(answer),
            Self::LsDyna => lsdyna::is_one(answer),
            Self::OLicense => olicense::is_one(answer),
            Self::OLicenseXml => olicense::is_xml(answer),
            Self::Udadmin => udadmin::is_one(answer),
            Self::LicenseFile => license_file::is_one(answer),
        }
    }

    /// Reads an answer.
    pub fn read(self, answer: &[u8]) -> Result<Answer<'_>, NoAnswer> {
        match self {
            Self::Lmstat => lmstat::read(answer),
            Self::Rlmstat => rlmstat::read(answer),
            Self::LmxXml => lmx::read_xml(answer),
            Self::LmxText => lmx::read_text(answer),
            Self::Dsls => dsls::read(answer),
            Self::LsDyna => lsdyna::read(answer),
            Self::OLicense => olicense::read(answer),
            Self::OLicenseXml => olicense::read_xml(answer),
            Self::Udadmin => udadmin::read(answer),
            Self::LicenseFile => license_file::read(answer),
        }
    }
}

/// How answers are read.
#[derive(Clone, Debug)]
pub enum Reading {
    /// As the content determines.
    ByContent,
    /// In a format that is known.
    Known(AnswerFormat),
    /// In a shape that the configuration declares.
    Mapped(Box<Mapping>),
}

impl Reading {
    /// Reads an answer. One in UTF-16 must be converted first ([`in_utf8`]).
    pub fn read<'a>(&self, answer: &'a [u8]) -> Result<Answer<'a>, NoAnswer> {
        if answer.trim_ascii().is_empty() {
            return Err(NoAnswer::Empty);
        }
        match self {
            Self::ByContent => match AnswerFormat::of(answer) {
                Some(format) => format.read(answer),
                None => Err(NoAnswer::NotAnAnswer(looks_like(answer))),
            },
            Self::Known(format) => format.read(answer).map_err(|error| match AnswerFormat::of(answer) {
                Some(other) if other != *format => NoAnswer::Another { configured: format.name(), found: other.name() },
                _ => error,
            }),
            Self::Mapped(mapping) => mapping.read(answer),
        }
    }
}

/// Returns an answer in UTF-8, if it is in UTF-16, as tools of Windows print it: by its mark, or by a first character that is
/// one of ASCII. Other answers are returned as they are.
pub fn in_utf8(answer: Vec<u8>) -> Vec<u8> {
    let unit: fn([u8; 2]) -> u16 = match answer.as_slice() {
        [0xff, 0xfe, ..] | [1..=0x7f, 0, 1..=0x7f, 0, ..] => u16::from_le_bytes,
        [0xfe, 0xff, ..] | [0, 1..=0x7f, 0, 1..=0x7f, ..] => u16::from_be_bytes,
        // XML of another encoding, which its parser does not take.
        [b'<', ..] if std::str::from_utf8(&answer).is_err() => return decode(&answer).into_owned().into_bytes(),
        _ => return answer,
    };
    let units = answer.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
    let text: String = char::decode_utf16(units).map(|found| found.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    text.trim_start_matches('\u{feff}').as_bytes().to_vec()
}

/// Why an answer does not tell who holds what.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// Nothing was printed.
    #[error(
        "it printed nothing, which does not mean that nobody holds a seat: run it by hand with the agent's account"
    )]
    Empty,
    /// The license manager does not answer, in the words of its tool.
    #[error("the license manager does not answer: {0}")]
    Down(String),
    /// It names no feature.
    #[error("it names no feature, so it does not tell who holds what: {0}")]
    NoFeature(&'static str),
    /// It is an answer of another format than the configured one.
    #[error("it is an answer of {found}, and not of {configured}: correct `format`, or leave it out")]
    Another {
        /// The format that is configured.
        configured: &'static str,
        /// That of the answer.
        found: &'static str,
    },
    /// It is no answer of a license manager that is known; what it looks like instead.
    #[error("it is {0}, and no answer that is known: set `format`, or run the tool by hand and look")]
    NotAnAnswer(&'static str),
    /// It ends in the middle, or is damaged there.
    #[error("the answer is cut or damaged: {0}")]
    Damaged(String),
}

/// What a license manager answers. Its names are slices of the answer, or were decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer<'a> {
    /// Who holds what.
    pub seats: Vec<Seat<'a>>,
    /// The features of which the answer does not tell who holds them: a vendor daemon, and a feature of it. An empty feature
    /// stands for all of a daemon, and an empty daemon for all.
    pub unknown: Vec<(Name<'a>, Name<'a>)>,
    /// The licenses that there are; `None` if the answer does not tell.
    pub pools: Option<Vec<Pool<'a>>>,
    /// The size of their names, in bytes.
    pub pool_names: usize,
    /// Whether there are more of them than can be told: then none are.
    pub has_more_pools: bool,
    /// Whether it tells licenses alone, and nothing of who uses them.
    pub knows_nobody: bool,
    /// The name and the version of the license manager; empty if the answer does not tell.
    pub manager: Name<'a>,
    /// When the answer was made, on the wall clock of the tool; `None` if it does not tell.
    pub taken_at: Option<Stamp>,
    /// Whether sessions that have ended are recorded with their times ([`Holding::Until`]).
    pub records_endings: bool,
    /// The last change that it tells of, by the license manager's clock, in seconds since 1970 UTC; `None` if it tells none.
    pub changed_through: Option<i64>,
    /// What the answer should tell and does not, in words for people, where a license manager, a daemon or names are missing.
    pub troubles: Vec<String>,
    /// The lines read, by outcome.
    pub lines: LineCounts,
    /// The first lines that are not recognised, each with the reason; at most 20.
    pub unrecognised: Vec<(Name<'a>, &'static str)>,
}

/// A name in an answer, as its bytes.
pub type Name<'a> = Cow<'a, [u8]>;

/// The seats that a client holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seat<'a> {
    /// The vendor daemon; empty if the license manager has none.
    pub daemon: Name<'a>,
    /// The feature.
    pub feature: Name<'a>,
    /// The user; empty if a device holds the seats.
    pub user: Name<'a>,
    /// The host; empty if the answer does not tell.
    pub host: Name<'a>,
    /// What else tells this session from others of the same user on the same host: a display, a handle, a process.
    pub session: Name<'a>,
    /// Since when the seats are held, on the wall clock of the tool; `None` if the answer does not tell.
    pub since: Option<Stamp>,
    /// The number of seats.
    pub seats: u32,
    /// Whether they are held now.
    pub holding: Holding,
}

/// Whether a client holds seats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Holding {
    /// They are assigned: it used them when `since` says, and nothing is known of when that ended.
    #[default]
    Assigned,
    /// It holds them now.
    Held,
    /// It held them until this time.
    Until(Stamp),
}

/// The most sessions that are taken of an answer.
const MOST_SEATS: usize = 200_000;

/// The most unrecognised lines that are kept.
const SAMPLES: usize = 20;

impl<'a> Answer<'a> {
    fn seat(&mut self, seat: Seat<'a>) {
        if self.seats.len() == MOST_SEATS {
            self.is_missing(b"the answer has more than 200,000 sessions");
            return self.ignored();
        }
        self.seats.push(seat);
        self.lines.events += 1;
    }

    /// Takes note of the license manager, of which a version is told: of several, the first one counts.
    fn manager(&mut self, name: &str, version: &[u8]) {
        if self.manager.is_empty() && !version.is_empty() {
            self.manager = Name::Owned([name.as_bytes(), b" ", version].concat());
        }
    }

    fn pool(&mut self, pool: Pool<'a>) {
        let pools = self.pools.get_or_insert_default();
        let size = pool.daemon.len() + pool.feature.len() + pool.version.len() + pool.serial.len();
        if pools.len() == MAX_POOLS || self.pool_names + size > MAX_POOL_NAMES {
            self.has_more_pools = true;
            return self
                .trouble("there are more kinds of licenses than the 10,000 that can be told, so none are".into());
        }
        self.pool_names += size;
        pools.push(pool);
    }

    /// Whether the licenses that the answer tells are all that there are.
    pub fn tells_all_pools(&self) -> bool {
        !self.has_more_pools && self.unknown.iter().all(|(_, feature)| !feature.is_empty())
    }

    fn ignored(&mut self) {
        self.lines.ignored += 1;
    }

    fn unrecognised(&mut self, line: impl Into<Name<'a>>, reason: &'static str) {
        self.lines.unrecognised += 1;
        if self.unrecognised.len() < SAMPLES {
            self.unrecognised.push((line.into(), reason));
        }
    }

    /// Takes note that a part of the answer is missing. Whatever it does not state can go on.
    fn is_missing(&mut self, what: &[u8]) {
        if !self.unknown.iter().any(|(daemon, feature)| daemon.is_empty() && feature.is_empty()) {
            self.unknown.push((Name::default(), Name::default()));
        }
        self.trouble(shown(what));
    }

    fn trouble(&mut self, what: String) {
        if self.troubles.len() < SAMPLES && !self.troubles.contains(&what) {
            self.troubles.push(what);
        }
    }

    /// Compares the number of seats in use of a feature, as the answer tells it, with those of which it tells who holds them.
    fn compare(&mut self, daemon: Name<'a>, feature: Name<'a>, in_use: u64, told: u64) {
        if told < in_use {
            let name = format!("{} {}", shown(&daemon), shown(&feature));
            self.trouble(format!("{}: {in_use} in use, and who holds {told} of them", name.trim()));
            self.unknown.push((daemon, feature));
        }
    }
}

/// Returns the beginning of a text for a message, whatever its encoding.
fn shown(text: &[u8]) -> String {
    const MOST: usize = 200;
    decode(text.trim_ascii()).chars().take(MOST).collect()
}

#[cfg(test)]
mod pool_tests;
#[cfg(test)]
mod tests;
