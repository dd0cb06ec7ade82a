//! Fault 62: a month is closed, and then comes what should have come before: late data, other rules, adjustments, a kill, a restored
//! archive, a changed byte. What was approved stays as it was.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use ring::digest::{SHA256, digest};
use seatmeter_tests::enrolled::append;
use seatmeter_tests::process::text;
use seatmeter_tests::{Agent, TestCluster, wait_until};
use serde_json::{Value, json};

/// A provider with two license servers, of which the second one falls silent in January.
struct Closing {
    cluster: TestCluster,
    _agents: Vec<Agent>,
    silent: PathBuf,
}

fn month_of_log(month: u32, users: &[&str]) -> String {
    let mut log = format!(" 0:00:01 (lmgrd) TIMESTAMP {month}/1/2025\n");
    for user in users {
        log += &format!(" 9:00:00 (acmed) OUT: \"cad\" {user}@pc\n 9:30:00 (acmed) IN: \"cad\" {user}@pc\n");
    }
    log
}

const RULES: [&str; 3] = [
    "sku = { id = 'CAD', product = 'CAD', daemon = 'acmed', features = ['cad'] }",
    "customer = { id = 'acme', name = 'Acme Ltd' }",
    "assign = { customer = 'acme', who = { domain = 'acme' } }",
];

impl Closing {
    fn new(settings: &str) -> Self {
        let mut cluster = TestCluster::new();
        cluster.settings = settings.into();
        cluster.start_aggregator();
        let (whole, silent) = (cluster.path("whole.log"), cluster.path("silent.log"));
        let log = [(1, ["jo@acme", "kim@acme", "max"]), (2, ["jo@acme", "jo@other", "max"]), (3, ["jo@acme", "", ""])];
        let log: Vec<String> = log.iter().map(|(month, users)| month_of_log(*month, users)).collect();
        fs::write(
            &whole,
            log.concat().replace(" 9:00:00 (acmed) OUT: \"cad\" @pc\n 9:30:00 (acmed) IN: \"cad\" @pc\n", ""),
        )
        .unwrap();
        fs::write(&silent, month_of_log(1, &["eve@acme"])).unwrap();
        let mut agents = Vec::new();
        for (name, log) in [("LIC01", &whole), ("LIC02", &silent)] {
            let mut agent = cluster.agent(name, &[log]);
            agent.start();
            agents.push(agent);
        }
        let closing = Self { cluster, _agents: agents, silent };
        for rule in RULES {
            closing.must(&["rules", "add", rule]);
        }
        closing.wait_for("2025-01", 3);
        wait_until("March is there", || closing.quantity("2025-03", &[]) == Some(1));
        closing
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.cluster.seatmeter(arguments)
    }

    fn must(&self, arguments: &[&str]) -> Value {
        let done = self.run(&[arguments, &["--output", "json"]].concat());
        assert!(matches!(done.status.code(), Some(0 | 3)), "{arguments:?}: {}", text(&done.stderr));
        serde_json::from_slice(&done.stdout).unwrap_or_default()
    }

    fn refused(&self, arguments: &[&str], expected: &str) {
        let done = self.run(arguments);
        assert!(matches!(done.status.code(), Some(1 | 2)), "{arguments:?}: {}", text(&done.stdout));
        assert!(text(&done.stderr).contains(expected), "{arguments:?}: {}", text(&done.stderr));
    }

    /// What is charged to Acme.
    fn quantity(&self, month: &str, more: &[&str]) -> Option<u64> {
        let report = self.must(&[&["report", month], more].concat());
        let rows = report["rows"].as_array().unwrap();
        rows.iter().find(|row| row["customer"] == "acme").and_then(|row| row["quantity"].as_u64())
    }

    fn wait_for(&self, month: &str, quantity: u64) {
        wait_until("it is counted", || self.quantity(month, &["--live"]) == Some(quantity));
    }

    fn acknowledge_and_approve(&self, month: &str) {
        for server in self.must(&["month", "show", month])["incomplete_servers"].as_array().unwrap() {
            self.must(&["month", "acknowledge", month, server.as_str().unwrap(), "--reason", "known"]);
        }
        self.must(&["month", "approve", month]);
    }

    /// Exports a document. Returns its bytes.
    fn document(&self, month: &str, revision: u32) -> Vec<u8> {
        let file = self.cluster.path("document.json");
        let _ = fs::remove_file(&file);
        let revision = revision.to_string();
        self.must(&["month", "export", month, file.to_str().unwrap(), "--revision", &revision]);
        fs::read(file).unwrap()
    }

