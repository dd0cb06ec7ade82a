//! Accepts a server's connections, within limits for all and for each address, so that no peer keeps the others out.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::connection::{Connection, HANDSHAKE_TIMEOUT, Peer, within};
use crate::place::{Counts, Place};

/// How long a peer may take to send its first request. One that asks nothing holds a place for no longer.
const FIRST_REQUEST: Duration = Duration::from_secs(10);

/// One address may hold this part of all connections: several sites can stand behind one address.
const PART_OF_AN_ADDRESS: usize = 4;

/// Accepts connections, at most `limit` at a time, and a quarter of them from one address. A slow handshake does not delay
/// other peers, and a peer that asks nothing is disconnected. Each handshake uses the TLS configuration of its moment.
pub fn accept(
    listener: TcpListener,
    tls: Option<watch::Receiver<Arc<ServerConfig>>>,
    limit: usize,
) -> impl futures_core::Stream<Item = io::Result<Connection>> {
    let (ready, connections) = mpsc::channel(16);
    let (places, counts) = (Arc::new(Semaphore::new(limit)), Counts::default());
    let most = limit.div_ceil(PART_OF_AN_ADDRESS);
    tokio::spawn(async move {
        while let Ok(permit) = places.clone().acquire_owned().await {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = ready.closed() => return,
            };
            let Ok((tcp, peer)) = accepted else {
                // The process is probably out of file descriptors: wait for some connections to end.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            // Dropping the connection closes it.
            let Some(place) = Place::take(&counts, peer.ip(), most, permit) else { continue };
            let (tls, ready) = (tls.as_ref().map(|tls| tls.borrow().clone()), ready.clone());
            tokio::spawn(async move {
                if let Ok((connection, certificate)) = shake_hands(tcp, tls).await {
                    let peer = Peer { address: Some(peer), certificate };
                    // Sending fails only if the server has stopped; it does not need the connection any more.
                    let _ = ready.send(Ok(connection.accepted(peer, place, FIRST_REQUEST))).await;
                }
            });
        }
    });
    tokio_stream::wrappers::ReceiverStream::new(connections)
}

/// Returns the connection, and the certificate that the peer has shown.
async fn shake_hands(
    tcp: TcpStream,
    tls: Option<Arc<ServerConfig>>,
) -> io::Result<(Connection, Option<CertificateDer<'static>>)> {
    tcp.set_nodelay(true)?;
    let Some(tls) = tls else { return Ok((Connection::new(tcp), None)) };
    let handshake = tokio_rustls::TlsAcceptor::from(tls).accept(tcp);
    let connection = within(HANDSHAKE_TIMEOUT, handshake).await?;
    let shown =
        connection.get_ref().1.peer_certificates().and_then(<[_]>::first).map(|shown| shown.clone().into_owned());
    Ok((Connection::new(connection), shown))
}
