//! A connection, with TLS or without, and the deadlines for its beginning.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

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
    peer: Option<SocketAddr>,
    /// The connection's place within the limits, released when the connection ends.
    _place: Option<Place>,
    /// When the peer must have sent its first bytes; `None` once it has, or if it need not.
    first_bytes: Option<Pin<Box<Sleep>>>,
}

impl Connection {
    pub(crate) fn new(io: impl AsyncRead + AsyncWrite + Send + 'static) -> Self {
        Self { io: Box::pin(io), peer: None, _place: None, first_bytes: None }
    }

    /// Makes it a server's connection from this peer, which must send its first bytes in time.
    pub(crate) fn accepted(self, peer: Option<SocketAddr>, place: Place, patience: Duration) -> Self {
        let first_bytes = Some(Box::pin(tokio::time::sleep(patience)));
        Self { peer, _place: Some(place), first_bytes, ..self }
    }
}

impl Connected for Connection {
    type ConnectInfo = Option<SocketAddr>;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.peer
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = self.io.as_mut().poll_read(cx, buffer);
        match &mut self.first_bytes {
            Some(deadline) if read.is_pending() => match deadline.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                Poll::Pending => Poll::Pending,
            },
            _ => {
                self.first_bytes = None;
                read
            }
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
