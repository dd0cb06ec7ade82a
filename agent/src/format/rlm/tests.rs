use seatmeter_count::{Kind, SessionKey};

use crate::format::{Format, Message, Record, Stamp, Use};

fn parse(line: &str) -> Record<'_> {
    Format::Rlm.parse(line.as_bytes())
}

#[track_caller]
fn usage(line: &str) -> (Kind, String, String, String, u32, i64) {
    let Message::Use(Use { kind, feature, user, host, seats, detail }) = parse(line).message else {
        panic!("{line}: {:?}", parse(line).message)
    };
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (kind, text(feature), text(user), text(host), seats, detail)
}

#[track_caller]
fn expect(line: &str, kind: Kind, [feature, user, host]: [&str; 3], seats: u32, detail: i64) {
    assert_eq!(usage(line), (kind, feature.to_owned(), user.to_owned(), host.to_owned(), seats, detail), "{line}");
}

fn numbered(own: u64, shared: u64) -> i64 {
    SessionKey::new(own, shared).unwrap().detail()
}

#[test]
fn events_of_a_report_log() {
    let names = ["analytics", "cecil", "win2008"];
    expect(
        r#"OUT analytics 2.09 2 cecil win2008 "" 1 1 0 41 41 1a14 "" "" "" 05/11 15:17:14"#,
        Kind::Checkout,
        names,
        1,
        numbered(0x41, 0x41),
    );
    expect(
        r#"OUT analytics 12.0 5 cecil win2008 "ISV Def Stuff" 14 56 0 150 1dc 171c "p 1" "" "" 01/07 10:15:12"#,
        Kind::Checkout,
        names,
        14,
        numbered(0x150, 0x1dc),
    );
    expect(
        r#"IN 1 analytics 2.12 cecil win2008 "" 1 0 0 81 05/11 15:22:13"#,
        Kind::Checkin,
        names,
        1,
        numbered(0x81, 0x81),
    );
    expect(r#"DENY analytics 2.1 cecil win2008 "" 1 -22 1 05/11 15:20"#, Kind::Denial, names, 1, -22);
    expect(r#"DENY analytics 2.1 cecil win2008 "" 1 -22 1 485c 05/11 15:20"#, Kind::Denial, names, 1, -22);
    for line in [
        r#"INUSE analytics 3.12 2 cecil win2008 "" 1 41 1a14 05/11 15:23:15"#,
        r#"INUSE analytics 5.0 1 cecil win2008 "5sW" 1 41 41 a754 09/04 00:00:04"#,
    ] {
        expect(line, Kind::InUse, names, 1, numbered(0x41, 0x41));
    }
    expect(r#"QUE analytics 1 cecil win2008 "" 1 a "" "" "" 05/11 15:23:15"#, Kind::Queued, names, 1, 0);
    expect(r#"DEQUE 1 analytics 1 cecil win2008 "" 1 a 05/11 15:23:15"#, Kind::Dequeued, names, 1, 0);
}

/// Behind the stamp: the system, the program, the days and the handle of roaming, the address.
#[test]
fn events_of_the_detailed_format_tell_more() {
    for behind in [r#" "x86_w2 5.1" "C:\\a b\\c.exe" 0 0 10.1.2.3"#, r#" "x64_l1 6.1" "" 3 1f"#, r#" "" "prog" 0"#, ""]
    {
        let line = format!(r#"OUT f 2.09 2 a b h "d" 1 1 0 41 41 1a14 "p" "f" "2.0" 05/11 15:17:14.1234{behind}"#);
        expect(&line, Kind::Checkout, ["f", "a b", "h"], 1, numbered(0x41, 0x41));
        assert_eq!(parse(&line).stamp, Some(Stamp::MonthDay { month: 5, day: 11, time: 55_034 }));
    }
    expect(
        r#"IN 1 f 2.12 a b h "" 1 0 0 81 05/11 15:22:13.0"#,
        Kind::Checkin,
        ["f", "a b", "h"],
        1,
        numbered(0x81, 0x81),
    );
}

#[test]
fn events_of_the_small_format_tell_little() {
    expect(
        r#"OUT analytics 2.09 cecil win2008 "" 2 41 41 15:17"#,
        Kind::Checkout,
        ["analytics", "cecil", "win2008"],
        2,
        numbered(0x41, 0x41),
    );
    expect("IN 1 2 41 9:05", Kind::SessionEnd, ["", "", ""], 1, numbered(0x41, 0x41));
    assert_eq!(parse("IN 1 2 41 9:05").stamp, Some(Stamp::Time(9 * 3600 + 300)));
}

/// Users are not in quotes, so their blanks are told by the fields around them.
#[test]
fn names_with_blanks_and_empty_ones() {
    let line = |client: &str| format!(r#"OUT f 1 2 {client} "" 1 1 0 41 41 1a14 "" "" "" 05/11 15:17:14"#);
    let key = numbered(0x41, 0x41);
    for (client, user, host) in [
        ("Mila Ordonez h", "Mila Ordonez", "h"),
        ("a  b c h", "a  b c", "h"),
        (r#""" h"#, "", "h"),
        (r#"ann """#, "ann", ""),
        (r#""" """#, "", ""),
        ("7 8", "7", "8"),
        ("é@x.org h", "é@x.org", "h"),
    ] {
        expect(&line(client), Kind::Checkout, ["f", user, host], 1, key);
        let returned = format!(r#"IN 2 f 1 {client} "d" 1 0 0 41 05/11 15:17:14"#);
        expect(&returned, Kind::Checkin, ["f", user, host], 1, key);
    }
}

#[test]
fn stamps() {
    let md = |month, day, time| Some(Stamp::MonthDay { month, day, time });
    assert_eq!(parse("REREAD automatic midnight 05/12 00:00:38").stamp, md(5, 12, 38));
    assert_eq!(parse("SHUTDOWN webuser win2008 05/11 15:23:15").message, Message::ManagerExit);
    let start = parse("START Win2008 05/11/2013 15:16:49\r");
    assert_eq!(start.message, Message::ManagerStart(None, b""));
    let day = jiff::civil::date(2013, 5, 11);
    let day = seatmeter_count::calendar::day_of(day);
    assert_eq!(start.stamp, Some(Stamp::DateTime { day, time: 55_009, offset: None }));
    assert_eq!(parse("05/11/2013 15:54").stamp, Some(Stamp::DateTime { day, time: 57_240, offset: None }));
    assert_eq!(parse("log 02/29 1:02:03 05/11/2013 x").stamp, md(2, 29, 3723));
    for no_stamp in ["05/11 15:54", "99/99/2013 15:54", "13/01/2013 1:00", "05/11/2013", "user 1/0 at 03/28 21:44"] {
        assert_eq!(parse(no_stamp).stamp, None, "{no_stamp}");
    }
}

#[test]
fn a_report_log_names_its_isv() {
    assert_eq!(parse("ISV: demo, RLM version 10.0 BL2").message, Message::Daemon(b"demo"));
    assert_eq!(parse("RLM Report Log Format 0, version 8.0, authenticated").message, Message::Daemon(b"rlm"));
}

#[test]
fn what_is_cut_or_marked_is_not_recognised() {
    for line in [
        r#"OUT datavis 2.04 1 cecil win7_xeon """#,
        r#"OUT datavis 2.04 1 cecil win7_xeon "" 1 1 0 41"#,
        r#"OUT datavis 2.04 1 cecil win7_xeon "cut"#,
        r#"--OUT f 5.0 3 bob.t pc0060 "" 1 1 0 2a4 2a4 17a14 "" "" "" 09/04 14:19:58"#,
        "IN 1 f",
        "START host",
    ] {
        assert!(matches!(parse(line).message, Message::Unrecognised(_)), "{line}: {:?}", parse(line));
        assert_eq!(parse(line).stamp, None, "{line}");
    }
    for line in ["", "SWITCH to file", r#"PRODUCT f 5.0 1 0 0 0 "ANY" "27" "A, B" "" "" "" 0 0"#, "LICENSE FILE "] {
        assert_eq!(parse(line).message, Message::Ignored, "{line}");
    }
}

/// Another server can still give it.
#[test]
fn a_denial_before_the_last_attempt_is_none() {
    assert_eq!(parse(r#"DENY f 2.1 cecil h "" 1 -22 0 05/11 15:20"#).message, Message::Ignored);
}

#[test]
fn events_of_a_debug_log() {
    let names = ["analytics", "cecil", "win2008"];
    expect("05/11 15:17 (demo) OUT: analytics v2.09 by cecil@win2008 ", Kind::Checkout, names, 1, 0);
    expect("03/19 5:17 (demo) IN: (client exit) analytics v3.03 by cecil@win2008 ", Kind::Checkin, names, 1, 0);
    expect("05/11 15:20 (demo) DENIED: (1) analytics v2.1 to cecil@win2008 ", Kind::Denial, names, 1, 0);
    expect(
        "06/13 08:52 (demo) OUT: analytics v13.0 by A b@x.org@win8 ISV_Def Stuff (14 licenses)",
        Kind::Checkout,
        ["analytics", "A b@x.org", "win8"],
        14,
        0,
    );
    let start = parse("05/11 15:16 (demo) Server started on Win2008 (hostid: 6fc049e3e83d) for:");
    assert_eq!((start.daemon, start.message), (&b"demo"[..], Message::DaemonStart(b"")));
    assert_eq!(parse("05/11 15:20 (demo)         All licenses in use").message, Message::Ignored);
    assert!(matches!(parse("05/11 15:20 (demo) OUT: nonsense").message, Message::Unrecognised(_)));
}

#[test]
fn no_line_of_flexnet_is_one_of_rlm() {
    for (line, format) in [
        (r#" 9:15:26 (CITRIX) OUT: "MPS_ENT_CCU" MPS@server [2686FB43]"#, Some(Format::FlexNet)),
        ("05/11 15:17 (demo) OUT: analytics v2.09 by cecil@win2008", Some(Format::Rlm)),
        ("START Win2008 05/11/2013 15:16:49", Some(Format::Rlm)),
        ("05/11/2013 15:54", None),
        ("    user11 server19 (v61.3) (h/27002 6707), start Tue 2/26 22:21, 13 licenses", None),
        ("  nuke_i v2024.0331: user1@host 1/0 at 03/28 21:44  (handle: 36a5) ", None),
    ] {
        assert_eq!(Format::of_line(line.as_bytes()), format, "{line}");
    }
}
