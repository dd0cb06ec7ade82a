//! Faults 14, 19 and 20: what an agent sends is placed by its positions, and believed in nothing else; and peers that say
//! nothing.

use seatmeter_proto::split;
use seatmeter_proto::transport::Dialer;
use seatmeter_proto::v1::ingest_request::Message as Up;
use seatmeter_proto::v1::ingest_response::Message as Down;
use seatmeter_proto::v1::ingest_service_client::IngestServiceClient;
use seatmeter_proto::v1::{Batch, BatchOutcome, BatchResult, Hello, IngestRequest, Limits, RefusalReason};
use seatmeter_tests::double::batch;
use seatmeter_tests::{TestCluster, wait_until};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

/// Sends batches over one stream, and gives their results in the order of their sequences.
async fn send(cluster: &TestCluster, batches: Vec<Batch>) -> Vec<BatchResult> {
    let channel = Dialer::new(&cluster.agents_url(), None).unwrap().connect().await.unwrap();
    let (sender, requests) = tokio::sync::mpsc::channel(64);
    let hello = Hello { agent_id: "double".into(), license_server: "LIC01".into(), ..Hello::default() };
    let count = batches.len();
    sender.send(IngestRequest { message: Some(Up::Hello(hello)) }).await.unwrap();
    for batch in batches {
        sender.send(IngestRequest { message: Some(Up::Batch(batch)) }).await.unwrap();
    }
    let mut answers =
        IngestServiceClient::new(channel).ingest(ReceiverStream::new(requests)).await.unwrap().into_inner();
    let mut results = Vec::new();
    while results.len() < count {
        if let Some(Down::Acknowledgement(acknowledgement)) = answers.next().await.unwrap().unwrap().message {
            results.extend(acknowledgement.results);
        }
    }
    results.sort_by_key(|result| result.sequence);
    results
}

fn outcomes(results: &[BatchResult]) -> Vec<(BatchOutcome, u64)> {
    results.iter().map(|result| (result.outcome(), result.expected_start_position)).collect()
}

#[tokio::test]
async fn fault_14_duplicate_reordered_and_gapped_batches() {
    use BatchOutcome::{Committed, Duplicate, Gap, Trimmed};
    let cluster = TestCluster::running();
    let sent = vec![batch(1, 0, 100), batch(2, 0, 100), batch(3, 200, 300), batch(4, 50, 150), batch(5, 150, 200)];
    let expected = [(Committed, 100), (Duplicate, 100), (Gap, 100), (Trimmed, 150), (Committed, 200)];
    assert_eq!(outcomes(&send(&cluster, sent).await), expected);
    // What was refused is sent again, and what was taken, from another connection.
    let sent = vec![batch(3, 200, 300), batch(4, 0, 300)];
    assert_eq!(outcomes(&send(&cluster, sent).await), [(Committed, 300), (Duplicate, 300)]);
    let header = "month,daemon,feature,users_checked_out,users_held,outs,ins,denials\n";
    cluster.wait_for_activity("LIC01", &format!("{header}2026-01,d,f,1,1,30,0,0\n"));
    cluster.assert_verified();
}

#[tokio::test]
async fn fault_19_batches_that_lie_are_refused_and_harm_nobody() {
    let cluster = TestCluster::running();
    let lie = |sequence, change: &dyn Fn(&mut Batch)| {
        let mut batch = batch(sequence, 0, 100);
        change(&mut batch);
        batch
    };
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap();
    let sent = vec![
        lie(1, &|batch| batch.event_count = 11),
        lie(2, &|batch| batch.columns_size = u32::MAX),
        lie(3, &|batch| batch.columns = bomb.clone().into()),
        lie(4, &|batch| batch.end_position = 5),
        lie(5, &|batch| batch.stream = None),
        lie(6, &|batch| batch.columns = vec![0; 100].into()),
        lie(7, &|batch| (batch.start_position, batch.end_position) = (0, u64::MAX)),
        batch(8, 0, 100),
    ];
    let results = send(&cluster, sent).await;
    for result in &results[..7] {
        assert_eq!(result.outcome(), BatchOutcome::Invalid, "{result:?}");
        assert_ne!(result.reason(), RefusalReason::Unspecified, "{result:?}");
    }
    assert_eq!(results[7].outcome(), BatchOutcome::Committed);
}

