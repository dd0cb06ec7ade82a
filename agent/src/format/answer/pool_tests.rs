use seatmeter_count::calendar::date_of;

use super::mapped::{Mapping, Settings};
use super::*;

/// Returns the licenses that an answer tells: daemon, feature, version, number, expiry and serial.
fn licenses(answer: &Answer<'_>) -> Vec<String> {
    let text = |name: &[u8]| decode(name).into_owned();
    let line = |pool: &Pool<'_>| {
        let licenses = pool.licenses.map_or("uncounted".into(), |licenses| licenses.to_string());
        let expires = match pool.expires {
            None => "?".into(),
            Some(pool::Expiry::Never) => "never".into(),
            Some(pool::Expiry::On(day)) => date_of(day).to_string(),
        };
        let [daemon, feature, version, serial] =
            [&pool.daemon, &pool.feature, &pool.version, &pool.serial].map(|name| text(name));
        format!("{daemon} {feature} {version} {licenses} {expires} {serial}").trim().to_owned()
    };
    answer.pools.iter().flatten().map(line).collect()
}

fn of_file(text: &str) -> Vec<String> {
    let read = Reading::ByContent.read(text.as_bytes()).unwrap();
    assert!(read.knows_nobody && read.seats.is_empty());
    assert_eq!(read.lines.unrecognised, 0, "{:?}", read.unrecognised);
    licenses(&read)
}

#[test]
fn license_files_tell_what_there_is() {
    let file = "SERVER this_host ANY 27000\nVENDOR d port=1\nUSE_SERVER\n\
        INCREMENT a d 2.0 31-dec-2026 10 \\\n\tISSUED=1-jan-2026 \\  # a remark\r\n START=1-Feb-2026 SN=LA-1:2 # end\n\
        FEATURE b d 1.5 permanent uncounted VENDOR_STRING=\" \\\n 1, 2\" HOSTID=ANY SIGN=\"0 \\\n\t1\"\n\
        increment a d 2.0 1-jan-0 5 NOTICE=\"A # in \\\"quotes\"\nFEATURE b d 1.5 permanent 7\n";
    assert_eq!(of_file(file), ["d a 2.0 10 2026-12-31 LA-1:2", "d b 1.5 uncounted never", "d a 2.0 5 never"]);
    let Ok(read) = Reading::ByContent.read(file.as_bytes()) else { panic!() };
    let pools = read.pools.unwrap();
    assert_eq!(pools[0].starts.map(|day| date_of(day).to_string()).as_deref(), Some("2026-02-01"));
}

#[test]
fn upgrades_lift_licenses_and_packages_hold_features() {
    let lifted = "INCREMENT a d 1.0 permanent 10 SN=1\nUPGRADE a d 1.0 2.0 permanent 4 SN=2\n";
    assert_eq!(of_file(lifted), ["d a 1.0 6 never 1", "d a 2.0 4 never 2"]);
    let all = "INCREMENT a d 1.9 permanent 4\nINCREMENT a d 3.0 permanent 1\nUPGRADE a d 1.5 2.0 permanent 4\n";
    assert_eq!(of_file(all), ["d a 3.0 1 never", "d a 2.0 4 never"]);
    let package =
        "PACKAGE suite d 1.0 COMPONENTS=\"x \\\n\ty:2.0 z:3.0:2\" OPTIONS=SUITE\nINCREMENT suite d 1.0 permanent 3\n";
    assert_eq!(
        of_file(package),
        ["d suite 1.0 3 never", "d x 1.0 3 never in suite", "d y 2.0 3 never in suite", "d z 3.0 6 never in suite"]
    );
    let twice = "INCREMENT a d 1.0 permanent 3 SIGN=\"AB CD\"\nINCREMENT a d 1.0 permanent 3 SIGN=\"AB CD\"\n";
    assert_eq!(of_file(twice), ["d a 1.0 3 never"], "a copy tells the same licenses");
    let superseded = "FEATURE a d 1.0 permanent 3\nFEATURE a d 2.0 permanent 5 SUPERSEDE SN=new\n";
    assert_eq!(of_file(superseded), ["d a 2.0 5 never new"]);
    // Flexera's own example: what was issued before the day is superseded, wherever it stands, and what was issued on it adds up.
    let pooled = "INCREMENT f1 d 1.0 permanent 4 SUPERSEDE ISSUED=1-jan-2009 SIGN=2\n\
        INCREMENT f1 d 1.0 permanent 3 SUPERSEDE ISSUED=1-jan-2009 SIGN=3\n\
        INCREMENT f1 d 1.0 permanent 2 ISSUED=1-jan-2009 SIGN=4\nINCREMENT f1 d 1.0 permanent 1 ISSUED=1-jan-2008 SIGN=1\n";
    assert_eq!(of_file(pooled), ["d f1 1.0 4 never", "d f1 1.0 3 never", "d f1 1.0 2 never"]);
    let old_key = "INCREMENT a d 1.0 permanent 5 8BE4FB0C9B1A2F3D\n".repeat(2);
    assert_eq!(of_file(&old_key), ["d a 1.0 5 never"], "a copy whose key stands in the old place");
    let plain = "PACKAGE p d 1.0 COMPONENTS=\"a:1.0:2 b\" SIGN=1\nINCREMENT p d 1.0 permanent 3 SIGN=2\n\
        PACKAGE q d 2.0 COMPONENTS=qa\nINCREMENT q d 1.0 permanent 4\n";
    assert_eq!(of_file(plain), ["d a 1.0 6 never in p", "d b 1.0 3 never in p", "d q 1.0 4 never"]);
}

