use super::*;

fn read(answer: &[u8], format: Option<AnswerFormat>) -> Result<Answer<'_>, NoAnswer> {
    format.map_or(Reading::ByContent, Reading::Known).read(answer)
}

fn text(name: &[u8]) -> String {
    decode(name).into_owned()
}

/// Returns who holds what: daemon, feature, user, host and seats.
fn held(answer: &Answer<'_>) -> Vec<(String, String, String, String, u32)> {
    let seats = answer.seats.iter();
    seats
        .map(|seat| (text(&seat.daemon), text(&seat.feature), text(&seat.user), text(&seat.host), seat.seats))
        .collect()
}

fn names(held: &[(String, String, String, String, u32)]) -> Vec<(&str, &str, u32)> {
    held.iter().map(|(_, _, user, host, seats)| (user.as_str(), host.as_str(), *seats)).collect()
}

fn unknown(answer: &Answer<'_>) -> Vec<(String, String)> {
    answer.unknown.iter().map(|(daemon, feature)| (text(daemon), text(feature))).collect()
}

const LMSTAT: &str = "lmutil - Copyright (c) 1989-2021 Flexera. All Rights Reserved.
Flexible License Manager status on Mon 7/26/2021 08:10

License server status: 1234@lic
    License file(s) on lic: /opt/license.dat:

    lic: license server UP (MASTER) v11.16.5

Vendor daemon status (on lic):

    vend: UP v11.14.1
Feature usage info:
";

fn lmstat(body: &str) -> String {
    format!("{LMSTAT}\n{body}")
}

#[test]
fn lmstat_tells_who_holds_what() {
    let answer = lmstat(
        "Users of ARC/INFO:  (Total of 6 licenses issued;  Total of 20 licenses in use)\r\n\r\n  \
         \"ARC/INFO\" v10.1, vendor: ARCGIS, expiry: permanent(no expiration date)\r\n  floating license\r\n\r\n    \
         jsmith pc17 w%.=H@QVO!;~_8' (v10.1) (MYSERVER-GIS/27000 101), start Fri 7/12 8:42\r\n    \
         user11 server19 (v61.3) (host3/27002 6707), start Tue 2/26 22:21, 13 licenses\r\n    \
         cmfy pc18 pc18.0 (v1.00) (h/28000 1401), start Wed 5/23 5:59, 6 licenses  (linger: 885098 / 1340160)\r\n    \
         user3 pc19 fj209 2017.06 (v2017.06) (h/27002 15480) queued for 1 license\r\n",
    );
    let read = read(answer.as_bytes(), None).unwrap();
    let held = held(&read);
    assert_eq!(names(&held), [("jsmith", "pc17", 1), ("user11", "server19", 13), ("cmfy", "pc18", 6)]);
    assert!(held.iter().all(|(daemon, feature, ..)| daemon == "ARCGIS" && feature == "ARC/INFO"));
    assert_eq!((read.lines.unrecognised, unknown(&read)), (0, vec![]));
    assert_eq!(read.seats[0].since, Some(Stamp::MonthDay { month: 7, day: 12, time: 8 * 3600 + 42 * 60 }));
}

#[test]
fn the_border_between_user_and_host_is_told_by_what_stands_around_it() {
    for (line, user, host) in [
        ("Quantenna FAE4 LAPTOP-Q6 LAPTOP-Q6", "Quantenna FAE4", "LAPTOP-Q6"),
        ("user 302 host300 host3000.0", "user 302", "host300"),
        ("usxx12 p-c94.com /dev/tty feature=test", "usxx12", "p-c94.com"),
        ("Mila Ordonez pc17 console 7", "Mila Ordonez", "pc17"),
        ("user  ABC  DE host206 display206", "user  ABC  DE", "host206"),
        ("pc17 pc17 a b", "pc17", "pc17"),
        ("user3 server6 fj209 1.0", "user3", "server6"),
        ("ada pc17", "ada", "pc17"),
    ] {
        let answer = lmstat(&format!(
            "Users of F:  (Total of 6 licenses issued;  Total of 2 licenses in use)\n\
             known pc17 d (v1.0) (h/1 1), start Fri 7/12 8:42\n    {line} (v1.0) (h/1 2), start Fri 7/12 8:42\n"
        ));
        let held = held(&read(answer.as_bytes(), None).unwrap());
        assert_eq!(names(&held)[1], (user, host, 1), "{line}");
    }
}