/// An aggregator that takes less than the agent sends: here, the harness between the two lowers the limits.
#[tokio::test]
async fn fault_19_a_batch_over_a_smaller_limit_is_split_and_sent() {
    let cluster = TestCluster::running();
    let whole = batch(1, 0, 1000);
    let limits = Limits { max_batch_events: 7, max_columns_bytes: 200, ..Limits::default() };
    let parts = split::within(whole, &limits).unwrap();
    assert!(parts.len() > 10, "{} parts", parts.len());
    let results = send(&cluster, parts).await;
    assert!(results.iter().all(|result| result.outcome() == BatchOutcome::Committed), "{results:?}");
    // The whole batch, sent again, is known.
    assert_eq!(outcomes(&send(&cluster, vec![batch(1, 0, 1000)]).await), [(BatchOutcome::Duplicate, 1000)]);
    let header = "month,daemon,feature,users_checked_out,users_held,outs,ins,denials\n";
    cluster.wait_for_activity("LIC01", &format!("{header}2026-01,d,f,1,1,100,0,0\n"));
    cluster.assert_verified();
}

/// Peers that connect and say nothing are sent away, and one address keeps no other out meanwhile.
#[tokio::test]
async fn fault_20_idle_connections_keep_nobody_out() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let cluster = TestCluster::running();
    for port in [cluster.listening().unwrap().operators, cluster.agents_port()] {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
        let mut idle = Vec::new();
        for _ in 0..1100 {
            idle.push(tokio::net::TcpStream::connect(address).await.unwrap());
        }
        // Another address is answered at once: its preface with the server's settings.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 2], 0).into()).unwrap();
        let mut other = socket.connect(address).await.unwrap();
        other.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        let mut frame = [0; 9];
        let answered = tokio::time::timeout(std::time::Duration::from_secs(60), other.read_exact(&mut frame)).await;
        assert!(answered.is_ok_and(|read| read.is_ok()) && frame[3] == 4, "{frame:?}");
        // The idle ones are sent away, each by itself.
        for mut silent in idle {
            let mut said = Vec::new();
            let ended = silent.read_to_end(&mut said);
            assert!(tokio::time::timeout(std::time::Duration::from_secs(60), ended).await.is_ok());
        }
        // So is one that has greeted, and asks nothing.
        let mut said = Vec::new();
        let ended = tokio::time::timeout(std::time::Duration::from_secs(60), other.read_to_end(&mut said)).await;
        assert!(ended.is_ok(), "{said:?}");
    }
    // Who was kept out by them is served again.
    seatmeter_tests::wait_until("the operator is answered", || cluster.seatmeter(&["agents"]).status.success());
}

/// A gap is known by its bytes and by the time in which its lines were written, and marks the months of that time alone.
#[tokio::test]
async fn fault_33_a_gap_marks_the_months_that_it_touches() {
    let cluster = TestCluster::running();
    // The double's lines are a second apart for each byte: the gap reaches from the 1st of January into March.
    let after = Batch { lost_before: true, ..batch(2, 6_000_000, 6_000_100) };
    let sent = vec![batch(1, 0, 100), after, batch(3, 6_000_100, 7_000_000)];
    let results = send(&cluster, sent).await;
    assert!(results.iter().all(|result| result.outcome() == BatchOutcome::Committed), "{results:?}");
    let has_gap = |month: &str| {
        let usage = cluster.ask(&["usage", month]);
        let reasons = usage["completeness"]["incomplete"][0]["reasons"].to_string();
        reasons.contains("log: 1 known gap: lines written between 2026-01-01 08:01 and 2026-03-11 18:40 were gone")
    };
    let months = ["2025-12", "2026-01", "2026-02", "2026-03", "2026-04"];
    wait_until("the lines around the gap are projected", || months.map(has_gap) == [false, true, true, true, false]);
    let servers = String::from_utf8(cluster.seatmeter(&["servers"]).stdout).unwrap();
    assert!(servers.contains("LIC01: log: 5,999,900 bytes written between"), "{servers}");
}