/// As articles print them: typographic quotes, one of them never closed, and lines that go on without a blank before them.
#[test]
fn a_quote_that_never_ends_takes_no_other_line() {
    let file = "INCREMENT MPS_ENT_CCU CITRIX 2010.0121 permanent 25 \\\nVENDOR_STRING=;LT=Retail;GP=720;SA=1 \\\n\
        NOTICE=\"Your Company\u{2019}s Name\u{201d}SN=LA-0:123 START=21-jan-2009 SIGN= \\\nXXXX \\\nXXXX\n\
        INCREMENT MPS_SMB_RN CITRIX 2005.0914 06-feb-99 5 \\\nSN=LA-9:244383 SIGN=\"XXXX\u{2026}\"\n";
    assert_eq!(
        of_file(file),
        ["CITRIX MPS_ENT_CCU 2010.0121 25 never", "CITRIX MPS_SMB_RN 2005.0914 5 1999-02-06 LA-9:244383"]
    );
}

#[test]
fn lmstat_and_rlmstat_tell_licenses_too() {
    let answer = "License server status: 1@h\n  h: license server UP (MASTER) v11.16\n\
        Users of a:  (Total of 6 licenses issued;  Total of 0 licenses in use)\n\n  \
        \"a\" v10.1, vendor: V, expiry: permanent(no expiration date)\n  floating license\n\n\
        Users of b:  (Total of 1 license issued;  Total of 0 licenses in use)\n  \"b\" v1, vendor: V, expiry: 31-dec-2026\n  \
        \"b\" v2, vendor: V, expiry: 31-dec-2026\n\
        Users of c:  (Uncounted, node-locked)\nUsers of e:  (Error: 4 licenses, unsupported by licensed server)\n";
    let read = Reading::ByContent.read(answer.as_bytes()).unwrap();
    assert_eq!(licenses(&read), ["V a 10.1 6 never", "V b  1 2026-12-31", "V c  uncounted ?"]);
    let table = format!(
        "{answer}\nFeature                         Version     #licenses    Expires      Vendor\n\
         _______                         _________   _________    __________   ______\n\
         b                               1           2            31-dec-2026  V\n\
         b                               2           0            W            01-jan-0000\n"
    );
    let read = Reading::ByContent.read(table.as_bytes()).unwrap();
    assert_eq!(
        licenses(&read),
        ["V a 10.1 6 never", "V c  uncounted ?", "V b 1 2 2026-12-31", "W b 2 uncounted never"]
    );
    let answer = "rlm status on h\n\n    isv license pool status on h (port 1)\n\n    converge v3.0\n        \
        count: 4, # reservations: 0, inuse: 0, exp: 31-jan-2027\n        obsolete: 0, min_remove: 120, total checkouts: 0\n    \
        super v1.0\n        count: 1, # reservations: 0, inuse: 0, exp: permanent\n";
    let read = Reading::ByContent.read(answer.as_bytes()).unwrap();
    assert_eq!(licenses(&read), ["isv converge 3.0 4 2027-01-31", "isv super 1.0 1 never"]);
}

