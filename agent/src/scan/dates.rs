//! Finds the day on which a file begins.

use std::path::Path;

use seatmeter_count::Day;

use crate::format::Format;
use crate::format::interpreter::LineInterpreter;
use crate::source::file::content::{Content, ContentError};
use crate::source::file::lines::{Line, Lines};

/// What a file tells of its dates.
pub(super) struct Dates {
    /// The day of the first line, reckoned back from the first line that tells a date; `None` if no line does.
    pub(super) first_day: Option<Day>,
    /// The number of lines with a time, up to the one that tells a date.
    pub(super) lines: u64,
}

/// Reads a file until a line tells a date, or to its end.
pub(super) fn dates_of(path: &Path, format: Format) -> Result<Dates, ContentError> {
    let failed = |source| ContentError::of(path, source);
    let (content, _) = Content::open(path)?;
    let mut lines = Lines::new(content, 0);
    let (mut interpreter, mut stamped) = (LineInterpreter::default(), 0);
    while interpreter.state().told().first_day.is_none() {
        let is_whole = match lines.next_line() {
            Ok(Some(Line::Whole(line))) => {
                count(format, line, &mut interpreter, &mut stamped);
                true
            }
            Ok(Some(Line::Overlong)) => true,
            Ok(None) => false,
            // A file that cannot be read to its end counts up to there.
            Err(_) if stamped > 0 => false,
            Err(error) => return Err(failed(error)),
        };
        if !is_whole {
            if let Some(Line::Whole(line)) = lines.last_line() {
                count(format, line, &mut interpreter, &mut stamped);
            }
            break;
        }
    }
    Ok(Dates { first_day: interpreter.state().told().first_day, lines: stamped })
}

fn count(format: Format, line: &[u8], interpreter: &mut LineInterpreter, stamped: &mut u64) {
    format.each_record(line, |_, _, record| {
        *stamped += u64::from(record.stamp.is_some());
        interpreter.line(record);
    });
}
