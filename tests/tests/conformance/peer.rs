//! A scripted client: it sends what it is told, and shows what comes as short text, so that a test reads as a
//! conversation. All tests of this target share one Weft; each takes names of its own.

#![allow(unreachable_pub, reason = "a module of a test target")]

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tests::Weft;
use tests::raw::Client;
use tests::weft::Setup;
use tests::wire::{self, Ack, Connect, Packet, Property, Publish, Version};

pub use tests::wire::Version::{V4, V5};

/// Both versions, for statements that are in both standards.
pub const BOTH: [Version; 2] = [V4, V5];

/// Where the shared Weft is.
#[derive(Clone, Copy)]
pub struct At {
    pub mqtt: SocketAddr,
    pub http: SocketAddr,
}

/// The shared Weft. It runs on a thread of its own, and ends when this process has ended: then a shell reads the end
/// of its input, kills it and removes its folder.
pub fn weft() -> At {
    static SHARED: OnceLock<At> = OnceLock::new();
    *SHARED.get_or_init(|| {
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let weft = Setup::new().config(CONFIG).start().await;
                let folder = weft.data().parent().unwrap().to_owned();
                let mut shell = Command::new("sh")
                    .args(["-c", "cat >/dev/null; kill -9 $0; rm -rf \"$1\"", &weft.id().to_string()])
                    .arg(folder)
                    .stdin(Stdio::piped())
                    .spawn()
                    .unwrap();
                tell.send(At { mqtt: weft.mqtt, http: weft.http }).unwrap();
                std::future::pending::<()>().await;
                drop(shell.wait());
            });
        });
        told.recv().expect("weft starts")
    })
}

/// Small limits, so that tests reach them.
const CONFIG: &str = "[mqtt]\nmax_packet_bytes = \"64 KiB\"\ninflight_max = 20\ntopic_alias_max = 8\n";

/// A Weft of its own, for a test that kills it or configures it.
pub async fn own_weft(config: &str) -> Weft {
    Setup::new().config(config).start().await
}

