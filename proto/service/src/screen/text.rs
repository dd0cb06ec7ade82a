//! Formats numbers, sizes, times and foreign text for the screen.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Formats a number with thousands separators: `1,234,567`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats a count with its noun: `1 batch`, `2,000 batches`. The plural ends in `s`, or in `es` after a hissing sound.
pub fn count(number: u64, noun: &str) -> String {
    let plural = match noun {
        _ if number == 1 => "",
        _ if noun.ends_with("ch") || noun.ends_with('s') || noun.ends_with('x') => "es",
        _ => "s",
    };
    format!("{} {noun}{plural}", thousands(number))
}

/// Formats a size in the largest binary unit of which there is at least one: `17 bytes`, `1.5 KiB`, `1 GiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let Some((unit, name)) = UNITS.into_iter().find(|(unit, _)| bytes >= *unit) else {
        return count(bytes, "byte");
    };
    let tenths = (bytes as f64 / unit as f64 * 10.0).round() / 10.0;
    if tenths.fract() == 0.0 { format!("{tenths:.0} {name}") } else { format!("{tenths:.1} {name}") }
}

/// Formats a duration in the largest unit of which there are at least two: `90 s`, `5 min`, `30 h`, `12 days`.
pub fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", thousands(seconds / 86_400)),
    }
}

/// Formats a time (seconds since 1970 UTC) for people, to the minute, in `zone`. The text does not name the zone.
pub fn minute(seconds: i64, zone: &TimeZone) -> String {
    in_zone(seconds, zone, "%Y-%m-%d %H:%M")
}

/// Formats a time (seconds since 1970 UTC) for people, to the second, in UTC. The text ends in `UTC`.
pub fn utc(seconds: i64) -> String {
    in_zone(seconds, &TimeZone::UTC, "%Y-%m-%d %H:%M:%S UTC")
}

fn in_zone(seconds: i64, zone: &TimeZone, form: &str) -> String {
    match Timestamp::from_second(seconds) {
        Ok(moment) => zone.to_datetime(moment).strftime(form).to_string(),
        Err(_) => format!("{seconds} s since 1970"),
    }
}

/// Formats a time (seconds since 1970 UTC) for programs, as RFC 3339. `None` if no calendar has the time.
pub fn rfc3339(seconds: i64) -> Option<String> {
    Timestamp::from_second(seconds).ok().map(|moment| moment.to_string())
}

/// Makes foreign text safe on a terminal. Replaces control characters, bidirectional marks and invisible characters by
/// U+FFFD, so that no log line can move the cursor, change colours or reorder the text beside it.
pub fn visible(text: &str) -> String {
    text.chars().map(|char| if is_hidden(char) { '\u{fffd}' } else { char }).collect()
}

fn is_hidden(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Lists names as a sentence does: `a, b, c and 4 more`. Names at most ten.
pub fn list(names: &[String]) -> String {
    const MOST: usize = 10;
    let named = names.iter().take(MOST).map(|name| visible(name)).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MOST) {
        0 => named,
        more => format!("{named} and {} more", thousands(more as u64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_sizes_read_as_people_write_them() {
        assert_eq!(
            [thousands(0), thousands(999), thousands(1000), thousands(1_234_567)],
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(
            [count(1, "batch"), count(2, "batch"), count(1000, "line")],
            ["1 batch", "2 batches", "1,000 lines"]
        );
        assert_eq!([size(1), size(1536), size(1 << 30), size(5 << 20)], ["1 byte", "1.5 KiB", "1 GiB", "5 MiB"]);
        assert_eq!(
            [duration(90), duration(300), duration(108_000), duration(1 << 20)],
            ["90 s", "5 min", "30 h", "12 days"]
        );
    }

    #[test]
    fn moments_name_their_zone_or_are_of_the_one_asked_for() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        assert_eq!(minute(0, &berlin), "1970-01-01 01:00");
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(rfc3339(0).as_deref(), Some("1970-01-01T00:00:00Z"));
        assert_eq!(rfc3339(i64::MAX), None);
    }

    #[test]
    fn foreign_text_cannot_act_on_a_terminal() {
        assert_eq!(visible("a\u{1b}[31mb\u{202e}c\u{200b}"), "a\u{fffd}[31mb\u{fffd}c\u{fffd}");
        assert_eq!(visible("Mª Luz, 漢字"), "Mª Luz, 漢字");
    }
}
