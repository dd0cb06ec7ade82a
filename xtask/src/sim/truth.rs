//! The true figures, by month and feature.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write;

use serde::Serialize;

/// A month as `YYYY-MM` of the log's wall clock.
pub type MonthName = String;

/// The true use of one feature in one month.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    checked_out: HashSet<u32>,
    held: HashSet<u32>,
    hosts: HashSet<(u32, u32)>,
    outs: u64,
    ins: u64,
    denial_lines: u64,
    denials: u64,
    seat_seconds: i64,
    peak: u64,
}

/// The true figures of one feature in one month.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// The month by the log's wall clock, as `YYYY-MM`.
    pub month: String,
    /// The vendor daemon.
    pub daemon: String,
    /// The feature.
    pub feature: String,
    /// Number of people who checked out a seat.
    pub users_checked_out: u64,
    /// Number of people who held a seat.
    pub users_held: u64,
    /// Number of hosts on which seats were held.
    pub devices: u64,
    /// Number of checkout lines.
    pub outs: u64,
    /// Number of checkin lines.
    pub ins: u64,
    /// Number of denial lines, including retries.
    pub denial_lines: u64,
    /// Number of denials, not counting retries.
    pub denials: u64,
    /// Sum over all sessions of seats times seconds held.
    pub seat_seconds: u64,
    /// The most seats in use at once.
    pub peak: u64,
}

/// The true use of all features in all months.
#[derive(Clone, Debug)]
pub struct Truth {
    daemon: String,
    features: Vec<String>,
    cells: BTreeMap<(i64, usize), Cell>,
    in_use: HashMap<usize, u64>,
    last_denial: HashMap<(usize, u32, u32), i64>,
}

/// Returns the month of a wall-clock time: the number of months since year 0, the first second of the month, and the
/// first second after it.
pub(super) fn month_of(local: i64) -> (i64, i64, i64) {
    let day = local.div_euclid(86_400);
    // Civil from days, after Howard Hinnant's public-domain algorithm.
    let z = day + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (month, year) = if mp < 10 { (mp + 3, yoe + era * 400) } else { (mp - 9, yoe + era * 400 + 1) };
    let month_number = year * 12 + month - 1;
    (month_number, first_of(month_number), first_of(month_number + 1))
}

fn first_of(month_number: i64) -> i64 {
    let (year, month) = (month_number.div_euclid(12), month_number.rem_euclid(12) + 1);
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5;
    (era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468) * 86_400
}

/// Returns the parts of a time, both ends included, that lie in different months.
fn months_between(from: i64, through: i64) -> impl Iterator<Item = (i64, i64)> {
    let starts =
        std::iter::successors(Some(from), move |start| Some(month_of(*start).2).filter(|next| *next <= through));
    starts.map(move |start| (start, through.min(month_of(start).2)))
}

/// Returns the year, month and day of a wall-clock time.
pub(super) fn date_of(local: i64) -> (i64, i64, i64) {
    let (month, first, _) = month_of(local);
    (month.div_euclid(12), month.rem_euclid(12) + 1, (local - first) / 86_400 + 1)
}

impl Truth {
    pub(super) fn new(daemon: &str, features: Vec<String>) -> Self {
        Self {
            daemon: daemon.into(),
            features,
            cells: BTreeMap::new(),
            in_use: HashMap::new(),
            last_denial: HashMap::new(),
        }
    }

    fn cell(&mut self, at: i64, feature: usize) -> &mut Cell {
        self.cells.entry((month_of(at).0, feature)).or_default()
    }

    pub(super) fn out(&mut self, at: i64, feature: usize, user: u32, host: u32, seats: u32) {
        let in_use = self.in_use.entry(feature).or_default();
        *in_use += u64::from(seats);
        let level = *in_use;
        let cell = self.cell(at, feature);
        cell.outs += 1;
        cell.checked_out.insert(user);
        cell.held.insert(user);
        cell.hosts.insert((user, host));
        cell.peak = cell.peak.max(level);
    }

    pub(super) fn returned(&mut self, at: i64, feature: usize) {
        self.cell(at, feature).ins += 1;
    }