    /// The hash that a list of months shows.
    fn hash(&self, month: &str) -> String {
        let months = self.must(&["month", "list"]);
        let row = months["rows"].as_array().unwrap().iter().find(|row| row["month"] == month).unwrap();
        row["sha256"].as_str().unwrap().to_owned()
    }
}

fn sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is approved stays, byte for byte, whatever comes after; what comes becomes another revision, by decision.
#[test]
fn fault_62_what_is_approved_stays_as_it_is() {
    let mut closing = Closing::new("");
    let current = jiff::Timestamp::now().strftime("%Y-%m").to_string();
    closing.refused(&["month", "review", &current], "has not ended");
    closing.refused(&["month", "review", "2030-01"], "has not begun");
    closing.refused(&["month", "approve", "2025-01"], "no revision of 2025-01 is in review");
    closing.refused(&["month", "submit", "2025-01"], "no revision of 2025-01 is approved");
    closing.must(&["month", "review", "2025-01"]);
    closing.refused(&["month", "review", "2025-01"], "is in review");
    closing.refused(&["month", "approve", "2025-01"], "LIC02");
    closing.refused(&["month", "acknowledge", "2025-01", "LIC02"], "say why");
    closing.refused(&["month", "acknowledge", "2025-01", "LIC09", "--reason", "x"], "lacks nothing");
    closing
        .refused(&["month", "approve", "2025-01", "--sha256", &"0".repeat(64)], "another one than you have looked at");
    closing.must(&["month", "acknowledge", "2025-01", "lic02", "--reason", "broken since the 1st"]);
    // A kill between changes nothing of it.
    closing.cluster.kill_aggregator();
    closing.cluster.start_aggregator();
    let hash = closing.hash("2025-01");
    closing.acknowledge_and_approve("2025-01");
    assert_eq!(closing.hash("2025-01"), hash);
    closing.must(&["month", "submit", "2025-01", "--reference", "PO 7"]);
    let first = closing.document("2025-01", 1);
    assert_eq!(sha256(&first), hash);
    let document: Value = serde_json::from_slice(&first).unwrap();
    assert_eq!(document["format"], "seatmeter month 1");
    assert!(document["people"].to_string().contains("kim@acme"), "{document}");
    let uses = json!([{ "customer": "acme", "sku": "CAD", "counts": "charged" }]);
    assert_eq!(document["people"].as_array().unwrap().iter().filter(|person| person["uses"] == uses).count(), 3);
    // Late data, and other rules: the report stays, and what would change is shown.
    append(&closing.silent, &month_of_log(1, &["late@acme"]).replace("1/1/2025", "1/20/2025"));
    closing.wait_for("2025-01", 4);
    closing.must(&["rules", "add", "free = { who = { user = 'kim@acme' }, cause = 'test', from = '2025-01' }"]);
    assert_eq!((closing.quantity("2025-01", &[]), closing.quantity("2025-01", &["--live"])), (Some(3), Some(3)));
    closing.must(&["rules", "add", "alias = { user = 'late@acme', person = 'jo@acme' }"]);
    assert_eq!((closing.quantity("2025-01", &[]), closing.quantity("2025-01", &["--live"])), (Some(3), Some(2)));
    let shown = closing.run(&["month", "show", "2025-01"]);
    assert_eq!(shown.status.code(), Some(3));
    assert!(text(&shown.stdout).contains("CAD of acme: 2 instead of 3"), "{}", text(&shown.stdout));
    assert_eq!(closing.document("2025-01", 1), first);
    // By decision, it becomes a revision.
    closing.refused(&["month", "review", "2025-01"], "say why it is corrected");
    closing.must(&["month", "review", "2025-01", "--reason", "late data"]);
    assert_eq!(closing.quantity("2025-01", &[]), Some(3), "until it is approved");
    closing.must(&["month", "adjust", "2025-01", "5", "--customer", "ACME", "--sku", "CAD", "--reason", "as agreed"]);
    closing.refused(&["month", "approve", "2025-01"], "have changed since revision 2");
    closing.refused(&["month", "adjust", "2025-01", "5", "--sku", "none", "--reason", "x"], "no line");
    let too_much = ["month", "adjust", "2025-01", "-8", "--customer", "acme", "--sku", "CAD", "--reason", "x"];
    closing.refused(&too_much, "only 7 are charged");
    closing.must(&["month", "withdraw", "2025-01"]);
    closing.must(&["month", "review", "2025-01", "--reason", "late data, and as agreed"]);
    closing.acknowledge_and_approve("2025-01");
    assert_eq!(closing.quantity("2025-01", &[]), Some(7));
    closing.refused(&["month", "review", "2025-01", "--reason", "again"], "nothing has changed");
    let month = closing.must(&["month", "show", "2025-01"]);
    let states: Vec<&str> =
        month["revisions"].as_array().unwrap().iter().map(|one| one["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["superseded", "withdrawn", "approved"]);
    assert_eq!(closing.document("2025-01", 1), first, "the old one can still be seen");
    let third: Value = serde_json::from_slice(&closing.document("2025-01", 3)).unwrap();
    assert_eq!(third["correction"], "late data, and as agreed");
    assert_eq!(third["adjustments"][0]["quantity"], 5);
    closing.must(&["month", "unadjust", "2025-01", "1"]);
    assert_eq!((closing.quantity("2025-01", &[]), closing.quantity("2025-01", &["--live"])), (Some(7), Some(2)));
    // The next month knows what was billed, and holds to it.
    closing.must(&["month", "review", "2025-02"]);
    closing.acknowledge_and_approve("2025-02");
    let second: Value = serde_json::from_slice(&closing.document("2025-02", 0)).unwrap();
    assert_eq!(second["previous_month_sha256"], closing.hash("2025-01"));
    let before: Vec<_> =
        second["lines"].as_array().unwrap().iter().map(|line| line["previous_quantity"].clone()).collect();
    assert!(before.contains(&json!(7)), "{before:?}");
    // A stranger proves it, with standard tools and with ours.
    let (january, february) = (closing.cluster.path("january.zip"), closing.cluster.path("february.zip"));
    closing.must(&["evidence", "export", "2025-01", january.to_str().unwrap()]);
    closing.must(&["evidence", "export", "2025-02", february.to_str().unwrap()]);
    let key = closing.must(&["evidence", "key"])["sha256"].as_str().unwrap().to_owned();
    let follows =
        ["evidence", "verify", february.to_str().unwrap(), "--signed-by", &key, "--after", january.to_str().unwrap()];
    let proved = closing.must(&follows);
    assert_eq!((&proved["month"], &proved["report_sha256"]), (&json!("2025-02"), &json!(closing.hash("2025-02"))));
    closing.refused(
        &["evidence", "verify", january.to_str().unwrap(), "--signed-by", &"0".repeat(64)],
        "signed by another key",
    );
    closing.refused(
        &["evidence", "verify", january.to_str().unwrap(), "--after", january.to_str().unwrap()],
        "month before",
    );
    closing.refused(&["evidence", "export", "2025-03", closing.cluster.path("x").to_str().unwrap()], "no revision");
    let unpacked = closing.cluster.path("unpacked");
    let openssl = "pkeyutl -verify -rawin -pubin -inkey signing-key.pem -sigfile SHA256SUMS.sig -in SHA256SUMS";
    let script = format!("unzip -q ../february.zip && sha256sum --quiet --check SHA256SUMS && openssl {openssl}");
    fs::create_dir(&unpacked).unwrap();
    let standard = std::process::Command::new("sh").args(["-c", &script]).current_dir(&unpacked).output().unwrap();
    assert!(standard.status.success(), "{}{}", text(&standard.stdout), text(&standard.stderr));
    assert!(fs::read_to_string(unpacked.join("audit.jsonl")).unwrap().contains("ApproveMonth"));
    // Whoever is shown a customer's report sees that alone.
    let report = closing.must(&["report", "2025-01", "--customer", "acme"]);
    assert_eq!((report["rows"].as_array().unwrap().len(), &report["state"]), (1, &json!("approved")));
    let trail = closing.must(&["audit", "list", "--action", "ApproveMonth"]);
    assert_eq!(trail["rows"].as_array().unwrap().iter().filter(|row| row["result"] == "ok").count(), 3, "{trail}");
}

/// An archive that is restored takes nothing back that was approved; a document that somebody changes is known as changed.
#[test]
fn fault_62_what_is_approved_survives_a_restore_and_shows_a_changed_byte() {
    let mut closing = Closing::new("");
    let backup = closing.cluster.path("backup.db");
    let made = closing.cluster.aggregator_command_with(&["backup", backup.to_str().unwrap()]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    closing.must(&["month", "review", "2025-01"]);
    closing.acknowledge_and_approve("2025-01");
    let (document, rules) = (closing.document("2025-01", 0), closing.must(&["rules", "list"]));
    closing.cluster.stop_aggregator();
    let restored = closing.cluster.aggregator_command_with(&["restore", backup.to_str().unwrap()]);
    assert!(restored.status.success(), "{}", text(&restored.stderr));
    closing.cluster.start_aggregator();
    assert_eq!(closing.document("2025-01", 0), document);
    assert_eq!(closing.must(&["rules", "list"]), rules);
    // Where there are none, they come with the backup.
    let months = |folder: &Path| folder.join("aggregator/months.db");
    assert!(months(&closing.cluster.path("")).exists() && Path::new(&format!("{}.months", backup.display())).exists());
    closing.cluster.kill_aggregator();
    let database = rusqlite::Connection::open(closing.cluster.path("aggregator/months.db")).unwrap();
    let altered = database.execute(
        "UPDATE month_revision SET document = CAST(replace(CAST(document AS TEXT), 'kim@acme', 'tim@acme') AS BLOB)",
        [],
    );
    assert_eq!(altered.unwrap(), 1);
    drop(database);
    closing.cluster.start_aggregator();
    closing.refused(&["report", "2025-01"], "is not what its hash says");
}

/// Where two people are required, nobody approves what they have reviewed; and a viewer does neither.
#[test]
fn fault_62_two_people_close_a_month() {
    let closing = Closing::new("[months]\ntwo_people = true\n");
    closing.must(&["month", "review", "2025-01"]);
    for server in closing.must(&["month", "show", "2025-01"])["incomplete_servers"].as_array().unwrap() {
        closing.must(&["month", "acknowledge", "2025-01", server.as_str().unwrap(), "--reason", "known"]);
    }
    closing.refused(&["month", "approve", "2025-01"], "two people are required");
    let as_other = |name: &str, role: &str, arguments: &[&str]| {
        let login = closing.cluster.path(name);
        if !login.exists() {
            let invited = closing.run(&["operators", "add", name, "--role", role, "--output", "csv"]);
            let line = text(&invited.stdout).trim().to_owned();
            assert!(closing.cluster.seatmeter_with(&login, &["login", &line]).output().unwrap().status.success());
        }
        closing.cluster.seatmeter_with(&login, arguments).output().unwrap()
    };
    for arguments in [&["month", "approve", "2025-01"][..], &["month", "export", "2025-01", "/tmp/never-written"]] {
        let refused = as_other("vic", "viewer", arguments);
        assert!(text(&refused.stderr).contains("takes the role reporter"), "{}", text(&refused.stderr));
    }
    // A customer sees its own report, and nothing of anybody else.
    closing.must(&["rules", "add", "customer = { id = 'zeta', name = 'Zeta' }"]);
    let line =
        closing.run(&["operators", "add", "it@acme", "--role", "viewer", "--customer", "ACME", "--output", "csv"]);
    let login = closing.cluster.path("customer");
    let line = text(&line.stdout).trim().to_owned();
    assert!(closing.cluster.seatmeter_with(&login, &["login", &line]).output().unwrap().status.success());
    let as_customer = |arguments: &[&str]| closing.cluster.seatmeter_with(&login, arguments).output().unwrap();
    let own = as_customer(&["report", "2025-01", "--output", "json"]);
    let told = text(&own.stdout);
    assert!(
        told.contains("\"acme\"") && !told.contains("LIC0") && !told.contains("zeta"),
        "{told}{}",
        text(&own.stderr)
    );
    let report: Value = serde_json::from_slice(&own.stdout).unwrap();
    assert_eq!((&report["users"], report["rows"].as_array().unwrap().len()), (&json!(3), 1), "{report}");
    for arguments in [
        &["report", "2025-01", "--customer", "zeta"][..],
        &["usage", "2025-01"],
        &["users", "2025-01"],
        &["servers"],
        &["rules", "list"],
        &["month", "list"],
        &["month", "export", "2025-01", "/tmp/never-written"],
        &["evidence", "export", "2025-01", "/tmp/never-written"],
        &["operators", "list"],
        &["alerts"],
    ] {
        let refused = as_customer(arguments);
        assert!(text(&refused.stderr).contains("reports of customer"), "{arguments:?}: {}", text(&refused.stderr));
    }
    let none = as_customer(&["report", "2019-01"]);
    assert!(!text(&none.stderr).contains("zeta"), "{}", text(&none.stderr));
    assert!(as_customer(&["tokens", "list"]).status.success());
    closing.refused(&["operators", "add", "x", "--role", "admin", "--customer", "acme"], "must be viewer");
    let approved = as_other("rob", "reporter", &["month", "approve", "2025-01"]);
    assert!(approved.status.success(), "{}", text(&approved.stderr));
    assert_eq!(closing.must(&["report", "2025-01"])["state"], "approved");
}
