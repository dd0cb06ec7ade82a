//! `olixtool` of OLicense. It does not tell since when a license is used. The user can be left out.
//!
//! ```text
//! Application: cosin
//!   ftire_adams;          FreeFloating; 3; 2022-12-31 23:59:59;
//!     3 FloatsLockedBy:
//!       ada@pc17 #1
//! ```

use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::Event;
use quick_xml::reader::Reader;

use super::pool::{self, Pool};
use super::text::{cut, cut_last, lines, number, words};
use super::{Answer, Holding, Name, NoAnswer, Seat, shown};

pub(super) fn is_one(answer: &[u8]) -> bool {
    let has = |mark: &str| memchr::memmem::find(answer, mark.as_bytes()).is_some();
    has("olixtool") || has("OLicense") || has("FloatsLockedBy")
}

pub(super) fn is_xml(answer: &[u8]) -> bool {
    let has = |mark: &str| memchr::memmem::find(answer, mark.as_bytes()).is_some();
    text_begins_with(answer, b"<") && has("<license") && has("<floatCount")
}

fn text_begins_with(answer: &[u8], beginning: &[u8]) -> bool {
    answer.strip_prefix(b"\xef\xbb\xbf").unwrap_or(answer).trim_ascii_start().starts_with(beginning)
}

/// How deep the elements of an answer can be nested.
const DEEPEST: usize = 32;

/// Reads what the server answers at `/LicenseStatusXML`. The names of its elements are those that a public exporter of metrics
/// reads; it does not look at how they are nested, so what follows a module is taken for its own. Who holds its seats is taken as the text tool prints it, and compared with the number of seats.
pub(super) fn read_xml(answer: &[u8]) -> Result<Answer<'_>, NoAnswer> {
    let mut reader = Reader::from_reader(answer);
    let mut read = Answer::default();
    let mut path: Vec<String> = Vec::new();
    let mut module = Module::default();
    let (mut tells, mut text) = (false, String::new());
    loop {
        let damaged = |position: u64| NoAnswer::Damaged(format!("at byte {position}"));
        match reader.read_event().map_err(|_| damaged(reader.error_position()))? {
            Event::Start(element) => {
                path.push(element.name().as_ref().to_owned());
                text.clear();
                if path.len() > DEEPEST {
                    return Err(damaged(reader.buffer_position()));
                }
                match path.last().map(String::as_str) {
                    Some("license") => {
                        module.settle(&mut read);
                        module = Module::default();
                    }
                    Some("module") => {
                        module.settle(&mut read);
                        module = Module { application: std::mem::take(&mut module.application), ..Module::default() };
                        tells = true;
                    }
                    _ => {}
                }
                read.ignored();
            }
            Event::Text(part) => text.push_str(&part.xml10_content()),
            Event::CData(part) => text.push_str(&part.xml10_content()),
            // One of XML's own, or a character by its number; no other is expanded.
            Event::GeneralRef(name) => match name.resolve_char_ref() {
                Ok(Some(character)) => text.push(character),
                _ => text.push_str(resolve_xml_entity(&name).unwrap_or_default()),
            },
            Event::End(_) => {
                match (path.pop().as_deref(), path.last().map(String::as_str)) {
                    (Some("name"), Some("module")) => module.name = text.trim().as_bytes().to_vec(),
                    (Some("name"), Some("license")) => module.application = text.trim().as_bytes().to_vec(),
                    (Some("floatsLocked"), _) => match number(text.as_bytes()) {
                        Some(locked) => module.locked = locked,
                        None => read.is_missing(format!("floatsLocked is {text:?}").as_bytes()),
                    },
                    (Some("floatCount"), _) => module.licenses = pool::licenses(text.trim().as_bytes()),
                    (Some("floatsLockedBy"), _) => {
                        module.clients.extend(text.split(['\n', ',', ';']).map(str::to_owned));
                    }
                    _ => {}
                }
                text.clear();
            }
            Event::Eof if path.is_empty() => break,
            Event::Eof => return Err(damaged(reader.buffer_position())),
            _ => {}
        }
    }
    module.settle(&mut read);
    if tells { Ok(read) } else { Err(NoAnswer::NoFeature("ask for /LicenseStatusXML")) }
}

