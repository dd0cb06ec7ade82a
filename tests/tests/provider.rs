//! Fault 61: rules meet rules: identities, aliases, free users with caps, editions, customers by server, domain, user and feature, all with
//! months of their own, over a whole provider; and each figure of each month is compared with what a plain computation of the same words
//! gives, which shares no code with the product.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use fastrand::Rng;
use seatmeter_tests::process::text;
use seatmeter_tests::{Agent, TestCluster, wait_until};
use serde_json::{Value, json};
use xtask::sim::provider::{Size, Use, logs, uses};

/// The year of the first month.
const YEAR: u32 = 2025;

/// What domains mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Domains {
    Keep,
    Truncate,
    Map,
}

/// What is charged, who used it, and who of them is free: by customer (empty: nobody's) and SKU.
type Figures = BTreeMap<(String, String), [u64; 3]>;

fn month_name(month: u32) -> String {
    format!("{}-{:02}", YEAR + month / 12, month % 12 + 1)
}

fn server_name(server: u32) -> String {
    format!("LIC{server:02}")
}

/// The rules of a provider, but for what domains mean, as a file.
fn rule_file(size: &Size) -> String {
    let mut file = String::from(
        r#"
[[never_counted]]
daemon = "acmed"
features = ["starter"]

[[sku]]
id = "CAD-STD"
product = "CAD Standard"
daemon = "acmed"
features = ["cad_std"]
edition_of = "CAD"
rank = 1

[[sku]]
id = "CAD-PRO"
product = "CAD Professional"
daemon = "acmed"
features = ["cad_pro"]
edition_of = "CAD"
rank = 2

[[sku]]
id = "SOLVER-1"
product = "Solver"
daemon = "acmed"
features = ["solver"]
through = "2025-02"

[[sku]]
id = "SOLVER-2"
product = "Solver"
daemon = "acmed"
features = ["solver"]
from = "2025-03"

[[no_person]]
pattern = "svc*$"

[[free]]
who = { pattern = "test-*" }
cause = "test"

[[free]]
who = { domain = "trial" }
cause = "trial"
cap = 2

[[assign]]
customer = "c1"
who = { user = "user0@firm0" }

[[assign]]
customer = "c1"
who = { feature = "mystery" }
"#,
    );
    file += &format!("[[free]]\nwho = {{ server = \"{}\" }}\ncause = \"internal\"\n", server_name(size.servers - 1));
    file += "[[free]]\nwho = { user = \"FIRM1\\\\User1\" }\ncause = \"administrative\"\nfrom = \"2025-02\"\nthrough = \"2025-02\"\n";
    for customer in 0..size.customers {
        file += &format!("[[customer]]\nid = \"c{customer}\"\nname = \"Firm {customer}\"\n");
        file += &format!("[[assign]]\ncustomer = \"C{customer}\"\nwho = {{ domain = \"Firm{customer}\" }}\n");
    }
    // Whoever is of no known domain is of whoever has the license server.
    file += &format!("[[assign]]\ncustomer = \"c0\"\nwho = {{ server = \"{}\" }}\n", server_name(0));
    for person in (0..size.people).filter(|person| person % 23 == 3) {
        let domain = format!("firm{}", person % size.customers);
        file += &format!("[[alias]]\nuser = \"ext-{person}@{domain}\"\nperson = \"{domain}\\\\user{person}\"\n");
    }
    file
}

/// The rules of what domains mean.
fn domain_rules(domains: Domains, size: &Size) -> Vec<String> {
    match domains {
        Domains::Keep => vec!["domains = { rule = \"keep\" }".into()],
        Domains::Truncate => vec!["domains = { rule = \"truncate\" }".into()],
        Domains::Map => (0..size.customers)
            .map(|customer| format!("domain = {{ name = \"OLD-firm{customer}\", is = \"firm{customer}\" }}"))
            .collect(),
    }
}

/// An account in lower case, as user and domain.
fn account(name: &str) -> (String, String) {
    let name = name.to_lowercase();
    match (name.split_once('\\'), name.split_once('@')) {
        (Some((domain, user)), _) | (_, Some((user, domain))) => (user.to_owned(), domain.to_owned()),
        _ => (name, String::new()),
    }
}

