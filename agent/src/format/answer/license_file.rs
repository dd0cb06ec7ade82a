//! License files of FlexNet license managers, Citrix's among them: which licenses there are, and nothing of who uses them.
//!
//! ```text
//! INCREMENT MPS_ENT_CCU CITRIX 2010.0121 permanent 25 \
//!         VENDOR_STRING=;LT=Retail;GP=720;SA=1 ISSUED=22-Jan-2009 NOTICE="Customer" SN=LA-0000000000-00000:123
//! ```
//!
//! A line goes on in the next one behind a backslash, within quotes too. The grammar is that of Flexera's License Administration
//! Guide: `INCREMENT` adds licenses to those of the same feature, of several `FEATURE` lines of a feature the first one counts,
//! `UPGRADE` lifts licenses to a newer version, `PACKAGE` names the features that a feature of its name and version holds, and `SUPERSEDE`
//! takes away what was issued before the day of its line.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use seatmeter_count::Day;

use super::pool::{Pool, day, expiry, licenses};
use super::text::number;
use super::{Answer, Name, NoAnswer};

/// The words that a line of licenses begins with.
const LICENSES: [&str; 3] = ["INCREMENT", "FEATURE", "UPGRADE"];

/// The words that other lines of a license file begin with.
const OTHERS: [&str; 7] = ["SERVER", "VENDOR", "DAEMON", "USE_SERVER", "FEATURESET", "ORDER", "VENDOR_INFO"];

pub(super) fn is_one(text: &[u8]) -> bool {
    Lines::of(text).any(|line| {
        let mut words = line.words.iter();
        let begins = words.next().is_some_and(|word| LICENSES.iter().any(|known| word.is(known)));
        begins && words.filter(|word| word.value.is_none()).count() >= 5
    })
}

pub(super) fn read(text: &[u8]) -> Result<Answer<'_>, NoAnswer> {
    let mut read = Answer { knows_nobody: true, ..Answer::default() };
    let mut file = LicenseFile::default();
    for line in Lines::of(text) {
        let Some(first) = line.words.first() else { continue };
        let is = |known: &&str| first.is(known);
        let is_taken = if LICENSES.iter().any(&is) {
            file.take_licenses(&line.words)
        } else if first.is("PACKAGE") {
            file.take_package(&line.words)
        } else if OTHERS.iter().any(is) || first.value.is_some() {
            read.ignored();
            continue;
        } else {
            false
        };
        if is_taken {
            read.lines.events += 1;
        } else {
            read.unrecognised(line.text, "no line of a license file that is known");
        }
    }
    let pools = file.pools();
    if pools.is_empty() && read.lines.events == 0 {
        return Err(NoAnswer::NoFeature("is it a license file? INCREMENT and FEATURE lines tell licenses"));
    }
    pools.into_iter().for_each(|pool| read.pool(pool));
    Ok(read)
}

/// The option by which a package is a suite; SUITE_RESERVED is one, too.
const SUITE: &[u8] = b"SUITE";

/// The shortest license key of old: 12 hexadecimal digits.
const OLD_KEY: usize = 12;

/// What the lines of license files tell together.
#[derive(Default)]
struct LicenseFile<'a> {
    /// The licenses of each line, with the day on which they were issued.
    pools: Vec<(Pool<'a>, Option<Day>)>,
    /// What SUPERSEDE takes away: of a vendor daemon, a feature that was issued before a day.
    superseded: Vec<(&'a [u8], &'a [u8], Day)>,
    /// The signatures of the lines so far, each with its feature: a line that stands there twice, as in a copy of a file, tells
    /// the same licenses.
    signatures: HashSet<(&'a [u8], &'a [u8])>,
    /// The features of which a FEATURE line has told.
    told: HashSet<(&'a [u8], &'a [u8])>,
    packages: HashMap<PackageName<'a>, Package<'a>>,
}

/// The vendor daemon, the name and the version of a package.
type PackageName<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// What a package holds.
struct Package<'a> {
    components: Vec<Component<'a>>,
    /// Whether it is a suite, of which the package's own feature is checked out, too. Else that feature is not there once its licenses
    /// have enabled the package.
    is_suite: bool,
}

/// A feature of a package: its name, its version if one is told, and how many of it each license of the package holds.
type Component<'a> = (&'a [u8], &'a [u8], u32);

