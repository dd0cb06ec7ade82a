//! A connection, with TLS or without, and the deadlines for its beginning.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tonic::transport::server::Connected;

use crate::place::Place;

/// The deadline for a TLS handshake. A peer that takes longer is disconnected.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

trait Io: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Io for T {}

/// A connection, with TLS or without.
pub struct Connection {
    io: Pin<Box<dyn Io>>,
    peer: Peer,
    /// The connection's place within the limits, released when the connection ends.
    _place: Option<Place>,
    /// What the peer must do in time; `None` once it has, or if it need not.
    beginning: Option<Beginning>,
}

/// Who is at the other end of a server's connection.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// The address.
    pub address: Option<SocketAddr>,
    /// The certificate that it has shown, which an authority has signed; `None` if it has shown none.
    pub certificate: Option<CertificateDer<'static>>,
}

/// The beginning of a connection: a peer must send its first request in time. HTTP/2's preface and settings are none.
struct Beginning {
    deadline: Pin<Box<Sleep>>,
    /// The bytes to pass over before the next frame.
    passing: usize,
    /// The frame's header, as far as it has come: the length in three bytes, the type, and five more.
    header: [u8; 9],
    filled: usize,
}

/// The length of HTTP/2's preface, and the type of the frame that begins a request (RFC 9113, 3.4 and 6.2).
const PREFACE: usize = 24;
const HEADERS: u8 = 1;

impl Beginning {
    fn new(patience: Duration) -> Self {
        let deadline = Box::pin(tokio::time::sleep(patience));
        Self { deadline, passing: PREFACE, header: [0; 9], filled: 0 }
    }

    /// Follows the bytes that the peer sends. Returns whether a request has begun.
    fn follow(&mut self, mut bytes: &[u8]) -> bool {
        loop {
            let passed = self.passing.min(bytes.len());
            (self.passing, bytes) = (self.passing - passed, &bytes[passed..]);
            let taken = bytes.len().min(self.header.len() - self.filled);
            self.header[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            (self.filled, bytes) = (self.filled + taken, &bytes[taken..]);
            if self.filled < self.header.len() {
                return false;
            }
            let [a, b, c, kind, ..] = self.header;
            if kind == HEADERS {
                return true;
            }
            (self.passing, self.filled) = (usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c), 0);
        }
    }
}

impl Connection {
    pub(crate) fn new(io: impl AsyncRead + AsyncWrite + Send + 'static) -> Self {
        Self { io: Box::pin(io), peer: Peer::default(), _place: None, beginning: None }
    }

    /// Makes it a server's connection from this peer, which must send its first request in time.
    pub(crate) fn accepted(self, peer: Peer, place: Place, patience: Duration) -> Self {
        Self { peer, _place: Some(place), beginning: Some(Beginning::new(patience)), ..self }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = self.io.as_mut().poll_read(cx, buffer);
        let Some(beginning) = &mut self.beginning else { return read };
        if read.is_ready() {
            if beginning.follow(&buffer.filled()[before..]) {
                self.beginning = None;
            }
            return read;
        }
        match beginning.deadline.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.io.as_mut().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.as_mut().poll_shutdown(cx)
    }
}

pub(crate) async fn within<T>(limit: Duration, task: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(limit, task).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_is_seen_however_its_bytes_come() {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        // Settings with six bytes, a window update with four, then the request.
        bytes.extend(b"\0\0\x06\x04\0\0\0\0\0\x01\x01\x01\x01\x01\x01");
        bytes.extend(b"\0\0\x04\x08\0\0\0\0\0\x01\x01\x01\x01");
        let greeting = bytes.len();
        bytes.extend(b"\0\0\x20\x01\x04\0\0\0\x01");
        for size in 1..=bytes.len() {
            let mut beginning = Beginning::new(Duration::from_secs(1));
            assert!(!bytes[..greeting].chunks(size).any(|piece| beginning.follow(piece)), "{size}");
            let mut beginning = Beginning::new(Duration::from_secs(1));
            assert!(bytes.chunks(size).any(|piece| beginning.follow(piece)), "{size}");
        }
    }
}
