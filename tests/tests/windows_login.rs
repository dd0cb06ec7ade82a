//! Fault 52: web servers that want a Windows login, as IIS does for the Citrix Monitor service: NTLM, or Negotiate, on a connection
//! that then stays the user's, bound to the server's certificate. The server is not ours: Python's `spnego` judges the login.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384};
use seatmeter_tests::TestCluster;
use seatmeter_tests::process::text;
use seatmeter_tests::skip::tools;

const PASSWORD: &str = "pass;wörd+/=";

/// Answers with one session a page, two pages. Arguments: schemes to offer, whether errors have a body, and with TLS the function that
/// binds a login to the certificate `site.pem`.
const SERVER: &str = r#"
import base64, hashlib, http.server, json, os, ssl, sys
import spnego
from spnego.channel_bindings import GssChannelBindings
offered, has_body, function = sys.argv[1].split(","), sys.argv[2] == "body", "".join(sys.argv[3:])
binding = None
if function:
    der = ssl.PEM_cert_to_DER_cert(open("site.pem").read())
    hashed = hashlib.new(function, der).digest()
    binding = GssChannelBindings(application_data=b"tls-server-end-point:" + hashed)
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def setup(self):
        super().setup()
        self.user, self.context = None, None
    def say(self, status, body, *offers):
        self.send_response(status)
        for offer in offers:
            self.send_header("WWW-Authenticate", offer)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        text = b"<html>who are you?</html>" if has_body else b""
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        print(self.client_address[1], scheme or "nobody", flush=True)
        if sys.argv[2] == "never":
            return self.say(401, text, offered[0] + " TlRMTVNTUAAD" if scheme else offered[0])
        if self.user is None:
            if scheme not in ("NTLM", "Negotiate") or scheme not in offered:
                return self.say(401, text, *offered)
            if self.context is None:
                self.context = spnego.server(protocol="ntlm", channel_bindings=binding)
            try:
                out = self.context.step(base64.b64decode(token))
            except spnego.exceptions.SpnegoError as error:
                self.context = None
                print("refused", type(error).__name__, flush=True)
                return self.say(401, text, *offered)
            if not self.context.complete:
                return self.say(401, text, scheme + " " + base64.b64encode(out).decode())
            self.user = self.context.client_principal
            print("user", self.user, flush=True)
        path, _, query = self.path.partition("?")
        number = 2 if "page=2" in query else 1
        ended = "ne%20null" in query or "ne+null" in query
        session = {"SessionKey": f"00000000-0000-0000-0000-00000000000{number}", "StartDate": "2026-01-01T00:00:00Z",
            "EndDate": None, "CreatedDate": "2026-01-01T00:00:00Z", "ModifiedDate": "2026-01-01T00:00:00Z",
            "User": {"Upn": f"user{number}@acme.example", "UserName": f"user{number}", "Domain": "ACME"}}
        page = {"value": [] if ended else [session]}
        if number == 1 and not ended:
            page["@odata.nextLink"] = f"http://elsewhere{path}?page=2"
        self.say(200, json.dumps(page).encode())
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
if function:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("site.pem", "site.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
"#;

/// A web server. Ended when dropped.
struct Site {
    child: Child,
    port: u16,
    /// What it has seen: a line a question, and a line a login.
    seen: std::sync::mpsc::Receiver<String>,
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Site {
    fn new(tools: &Path, cluster: &TestCluster, offered: &str, body: &str, bound_by: Option<&str>) -> Self {
        let (script, users) = (cluster.path("site.py"), cluster.path("users"));
        fs::write(&script, SERVER).unwrap();
        // As spnego wants it: domain, user and password, divided by colons.
        fs::write(&users, format!("ACME:monitor:{PASSWORD}\n")).unwrap();
        let mut child = Command::new(tools.join("python/bin/python3"))
            .arg(&script)
            .args([offered, body])
            .args(bound_by)
            .current_dir(cluster.path(""))
            .env("NTLM_USER_FILE", &users)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let port = lines.next().expect("the server says its port").parse().unwrap();
        let (sender, seen) = std::sync::mpsc::channel();
        std::thread::spawn(move || lines.try_for_each(|line| sender.send(line)));
        Self { child, port, seen }
    }

    /// Returns what the server has seen so far.
    fn seen(&self) -> Vec<String> {
        self.seen.try_iter().collect()
    }
}

/// Asks once, as `user`; returns what `check-config` shows.
fn check(cluster: &TestCluster, url: &str, user: &str, password: &str, more: &str) -> String {
    let agent = cluster.agent_in("asking", "site", &[], "");
    let secret = agent.folder.join("secret");
    fs::write(&secret, password).unwrap();
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let source = format!(
        "\n[[source]]\nkind = \"citrix-monitor\"\nurl = \"{url}\"\nfeature = \"XDT_PLT_UD\"\nuser = '{user}'\n\
         secret_file = \"secret\"\n{more}"
    );
    let config = fs::read_to_string(&agent.config).unwrap();
    fs::write(&agent.config, config + &source).unwrap();
    let output = agent.command(&["check-config"]);
    text(&output.stdout) + &text(&output.stderr)
}

/// Two pages are read on one connection, which logs in once, and nobody is told the password.
fn assert_logged_in(site: &Site, shown: &str) {
    assert!(shown.contains("answers: 2 sessions"), "{shown}");
    let seen = site.seen();
    let (logins, questions): (Vec<&String>, Vec<&String>) = seen.iter().partition(|line| line.starts_with("user "));
    assert_eq!(logins, ["user ACME\\monitor"], "{seen:?}");
    let connections: HashSet<&str> = questions.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(connections.len(), 1, "{seen:?}");
}

#[test]
fn fault_52_a_windows_login_by_either_scheme_on_one_connection() {
    let Some(tools) = tools() else { return };
    for (offered, body) in [("NTLM", "body"), ("Negotiate", "empty"), ("Negotiate,NTLM", "empty")] {
        let cluster = TestCluster::new();
        let site = Site::new(&tools, &cluster, offered, body, None);
        let url = format!("http://127.0.0.1:{}/Data", site.port);
        assert_logged_in(&site, &check(&cluster, &url, r"ACME\monitor", PASSWORD, ""));
        for (user, password) in [(r"ACME\monitor", "wrong-and-secret"), (r"ACME\other", PASSWORD), ("", PASSWORD)] {
            let shown = check(&cluster, &url, user, password, "");
            assert!(
                shown.contains("does not accept the login (401") && shown.contains(r"DOMAIN\\user"),
                "{user}: {shown}"
            );
            assert!(!shown.contains(password), "{shown}");
        }
    }
}

/// A login is bound to the certificate of the server that asks for it, whatever function has signed that.
#[test]
fn fault_52_a_windows_login_is_bound_to_the_certificate() {
    let Some(tools) = tools() else { return };
    for (function, algorithm) in [("sha256", &PKCS_ECDSA_P256_SHA256), ("sha384", &PKCS_ECDSA_P384_SHA384)] {
        let cluster = TestCluster::new();
        let key = KeyPair::generate_for(algorithm).unwrap();
        let made = CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        fs::write(cluster.path("site.pem"), made.pem()).unwrap();
        fs::write(cluster.path("site.key"), key.serialize_pem()).unwrap();
        for bound_by in [function, "sha512"] {
            let site = Site::new(&tools, &cluster, "Negotiate", "empty", Some(bound_by));
            let url = format!("https://localhost:{}/Data", site.port);
            let shown = check(&cluster, &url, r"ACME\monitor", PASSWORD, "authority = \"../site.pem\"\n");
            if bound_by == function {
                assert_logged_in(&site, &shown);
            } else {
                assert!(shown.contains("does not accept the login"), "{shown}");
                assert!(site.seen().iter().any(|line| line == "refused BadBindingsError"));
            }
        }
    }
}

/// A server that goes on asking, or that asks for what is no message of the protocol, is asked no more.
#[test]
fn fault_52_a_server_that_is_never_content_is_told() {
    let Some(tools) = tools() else { return };
    let cluster = TestCluster::new();
    let site = Site::new(&tools, &cluster, "NTLM,Negotiate", "never", None);
    let url = format!("http://127.0.0.1:{}/Data", site.port);
    let shown = check(&cluster, &url, r"ACME\monitor", PASSWORD, "");
    assert!(shown.contains("does not accept the login (401"), "{shown}");
    assert!(site.seen().len() <= 3);
}