/// A module of an application, in XML.
#[derive(Default)]
struct Module {
    application: Vec<u8>,
    name: Vec<u8>,
    locked: u64,
    licenses: Option<Option<u32>>,
    clients: Vec<String>,
}

impl Module {
    /// Takes who holds the module's seats, once.
    fn settle(&mut self, read: &mut Answer<'_>) {
        let mut told = 0;
        let owned = |name: &[u8]| Name::Owned(name.to_vec());
        for client in self.clients.drain(..).filter(|client| !client.trim().is_empty()) {
            let (client, seats) = cut_last(client.as_bytes(), "#").unwrap_or((client.as_bytes(), b"1"));
            let seats = number(seats).unwrap_or(1);
            let (user, host) = cut_last(client, "@").unwrap_or((b"", client));
            told += u64::from(seats);
            read.seat(Seat {
                daemon: owned(&self.application),
                feature: owned(&self.name),
                user: owned(user.trim_ascii()),
                host: owned(host.trim_ascii()),
                seats,
                holding: Holding::Held,
                ..Seat::default()
            });
        }
        if let Some(licenses) = self.licenses.take() {
            let (daemon, feature) = (owned(&self.application), owned(&self.name));
            read.pool(Pool { daemon, feature, licenses, ..Pool::default() });
        }
        read.compare(owned(&self.application), owned(&self.name), std::mem::take(&mut self.locked), told);
    }
}

pub(super) fn read(answer: &[u8]) -> Result<Answer<'_>, NoAnswer> {
    let mut read = Answer::default();
    let (mut application, mut module): (&[u8], &[u8]) = (b"", b"");
    let (mut tells, mut trouble) = (false, None);
    let (mut locked, mut told) = (0u64, 0u64);
    for line in lines(answer) {
        let text = line.trim_ascii_start();
        if let Some(name) = text.strip_prefix(b"Application:") {
            read.compare(application.into(), module.into(), locked, told);
            (application, module, tells) = (name.trim_ascii(), b"", true);
            (locked, told) = (0, 0);
            read.ignored();
        } else if let Some((count, _)) = cut(text, "FloatsLockedBy") {
            (locked, told) = (number(count).unwrap_or(0), 0);
            read.ignored();
        } else if let (1.., Some((client, seats))) = (locked, cut_last(text, " #")) {
            let (user, host) = cut_last(client, "@").unwrap_or((b"", client));
            let seats = number(seats).unwrap_or(1);
            told += u64::from(seats);
            read.seat(Seat {
                daemon: application.into(),
                feature: module.into(),
                user: user.trim_ascii().into(),
                host: host.trim_ascii().into(),
                seats,
                holding: Holding::Held,
                ..Seat::default()
            });
        } else if text.split(|byte| *byte == b';').count() >= 4 {
            read.compare(application.into(), module.into(), locked, told);
            let mut fields = text.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            (module, locked, told) = (fields.next().unwrap_or_default(), 0, 0);
            if let Some(licenses) = fields.nth(1).and_then(pool::licenses) {
                read.pool(Pool {
                    daemon: application.into(),
                    feature: module.into(),
                    licenses,
                    expires: fields.next().and_then(pool::expiry),
                    ..Pool::default()
                });
            }
            read.ignored();
        } else if is_of_the_frame(text) {
            read.ignored();
        } else if cut(text, "rror").is_some() || cut(text, "annot").is_some() {
            trouble = trouble.or(Some(text));
            read.is_missing(text);
            read.ignored();
        } else {
            read.unrecognised(line, "no line of olixtool that is known");
        }
    }
    read.compare(application.into(), module.into(), locked, told);
    match (tells, trouble) {
        (true, _) => Ok(read),
        (false, Some(trouble)) => Err(NoAnswer::Down(shown(trouble))),
        (false, None) => Err(NoAnswer::NoFeature("run olixtool for the server's status")),
    }
}

fn is_of_the_frame(text: &[u8]) -> bool {
    let is_rule = text.iter().all(|byte| matches!(byte, b'=' | b'-'));
    // `Licensee:	Tomas`, `Server: <...>`
    let is_property = words(text).next().is_some_and(|word| word.ends_with(b":"));
    let is_title = ["olixtool", "Copyright", "List of "].iter().any(|title| text.starts_with(title.as_bytes()));
    is_rule || is_property || is_title
}
