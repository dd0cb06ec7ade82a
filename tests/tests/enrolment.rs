//! Fault 53: agents that are enrolled: with invitations that are lost, used twice or meant for another aggregator; with certificates
//! that are renewed, expire, are revoked or copied; and for no other license server than their own.

use std::fs;

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use seatmeter_proto::invitation::Invitation;
use seatmeter_proto::tls::PinnedAuthority;
use seatmeter_proto::transport::{Credentials, Dialer};
use seatmeter_proto::v1::EnrolRequest;
use seatmeter_proto::v1::enrolment_service_client::EnrolmentServiceClient;
use seatmeter_tests::enrolled::{SERVER, append, enrol, enrolled, enrolling, enrolments, invite, is_connected, log};
use seatmeter_tests::process::text;
use seatmeter_tests::{Agent, TestCluster, wait_until};
use tonic::Code;

#[test]
fn fault_53_an_enrolled_agent_delivers_and_renews_its_certificate_by_itself() {
    let mut cluster = enrolling("10s");
    let (log, truth) = log(&cluster);
    let mut agent = enrolled(&cluster, "agent", &log);
    agent.start();
    cluster.wait_for_activity(SERVER, &truth);
    let ends = || enrolments(&cluster)[0]["certificate_ends"].clone();
    let first = ends();
    wait_until("the certificate is renewed", || ends() != first && agent.has_said("certificate_renewed"));
    let second = ends();
    wait_until("and again, over a stream that goes on", || ends() != second);
    wait_until("it is connected", || is_connected(&agent));
    // Killed at any moment, and an aggregator that begins anew: the identity stays.
    agent.kill();
    cluster.kill_aggregator();
    cluster.start_aggregator();
    agent.start();
    wait_until("it is connected again", || is_connected(&agent));
    let rows = enrolments(&cluster);
    assert_eq!(rows.len(), 1);
    assert_eq!((&rows[0]["status"], &rows[0]["license_server"]), (&"ok".into(), &SERVER.into()));
    cluster.wait_for_activity(SERVER, &truth);
    assert!(!agent.errors().contains("PRIVATE KEY"));
}

/// An agent that was off until its certificate had ended recovers by itself, so often as it may; then an operator accepts it.
#[test]
fn fault_53_an_agent_that_was_off_too_long_recovers_a_limited_number_of_times() {
    let cluster = enrolling("10s");
    let (log, truth) = log(&cluster);
    let mut agent = enrolled(&cluster, "agent", &log);
    let status = || enrolments(&cluster)[0]["status"].clone();
    wait_until("the certificate has ended", || status() == "expired");
    agent.start();
    cluster.wait_for_activity(SERVER, &truth);
    let row = enrolments(&cluster).remove(0);
    assert_eq!((&row["status"], &row["recoveries_left"]), (&"ok".into(), &9.into()));
    let accepted = cluster.seatmeter(&["agents", "accept", &row["enrolment"].as_str().unwrap()[..8]]);
    assert!(text(&accepted.stdout).contains("10 times"), "{}", text(&accepted.stdout));
}

/// What is revoked is refused on the stream that is open, and after it.
#[test]
fn fault_53_a_revoked_agent_is_cut_off_at_once() {
    let cluster = enrolling("7d");
    let (log, truth) = log(&cluster);
    let mut agent = enrolled(&cluster, "agent", &log);
    agent.start();
    cluster.wait_for_activity(SERVER, &truth);
    let id = enrolments(&cluster)[0]["enrolment"].as_str().unwrap().to_owned();
    let revoked = cluster.seatmeter(&["agents", "revoke", &id]);
    assert!(revoked.status.success());
    wait_until("it is told why", || text(&agent.command(&["status"]).stdout).contains("was revoked"));
    append(&log, "23:59:59 (vend) OUT: \"feature0\" late@pc\n");
    wait_until("the line waits", || agent.inspect()["batches"].as_array().is_some_and(|waiting| !waiting.is_empty()));
    assert_eq!(cluster.activity(SERVER), truth);
    assert_eq!(enrolments(&cluster)[0]["status"], "revoked");
    let accepted = cluster.seatmeter(&["agents", "accept", &id]);
    assert!(!accepted.status.success() && text(&accepted.stderr).contains("was revoked"));
    // Enrolled again, it goes on where it was, and nothing is lost.
    let token = invite(&cluster, &["--server", SERVER]);
    let again = agent.command(&["enroll", &token]);
    assert!(again.status.success(), "{}", text(&again.stderr));
    agent.kill();
    agent.start();
    wait_until("the line is counted", || cluster.activity(SERVER) != truth);
}

