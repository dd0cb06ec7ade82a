//! Measures the parser alone, on lines in memory. `SEATMETER_BENCH_LOG` names a log to read; without it, a few built-in
//! lines are repeated.

use divan::Bencher;
use divan::counter::BytesCount;
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
