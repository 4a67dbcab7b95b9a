//! Accepts connections and shakes hands: the only file that awaits.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use metrics::{Counter, counter};
use quinn::{Connection, Endpoint, EndpointConfig, Incoming, ServerConfig, TokioRuntime};
use rustls_pki_types::CertificateDer;
use socket2::{Domain, Protocol, Socket, Type};
use transport::{
    Admission, BindError, Connections, Entry, Failure, Place, Proof, Stream, Throttle, Tls, Turn,
};

use crate::failure::failure;
use crate::stream::{DataStream, Duplex};
use crate::{Options, settings};

/// A bound UDP address.
#[derive(Debug)]
pub struct Listener {
    endpoint: Endpoint,
    address: SocketAddr,
    admission: Admission,
    options: Options,
    tls: Arc<Tls>,
    config: ServerConfig,
    /// The certificates that `config` is made of.
    of: Arc<rustls::ServerConfig>,
    /// Each handshake under way holds one more.
    under_way: Arc<()>,
    retries: Counter,
    streams: Counter,
}

/// A connection that shakes hands, and has to open its control stream.
#[derive(Debug)]
pub struct Arrival {
    incoming: Incoming,
    place: Place,
    turn: Turn,
    config: Arc<ServerConfig>,
    tls: Arc<Tls>,
    of: Arc<rustls::ServerConfig>,
    early_data: bool,
    streams: Counter,
    _under_way: Arc<()>,
}

/// A connection that has arrived.
#[derive(Debug)]
pub struct Client {
    /// Its first stream, on which it says CONNECT. The connection ends when this is dropped.
    pub control: Stream,
    /// The streams that it opens later.
    pub data: DataStreams,
}

/// The further streams of a client, in the order in which it opens them.
pub struct DataStreams {
    connection: Connection,
    next: Pin<Box<Next>>,
    /// The rate of the connection.
    throttle: Option<Throttle>,
    opened: Counter,
}

type Next = dyn Future<Output = Duplex> + Send;

impl DataStreams {
    fn new(connection: Connection, throttle: Option<Throttle>, opened: Counter) -> Self {
        Self { next: Box::pin(next(connection.clone())), connection, throttle, opened }
    }

    /// Ready when the client has opened one more. It never tells that the connection ended: the control stream does.
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<DataStream> {
        let stream = ready!(self.next.as_mut().poll(cx));
        self.next = Box::pin(next(self.connection.clone()));
        self.opened.increment(1);
        Poll::Ready(DataStream::new(stream, self.throttle.as_ref().map(Throttle::another)))
    }
}

impl fmt::Debug for DataStreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DataStreams").field(&self.connection).finish()
    }
}

/// Cancel-safe.
async fn next(connection: Connection) -> Duplex {
    match connection.accept_bi().await {
        Ok(stream) => Duplex::new(stream),
        Err(_) => std::future::pending().await,
    }
}

