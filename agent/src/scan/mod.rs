//! `seatmeter-agent scan`: the monthly counts of logs, without an aggregator.
//!
//! All files given belong to one license server. They are read in the order of their first lines, each in one pass and
//! in constant memory. The scan keeps only names, open sessions, and a bit for each person, feature and month.

mod copies;
mod counts;
mod dates;
mod sequences;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use seatmeter_count::Day;
use seatmeter_count::name::decode;
use seatmeter_count::timeline::DAY;

pub use copies::Alike;
pub use counts::{Row, ScanCounts};

use crate::format::Format;
use crate::format::clock::next_day;
use crate::format::interpreter::{LineCounts, Outcome};
use crate::source::file::content::{Content, ContentError};
use crate::source::file::head::{FileHead, read_head};
use crate::source::file::identity::Identity;
use crate::source::file::lines::{Line, Lines};
use dates::{Dates, dates_of};
use sequences::Sequence;

/// The maximum number of unrecognised lines that are kept for display.
const SAMPLES: usize = 10;

/// The result of a scan.
pub struct Scan {
    /// The counts, ordered by month, daemon and feature.
    pub rows: Vec<Row>,
    /// The lines read, by outcome.
    pub lines: LineCounts,
    /// Files without a line, which have nothing to count.
    pub empty: Vec<PathBuf>,
    /// Files that were not counted because no line tells a date, each with the number of its lines that have a time.
    pub undated: Vec<(PathBuf, u64)>,
    /// The errors of files that were not counted because they cannot be read.
    pub unreadable: Vec<ContentError>,
    /// The errors of files that were counted up to a place from which they cannot be read.
    pub cut: Vec<ContentError>,
    /// The first unrecognised lines, at most 10.
    pub samples: Vec<Sample>,
    /// NULs before lines, which were skipped.
    pub nuls: u64,
    /// Files that begin as other files do. Copies are not counted.
    pub alike: Vec<Alike>,
}

/// A line that the parser does not recognise.
pub struct Sample {
    /// Path of the file.
    pub path: PathBuf,
    /// The number of the line in its file, from 1.
    pub line: u64,
    /// Why the parser does not recognise the line.
    pub reason: &'static str,
    /// The beginning of the line, at most 120 characters.
    pub text: String,
}

impl Scan {
    /// Whether every line of every file was dated, read and recognised, and none was counted twice.
    pub fn is_complete(&self) -> bool {
        let are_read = self.unreadable.is_empty() && self.cut.is_empty();
        let are_counted_once = self.alike.iter().all(|alike| alike.count_once);
        are_read && are_counted_once && self.undated.is_empty() && self.lines.unrecognised == 0
    }
}

/// Counts the usage in these files. `date` is the day of the first line of files in which no line tells a date. Where that line
/// tells its month and day, they are those on or after `date`, or at most a month before.
pub fn scan(paths: &[PathBuf], date: Option<Day>) -> Scan {
    let mut scan = Scan {
        rows: Vec::new(),
        lines: LineCounts::default(),
        empty: Vec::new(),
        undated: Vec::new(),
        unreadable: Vec::new(),
        cut: Vec::new(),
        samples: Vec::new(),
        alike: Vec::new(),
        nuls: 0,
    };
    let files = identified(paths, date, &mut scan);
    let progress = progress(&files);
    let (mut counts, mut sequences) = (ScanCounts::default(), Vec::new());
    for file in files {
        let File { first_day, begins, path, .. } = file;
        match Content::open(path) {
            Ok((content, _)) => {
                let lines = Lines::new(Watched { content, progress: &progress }, 0);
                let number = sequences::continue_with(&mut sequences, path, begins, first_day);
                if file.identity.is_some_and(|identity| identity.month_day.is_some()) {
                    sequences[number].interpreter.begin_on(first_day);
                }
                counts.of_sequence(number);
                let outcome = read(lines, file, &mut sequences[number], &mut counts, &mut scan);
                scan.cut.extend(outcome.err());
            }
            Err(error) => scan.unreadable.push(error),
        }
    }
    progress.finish_and_clear();
    for sequence in &sequences {
        scan.lines += sequence.interpreter.counts();
    }
    scan.rows = counts.finish();
    scan
}

/// A file to count, with what its beginning tells.
#[derive(Clone, Copy)]
struct File<'a> {
    /// `None` if the file reports no use and tells no date: it is read only to count its lines.
    identity: Option<Identity>,
    /// The day of the first line.
    first_day: Day,
    /// The local time of the first line, in seconds since 1970.
    begins: i64,
    format: Format,
    path: &'a PathBuf,
    /// The position from which lines count: those before count in another file.
    counts_from: u64,
}

/// Returns the files that can be counted, each once, in the order of their first lines. Notes the others.
fn identified<'a>(paths: &'a [PathBuf], date: Option<Day>, scan: &mut Scan) -> Vec<File<'a>> {
    let mut dated = Vec::new();
    for path in paths {
        match read_head(path, None, true) {
            Ok(FileHead { format: None, .. }) => scan.empty.push(path.clone()),
            Ok(FileHead { format: Some(format), head, .. }) => {
                let (identity, Dates { first_day, lines }) = match (head.identity(), dates_of(path, format)) {
                    (identity, Ok(dates)) => (identity, dates),
                    (_, Err(error)) => {
                        scan.unreadable.push(error);
                        continue;
                    }
                };
                let file = File { identity, first_day: 0, begins: i64::MIN, format, path, counts_from: 0 };
                // Where the first line tells its month and day, the year alone is open.
                let month_day = identity.and_then(|identity| identity.month_day);
                let day = first_day.or(date);
                let day = month_day.map_or(day, |(month, of_month)| next_day(month, of_month, day?));
                match (identity, day) {
                    (None, _) => dated.push(file),
                    (Some(identity), Some(first_day)) => {
                        let begins = i64::from(first_day) * DAY + i64::from(identity.first_time);
                        dated.push(File { first_day, begins, ..file });
                    }
                    (Some(_), None) => scan.undated.push((path.clone(), lines)),
                }
            }
            Err(error) => scan.unreadable.push(error),
        }
    }
    dated.sort_by_key(|file: &File<'_>| (file.begins, file.path));
    leave_out_copies(&mut dated, scan);
    count_shared_lines_once(&mut dated, scan);
    dated
}

