//! The tables `[listener.NAME]`: further listeners, beside `mqtt.listen` and `http.listen`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use transport::{Limits, Network, ProxyProtocol, TlsOptions};

use crate::listen::loopback;
use crate::{Address, Config};

/// A listener under a name of its own, which logs and metrics show. What it speaks is set up in the tables of the
/// protocols (`mqtt`, `http`, `websocket`, `eventmesh`, `grpc` and others), the same for all listeners.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerTable {
    /// Address to listen on. Has to be given. Port 0 takes a free port. Others than loopback addresses need `access` or
    /// `allow_anonymous`.
    pub listen: Address,
    /// What is spoken: "mqtt"; "http", which is CloudEvents over HTTP, WebSocket (`/mqtt` and `/ws`), health and metrics; or
    /// one of Apache EventMesh's protocols: "eventmesh-tcp", "eventmesh-http", "grpc", or "eventmesh-admin", which is for
    /// operators. Default "mqtt".
    #[serde(default)]
    pub protocol: Protocol,
    /// What carries it: "tcp"; "tls", for which the table `tls` names certificates; or "quic", on the UDP port, with
    /// certificates too, for protocol "mqtt". Default "tcp".
    #[serde(default)]
    pub carrier: Carrier,
    /// Whether a proxy tells whose connection it passes on, in a header in front of all else (HAProxy's PROXY protocol,
    /// version 1 or 2): "off" or "required". Default "off". If required, connections without it, and those of others
    /// than `trusted_proxies`, are closed.
    #[serde(default)]
    pub proxy_protocol: ProxyProtocol,
    /// Addresses and networks of proxies that are believed, such as "10.0.0.0/8". Default none. They tell the client's
    /// address by `proxy_protocol`, and with the protocols of HTTP by the headers Forwarded or X-Forwarded-For.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub trusted_proxies: Vec<Network>,
    /// How much comes in.
    #[serde(default)]
    pub limits: Limits,
    /// TLS, for carriers "tls" and "quic".
    #[serde(default)]
    pub tls: TlsOptions,
    /// QUIC, for carrier "quic".
    #[serde(default)]
    pub quic: quic::Options,
}

impl ListenerTable {
    /// All but the address as it is by default.
    pub fn at(listen: Address) -> Self {
        Self {
            listen,
            protocol: Protocol::Mqtt,
            carrier: Carrier::Tcp,
            proxy_protocol: ProxyProtocol::Off,
            trusted_proxies: Vec::new(),
            limits: Limits::default(),
            tls: TlsOptions::default(),
            quic: quic::Options::default(),
        }
    }
}

/// What is spoken on a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    #[default]
    /// MQTT 3.1.1 and 5.
    Mqtt,
    /// CloudEvents over HTTP, WebSocket, health and metrics.
    Http,
    /// Apache EventMesh over gRPC.
    Grpc,
    /// Apache EventMesh over TCP.
    EventmeshTcp,
    /// Apache EventMesh over HTTP.
    EventmeshHttp,
    /// Apache EventMesh's pages for operators.
    EventmeshAdmin,
}

/// What carries a protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Carrier {
    #[default]
    /// TCP, readable by all on the way.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// QUIC, which is over UDP and has TLS inside.
    Quic,
}

/// The names of the two listeners that are always there.
pub(crate) const BUILT_IN: [&str; 2] = ["mqtt", "http"];

/// The listeners that `eventmesh.standard_ports` adds, on the IPv4 loopback address: name, protocol, and EventMesh's own port.
pub(crate) const EVENTMESH: [(&str, Protocol, u16); 4] = [
    ("eventmesh-tcp", Protocol::EventmeshTcp, 10000),
    ("eventmesh-http", Protocol::EventmeshHttp, 10105),
    ("eventmesh-grpc", Protocol::Grpc, 10205),
    ("eventmesh-admin", Protocol::EventmeshAdmin, 10106),
];

impl Config {
    /// All listeners by name: the two that are always there, those at EventMesh's own ports if they are wanted, and the tables
    /// `[listener.NAME]`.
    pub fn listeners(&self) -> impl Iterator<Item = (&str, ListenerTable)> {
        let plain = |listen, protocol| ListenerTable { protocol, ..ListenerTable::at(listen) };
        let [mqtt, http] = BUILT_IN;
        let built_in = [
            (mqtt, plain(self.mqtt.listen, Protocol::Mqtt)),
            (http, plain(self.http.listen, Protocol::Http)),
        ];
        let wanted = EVENTMESH.into_iter().filter(|_| self.eventmesh.standard_ports);
        let standard = wanted.map(move |(name, protocol, port)| (name, plain(loopback(port), protocol)));
        built_in
            .into_iter()
            .chain(standard)
            .chain(self.listeners.iter().map(|(name, table)| (name.as_str(), table.clone())))
    }
}
