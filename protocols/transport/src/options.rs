//! Limits of accepted connections.

use event::{ByteLimit, Rate};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::network::Network;

/// Limits of accepted connections, for all listeners together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// How many connections may be open at a time. Default 100000; 1..=10000000. More are closed as soon as they are
    /// accepted. Each needs a file descriptor, so set the system's limit (`ulimit -n`) some hundred higher; where that
    /// is reached first, new connections wait until one ends.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub connections_max: u32,
    /// How many connections the system holds for a listener until they are accepted. Default 1024; 1..=65535. Linux
    /// lowers it to `net.core.somaxconn`. Too few: connects fail or are slow when many clients come at once.
    #[schemars(range(min = 1, max = 65_535))]
    pub backlog: u32,
    /// After how many seconds of silence the system asks whether the peer is still there (TCP keep-alive). Default 60;
    /// 0..=32767, 0 never asks. Finds peers that vanished without a word where the protocol itself does not ask.
    #[schemars(range(max = 32_767))]
    pub keepalive_s: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { connections_max: 100_000, backlog: 1024, keepalive_s: 60 }
    }
}

/// Limits of one listener. What is above a limit of connections is closed as soon as it is accepted; what is above a rate of
/// bytes or packets is read more slowly, never dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// How many connections the listener may have open. Default 0: as many as `transport.connections_max`.
    pub connections: u32,
    /// How many new connections a second. Default 0, no limit. Too few: clients that all come back at once need long.
    pub connects_per_second: u32,
    /// How many of them at once, after a pause. Default 0: those of one second.
    pub connects_burst: u32,
    /// How many connections one address (IPv6: one /64) may have open. Default 0, no limit. Clients behind one NAT share
    /// an address.
    pub address_connections: u32,
    /// How many new connections a second one address (IPv6: one /64) may make. Default 0, no limit.
    pub address_connects_per_second: u32,
    /// How many of them at once, after a pause. Default 0: those of one second.
    pub address_connects_burst: u32,
    /// How many bytes a second are read from each connection. Default "0 B", no limit.
    #[schemars(with = "String")]
    pub bytes_per_second: ByteLimit,
    /// How many MQTT packets, WebSocket frames or HTTP requests a second are taken from each connection. Default 0, no
    /// limit. Acknowledgements count.
    pub packets_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 0,
            connects_per_second: 0,
            connects_burst: 0,
            address_connections: 0,
            address_connects_per_second: 0,
            address_connects_burst: 0,
            bytes_per_second: ByteLimit(0),
            packets_per_second: 0,
        }
    }
}

impl Limits {
    /// New connections of the listener.
    pub(crate) fn connects(&self) -> Option<Rate> {
        rate(self.connects_per_second, self.connects_burst)
    }

    /// New connections of one address.
    pub(crate) fn address_connects(&self) -> Option<Rate> {
        rate(self.address_connects_per_second, self.address_connects_burst)
    }

    /// Packets of one connection: for whoever reads packets.
    pub fn packets(&self) -> Option<Rate> {
        Rate::per_second(u64::from(self.packets_per_second))
    }

    /// Bytes of one connection.
    pub(crate) fn bytes(&self) -> Option<Rate> {
        Rate::per_second(self.bytes_per_second.0)
    }
}

fn rate(per_second: u32, burst: u32) -> Option<Rate> {
    let rate = Rate::per_second(u64::from(per_second))?;
    Some(if burst == 0 { rate } else { Rate { burst: u64::from(burst), ..rate } })
}

/// Whether a proxy tells whose connection it passes on, in a header in front of all else (HAProxy's PROXY protocol).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProxyProtocol {
    /// No: the first bytes are those of the client.
    #[default]
    Off,
    /// On each connection. Connections without it, or from others than the trusted proxies, are closed.
    Required,
}

/// What is in front of a listener.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// How much comes in.
    pub limits: Limits,
    /// Whether it comes by proxies that say so.
    pub proxy_protocol: ProxyProtocol,
    /// Proxies that are believed.
    pub trusted_proxies: Vec<Network>,
    /// TLS, if it is spoken.
    pub tls: Option<std::sync::Arc<crate::Tls>>,
}