/// The person behind an account; `None` if it is nobody's.
fn person(name: &str, domains: Domains) -> Option<String> {
    let (mut user, domain) = account(name);
    if user.starts_with("svc") && user.ends_with('$') {
        return None;
    }
    // The aliases are of accounts with the domain of today.
    if let Some(number) = user.strip_prefix("ext-").filter(|_| domain.starts_with("firm")) {
        user = format!("user{number}");
    }
    Some(match domains {
        Domains::Truncate => user,
        Domains::Keep => format!("{user}@{domain}"),
        Domains::Map => format!("{user}@{}", domain.trim_start_matches("old-")),
    })
}

/// The true figures of a month.
fn truth(size: &Size, uses: &[Use], month: u32, domains: Domains) -> (Figures, Figures) {
    let sku = |feature: &str| match feature {
        "cad_std" => Some("CAD-STD"),
        "cad_pro" => Some("CAD-PRO"),
        "solver" => Some(if month < 2 { "SOLVER-1" } else { "SOLVER-2" }),
        "mystery" => Some("mystery"),
        _ => None,
    };
    let of_month: Vec<&Use> = uses.iter().filter(|one| one.month == month && sku(one.feature).is_some()).collect();
    // Of a trial, the first two people are free.
    let is_paid = |one: &&&Use| one.server != size.servers - 1;
    let on_trial = of_month.iter().filter(|one| account(&one.name).1 == "trial").filter(is_paid);
    let on_trial: BTreeSet<String> = on_trial.filter_map(|one| person(&one.name, domains)).collect();
    let first: BTreeSet<&String> = on_trial.iter().take(2).collect();
    let is_free = |one: &Use| {
        let (user, domain) = account(&one.name);
        let is_of_trial = domain == "trial" && person(&one.name, domains).is_some_and(|person| first.contains(&person));
        one.server == size.servers - 1
            || (user.starts_with("test-") && !user.starts_with("svc"))
            || is_of_trial
            || (month == 1 && user == "user1" && domain == "firm1")
    };
    let customers = |one: &Use| -> Vec<String> {
        let (user, domain) = account(&one.name);
        match domain.strip_prefix("firm") {
            _ if user == "user0" && domain == "firm0" => vec!["c1".into()],
            Some(number) => vec![format!("c{number}")],
            None if one.feature == "mystery" => vec!["c1".into()],
            None if one.server == 0 => vec!["c0".into()],
            None => vec![String::new()],
        }
    };
    let mut users: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    let mut paid = users.clone();
    let (mut all_users, mut all_paid) = (users.clone(), users.clone());
    for one in of_month {
        let (Some(sku), Some(person)) = (sku(one.feature), person(&one.name, domains)) else { continue };
        let keys = customers(one).into_iter().map(|customer| (customer, sku.to_owned()));
        for key in keys {
            users.entry(key.clone()).or_default().insert(person.clone());
            let paid = paid.entry(key).or_default();
            if !is_free(one) {
                paid.insert(person.clone());
            }
        }
        let key = (String::new(), sku.to_owned());
        all_users.entry(key.clone()).or_default().insert(person.clone());
        let all_paid = all_paid.entry(key).or_default();
        if !is_free(one) {
            all_paid.insert(person);
        }
    }
    (figures(&users, &paid), figures(&all_users, &all_paid))
}

fn figures(
    users: &BTreeMap<(String, String), BTreeSet<String>>,
    paid: &BTreeMap<(String, String), BTreeSet<String>>,
) -> Figures {
    let charged = |(customer, sku): &(String, String)| {
        let own = &paid[&(customer.clone(), sku.clone())];
        let higher = paid.get(&(customer.clone(), "CAD-PRO".into())).filter(|_| sku == "CAD-STD");
        own.iter().filter(|person| higher.is_none_or(|higher| !higher.contains(*person))).count() as u64
    };
    let row = |key: &(String, String)| {
        let (users, paid) = (users[key].len() as u64, paid[key].len() as u64);
        [charged(key), users, users - paid]
    };
    users.keys().map(|key| (key.clone(), row(key))).collect()
}

