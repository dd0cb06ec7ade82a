use jiff::Timestamp;
use jiff::civil::Date;
use proptest::prelude::*;
use seatmeter_count::timeline::first_day;

use super::*;
use crate::format::Format;

/// Reads lines. Returns the events and marks, in their order, and the interpreter's state.
fn read<'a>(lines: impl IntoIterator<Item = &'a str>, mut interpreter: LineInterpreter) -> (Vec<Event>, ParserState) {
    let mut events = Vec::new();
    for line in lines {
        Format::FlexNet.each_record(line.as_bytes(), |_, _, record| {
            let outcome = interpreter.line(record);
            events.extend(interpreter.marks().iter().map(Mark::event));
            if let Outcome::Event(Timed { time, usage, .. }) = outcome {
                let Use { kind, seats, detail, .. } = usage;
                events.push(Event { kind, at: time, feature: 0, client: 0, seats, detail });
            }
        });
    }
    (events, interpreter.state().clone())
}

fn date(events: &[Event], zone: &TimeZone, date: Option<Date>) -> Vec<(Kind, Timestamp)> {
    let told =
        events.iter().find(|event| event.kind == Kind::Date).map(|event| first_day(event.at, event.detail as i32));
    let day = told.or(date.map(seatmeter_count::calendar::day_of)).unwrap();
    let mut timeline = Timeline::new(zone.clone(), day, told);
    let moments = events.iter().map(|event| (event.kind, Timestamp::from_second(timeline.follow(event)).unwrap()));
    moments.filter(|(kind, _)| !kind.is_mark()).collect()
}

#[test]
fn a_start_tells_when_its_process_wrote_last() {
    let text = [
        "10:00:00 (lmgrd) FlexNet Licensing (v11) started on s (linux) (7/27/2026)",
        "10:00:05 (d) OUT: \"f\" a@b  ",
        "11:00:00 (e) a text",
        " 9:00:00 (lmgrd) FlexNet Licensing (v11) started on s (linux) (7/30/2026)",
        " 9:00:01 (d) Server started on s for: f",
        " 9:00:02 (x) Server started on s for: f",
    ];
    let (events, _) = read(text, LineInterpreter::default());
    let details: Vec<(Kind, i64)> =
        events.iter().filter(|event| event.kind.is_lifecycle()).map(|event| (event.kind, event.detail)).collect();
    const DAYS: i64 = 3 * 86_400;
    let expected = [
        (Kind::ManagerStart, NO_LINE_BEFORE),
        (Kind::ManagerStart, DAYS - 2 * 3600),
        (Kind::DaemonStart, DAYS - 3600 - 4),
        (Kind::DaemonStart, NO_LINE_BEFORE),
    ];
    assert_eq!(details, expected, "three days lie between, and no midnight is seen");
    assert_eq!(date(&events, &TimeZone::UTC, None)[1].1.to_string(), "2026-07-27T10:00:05Z");
    assert_eq!(date(&events, &TimeZone::UTC, None)[2].1.to_string(), "2026-07-30T09:00:00Z");
}

#[test]
fn a_start_is_announced_by_several_lines() {
    let start = |time: &str, exit: &str| {
        let lines = [
            "10:00:00 (lmgrd) TIMESTAMP 7/27/2026".to_owned(),
            "12:00:00 (d) OUT: \"f\" a@b  ".to_owned(),
            exit.to_owned(),
            format!("{time} (lmgrd) -----------------------------------------------"),
            format!("{time} (lmgrd)   Please Note:"),
            format!("{time} (lmgrd) FlexNet Licensing (v11) started on s (linux) (7/30/2026)"),
            format!("{time} (d) FlexNet Licensing version v11"),
            format!("{time} (d) Server started on s for: f"),
        ];
        let (events, _) = read(lines.iter().map(String::as_str), LineInterpreter::default());
        let starts: Vec<i64> = events.iter().filter(|event| event.kind.is_start()).map(|event| event.detail).collect();
        starts
    };
    // The first lines of the announcement stand before the date, so they are still of the day before.
    assert_eq!(start("14:00:00", " 9:00:00 text"), [3 * 86_400 + 7_200; 2], "the last line before all of them");
    assert_eq!(start("14:00:00", "13:59:55 (lmgrd) EXITING DUE TO SIGNAL 15"), [3 * 86_400 + 5, 3 * 86_400 + 7_200]);
    // With a date in each line, too.
    let dated = [
        "2026-02-27 12:00:00 (d) OUT: \"f\" a@b  ",
        "2026-03-09 08:00:00 (lmgrd) -----------------------------------------------",
        "2026-03-09 08:00:00 (lmgrd) FlexNet Licensing (v11) started on S (linux) (3/9/2026)",
    ];
    let (events, _) = read(dated, LineInterpreter::default());
    assert_eq!(events.last().unwrap().detail, 10 * 86_400 - 4 * 3600);
    // A file that begins with the announcement has no line before it.
    let (events, _) = read(dated[1..].iter().copied(), LineInterpreter::default());
    assert_eq!(events.last().unwrap().detail, NO_LINE_BEFORE);
}