#[test]
fn lmstat_says_what_is_unknown() {
    let answer = lmstat(
        "Users of a:  (Error: 1 licenses, unsupported by licensed server)\n\
         Users of b: Cannot get users of b: No such feature exists. (-5,222)\n\
         Users of c:  (Total of 2 licenses issued;  Total of 1 license in use)\n\
         Users of d:  (Total of 2 licenses issued;  Total of 0 licenses in use)\n\
         Users of e:  (Uncounted, node-locked)\n\
         Users of f:  (Total of 9 licenses issued;  Total of 9 licenses in use)\n\
         \t9 RESERVATIONs for GROUP G (h/1)\n",
    );
    let read = read(answer.as_bytes(), None).unwrap();
    let vend = |feature: &str| ("vend".to_owned(), feature.to_owned());
    assert_eq!(unknown(&read), [vend("a"), vend("b"), vend("c")]);
    assert_eq!(read.lines.unrecognised, 0);
}

#[test]
fn a_license_manager_that_does_not_answer_is_no_empty_answer() {
    let down = "lmstat - Copyright (c) 1989-2004 by Macrovision Corporation. All rights reserved.
Error getting status: Cannot connect to license server (-15,570:111 \"Connection refused\")\n";
    let Err(NoAnswer::Down(said)) = read(down.as_bytes(), None) else { panic!("not down") };
    assert!(said.starts_with("Error getting status: Cannot connect"), "{said}");
    assert_eq!(read(b" \r\n", None), Err(NoAnswer::Empty));
    assert!(matches!(read(LMSTAT.as_bytes(), None), Err(NoAnswer::NoFeature(_))));
    assert_eq!(read(b"hello", None), Err(NoAnswer::NotAnAnswer("text without a line of a license log")));
    let lmx = b"<LM-X STAT_VERSION=\"3.32\"><LICENSE_PATH STATUS=\"Failed\" HOST=\"6200@h\"/></LM-X>";
    assert!(matches!(read(lmx, None), Err(NoAnswer::Down(_))));
    let cut =
        b"<LM-X><LICENSE_PATH STATUS=\"SUCCESS\"><FEATURE NAME=\"f\" VENDOR=\"v\" USED_LICENSES=\"1\"><USER NAME=\"a\"";
    assert!(matches!(read(cut, None), Err(NoAnswer::Damaged(_))));
}

#[test]
fn a_vendor_daemon_that_is_down_is_unknown() {
    let answer = "Vendor daemon status (on lic):\n    one: UP v11\nFeature usage info:\n\
        Users of f:  (Total of 2 licenses issued;  Total of 0 licenses in use)\n\
        Vendor daemon status (on lic):\n    two: The desired vendor daemon is down. (-97,121)\n";
    let answer = read(answer.as_bytes(), Some(AnswerFormat::Lmstat)).unwrap();
    assert_eq!(unknown(&answer), [("two".to_owned(), String::new())]);
}

#[test]
fn lmx_xml_is_read_and_its_declared_entities_are_not() {
    let answer = r#"<?xml version="1.0"?><LM-X STAT_VERSION="3.32"><LICENSE_PATH TYPE="NETWORK" HOST="6200@s" STATUS="SUCCESS">
<FEATURE NAME="Fea&amp;Ture" VERSION="22.0" VENDOR="ALTAIR" USED_LICENSES="21000" TOTAL_LICENSES="1150000">
<USER NAME="m&#252;ller" HOST="client1" IP="1.2.3.4" USED_LICENSES="21000" LOGIN_TIME="2022-02-01 15:12" CHECKOUT_TIME="2022-02-01 15:13"/>
</FEATURE><FEATURE NAME="hidden" VENDOR="ALTAIR" USED_LICENSES="3"/></LICENSE_PATH></LM-X>"#;
    let read_xml = read(answer.as_bytes(), None).unwrap();
    let seats = held(&read_xml);
    let expected = ("ALTAIR".into(), "Fea&Ture".into(), "müller".into(), "client1".into(), 21_000);
    assert_eq!(seats, [expected]);
    assert_eq!(unknown(&read_xml), [("ALTAIR".to_owned(), "hidden".to_owned())]);
    // A billion laughs: the name is not expanded, and stands as it is.
    let bomb = r#"<!DOCTYPE x [<!ENTITY a "aaaa">]><LM-X><LICENSE_PATH STATUS="SUCCESS"><FEATURE NAME="f" VENDOR="v">
<USER NAME="&a;" HOST="h"/></FEATURE></LICENSE_PATH></LM-X>"#;
    assert_eq!(names(&held(&read(bomb.as_bytes(), None).unwrap())), [("&a;", "h", 1)]);
    let deep = format!("<LM-X><LICENSE_PATH STATUS=\"SUCCESS\">{}", "<A>".repeat(100));
    assert!(matches!(read(deep.as_bytes(), None), Err(NoAnswer::Damaged(_))));
}

#[test]
fn udadmin_tells_assignments_and_no_seats_that_are_held() {
    let answer = "C:\\LS>udadmin -list -times\r\n\r\nUsage data is 0 minutes old. Next update in 15 minutes.\r\nUsers:\r\n \
        Mila Ordonez XDT_ENT_UD 2017.1201 (Thu Sep 14 13:41:07 2017)\r\nDevices:\r\n pc17 XDT_ENT_UD 2017.1201 (Fri Sep  1 03:01:07 2017)\r\n";
    let read = read(answer.as_bytes(), None).unwrap();
    assert_eq!(names(&held(&read)), [("Mila Ordonez", "", 1), ("", "pc17", 1)]);
    assert!(read.seats.iter().all(|seat| seat.holding == Holding::Assigned && seat.daemon == b"CITRIX".as_slice()));
    let Some(Stamp::DateTime { time, .. }) = read.seats[0].since else { panic!("no time") };
    assert_eq!((time, read.lines.unrecognised), (13 * 3600 + 41 * 60 + 7, 0));
}

#[test]
fn dates_that_there_are_not_are_none() {
    use super::text::{american, iso, time};
    assert_eq!(american(b"2/29", 0), Some(Stamp::MonthDay { month: 2, day: 29, time: 0 }));
    assert_eq!((american(b"2/30", 0), american(b"13/1", 0), american(b"0/1", 0)), (None, None, None));
    assert_eq!((iso(b"2022-02-30", 0), iso(b"2022-2", 0), iso(b"0001-01-01", 0)), (None, None, None));
    assert_eq!((time(b"24:00"), time(b"9:5:61"), time(b"9"), time(b"9:05")), (None, None, None, Some(32_700)));
}

#[test]
fn a_part_that_does_not_answer_leaves_open_who_holds_what() {
    let answer = lmstat(
        "Users of f:  (Total of 3 licenses issued;  Total of 3 licenses in use)\n\n  \"f\" v1.0, vendor: vend\n\n    \
         ada pc17 pc17 (v1.0) (h/1 1), start Fri 7/12 8:42\n\
         ----------------------------------------\nLicense server status: 27001@other\n\
         other: Cannot connect to license server system. (-15,570:115 \"Operation now in progress\")\n",
    );
    let found = read(answer.as_bytes(), None).unwrap();
    assert_eq!(names(&held(&found)), [("ada", "pc17", 1)]);
    assert_eq!(unknown(&found), [("vend".into(), "f".into()), (String::new(), String::new())]);
    assert_eq!(found.troubles[0], "vend f: 3 in use, and who holds 1 of them");
    assert!(found.troubles[1].starts_with("other: Cannot connect"), "{:?}", found.troubles);
    // Of three redundant ones, one is down.
    let answer = "License server status: 1@a,1@b,1@c\na: license server UP v11\nb: license server UP (MASTER) v11\n\
                  c: Cannot connect to license server system. (-15,570:115)\n\
                  Users of f:  (Total of 2 licenses issued;  Total of 0 licenses in use)\n";
    assert_eq!(read(answer.as_bytes(), None).unwrap().troubles, Vec::<String>::new());
}

#[test]
fn redundant_license_servers_of_lm_x_tell_each_session_once() {
    let path = |host: &str, users: &str| {
        format!(
            "<LICENSE_PATH HOST=\"{host}\" STATUS=\"SUCCESS\"><FEATURE NAME=\"f\" VENDOR=\"v\" USED_LICENSES=\"2\">{users}\
             </FEATURE></LICENSE_PATH>"
        )
    };
    let user = "<USER NAME=\"ada\" HOST=\"pc\" USED_LICENSES=\"1\" CHECKOUT_TIME=\"2022-02-01 15:12\"/>";
    let other = "<USER NAME=\"bob\" HOST=\"pc\" USED_LICENSES=\"1\" CHECKOUT_TIME=\"2022-02-01 15:12\"/>";
    let twice = format!("{user}{user}");
    let answer =
        format!("<LM-X>{}{}{}</LM-X>", path("1", &twice), path("2", &twice), path("3", &format!("{user}{other}")));
    let found = read(answer.as_bytes(), None).unwrap();
    assert_eq!(names(&held(&found)), [("ada", "pc", 1), ("ada", "pc", 1), ("bob", "pc", 1)]);
    assert!(found.unknown.is_empty());
}

#[test]
fn a_table_behind_a_prompt_is_read_and_a_place_in_a_queue_is_a_number() {
    let answer = "admin >\tEditor,EditorId,Feature,Count,Inuse,Tokens,Host,User,Granted Since,Queue Position,\n\
                  DS,1,PAC,10,5,2,n1 (2.0)/127.0.0.1,ada,2024-09-17 17:59:34,N/A,\n\
                  DS,1,PAC,10,5,3,n2 (2.0)/127.0.0.1,bob,2024-09-17 17:59:34,,\n\
                  DS,1,PAC,10,5,0,n3 (2.0)/127.0.0.1,cid,,2,\nDS,1,PAD,10,1,\n";
    let found = read(answer.as_bytes(), None).unwrap();
    assert_eq!(names(&held(&found)), [("ada", "n1", 2), ("bob", "n2", 3)]);
    assert_eq!(unknown(&found), [("DS".to_owned(), "PAD".to_owned())]);
}

#[test]
fn answers_in_utf_16_are_read() {
    let answer = lmstat("Users of f:  (Total of 3 licenses issued;  Total of 0 licenses in use)\n");
    for (mark, bytes) in [(&[0xff, 0xfe][..], u16::to_le_bytes as fn(u16) -> [u8; 2]), (&[][..], u16::to_be_bytes)] {
        let units = answer.encode_utf16().flat_map(bytes);
        let printed: Vec<u8> = mark.iter().copied().chain(units).collect();
        assert_eq!(in_utf8(printed), answer.as_bytes());
    }
    assert_eq!(in_utf8(b"ab".to_vec()), b"ab");
}

fn mapping(shape: &str, settings: &str) -> Result<Mapping, String> {
    Mapping::new(shape, toml::from_str(settings).unwrap())
}

#[test]
fn answers_in_a_declared_shape_are_read() {
    let lines = mapping(
        "lines",
        "heading = 'Feature name\\s*:\\s*\"(?<feature>[^\"]+)\"'\npattern = 'User name\\s*:\\s*(?<user>\\S+)'\nempty_if = 'No users'",
    );
    let lines = lines.unwrap();
    let answer = b"Feature name : \"a\"\n User name : ada\nFeature name : \"b\"\n User name : bob\n";
    let found = lines.read(answer).unwrap();
    let seats: Vec<_> = held(&found).into_iter().map(|(_, feature, user, ..)| (feature, user)).collect();
    assert_eq!(seats, [("a".to_owned(), "ada".to_owned()), ("b".into(), "bob".into())]);
    assert!(lines.read(b"No users\n").unwrap().seats.is_empty());
    assert!(matches!(lines.read(b"lsmon: no such server\n"), Err(NoAnswer::NoFeature(_))));
    let csv = mapping(
        "csv",
        "separator = ';'\nuser = 'User'\nhost = 'PC'\nfeature_is = 'cad'\ndaemon_is = 'acme'\nsince = 'Start'",
    );
    let csv = csv.unwrap();
    let found = csv.read(b"User;PC;Start\n\"M\xfcller; Jo\";pc1;2026-01-02T03:04:05+01:00\n;;\nbob;;soon\n").unwrap();
    let expected = [("acme", "cad", "Müller; Jo", "pc1"), ("acme", "cad", "bob", "")];
    let seats = held(&found);
    assert!(
        seats.iter().map(|(d, f, u, h, _)| (d.as_str(), f.as_str(), u.as_str(), h.as_str())).eq(expected),
        "{seats:?}"
    );
    let Some(Stamp::DateTime { time, offset, .. }) = found.seats[0].since else { panic!("no time") };
    assert_eq!((time, offset), (2 * 3600 + 4 * 60 + 5, Some(0)));
    assert_eq!((found.seats[1].since, found.lines.unrecognised, found.troubles.len()), (None, 1, 1));
    assert!(matches!(csv.read(b"Name;PC\nada;pc\n"), Err(NoAnswer::Damaged(_))));
    let json = mapping("json", "rows = '/d/sessions'\nuser = '/user/name'\nfeature = 'app'\nseats = 'n'").unwrap();
    let answer = b"\xef\xbb\xbf{\"d\":{\"sessions\":[{\"user\":{\"name\":\"ada\"},\"app\":\"x\",\"n\":2},{\"user\":{},\"app\":\"x\"}]}}";
    let found = json.read(answer).unwrap();
    assert_eq!((names(&held(&found)), found.lines.unrecognised), (vec![("ada", "", 2)], 1));
    assert!(json.read(b"{\"d\":{\"sessions\":[]}}").unwrap().seats.is_empty());
    assert!(matches!(json.read(b"[]"), Err(NoAnswer::Damaged(_))));
}

#[test]
fn a_shape_that_cannot_be_read_is_refused() {
    for (shape, settings, said) in [
        ("lines", "pattern = '('", "read.pattern: "),
        ("lines", "user = 'x'", "takes names from groups"),
        ("lines", "pattern = '(?<feature>x)'", "neither `user` nor `host`"),
        ("csv", "user = 'x'", "no `feature`"),
        ("csv", "user = 'x'\nfeature = 'f'\nseparator = 'ä'", "one ASCII character"),
        ("csv", "user = 'x'\nfeature = 'f'\npattern = 'y'", "`format = \"lines\"`"),
        ("json", "user = 'x'\nfeature = 'f'\nsince_format = '%Q %!'", "read.since_format: "),
    ] {
        let refused = mapping(shape, settings).err().unwrap_or_default();
        assert!(refused.contains(said), "{settings}: {refused}");
    }
}

#[test]
fn olicense_answers_in_xml() {
    let answer = |locked: u32| {
        format!(
            "<?xml version=\"1.0\"?>\n<licenseStatus><serverVersion>4.8</serverVersion><license><name>cosin</name>\
             <licenser>cosin scientific software</licenser><module><name>ftire &amp; co</name><floatCount>3</floatCount>\
             <floatsLocked>{locked}</floatsLocked><expiration>2022-12-31 23:59:59</expiration>\
             <floatsLockedBy>ada@pc17 #1\n bob@pc18 #2</floatsLockedBy></module><module><name>idle</name>\
             <floatCount>1</floatCount><floatsLocked>0</floatsLocked></module></license></licenseStatus>"
        )
    };
    let whole = answer(3);
    let found = read(whole.as_bytes(), None).unwrap();
    assert_eq!(names(&held(&found)), [("ada", "pc17", 1), ("bob", "pc18", 2)]);
    assert!(held(&found).iter().all(|(daemon, feature, ..)| daemon == "cosin" && feature == "ftire & co"));
    assert_eq!(unknown(&found), vec![]);
    // What it does not tell is not taken for nobody.
    let partly = answer(5);
    assert_eq!(unknown(&read(partly.as_bytes(), None).unwrap()), [("cosin".into(), "ftire & co".into())]);
    for cut in 0..whole.len() {
        let _ = read(&whole.as_bytes()[..cut], Some(AnswerFormat::OLicenseXml));
    }
    assert!(matches!(read(&whole.as_bytes()[..whole.len() - 5], None), Err(NoAnswer::Damaged(_))));
}

/// An ISV server that is down, or whose sections a torn answer lacks, is not taken for one whose licenses nobody uses.
#[test]
fn an_isv_server_that_tells_nothing_is_unknown() {
    let table = "rlm status on h (port 1), up 9d\n--------- ISV servers ----------\nName Port Running Restarts\n";
    let sections = "one license pool status on h (port 2)\none license usage status on h (port 2)\n";
    for row in ["two 63134 No 3", "two 63134 Yes 0"] {
        let answer = format!("{table}one 63133 Yes 0\n{row}\n{sections}");
        let read = Reading::ByContent.read(answer.as_bytes()).unwrap();
        assert_eq!(read.unknown, [(Name::Borrowed(&b"two"[..]), Name::default())]);
        assert_eq!(read.troubles, [format!("ISV server two tells nothing: {row}")]);
    }
    let all_down = format!("{table}two 63134 No 3\n");
    assert!(matches!(Reading::ByContent.read(all_down.as_bytes()), Err(NoAnswer::Down(_))));
    let well = format!("{table}one 63133 Yes 0\n{sections}");
    assert_eq!(Reading::ByContent.read(well.as_bytes()).unwrap().troubles, Vec::<String>::new());
}

#[test]
fn an_answer_of_another_format_is_named() {
    let lmstat = b"License server status: 1@h\n  h: license server UP (MASTER) v11.16\n";
    let told = Reading::Known(AnswerFormat::Rlmstat).read(lmstat).unwrap_err().to_string();
    assert!(told.contains("an answer of lmstat, and not of rlmstat"), "{told}");
}
