//! Fault 49: sites of Citrix that keep their sessions, asked over HTTP. Pages, throttling, tokens that expire and connections that are
//! torn; kills, a state that is lost and an aggregator begun anew between. License managers that answer at an address.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use seatmeter_tests::process::text;
use seatmeter_tests::site::{SECRET, Site, now};
use seatmeter_tests::{Agent, TestCluster, wait_until};
use xtask::certificates;

const SERVER: &str = "site";
const FEATURE: &str = "XDT_PLT_UD";
const SKU: &str = "ROYSPLACXDPREM";

/// A site, an agent that asks it every second, and an aggregator.
struct Asked {
    // Dropped before the cluster's folder, in which its health log is.
    agent: Agent,
    cluster: TestCluster,
    site: Site,
}

impl Asked {
    /// `access` is how the site knows the agent.
    fn new(access: &str) -> Self {
        let cluster = TestCluster::running();
        let site = Site::default();
        let agent = cluster.agent_in("asking", SERVER, &[], "");
        fs::write(agent.folder.join("secret"), format!("{SECRET}\n")).unwrap();
        close(&agent.folder.join("secret"));
        let source = format!(
            "\n[[source]]\nkind = \"citrix-monitor\"\nurl = \"http://{}/Citrix/Monitor/OData/v4/Data\"\nevery_seconds = 1\n\
             secret_file = \"secret\"\nfeature = \"{FEATURE}\"\n{}\n[source.features]\n\"Tests\" = \"\"\n\"Small\" = \"XDT_STD_UD\"\n",
            site.address,
            access.replace("SITE", &site.address)
        );
        let config = fs::read_to_string(&agent.config).unwrap();
        fs::write(&agent.config, config + &source).unwrap();
        Self { agent, cluster, site }
    }

    fn on_premises() -> Self {
        Self::new("user = \"monitor\"")
    }

    fn usage(&self) -> serde_json::Value {
        let rows = self.cluster.ask(&["usage"])["rows"].clone();
        rows.as_array().unwrap().iter().find(|row| row["sku"] == SKU).cloned().unwrap_or_default()
    }

    fn row(&self) -> serde_json::Value {
        self.cluster.ask(&["servers", SERVER])["rows"][0].clone()
    }

    /// Waits until so many people have used the feature, and so many sessions are open.
    fn wait_for(&self, people: u32, open: u32) {
        wait_until("the people are counted", || self.usage()["unique_users"] == people);
        wait_until("the open sessions are the site's", || self.row()["open_sessions"] == open);
    }

    /// Compares the seconds that sessions lasted with the site's. No session may be open.
    fn assert_seconds(&self) {
        assert_eq!(self.cluster.seat_seconds(SKU), self.site.seconds("Office", now()) as u64, "{}", self.usage());
    }
}