/// Removes the files that are copies of others.
fn leave_out_copies(files: &mut Vec<File<'_>>, scan: &mut Scan) {
    let mut index = 1;
    while index < files.len() {
        let path = files[index].path;
        let copy = alike_before(files, index).find_map(|(before, alike)| {
            let copy = if alike.path == **path { index } else { before };
            alike.differ_at.is_none().then_some((copy, alike))
        });
        match copy {
            Some((copy, alike)) => {
                files.remove(copy);
                scan.alike.push(alike);
            }
            None => index += 1,
        }
    }
}

/// Sets where the lines of files begin that are not in a file before them.
fn count_shared_lines_once(files: &mut [File<'_>], scan: &mut Scan) {
    for index in 1..files.len() {
        let shared: Vec<Alike> = alike_before(files, index).map(|(_, alike)| alike).collect();
        let once = shared.iter().filter(|alike| alike.count_once).map(|alike| alike.same_lines);
        files[index].counts_from = once.max().unwrap_or(0);
        scan.alike.extend(shared);
    }
}

/// Compares a file with those before it that begin alike, on the same day. A file that cannot be read is reported when it
/// is counted.
fn alike_before<'a>(files: &'a [File<'_>], index: usize) -> impl Iterator<Item = (usize, Alike)> + 'a {
    let File { identity, first_day, path, .. } = files[index];
    files[..index].iter().enumerate().filter_map(move |(before, other)| {
        let (one, two) = (identity?, other.identity?);
        let are_alike = one.beginning == two.beginning && first_day == other.first_day;
        are_alike.then(|| Some((before, copies::compare(other.path, path, one.tells_date).ok()?)))?
    })
}

/// Counts lines to their end, or up to where they cannot be read.
fn read(
    mut lines: Lines<Watched<'_>>,
    File { path, format, counts_from, .. }: File<'_>,
    sequence: &mut Sequence,
    counts: &mut ScanCounts,
    scan: &mut Scan,
) -> Result<(), ContentError> {
    // The state of the loop is its own, so that the compiler can keep it in registers.
    let (mut interpreter, mut timeline) = (sequence.interpreter.clone(), sequence.timeline.clone());
    let mut number = 0;
    let outcome = loop {
        number += 1;
        let counts_here = lines.position() >= counts_from;
        let next = match lines.next_line() {
            Ok(Some(line)) => line,
            Ok(None) => match lines.last_line() {
                Some(line) => line,
                None => break Ok(()),
            },
            Err(source) => break Err(ContentError::of(path, source)),
        };
        match next {
            Line::Whole(line) => format.each_record(line, |_, text, record| {
                let outcome = interpreter.line(record);
                for mark in interpreter.marks() {
                    timeline.follow(&mark.event());
                }
                match outcome {
                    Outcome::Event(event) if counts_here => {
                        counts.take(&event, timeline.local(event.time), interpreter.daemon());
                    }
                    Outcome::Event(_) | Outcome::Ignored => {}
                    Outcome::Unrecognised(reason) => sample(&mut scan.samples, path, number, reason, text),
                }
            }),
            Line::Overlong => {
                interpreter.overlong();
                sample(&mut scan.samples, path, number, "a line of more than a megabyte", b"(not shown)");
            }
        }
    };
    (sequence.interpreter, sequence.timeline) = (interpreter, timeline);
    if let Some(last) = sequence.end() {
        counts.seen_through(last);
    }
    scan.nuls += lines.nuls();
    outcome
}

fn sample(samples: &mut Vec<Sample>, path: &Path, line: u64, reason: &'static str, text: &[u8]) {
    if samples.len() < SAMPLES {
        let text = decode(text).chars().take(120).collect();
        samples.push(Sample { path: path.to_owned(), line, reason, text });
    }
}

/// Reads content and advances the progress bar by the bytes read. A compressed file does not advance it.
struct Watched<'a> {
    content: Content,
    progress: &'a ProgressBar,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.content.read(buffer)?;
        if self.content.is_plain() {
            self.progress.inc(read as u64);
        }
        Ok(read)
    }
}

/// Creates a progress bar on standard error, which shows nothing if standard error is not a terminal.
fn progress(files: &[File<'_>]) -> ProgressBar {
    let size =
        files.iter().filter_map(|file| fs::File::open(file.path).ok()?.metadata().ok()).map(|meta| meta.len()).sum();
    let bar = ProgressBar::with_draw_target(Some(size), ProgressDrawTarget::stderr_with_hz(5));
    let style = ProgressStyle::with_template("{bar:40} {percent:>3} %  {bytes} of {total_bytes}, {eta} left");
    // The template is a valid constant. With an invalid one, the bar would only fall back to the default style.
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