/// The figures that a report tells, without those of which nothing was used.
fn told(rows: &Value) -> Figures {
    let number = |row: &Value, name: &str| row[name].as_u64().unwrap();
    let rows = rows.as_array().unwrap().iter().filter(|row| number(row, "users") > 0);
    rows.map(|row| {
        let customer = row["customer"].as_str().unwrap_or_default().to_owned();
        let figures = ["quantity", "users", "free_users"].map(|name| number(row, name));
        ((customer, row["sku"].as_str().unwrap().to_owned()), figures)
    })
    .collect()
}

struct Provider {
    cluster: TestCluster,
    _agents: Vec<Agent>,
    size: Size,
    uses: Vec<Use>,
}

impl Provider {
    fn new(size: Size, seed: u64) -> Self {
        println!("seed {seed}");
        let uses = uses(&size, &mut Rng::with_seed(seed));
        let cluster = TestCluster::running();
        let mut agents = Vec::new();
        let logs = logs(&size, &uses, YEAR);
        for (server, log) in (0..).zip(&logs) {
            let path = cluster.path(&format!("{server}.log"));
            fs::write(&path, log).unwrap();
            let mut agent = cluster.agent(&server_name(server), &[&path]);
            agent.start();
            agents.push(agent);
        }
        let provider = Self { cluster, _agents: agents, size, uses };
        wait_until("every use is counted", || {
            let rows = provider.cluster.ask(&["activity"])["rows"].as_array().unwrap().clone();
            rows.iter().map(|row| row["outs"].as_u64().unwrap()).sum::<u64>() == provider.uses.len() as u64
        });
        provider
    }

    fn report(&self, month: u32) -> Value {
        self.cluster.ask(&["report", &month_name(month)])
    }

    /// Compares each figure of each month with the truth.
    fn assert_true(&self, domains: Domains) {
        for month in 0..self.size.months {
            let (lines, totals) = truth(&self.size, &self.uses, month, domains);
            let report = self.report(month);
            assert_eq!(told(&report["rows"]), lines, "{domains:?}, {}", month_name(month));
            assert_eq!(told(&report["totals"]), totals, "{domains:?}, {}, totals", month_name(month));
        }
    }

    /// Changes the rules, as a preview has said it would.
    fn change(&self, arguments: &[&str]) -> Value {
        let run = |more: &[&str]| {
            let done = self.cluster.seatmeter(&[arguments, more, &["--output", "json"]].concat());
            assert!(done.status.success(), "{}", text(&done.stderr));
            serde_json::from_slice::<Value>(&done.stdout).unwrap()
        };
        let before: Vec<Value> = (0..self.size.months).map(|month| self.report(month)).collect();
        let preview = run(&["--preview"]);
        let made = run(&["--reason", "a test"]);
        assert_eq!((&preview["version"], &preview["added"]), (&made["version"], &made["added"]));
        // The figures have changed as the preview has said.
        for (month, before) in (0..).zip(before) {
            let (before, after) = (told(&before["rows"]), told(&self.report(month)["rows"]));
            let mut expected: Vec<Value> = Vec::new();
            for key in before.keys().chain(after.keys()).collect::<BTreeSet<_>>() {
                let quantity = |figures: &Figures| figures.get(key).map_or(0, |[quantity, ..]| *quantity);
                if quantity(&before) != quantity(&after) {
                    let customer = Some(&key.0).filter(|name| !name.is_empty());
                    let (before, after) = (quantity(&before), quantity(&after));
                    expected.push(json!({ "customer": customer, "sku": key.1, "before": before, "after": after }));
                }
            }
            let months = preview["months"].as_array().unwrap();
            let said = months.iter().find(|said| said["month"] == month_name(month).as_str());
            let lines = said.map_or(&[][..], |said| said["lines"].as_array().unwrap());
            assert_eq!(lines, expected, "{}", month_name(month));
        }
        made
    }
}

