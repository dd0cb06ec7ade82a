//! `seatmeter-agent scan`: the monthly counts of logs, at once and with no server.
//!
//! All files given are one license server's log. They are read in the order of their first moments, each in one pass
//! and in constant memory; what is kept are names, open sessions, and a bit for each person, feature and month.

mod counts;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::tz::TimeZone;
use seatmeter_count::Day;

pub use counts::{Row, ScanCounts};

use crate::format::Format;
use crate::format::interpreter::{LineCounts, Outcome, LineInterpreter};
use crate::format::timeline::Timeline;
use crate::source::file::content::{Content, ContentError};
use crate::source::file::head::{FileHead, read_head};
use crate::source::file::identity::{Head, Identity};
use crate::source::file::lines::{Line, Lines};

/// At most this many lines that no rule understands are kept to be shown.
const SAMPLES: usize = 10;

/// What a scan found.
pub struct Scan {
    /// By month, daemon and feature, in that order.
    pub rows: Vec<Row>,
    /// What became of the lines.
    pub lines: LineCounts,
    /// Files without a line: nothing to count.
    pub empty: Vec<PathBuf>,
    /// Files whose lines no anchor dates: not counted.
    pub undated: Vec<(PathBuf, u64)>,
    /// Files that cannot be read: not counted.
    pub unreadable: Vec<ContentError>,
    /// Some of the lines that no rule understands.
    pub samples: Vec<Sample>,
}

/// A line that no rule understands.
pub struct Sample {
    /// In which file.
    pub path: PathBuf,
    /// Which line, from 1.
    pub line: u64,
    /// Why not.
    pub reason: &'static str,
    /// Its beginning.
    pub text: String,
}

impl Scan {
    /// Whether every line of every file was dated, read and recognised.
    pub fn is_complete(&self) -> bool {
        self.undated.is_empty() && self.unreadable.is_empty() && self.lines.unrecognised == 0
    }
}

/// Counts what is in these files. `date` is the day of the first line of files that do not tell it themselves.
pub fn scan(paths: &[PathBuf], date: Option<Day>) -> Scan {
    let mut scan = Scan {
        rows: Vec::new(),
        lines: LineCounts::default(),
        empty: Vec::new(),
        undated: Vec::new(),
        unreadable: Vec::new(),
        samples: Vec::new(),
    };
    let mut dated = Vec::new();
    for path in paths {
        match read_head(path, None, true) {
            Ok(FileHead { format: None, .. }) => scan.empty.push(path.clone()),
            Ok(FileHead { format: Some(format), head, .. }) => match head.identity(date).or_else(|| without_uses(&head)) {
                Some(identity) => dated.push((identity, format, path)),
                None => scan.undated.push((path.clone(), head.stamped_lines())),
            },
            Err(error) => scan.unreadable.push(error),
        }
    }
    dated.sort_by_key(|(identity, _, path)| (identity.begins, *path));
    let progress = progress(&dated);
    let mut counts = ScanCounts::default();
    for (identity, format, path) in dated {
        if let Err(error) = read((path, format), &identity, &mut counts, &mut scan, &progress) {
            scan.unreadable.push(error);
        }
    }
    progress.finish_and_clear();
    scan.rows = counts.finish();
    scan
}

/// A file that reports no use and tells no date has nothing to count: it is read for its lines alone.
fn without_uses(head: &Head) -> Option<Identity> {
    (!head.has_uses()).then_some(Identity { fingerprint: [0; 32], first_day: 0, begins: i64::MIN, head: [0; 32] })
}

fn read(
    (path, format): (&Path, Format),
    identity: &Identity,
    counts: &mut ScanCounts,
    scan: &mut Scan,
    progress: &ProgressBar,
) -> Result<(), ContentError> {
    let failed = |source| ContentError::of(path, source);
    let (content, _) = Content::open(path)?;
    let mut lines = Lines::new(Watched { content, progress }, 0);
    // Months are those of the log's own clock: it is read as if it were UTC.
    let mut interpreter = LineInterpreter::new(Timeline::starting(TimeZone::UTC, identity.first_day));
    loop {
        let number = interpreter.counts().total() + 1;
        let next = match lines.next_line().map_err(failed)? {
            Some(line) => line,
            None => match lines.last_line() {
                Some(line) => line,
                None => break,
            },
        };
        match next {
            Line::Whole(line) => match interpreter.line(&format.parse(line)) {
                Outcome::Event(event) => counts.take(&event),
                Outcome::Ignored => {}
                Outcome::Unrecognised(reason) => sample(scan, path, number, reason, line),
            },
            Line::Overlong => {
                interpreter.overlong();
                sample(scan, path, number, "a line of more than a megabyte", b"");
            }
        }
    }
    if let Some(last) = interpreter.last_line() {
        counts.seen_through(last.local);
    }
    scan.lines += interpreter.counts();
    Ok(())
}

fn sample(scan: &mut Scan, path: &Path, line: u64, reason: &'static str, text: &[u8]) {
    if scan.samples.len() < SAMPLES {
        let text = String::from_utf8_lossy(&text[..text.len().min(120)]).into_owned();
        scan.samples.push(Sample { path: path.to_owned(), line, reason, text });
    }
}

/// Tells the progress bar how far reading has come in the file itself, compressed or not.
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

/// A bar on the terminal, for what takes longer than a moment; nothing where standard error is no terminal.
fn progress(files: &[(Identity, Format, &PathBuf)]) -> ProgressBar {
    let size = files.iter().filter_map(|(_, _, path)| File::open(path).ok()?.metadata().ok()).map(|meta| meta.len()).sum();
    let bar = ProgressBar::with_draw_target(Some(size), ProgressDrawTarget::stderr_with_hz(5));
    let style = ProgressStyle::with_template("{bar:40} {percent:>3} %  {bytes} of {total_bytes}, {eta} left");
    // The template is a constant, and right: a wrong one would only lose its looks.
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
