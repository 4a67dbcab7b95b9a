//! A TCP listener with a limit.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::{Options, Stream};

/// How many connections may be open, and how they are set up. Cloning shares the count.
#[derive(Clone, Debug)]
pub struct Connections {
    room: Arc<Semaphore>,
    backlog: i32,
    keepalive: Option<TcpKeepalive>,
}

/// A bound TCP address.
#[derive(Debug)]
pub struct Listener {
    name: Arc<str>,
    socket: TcpListener,
    address: SocketAddr,
    connections: Connections,
    /// How often accepting failed in a row.
    failures: u32,
    /// Whether the last connection was closed for want of room: the log says so once.
    full: bool,
}

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// The name of the listener it came by.
    pub listener: Arc<str>,
}

/// An address cannot be listened on. Tells which, why, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {advice}")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    advice: String,
    #[source]
    source: io::Error,
}

impl Connections {
    /// No connection yet.
    pub fn new(options: &Options) -> Self {
        let most = usize::try_from(options.connections_max).unwrap_or(usize::MAX);
        let idle = Duration::from_secs(u64::from(options.keepalive_s));
        Self {
            room: Arc::new(Semaphore::new(most.clamp(1, Semaphore::MAX_PERMITS))),
            backlog: i32::try_from(options.backlog).unwrap_or(i32::MAX),
            keepalive: (!idle.is_zero()).then(|| TcpKeepalive::new().with_time(idle)),
        }
    }
}

impl Listener {
    /// Binds `address`, port 0 for any free one. `name` is for logs and metrics. Needs a tokio runtime.
    pub fn bind(name: &str, address: SocketAddr, connections: &Connections) -> Result<Self, BindError> {
        let bind = || {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
            // Else an address could not be bound for a minute after a stop. It allows no second listener.
            socket.set_reuse_address(true)?;
            socket.set_nonblocking(true)?;
            socket.bind(&address.into())?;
            socket.listen(connections.backlog)?;
            TcpListener::from_std(socket.into())
        };
        let socket = bind().map_err(|source| BindError { address, advice: advice(&source), source })?;
        let address = socket.local_addr().unwrap_or(address);
        Ok(Self {
            name: name.into(),
            socket,
            address,
            connections: connections.clone(),
            failures: 0,
            full: false,
        })
    }

    /// The address that was bound, with its real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection. Connections above the limit are closed at once. Where the system has no descriptor or
    /// memory left, waits longer each time, up to a second: asking on would only burn the processor. Cancel-safe.
    pub async fn accept(&mut self) -> Stream {
        loop {
            match self.socket.accept().await {
                Ok((stream, address)) => {
                    self.failures = 0;
                    if let Some(stream) = self.admit(stream, address) {
                        return stream;
                    }
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    metrics::counter!("weft_transport_accept_errors_total", "listener" => Arc::clone(&self.name))
                        .increment(1);
                    if self.failures == 0 {
                        let advice = "close connections, or raise the limit of open files (ulimit -n)";
                        tracing::warn!(listener = &*self.name, %error, advice, "cannot accept connections");
                    }
                    let pause = pause(self.failures);
                    self.failures = self.failures.saturating_add(1);
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    fn admit(&mut self, stream: TcpStream, address: SocketAddr) -> Option<Stream> {
        let Ok(room) = Arc::clone(&self.connections.room).try_acquire_owned() else {
            metrics::counter!("weft_transport_connections_refused_total", "listener" => Arc::clone(&self.name))
                .increment(1);
            if !self.full {
                tracing::warn!(listener = &*self.name, peer = %address, "closed: connections_max is reached");
            }
            self.full = true;
            return None;
        };
        self.full = false;
        let set_up = || {
            stream.set_nodelay(true)?;
            self.connections
                .keepalive
                .as_ref()
                .map_or(Ok(()), |probe| SockRef::from(&stream).set_tcp_keepalive(probe))
        };
        // It fails only for a connection that is gone; the first read will tell.
        set_up().unwrap_or_default();
        metrics::counter!("weft_transport_connections_accepted_total", "listener" => Arc::clone(&self.name))
            .increment(1);
        Some(Stream::new(stream, Peer { address, listener: Arc::clone(&self.name) }, room))
    }
}

/// Errors of a connection that ended before it was accepted: the next one may be well.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

fn pause(failures: u32) -> Duration {
    Duration::from_millis(50 << failures.min(10)).min(Duration::from_secs(1))
}

fn advice(error: &io::Error) -> String {
    // std's own enum: it has more kinds than any caller can tell apart.
    #[expect(clippy::wildcard_enum_match_arm, reason = "an enum of std that grows")]
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program listens there; stop it, or choose another port or address".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => "no network interface of this machine has that address".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "not permitted; ports below 1024 need the privilege CAP_NET_BIND_SERVICE, others do not"
                .to_owned()
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    fn listener(options: &Options) -> Listener {
        Listener::bind("test", "127.0.0.1:0".parse().unwrap(), &Connections::new(options)).unwrap()
    }

    #[tokio::test]
    async fn what_connects_is_accepted() {
        let mut listener = listener(&Options::default());
        let client = TcpStream::connect(listener.address()).await.unwrap();
        let stream = listener.accept().await;
        assert_eq!(stream.peer(), Peer { address: client.local_addr().unwrap(), listener: "test".into() });
        assert!(stream.tcp().nodelay().unwrap());
        assert!(SockRef::from(stream.tcp()).keepalive().unwrap());
    }

    #[tokio::test]
    async fn a_connection_too_many_is_closed_and_the_next_may_come() {
        let mut listener = listener(&Options { connections_max: 1, ..Options::default() });
        let _first = TcpStream::connect(listener.address()).await.unwrap();
        let held = listener.accept().await;
        let mut second = TcpStream::connect(listener.address()).await.unwrap();
        let mut read = [0; 1];
        tokio::select! {
            _ = listener.accept() => panic!("there is no room"),
            closed = second.read(&mut read) => assert!(matches!(closed, Ok(0) | Err(_))),
        }
        drop(held);
        let third = TcpStream::connect(listener.address()).await.unwrap();
        assert_eq!(listener.accept().await.peer().address, third.local_addr().unwrap());
    }

    #[tokio::test]
    async fn a_port_in_use_is_named_with_what_to_do() {
        let first = listener(&Options::default());
        let error = Listener::bind("second", first.address(), &first.connections).unwrap_err().to_string();
        assert!(
            error.contains(&first.address().to_string()) && error.contains("choose another port"),
            "{error}"
        );
        let error = Listener::bind("x", "203.0.113.1:0".parse().unwrap(), &first.connections).unwrap_err();
        assert!(error.to_string().contains("no network interface"), "{error}");
    }

    #[tokio::test]
    async fn an_address_is_free_again_after_a_stop() {
        let mut stopped = listener(&Options::default());
        let address = stopped.address();
        let client = TcpStream::connect(address).await.unwrap();
        // The side that closes first keeps the address in TIME_WAIT.
        drop(stopped.accept().await);
        drop(stopped);
        drop(client);
        Listener::bind("test", address, &Connections::new(&Options::default())).unwrap();
    }

    #[test]
    fn pauses_grow_up_to_a_second() {
        let all: Vec<u128> = [0, 1, 4, 5, u32::MAX].map(|failures| pause(failures).as_millis()).to_vec();
        assert_eq!(all, [50, 100, 800, 1000, 1000]);
    }
}
