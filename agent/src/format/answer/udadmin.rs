//! `udadmin -list -times` of the Citrix license server: users and devices to whom a license is assigned, each with the time
//! of the last checkout.
//!
//! ```text
//! Users:
//!  u01.01 XDT_ENT_UD 2017.1201 (Thu Sep 14 13:41:07 2017)
//! ```
//!
//! An assignment lasts 90 days after the last use: who is assigned a license has used it at that time, and perhaps not since.

use super::text::{cut_last, lines, month, number, stamp, time, words};
use super::{Answer, NoAnswer, Seat, shown};
use crate::format::Stamp;

pub(super) fn is_one(answer: &[u8]) -> bool {
    let has = |mark: &str| memchr::memmem::find(answer, mark.as_bytes()).is_some();
    has("Usage data is ") || has("udadmin") || lines(answer).any(|line| line == b"Users:" || line == b"Devices:")
}

pub(super) fn read(answer: &[u8]) -> Result<Answer<'_>, NoAnswer> {
    let mut read = Answer::default();
    // Whether the lines that follow name users; `None` before the first list.
    let (mut are_users, mut trouble) = (None, None);
    for line in lines(answer) {
        let text = line.trim_ascii_start();
        match text {
            b"Users:" | b"Devices:" => {
                are_users = Some(text == b"Users:");
                read.ignored();
            }
            _ => match (are_users, assignment(text)) {
                (Some(is_user), Some((name, feature, since))) => {
                    let (user, host): (&[u8], &[u8]) = if is_user { (name, b"") } else { (b"", name) };
                    read.seat(Seat {
                        daemon: b"CITRIX".into(),
                        feature: feature.into(),
                        user: user.into(),
                        host: host.into(),
                        since: Some(since),
                        seats: 1,
                        ..Seat::default()
                    });
                }
                (Some(_), None) => read.unrecognised(line, "no assignment with a time: run udadmin with -times"),
                (None, _) => {
                    let is_greeting = text.starts_with(b"Usage data is ") || text.ends_with(b"-times");
                    trouble = trouble.or((!is_greeting).then_some(text));
                    read.ignored();
                }
            },
        }
    }
    match (are_users, trouble) {
        (Some(_), _) if read.seats.is_empty() && read.lines.unrecognised > 0 => {
            Err(NoAnswer::NoFeature("run udadmin with -list -times"))
        }
        (Some(_), _) => Ok(read),
        (None, Some(trouble)) => Err(NoAnswer::Down(shown(trouble))),
        (None, None) => Err(NoAnswer::NoFeature("run udadmin with -list -times")),
    }
}

/// Reads `NAME XDT_ENT_UD 2017.1201 (Thu Sep 14 13:41:07 2017)`, from the right: a name can hold blanks.
fn assignment(text: &[u8]) -> Option<(&[u8], &[u8], Stamp)> {
    let (head, since) = cut_last(text, " (")?;
    let mut told = words(since.strip_suffix(b")")?);
    let _weekday = told.next()?;
    let (month, day, clock, year) = (month(told.next()?)?, number(told.next()?)?, time(told.next()?)?, told.next()?);
    let since = stamp(number(year)?, month, day, clock)?;
    let (head, _subscription) = cut_last(head.trim_ascii_end(), " ")?;
    let (name, feature) = cut_last(head.trim_ascii_end(), " ")?;
    Some((name.trim_ascii(), feature, since))
}
