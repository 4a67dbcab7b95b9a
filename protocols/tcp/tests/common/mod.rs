//! A scripted client and a hub in memory. Frames are shown as short text, so that a test reads as a conversation.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "test code")]

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use event::testing::{FakeHub, ScriptedGate};
use event::{Event, Parts, Source, TopicName};
use eventmesh::{Clients, Requester};
use serde_json::{Value, json};
use tcp::{Options, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A hub, and what it takes to serve clients on it.
pub struct World {
    pub hub: FakeHub,
    pub gate: ScriptedGate,
    pub clients: Clients,
    parts: tcp::Parts,
    drain: watch::Sender<bool>,
    opened: std::cell::Cell<u16>,
}

impl World {
    pub async fn new() -> Self {
        Self::with(Options::default()).await
    }

    pub async fn with(options: Options) -> Self {
        let (hub, gate, clients) = (FakeHub::new(), ScriptedGate::new("NONE"), Clients::default());
        let drain = watch::channel(false).0;
        let common = eventmesh::Options::default();
        let started = Requester::start(Arc::new(hub.clone()), &common, drain.subscribe()).await;
        let (requester, service) = started.unwrap();
        tokio::spawn(service);
        let parts = tcp::Parts {
            gate: Arc::new(gate.clone()),
            hub: Arc::new(hub.clone()),
            requester,
            clients: clients.clone(),
            options: Arc::new(options),
            common: Arc::new(common),
        };
        Self { hub, gate, clients, parts, drain, opened: std::cell::Cell::new(0) }
    }

    /// A stream that is served. The first comes from port 1, the next from port 2, and so on.
    pub fn open(&self) -> Peer {
        self.open_with(1 << 20)
    }

    /// A stream that takes `buffer` bytes in each direction before its end reads them.
    pub fn open_with(&self, buffer: usize) -> Peer {
        let port = self.opened.get() + 1;
        self.opened.set(port);
        let (near, far) = tokio::io::duplex(buffer);
        let source =
            Source { address: ([127, 0, 0, 1], port).into(), listener: "test".into(), certificate: None };
        let served = serve(far, source, self.parts.clone(), self.drain.subscribe());
        Peer { stream: near, input: BytesMut::new(), beside: 13, seq: 0, task: tokio::spawn(served) }
    }

    /// A client that said hello.
    pub async fn hello(&self, purpose: &str) -> Peer {
        let mut peer = self.open();
        peer.hello(purpose).await;
        peer
    }

    /// A client of group g that listens to `topic`.
    pub async fn listener(&self, topic: &str, mode: &str, kind: &str) -> Peer {
        let mut peer = self.hello("sub").await;
        peer.subscribe(topic, mode, kind).await;
        assert_eq!(peer.call("LISTEN_REQUEST", "").await, "LISTEN_RESPONSE 0 success");
        peer
    }

    pub fn drain(&self) {
        self.drain.send(true).unwrap();
    }
}

/// The other end of a stream.
pub struct Peer {
    stream: DuplexStream,
    input: BytesMut,
    /// What a package length counts beside header and body.
    pub beside: u32,
    seq: u32,
    pub task: JoinHandle<()>,
}

/// A frame that came.
#[derive(Clone, Debug)]
pub struct Got {
    pub header: Value,
    pub body: String,
}

impl Got {
    pub fn seq(&self) -> &str {
        self.header["seq"].as_str().unwrap_or("none")
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

impl std::fmt::Display for Got {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |name: &str| self.header[name].as_str().unwrap_or_default().to_owned();
        let words = [text("cmd"), self.header["code"].to_string(), text("desc")];
        f.write_str(words.join(" ").trim())
    }
}

impl Peer {
    pub async fn hello(&mut self, purpose: &str) {
        let agent = agent("g", purpose).to_string();
        assert_eq!(self.call("HELLO_REQUEST", &agent).await, "HELLO_RESPONSE 0 success");
    }

    pub async fn subscribe(&mut self, topic: &str, mode: &str, kind: &str) {
        let body = json!({"topicList": [{"topic": topic, "mode": mode, "type": kind}]}).to_string();
        assert_eq!(self.call("SUBSCRIBE_REQUEST", &body).await, "SUBSCRIBE_RESPONSE 0 success");
    }

    /// Sends a command under the next seq; which that is.
    pub async fn send(&mut self, cmd: &str, properties: &Value, body: &str) -> String {
        self.seq += 1;
        let seq = format!("{:010}", self.seq);
        self.send_as(cmd, &seq, properties, body).await;
        seq
    }

    pub async fn send_as(&mut self, cmd: &str, seq: &str, properties: &Value, body: &str) {
        let header = json!({"cmd": cmd, "code": 0, "seq": seq, "properties": properties}).to_string();
        self.write(&frame(self.beside, &header, body)).await;
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Sends a command, and what answers it.
    pub async fn call(&mut self, cmd: &str, body: &str) -> String {
        self.call_with(cmd, &json!({}), body).await
    }

    pub async fn call_with(&mut self, cmd: &str, properties: &Value, body: &str) -> String {
        let seq = self.send(cmd, properties, body).await;
        let got = self.next().await;
        assert_eq!(got.seq(), seq, "{got}");
        got.to_string()
    }

    /// The next frame. Panics when there is none.
    pub async fn next(&mut self) -> Got {
        self.try_next().await.expect("a frame, not the end")
    }

    /// The next frame; `None` at the end.
    pub async fn try_next(&mut self) -> Option<Got> {
        loop {
            if self.input.len() >= 21 {
                assert_eq!(&self.input[..13], b"EventMesh0000");
                let (package, header) = ((&self.input[13..17]).get_u32(), (&self.input[17..21]).get_u32());
                let whole = 21 + (package - self.beside) as usize;
                if self.input.len() >= whole {
                    let frame = self.input.split_to(whole);
                    let (header, body) = frame[21..].split_at(header as usize);
                    let body = String::from_utf8(body.to_vec()).unwrap();
                    return Some(Got { header: serde_json::from_slice(header).unwrap(), body });
                }
            }
            if self.stream.read_buf(&mut self.input).await.unwrap() == 0 {
                return None;
            }
        }
    }

    /// Reads to the end, where there has to be one, and nothing before it.
    pub async fn ends(mut self) {
        assert!(self.try_next().await.is_none());
        self.task.await.unwrap();
    }

    /// Nothing comes within a second.
    pub async fn is_quiet(&mut self) {
        let got = tokio::time::timeout(Duration::from_secs(1), self.next()).await;
        assert!(got.is_err(), "{}", got.unwrap());
    }
}

pub fn frame(beside: u32, header: &str, body: &str) -> Vec<u8> {
    let mut bytes = b"EventMesh0000".to_vec();
    let length = |text: &str| u32::try_from(text.len()).unwrap();
    bytes.extend_from_slice(&(beside + length(header) + length(body)).to_be_bytes());
    bytes.extend_from_slice(&length(header).to_be_bytes());
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(body.as_bytes());
    bytes
}

pub fn agent(group: &str, purpose: &str) -> Value {
    json!({
        "env": "test", "subsystem": "5023", "path": "/x", "pid": 32893, "host": "localhost", "port": 8362, "version": "2.0.11",
        "username": "PU4283", "password": "PUPASS", "idc": "FT", "group": group, "purpose": purpose, "unack": 0,
    })
}

/// Properties of a header whose body is an EventMeshMessage.
pub fn message() -> Value {
    json!({"protocoltype": "eventmeshmessage", "protocolversion": "1.0", "protocoldesc": "tcp"})
}

/// An EventMeshMessage.
pub fn emm(topic: &str, body: &str) -> String {
    json!({"topic": topic, "properties": {"ttl": "2000", "accprop": "v"}, "headers": {}, "body": body})
        .to_string()
}

/// A plain event.
pub fn event(topic: &str, data: &'static str) -> Event {
    Event::new(Parts {
        topic: TopicName::parse(topic).unwrap(),
        data: data.into(),
        stamp: 7,
        received_ms: 1_700_000_000_000,
        expires_ms: 0,
        publisher: Arc::from("dev"),
        meta: None,
    })
}