impl<'a> LicenseFile<'a> {
    /// Takes `INCREMENT feature vendor version expiry number`, or an UPGRADE, which has a second version. Returns whether the
    /// line is one.
    fn take_licenses(&mut self, words: &[Word<'a>]) -> bool {
        let (named, options): (Vec<&Word<'a>>, Vec<&Word<'a>>) = words.iter().partition(|word| word.value.is_none());
        let is_upgrade = words[0].is("UPGRADE");
        let version = if is_upgrade { 4 } else { 3 };
        let word = |index: usize| named.get(index).map(|word| word.key);
        let (Some(feature), Some(daemon), Some(to), Some(until), Some(count)) =
            (word(1), word(2), word(version), word(version + 1), word(version + 2))
        else {
            return false;
        };
        let (Some(count), Some(expires)) = (licenses(count), expiry(until)) else { return false };
        let option = |name: &str| options.iter().find(|word| word.is(name)).and_then(|word| word.value);
        // The key of old stands behind the number.
        let old_key = || word(version + 3).filter(|key| key.len() >= OLD_KEY && key.iter().all(u8::is_ascii_hexdigit));
        let signature = option("SIGN").filter(|signature| !signature.is_empty()).or_else(old_key);
        if signature.is_some_and(|signature| !self.signatures.insert((feature, signature))) {
            return true;
        }
        let is_set = |name: &str| words.iter().any(|word| word.is(name));
        let issued = option("ISSUED").and_then(day);
        if is_set("SUPERSEDE") {
            let also = option("SUPERSEDE").unwrap_or_default();
            let also = also.split(u8::is_ascii_whitespace).filter(|other| !other.is_empty() && *other != feature);
            let features: Vec<&[u8]> = also.chain([feature]).collect();
            match issued {
                // Wherever they stand: those that were issued before, and those of which nobody knows.
                Some(day) => self.superseded.extend(features.iter().map(|name| (daemon, *name, day))),
                None => self.pools.retain(|(pool, _)| *pool.daemon != *daemon || !features.contains(&&*pool.feature)),
            }
            self.told.remove(&(daemon, feature));
        }
        if words[0].is("FEATURE") && !self.told.insert((daemon, feature)) {
            // The license manager reads the first one alone.
            return true;
        }
        if is_upgrade {
            let from = named[3].key;
            self.lift(daemon, feature, (from, to), count.unwrap_or(0));
        }
        let pool = Pool {
            daemon: daemon.into(),
            feature: feature.into(),
            version: to.into(),
            // A feature whose number is 0 is not counted.
            licenses: count.filter(|count| *count > 0),
            expires: Some(expires),
            starts: option("START").and_then(day),
            serial: option("SN").unwrap_or_default().into(),
        };
        self.pools.push((pool, issued));
        true
    }

    /// Takes licenses away that an UPGRADE lifts from a version to a newer one: it tells them again.
    fn lift(&mut self, daemon: &[u8], feature: &[u8], (from, to): (&[u8], &[u8]), mut count: u32) {
        let can_be =
            |version: &[u8]| compare(version, from) != Ordering::Less && compare(version, to) == Ordering::Less;
        let older = self.pools.iter_mut().map(|(pool, _)| pool);
        let older = older.filter(|pool| *pool.daemon == *daemon && *pool.feature == *feature);
        for pool in older.filter(|pool| can_be(&pool.version)) {
            let Some(licenses) = &mut pool.licenses else { continue };
            let lifted = count.min(*licenses);
            *licenses -= lifted;
            count -= lifted;
        }
        self.pools.retain(|(pool, _)| pool.licenses != Some(0));
    }

    /// Takes `PACKAGE name vendor version COMPONENTS="feature:version:number ..."`. Returns whether the line is one.
    fn take_package(&mut self, words: &[Word<'a>]) -> bool {
        let mut named = words.iter().filter(|word| word.value.is_none()).skip(1);
        let (Some(package), Some(daemon), Some(version)) = (named.next(), named.next(), named.next()) else {
            return false;
        };
        let components =
            words.iter().find(|word| word.is("COMPONENTS")).and_then(|word| word.value).unwrap_or_default();
        let components = components.split(|byte| byte.is_ascii_whitespace() || *byte == b'\\');
        let components = components.filter(|component| !component.is_empty()).map(|component| {
            let mut parts = component.split(|byte| *byte == b':');
            let (name, version) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            (name, version, parts.next().and_then(number).unwrap_or(1))
        });
        let components = components.collect();
        let options = words.iter().find(|word| word.is("OPTIONS")).and_then(|word| word.value).unwrap_or_default();
        let is_suite = options.len() >= SUITE.len() && options[..SUITE.len()].eq_ignore_ascii_case(SUITE);
        self.packages.insert((daemon.key, package.key, version.key), Package { components, is_suite });
        true
    }

    /// Returns all licenses, with those of the features that packages hold.
    fn pools(self) -> Vec<Pool<'a>> {
        let is_superseded = |pool: &Pool<'a>, issued: Option<Day>| {
            let by = |(daemon, feature, day): &(&[u8], &[u8], Day)| {
                *daemon == &*pool.daemon && *feature == &*pool.feature && issued.is_none_or(|issued| issued < *day)
            };
            self.superseded.iter().any(by)
        };
        let mut all = Vec::new();
        for (pool, issued) in self.pools {
            if is_superseded(&pool, issued) {
                continue;
            }
            // Licenses of another version do not enable the package.
            let package = self.packages.get(&(&*pool.daemon, &*pool.feature, &*pool.version));
            let Some(package) = package.filter(|package| !package.components.is_empty()) else {
                all.push(pool);
                continue;
            };
            let held = package.components.iter().map(|(name, version, number)| Pool {
                feature: (*name).into(),
                version: if version.is_empty() { pool.version.clone() } else { (*version).into() },
                licenses: pool.licenses.map(|licenses| licenses.saturating_mul(*number)),
                serial: [b"in ", &*pool.feature].concat().into(),
                ..pool.clone()
            });
            let held: Vec<Pool<'a>> = held.collect();
            all.extend(package.is_suite.then_some(pool));
            all.extend(held);
        }
        all
    }
}

