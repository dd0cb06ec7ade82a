//! Tests every form of line, as published or as observed; see the documentation of the module.

use seatmeter_count::Kind;
use seatmeter_count::calendar::date_of;

use super::*;
use crate::format::{Anchor, Stamp, Use};

fn usage(line: &str) -> Use<'_> {
    match parse(line.as_bytes()).message {
        Message::Use(usage) => usage,
        other => panic!("{line}: {other:?}"),
    }
}

/// kind, feature, user, host, seats, detail
type Expected = (Kind, &'static str, &'static str, &'static str, u32, i64);

fn assert_use(line: &'static str, (kind, feature, user, host, seats, detail): Expected) {
    let expected =
        Use { kind, feature: feature.as_bytes(), user: user.as_bytes(), host: host.as_bytes(), seats, detail };
    assert_eq!(usage(line), expected, "{line}");
}

fn message(line: &[u8]) -> Message<'_> {
    parse(line).message
}

fn anchor(line: &str) -> String {
    match message(line.as_bytes()) {
        Message::Anchor(Anchor::Day(day)) => date_of(day).to_string(),
        Message::Anchor(Anchor::Moment { day, time }) => format!("{} {time}", date_of(day)),
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn uses_of_every_form() {
    use Kind::*;
    assert_use(
        "15:49:22 (adskflex) OUT: \"86815AECCOL_T_F\" JohnDoe@PC01  ",
        (Checkout, "86815AECCOL_T_F", "JohnDoe", "PC01", 1, 0),
    );
    assert_use(
        " 8:14:44 (MLM) IN: \"MATLAB\" Xavi@DESKTOP-PV69PK5  (SHUTDOWN)",
        (Checkin, "MATLAB", "Xavi", "DESKTOP-PV69PK5", 1, 0),
    );
    assert_use(
        "11:02:14 (adskflex) IN: \"64300ACD_F\" USER07@COMPUTER04  (INACTIVE)\r",
        (Checkin, "64300ACD_F", "USER07", "COMPUTER04", 1, 0),
    );
    assert_use(
        "21:06:15 (ansyslmd) OUT: \"hfsshpc\" mkel@node7005.cluster.example.edu  (20 licenses) ",
        (Checkout, "hfsshpc", "mkel", "node7005.cluster.example.edu", 20, 0),
    );
    assert_use(
        " 5:23:21 (parteklm) UPGRADE: \"flow_base\" flow@P-HIRNPFLOW  (5->6 licenses) ",
        (Upgrade, "flow_base", "flow", "P-HIRNPFLOW", 6, 5),
    );
    assert_use(
        "15:28:58 (adskflex) DENIED: \"64300ACD_F\" Tony@OTHER  (Licensed number of users already reached. (-4,342))",
        (Denial, "64300ACD_F", "Tony", "OTHER", 1, -4),
    );
    assert_use(
        "15:28:58 (p) DENIED: \"b\" t@h  (Licensed number of users already reached. (-4,342:10054 \"WinSock: reset\"))",
        (Denial, "b", "t", "h", 1, -4),
    );
    assert_use(
        "18:48:22 (ABAQUSLM) DENIED: \"abaqus\" ask@node353.igcar.gov.in  (25 licenses) (Users are queued for this feature. (-24,332))",
        (Denial, "abaqus", "ask", "node353.igcar.gov.in", 25, -24),
    );
    assert_use(
        "16:13:35 (MSC) OUT: \"MSCONE\" user_01@machine_01 [MSCONE:NASTRAN] (13 licenses)",
        (Checkout, "MSCONE", "user_01", "machine_01", 13, 0),
    );
    assert_use(
        "17:27:32 (ibmratl) OUT: \"ClearQuest\" Mike@rock.domain.com [#u#Mike#u##s#abc@x#s##h#rock#h#]",
        (Checkout, "ClearQuest", "Mike", "rock.domain.com", 1, 0),
    );
    assert_use(
        "21:00:50 (CITRIX) OUT: \"CITRIX\" USER15@GENE-VM-2K3 [ec26edf8]",
        (Checkout, "CITRIX", "USER15", "GENE-VM-2K3", 1, 0),
    );
    assert_use(
        "9:16:49 (CITRIX) IN: \"MPS_ENT_CCU\" MPS@ serverA.verylongdomainname.ctx.c [2686FB43]",
        (Checkin, "MPS_ENT_CCU", "MPS", "serverA.verylongdomainname.ctx.c", 1, 0),
    );
    assert_use("10:00:00 (x) QUEUED: \"f\" u@h (2 licenses)", (Queued, "f", "u", "h", 2, 0));
    assert_use("10:00:00 (x) DEQUEUED: \"f\" u@h", (Dequeued, "f", "u", "h", 1, 0));
    assert_use("10:00:00 (x) INUSE: \"f\" u@h", (InUse, "f", "u", "h", 1, 0));
    assert_use(
        "13:58:53 (parteklm) UNSUPPORTED: \"pathway_base\" (PORT_AT_HOST_PLUS   ) cri@Xristinas-MacBook-Pro  (License server system does not support this feature. (-18,327))",
        (Unsupported, "pathway_base", "cri", "Xristinas-MacBook-Pro", 1, -18),
    );
    assert_use(
        "22:11:33 (parteklm) UNSUPPORTED: \"infr\" (08AD 4E27 354C F88F ) zhx9@LAB-01990683  (License server system does not support this feature. (-18,327:10054 \"\"))",
        (Unsupported, "infr", "zhx9", "LAB-01990683", 1, -18),
    );
    assert_use(
        "8:41:54 (demo) OUT: \"f1\" ADas@BLR-LT-104276 ^^^ 1.0 ADas 127.0.0.1 29865 0x12CE (9 licenses) ^^^",
        (Checkout, "f1", "ADas", "BLR-LT-104276", 1, 0),
    );
    assert_use(
        "8:41:54 (demo) OUT: \"f1\" @BLR-LT-104276 (3 licenses) ^^^ 1.0 ADas 127.0.0.1 29865 0x12CE ^^^",
        (Checkout, "f1", "ADas", "BLR-LT-104276", 3, 0),
    );
}

#[test]
fn names_with_blanks_signs_and_letters_of_all_kinds() {
    assert_eq!(usage("1:00:00 (d) OUT: \"f\" Mila Ordonez@DESKTOP-L00QHGH  ").user, "Mila Ordonez".as_bytes());
    assert_eq!(usage("1:00:00 (d) OUT: \"f\" Mª Luz@PC  ").user, "Mª Luz".as_bytes());
    assert_eq!(usage("1:00:00 (d) OUT: \"f\" PC01$@PC01  ").user, b"PC01$");
    assert_eq!(usage("1:00:00 (d) OUT: \"f\" Jo (Ext) Do@PC01  (2 licenses)").user, b"Jo (Ext) Do");
    let with_domain = usage("1:00:00 (d) IN: \"f\" abc@eng.com@HOST  (2 licenses)");
    assert_eq!((with_domain.user, with_domain.host, with_domain.seats), (&b"abc@eng.com"[..], &b"HOST"[..], 2));
    let windows = usage("1:00:00 (d) IN: \"f\" DOMAIN\\user@HOST");
    assert_eq!((windows.user, windows.host), (&b"DOMAIN\\user"[..], &b"HOST"[..]));
    for feature in ["ARC/INFO", "al4odb++", "EX_DIGIMAT_MX+", "1234", "with blank", "a@b"] {
        let line = format!("1:00:00 (d) OUT: \"{feature}\" u@h");
        let found = usage(&line);
        assert_eq!((found.feature, found.user), (feature.as_bytes(), &b"u"[..]));
    }
    match message(b"1:00:00 (d) OUT: \"f\" M\xaa Luz@PC  ") {
        Message::Use(usage) => assert_eq!(usage.user, b"M\xaa Luz"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn stamps_and_what_stands_before_them() {
    let head = |line: &'static str| {
        let record = parse(line.as_bytes());
        (record.stamp, String::from_utf8_lossy(record.daemon).into_owned())
    };
    let at_eight = Some(Stamp::Time(8 * 3600 + 42 * 60 + 25));
    assert_eq!(head(" 8:42:25 (adskflex) x"), (at_eight, "adskflex".into()));
    assert_eq!(head("8:42:25 (adskflex) x"), (at_eight, "adskflex".into()));
    assert_eq!(head("08:42:25 (adskflex_pluggin) x"), (at_eight, "adskflex_pluggin".into()));
    assert_eq!(head("08:42:25 (adskflex_12) x"), (at_eight, "adskflex".into()));
    assert_eq!(head("08:42:25 (a_1_2) x"), (at_eight, "a_1".into()));
    assert_eq!(head("08:42:25 (_1) x"), (at_eight, "_1".into()));
    assert_eq!(head("\u{feff} 8:42:25 (lmgrd) x"), (at_eight, "lmgrd".into()));
    assert_eq!(head("lmgrd_1    | 08:42:25 (ARCGIS) x"), (at_eight, "ARCGIS".into()));
    assert_eq!(head("lmgrd_1    |  8:42:25 (ARCGIS) x"), (at_eight, "ARCGIS".into()));
    assert_eq!(head("[root@life1 glnxa64]# 08:42:25 (lmgrd) FlexNet"), (at_eight, "lmgrd".into()));
    assert_eq!(head("\0\0\0\0 8:42:25 (lmgrd) x"), (at_eight, "lmgrd".into()));
    assert_eq!(head("(@MSC-INFO@)    08:42:25 (MSC) C:\\LOG\\x.ddu"), (at_eight, "MSC".into()));
    assert_eq!(head("08:42:25 (MLM)"), (at_eight, "MLM".into()));
    let iso = |offset| Some(Stamp::DateTime { day: 19_607, time: 43_860, offset });
    assert_eq!(head("2023-09-07T12:11:00+0200 (SIEMBT) x"), (iso(Some(7200)), "SIEMBT".into()));
    assert_eq!(head("2023-09-07T12:11:00-05:30 (SIEMBT) x"), (iso(Some(-19_800)), "SIEMBT".into()));
    assert_eq!(head("2023-09-07T12:11:00Z (SIEMBT) x"), (iso(Some(0)), "SIEMBT".into()));
    assert_eq!(head("2023-09-07T12:11:00 (SIEMBT) x"), (iso(None), "SIEMBT".into()));
    assert_eq!(head("app  | 2023-09-07T12:11:00+0200 (SIEMBT) x"), (iso(Some(7200)), "SIEMBT".into()));
    for none in [
        "24:00:00 (d) x",
        "12:60:00 (d) x",
        "12:49:3a9 (d) x",
        "12:49:03 d x",
        "12:49:03 () x",
        "2023-13-07T12:11:00 (d) x",
    ] {
        assert_eq!(head(none).0, None, "{none}");
    }
}

#[test]
fn anchors() {
    assert_eq!(anchor("21:49:10 (lmgrd) TIMESTAMP 7/27/2018"), "2018-07-27");
    assert_eq!(
        anchor("15:49:07 (lmgrd) Server's System Date and Time: Fri Jul 27 2018 15:49:07 Eastern Daylight Time"),
        "2018-07-27 56947"
    );
    assert_eq!(anchor("15:49:10 (lmgrd) (@lmgrd-SLOG@) Start-Date: Wed Jul 17 2019 10:55:13 -05"), "2019-07-17 39313");
    assert_eq!(
        anchor(" 8:42:31 (adskflex) (@adskflex-SLOG@) Reread time: Thu May 05 2022 08:42:31 Hora de verano romance"),
        "2022-05-05 31351"
    );
    assert_eq!(anchor("19:49:20 (adskflex) (@adskflex-SLOG@) Time: Fri Jul 27 2018 19:49:20 KST"), "2018-07-27 71360");
    for none in [
        " 8:14:44 (MLM) (@MLM-SLOG@) Peak active connections #322 attempted at Thu Jun 09 2022 13:21:43 Hora",
        " 1:36:24 (p) (@p-SLOG@) 00000002 ms at 22:42:42(9/30/2017),#7,(luw12,GNELTSU4109TN2,18)",
        " 1:36:24 (p) base expires 31-jul-2015",
    ] {
        assert_eq!(message(none.as_bytes()), Message::Ignored, "{none}");
    }
    assert!(matches!(message(b"21:49:10 (lmgrd) TIMESTAMP 27/7/2018"), Message::Unrecognised(_)), "US order only");
}

#[test]
fn lifecycles() {
    let banner = |line: &str| match message(line.as_bytes()) {
        Message::ManagerStart(day, _) => day.map(|day| date_of(day).to_string()),
        other => panic!("{line}: {other:?}"),
    };
    let day = Some("2018-07-27".to_owned());
    assert_eq!(
        banner(
            "15:49:10 (lmgrd) FlexNet Licensing (v11.14.1.3 build 212549 x64_n6) started on SERVER (IBM PC) (7/27/2018)"
        ),
        day
    );
    assert_eq!(
        banner("15:49:10 (lmgrd) FLEXnet Licensing (v11.4.100.0 build 50818 i86_n3) started on s (linux) (7/27/2018)"),
        day
    );
    assert_eq!(banner("15:49:10 (lmgrd) FlexNet Licensing (v11) started on s"), None);
    assert_eq!(message(b"15:49:10 (lmgrd) Started adskflex (pid 4216)"), Message::DaemonStart(b"adskflex"));
    assert_eq!(
        message(b"17:17:45 (lmgrd) Started ansyslmd (internet tcp_port 37560 pid 1085)"),
        Message::DaemonStart(b"ansyslmd")
    );
    assert_eq!(message(b"18:17:38 (lmgrd) REStarted parteklm (pid 34452)"), Message::DaemonStart(b"parteklm"));
    assert_eq!(message(b"15:49:19 (adskflex) Server started on SOME-SERVER for:\t"), Message::DaemonStart(b""));
    for older in [
        "18:05:20 (lmgrd) FLEXlm (v7.0f) started on licsrv (linux) (7/27/2018)",
        "18:05:20 (lmgrd) FLEXlm (v7.0f) started on licsrv (linux) (7/27/18)  // by hand (twice)",
        "18:05:20 (lmgrd)  FLEXlm v8.0d started on licsrv (Solaris) (7/27/2018)",
        "18:05:20 (lmgrd) FlexNet Publisher (v11.18.0) started on S (IBM PC) (7/27/2018)",
        "18:05:20 (lmadmin) License server system started on S (7/27/2018)",
    ] {
        assert_eq!(banner(older), day, "{older}");
    }
    assert_eq!(banner("18:05:20 (lmgrd) FLEXlm v8.0d"), None);
    assert_eq!(message(b" 8:00:00 (orcina) License server system started on SRV"), Message::DaemonStart(b""));
    assert_eq!(message(b"18:17:11 (parteklm) EXITING DUE TO SIGNAL 28 Exit reason 5"), Message::DaemonExit(b""));
    assert_eq!(message(b"17:38:32 (lmgrd) EXITING DUE TO SIGNAL 1"), Message::ManagerExit);
    assert_eq!(
        message(b"18:17:30 (lmgrd) parteklm exited with status 28 (Communications error)"),
        Message::DaemonExit(b"parteklm")
    );
    for ignored in [
        "18:17:11 (parteklm) Lost connection to lmgrd, heartbeat timeout expired, exiting.",
        "15:49:10 (adskflex) FlexNet Licensing version v11.14.1.3 build 212549 x64_n6",
        "18:05:20 (lmgrd) FLEXlm Copyright 1988-1999, Globetrotter Software, Inc.",
        "18:05:20 (intelpto) FLEXlm version 7.0f",
        " 8:42:31 (lmgrd) Rereading license file... Requested from upm@flexlm02",
        "0:00:11 (parteklm) base expired -- rereading to update",
        "11:30:45 (cdslmd) REMOVING user10@server1.xyz.local from Virtuoso_Schematic_Editor_L",
        "11:30:45 (adskflex) SERVER-OUT: \"f\" u@h",
        "21:10:48 (adskflex) Checkin failed feature \"85730ACD_2012_0F\": USER11 COMPUTER11 COMPUTER11",
        "21:10:48 (adskflex) \t\" (0,353:10054 \"\")\"",
        "21:25:38 (adskflex) \t\"\"",
        "20:40:34 (lmgrd)",
        "20:40:34 (lmgrd) ",
        " ansyslmd  ansoftd  ",
        "",
        "\r",
    ] {
        assert_eq!(message(ignored.as_bytes()), Message::Ignored, "{ignored}");
    }
}

#[test]
fn what_no_rule_understands_is_seen() {
    for unrecognised in [
        "12:49:3a9 (ugslmd) OUT: \"solidedge\" a@b  ",
        "12:49:5a3 (ugslmd) Server",
        "10:00:00 (lmgrd) OUT: \"f\" u@h",
        "10:00:00 (x) OUT: f by u (2 licenses)",
        "10:00:00 (x) OUT: \"f\" u",
        "10:00:00 (x) OUT: \"f",
        "10:00:00 (x) OUT: \"\" u@h",
        "10:00:00 (x) IN:",
        "10:00:00 (x) BORROW: \"f\" u@h",
        "10:00:00 (lmgrd) TIMESTAMP 9/1/2099",
        "10:00:00 (lmgrd) TIMESTAMP 1/1/1970",
        "OUT: \"f\" u@h",
        "\u{1}\u{2}\u{3}\u{0}",
    ] {
        assert!(matches!(message(unrecognised.as_bytes()), Message::Unrecognised(_)), "{unrecognised}");
    }
}

#[test]
fn a_key_before_the_user_is_no_part_of_the_name() {
    for key in ["00F2 6F5A 8ADE F6BD ", "BF04C1B183DD400E147F", "PORT_AT_HOST_PLUS   "] {
        for verb in ["OUT", "IN", "UPGRADE", "DENIED", "UNSUPPORTED"] {
            let line = format!("10:02:00 (orcina) {verb}: \"Flex\" ({key}) ann lee@ws-a  (2 licenses)");
            let found = usage(&line);
            assert_eq!((found.user, found.host, found.seats), (&b"ann lee"[..], &b"ws-a"[..], 2), "{line}");
        }
    }
    assert_eq!(usage("10:02:00 (o) OUT: \"F\" (Ext) ann@ws  ").user, b"(Ext) ann");
}

#[test]
fn blanks_before_a_verb_change_nothing() {
    for blanks in ["", " ", "\t", "  \t "] {
        let line = format!("9:00:00 (altair) {blanks}OUT: \"o\" ada@cae  ");
        assert_eq!(usage(&line).user, b"ada", "{line:?}");
        assert_eq!(anchor(&format!("9:00:00 (altair) {blanks}TIMESTAMP\t6/1/2025")), "2025-06-01");
        // Tabs between fields, too.
        let line = format!("9:00:00 (altair) {blanks}OUT:\t\"o\"\tada@cae\t(2 licenses)\t");
        let found = usage(&line);
        assert_eq!((found.user, found.host, found.seats), (&b"ada"[..], &b"cae"[..], 2), "{line:?}");
    }
}

#[test]
fn a_user_without_a_host_is_a_user() {
    let without_host = usage("8:01:00 (vendor) OUT: \"editor\" ada (2 licenses)");
    assert_eq!((without_host.user, without_host.host, without_host.seats), (&b"ada"[..], &b""[..], 2));
    assert_eq!(usage("8:01:00 (v) IN: \"e\" ada lee  ").user, b"ada lee");
    assert_eq!(usage("8:01:00 (v) OUT: \"e\" ada [x@y] (3 licenses)").user, b"ada");
    assert_eq!(usage("8:01:00 (v) DENIED: \"e\" ada  (No such feature exists. (-5,346))").detail, -5);
}

#[test]
fn a_verbose_user_can_have_several_words() {
    let verbose =
        "1:00:00 (a) OUT: \"f\" @n (2 licenses) ^^^ 2025.0521 LOCAL SERVICE 10.1.2.4 18300 0x12CF 3 25 proj a ^^^";
    assert_eq!(usage(verbose).user, b"LOCAL SERVICE");
    let of_six = "1:00:00 (a) OUT: \"f\" @n ^^^ 1.0 ann lee fe80::1 18300 0x12CF ^^^";
    assert_eq!(usage(of_six).user, b"ann lee");
}

#[test]
fn what_follows_the_date_of_a_timestamp_is_ignored() {
    for remark in ["", " // Timestamp. By default every 6 hrs.", " 23:28:44", "\tx", "\r"] {
        assert_eq!(anchor(&format!("23:28:44 (lmgrd) TIMESTAMP 9/11/2013{remark}")), "2013-09-11", "{remark:?}");
    }
    assert_eq!(anchor("23:28:44 (lmgrd) TIMESTAMP 9/11/13"), "2013-09-11");
    assert_eq!(anchor("23:28:44 (lmgrd) TIMESTAMP 9/11/97 x"), "1997-09-11");
}

#[test]
fn a_date_before_the_stamp_dates_the_line() {
    let of = |prefix: &str, time: &str| {
        let line = format!("{prefix}{time} (MLM) OUT: \"MATLAB\" ada@blerg  ");
        match parse(line.as_bytes()).stamp {
            Some(Stamp::DateTime { day, offset: None, .. }) => date_of(day).to_string(),
            other => panic!("{line}: {other:?}"),
        }
    };
    for date in
        ["2013-03-14", "2013/03/14", "14.03.2013", "3/14/2013", "[2013-03-14]", "host 2013-03-14", "2013-03-14\t"]
    {
        let blank = if date.ends_with('\t') { "" } else { " " };
        assert_eq!(of(&format!("{date}{blank}"), "11:55:52"), "2013-03-14", "{date}");
        assert_eq!(of(&format!("{date}{blank}"), " 1:55:52"), "2013-03-14", "{date}");
    }
    // Another program's stamp, in UTC, of a line that a server in New York wrote.
    assert_eq!(of("2013-03-15T02:10:00.003Z ", "22:10:00"), "2013-03-14");
    assert_eq!(of("<34>1 2013-03-14T22:10:00.003+00:00 host app - - - ", " 7:10:00"), "2013-03-15");
    assert_eq!(of("2013-03-14T11:55:52Z | ", "11:55:52"), "2013-03-14");
    // A date that is none dates nothing.
    assert!(matches!(parse(b"2013-13-14 11:55:52 (MLM) OUT: \"M\" a@b").stamp, Some(Stamp::Time(_))));
}

#[test]
fn a_line_glued_to_another_one_is_read_as_well() {
    let parts = |line: &'static str| {
        let mut users = Vec::new();
        crate::format::Format::FlexNet.each_record(line.as_bytes(), |start, text, record| {
            assert_eq!(&line.as_bytes()[start..start + text.len()], text);
            users.push(match record.message {
                Message::Use(usage) => String::from_utf8_lossy(usage.user).into_owned(),
                Message::Unrecognised(_) => "?".into(),
                _ => "-".into(),
            });
        });
        users
    };
    assert_eq!(parts("1:00:00 (d) OUT: \"f\" ada@pc110:00:05 (d) IN: \"f\" bob@pc2  \r"), ["ada", "bob"]);
    assert_eq!(parts("1:00:00 (lmgrd) TIMESTAMP 3/4/2026 1:00:01 (d) OUT: \"f\" ada@h  "), ["-", "ada"]);
    assert_eq!(
        parts("1:00:00 (d) some text 1:00:01 (d) OUT: \"f\" ada@h 1:00:02 (e) IN: \"g\" bob@h"),
        ["-", "ada", "bob"]
    );
    assert_eq!(parts("1:00:00 (d) (@d-SLOG@) Clients 1:00:01 (d) OUT: \"f\" ada@h  "), ["-", "ada"]);
    assert_eq!(parts("1:00:00 (d) OUT: \"f\" ada@pcIN: \"f\" bob@pc2  "), ["?"], "where the host ends is not certain");
    assert_eq!(parts("1:00:00 (d) the text OUT: \"f\" ada@h  "), ["?"]);
    assert_eq!(parts("1:00:00 (d) SERVER-OUT: \"f\" ada@h  "), ["-"]);
    assert_eq!(parts("1:00:00 (d) DENIED: \"f\" ada@h  (x (-18,327:10054 \"\"))"), ["ada"]);
}

#[test]
fn a_head_of_another_shape_gets_the_true_reason() {
    for line in
        ["11:55:52 [MLM] OUT: \"M\" a@b", "11:55:52 (app name) OUT: \"M\" a@b", "11:55:52\t(MLM)\tOUT: \"M\" a@b"]
    {
        let Message::Unrecognised(reason) = message(line.as_bytes()) else { panic!("{line}") };
        assert!(reason.contains("hh:mm:ss (daemon)"), "{reason}");
    }
}
