//! Fault 54: operators: nobody is let in without a login, each does what its role may, and the audit trail tells what was done, whatever
//! is done to it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use prost::Message;
use prost_types::FileDescriptorSet;
use seatmeter_proto::invitation::Invitation;
use seatmeter_proto::v1::fleet_service_client::FleetServiceClient;
use seatmeter_proto::v1::operator_service_client::OperatorServiceClient;
use seatmeter_proto::v1::{DESCRIPTOR, ExpectLicenseServerRequest, LogInRequest, LogInResponse};
use seatmeter_tests::process::{command, text};
use seatmeter_tests::{TestCluster, wait_until};
use serde_json::Value;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

const LOG: &str =
    " 8:00:00 (lmgrd) TIMESTAMP 1/5/2026\n 8:00:01 (d) OUT: \"Cad\" ann@pc1  \n10:00:00 (lmgrd) TIMESTAMP 2/1/2026\n";

/// An aggregator that knows one user.
fn one_user() -> (TestCluster, seatmeter_tests::Agent) {
    let cluster = TestCluster::running();
    let log = cluster.path("debug.log");
    fs::write(&log, LOG).unwrap();
    let mut agent = cluster.agent("LIC01", &[&log]);
    agent.start();
    wait_until("the user is counted", || {
        cluster.ask(&["activity"])["rows"].as_array().is_some_and(|rows| rows.len() == 2)
    });
    (cluster, agent)
}

/// Adds an operator, and returns its line.
fn add(cluster: &TestCluster, name: &str, role: &str) -> String {
    let added = cluster.seatmeter(&["operators", "add", name, "--role", role, "--output", "csv"]);
    assert!(added.status.success(), "{}", text(&added.stderr));
    text(&added.stdout).trim().to_owned()
}

/// Adds an operator who logs in. Returns the file of the login.
fn operator(cluster: &TestCluster, name: &str, role: &str) -> PathBuf {
    let login = cluster.path(&format!("{name}.login.json"));
    let logged_in = as_operator(cluster, &login, &["login", &add(cluster, name, role)]);
    assert!(logged_in.status.success(), "{}", text(&logged_in.stderr));
    login
}

fn as_operator(cluster: &TestCluster, login: &Path, arguments: &[&str]) -> Output {
    cluster.seatmeter_with(login, arguments).output().unwrap()
}

fn is_answered(output: &Output) -> bool {
    matches!(output.status.code(), Some(0 | 3))
}

/// Returns what the audit trail says, the latest first: who, the action and the result.
fn trail(cluster: &TestCluster) -> Vec<[String; 3]> {
    let told = cluster.ask(&["audit", "list", "--limit", "1000"]);
    let words = |row: &Value| ["who", "action", "result"].map(|field| row[field].as_str().unwrap().to_owned());
    told["rows"].as_array().unwrap().iter().map(words).collect()
}

fn is_told(cluster: &TestCluster, who: &str, action: &str, result: &str) -> bool {
    trail(cluster).contains(&[who, action, result].map(str::to_owned))
}

async fn channel(cluster: &TestCluster) -> Channel {
    Endpoint::from_shared(cluster.operators_url()).unwrap().connect().await.unwrap()
}

fn wait_for<T>(task: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(task)
}

/// Calls a method with an empty message.
async fn call(channel: &Channel, path: &str, token: Option<&str>) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let mut request = Request::new(());
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", token.parse().unwrap());
    }
    let path = PathAndQuery::try_from(path).unwrap();
    client.unary(request, path, ProstCodec::<(), ()>::default()).await.map(drop)
}

