//! A QUIC client on quinn, with MQTT on [`crate::wire`] in its streams.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ConnectionError, Endpoint, ReadError, RecvStream, SendStream, VarInt};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::util::PATIENCE;
use crate::wire::{self, Connect, Packet, Publish, Version};

/// How a client connects.
#[derive(Clone, Debug)]
pub struct Dialer {
    endpoint: Endpoint,
    config: quinn::ClientConfig,
}

/// A connection.
#[derive(Clone, Debug)]
pub struct Quic {
    /// Its socket.
    pub endpoint: Endpoint,
    /// The connection.
    pub connection: quinn::Connection,
}

/// A bidirectional stream.
#[derive(Debug)]
pub struct Channel {
    /// To the server.
    pub send: SendStream,
    /// From the server.
    pub receive: RecvStream,
    input: Vec<u8>,
    version: Version,
}

impl Dialer {
    /// One that trusts the CA in this file, and speaks these protocols.
    pub fn new(ca: &Path, alpn: &[&str]) -> Self {
        Self::with(ca, alpn, None)
    }

    /// One that shows the certificate in this `.pem`, with the key in the `.key` beside it.
    pub fn with_certificate(ca: &Path, certificate: &Path) -> Self {
        Self::with(ca, &["mqtt"], Some(certificate.to_owned()))
    }

    fn with(ca: &Path, alpn: &[&str], own: Option<PathBuf>) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider);
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
        let builder = builder.with_root_certificates(roots);
        let mut tls = match own {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let chain = vec![CertificateDer::from_pem_file(&file).unwrap()];
                let key = PrivateKeyDer::from_pem_file(file.with_extension("key")).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        tls.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        tls.enable_early_data = true;
        let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        Self { endpoint: Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap(), config }
    }

    /// Shakes hands.
    pub async fn dial(&self, address: SocketAddr) -> Result<Quic, ConnectionError> {
        let connecting = self.endpoint.connect_with(self.config.clone(), address, "localhost").unwrap();
        let connection =
            tokio::time::timeout(PATIENCE, connecting).await.expect("an answer to the handshake")?;
        Ok(Quic { endpoint: self.endpoint.clone(), connection })
    }

    /// Sends with the first packet; `None` if nothing is known of the server. The channel, and whether the server took it.
    pub async fn dial_early(&self, address: SocketAddr, bytes: &[u8]) -> Option<(Quic, Channel, bool)> {
        let connecting = self.endpoint.connect_with(self.config.clone(), address, "localhost").unwrap();
        let (connection, accepted) = connecting.into_0rtt().ok()?;
        let (mut send, receive) = connection.open_bi().await.unwrap();
        send.write_all(bytes).await.unwrap();
        let accepted = tokio::time::timeout(PATIENCE, accepted).await.expect("an end of the handshake");
        let channel = Channel { send, receive, input: Vec::new(), version: Version::V5 };
        Some((Quic { endpoint: self.endpoint.clone(), connection }, channel, accepted))
    }

    /// Shakes hands, and says CONNECT on a first stream. The control stream, and whether the session was there.
    pub async fn connect(&self, address: SocketAddr, connect: &Connect) -> (Quic, Channel, bool) {
        let quic = self.dial(address).await.expect("a connection");
        let mut control = quic.open(connect.version).await;
        control.send(&connect.encode()).await;
        match control.next().await {
            Packet::ConnAck { present, code: 0, .. } => (quic, control, present),
            other => panic!("answer to CONNECT: {other:?}"),
        }
    }
}

impl Quic {
    /// Opens a stream.
    pub async fn open(&self, version: Version) -> Channel {
        let opened = tokio::time::timeout(PATIENCE, self.connection.open_bi()).await;
        let (send, receive) = opened.expect("a stream more").expect("an open connection");
        Channel { send, receive, input: Vec::new(), version }
    }

    /// Goes on with another socket, as a device that changes its network.
    pub fn move_away(&self) {
        self.endpoint.rebind(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).unwrap();
    }

    /// Closes the connection at once, without a word of MQTT.
    pub fn close(&self) {
        self.connection.close(VarInt::from_u32(0), b"");
    }

    /// Waits for the end of the connection, and tells why.
    pub async fn closed(&self) -> ConnectionError {
        tokio::time::timeout(PATIENCE, self.connection.closed()).await.expect("the end of the connection")
    }
}

impl Channel {
    /// Writes these bytes.
    pub async fn send(&mut self, bytes: &[u8]) {
        self.send.write_all(bytes).await.expect("an open stream");
    }

    /// The next packet; panics if there is none.
    pub async fn next(&mut self) -> Packet {
        self.recv().await.expect("a packet, not the end of the stream")
    }

    /// The next packet; `None` at the end of the stream, or of the connection. Gives up after 20 s without one.
    pub async fn recv(&mut self) -> Option<Packet> {
        loop {
            if let Some(packet) = wire::take(&mut self.input, self.version) {
                return Some(packet);
            }
            let mut bytes = [0; 4096];
            let read = tokio::time::timeout(PATIENCE, self.receive.read(&mut bytes)).await;
            match read.expect("a packet or an end") {
                Ok(Some(count)) => self.input.extend(&bytes[..count]),
                Ok(None) | Err(ReadError::Reset(_) | ReadError::ConnectionLost(_)) => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// The next packet, which is a PUBLISH.
    pub async fn message(&mut self) -> Publish {
        match self.next().await {
            Packet::Publish(publish) => publish,
            other => panic!("not a PUBLISH: {other:?}"),
        }
    }

    /// Sends `bytes` and waits for `answer`.
    pub async fn ask(&mut self, bytes: &[u8], answer: &Packet) {
        self.send(bytes).await;
        assert_eq!(self.next().await, *answer);
    }

    /// Subscribes under packet id `id`, and is granted it.
    pub async fn subscribe(&mut self, id: u16, filter: &str, qos: u8) {
        let packet = wire::subscribe(self.version, id, &[(filter, qos)]);
        self.ask(&packet, &Packet::SubAck(id, vec![qos])).await;
    }

    /// Publishes at QoS 1 under packet id `id`, and waits for PUBACK.
    pub async fn publish(&mut self, id: u16, topic: &str, payload: &str) {
        let packet = Publish { id, ..Publish::new(topic, payload, 1) }.encode(self.version);
        self.send(&packet).await;
        match self.next().await {
            Packet::Ack(wire::Ack::PubAck, of, code) => assert!(of == id && code < 0x80, "{of} {code:#x}"),
            other => panic!("answer to PUBLISH: {other:?}"),
        }
    }
}
