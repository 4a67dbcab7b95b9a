//! Who is asking.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Allowance, Rights};

/// The name a session goes by. Unique in one Weft; 1 to 65,535 bytes of UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClientId(pub Arc<str>);

impl ClientId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ClientId {
    fn from(name: &str) -> Self {
        Self(Arc::from(name))
    }
}

impl std::fmt::Display for ClientId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a publish comes from, as far as routing cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client: its events go to the store of their route.
    Client,
    /// The consumer of a route's own store: its events are already kept there, and go to subscribers only.
    Store,
    /// As [`Self::Store`], but not for members of shared subscriptions: these are fed on their own
    /// ([`Hub::feed`](crate::hub::Hub::feed)).
    Node,
    /// Weft itself: it may publish under `$weft/`, and its events stay in the embedded log.
    Weft,
}

/// The protocol that a client speaks, whatever carries it: MQTT over QUIC is MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// MQTT 3.1.1 and 5.
    Mqtt,
    /// CloudEvents over WebSocket.
    #[serde(rename = "websocket")]
    WebSocket,
    /// CloudEvents over HTTP.
    Http,
    /// EventMesh over gRPC.
    Grpc,
    /// EventMesh over TCP.
    EventmeshTcp,
    /// EventMesh over HTTP.
    EventmeshHttp,
}

/// Who is asking: the client of a connection, or a connector.
#[derive(Clone, Debug)]
pub struct Principal {
    /// The client id; for a request without one, a name made for the connection.
    pub client: ClientId,
    /// The user name that was proved, if any.
    pub user: Option<Arc<str>>,
    /// Its address, and the listener it came by, for people who look at sessions; `None` for parts of Weft.
    pub peer: Option<(SocketAddr, Arc<str>)>,
    /// What it speaks; `None` for parts of Weft.
    pub protocol: Option<Protocol>,
    /// Where its publishes come from.
    pub origin: Origin,
    /// What it may do.
    pub rights: Rights,
    /// When its proof ends, such as that of a token, in milliseconds since 1970: end the connection then. `None`: never.
    pub until_ms: Option<u64>,
    /// How much it may send: charged by the protocol once for each read.
    pub allowance: Allowance,
}

impl Principal {
    /// An unproved client with this id, and all rights.
    pub fn anonymous(client: impl Into<ClientId>) -> Self {
        Self {
            client: client.into(),
            user: None,
            peer: None,
            protocol: None,
            origin: Origin::Client,
            rights: Rights::all(),
            until_ms: None,
            allowance: Allowance::unlimited(),
        }
    }
}
