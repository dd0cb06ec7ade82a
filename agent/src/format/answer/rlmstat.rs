//! `rlmutil rlmstat -a`, of RLM 8 to 16.
//!
//! ```text
//!     csci license usage status on licserv (port 63133)
//!     converge_super v3.0: ada@pc17 1/0 at 11/03 10:15  (handle: 42)
//! ```
//!
//! A line of a user stands below `ISV license usage status`, with a month and a day.

use std::collections::{BTreeMap, BTreeSet};

use super::pool::{self, Pool};
use super::text::{american, cut, cut_last, lines, number, time, words};
use super::{Answer, Holding, NoAnswer, Seat, shown};

pub(super) fn is_one(answer: &[u8]) -> bool {
    let has = |mark: &str| memchr::memmem::find(answer, mark.as_bytes()).is_some();
    has("rlm status on ") || has("license pool status on ") || has("license usage status on ") || has("rlmutil v")
}

pub(super) fn read(answer: &[u8]) -> Result<Answer<'_>, NoAnswer> {
    let mut read = Answer::default();
    let (mut isv, mut tells, mut trouble): (&[u8], bool, Option<&[u8]>) = (b"", false, None);
    // The seats in use that pools tell, by ISV and feature.
    let (mut pool, mut version, mut in_use) = (&b""[..], &b""[..], BTreeMap::<Feature<'_>, u64>::new());
    // Those of which lines tell who holds them.
    let mut told = BTreeMap::<Feature<'_>, u64>::new();
    // The ISV servers of the table, and those whose sections follow.
    let (mut listed, mut answering) = (Vec::new(), BTreeSet::new());
    for line in lines(answer) {
        let text = line.trim_ascii_start();
        if let Some((name, _)) =
            cut(text, " license pool status on ").or_else(|| cut(text, " license usage status on "))
        {
            (isv, tells) = (name, true);
            answering.insert(name);
            read.ignored();
        } else if let Some(name) = isv_server(text) {
            listed.push((name, text));
            read.ignored();
        } else if let Some((name, _)) = cut(text, " ISV server status on ") {
            isv = name;
            read.ignored();
        } else if let Some((seat, feature)) = seat(text, isv) {
            tells = true;
            *told.entry((isv, feature)).or_default() += u64::from(seat.seats);
            read.seat(seat);
        } else {
            if text.starts_with(b"Error")
                || cut(text, "annot connect").is_some()
                || cut(text, "is not running").is_some()
            {
                trouble = trouble.or(Some(text));
                read.is_missing(text);
            }
            if let Some((licenses, count)) = cut(text, ", inuse: ") {
                let licenses = cut(licenses, "count: ").and_then(|(_, licenses)| {
                    pool::licenses(licenses.split(|byte| *byte == b',').next()?.trim_ascii())
                });
                if let Some(licenses) = licenses {
                    read.pool(Pool {
                        daemon: isv.into(),
                        feature: pool.into(),
                        version: version.into(),
                        licenses,
                        expires: cut(count, "exp: ").and_then(|(_, expiry)| pool::expiry(expiry)),
                        ..Pool::default()
                    });
                }
                let count = count.split(|byte| *byte == b',').next().and_then(number::<u64>).unwrap_or(0);
                *in_use.entry((isv, pool)).or_default() += count;
            } else if let Some((feature, told)) = cut_last(text, " v") {
                (pool, version) = (feature, told);
            }
            if let Some(told) = text.strip_prefix(b"rlm software version ") {
                read.manager("RLM", words(told).next().unwrap_or_default());
            }
            if cut(text, "(handle: ").is_some() {
                read.unrecognised(line, "a user's line of rlmstat that cannot be read");
            } else {
                // Statistics, pools, counts: they name nobody.
                read.ignored();
            }
        }
    }
    for ((isv, pool), count) in in_use {
        let told = told.get(&(isv, pool)).copied().unwrap_or(0);
        read.compare(isv.into(), pool.into(), count, told);
    }
    for (name, row) in listed.iter().filter(|(name, _)| !answering.contains(name)) {
        read.unknown.push(((*name).into(), Default::default()));
        read.trouble(format!("ISV server {} tells nothing: {}", shown(name), shown(row)));
        trouble = trouble.or(Some(row));
    }
    match (tells, trouble) {
        (true, _) => Ok(read),
        (false, Some(trouble)) => Err(NoAnswer::Down(shown(trouble))),
        (false, None) => Err(NoAnswer::NoFeature("run rlmstat with -a")),
    }
}

/// Returns the ISV of a row of the table of ISV servers: `csci 63133 Yes 0`, name, port, whether it runs, restarts.
fn isv_server(text: &[u8]) -> Option<&[u8]> {
    let mut row = words(text);
    let name = row.next()?;
    let _port: u16 = number(row.next()?)?;
    let runs = row.next()?;
    let _restarts: u32 = number(row.next()?)?;
    (row.next().is_none() && [&b"Yes"[..], b"No"].iter().any(|word| runs.eq_ignore_ascii_case(word))).then_some(name)
}

/// An ISV, and a feature of it.
type Feature<'a> = (&'a [u8], &'a [u8]);

/// Reads `converge v3.0: ada@pc17 1/0 at 11/03 10:15  (handle: 42)`, with more about the seats before the handle, or none.
/// Returns its feature, too.
fn seat<'a>(text: &'a [u8], isv: &'a [u8]) -> Option<(Seat<'a>, &'a [u8])> {
    let (head, handle) = cut_last(text, "(handle: ")?;
    let handle = cut(handle, ")")?.0;
    let (head, since) = cut_last(head, " at ")?;
    let mut since = words(since);
    let since = american(since.next()?, time(since.next()?)?)?;
    // The version has no blank, and a colon behind it.
    let (product, names) = cut(head, ": ")?;
    let (feature, _version) = cut_last(product, " v")?;
    let (names, counts) = cut_last(names.trim_ascii_end(), " ")?;
    let seats = number(counts.split(|byte| *byte == b'/').next()?)?;
    let (user, host) = cut_last(names, "@")?;
    let feature = feature.trim_ascii();
    let seat = Seat {
        daemon: isv.into(),
        feature: feature.into(),
        user: user.trim_ascii().into(),
        host: host.trim_ascii().into(),
        session: handle.into(),
        since: Some(since),
        seats,
        holding: Holding::Held,
    };
    Some((seat, feature))
}