/// An agent speaks for its own license server, whatever its configuration says.
#[test]
fn fault_53_an_agent_speaks_for_no_other_license_server() {
    let cluster = enrolling("7d");
    let (log, _) = log(&cluster);
    let mut agent = enrolled(&cluster, "agent", &log);
    agent.configure(&format!("name = \"{SERVER}\""), "name = \"LIC02\"");
    agent.start();
    let status = |agent: &Agent| text(&agent.command(&["status"]).stdout);
    wait_until("it is told why", || {
        status(&agent).contains("enrolled for license server") && status(&agent).contains("LIC02")
    });
    assert_eq!(cluster.ask(&["servers"])["rows"].as_array().unwrap().len(), 0);
    assert!(cluster.read("aggregator.err").contains("\"code\":\"agent_refused\""));
    agent.stop();
    agent.configure("name = \"LIC02\"", "name = \"LIC01\"\nrealm = \"elsewhere\"");
    agent.start();
    wait_until("nor in another realm", || status(&agent).contains("enrolled for realm"));
    // Somebody without a certificate is let in nowhere.
    agent.stop();
    agent.configure("realm = \"elsewhere\"", "");
    let authority = agent.state().join("identity/authority.pem");
    let url = cluster.agents_url();
    agent.configure(&format!("url = \"{url}\""), &format!("url = \"{url}\"\nauthority = {authority:?}"));
    agent.start();
    wait_until("it is told to enrol", || status(&agent).contains("an agent needs a certificate"));
    assert_eq!(cluster.ask(&["servers"])["rows"].as_array().unwrap().len(), 0);
}

