//! RocketMQ in its two uses: as the store of a route, and as a bridge.
//!
//! * [`spawn_store`]: events of a route are acknowledged when RocketMQ has them; what a consumer group brings back is
//!   published here with [`event::Origin::Store`].
//! * [`Bridges`]: a durable session forwards events at the speed of the link and acks them after SEND_OK; topics
//!   of RocketMQ are published into topics here.
//!
//! The order of one topic is kept: all its events go to one queue, one request at a time, each with all that waits.
//! A failed request is sent again before anything behind it. While a broker is avoided because it failed or is slow,
//! another has its queues: what it holds already may then be read later than what came behind. A request without an
//! answer may have been carried out: then the events are in RocketMQ twice, under the same `UNIQ_KEY`.
//!
//! Consumers are members of a group and share its queues, as RocketMQ's own clients do; stores, and bridges that
//! broadcast, have a group for each node.
//!
//! DeFiBus is RocketMQ 4.4 with rules of its own, which the crate `defibus` has: both uses take a [`Kind`]. Requests and their
//! replies go both ways at either kind.
//!
//! `driver` awaits; everything else is sans-io.

mod address;
mod allot;
mod avoid;
mod binding;
mod condition;
mod deflate;
mod driver;
mod error;
mod inflate;
mod kind;
mod lease;
mod metrics;
mod namespace;
mod options;
mod outbox;
mod pop;
mod request;
mod reset;
mod route;
mod rpc;
mod share;
mod shared;
mod sign;
mod start;
mod subscription;
mod template;
mod tls;
mod trace;

pub use driver::{Bridges, Plans, SESSIONS, check_files, spawn_store};
pub use error::OptionsError;
pub use kind::Kind;
pub use options::{BridgeOptions, ClusterOptions, InRule, OutRule, StoreOptions, Unconfirmed};
pub use start::{Start, StartError};
