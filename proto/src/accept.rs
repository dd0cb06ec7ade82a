//! Accepts a server's connections, within limits for all and for each address, so that no peer keeps the others out.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};

use crate::connection::{Connection, HANDSHAKE_TIMEOUT, within};
use crate::place::{Counts, Place};

/// How long a peer may take to send its first request. One that asks nothing holds a place for no longer.
const FIRST_REQUEST: Duration = Duration::from_secs(10);

/// One address may hold this part of all connections: several sites can stand behind one address.
const PART_OF_AN_ADDRESS: usize = 4;

/// Accepts connections, at most `limit` at a time, and a quarter of them from one address. A slow handshake does not delay
/// other peers, and a peer that asks nothing is disconnected.
pub fn accept(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
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
            let (tls, ready) = (tls.clone(), ready.clone());
            tokio::spawn(async move {
                if let Ok(connection) = shake_hands(tcp, tls).await {
                    // Sending fails only if the server has stopped; it does not need the connection any more.
                    let _ = ready.send(Ok(connection.accepted(Some(peer), place, FIRST_REQUEST))).await;
                }
            });
        }
    });
    tokio_stream::wrappers::ReceiverStream::new(connections)
}

async fn shake_hands(tcp: TcpStream, tls: Option<Arc<ServerConfig>>) -> io::Result<Connection> {
    tcp.set_nodelay(true)?;
    Ok(match tls {
        None => Connection::new(tcp),
        Some(tls) => {
            let handshake = tokio_rustls::TlsAcceptor::from(tls).accept(tcp);
            Connection::new(within(HANDSHAKE_TIMEOUT, handshake).await?)
        }
    })
}