/// A name that no other test uses.
pub fn name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("n{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// CONNECT of a version with a clean session.
pub fn hello(version: Version, client: &str) -> Connect {
    Connect { version, ..Connect::v5(client) }
}

/// A client on a stream.
pub struct Peer {
    pub client: Client,
    pub version: Version,
    /// The properties of the last packet that has some.
    pub properties: Vec<Property>,
    /// The packet id of the last PUBLISH.
    pub id: u16,
}

impl Peer {
    /// A stream on which nothing was said.
    pub async fn open(version: Version) -> Self {
        Self::open_at(weft().mqtt, version).await
    }

    pub async fn open_at(address: SocketAddr, version: Version) -> Self {
        let client = Client::open(address, version).await.unwrap();
        Self { client, version, properties: Vec::new(), id: 0 }
    }

    /// A connected client with a clean session and a name of its own.
    pub async fn new(version: Version) -> Self {
        Self::connect(&hello(version, &name())).await
    }

    /// A connected client.
    pub async fn connect(connect: &Connect) -> Self {
        Self::connect_at(weft().mqtt, connect).await.0
    }

    /// A connected client, and the CONNACK.
    pub async fn connect_at(address: SocketAddr, connect: &Connect) -> (Self, String) {
        let mut peer = Self::open_at(address, connect.version).await;
        peer.send(&connect.encode()).await;
        let answer = peer.next().await;
        assert!(answer.starts_with("CONNACK 0x00"), "{answer}");
        (peer, answer)
    }

    /// What a CONNECT is answered with.
    pub async fn answer(connect: &Connect) -> String {
        let mut peer = Self::open(connect.version).await;
        peer.send(&connect.encode()).await;
        peer.next().await
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        // Weft may have closed already: then the test sees that by reading.
        self.client.send(bytes).await.unwrap_or(());
    }

    pub async fn publish(&mut self, publish: Publish) {
        self.send(&publish.encode(self.version)).await;
    }

    /// Publishes at QoS 1 and waits for the ack.
    pub async fn kept(&mut self, publish: Publish) {
        self.publish(Publish { id: 999, qos: 1, ..publish }).await;
        self.says("PUBACK 999").await;
    }

    /// Subscribes with these options and checks that they are granted.
    pub async fn subscribe(&mut self, filter: &str, options: u8) {
        self.send(&wire::subscribe(self.version, 1, &[(filter, options)])).await;
        let granted = options & 3;
        self.says(&format!("SUBACK 1 [{granted:02x}]")).await;
    }

    /// Subscribes with a subscription identifier.
    pub async fn subscribe_as(&mut self, id: u32, filter: &str, options: u8) {
        self.send(&subscribe_with(&[Property::Variable(11, id)], &[(filter, options)])).await;
        self.says(&format!("SUBACK 1 [{:02x}]", options & 3)).await;
    }

    pub async fn ack(&mut self, kind: Ack, id: u16) {
        self.send(&wire::ack(kind, id)).await;
    }

    /// The next packet as text; `END` when the stream is over.
    pub async fn next(&mut self) -> String {
        match self.client.recv().await {
            Ok(Some(packet)) => self.show(packet),
            Ok(None) => "END".into(),
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => panic!("nothing came"),
            Err(_) => "END".into(),
        }
    }

    /// The next packet is this one.
    #[track_caller]
    pub fn says<'a>(&'a mut self, expected: &'a str) -> impl Future<Output = ()> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let packet = self.next().await;
            assert_eq!(packet, expected, "at {caller}");
        }
    }

    /// The next packet is a PUBLISH; its fields.
    pub async fn message(&mut self) -> Publish {
        match self.client.next().await {
            Packet::Publish(publish) => {
                self.id = publish.id;
                publish
            }
            other => panic!("not a PUBLISH: {other:?}"),
        }
    }

    /// The stream is over after at most these packets. In version 5, a DISCONNECT is one of them.
    #[track_caller]
    pub fn closed<'a>(&'a mut self, codes: &'a [u8]) -> impl Future<Output = ()> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let code = self.client.closed().await;
            match self.version {
                V4 => assert_eq!(code, None, "at {caller}"),
                V5 => assert!(
                    code.is_some_and(|code| codes.contains(&code)),
                    "{code:02x?} is not in {codes:02x?}, at {caller}"
                ),
            }
        }
    }

    /// Nothing but the answer to a ping comes. Only for what would have been sent at once.
    pub async fn ping(&mut self) {
        self.send(&wire::PINGREQ).await;
        self.says("PINGRESP").await;
    }

    /// Nothing comes for some milliseconds: for what has no later packet to show it by.
    pub async fn quiet_for(&mut self, ms: u64) {
        match self.client.recv_within(Duration::from_millis(ms)).await {
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {}
            other => panic!("{other:?}"),
        }
    }

    fn show(&mut self, packet: Packet) -> String {
        let acked = |name: &str, id: u16, code: u8| match code {
            0 => format!("{name} {id}"),
            code => format!("{name} {id} {code:#04x}"),
        };
        match packet {
            Packet::ConnAck { present, code, properties } => {
                self.properties = properties;
                format!("CONNACK {code:#04x}{}", if present { " present" } else { "" })
            }
            Packet::Publish(publish) => {
                self.id = publish.id;
                let dup = if publish.dup { " dup" } else { "" };
                let retain = if publish.retain { " retain" } else { "" };
                let payload = String::from_utf8_lossy(&publish.payload);
                let text = format!("PUBLISH q{}{dup}{retain} {} {payload}", publish.qos, publish.topic);
                self.properties = publish.properties;
                text
            }
            Packet::Ack(Ack::PubAck, id, code) => acked("PUBACK", id, code),
            Packet::Ack(Ack::PubRec, id, code) => acked("PUBREC", id, code),
            Packet::Ack(Ack::PubRel, id, code) => acked("PUBREL", id, code),
            Packet::Ack(Ack::PubComp, id, code) => acked("PUBCOMP", id, code),
            Packet::SubAck(id, codes) => format!("SUBACK {id} {codes:02x?}"),
            Packet::UnsubAck(id, codes) => format!("UNSUBACK {id} {codes:02x?}"),
            Packet::PingResp => "PINGRESP".into(),
            Packet::Disconnect(code) => format!("DISCONNECT {code:#04x}"),
            Packet::Auth(code, properties) => {
                self.properties = properties;
                format!("AUTH {code:#04x}")
            }
        }
    }
}

/// SUBSCRIBE of MQTT 5 with properties.
pub fn subscribe_with(properties: &[Property], filters: &[(&str, u8)]) -> Vec<u8> {
    let plain = wire::subscribe(V5, 1, filters);
    let (head, rest) = (&plain[2..4], &plain[5..]);
    let body = [head, &wire::properties(properties), rest].concat();
    wire::packet(0x82, &body)
}

/// A string as it stands in packets.
pub fn text(text: &[u8]) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_be_bytes(), text].concat()
}

/// CONNECT with any flags and any payload behind an empty property block.
pub fn connect_of(version: Version, flags: u8, payload: &[u8]) -> Vec<u8> {
    let (level, properties): (u8, &[u8]) = if version == V5 { (5, b"\0") } else { (4, b"") };
    wire::packet(0x10, &[b"\0\x04MQTT", &[level, flags, 0, 60][..], properties, payload].concat())
}
