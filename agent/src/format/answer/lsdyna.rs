//! `lstc_qrun -r` of LS-Dyna. It does not tell since when a license is used.
//!
//! ```text
//! MPPDYNA          12/30/2022          -     60    500 |     0
//!  ada     59005@n-c13.com  80
//! ```

use super::text::{american, cut, cut_last, lines, number, words};
use super::{Answer, Holding, NoAnswer, Seat, shown};

pub(super) fn is_one(answer: &[u8]) -> bool {
    let has = |mark: &str| memchr::memmem::find(answer, mark.as_bytes()).is_some();
    has("PROGRAM") && has("EXPIRATION") && has("CPUS") && has("QUEUE")
}

pub(super) fn read(answer: &[u8]) -> Result<Answer<'_>, NoAnswer> {
    let mut read = Answer::default();
    let (mut program, mut tells): (&[u8], bool) = (b"", false);
    let (mut used, mut told) = (0u64, 0u64);
    for line in lines(answer) {
        let found: Vec<&[u8]> = words(line).collect();
        let is_program = found.len() > 3 && american(found[1], 0).is_some() && found.contains(&&b"|"[..]);
        if is_program {
            read.compare(b"lsdyna".into(), program.into(), used, told);
            (program, tells, told) = (found[0], true, 0);
            used = number(found[2]).unwrap_or(0);
            read.ignored();
        } else if let (false, Some(seat)) = (program.is_empty(), seat(line, program)) {
            told += u64::from(seat.seats);
            read.seat(seat);
        } else if program.is_empty() || is_of_the_frame(line) {
            read.ignored();
        } else {
            read.unrecognised(line, "no line of lstc_qrun that is known");
        }
    }
    read.compare(b"lsdyna".into(), program.into(), used, told);
    match (tells, cut(answer, "PROGRAM")) {
        (true, _) => Ok(read),
        (false, Some(_)) => Err(NoAnswer::NoFeature("run lstc_qrun with -r")),
        (false, None) => Err(NoAnswer::Down(shown(answer))),
    }
}

/// Reads ` ada     59005@n-c13.com  80`.
fn seat<'a>(line: &'a [u8], program: &'a [u8]) -> Option<Seat<'a>> {
    let (head, seats) = cut_last(line, " ")?;
    let (user, client) = cut_last(head.trim_ascii_end(), " ")?;
    let (process, host) = cut(client, "@")?;
    let _number: u64 = number(process)?;
    Some(Seat {
        daemon: b"lsdyna".into(),
        feature: program.into(),
        user: user.trim_ascii().into(),
        host: host.into(),
        session: process.into(),
        since: None,
        seats: number(seats)?,
        holding: Holding::Held,
    })
}

fn is_of_the_frame(line: &[u8]) -> bool {
    let text = line.trim_ascii_start();
    ["LICENSE GROUP", "LICENSE INFORMATION", "PROGRAM", "----"]
        .iter()
        .any(|beginning| text.starts_with(beginning.as_bytes()))
}
