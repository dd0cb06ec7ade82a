//! Fault 57: many agents, each enrolled, over TLS of their own: all are back after a restart of the aggregator. How long that takes, and what
//! it costs, is printed. 300 agents; with SEATMETER_LONG, 10,000.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use seatmeter_proto::invitation::Invitation;
use seatmeter_proto::tls::{PinnedAuthority, provider};
use seatmeter_proto::transport::{Credentials, Dialer};
use seatmeter_proto::v1::enrolment_service_client::EnrolmentServiceClient;
use seatmeter_proto::v1::ingest_request::Message as Up;
use seatmeter_proto::v1::ingest_service_client::IngestServiceClient;
use seatmeter_proto::v1::{EnrolRequest, Heartbeat, Hello, IngestRequest};
use seatmeter_tests::process::{sleep, text};
use seatmeter_tests::{TestCluster, wait_until};
use tokio::net::TcpSocket;
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Uri};

/// One address may hold a quarter of all connections.
const OF_AN_ADDRESS: usize = 2_000;

/// How often an agent tells that it lives, and the longest that it waits before it connects again.
const HEARTBEAT: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_secs(10);

/// For how long it is measured what agents cost that have nothing to say.
const MEASURED: Duration = Duration::from_secs(60);

/// An agent that reads nothing.
struct Double {
    license_server: String,
    tls: Arc<ClientConfig>,
    address: IpAddr,
}

impl Double {
    /// Enrols with an invitation.
    async fn enrol(number: usize, invitation: &Invitation, pinned: &PinnedAuthority, channel: Channel) -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let request = EnrolRequest {
            secret: invitation.secret.to_vec(),
            signing_request: CertificateParams::default().serialize_request(&key).unwrap().der().to_vec(),
            license_server: format!("lic{number:05}"),
            host: "double".into(),
        };
        let enrolled = EnrolmentServiceClient::new(channel).enrol(request).await.unwrap().into_inner();
        let mut roots = RootCertStore::empty();
        roots.add(pinned.shown().unwrap()).unwrap();
        let mut tls = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(
                vec![CertificateDer::from(enrolled.certificate)],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        tls.resumption = rustls::client::Resumption::disabled();
        let address = IpAddr::V4(Ipv4Addr::new(127, 0, 1, (1 + number / OF_AN_ADDRESS) as u8));
        Self { license_server: enrolled.license_server, tls: Arc::new(tls), address }
    }

    async fn connect(&self, port: u16) -> Result<Channel, tonic::transport::Error> {
        let (tls, address) = (self.tls.clone(), self.address);
        let connector = tower::service_fn(move |_: Uri| {
            let tls = tls.clone();
            async move {
                let socket = TcpSocket::new_v4()?;
                socket.bind(SocketAddr::new(address, 0))?;
                let tcp = socket.connect(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)).await?;
                let name = ServerName::try_from("localhost").unwrap();
                Ok::<_, std::io::Error>(TokioIo::new(tokio_rustls::TlsConnector::from(tls).connect(name, tcp).await?))
            }
        });
        Endpoint::from_static("http://localhost").connect_with_connector(connector).await
    }

    /// Speaks until the connection ends; tells when it was welcomed.
    async fn speak(&self, port: u16, welcomed: &AtomicUsize) -> Option<()> {
        let channel = self.connect(port).await.ok()?;
        let (sender, requests) = mpsc::channel(4);
        let hello = Hello {
            agent_id: self.license_server.clone(),
            license_server: self.license_server.clone(),
            agent_version: "0.1.0".into(),
            ..Hello::default()
        };
        sender.send(IngestRequest { message: Some(Up::Hello(hello)) }).await.ok()?;
        let mut client = IngestServiceClient::new(channel);
        let mut answers = client.ingest(ReceiverStream::new(requests)).await.ok()?.into_inner();
        answers.next().await?.ok()?;
        welcomed.fetch_add(1, Ordering::Relaxed);
        loop {
            tokio::select! {
                answer = answers.next() => drop(answer?.ok()?),
                () = tokio::time::sleep(HEARTBEAT) => {
                    sender.send(IngestRequest { message: Some(Up::Heartbeat(Heartbeat::default())) }).await.ok()?;
                }
            }
        }
    }
}