fn every_figure_is_true(size: Size, seed: u64) {
    let provider = Provider::new(size, seed);
    let cluster = &provider.cluster;
    let file = cluster.path("rules.toml");
    fs::write(&file, rule_file(&provider.size)).unwrap();
    provider.change(&["rules", "import", file.to_str().unwrap(), "--as", "provider"]);
    provider.assert_true(Domains::Keep);
    let mut versions = Vec::new();
    for domains in [Domains::Truncate, Domains::Map, Domains::Keep] {
        // What was said before of domains is taken back.
        if let Some(last) = versions.pop() {
            cluster.seatmeter(&["rules", "undo", &format!("{last}")]);
            provider.assert_true(Domains::Keep);
        }
        let rules = domain_rules(domains, &provider.size);
        let arguments = [&["rules", "add"][..], &rules.iter().map(String::as_str).collect::<Vec<_>>()].concat();
        provider.change(&arguments);
        provider.assert_true(domains);
        let log = cluster.ask(&["rules", "log"]);
        versions.push(log["rows"][0]["number"].as_u64().unwrap());
    }
    // The usage by SKU says the same of free users.
    let month = month_name(1);
    let (_, totals) = truth(&provider.size, &provider.uses, 1, Domains::Keep);
    for row in cluster.ask(&["usage", &month])["rows"].as_array().unwrap() {
        let key = (String::new(), row["sku"].as_str().unwrap().to_owned());
        let [_, users, free] = totals[&key];
        assert_eq!((row["unique_users"].as_u64(), row["free_users"].as_u64()), (Some(users), Some(free)), "{key:?}");
    }
    // The same file again changes nothing; without a part of it, that part goes.
    let again = cluster.seatmeter(&["rules", "import", file.to_str().unwrap(), "--as", "provider"]);
    assert!(text(&again.stderr).contains("nothing would change"), "{}", text(&again.stderr));
    fs::write(&file, rule_file(&provider.size).replace("[[no_person]]\npattern = \"svc*$\"\n", "")).unwrap();
    let made = provider.change(&["rules", "import", file.to_str().unwrap(), "--as", "provider"]);
    assert_eq!((&made["added"], &made["removed"]), (&json!(0), &json!(1)));
    // What is exported is imported as the same.
    let rules = cluster.ask(&["rules", "list"])["total"].as_u64().unwrap();
    let exported = text(&cluster.seatmeter(&["rules", "export"]).stdout);
    assert_eq!(exported.lines().filter(|line| line.starts_with("[[")).count() as u64, rules);
    fs::write(&file, &exported).unwrap();
    let again = cluster.seatmeter(&["rules", "import", file.to_str().unwrap(), "--as", "copy"]);
    let told = text(&again.stderr);
    assert!(told.contains("another rule says") && told.contains(" more"), "{told}");
    cluster.assert_verified();
}

#[test]
fn fault_61_every_figure_of_a_provider_is_true() {
    let is_long = std::env::var("SEATMETER_LONG").is_ok_and(|long| !long.is_empty());
    let size = match is_long {
        true => Size { customers: 12, servers: 40, people: 30_000, months: 14 },
        false => Size { customers: 3, servers: 4, people: 120, months: 4 },
    };
    every_figure_is_true(size, 20_261_128);
}

