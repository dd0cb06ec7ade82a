//! A network between agent and aggregator that can fail.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// The state of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Network {
    /// Data passes in both directions.
    Up = 0,
    /// New connections are refused, and existing ones are cut.
    Down = 1,
    /// Data to the aggregator passes; answers are lost.
    OneWay = 2,
}

/// A TCP proxy that plays the network.
pub struct Proxy {
    /// The port to connect to.
    pub port: u16,
    mode: Arc<AtomicU8>,
    carried: Arc<AtomicU64>,
}

impl Proxy {
    /// Starts a proxy to a port of this machine.
    pub fn to(port: u16) -> Self {
        Self::to_current(move || Some(port))
    }

    /// Starts a proxy that asks `target` for the port at each connection. If `target` returns `None`, the proxy refuses
    /// the connection.
    pub fn to_current(target: impl Fn() -> Option<u16> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap().port();
        let (mode, carried) = (Arc::new(AtomicU8::new(Network::Up as u8)), Arc::new(AtomicU64::new(0)));
        let (shared, counter) = (mode.clone(), carried.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.load(Ordering::SeqCst) == Network::Down as u8 {
                    continue;
                }
                let Some(Ok(server)) = target().map(|port| TcpStream::connect(("127.0.0.1", port))) else { continue };
                let (to, from) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                carry(client, server, shared.clone(), false, counter.clone());
                carry(from, to, shared.clone(), true, Arc::default());
            }
        });
        Self { port: own, mode, carried }
    }

    /// Changes the state of the network.
    pub fn set(&self, network: Network) {
        self.mode.store(network as u8, Ordering::SeqCst);
    }

    /// Returns the number of bytes carried to the aggregator so far.
    pub fn carried(&self) -> u64 {
        self.carried.load(Ordering::SeqCst)
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, mode: Arc<AtomicU8>, is_answer: bool, carried: Arc<AtomicU64>) {
    std::thread::spawn(move || {
        from.set_read_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
        let mut buffer = vec![0; 64 << 10];
        loop {
            let network = mode.load(Ordering::SeqCst);
            if network == Network::Down as u8 {
                break;
            }
            match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(_) if is_answer && network == Network::OneWay as u8 => {}
                Ok(read) => {
                    if to.write_all(&buffer[..read]).is_err() {
                        break;
                    }
                    carried.fetch_add(read as u64, Ordering::SeqCst);
                }
                Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                }
                Err(_) => break,
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    });
}