/// Whoever is not known can call nothing; whoever is a viewer, nothing that tells names or changes something.
#[test]
fn fault_54_no_method_answers_whoever_may_not_call_it() {
    let (cluster, _agent) = one_user();
    let viewer: Value = serde_json::from_slice(&fs::read(operator(&cluster, "vera", "viewer")).unwrap()).unwrap();
    let viewer = format!("Bearer {}", viewer["token"].as_str().unwrap());
    let set = FileDescriptorSet::decode(DESCRIPTOR).unwrap();
    let methods: Vec<String> = set
        .file
        .iter()
        .flat_map(|file| file.service.iter())
        .flat_map(|service| {
            service.method.iter().map(|method| format!("/seatmeter.v1.{}/{}", service.name(), method.name()))
        })
        .collect();
    assert!(methods.len() > 30);
    let for_viewers = ["Get", "List", "Preview", "CreateToken", "RevokeToken", "LogIn"];
    let not_for_viewers = [
        "ListUsers",
        "ListSessions",
        "ListUnrecognisedLines",
        "ListOperators",
        "ListAudit",
        "ListRules",
        "GetRuleVersion",
    ];
    wait_for(async {
        let channel = channel(&cluster).await;
        for path in &methods {
            let name = path.rsplit('/').next().unwrap();
            let is_of_agents = path.contains("IngestService") || path.contains("EnrolmentService");
            for token in [None, Some("Bearer smt1_AAAA"), Some("Basic YW5uOmFubg=="), Some("")] {
                // A guess takes a second: once is enough.
                if token.is_some() && name != "GetTrend" {
                    continue;
                }
                let refused = call(&channel, path, token).await.unwrap_err().code();
                let expected = match name {
                    _ if is_of_agents => Code::Unimplemented,
                    "LogIn" => Code::InvalidArgument,
                    _ => Code::Unauthenticated,
                };
                assert_eq!(refused, expected, "{path} with {token:?}");
            }
            // Of an empty message, the first ends the token of the call; the second goes on answering.
            if ["RevokeToken", "WatchFleet"].contains(&name) {
                continue;
            }
            let code = call(&channel, path, Some(&viewer)).await.err().map(|status| status.code());
            let may = for_viewers.iter().any(|begin| name.starts_with(begin)) && !not_for_viewers.contains(&name);
            if !is_of_agents {
                assert_eq!(code == Some(Code::PermissionDenied), !may, "{path} by a viewer: {code:?}");
            }
        }
        assert_eq!(
            call(&channel, "/seatmeter.v1.UsageService/DropAll", Some(&viewer)).await.unwrap_err().code(),
            Code::Unimplemented
        );
    });
    assert!(is_told(&cluster, "vera", "ListUsers", "NOT_ALLOWED"));
    assert!(trail(&cluster).iter().any(|[who, _, result]| who.is_empty() && result == "UNAUTHENTICATED"));
    assert!(cluster.read("aggregator.err").contains("operator_refused"));
}

/// Each role sees and does what it may, and what it may not is told with the role that may.
#[test]
fn fault_54_each_role_does_what_it_may() {
    let (cluster, _agent) = one_user();
    let [vera, rob, anna] =
        [("Vera", "viewer"), ("rob", "reporter"), ("anna", "admin")].map(|(name, role)| operator(&cluster, name, role));
    let ask = |who: &Path, arguments: &[&str]| as_operator(&cluster, who, arguments);
    for who in [&vera, &rob, &anna] {
        for question in
            [&["usage", "2026-01"][..], &["servers"], &["agents"], &["trend"], &["whoami"], &["tokens", "list"]]
        {
            let answer = ask(who, question);
            assert!(is_answered(&answer), "{question:?}: {}", text(&answer.stderr));
            assert!(!text(&answer.stdout).contains("ann@"), "{question:?}");
        }
    }
    let refused = ask(&vera, &["users", "2026-01"]);
    assert!(
        text(&refused.stderr).contains("takes the role reporter, and yours is viewer"),
        "{}",
        text(&refused.stderr)
    );
    for who in [&rob, &anna] {
        assert!(text(&ask(who, &["users", "2026-01"]).stdout).contains("ann"));
    }
    for who in [&vera, &rob] {
        for change in [
            &["servers", "retire", "LIC01", "--from", "2026-02-01"][..],
            &["operators", "add", "eve", "--role", "admin"],
            &["operators", "role", "vera", "admin"],
            &["agents", "invite"],
            &["audit", "list"],
            &["audit", "verify"],
            &["tokens", "list", "--operator", "anna"],
        ] {
            let refused = ask(who, change);
            let error = text(&refused.stderr);
            assert!(!is_answered(&refused) && error.contains("takes the role admin"), "{change:?}: {error}");
        }
    }
    assert!(is_answered(&ask(&anna, &["servers", "retire", "LIC01", "--from", "2026-02-01"])));
    // Who goes on asking is told once that it may not.
    let watching = ask(&vera, &["sessions", "--watch", "1"]);
    assert_eq!(watching.status.code(), Some(1), "{}", text(&watching.stderr));
    // Names differ by more than case; a role that is taken away is gone at once.
    let again = ask(&anna, &["operators", "add", "VERA", "--role", "admin"]);
    assert!(text(&again.stderr).contains("there is an operator \"Vera\" already"), "{}", text(&again.stderr));
    assert!(is_answered(&ask(&anna, &["operators", "role", "ROB", "viewer"])));
    assert!(!is_answered(&ask(&rob, &["users", "2026-01"])));
    for told in [
        ["rob", "ExportUsers", "asked"],
        ["anna", "ExportUsers", "asked"],
        ["Vera", "ExportUsers", "NOT_ALLOWED"],
        ["rob", "AddOperator", "NOT_ALLOWED"],
        ["anna", "RetireLicenseServer", "ok"],
        ["anna", "AddOperator", "OPERATOR_EXISTS"],
        ["anna", "ChangeOperator", "ok"],
        ["Vera", "LogIn", "ok"],
    ] {
        assert!(trail(&cluster).contains(&told.map(str::to_owned)), "{told:?}: {:?}", trail(&cluster));
    }
}