#[test]
fn stamps_with_dates_tell_them_once() {
    let text = [
        "2026-07-27 10:00:00 (d) OUT: \"f\" a@b  ",
        "2026-07-27 23:00:00 (d) IN: \"f\" a@b  ",
        "2026-07-28  0:10:00 (d) OUT: \"f\" a@b  ",
        "2026-08-01  0:20:00 (d) IN: \"f\" a@b  ",
    ];
    let (events, _) = read(text, LineInterpreter::default());
    assert_eq!(events.iter().filter(|event| event.kind == Kind::Date).count(), 2);
    let moments: Vec<String> = date(&events, &TimeZone::UTC, None).iter().map(|(_, at)| at.to_string()).collect();
    let expected = ["2026-07-27T10:00:00Z", "2026-07-27T23:00:00Z", "2026-07-28T00:10:00Z", "2026-08-01T00:20:00Z"];
    assert_eq!(moments, expected);
}

proptest! {
    /// A server that writes every few minutes, and tells its date once, somewhere: every event gets the moment at which
    /// it was written, through month ends, leap days and both changes of daylight saving, whichever lines are no events,
    /// and wherever the reader is stopped and started again.
    #[test]
    fn every_event_gets_its_own_moment(
        zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Beirut"]),
        start in 1_000_000_000i64..2_000_000_000,
        steps in prop::collection::vec((0i64..850, any::<bool>()), 1..400),
        anchor_line in any::<prop::sample::Index>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let zone = TimeZone::get(zone).unwrap();
        // The first line can fall into an hour that occurs twice, and no line before it tells which.
        let ambiguous = zone.to_ambiguous_timestamp(zone.to_datetime(Timestamp::from_second(start).unwrap())).is_ambiguous();
        prop_assume!(!ambiguous);
        let mut written = vec![(start, true)];
        for (step, is_event) in steps { written.push((written[written.len() - 1].0 + step, is_event)); }
        let anchor_line = anchor_line.index(written.len());
        let line = |(index, (utc, is_event)): (usize, &(i64, bool))| {
            let local = zone.to_datetime(Timestamp::from_second(*utc).unwrap());
            let stamp = format!("{:2}:{:02}:{:02}", local.hour(), local.minute(), local.second());
            match (index == anchor_line, is_event) {
                (true, _) => format!("{stamp} (lmgrd) TIMESTAMP {}/{}/{}", local.month(), local.day(), local.year()),
                (false, true) => format!("{stamp} (d) OUT: \"f\" a@b  "),
                (false, false) => format!("{stamp} (d) a text"),
            }
        };
        let lines: Vec<String> = written.iter().enumerate().map(line).collect();
        let (whole, _) = read(lines.iter().map(String::as_str), LineInterpreter::default());
        let (before, after) = lines.split_at(cut.index(lines.len()));
        let (mut parts, state) = read(before.iter().map(String::as_str), LineInterpreter::default());
        parts.extend(read(after.iter().map(String::as_str), LineInterpreter::resume(state)).0);
        prop_assert_eq!(&whole, &parts);
        let expected: Vec<i64> = written.iter().enumerate()
            .filter(|(index, (_, is_event))| *is_event && *index != anchor_line).map(|(_, (utc, _))| *utc).collect();
        let moments: Vec<i64> = date(&whole, &zone, None).iter().map(|(_, at)| at.as_second()).collect();
        prop_assert_eq!(moments, expected);
    }
}

proptest! {
    /// Lines tell a time of day alone, or a month and day too, in any order, and one at last tells its date whole: the first line
    /// was written on its day, and the stream times are those that passed.
    #[test]
    fn times_and_months_and_days_side_by_side_count_the_same_days(
        start in 0i64..200 * 86_400,
        lines in prop::collection::vec((0i64..11 * 3600, any::<bool>()), 1..60),
    ) {
        // A year without a February 29, of which nobody tells.
        let midnight = i64::from(seatmeter_count::calendar::day_of(jiff::civil::date(2026, 1, 1))) * DAY;
        let mut at = midnight + start;
        let first_day = at.div_euclid(DAY);
        let mut interpreter = LineInterpreter::default();
        for (index, (pause, tells_day)) in lines.iter().chain([&(60, false)]).enumerate() {
            at += if index == 0 { 0 } else { *pause };
            let day = at.div_euclid(DAY) as Day;
            let (date, time) = (date_of(day), at.rem_euclid(DAY) as u32);
            let stamp = match tells_day {
                _ if index == lines.len() => Stamp::DateTime { day, time, offset: None },
                true => Stamp::MonthDay { month: date.month(), day: date.day(), time },
                false => Stamp::Time(time),
            };
            interpreter.line(&Record { stamp: Some(stamp), daemon: b"", message: Message::Ignored, rest: b"" });
            prop_assert_eq!(interpreter.state().last_time(), at - first_day * DAY);
        }
        prop_assert_eq!(interpreter.state().told().first_day.map(i64::from), Some(first_day));
    }
}