    /// Records a session that was held from `from` through `through` and has ended.
    pub(super) fn held(&mut self, from: i64, through: i64, feature: usize, user: u32, host: u32, seats: u32) {
        let in_use = self.in_use.entry(feature).or_default();
        *in_use -= u64::from(seats);
        self.hold(from, through, feature, user, host, seats);
    }

    /// Records seats that several sessions have shared, once all of them have ended.
    pub(super) fn free_seats(&mut self, from: i64, through: i64, feature: usize, seats: u32) {
        let in_use = self.in_use.entry(feature).or_default();
        *in_use -= u64::from(seats);
        self.hold_seats(from, through, feature, seats);
    }

    fn hold(&mut self, from: i64, through: i64, feature: usize, user: u32, host: u32, seats: u32) {
        self.hold_person(from, through, feature, user, host);
        self.hold_seats(from, through, feature, seats);
    }

    /// Records that somebody had a session from `from` through `through`, whatever seats it took.
    pub(super) fn hold_person(&mut self, from: i64, through: i64, feature: usize, user: u32, host: u32) {
        for (start, _) in months_between(from, through) {
            let cell = self.cell(start, feature);
            cell.held.insert(user);
            cell.hosts.insert((user, host));
        }
    }

    pub(super) fn hold_seats(&mut self, from: i64, through: i64, feature: usize, seats: u32) {
        for (start, end) in months_between(from, through) {
            self.cell(start, feature).seat_seconds += (end - start) * i64::from(seats);
        }
    }

    /// Records the beginning of a month: seats still in use count for its peak.
    pub(super) fn month_begins(&mut self, at: i64) {
        for (feature, level) in self.in_use.clone() {
            if level > 0 {
                let cell = self.cell(at, feature);
                cell.peak = cell.peak.max(level);
            }
        }
    }

    pub(super) fn denied(&mut self, at: i64, feature: usize, user: u32, host: u32) {
        let last = self.last_denial.insert((feature, user, host), at);
        let is_retry = last.is_some_and(|last| at - last <= 300);
        let cell = self.cell(at, feature);
        cell.denial_lines += 1;
        cell.denials += u64::from(!is_retry);
    }

    /// Returns the figures. The sessions in `open` are still open at the time `last`.
    pub(super) fn figures(&self, open: impl Iterator<Item = (i64, usize, u32, u32, u32)>, last: i64) -> Vec<Figures> {
        let mut all = self.clone();
        for (from, feature, user, host, seats) in open {
            all.hold(from, last, feature, user, host, seats);
        }
        let mut figures: Vec<Figures> = all
            .cells
            .iter()
            .map(|((month, feature), cell)| Figures {
                month: format!("{:04}-{:02}", month.div_euclid(12), month.rem_euclid(12) + 1),
                daemon: self.daemon.clone(),
                feature: self.features[*feature].clone(),
                users_checked_out: cell.checked_out.len() as u64,
                users_held: cell.held.len() as u64,
                devices: cell.hosts.len() as u64,
                outs: cell.outs,
                ins: cell.ins,
                denial_lines: cell.denial_lines,
                denials: cell.denials,
                seat_seconds: cell.seat_seconds as u64,
                peak: cell.peak,
            })
            .filter(|figures| figures.users_held + figures.outs + figures.ins + figures.denial_lines > 0)
            .collect();
        figures.sort_by(|a, b| (&a.month, &a.daemon, &a.feature).cmp(&(&b.month, &b.daemon, &b.feature)));
        figures
    }
}

/// Formats figures in the form of `seatmeter-agent scan --output csv`.
pub fn as_csv(figures: &[Figures]) -> String {
    let mut csv = String::from("month,daemon,feature,users_checked_out,users_held,outs,ins,denials\n");
    for f in figures {
        let _ = writeln!(
            csv,
            "{},{},{},{},{},{},{},{}",
            f.month, f.daemon, f.feature, f.users_checked_out, f.users_held, f.outs, f.ins, f.denial_lines
        );
    }
    csv
}
