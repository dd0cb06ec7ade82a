//! Measures the parsers alone, on text in memory. `SEATMETER_BENCH_LOG` names a log to read; without it, a few built-in
//! lines are repeated. `lines` only looks for line feeds: what the parsers of answers are compared with.

use divan::Bencher;
use divan::counter::BytesCount;
use seatmeter_agent::format::answer::Reading;
use seatmeter_agent::format::answer::monitor::{Features, Sessions};
use seatmeter_agent::format::{Format, Message};

fn main() {
    divan::main();
}

const LINES: &str = "10:12:03 (simulatd) OUT: \"80370SIM_010_F\" user18992@PC18992-0  \n\
                     10:12:04 (simulatd) IN: \"80370SIM_010_F\" user18992@PC18992-0  \n\
                     10:12:05 (simulatd) DENIED: \"80111SIM_003_F\" user06222@PC06222-0  (Licensed number of users already reached. (-4,342))\n\
                     10:12:06 (simulatd) (@simulatd-SLOG@) ===============================================\n";

const RECORDS: &str = "OUT simulator 2.12 1 terra ubuntu \"\" 1 1 0 81 81 c79e \"\" \"\" \"\" 05/11 15:19:08\n\
                       IN 1 simulator 2.12 terra ubuntu \"\" 1 0 0 81 05/11 15:22:13\n\
                       DENY simulator 2.1 cecil win2008 \"\" 1 -22 1 05/11 15:20\n\
                       05/11/2013 16:25\n";

const ENOUGH: usize = 100_000_000;

/// Returns the first 100 MB of the log.
fn log() -> Vec<u8> {
    match std::env::var_os("SEATMETER_BENCH_LOG") {
        Some(path) => {
            let mut bytes = std::fs::read(path).unwrap_or_else(|error| panic!("SEATMETER_BENCH_LOG: {error}"));
            bytes.truncate(ENOUGH);
            bytes
        }
        None => repeated(LINES),
    }
}

fn repeated(lines: &str) -> Vec<u8> {
    lines.as_bytes().iter().copied().cycle().take(ENOUGH).collect()
}

#[divan::bench(sample_count = 10)]
fn parse(bencher: Bencher) {
    measure(bencher, Format::FlexNet, &log());
}

#[divan::bench(sample_count = 10)]
fn parse_rlm(bencher: Bencher) {
    measure(bencher, Format::Rlm, &repeated(RECORDS));
}

#[inline(always)]
fn measure(bencher: Bencher, format: Format, log: &[u8]) {
    bencher.counter(BytesCount::new(log.len())).bench_local(|| {
        let mut start = 0;
        memchr::memchr_iter(b'\n', log)
            .filter(|end| {
                let line = &log[start..*end];
                start = end + 1;
                matches!(format.parse(line).message, Message::Use(_))
            })
            .count()
    });
}

/// What lmstat answers when five thousand users hold a seat each of ten features.
fn lmstat() -> String {
    let mut answer = "lmutil - Copyright (c) 1989-2021 Flexera. All Rights Reserved.\n".to_owned();
    for feature in 0..10 {
        answer += &format!("Users of f{feature}:  (Total of 9000 licenses issued;  Total of 500 licenses in use)\n\n");
        answer += &format!("  \"f{feature}\" v1.0, vendor: vend, expiry: 31-dec-2026\n  floating license\n\n");
        for user in 0..500 {
            let number = feature * 500 + user;
            answer += &format!(
                "    user{number} pc{number} pc{number}:0.0 (v1.0) (lic/27000 {user}), start Fri 10/20 14:12\n"
            );
        }
    }
    answer
}

#[divan::bench(sample_count = 100)]
fn lmstat_of_5000_users(bencher: Bencher) {
    let answer = lmstat();
    bencher.counter(BytesCount::new(answer.len())).bench_local(|| {
        let read = Reading::ByContent.read(answer.as_bytes()).map(|read| read.seats.len());
        assert_eq!(read, Ok(5000));
    });
}

/// A page of a hundred sessions of a site.
fn page(number: usize) -> String {
    let session = |index: usize| {
        let key = number * 100 + index;
        format!(
            r#"{{"SessionKey":"00000000-0000-4000-8000-{key:012}","StartDate":"2026-11-25T08:00:00Z","EndDate":null,
            "ModifiedDate":"2026-11-25T08:00:05Z","IsAnonymous":false,"Machine":{{"DesktopGroup":{{"Name":"Office"}}}},
            "User":{{"Upn":"user{key}@example.org","UserName":"user{key}","Domain":"EXAMPLE"}}}}"#
        )
    };
    format!("{{\"value\":[{}]}}", (0..100).map(session).collect::<Vec<_>>().join(","))
}

#[divan::bench(sample_count = 5)]
fn site_of_1000_pages(bencher: Bencher) {
    let pages: Vec<String> = (0..1000).map(page).collect();
    let features = Features { site: "XDT_PLT_UD".into(), ..Features::default() };
    bencher.counter(BytesCount::new(pages.iter().map(String::len).sum::<usize>())).bench_local(|| {
        let mut sessions = Sessions::default();
        for page in &pages {
            assert!(sessions.add_page(page.as_bytes(), &features).is_ok());
        }
        assert_eq!(sessions.into_answer().seats.len(), 100_000);
    });
}

#[divan::bench(sample_count = 10)]
fn lines(bencher: Bencher) {
    let text = repeated(&lmstat());
    bencher.counter(BytesCount::new(text.len())).bench_local(|| memchr::memchr_iter(b'\n', &text).count());
}
