//! A TCP listener with limits.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::Stream;
use crate::admission::{Admission, Connections, Place};
use crate::arrival::Arrival;
use crate::options::{Entry, ProxyProtocol};

/// A bound TCP address.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    admission: Admission,
    keepalive: Option<TcpKeepalive>,
    /// How often accepting failed in a row.
    failures: u32,
}

/// What came in.
#[derive(Debug)]
pub enum Accepted {
    /// A connection that can be used.
    Ready(Stream),
    /// One that has to say more first: finish it in a task of its own.
    Arriving(Arrival),
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

impl Listener {
    /// Binds `address`, port 0 for any free one. `name` is for logs and metrics. Needs a tokio runtime.
    pub fn bind(
        name: &str,
        address: SocketAddr,
        connections: &Connections,
        entry: Entry,
    ) -> Result<Self, BindError> {
        let bind = || {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
            // Else an address could not be bound for a minute after a stop. It allows no second listener.
            socket.set_reuse_address(true)?;
            socket.set_nonblocking(true)?;
            socket.bind(&address.into())?;
            socket.listen(connections.backlog)?;
            TcpListener::from_std(socket.into())
        };
        let socket = bind().map_err(|source| BindError::new(address, source))?;
        let address = socket.local_addr().unwrap_or(address);
        let admission = Admission::new(name, connections, entry);
        Ok(Self { socket, address, admission, keepalive: connections.keepalive.clone(), failures: 0 })
    }

    /// The address that was bound, with its real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection. Connections above a limit are closed at once. Where the system has no descriptor or
    /// memory left, waits longer each time, up to a second: asking on would only burn the processor. Cancel-safe.
    pub async fn accept(&mut self) -> Accepted {
        loop {
            match self.socket.accept().await {
                Ok((stream, address)) => {
                    self.failures = 0;
                    if let Some(place) = self.admission.admit(address) {
                        return self.set_up(stream, place);
                    }
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    let name = self.admission.name();
                    metrics::counter!("weft_transport_accept_errors_total", "listener" => Arc::clone(name))
                        .increment(1);
                    if self.failures == 0 {
                        let advice = "close connections, or raise the limit of open files (ulimit -n)";
                        tracing::warn!(listener = &**name, %error, advice, "cannot accept connections");
                    }
                    let pause = pause(self.failures);
                    self.failures = self.failures.saturating_add(1);
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    fn set_up(&self, stream: TcpStream, place: Place) -> Accepted {
        let set_up = || {
            stream.set_nodelay(true)?;
            let probe = self.keepalive.as_ref();
            probe.map_or(Ok(()), |probe| SockRef::from(&stream).set_tcp_keepalive(probe))
        };
        // It fails only for a connection that is gone; the first read will tell.
        set_up().unwrap_or_default();
        if place.shared.tls.is_some() || place.shared.proxy_protocol == ProxyProtocol::Required {
            return Accepted::Arriving(Arrival::new(stream, place));
        }
        Accepted::Ready(Stream::plain(stream, place))
    }
}

impl BindError {
    /// `address` could not be bound.
    pub fn new(address: SocketAddr, source: io::Error) -> Self {
        Self { address, advice: advice(&source), source }
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
    use crate::{Options, Peer};
    use tokio::io::AsyncReadExt as _;

    fn bind(address: SocketAddr, options: &Options) -> Result<Listener, BindError> {
        Listener::bind("test", address, &Connections::new(options), Entry::default())
    }

    fn listener(options: &Options) -> Listener {
        bind("127.0.0.1:0".parse().unwrap(), options).unwrap()
    }

    async fn accept(listener: &mut Listener) -> Stream {
        match listener.accept().await {
            Accepted::Ready(stream) => stream,
            Accepted::Arriving(arrival) => arrival.finish().await.unwrap(),
        }
    }

    #[tokio::test]
    async fn what_connects_is_accepted() {
        let mut listener = listener(&Options::default());
        let client = TcpStream::connect(listener.address()).await.unwrap();
        let stream = accept(&mut listener).await;
        assert_eq!(
            stream.peer(),
            Peer { address: client.local_addr().unwrap(), listener: "test".into(), certificate: None }
        );
        assert!(stream.tcp().nodelay().unwrap());
        assert!(SockRef::from(stream.tcp()).keepalive().unwrap());
    }

    #[tokio::test]
    async fn a_connection_too_many_is_closed_and_the_next_may_come() {
        let mut listener = listener(&Options { connections_max: 1, ..Options::default() });
        let _first = TcpStream::connect(listener.address()).await.unwrap();
        let held = accept(&mut listener).await;
        let mut second = TcpStream::connect(listener.address()).await.unwrap();
        let mut read = [0; 1];
        tokio::select! {
            _ = listener.accept() => panic!("there is no room"),
            closed = second.read(&mut read) => assert!(matches!(closed, Ok(0) | Err(_))),
        }
        drop(held);
        let third = TcpStream::connect(listener.address()).await.unwrap();
        assert_eq!(accept(&mut listener).await.peer().address, third.local_addr().unwrap());
    }

    #[tokio::test]
    async fn a_port_in_use_is_named_with_what_to_do() {
        let first = listener(&Options::default());
        let error = bind(first.address(), &Options::default()).unwrap_err().to_string();
        assert!(
            error.contains(&first.address().to_string()) && error.contains("choose another port"),
            "{error}"
        );
        let error = bind("203.0.113.1:0".parse().unwrap(), &Options::default()).unwrap_err();
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
        bind(address, &Options::default()).unwrap();
    }

    #[test]
    fn pauses_grow_up_to_a_second() {
        let all: Vec<u128> = [0, 1, 4, 5, u32::MAX].map(|failures| pause(failures).as_millis()).to_vec();
        assert_eq!(all, [50, 100, 800, 1000, 1000]);
    }
}
