//! `olixtool` of OLicense. It does not tell since when a license is used. The user can be left out.
//!
//! ```text
//! Application: cosin
//!   ftire_adams;          FreeFloating; 3; 2022-12-31 23:59:59;
//!     3 FloatsLockedBy:
//!       ada@pc17 #1
//! ```

use super::text::{cut, cut_last, lines, number, words};
use super::{Answer, Holding, NoAnswer, Seat, shown};

pub(super) fn is_one(answer: &[u8]) -> bool {
    let has = |mark: &str| memchr::memmem::find(answer, mark.as_bytes()).is_some();
    has("olixtool") || has("OLicense") || has("FloatsLockedBy")
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
            (module, locked, told) = (text.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii(), 0, 0);
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
