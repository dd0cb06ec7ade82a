//! A service provider: license servers that customers share, people with several accounts, and what each of them used. It keeps what is
//! true, in the plainest form: who used what, where and when.

use std::collections::BTreeMap;

use fastrand::Rng;

/// How large the provider is.
pub struct Size {
    /// The customers.
    pub customers: u32,
    /// The license servers, of which the last one is the laboratory, where all is free.
    pub servers: u32,
    /// The people.
    pub people: u32,
    /// The months.
    pub months: u32,
}

/// A use: an account held a seat of a feature for a moment.
#[derive(Clone, Debug)]
pub struct Use {
    /// The month, from 0.
    pub month: u32,
    /// The account as it stands in the log.
    pub name: String,
    /// The license server.
    pub server: u32,
    /// The feature.
    pub feature: &'static str,
    /// The host.
    pub host: String,
}

/// The features: two editions of a product, one that becomes another SKU, one that nobody mapped, one that never counts.
pub const FEATURES: [&str; 5] = ["cad_std", "cad_pro", "solver", "mystery", "starter"];

/// The vendor daemon.
pub const DAEMON: &str = "acmed";

/// Returns what the people of a provider used.
pub fn uses(size: &Size, rng: &mut Rng) -> Vec<Use> {
    let mut uses = Vec::new();
    for month in 0..size.months {
        for person in 0..size.people {
            // Not everybody works every month.
            for _ in 0..rng.u32(0..3) {
                let server = match rng.u32(0..10) {
                    0 => size.servers - 1,
                    1..=6 => person % size.customers % size.servers,
                    _ => rng.u32(0..size.servers),
                };
                let feature = FEATURES[rng.usize(0..FEATURES.len())];
                let (name, host) = (account(person, size, rng), format!("pc{}", rng.u32(0..size.people)));
                uses.push(Use { month, name, server, feature, host });
            }
        }
    }
    uses
}

/// Returns one of the accounts of a person, as somebody may write it.
fn account(person: u32, size: &Size, rng: &mut Rng) -> String {
    let domain = format!("firm{}", person % size.customers);
    let user = match person % 23 {
        // Accounts of services, of tests and of a trial.
        7 => return format!("svc{person}$"),
        11 => format!("test-{person}"),
        13 => return format!("user{person}@trial"),
        // A second account.
        3 if rng.bool() => format!("ext-{person}"),
        _ => format!("user{person}"),
    };
    match rng.u32(0..5) {
        0 => format!("{}\\{user}", domain.to_uppercase()),
        1 => format!("{user}@{}", domain.to_uppercase()),
        2 => format!("{}@{domain}", user.to_uppercase()),
        3 => format!("{user}@old-{domain}"),
        _ => format!("{user}@{domain}"),
    }
}

/// Returns the log of each license server, for months that begin with January of a year.
pub fn logs(size: &Size, uses: &[Use], year: u32) -> Vec<String> {
    let mut logs = vec![String::new(); size.servers as usize];
    let mut by_month: BTreeMap<(u32, u32), Vec<&Use>> = BTreeMap::new();
    for one in uses {
        by_month.entry((one.server, one.month)).or_default().push(one);
    }
    for server in 0..size.servers {
        let log = &mut logs[server as usize];
        for month in 0..=size.months {
            let (year, month_of_year) = (year + month / 12, month % 12 + 1);
            let of_month = by_month.remove(&(server, month)).unwrap_or_default();
            // A line on the first and on the last days, so that the month is whole.
            for day in [1, 27] {
                *log += &format!(" 0:00:01 (lmgrd) TIMESTAMP {month_of_year}/{day}/{year}\n");
                if day == 1 {
                    let mut second = 3600;
                    for Use { name, feature, host, .. } in &of_month {
                        for what in ["OUT", "IN"] {
                            second += u32::from(second < 86_000);
                            let (hour, minute) = (second / 3600, second / 60 % 60);
                            let clock = format!("{hour:2}:{minute:02}:{:02}", second % 60);
                            *log += &format!("{clock} ({DAEMON}) {what}: \"{feature}\" {name}@{host}\n");
                        }
                    }
                }
            }
        }
    }
    logs
}