fn close(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Whether minutes ago was still this month: the tests' sessions must not reach into the one before.
fn wait_for_the_month_to_settle() {
    let month = |at: i64| seatmeter_count::calendar::date_of((at / 86_400) as i32).to_string()[..7].to_owned();
    wait_until("the month is an hour old", || month(now() - 3_700) == month(now()));
}

#[test]
fn fault_49_sessions_of_a_site_count_once_through_kills_and_restores() {
    wait_for_the_month_to_settle();
    let mut asked = Asked::on_premises();
    let site = &asked.site;
    site.page_size(3);
    // A history, of which one person is known by two sessions; and a group that does not count.
    for (user, began, ended) in
        [("ada@acme.example", 3_000, 2_400), ("bob@acme.example", 2_900, 2_000), ("ada@acme.example", 1_800, 900)]
    {
        site.had(user, "Office", began, ended);
    }
    site.had("eve@acme.example", "Tests", 3_000, 100);
    let cid = site.begin("cid@acme.example", "Office", 600);
    let dan = site.begin("dan@acme.example", "Office", 500);
    (0..8).for_each(|number| _ = site.begin(&format!("small{number}@acme.example"), "Small", 100));
    asked.agent.start();
    asked.wait_for(4, 10);
    let held = asked.cluster.ask(&["sessions", "--sku", SKU])["rows"].clone();
    let users: Vec<&str> = held.as_array().unwrap().iter().map(|row| row["user"].as_str().unwrap()).collect();
    assert_eq!(users, ["cid@acme.example", "dan@acme.example"]);
    // One ends, and one comes and goes between two questions.
    asked.site.end(cid, 0);
    asked.site.had("fay@acme.example", "Office", 20, 5);
    asked.wait_for(5, 9);
    // While nobody asks, one ends, one comes and goes, and one comes.
    asked.agent.kill();
    asked.site.end(dan, 1);
    let (gus, began) = (asked.site.begin("gus@acme.example", "Office", 0), now());
    wait_until("a second has passed", || now() > began + 1);
    asked.site.end(gus, 0);
    let hal = asked.site.begin("hal@acme.example", "Office", 0);
    asked.agent.start();
    asked.wait_for(7, 9);
    // The aggregator loses all that it knows, and gets it from what the agent keeps.
    asked.cluster.kill_aggregator();
    fs::remove_dir_all(asked.cluster.path("aggregator")).unwrap();
    asked.cluster.start_aggregator();
    asked.wait_for(7, 9);
    // The agent loses all that it knows, and asks for the history again, which is known already.
    asked.agent.kill();
    asked.agent.forget();
    asked.site.end(hal, 0);
    asked.agent.start();
    asked.wait_for(7, 8);
    asked.assert_seconds();
    assert_eq!((asked.row()["gaps"].clone(), asked.row()["state"].clone()), (0.into(), "ok".into()), "{}", asked.row());
    let small = asked.cluster.ask(&["usage"])["rows"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["sku"] == "000000000004013543")
        .cloned();
    assert_eq!(small.unwrap()["peak_concurrent"], 8);
    asked.cluster.assert_verified();
}

/// Both lose all: the site tells its history again.
#[test]
fn fault_49_a_site_tells_again_what_nobody_has_any_more() {
    wait_for_the_month_to_settle();
    let mut asked = Asked::on_premises();
    asked.site.had("ada@acme.example", "Office", 3_000, 2_400);
    asked.agent.start();
    asked.wait_for(1, 0);
    asked.cluster.kill_aggregator();
    fs::remove_dir_all(asked.cluster.path("aggregator")).unwrap();
    asked.agent.kill();
    asked.agent.forget();
    asked.site.had("bob@acme.example", "Office", 2_000, 1_000);
    asked.cluster.start_aggregator();
    asked.agent.start();
    asked.wait_for(2, 0);
    asked.assert_seconds();
    asked.cluster.assert_verified();
}

#[test]
fn fault_49_a_busy_site_torn_connections_and_expired_tokens_lose_nothing() {
    wait_for_the_month_to_settle();
    let mut asked =
        Asked::new("customer = \"acme\"\nclient_id = \"agent\"\ntokens_url = \"http://SITE/acme/tokens/clients\"");
    asked.site.page_size(7);
    let sessions: Vec<usize> =
        (0..100).map(|number| asked.site.begin(&format!("user{number}@acme.example"), "Office", 1_000)).collect();
    asked.site.misbehave(2, 2, 2);
    asked.agent.start();
    asked.wait_for(100, 100);
    assert!(asked.site.has_misbehaved());
    asked.site.misbehave(1, 1, 1);
    sessions.iter().for_each(|session| asked.site.end(*session, 3));
    asked.wait_for(100, 0);
    wait_until("all misbehaviour is met", || asked.site.has_misbehaved());
    asked.assert_seconds();
    assert!(asked.site.pages() >= 30);
    asked.cluster.assert_verified();
}

/// A change that is dated ahead of time hides no later one; pages that go round in a circle, and a clock that is wrong, are told.
#[test]
fn fault_49_wrong_dates_pages_and_clocks_of_a_site_hide_nobody() {
    wait_for_the_month_to_settle();
    let mut asked = Asked::on_premises();
    let odd = asked.site.begin("odd@acme.example", "Office", 100);
    let open = asked.site.begin("ada@acme.example", "Office", 100);
    asked.site.end(odd, 50);
    asked.site.change_ahead(odd, 5 * 86_400);
    asked.agent.start();
    asked.wait_for(2, 1);
    asked.site.end(open, 0);
    asked.site.had("bob@acme.example", "Office", 10, 5);
    asked.wait_for(3, 0);
    asked.assert_seconds();
    let said = |asked: &Asked, words: &str| {
        wait_until("it is told", || asked.row()["status"].as_str().unwrap_or_default().contains(words));
    };
    asked.site.go_round(true);
    said(&asked, "none that tells another session");
    asked.site.go_round(false);
    asked.site.set_clock(3 * 3600);
    said(&asked, "the site's clock is 3 h ahead");
    asked.site.set_clock(-3 * 3600);
    said(&asked, "behind this machine's");
    asked.site.set_clock(0);
    wait_until("all is well again", || asked.row()["state"] == "ok");
    asked.cluster.assert_verified();
}

/// What is wrong is told with what to do, and never with the secret.
#[test]
fn fault_49_a_site_that_refuses_is_told_without_the_secret() {
    let mut asked = Asked::on_premises();
    let secret = asked.agent.folder.join("secret");
    asked.site.begin("ada@acme.example", "Office", 10);
    asked.agent.start();
    asked.wait_for(1, 1);
    fs::write(&secret, "wrong-and-secret").unwrap();
    let said = |asked: &Asked, words: &str| {
        wait_until("the reason is told", || asked.row()["status"].as_str().unwrap_or_default().contains(words));
    };
    said(&asked, "does not accept the login");
    fs::write(&secret, "  \n").unwrap();
    said(&asked, "it is empty");
    fs::remove_file(&secret).unwrap();
    said(&asked, "cannot read the secret");
    fs::write(&secret, SECRET).unwrap();
    said(&asked, "every account of this machine");
    close(&secret);
    wait_until("all is well again", || asked.row()["state"] == "ok");
    let health = asked.cluster.read("asking/state/health.log") + &asked.agent.errors();
    assert!(!health.contains("wrong-and-secret") && !health.contains(SECRET));
}

/// A license manager that answers at an address, over TLS with an authority of its own; what is wrong with it.
#[test]
fn fault_49_a_license_manager_that_answers_at_an_address() {
    let answer = r#"{"held":[{"who":"ada","what":"f"},{"who":"bob","what":"f"}]}"#;
    let address = serve(answer, None);
    let cluster = TestCluster::running();
    let agent = cluster.agent_in("asking", SERVER, &[], "");
    let config = fs::read_to_string(&agent.config).unwrap();
    let mapping = "format = \"json\"\n[source.read]\nrows = \"/held\"\nuser = \"who\"\nfeature = \"what\"\n";
    let check = |url: &str, more: &str| {
        let source = format!("\n[[source]]\nkind = \"http\"\nurl = \"{url}\"\nname = \"asked\"\n{more}{mapping}");
        fs::write(&agent.config, format!("{config}{source}")).unwrap();
        let output = agent.command(&["check-config"]);
        text(&output.stdout) + &text(&output.stderr)
    };
    for path in ["status?token=hidden", "moved"] {
        let shown = check(&format!("http://{address}/{path}"), "");
        assert!(shown.contains("answers: 2 sessions") && !shown.contains("hidden"), "{shown}");
    }
    for (url, more, said) in [
        (format!("http://{address}/none"), "", "404"),
        (format!("http://{address}/round"), "", "redirects too often"),
        ("http://127.0.0.1:9/".into(), "", "cannot be asked"),
        (format!("https://{address}/status"), "", "cannot be asked"),
        (format!("http://user:pass@{address}/"), "", "holds a login"),
        ("ftp://127.0.0.1/".into(), "", "must begin with https://"),
        ("http://license.example/".into(), "secret_env = \"TOKEN\"\n", "in plain text: use https"),
        (format!("http://{address}/"), "secret_env = \"SEATMETER_UNSET\"\n", "SEATMETER_UNSET"),
        (format!("http://{address}/"), "command = [\"x\"]\n", "`command` is for `kind = \"command\"`"),
        (format!("http://{address}/"), "history_days = 3\n", "`kind = \"citrix-monitor\"`"),
        (format!("http://{address}/away"), "", "redirects to another server, localhost"),
        (
            format!("http://{address}/"),
            "secret_env = \"PATH\"\nproxy = \"http://192.0.2.1:1\"\n",
            "would read the secret",
        ),
    ] {
        let shown = check(&url, more);
        assert!(shown.contains(said), "{url} {more}: {shown}");
    }
    // Over TLS 1.2, and with an authority that nobody but the configuration trusts.
    let made = certificates::make(&cluster.path("tls")).unwrap();
    let chain = CertificateDer::pem_file_iter(&made.server.certificate).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(&made.server.key).unwrap();
    let tls = ServerConfig::builder_with_provider(seatmeter_proto::tls::provider());
    let tls = tls.with_protocol_versions(&[&rustls::version::TLS12]).unwrap().with_no_client_auth();
    let address = serve(answer, Some(Arc::new(tls.with_single_cert(chain, key).unwrap())));
    let url = format!("https://{address}/status");
    let trusted = check(&url, &format!("authority = {:?}\n", made.authority));
    assert!(trusted.contains("answers: 2 sessions"), "{trusted}");
    let refused = check(&url, "");
    assert!(refused.contains("certificate"), "{refused}");
}

/// Serves an answer at `/status`, and redirects to it, and in a circle, at other paths.
fn serve(answer: &'static str, tls: Option<Arc<ServerConfig>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // A client that goes away is none of its business.
            let _ = match &tls {
                None => reply(stream, answer),
                Some(tls) => reply(StreamOwned::new(ServerConnection::new(tls.clone()).unwrap(), stream), answer),
            };
        }
    });
    address
}

fn reply(mut stream: impl Read + Write, answer: &str) -> std::io::Result<()> {
    let mut head = [0; 4096];
    let read = stream.read(&mut head)?;
    let path = text(&head[..read]).split(' ').nth(1).unwrap_or_default().to_owned();
    let (status, more) = match path.split('?').next().unwrap_or_default() {
        "/status" => ("200 OK", ""),
        "/moved" => ("302 Found", "Location: /status\r\n"),
        "/round" => ("302 Found", "Location: /round\r\n"),
        "/away" => ("302 Found", "Location: http://localhost:9/\r\n"),
        _ => ("404 Not Found", ""),
    };
    let length = answer.len();
    write!(stream, "HTTP/1.1 {status}\r\n{more}Content-Length: {length}\r\nConnection: close\r\n\r\n{answer}")?;
    stream.flush()
}