/// An invitation is used once, whatever is lost; and for the aggregator that has made it.
#[test]
fn fault_53_an_invitation_is_used_once_and_for_one_aggregator() {
    let cluster = enrolling("7d");
    let token = invite(&cluster, &["--server", SERVER]);
    let invitation: Invitation = token.parse().unwrap();
    let request = |key: &KeyPair| EnrolRequest {
        secret: invitation.secret.to_vec(),
        signing_request: CertificateParams::default().serialize_request(key).unwrap().der().to_vec(),
        ..EnrolRequest::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let call = |request: EnrolRequest| {
        runtime.block_on(async {
            let tls = PinnedAuthority::new(invitation.authority.unwrap()).tls().unwrap();
            let channel = Dialer::new(&invitation.url, Some(Credentials::Fixed(tls))).unwrap().connect().await.unwrap();
            EnrolmentServiceClient::new(channel).enrol(request).await
        })
    };
    let keys = [(); 2].map(|()| KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap());
    let first = call(request(&keys[0])).unwrap().into_inner();
    // The answer was lost: it is asked again, and gets the same.
    assert_eq!(call(request(&keys[0])).unwrap().into_inner(), first);
    let second = call(request(&keys[1])).unwrap_err();
    assert_eq!(second.code(), Code::PermissionDenied, "{second:?}");
    let garbage = EnrolRequest { signing_request: vec![48; 99], ..request(&keys[1]) };
    assert_eq!(call(garbage).unwrap_err().code(), Code::InvalidArgument);
    let other_secret = EnrolRequest { secret: vec![7; 32], ..request(&keys[1]) };
    assert_eq!(call(other_secret).unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(enrolments(&cluster).len(), 1);

    // Another aggregator at the address has another authority: it is told nothing.
    let impostor = enrolling("7d");
    let meant = Invitation { url: impostor.agents_url(), ..invitation };
    let (log, _) = log(&cluster);
    let (_, refused) = enrol(&cluster, "agent", &meant.to_string(), &log, &[]);
    assert!(!refused.status.success());
    assert!(text(&refused.stderr).contains("UnknownIssuer"), "{}", text(&refused.stderr));
    assert_eq!(enrolments(&impostor).len(), 0);
    let (_, refused) = enrol(&cluster, "agent", &token[..token.len() - 3], &log, &[]);
    assert!(text(&refused.stderr).contains("copy the whole line"), "{}", text(&refused.stderr));
    assert!(!text(&refused.stderr).contains(&token[20..40]));
}

/// What stops an enrolment costs no invitation; an authority that is lost, or another one's, is not replaced in silence; a backup has
/// the agents.
#[test]
fn fault_53_what_is_missing_is_told_and_costs_nothing() {
    let mut cluster = enrolling("7d");
    let (log, truth) = log(&cluster);
    let token = invite(&cluster, &["--server", SERVER]);
    fs::write(cluster.path("file"), "").unwrap();
    let agent = cluster.agent_in("agent", SERVER, &[], "");
    let config = cluster.path("file/agent.toml");
    let arguments = ["enroll", &token, "--log", log.to_str().unwrap(), "--config", config.to_str().unwrap()];
    let state = agent.state();
    let refused = agent.program(&[&arguments[..], &["--state", state.to_str().unwrap()]].concat());
    assert!(text(&refused.stderr).contains("cannot be written"), "{}", text(&refused.stderr));
    let (mut agent, enrolled) = enrol(&cluster, "agent", &token, &log, &[]);
    assert!(enrolled.status.success(), "{}", text(&enrolled.stderr));
    agent.start();
    cluster.wait_for_activity(SERVER, &truth);

    let backup = cluster.path("backup");
    let taken = cluster.aggregator_command_with(&["backup", backup.to_str().unwrap()]);
    assert!(taken.status.success(), "{}", text(&taken.stderr));
    cluster.stop_aggregator();
    let (authority, away) = (cluster.path("aggregator/authority"), cluster.path("away"));
    fs::rename(&authority, &away).unwrap();
    let config = cluster.aggregator_config();
    let refused = cluster.aggregator_with(&config);
    assert!(text(&refused.stderr).contains("(1) trust it"), "{}", text(&refused.stderr));
    fs::rename(&away, &authority).unwrap();
    // Another machine's, or a disk that was lost: all comes back from the backup, and from the copy of the authority.
    for file in fs::read_dir(cluster.path("aggregator")).unwrap().map(|file| file.unwrap().path()) {
        if file.is_file() {
            fs::remove_file(file).unwrap();
        }
    }
    let restored = cluster.aggregator_command_with(&["restore", backup.to_str().unwrap()]);
    assert!(restored.status.success(), "{}", text(&restored.stderr));
    cluster.start_aggregator();
    wait_until("the agent goes on", || enrolments(&cluster).len() == 1 && is_connected(&agent));
    cluster.wait_for_activity(SERVER, &truth);
}

/// An agent's certificate opens no door of the operators, and theirs none of the agents.
#[test]
fn fault_53_certificates_of_one_port_open_no_other() {
    let mut cluster = TestCluster::new();
    let made = xtask::certificates::make(&cluster.path("pki")).unwrap();
    cluster.use_tls(&made);
    cluster.enrols = true;
    cluster.start_aggregator();
    let (log, _) = log(&cluster);
    let mut agent = enrolled(&cluster, "agent", &log);
    let own = agent.state().join("identity/agent.pem");
    let asked = seatmeter_tests::process::command("seatmeter")
        .args(["servers", "--aggregator", &cluster.operators_url(), "--authority"])
        .arg(&made.authority)
        .arg("--certificate")
        .arg(&own)
        .arg("--key")
        .arg(&own)
        .output()
        .unwrap();
    assert!(!matches!(asked.status.code(), Some(0 | 3)), "{}", text(&asked.stdout));
    let url = cluster.agents_url();
    let authority = agent.state().join("identity/authority.pem");
    let (certificate, key) = (&made.client.certificate, &made.client.key);
    agent.configure(
        &format!("url = \"{url}\""),
        &format!("url = \"{url}\"\nauthority = {authority:?}\ncertificate = {certificate:?}\nkey = {key:?}"),
    );
    agent.start();
    wait_until("it is refused", || agent.has_said("uplink_down"));
    assert_eq!(cluster.ask(&["servers"])["rows"].as_array().unwrap().len(), 0);
}

/// An agent that must be accepted reads, and waits; once it is accepted, nothing is missing.
#[test]
fn fault_53_an_agent_that_waits_for_an_operator_loses_nothing() {
    let mut cluster = enrolling("7d");
    let (log, truth) = log(&cluster);
    let token = invite(&cluster, &["--server", SERVER, "--approve"]);
    let (mut agent, enrolled) = enrol(&cluster, "agent", &token, &log, &[]);
    assert!(enrolled.status.success(), "{}{}", text(&enrolled.stdout), text(&enrolled.stderr));
    agent.start();
    wait_until("it is told why", || text(&agent.command(&["status"]).stdout).contains("waits for an operator"));
    wait_until("what it has read waits", || {
        agent.inspect()["batches"].as_array().is_some_and(|waiting| !waiting.is_empty())
    });
    let row = enrolments(&cluster).remove(0);
    assert_eq!(row["status"], "waiting");
    assert_eq!(cluster.seatmeter(&["agents", "enrolled"]).status.code(), Some(3));
    assert_eq!(cluster.ask(&["servers"])["rows"].as_array().unwrap().len(), 0);
    // Neither is forgotten.
    cluster.kill_aggregator();
    agent.kill();
    cluster.start_aggregator();
    agent.start();
    wait_until("it is told again", || text(&agent.command(&["status"]).stdout).contains("waits for an operator"));
    let accepted = cluster.seatmeter(&["agents", "accept", &row["enrolment"].as_str().unwrap()[..8]]);
    assert!(text(&accepted.stdout).contains("is accepted"), "{}", text(&accepted.stderr));
    cluster.wait_for_activity(SERVER, &truth);
    assert_eq!(enrolments(&cluster)[0]["status"], "ok");
}

/// Another authority takes the place of the first one, with kills between: no agent and no operator is left behind.
#[test]
fn fault_53_the_authority_is_renewed_and_nobody_is_left_behind() {
    let mut cluster = enrolling("15s");
    let (log, truth) = log(&cluster);
    let mut agent = enrolled(&cluster, "agent", &log);
    agent.start();
    cluster.wait_for_activity(SERVER, &truth);
    let mut sleeper = enrolled(&cluster, "sleeper", &log);
    sleeper.start();
    wait_until("the other one is connected", || is_connected(&sleeper));
    sleeper.stop();
    let step = |cluster: &TestCluster, name: &str| cluster.seatmeter(&["authority", name]);
    let shown = |cluster: &TestCluster| cluster.ask(&["authority"]);
    let first = shown(&cluster)["authorities"][0]["sha256"].clone();
    for (early, reason) in [("activate", "no next authority"), ("complete", "comes first")] {
        let refused = step(&cluster, early);
        assert!(!refused.status.success() && text(&refused.stderr).contains(reason), "{}", text(&refused.stderr));
    }
    for name in ["prepare", "activate"] {
        let done = step(&cluster, name);
        assert!(done.status.success(), "{}", text(&done.stderr));
        assert!(!step(&cluster, name).status.success(), "each step is taken once");
        cluster.kill_aggregator();
        cluster.start_aggregator();
        assert_eq!(shown(&cluster)["authorities"].as_array().unwrap().len(), 2);
    }
    let left = || shown(&cluster)["not_ready"].as_u64().unwrap();
    wait_until("the agent has a certificate of the next one", || left() == 1);
    let refused = step(&cluster, "complete");
    assert!(text(&refused.stderr).contains("not ready"), "{}", text(&refused.stderr));
    let invitation = invite(&cluster, &["--server", "LIC02"]);
    sleeper.start();
    wait_until("who was off learns of it, too", || left() == 0);
    let done = step(&cluster, "complete");
    assert!(done.status.success(), "{}", text(&done.stderr));
    let now = shown(&cluster);
    assert_eq!((now["authorities"].as_array().unwrap().len(), &now["step"]), (1, &"none".into()));
    assert_ne!(now["authorities"][0]["sha256"], first);
    // Everybody knows it, and nothing but it.
    cluster.kill_aggregator();
    cluster.start_aggregator();
    for agent in [&agent, &sleeper] {
        wait_until("it is connected", || is_connected(agent));
        let held = || fs::read_to_string(agent.state().join("identity/authority.pem")).unwrap();
        wait_until("the first one is trusted no more", || held().matches("BEGIN CERTIFICATE").count() == 1);
    }
    append(&log, "23:59:59 (vend) OUT: \"late\" late@pc\n");
    wait_until("figures go on", || cluster.activity(SERVER).contains("late"));
    let (_, refused) = enrol(&cluster, "third", &invitation, &log, &[]);
    assert!(!refused.status.success(), "an invitation of before is void");
    let trail = cluster.ask(&["audit", "list", "--action", "RenewAuthority"])["rows"].clone();
    assert_eq!(trail.as_array().unwrap().iter().filter(|row| row["result"] == "ok").count(), 3, "{trail}");
}