/// An invitation lets in once, its lost answer can be asked for again, and who guesses waits.
#[test]
fn fault_54_an_invitation_is_for_one_login() {
    let cluster = TestCluster::running();
    let line = add(&cluster, "ben", "viewer");
    let invitation: Invitation = line.parse().unwrap();
    let log_in = |secret: [u8; 32], token: u8| -> Result<LogInResponse, Status> {
        wait_for(async {
            let mut client = OperatorServiceClient::new(channel(&cluster).await);
            let token_sha256 = vec![token; 32];
            let request = LogInRequest { secret: secret.to_vec(), token_sha256, label: "desk".into() };
            client.log_in(request).await.map(tonic::Response::into_inner)
        })
    };
    let refused = log_in([1; 32], 7).unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let first = log_in(invitation.secret, 7).unwrap();
    assert_eq!(log_in(invitation.secret, 7).unwrap(), first, "the answer was lost, and is asked for again");
    assert_eq!(log_in(invitation.secret, 8).unwrap_err().code(), Code::PermissionDenied, "another one's token");
    let late = as_operator(&cluster, &cluster.path("late.json"), &["login", &line]);
    assert!(text(&late.stderr).contains("has been used"), "{}", text(&late.stderr));
    assert!(!cluster.path("late.json").exists());
    for cut in [&line[..40], &line[1..], "", "seatmeter1."] {
        let none = as_operator(&cluster, &cluster.path("late.json"), &["login", cut]);
        assert!(text(&none.stderr).contains("no invitation"), "{cut}: {}", text(&none.stderr));
    }
    // Whatever stands around the line; what the next login replaces is valid no more.
    let twice = cluster.path("twice.json");
    let log_in = |line: &str| {
        let mut command = cluster.seatmeter_with(&twice, &["login"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(format!("\nben is invited:\n\n$ seatmeter login {line}\n").as_bytes())
            .unwrap();
        child.wait().unwrap().success()
    };
    let again =
        || text(&cluster.seatmeter(&["operators", "invite", "BEN", "--output", "csv"]).stdout).trim().to_owned();
    assert!(log_in(&again()));
    let tokens = || cluster.ask(&["tokens", "list", "--operator", "ben"])["total"].clone();
    assert_eq!(tokens(), 2, "that of the desk, and this one");
    let before = fs::read(&twice).unwrap();
    assert!(log_in(&again()));
    assert_eq!(tokens(), 2);
    fs::write(&twice, before).unwrap();
    assert!(text(&as_operator(&cluster, &twice, &["whoami"]).stderr).contains("not valid"));
    fs::write(&twice, "{").unwrap();
    assert!(text(&as_operator(&cluster, &twice, &["whoami"]).stderr).contains("log in again"));
    // Whoever is not let in any more was invited in vain.
    let line = add(&cluster, "cleo", "viewer");
    assert!(cluster.seatmeter(&["operators", "disable", "cleo"]).status.success());
    assert!(!as_operator(&cluster, &cluster.path("late.json"), &["login", &line]).status.success());
    assert!(is_told(&cluster, "", "LogIn", "INVITATION_REFUSED"));
}

/// Tokens for programs: from files that nobody else may read; ended at once, with everything that was disabled.
#[test]
fn fault_54_tokens_end_at_once() {
    let cluster = TestCluster::running();
    let ben = operator(&cluster, "ben", "viewer");
    let created = as_operator(&cluster, &ben, &["tokens", "create", "--for", "cron", "--output", "csv"]);
    let (file, token) = (cluster.path("cron.token"), text(&created.stdout));
    fs::write(&file, &token).unwrap();
    fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    let by_file = || {
        let file = file.to_str().unwrap();
        as_operator(&cluster, &cluster.path("none.json"), &["servers", "--token-file", file])
    };
    assert!(is_answered(&by_file()), "{}", text(&by_file().stderr));
    fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).unwrap();
    assert!(text(&by_file().stderr).contains("chmod 600"), "{}", text(&by_file().stderr));
    fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    let listed = cluster.ask(&["tokens", "list", "--operator", "BEN"]);
    let row = listed["rows"].as_array().unwrap().iter().find(|row| row["label"] == "cron").unwrap().clone();
    assert!(row["last_used"].is_string() && row["operator"] == "ben", "{row}");
    let ended = as_operator(&cluster, &ben, &["tokens", "revoke", row["id"].as_str().unwrap()]);
    assert!(ended.status.success(), "{}", text(&ended.stderr));
    assert!(text(&by_file().stderr).contains("not valid"), "{}", text(&by_file().stderr));
    assert!(is_answered(&as_operator(&cluster, &ben, &["servers"])), "his own login goes on");
    // Of another one's tokens, a viewer knows nothing.
    let own = cluster.ask(&["tokens", "list", "--operator", "tester"])["rows"][0]["id"].as_str().unwrap().to_owned();
    assert!(!as_operator(&cluster, &ben, &["tokens", "revoke", &own]).status.success());
    // Disabled, and let in again: what he had is gone.
    assert!(cluster.seatmeter(&["operators", "disable", "Ben"]).status.success());
    assert!(!is_answered(&as_operator(&cluster, &ben, &["servers"])));
    assert!(cluster.seatmeter(&["operators", "enable", "ben"]).status.success());
    assert!(!is_answered(&as_operator(&cluster, &ben, &["servers"])));
    // Who was only invited cannot administer. The last administrator stays one; names are names here, too.
    for name in ["bad ", "b\u{202e}ad", "bad\n", ""] {
        let refused = cluster.aggregator_command_with(&["administrator", name]);
        assert!(!refused.status.success(), "{name:?}");
    }
    assert!(cluster.aggregator_command_with(&["administrator", "other"]).status.success());
    let listed = cluster.ask(&["operators", "list"])["rows"].clone();
    let other = listed.as_array().unwrap().iter().find(|row| row["name"] == "other").unwrap();
    assert_eq!((&other["status"], &other["role"]), (&"not logged in".into(), &"admin".into()));
    // Who lost everything comes back by the aggregator's own machine.
    let stays = cluster.seatmeter(&["operators", "disable", "tester"]);
    assert!(text(&stays.stderr).contains("last administrator"), "{}", text(&stays.stderr));
    let out = cluster.seatmeter(&["logout"]);
    assert!(text(&out.stdout).contains("valid no more"), "{}{}", text(&out.stdout), text(&out.stderr));
    assert!(!cluster.path("login.json").exists());
    assert!(is_answered(&cluster.seatmeter(&["servers"])), "he logged in again");
    // No secret is told anywhere.
    let secrets = [token.trim().to_owned(), cluster.token()];
    let said =
        [cluster.read("aggregator.err"), cluster.read("aggregator/health.log"), format!("{:?}", trail(&cluster))];
    let kept = fs::read(cluster.path("aggregator/access.db")).unwrap();
    for secret in secrets {
        assert!(said.iter().all(|said| !said.contains(&secret)));
        assert!(!kept.windows(secret.len()).any(|bytes| bytes == secret.as_bytes()));
    }
}

/// A token is told to no other machine than the one that it was made for.
#[test]
fn fault_54_a_login_is_for_one_aggregator() {
    let cluster = TestCluster::running();
    let ben = operator(&cluster, "ben", "viewer");
    let elsewhere = cluster.operators_url().replace("127.0.0.1", "localhost");
    let mut asked = command("seatmeter");
    asked.args(["whoami", "--aggregator", &elsewhere]).env("SEATMETER_LOGIN", &ben);
    let asked = asked.output().unwrap();
    assert!(text(&asked.stderr).contains("who are you?"), "{}", text(&asked.stderr));
}

/// Whatever is done to the trail, by whoever can write the database, is found; a whole new trail, by what was noted of the old one.
#[test]
fn fault_54_a_trail_that_is_tampered_with_is_found() {
    let mut cluster = TestCluster::running();
    for name in ["ann", "ben", "cleo"] {
        add(&cluster, name, "viewer");
    }
    cluster.kill_aggregator();
    cluster.start_aggregator();
    let export = cluster.path("audit.jsonl");
    let exported = cluster.seatmeter(&["audit", "export", export.to_str().unwrap()]);
    assert!(exported.status.success(), "{}", text(&exported.stderr));
    let noted = text(&exported.stdout).lines().last().unwrap().to_owned();
    let (last, _) = noted.split_once(':').unwrap();
    let verify = |noted: &str| cluster.seatmeter(&["audit", "verify", "--noted", noted]);
    assert!(verify(&noted).status.success(), "{}", text(&verify(&noted).stderr));
    let lines: Vec<String> = fs::read_to_string(&export).unwrap().lines().map(str::to_owned).collect();
    let offline = |lines: &[String]| {
        let file = cluster.path("harmed.jsonl");
        fs::write(&file, lines.join("\n")).unwrap();
        let file = file.to_str().unwrap();
        let verified =
            command("seatmeter").args(["audit", "verify", "--file", file, "--noted", &noted]).output().unwrap();
        (verified.status.success(), text(&verified.stderr))
    };
    assert!(offline(&lines).0, "{}", offline(&lines).1);
    let without = |at: usize| [&lines[..at], &lines[at + 1..]].concat();
    assert!(offline(&without(2)).1.contains("record 3 is missing"), "{}", offline(&without(2)).1);
    let mut moved = lines.clone();
    moved.swap(1, 2);
    assert!(!offline(&moved).0);
    let mut altered = lines.clone();
    altered.iter_mut().for_each(|line| *line = line.replace("\\\"ann\\\"", "\\\"eve\\\""));
    assert_ne!(altered, lines);
    assert!(offline(&altered).1.contains("was altered"), "{}", offline(&altered).1);
    assert!(offline(&lines[..3]).1.contains("its end is missing"), "{}", offline(&lines[..3]).1);
    assert!(!offline(&["no record".into()]).0);
    assert!(offline(&[]).1.contains("its end is missing"), "{}", offline(&[]).1);
    let empty = command("seatmeter").args(["audit", "verify", "--file", "/dev/null"]).output().unwrap();
    assert!(text(&empty.stderr).contains("there is no record"), "{}", text(&empty.stderr));
    let none = cluster.seatmeter(&["audit", "list", "--action", "Users"]);
    assert!(text(&none.stderr).contains("--action: is no action"), "{}", text(&none.stderr));

    let change = |sql: &str| {
        let database = rusqlite::Connection::open(cluster.path("aggregator/access.db")).unwrap();
        database.execute_batch(sql).unwrap();
    };
    let reason = || {
        let verified = cluster.seatmeter(&["audit", "verify", "--noted", &noted]);
        assert!(!verified.status.success());
        text(&verified.stderr)
    };
    change("CREATE TABLE kept AS SELECT * FROM audit; UPDATE audit SET who = 'eve' WHERE number = 2");
    assert!(reason().contains("record 2 was altered"), "{}", reason());
    change("DELETE FROM audit; INSERT INTO audit SELECT * FROM kept; DELETE FROM audit WHERE number = 3");
    assert!(reason().contains("record 3 is missing"), "{}", reason());
    // A trail that was begun anew holds together, and does not have what was noted.
    change("DELETE FROM audit");
    for _ in 0..last.parse::<u32>().unwrap() {
        assert!(cluster.seatmeter(&["audit", "export", "-"]).status.success());
    }
    assert!(cluster.seatmeter(&["audit", "verify"]).status.success());
    assert!(reason().contains("not the one that was noted"), "{}", reason());
}

/// What cannot be written down is not done.
#[test]
fn fault_54_nothing_is_done_that_the_trail_cannot_tell() {
    let cluster = TestCluster::running();
    assert!(is_answered(&cluster.seatmeter(&["servers"])));
    let database = rusqlite::Connection::open(cluster.path("aggregator/access.db")).unwrap();
    database.execute_batch("CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(FAIL, 'no'); END").unwrap();
    let refused = cluster.seatmeter(&["operators", "add", "eve", "--role", "admin"]);
    assert!(text(&refused.stderr).contains("nothing was done, since the audit trail"), "{}", text(&refused.stderr));
    assert!(is_answered(&cluster.seatmeter(&["servers"])), "what needs no record is answered");
    database.execute_batch("DROP TRIGGER full").unwrap();
    assert_eq!(cluster.ask(&["operators", "list"])["total"], 1);
}

/// A certificate lets in the operator whose name it has; a backup has the operators.
#[test]
fn fault_54_a_certificate_names_an_operator() {
    let mut cluster = TestCluster::new();
    let made = xtask::certificates::make(&cluster.path("pki")).unwrap();
    cluster.use_tls(&made);
    cluster.start_aggregator();
    let by_certificate = |cluster: &TestCluster| as_operator(cluster, &cluster.path("none.json"), &["whoami"]);
    assert!(
        text(&by_certificate(&cluster).stderr).contains("who are you?"),
        "{}",
        text(&by_certificate(&cluster).stderr)
    );
    let added = cluster.seatmeter(&["operators", "add", "robot", "--role", "viewer", "--certificate-name", "Client"]);
    assert!(added.status.success(), "{}", text(&added.stderr));
    assert!(text(&by_certificate(&cluster).stdout).starts_with("robot, viewer, by certificate"));
    let taken = cluster.seatmeter(&["operators", "add", "other", "--role", "admin", "--certificate-name", "client"]);
    assert!(text(&taken.stderr).contains("operator \"robot\""), "{}", text(&taken.stderr));
    // The backup's operators come with it where there are none.
    let backup = cluster.path("backup.db");
    assert!(cluster.aggregator_command_with(&["backup", backup.to_str().unwrap()]).status.success());
    cluster.stop_aggregator();
    fs::remove_dir_all(cluster.path("aggregator")).unwrap();
    fs::create_dir(cluster.path("aggregator")).unwrap();
    let restored = cluster.aggregator_command_with(&["restore", backup.to_str().unwrap()]);
    assert!(restored.status.success(), "{}", text(&restored.stderr));
    cluster.start_aggregator();
    assert!(text(&by_certificate(&cluster).stdout).starts_with("robot, viewer"));
    assert!(cluster.seatmeter(&["operators", "disable", "robot"]).status.success());
    assert!(!by_certificate(&cluster).status.success());
}

/// What a client asks is what is written down: one message, whole, and what came of it even if the client goes away.
#[test]
fn fault_54_a_client_cannot_hide_what_it_asked() {
    let (cluster, _agent) = one_user();
    let token = format!("Bearer {}", cluster.token());
    let expect = ExpectLicenseServerRequest { license_server: "LIC09".into(), date: "2026-01-01".into() };
    wait_for(async {
        let channel = channel(&cluster).await;
        let path = "/seatmeter.v1.FleetService/ExpectLicenseServer";
        // A second, empty message after the first one.
        let mut client = tonic::client::Grpc::new(channel.clone());
        client.ready().await.unwrap();
        let mut twice = Request::new(tokio_stream::iter([expect.clone(), ExpectLicenseServerRequest::default()]));
        twice.metadata_mut().insert("authorization", token.parse().unwrap());
        let codec = ProstCodec::<ExpectLicenseServerRequest, ()>::default();
        let refused = client.client_streaming(twice, PathAndQuery::from_static(path), codec).await.map(drop);
        assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
        // The client goes away at once.
        let mut client = FleetServiceClient::new(channel);
        let mut request = Request::new(expect);
        request.metadata_mut().insert("authorization", token.parse().unwrap());
        request.set_timeout(std::time::Duration::from_micros(1));
        let _ = client.expect_license_server(request).await;
    });
    let told = || {
        let told = cluster.ask(&["audit", "list", "--action", "expectlicenseserver"]);
        told["rows"].as_array().unwrap().clone()
    };
    // Whether it was asked before the client was gone or not: what was asked has a result.
    assert!(told().len() <= 1, "{:?}", told());
    wait_until("what was asked has a result", || told().iter().all(|row| row["result"] == "ok"));
}