#[test]
fn lmx_and_others_tell_licenses_too() {
    let xml = "<LM-X><LICENSE_PATH TYPE=\"NETWORK\" HOST=\"6200@a\"><FEATURE NAME=\"F\" VERSION=\"22.0\" VENDOR=\"A\" \
        START=\"2020-04-25\" END=\"2025-12-31\" USED_LICENSES=\"0\" TOTAL_LICENSES=\"15\"/></LICENSE_PATH>\
        <LICENSE_PATH HOST=\"6200@b\"><FEATURE NAME=\"F\" VERSION=\"22.0\" VENDOR=\"A\" START=\"2020-04-25\" \
        END=\"2025-12-31\" USED_LICENSES=\"0\" TOTAL_LICENSES=\"15\"/></LICENSE_PATH></LM-X>";
    let read = Reading::ByContent.read(xml.as_bytes()).unwrap();
    assert_eq!(licenses(&read), ["A F 22.0 15 2025-12-31"], "redundant servers tell the same");
    let text = "LM-X License Server on 6200@h:\nFeature: F Version: 21.0 Vendor: A\n\
        Start date: 2022-02-17 Expire date: 2023-01-31\n0 of 3 license(s) used\n\
        Feature: G Version: 21.0 Vendor: A\nStart date: 2022-02-17 Expire date: 2023-01-31\n0 of 2147483647 license(s) used\n";
    let read = Reading::ByContent.read(text.as_bytes()).unwrap();
    assert_eq!(licenses(&read), ["A F 21.0 3 2023-01-31", "A G 21.0 uncounted 2023-01-31"]);
    let text = "olixtool 4.8.0\nApplication:\tcosin\n  ftire;\tFreeFloating;\t3;\t2022-12-31 23:59:59;\n";
    let read = Reading::ByContent.read(text.as_bytes()).unwrap();
    assert_eq!(licenses(&read), ["cosin ftire  3 2022-12-31"]);
    let csv = "Editor,EditorId,Feature,Model,Max Release Number,Expiration Date,Customer ID,Count,Inuse,Tokens,Host,User\n\
        DS,5E,PAC,Token,8,2025-01-01 00:59:00,1,6,2,1,h,ann\nDS,5E,PAC,Token,8,2025-01-01 00:59:00,1,6,2,1,h,bob\n";
    let read = Reading::ByContent.read(csv.as_bytes()).unwrap();
    assert_eq!(licenses(&read), ["DS PAC 8 6 2025-01-01 1"], "each line of a feature tells of its licenses again");
}

#[test]
fn a_day_that_nobody_will_see_is_never() {
    for (text, expected) in [
        ("1-jan-0", Some(pool::Expiry::Never)),
        ("01-jan-0000", Some(pool::Expiry::Never)),
        ("31-dec-9999", Some(pool::Expiry::Never)),
        ("9999-12-31 00:00", Some(pool::Expiry::Never)),
        ("permanent(no expiration date)", Some(pool::Expiry::Never)),
        ("31-feb-2026", None),
        ("0", None),
        ("2026.0121", None),
    ] {
        assert_eq!(pool::expiry(text.as_bytes()), expected, "{text}");
    }
}

#[test]
fn of_more_licenses_than_can_be_told_none_are() {
    let file: String = (0..10_001).map(|number| format!("INCREMENT f{number} d 1.0 permanent 1\n")).collect();
    let read = Reading::ByContent.read(file.as_bytes()).unwrap();
    assert!(!read.tells_all_pools() && read.troubles.len() == 1);
}

fn mapping(shape: &str, settings: &str) -> Result<Mapping, String> {
    let settings: Settings = toml::from_str(settings).unwrap();
    Mapping::new(shape, settings)
}

/// `Citrix_GT_License_Pool` of WMI, and `Get-LicInventory | ConvertTo-Json`: several rows of one product, each a pool.
#[test]
fn a_declared_shape_can_tell_licenses() {
    let wmi =
        mapping("csv", "separator = '|'\nfeature = 'PLD'\nlicenses = 'Count'\nversion = 'SubscriptionDate'").unwrap();
    let answer = "Count|DUP_GROUP|InUseCount|PLD|SubscriptionDate\n2160|V|1|MPS_ENT_CCU|2010.0121\n1636|V|0|MPS_ENT_CCU|2011.0121\n";
    let read = wmi.read(answer.as_bytes()).unwrap();
    assert_eq!(licenses(&read), ["MPS_ENT_CCU 2010.0121 2160 ?", "MPS_ENT_CCU 2011.0121 1636 ?"]);
    let nothing = wmi.read(b"Count|DUP_GROUP|InUseCount|PLD|SubscriptionDate\n");
    assert!(matches!(nothing, Err(NoAnswer::NoFeature(_))), "silence is not zero");
    let inventory = mapping(
        "json",
        "feature = 'LicenseProductName'\nlicenses = 'LicensesAvailable'\nexpires = 'LicenseExpirationDate'",
    );
    let answer = r#"[{"LicenseProductName":"XDT","LicensesAvailable":40,"LicenseExpirationDate":"\/Date(1798675200000)\/"},
        {"LicenseProductName":"MPS","LicensesAvailable":5,"LicenseExpirationDate":"soon"}]"#;
    let read = inventory.unwrap().read(answer.as_bytes()).unwrap();
    assert_eq!(licenses(&read), ["XDT  40 2026-12-31", "MPS  5 ?"]);
    assert_eq!(read.troubles.len(), 1);
    assert!(mapping("csv", "user = 'u'\nfeature = 'f'\nlicenses = 'n'").unwrap_err().contains("two sources"));
}