/// Compares two versions as the license manager does: number by number, as in 2010.0121 and 9.2.
fn compare(one: &[u8], other: &[u8]) -> Ordering {
    let numbers = |version: &[u8]| -> Vec<u64> {
        version.split(|byte| *byte == b'.').map(|part| number(part).unwrap_or(0)).collect()
    };
    numbers(one).cmp(&numbers(other))
}

/// A line, with those that it goes on in.
struct Line<'a> {
    text: Name<'a>,
    words: Vec<Word<'a>>,
}

/// A word, `KEY=value` or alone. Quotes around the value are left out.
struct Word<'a> {
    key: &'a [u8],
    value: Option<&'a [u8]>,
}

impl Word<'_> {
    fn is(&self, known: &str) -> bool {
        self.key.eq_ignore_ascii_case(known.as_bytes())
    }
}

/// The lines of license files.
struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Lines<'a> {
    fn of(text: &'a [u8]) -> Self {
        Self { rest: text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text) }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        loop {
            if self.rest.is_empty() {
                return None;
            }
            let mut scanner = Scanner { rest: self.rest };
            let mut words = Vec::new();
            while let Some(word) = scanner.word() {
                words.push(word);
            }
            let text = &self.rest[..self.rest.len() - scanner.rest.len()];
            self.rest = scanner.rest;
            if !words.is_empty() {
                return Some(Line { text: text.trim_ascii().into(), words });
            }
        }
    }
}

/// Finds the words of one line.
struct Scanner<'a> {
    rest: &'a [u8],
}

impl<'a> Scanner<'a> {
    /// Returns the next word; `None` at the line's end, which is skipped.
    fn word(&mut self) -> Option<Word<'a>> {
        self.skip_blanks()?;
        let start = self.rest;
        let mut equals = None;
        let mut is_quoted = false;
        let mut length = 0;
        while let Some(byte) = start.get(length) {
            match byte {
                b'"' => is_quoted = !is_quoted,
                b'=' if equals.is_none() => equals = Some(length),
                // A quote that does not end where the next line begins anew was never one.
                b'\n' if is_quoted && !goes_on(&start[..length]) => break,
                byte if byte.is_ascii_whitespace() && !is_quoted => break,
                _ => {}
            }
            length += 1;
        }
        self.rest = &start[length..];
        let word = &start[..length];
        Some(match equals {
            Some(equals) => {
                let value = &word[equals + 1..];
                let value = value.strip_prefix(b"\"").unwrap_or(value);
                Word { key: &word[..equals], value: Some(value.strip_suffix(b"\"").unwrap_or(value)) }
            }
            None => Word { key: word, value: None },
        })
    }

    /// Skips blanks, remarks, and the backslash behind which a line goes on. Returns `None` at the line's end.
    fn skip_blanks(&mut self) -> Option<()> {
        loop {
            match self.rest {
                [] => return None,
                [b'\n', rest @ ..] => {
                    self.rest = rest;
                    return None;
                }
                [b'\\', rest @ ..] => {
                    let end = memchr::memchr(b'\n', rest);
                    let (behind, next) = end.map_or((rest, &b""[..]), |end| (&rest[..end], &rest[end + 1..]));
                    let behind = behind.trim_ascii();
                    if !behind.is_empty() && !behind.starts_with(b"#") {
                        // No end of a line: a part of a word.
                        return Some(());
                    }
                    self.rest = next;
                }
                [b'#', rest @ ..] => {
                    let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
                    self.rest = &rest[end..];
                }
                [byte, rest @ ..] if byte.is_ascii_whitespace() => self.rest = rest,
                _ => return Some(()),
            }
        }
    }
}

/// Whether a line ends with a backslash.
fn goes_on(before: &[u8]) -> bool {
    before.trim_ascii_end().ends_with(b"\\")
}
