//! Clients that are not ours, over TLS and through reflection, get the answers that `seatmeter` gives.

use std::fs;
use std::path::Path;
use std::process::Command;

use seatmeter_tests::TestCluster;
use seatmeter_tests::process::text;
use seatmeter_tests::skip::tools;
use xtask::certificates;
use xtask::sim::{Plan, Server, truth};

const PYTHON: &str = r#"
import sys
import grpc
from grpc_tools import protoc
protos, out, target, authority, certificate, key, token = sys.argv[1:8]
files = [f"{protos}/seatmeter/v1/{name}.proto" for name in ("errors", "usage", "fleet", "ingest", "operators", "audit")]
who = [("authorization", f"Bearer {token}")]
include = __import__("grpc_tools").__path__[0] + "/_proto"
assert protoc.main(["", f"-I{protos}", f"-I{include}", f"--python_out={out}", f"--grpc_python_out={out}", *files]) == 0
sys.path.insert(0, out)
from seatmeter.v1 import audit_pb2, audit_pb2_grpc, fleet_pb2, fleet_pb2_grpc, operators_pb2, operators_pb2_grpc
from seatmeter.v1 import usage_pb2, usage_pb2_grpc
read = lambda path: open(path, "rb").read()
credentials = grpc.ssl_channel_credentials(read(authority), read(key), read(certificate))
with grpc.secure_channel(target, credentials) as channel:
    usage = usage_pb2_grpc.UsageServiceStub(channel)
    for row in usage.GetMonthlyUsage(usage_pb2.GetMonthlyUsageRequest(month="2026-01"), metadata=who).rows:
        print(row.sku, row.unique_users, row.checkouts, row.denials)
    try:
        usage.GetMonthlyUsage(usage_pb2.GetMonthlyUsageRequest(month="soon"), metadata=who)
    except grpc.RpcError as error:
        print(error.code().name)
    # An operator's day: who reports, who used what, who may ask; a change, and what the trail says of all that.
    fleet = fleet_pb2_grpc.FleetServiceStub(channel)
    operators = operators_pb2_grpc.OperatorServiceStub(channel)
    trail = audit_pb2_grpc.AuditServiceStub(channel)
    print([server.name for server in fleet.ListLicenseServers(fleet_pb2.ListLicenseServersRequest(), metadata=who).license_servers])
    print(usage.ListUsers(usage_pb2.ListUsersRequest(month="2026-01"), metadata=who).total_size)
    parts = usage.ExportUsers(usage_pb2.ExportUsersRequest(month="2026-01"), metadata=who)
    print(sum(len(part.users) for part in parts))
    added = operators.AddOperator(operators_pb2.AddOperatorRequest(name="ben", role="ROLE_VIEWER"), metadata=who)
    print(added.operator.name, added.invitation.startswith("seatmeter1."))
    fleet.ExpectLicenseServer(fleet_pb2.ExpectLicenseServerRequest(license_server="LIC07", date="2026-01-01"), metadata=who)
    alerts = fleet.WatchFleet(fleet_pb2.WatchFleetRequest(), metadata=who)
    print(next(alerts).raised_count >= 0)
    alerts.cancel()
    told = {(record.action, record.result) for record in trail.ListAudit(audit_pb2.ListAuditRequest(), metadata=who).records}
    print({("ListUsers", "asked"), ("ExportUsers", "asked"), ("AddOperator", "ok"), ("ExpectLicenseServer", "ok")} <= told)
    for metadata in ([], [("authorization", "Bearer smt1_guessed")]):
        try:
            usage.ListUsers(usage_pb2.ListUsersRequest(), metadata=metadata)
        except grpc.RpcError as error:
            print(error.code().name)
"#;

#[test]
fn buf_curl_and_python_get_the_same_answers() {
    let Some(tools) = tools() else { return };
    let mut cluster = TestCluster::new();
    let made = certificates::make(&cluster.path("pki")).unwrap();
    cluster.use_tls(&made);
    cluster.start_aggregator();
    let mut server = Server::new(Plan { users: 50, features: 3, seconds_a_line: 60.0, ..Plan::default() });
    let mut log = Vec::new();
    server.start(&mut log);
    while server.lines() < 2_000 {
        server.step(&mut log);
    }
    let path = cluster.path("debug.log");
    fs::write(&path, log).unwrap();
    let mut agent = cluster.agent("LIC01", &[&path]);
    agent.start();
    cluster.wait_for_activity("LIC01", &truth::as_csv(&server.figures()));

    let ours = cluster.ask(&["usage", "2026-01"]);
    let ours = ours["rows"].as_array().unwrap();
    assert_eq!(ours.len(), 3);

    let buf = Command::new(tools.join("node_modules/.bin/buf"))
        .args(["curl", "--protocol", "grpc", "--http2-prior-knowledge", "--data", r#"{"month":"2026-01"}"#])
        .args(["--cacert".as_ref(), made.authority.as_os_str(), "--cert".as_ref(), made.client.certificate.as_os_str()])
        .args(["--key".as_ref(), made.client.key.as_os_str()])
        .args(["--header", &format!("authorization: Bearer {}", cluster.token())])
        .arg(format!("{}/seatmeter.v1.UsageService/GetMonthlyUsage", cluster.operators_url()))
        .output()
        .unwrap();
    assert!(buf.status.success(), "{}", text(&buf.stderr));
    let theirs: serde_json::Value = serde_json::from_slice(&buf.stdout).unwrap();
    let theirs = theirs["rows"].as_array().unwrap();
    let mut expected = String::new();
    for (our, their) in ours.iter().zip(theirs) {
        assert_eq!(our["sku"], their["sku"]);
        assert_eq!(our["unique_users"].to_string(), their["uniqueUsers"].as_str().unwrap());
        assert_eq!(our["checkouts"].to_string(), their["checkouts"].as_str().unwrap());
        let denials = &our["denials"];
        expected +=
            &format!("{} {} {} {denials}\n", our["sku"].as_str().unwrap(), our["unique_users"], our["checkouts"]);
    }
    let people = cluster.ask(&["users", "2026-01", "--limit", "1"])["total"].clone();
    expected += "INVALID_ARGUMENT\n['LIC01']\n";
    expected += &format!("{people}\n{people}\nben True\nTrue\nTrue\nUNAUTHENTICATED\nUNAUTHENTICATED\n");

    let script = cluster.path("client.py");
    fs::write(&script, PYTHON).unwrap();
    let generated = cluster.path("generated");
    fs::create_dir(&generated).unwrap();
    let target = cluster.operators_url().replace("https://", "");
    let python = Command::new(tools.join("python/bin/python3"))
        .arg(&script)
        .args([xtask::root().join("proto").as_path(), generated.as_path(), Path::new(&target)])
        .args([&made.authority, &made.client.certificate, &made.client.key])
        .arg(cluster.token())
        .output()
        .unwrap();
    assert!(python.status.success(), "{}", text(&python.stderr));
    assert_eq!(text(&python.stdout), expected);

    // Without a certificate of its own, nobody is let in.
    let stranger = cluster.seatmeter_without_certificate(&["usage", "2026-01"]);
    assert!(!stranger.status.success());
}
