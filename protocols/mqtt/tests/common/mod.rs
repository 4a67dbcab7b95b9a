//! A scripted client and a hub in memory. Packets are shown as short text, so that a test reads as a conversation.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code")]

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use event::testing::{FakeHub, ScriptedGate};
use event::{Event, Guarantee, Parts, Source, TopicName};
use mqtt::codec::client::{self, AckKind, Hello, ServerPacket, decode_server};
use mqtt::codec::encode::PublishHead;
use mqtt::codec::{FilterOptions, PacketId, Properties, Property, Reason, Version};
use mqtt::{Options, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

#[allow(unused_imports, reason = "each test file uses a part of it")]
pub use Guarantee::{AtLeastOnce, AtMostOnce, ExactlyOnce};

/// A hub, and what it takes to serve clients on it.
pub struct World {
    pub hub: FakeHub,
    pub gate: ScriptedGate,
    pub options: Options,
    drain: watch::Sender<bool>,
}

impl World {
    pub fn new() -> Self {
        Self::with(Options::default())
    }

    pub fn with(options: Options) -> Self {
        Self { hub: FakeHub::new(), gate: ScriptedGate::new(METHOD), options, drain: watch::channel(false).0 }
    }

    /// A stream that is served.
    pub fn open(&self, version: Version) -> Scripted {
        self.open_with(version, 1 << 20)
    }

    /// A stream that takes `buffer` bytes in each direction before its end reads them.
    pub fn open_with(&self, version: Version, buffer: usize) -> Scripted {
        let (near, far) = tokio::io::duplex(buffer);
        let served = serve(
            far,
            source(),
            Arc::new(self.gate.clone()),
            Arc::new(self.hub.clone()),
            Arc::new(self.options.clone()),
            self.drain.subscribe(),
        );
        Scripted { stream: near, input: BytesMut::new(), version, task: tokio::spawn(served) }
    }

    /// A connected client with a clean session.
    pub async fn connect(&self, version: Version, client_id: &str) -> Scripted {
        let mut peer = self.open(version);
        peer.hello(&Hello { client_id, clean: true, ..Hello::default() }).await;
        assert!(peer.next().await.starts_with("CONNACK"), "connected");
        peer
    }

    pub fn drain(&self) {
        self.drain.send(true).unwrap();
    }
}

/// The authentication method that is known.
pub const METHOD: &str = "TEST";

/// Where scripted clients come from.
pub fn source() -> Source {
    let address = ([127, 0, 0, 1], 1).into();
    Source { address, listener: "test".into(), certificate: None }
}

/// The client's end of a stream.
pub struct Scripted {
    pub stream: DuplexStream,
    pub input: BytesMut,
    pub version: Version,
    pub task: JoinHandle<()>,
}

impl Scripted {
    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    pub async fn hello(&mut self, hello: &Hello<'_>) {
        let mut out = BytesMut::new();
        client::connect(&mut out, self.version, hello);
        self.send(&out).await;
    }

    pub async fn publish(&mut self, topic: &str, payload: &str, guarantee: Guarantee, id: u16) {
        self.send(&publish(self.version, topic, payload.as_bytes(), guarantee, id, false, &[])).await;
    }

    pub async fn subscribe(&mut self, id: u16, filter: &str, guarantee: Guarantee) {
        self.send(&subscribe(self.version, id, &[(filter, options(guarantee))], &[])).await;
    }

    pub async fn ack(&mut self, what: AckKind, id: u16) {
        self.send(&ack(self.version, what, id)).await;
    }

    pub async fn ping(&mut self) {
        self.send(&[0xc0, 0]).await;
        assert_eq!(self.next().await, "PINGRESP");
    }

    /// The next packet as text; `END` when the stream is over.
    pub async fn next(&mut self) -> String {
        self.packet().await.map_or("END".into(), |packet| show(&packet))
    }

    pub async fn packet(&mut self) -> Option<ServerPacket> {
        loop {
            if let Some(packet) = decode_server(&mut self.input, self.version).expect("a right packet") {
                return Some(packet);
            }
            if self.stream.read_buf(&mut self.input).await.unwrap_or(0) == 0 {
                assert!(self.input.is_empty(), "half a packet");
                return None;
            }
        }
    }

    /// The next `count` packets.
    pub async fn take(&mut self, count: usize) -> Vec<String> {
        let mut all = Vec::new();
        for _ in 0..count {
            all.push(self.next().await);
        }
        all
    }

    /// Nothing more comes but the answer to a ping. Only where the server does not wait for something.
    pub async fn silent(&mut self) {
        self.ping().await;
    }
}

pub fn options(guarantee: Guarantee) -> FilterOptions {
    FilterOptions { guarantee, no_local: false, retain_as_published: false, retain_handling: 0 }
}

pub fn ack(version: Version, what: AckKind, id: u16) -> BytesMut {
    let mut out = BytesMut::new();
    client::ack(&mut out, version, what, PacketId::new(id).unwrap(), Reason::Success);
    out
}

pub fn publish(
    version: Version,
    topic: &str,
    payload: &[u8],
    guarantee: Guarantee,
    id: u16,
    retain: bool,
    properties: &[Property<'_>],
) -> BytesMut {
    let mut out = BytesMut::new();
    let head = PublishHead { dup: false, guarantee, retain, topic, id: PacketId::new(id).ok() };
    assert!(client::publish(&mut out, version, head, properties, payload));
    out
}

pub fn subscribe(
    version: Version,
    id: u16,
    filters: &[(&str, FilterOptions)],
    properties: &[Property<'_>],
) -> BytesMut {
    let mut out = BytesMut::new();
    client::subscribe(&mut out, version, PacketId::new(id).unwrap(), filters, properties);
    out
}

/// A plain event.
pub fn event(topic: &str, data: &[u8]) -> Event {
    Event::new(Parts {
        topic: TopicName::parse(topic).unwrap(),
        data: Bytes::copy_from_slice(data),
        stamp: 7,
        received_ms: 1,
        expires_ms: 0,
        publisher: "someone".into(),
        meta: None,
    })
}

/// Lets everything that can run do so.
pub async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// A packet as text: `PUBLISH q1 id=3 a/b "data"`, `PUBACK 7`, `PUBACK 7 0x87`.
pub fn show(packet: &ServerPacket) -> String {
    let acked = |name: &str, ack: &mqtt::codec::Ack| match ack.code {
        0 => format!("{name} {}", ack.id.get()),
        code => format!("{name} {} {code:#04x}", ack.id.get()),
    };
    match packet {
        ServerPacket::ConnAck { session_present, code, properties } => {
            let present = if *session_present { " present" } else { "" };
            format!("CONNACK {code:#04x}{present}{}", show_properties(properties))
        }
        ServerPacket::Publish(publish) => {
            let mut text = format!("PUBLISH q{}", publish.guarantee as u8);
            if let Some(id) = publish.id {
                write!(text, " id={}", id.get()).unwrap();
            }
            for (on, name) in [(publish.dup, " dup"), (publish.retain, " retain")] {
                text.push_str(if on { name } else { "" });
            }
            let topic = publish.topic.as_ref().map_or("-", TopicName::as_str);
            let payload = String::from_utf8_lossy(&publish.payload);
            write!(text, " {topic} {payload:?}{}", show_properties(&publish.properties)).unwrap();
            text
        }
        ServerPacket::PubAck(ack) => acked("PUBACK", ack),
        ServerPacket::PubRec(ack) => acked("PUBREC", ack),
        ServerPacket::PubRel(ack) => acked("PUBREL", ack),
        ServerPacket::PubComp(ack) => acked("PUBCOMP", ack),
        ServerPacket::SubAck(id, codes) => format!("SUBACK {} {codes:02x?}", id.get()),
        ServerPacket::UnsubAck(id, codes) => format!("UNSUBACK {} {codes:02x?}", id.get()),
        ServerPacket::PingResp => "PINGRESP".into(),
        ServerPacket::Auth(auth) => {
            format!("AUTH {:#04x} {} {:?}", auth.code, auth.method, String::from_utf8_lossy(&auth.data))
        }
        ServerPacket::Disconnect(code) => format!("DISCONNECT {code:#04x}"),
    }
}

/// Reason strings are for people, so tests do not see them.
fn show_properties(properties: &Properties) -> String {
    let shown = properties.iter().filter(|property| !matches!(property, Property::ReasonString(_)));
    shown.map(|property| format!(" {property:?}")).collect()
}