/// Who may see and change rules; rules that make no sense; two who change at once; a kill between.
#[test]
fn fault_61_rules_are_kept_whole_or_not_at_all() {
    let mut cluster = TestCluster::running();
    let add =
        |cluster: &TestCluster, rule: &str, more: &[&str]| cluster.seatmeter(&[&["rules", "add", rule], more].concat());
    for (rule, expected) in [
        ("free = { who = { usr = 'x' }, cause = 'test' }", "free, entry 1: unknown field `usr`"),
        ("free = { who = { user = 'x' }, cause = 'test', from = '2026-13' }", "is not a month"),
        ("assign = { customer = 'nobody', who = { server = 'A' } }", "no customer \"nobody\""),
        ("sku = { id = 'A', product = 'A', daemon = 'd', features = [] }", "it has no features"),
        ("free = ", "is no rule"),
    ] {
        let refused = add(&cluster, rule, &[]);
        assert!(!refused.status.success() && text(&refused.stderr).contains(expected), "{}", text(&refused.stderr));
    }
    assert_eq!(cluster.ask(&["rules", "list"])["total"], 0);
    let version = cluster.ask(&["rules", "list"])["version"].as_str().unwrap().to_owned();
    let first = add(&cluster, "split = { user = 'a' }", &["--seen", &version]);
    assert!(first.status.success(), "{}", text(&first.stderr));
    let second = add(&cluster, "split = { user = 'b' }", &["--seen", &version]);
    assert!(text(&second.stderr).contains("have changed meanwhile"), "{}", text(&second.stderr));
    let table = cluster.path("free.csv");
    fs::write(&table, "user,cause,from\nx,joke,\n,test,\ny,test,2026-02\n").unwrap();
    let import = ["rules", "import", table.to_str().unwrap(), "--table", "free", "--as", "hr"];
    let refused = cluster.seatmeter(&import);
    let told = text(&refused.stderr);
    assert!(told.contains("line 2: cause \"joke\"") && told.contains("line 3: it names nobody"), "{told}");
    fs::write(&table, "user,cause,from\nx,test,\ny,test,2026-02\n").unwrap();
    assert!(cluster.seatmeter(&import).status.success());
    // A table without lines lets nobody go.
    fs::write(&table, "user,cause,from\n").unwrap();
    let empty = cluster.seatmeter(&import);
    assert!(text(&empty.stderr).contains("holds no rules"), "{}", text(&empty.stderr));
    let known = cluster.ask(&["rules", "list"]);
    assert_eq!(known["total"], 3);
    cluster.kill_aggregator();
    cluster.start_aggregator();
    assert_eq!(cluster.ask(&["rules", "list"]), known);
    // A viewer sees the figures, and neither the names in rules nor how to change them.
    let login = cluster.path("viewer");
    let invited = cluster.seatmeter(&["operators", "add", "vic", "--role", "viewer", "--output", "csv"]);
    let line = text(&invited.stdout).trim().to_owned();
    let logged = cluster.seatmeter_with(&login, &["login", &line]).output().unwrap();
    assert!(logged.status.success(), "{}", text(&logged.stderr));
    for (arguments, is_let_in) in [
        (&["report", "current"][..], true),
        (&["rules", "log"], true),
        (&["rules", "list"], false),
        (&["rules", "export"], false),
        (&["rules", "remove", "1"], false),
    ] {
        let done = cluster.seatmeter_with(&login, arguments).output().unwrap();
        let is_refused = text(&done.stderr).contains("takes the role reporter");
        assert_eq!(is_refused, !is_let_in, "{arguments:?}: {}", text(&done.stderr));
    }
    let trail = cluster.ask(&["audit", "list", "--action", "ImportRules"]);
    assert!(trail.to_string().contains("origin: \\\"hr\\\""), "{trail}");
    assert!(!trail.to_string().contains("y,test"), "the text is no part of it");
    let wrong = cluster.seatmeter(&["report", "2025-01", "--customer", "acme"]);
    assert!(text(&wrong.stderr).contains("no customer"), "{}", text(&wrong.stderr));
}

/// What the configuration says is a rule, too: kept where it contradicts what operators have said.
#[test]
fn fault_61_the_configuration_is_one_of_those_who_make_rules() {
    let mut cluster = TestCluster::new();
    cluster.settings = "[people]\ndomains = \"truncate\"\n".into();
    cluster.start_aggregator();
    let rules = cluster.ask(&["rules", "list"]);
    assert_eq!(rules["rows"][0]["origin"], "configuration", "{rules}");
    let removed = cluster.seatmeter(&["rules", "remove", "1"]);
    assert!(text(&removed.stderr).contains("stands in the aggregator's configuration"), "{}", text(&removed.stderr));
    let contradicted = cluster.seatmeter(&["rules", "add", "domains = { rule = 'keep' }"]);
    assert!(text(&contradicted.stderr).contains("of the configuration"), "{}", text(&contradicted.stderr));
    let added = cluster.seatmeter(&["rules", "add", "counted = { who = 'held' }"]);
    assert!(added.status.success(), "{}", text(&added.stderr));
    cluster.stop_aggregator();
    cluster.settings = "[people]\ndomains = \"keep\"\ncounted = \"checked_out\"\n".into();
    cluster.start_aggregator();
    wait_until("it is told", || cluster.read("aggregator.err").contains("\"rules_refused\""));
    let kept = cluster.ask(&["rules", "list"]);
    assert!(kept.to_string().contains("domains are cut off"), "{kept}");
}
