//! The tables `[listener.NAME]`: further listeners, beside `mqtt.listen` and `http.listen`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Address, Config};

/// A listener under a name of its own, which logs and metrics show. What it speaks is set up in the tables of the
/// protocols (`mqtt`, `http`, `websocket`), the same for all listeners.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerTable {
    /// Address to listen on. Has to be given. Port 0 takes a free port. Others than loopback addresses need `access` or
    /// `allow_anonymous`.
    pub listen: Address,
    /// What is spoken: "mqtt", or "http", which is CloudEvents over HTTP, WebSocket (`/mqtt` and `/ws`), health and
    /// metrics. Default "mqtt".
    #[serde(default)]
    pub protocol: Protocol,
    /// What carries it: "tcp". Default "tcp".
    #[serde(default)]
    pub carrier: Carrier,
}

impl ListenerTable {
    /// All but the address as it is by default.
    pub fn at(listen: Address) -> Self {
        Self { listen, protocol: Protocol::Mqtt, carrier: Carrier::Tcp }
    }
}

/// What is spoken on a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    #[default]
    /// MQTT 3.1.1 and 5.
    Mqtt,
    /// CloudEvents over HTTP, WebSocket, health and metrics.
    Http,
}

/// What carries a protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Carrier {
    #[default]
    /// TCP, readable by all on the way.
    Tcp,
}

/// The names of the two listeners that are always there.
pub(crate) const BUILT_IN: [&str; 2] = ["mqtt", "http"];

impl Config {
    /// All listeners by name: the two that are always there, and the tables `[listener.NAME]`.
    pub fn listeners(&self) -> impl Iterator<Item = (&str, ListenerTable)> {
        let plain = |listen, protocol| ListenerTable { protocol, ..ListenerTable::at(listen) };
        let [mqtt, http] = BUILT_IN;
        let built_in = [
            (mqtt, plain(self.mqtt.listen, Protocol::Mqtt)),
            (http, plain(self.http.listen, Protocol::Http)),
        ];
        built_in.into_iter().chain(self.listeners.iter().map(|(name, table)| (name.as_str(), table.clone())))
    }
}
