//! `getLicenseUsage -csv` of the Dassault Systèmes License Server: CSV behind whatever the tool prints first. A line of a
//! feature that nobody uses ends early.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::pool::{self, Pool};
use super::text::{cut, iso, lines, number, time, words};
use super::{Answer, Holding, Name, NoAnswer, Seat};

const HEADER: &[u8] = b"Editor,EditorId,Feature,";

pub(super) fn is_one(answer: &[u8]) -> bool {
    memchr::memmem::find(answer, HEADER).is_some()
}

pub(super) fn read(answer: &[u8]) -> Result<Answer<'_>, NoAnswer> {
    let mut read = Answer::default();
    let mut columns: Option<HashMap<String, usize>> = None;
    // The seats in use of each feature, and those of which a line tells who holds them.
    let mut pools = HashSet::new();
    let mut in_use: BTreeMap<(Name<'_>, Name<'_>), [u64; 2]> = BTreeMap::new();
    for line in lines(answer) {
        let text = line.trim_ascii_start();
        // It can stand behind the tool's prompt.
        if let Some(place) = memchr::memmem::find(text, HEADER) {
            let names = text[place..].split(|byte| *byte == b',').enumerate();
            columns = Some(names.map(|(index, name)| (String::from_utf8_lossy(name).into_owned(), index)).collect());
            read.ignored();
            continue;
        }
        let Some(columns) = &columns else {
            if let Some((_, told)) = cut(text, "Software version:") {
                read.manager("DSLS", told.trim_ascii());
            }
            read.ignored();
            continue;
        };
        let fields = fields(text);
        let field =
            |name: &str| columns.get(name).and_then(|index| fields.get(*index)).filter(|field| !field.is_empty());
        let (Some(editor), Some(feature)) = (field("Editor"), field("Feature")) else {
            read.unrecognised(line, "no line of the table");
            continue;
        };
        let inuse = field("Inuse").and_then(|count| number::<u64>(count)).unwrap_or(0);
        let counted = in_use.entry((editor.clone(), feature.clone())).or_default();
        counted[0] = counted[0].max(inuse);
        // Each line of a feature tells of its licenses again.
        let told = ["Max Release Number", "Model", "Customer ID"].map(|name| field(name).cloned().unwrap_or_default());
        let licenses = field("Count").and_then(|count| pool::licenses(count));
        if let Some(licenses) = licenses.filter(|_| pools.insert((editor.clone(), feature.clone(), told.clone()))) {
            let [version, _, serial] = told;
            let (daemon, feature) = (editor.clone(), feature.clone());
            let expires = field("Expiration Date").and_then(|end| pool::expiry(end));
            read.pool(Pool { daemon, feature, version, licenses, expires, serial, starts: None });
        }
        let (user, host) = (field("User"), field("Host"));
        if user.is_none() && host.is_none() {
            read.ignored();
            continue;
        }
        let since = field("Granted Since").or_else(|| field("Granted At"));
        let since = since.and_then(|since| {
            let mut told = words(since);
            iso(told.next()?, time(told.next()?)?)
        });
        // It waits, and holds nothing.
        if field("Queue Position").and_then(|place| number::<u64>(place)).is_some_and(|place| place > 0) {
            read.ignored();
            continue;
        }
        // `nid001627 (263.0)/127.0.0.1`
        let host = host.map(|host| words(host).next().unwrap_or_default().to_vec()).unwrap_or_default();
        let seats = field("Tokens").and_then(|seats| number(seats)).filter(|seats| *seats > 0).unwrap_or(1);
        counted[1] += u64::from(seats);
        let parts = ["Session ID", "Internal ID", "Active Process"];
        let session: Vec<&[u8]> = parts.iter().filter_map(|name| field(name).map(|field| &**field)).collect();
        read.seat(Seat {
            daemon: editor.clone(),
            feature: feature.clone(),
            user: user.cloned().unwrap_or_default(),
            host: host.into(),
            session: session.join(&b' ').into(),
            since,
            seats,
            holding: Holding::Held,
        });
    }
    for ((editor, feature), [in_use, told]) in in_use {
        read.compare(editor, feature, in_use, told);
    }
    if columns.is_none() {
        return Err(NoAnswer::NoFeature("run getLicenseUsage -csv"));
    }
    Ok(read)
}

/// Returns the fields of a line of CSV.
fn fields(line: &[u8]) -> Vec<Name<'_>> {
    if !line.contains(&b'"') {
        return line.split(|byte| *byte == b',').map(|field| Name::Borrowed(field.trim_ascii())).collect();
    }
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(line);
    let record = reader.byte_records().next().and_then(Result::ok).unwrap_or_default();
    record.iter().map(|field| Name::Owned(field.trim_ascii().to_vec())).collect()
}