/// The aggregator's memory in megabytes, and the CPU seconds that it has used.
fn cost(pid: u32) -> (u64, f64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    (kilobytes / 1024, ticks / 100.0)
}

#[test]
fn fault_57_many_agents_are_back_after_a_restart() {
    let is_long = std::env::var("SEATMETER_LONG").is_ok_and(|long| !long.is_empty());
    let count = if is_long { 10_000 } else { 300 };
    let mut cluster = TestCluster::new();
    cluster.enrols = true;
    cluster.settings = "[authority]\nnames = [\"localhost\"]\n".into();
    cluster.start_aggregator();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let port_of = |cluster: &TestCluster| cluster.listening().unwrap().agents;
    let url = format!("https://127.0.0.1:{}", port_of(&cluster));
    let lines: Vec<Invitation> = (0..count)
        .step_by(1000)
        .map(|_| {
            let uses = count.min(1000).to_string();
            let arguments = ["agents", "invite", "--uses", &uses, "--ttl", "1d", "--url", &url, "--output", "csv"];
            text(&cluster.seatmeter(&arguments).stdout).trim().parse().unwrap()
        })
        .collect();
    let began = Instant::now();
    let pinned = PinnedAuthority::new(lines[0].authority.unwrap());
    let doubles = runtime.block_on(async {
        let dialer = Dialer::new(&url, Some(Credentials::Fixed(pinned.clone().tls().unwrap()))).unwrap();
        let channel = dialer.connect().await.unwrap();
        let mut doubles = Vec::new();
        for number in 0..count {
            doubles.push(Double::enrol(number, &lines[number / 1000], &pinned, channel.clone()).await);
        }
        doubles
    });
    println!("{count} agents enrolled one after the other in {:.1} s", began.elapsed().as_secs_f64());

    let welcomed = Arc::new(AtomicUsize::new(0));
    let (port, ports) = watch::channel(port_of(&cluster));
    let began = Instant::now();
    for double in doubles {
        let (ports, welcomed) = (ports.clone(), welcomed.clone());
        runtime.spawn(async move {
            loop {
                let port = *ports.borrow();
                double.speak(port, &welcomed).await;
                // As agents do: not all at once.
                tokio::time::sleep(Duration::from_millis(fastrand::u64(0..AGAIN.as_millis() as u64))).await;
            }
        });
    }
    let are_welcome = |what: &str| wait_until(what, || welcomed.load(Ordering::Relaxed) >= count);
    are_welcome("all are connected");
    println!("all connected in {:.1} s", began.elapsed().as_secs_f64());
    let known = || cluster.ask(&["agents"])["rows"].as_array().unwrap().len();
    assert_eq!(known(), count);
    let (memory, before) = cost(cluster.aggregator_pid());
    println!("{memory} MB");
    if is_long {
        sleep(MEASURED);
        let used = cost(cluster.aggregator_pid()).1 - before;
        println!("{used:.1} s of CPU in {} s without events", MEASURED.as_secs());
    }

    cluster.kill_aggregator();
    welcomed.store(0, Ordering::Relaxed);
    let began = Instant::now();
    cluster.start_aggregator();
    port.send(port_of(&cluster)).unwrap();
    are_welcome("all are back");
    println!("all back {:.1} s after the restart began", began.elapsed().as_secs_f64());
    println!("{} MB after it", cost(cluster.aggregator_pid()).0);
    let connected = cluster.ask(&["agents", "enrolled"])["rows"].as_array().unwrap().clone();
    assert_eq!(connected.len(), count);
    assert!(connected.iter().all(|row| row["status"] == "ok"));
}
