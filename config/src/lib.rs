//! The configuration of Weft: one TOML document, made of every crate's `Options`, checked as a whole.
//!
//! [`load`] reads file, environment and command line, in this order of rising weight. A [`Mistake`] names the place
//! (file and line, variable, or flag), the key, the value and what to write instead. [`reference()`] prints every key
//! with its documentation and default: that is `config/weft.toml`. This crate knows what can be set, not how anything runs.

mod check;
mod listen;
mod listeners;
mod load;
mod place;
mod reference;
mod schema;

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use listen::{Address, Listener};
pub use listeners::{Carrier, ListenerTable, Protocol};
pub use load::{Flag, Loaded, Sources, load};
pub use place::{Mistake, Place};
pub use reference::reference;

/// All settings. Each table belongs to the crate that reads it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Folder of the event log, made if it is not there. Default "weft-data". One Weft at a time uses a folder.
    pub data: PathBuf,
    /// Let everybody who reaches a listener connect without proof, as `access.anonymous = "always"` does. Default false:
    /// without a way to prove who one is (`access`), all listeners have to be on a loopback address.
    pub allow_anonymous: bool,
    /// How long connections get to finish when Weft is told to stop, seconds. Default 10; 0..=600. What is not done by
    /// then is cut off; no acknowledged event is lost by that.
    #[schemars(range(max = 600))]
    pub stop_timeout_s: u32,
    /// How often the configuration file is looked at for changed routes, tenants and quotas, seconds. Default 2; 0..=3600; 0: only on SIGHUP and
    /// `POST /admin/reload`. These are replaced as a whole while Weft runs; everything else holds from the next start on.
    #[schemars(range(max = 3600))]
    pub reload_s: u16,
    /// What Weft says about itself, on standard error.
    pub log: Log,
    /// MQTT 3.1.1 and 5 over TCP.
    pub mqtt: Listener<mqtt::Options, 1883>,
    /// CloudEvents over HTTP, WebSocket, health and metrics, on one port.
    pub http: Listener<http_front::Options, 8080>,
    /// WebSocket connections: CloudEvents at `/ws`, MQTT at `/mqtt`, on the HTTP listener.
    pub websocket: websocket::Options,
    /// What Apache EventMesh's protocols share.
    pub eventmesh: eventmesh::Options,
    /// Webhooks that EventMesh clients subscribe.
    pub webhook: webhook::Options,
    /// Apache EventMesh over TCP, on listeners with protocol "eventmesh-tcp".
    pub eventmesh_tcp: tcp::Options,
    /// Apache EventMesh over HTTP, on listeners with protocol "eventmesh-http".
    pub eventmesh_http: eventmesh_http::Options,
    /// Apache EventMesh over gRPC, on listeners with protocol "grpc".
    pub grpc: grpc::Options,
    /// Limits of accepted connections, for all listeners.
    pub transport: transport::Options,
    /// Who may come in, and what they may do.
    pub access: access::Options,
    /// Sessions, queues and retained events.
    pub core: routing::Options,
    /// The embedded event log.
    pub store: embedded::Options,
    /// Further listeners, each under a name of its own.
    #[serde(rename = "listener")]
    pub listeners: BTreeMap<String, ListenerTable>,
    /// Tenants, each under a name of its own: the ledger tells what became of the publishes of each, and quotas may be for one or
    /// for each. They are replaced while Weft runs, as routes are.
    #[serde(rename = "tenant")]
    pub tenants: BTreeMap<String, routing::TenantOptions>,
    /// Quotas, each under a name of its own. They are replaced while Weft runs, as routes are.
    #[serde(rename = "quota")]
    pub quotas: BTreeMap<String, routing::QuotaOptions>,
    /// RocketMQ clusters, each under a name of its own. Routes and bridges refer to the name. Bridges follow one that changes while
    /// Weft runs, unless it is the store of a route: then it stays as it is until the next start.
    pub rocketmq: BTreeMap<String, rocketmq::ClusterOptions>,
    /// DeFiBus clusters, each under a name of its own, which no RocketMQ cluster has. Routes and bridges refer to the name.
    /// They change as those of RocketMQ do.
    pub defibus: BTreeMap<String, rocketmq::ClusterOptions>,
    /// Which store keeps the events of which topics. The first route whose filter matches a topic decides; topics that
    /// none matches are kept in the embedded log.
    #[serde(rename = "route")]
    pub routes: Vec<routing::RouteOptions>,
    /// Bridges between topics here and RocketMQ, each under a name of its own: a bridge is a durable session of that name.
    /// They come, change and go while Weft runs, as routes do; one that is taken out ends with its session, and what waits there.
    #[serde(rename = "bridge")]
    pub bridges: BTreeMap<String, rocketmq::BridgeOptions>,
    /// Webhooks that get events as CloudEvents over HTTP, each under a name of its own: a durable session of that name.
    #[serde(rename = "hook")]
    pub hooks: BTreeMap<String, webhook::HookOptions>,
}

/// How Weft logs.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// "error", "warn", "info", "debug" or "trace"; or parts with levels of their own, such as "info,mqtt=debug".
    /// Default "info".
    pub level: String,
    /// "text" for people or "json" for machines, one object a line. Default "text".
    pub format: LogFormat,
}

/// The shape of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

impl Config {
    /// Who may come in, with `allow_anonymous` among it.
    pub fn access(&self) -> access::Options {
        let mut options = self.access.clone();
        if self.allow_anonymous {
            options.anonymous = access::Anonymous::Always;
        }
        options
    }
}

impl Config {
    /// The cluster of this name, and what kind of brokers it has.
    pub fn cluster(&self, name: &str) -> Option<(rocketmq::Kind, &rocketmq::ClusterOptions)> {
        let of = |kind| move |options| (kind, options);
        let rocketmq = self.rocketmq.get(name).map(of(rocketmq::Kind::RocketMq));
        rocketmq.or_else(|| self.defibus.get(name).map(of(rocketmq::Kind::Defibus)))
    }

    /// All clusters by their names.
    pub fn clusters(&self) -> impl Iterator<Item = (&String, rocketmq::Kind, &rocketmq::ClusterOptions)> {
        let rocketmq = self.rocketmq.iter().map(|(name, options)| (name, rocketmq::Kind::RocketMq, options));
        rocketmq.chain(self.defibus.iter().map(|(name, options)| (name, rocketmq::Kind::Defibus, options)))
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("weft-data"),
            allow_anonymous: false,
            stop_timeout_s: 10,
            reload_s: 2,
            log: Log::default(),
            mqtt: Listener::default(),
            http: Listener::default(),
            websocket: websocket::Options::default(),
            eventmesh: eventmesh::Options::default(),
            webhook: webhook::Options::default(),
            eventmesh_http: eventmesh_http::Options::default(),
            grpc: grpc::Options::default(),
            eventmesh_tcp: tcp::Options::default(),
            transport: transport::Options::default(),
            access: access::Options::default(),
            core: routing::Options::default(),
            store: embedded::Options::default(),
            listeners: BTreeMap::new(),
            tenants: BTreeMap::new(),
            quotas: BTreeMap::new(),
            rocketmq: BTreeMap::new(),
            defibus: BTreeMap::new(),
            routes: Vec::new(),
            bridges: BTreeMap::new(),
            hooks: BTreeMap::new(),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}
