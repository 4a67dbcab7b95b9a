//! A server on loopback with a fake hub behind it, and clients for it.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a module of several test programs, each of which uses a part"
)]

use std::net::SocketAddr;
use std::sync::Arc;

use event::access::{Gate, OpenGate};
use event::hub::Publish;
use event::testing::FakeHub;
use event::{Event, Guarantee, Parts, Source, TopicName};
use futures_util::{SinkExt as _, StreamExt as _};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use websocket::{Options, accept_events, accept_mqtt};

pub struct Server {
    pub hub: FakeHub,
    pub address: SocketAddr,
    drain: watch::Sender<bool>,
}

impl Server {
    pub async fn start() -> Self {
        Self::start_with(Options::default()).await
    }

    /// `/mqtt` echoes what the carrier yields; all else is for CloudEvents.
    pub async fn start_with(options: Options) -> Self {
        Self::start_behind(Arc::new(OpenGate), options).await
    }

    pub async fn start_behind(gate: Arc<dyn Gate>, options: Options) -> Self {
        let hub = FakeHub::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (drain, draining) = watch::channel(false);
        let (options, events) = (Arc::new(options), hub.clone());
        tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                let (hub, options, draining) = (events.clone(), Arc::clone(&options), draining.clone());
                let gate = Arc::clone(&gate);
                let service =
                    hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                        let (hub, gate) = (Arc::new(hub.clone()), Arc::clone(&gate));
                        let (options, draining) = (Arc::clone(&options), draining.clone());
                        let source = Source { address: peer, listener: Arc::from("test"), certificate: None };
                        async move {
                            if request.uri().path() == "/mqtt" {
                                let accepted = accept_mqtt(request, &options);
                                accepted.then.map(|carrier| tokio::spawn(echo(carrier)));
                                return Ok::<_, std::convert::Infallible>(accepted.response);
                            }
                            let accepted = accept_events(request, source, gate, hub, options, draining).await;
                            accepted.then.map(tokio::spawn);
                            Ok(accepted.response)
                        }
                    });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection.with_upgrades());
            }
        });
        Self { hub, address, drain }
    }

    pub fn stop(&self) {
        self.drain.send(true).unwrap();
    }

    pub async fn try_connect(&self, path: &str, headers: &[(&'static str, &str)]) -> Result<Client, Error> {
        let mut request = format!("ws://{}{path}", self.address).into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await?;
        Ok(Client(socket))
    }

    pub async fn connect(&self, path: &str) -> Client {
        let protocol = if path.starts_with("/mqtt") { "mqtt" } else { "cloudevents.json" };
        self.try_connect(path, &[("sec-websocket-protocol", protocol)]).await.unwrap()
    }

    /// A connection after the handshake, to write wrong bytes on.
    pub async fn raw(&self, path: &str, protocol: &str) -> TcpStream {
        let (stream, head) = self.handshake(path, protocol).await;
        assert!(head.starts_with("HTTP/1.1 101"));
        stream
    }

    /// A connection that has agreed on compression, and the answer to its handshake.
    pub async fn deflated(&self, path: &str, protocol: &str, offer: &str) -> (TcpStream, String) {
        let offer = format!("Sec-WebSocket-Extensions: {offer}\r\n");
        self.handshake_with(path, protocol, &offer).await
    }

    /// A connection and the answer to its handshake, for these subprotocols.
    pub async fn handshake(&self, path: &str, protocol: &str) -> (TcpStream, String) {
        self.handshake_with(path, protocol, "").await
    }

    async fn handshake_with(&self, path: &str, protocol: &str, more: &str) -> (TcpStream, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {protocol}\r\n{more}\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        (stream, String::from_utf8(head).unwrap().to_ascii_lowercase().replace("http/1.1", "HTTP/1.1"))
    }

    /// Publishes `data` to `topic` behind the back of the front-end.
    pub fn inject(&self, topic: &str, data: &str, guarantee: Guarantee) {
        let event = Event::new(Parts {
            topic: TopicName::parse(topic).unwrap(),
            data: data.as_bytes().to_vec().into(),
            stamp: 5,
            received_ms: 1_700_000_000_000,
            expires_ms: 0,
            publisher: Arc::from("dev"),
            meta: None,
        });
        self.hub.inject("dev", Publish { event, guarantee, retain: false, id: None });
    }
}

async fn echo<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(
    carrier: impl Future<Output = std::io::Result<S>>,
) {
    let (mut read, mut write) = tokio::io::split(carrier.await.unwrap());
    tokio::io::copy(&mut read, &mut write).await.unwrap_or_default();
    write.shutdown().await.unwrap_or_default();
}

pub struct Client(pub WebSocketStream<TcpStream>);

impl Client {
    pub async fn send(&mut self, ty: &str, id: &str, extra: Value) {
        let mut event = json!({"specversion": "1.0", "id": id, "source": "/web", "type": ty});
        event.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        self.0.send(Message::text(event.to_string())).await.unwrap();
    }

    pub async fn subscribe(&mut self, data: Value) -> Value {
        self.send("weft.subscribe", "s", json!({ "data": data })).await;
        let answer = self.event().await;
        assert_eq!(answer["type"], "weft.subscribed", "{answer}");
        answer["data"].clone()
    }

    /// The next text frame.
    pub async fn event(&mut self) -> Value {
        loop {
            match self.0.next().await.expect("a frame").unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The data of the next `count` events.
    pub async fn data(&mut self, count: usize) -> Vec<String> {
        let mut all = Vec::new();
        for _ in 0..count {
            all.push(self.event().await["data"].to_string());
        }
        all
    }

    /// The close code, after any other frames.
    pub async fn closed(&mut self) -> u16 {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Close(Some(close)))) => return close.code.into(),
                Some(Ok(Message::Close(None))) => return 1005,
                Some(Ok(_)) => {}
                None | Some(Err(_)) => return 1006,
            }
        }
    }
}

/// A client's frame: `first` is the byte with FIN and opcode.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = head(first, 0x80, payload.len());
    frame.extend(KEY);
    frame.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// A frame without a mask, as only servers may send it.
pub fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    [head(first, 0, payload.len()), payload.to_vec()].concat()
}

fn head(first: u8, mask: u8, len: usize) -> Vec<u8> {
    match len {
        ..126 => vec![first, mask | len as u8],
        126..65536 => [&[first, mask | 126][..], &(len as u16).to_be_bytes()].concat(),
        _ => [&[first, mask | 127][..], &(len as u64).to_be_bytes()].concat(),
    }
}

/// The next frame of the server: its first byte, and its payload. `None`: the server has closed.
pub async fn next_frame(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let first = stream.read_u8().await.ok()?;
    let len = match stream.read_u8().await.unwrap() {
        126 => usize::from(stream.read_u16().await.unwrap()),
        127 => stream.read_u64().await.unwrap() as usize,
        len => usize::from(len),
    };
    let mut payload = vec![0; len];
    stream.read_exact(&mut payload).await.unwrap();
    Some((first, payload))
}

/// The code of the close frame that comes on a raw connection, after any other frames.
pub async fn raw_close(stream: &mut TcpStream) -> u16 {
    loop {
        let (first, payload) = next_frame(stream).await.expect("a close frame");
        if first == 0x88 {
            return u16::from_be_bytes([payload[0], payload[1]]);
        }
    }
}