impl Listener {
    /// Binds `address`, port 0 for any free one. `name` is for logs and metrics; `entry` has no proxy. Needs a tokio runtime.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub fn bind(
        name: &str,
        address: SocketAddr,
        connections: &Connections,
        entry: Entry,
        tls: Arc<Tls>,
        options: &Options,
    ) -> Result<Self, BindError> {
        let wrong = |source: io::Error| BindError::new(address, source);
        let of = tls.config();
        let crypto = settings::crypto(options, &of).map_err(io::Error::other).map_err(wrong)?;
        let config = settings::server(options, crypto);
        let socket = bind(address).map_err(wrong)?;
        let endpoint_config = EndpointConfig::default();
        let runtime = Arc::new(TokioRuntime);
        let endpoint =
            Endpoint::new(endpoint_config, Some(config.clone()), socket, runtime).map_err(wrong)?;
        let address = endpoint.local_addr().unwrap_or(address);
        let admission = Admission::new(name, connections, entry);
        Ok(Self {
            endpoint,
            address,
            retries: counter!("weft_quic_retries_total", "listener" => Arc::clone(admission.name())),
            streams: counter!("weft_quic_streams_opened_total", "listener" => Arc::clone(admission.name())),
            admission,
            options: options.clone(),
            tls,
            config,
            of,
            under_way: Arc::new(()),
        })
    }

    /// The address that was bound, with its real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection; `None`: the socket failed. Connections above a limit are refused at once. Cancel-safe.
    pub async fn accept(&mut self) -> Option<Arrival> {
        loop {
            let incoming = self.endpoint.accept().await?;
            if self.has_to_show_its_address(&incoming) {
                // It fails only for one that may not be asked again, which this is not.
                incoming.retry().unwrap_or(());
                self.retries.increment(1);
                continue;
            }
            let Some(place) = self.admission.admit(incoming.remote_address()) else {
                incoming.refuse();
                continue;
            };
            self.follow();
            return Some(Arrival {
                incoming,
                turn: place.turn(),
                place,
                config: Arc::new(self.config.clone()),
                tls: Arc::clone(&self.tls),
                of: Arc::clone(&self.of),
                early_data: self.options.early_data,
                streams: self.streams.clone(),
                _under_way: Arc::clone(&self.under_way),
            });
        }
    }

    /// Takes no further connection; those that are open go on.
    pub fn refuse(&self) {
        self.endpoint.set_server_config(None);
    }

    /// Waits until every connection is closed and its client was told. Cancel-safe.
    pub async fn idle(&self) {
        self.endpoint.wait_idle().await;
    }

    fn has_to_show_its_address(&self, incoming: &Incoming) -> bool {
        let under_way = Arc::strong_count(&self.under_way).saturating_sub(1);
        let many = under_way >= usize::try_from(self.options.retry_from).unwrap_or(usize::MAX);
        let shown = incoming.remote_address_validated() || !incoming.may_retry();
        !shown && (many || self.admission.counts_addresses())
    }

    /// Certificates may have been read anew. What they were good for once stays in force where they cannot be used.
    fn follow(&mut self) {
        let now = self.tls.config();
        if Arc::ptr_eq(&now, &self.of) {
            return;
        }
        match settings::crypto(&self.options, &now) {
            Ok(crypto) => self.config.crypto = crypto,
            Err(error) => {
                tracing::error!(listener = &**self.admission.name(), error, "no QUIC with new files")
            }
        }
        self.of = now;
    }
}

/// The socket. Its buffers hold what comes while the endpoint is busy, as far as the system allows.
fn bind(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_recv_buffer_size(SOCKET_BYTES).unwrap_or(());
    socket.set_send_buffer_size(SOCKET_BYTES).unwrap_or(());
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// 2 MiB: some thousand packets, what clients send in a millisecond or two when all come at once.
const SOCKET_BYTES: usize = 2 << 20;

impl Arrival {
    /// Waits until it has shaken hands and opened its control stream; `None`: it was closed, counted and told in the log.
    /// Not cancel-safe: dropped, the connection is closed.
    pub async fn finish(self) -> Option<Client> {
        let Self { incoming, place, turn, config, tls, of, early_data, streams, _under_way } = self;
        let shaking = async move {
            let connecting = incoming.accept_with(config).map_err(|error| failure(&error))?;
            let connection = if early_data {
                match connecting.into_0rtt() {
                    Ok((connection, _)) => connection,
                    Err(connecting) => connecting.await.map_err(|error| failure(&error))?,
                }
            } else {
                connecting.await.map_err(|error| failure(&error))?
            };
            let proof = prove(&tls, &of, &connection)?;
            let control = connection.accept_bi().await.map_err(|error| failure(&error))?;
            Ok((connection, control, proof))
        };
        let (connection, control, proof) = place.shake(turn, shaking).await?;
        let throttle: Option<Throttle> = place.throttle();
        let data = DataStreams::new(connection.clone(), throttle.as_ref().map(Throttle::another), streams);
        let control = Duplex::control(control, connection);
        Some(Client { control: Stream::carried(Box::new(control), place, proof, throttle), data })
    }
}

/// The certificate that the client showed, if it did.
fn prove(
    tls: &Tls,
    of: &Arc<rustls::ServerConfig>,
    connection: &Connection,
) -> Result<Option<Arc<Proof>>, Failure> {
    let identity = connection.peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer<'_>>>().ok());
    let Some(chain) = identity else { return Ok(None) };
    tls.prove(&chain, of).map_err(Failure::Io)
}
