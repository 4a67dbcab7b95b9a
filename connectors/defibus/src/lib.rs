//! What DeFiBus adds to the remoting protocol of RocketMQ 4.4, without I/O: codes, names, properties, request and reply,
//! who consumes which queue, and queues that take no more.
//!
//! A DeFiBus broker differs from others in ways that bind whoever talks to it:
//!
//! * It does not answer codes that it does not know: every request needs a deadline.
//! * It writes JSON with bare numbers as keys ([`remoting::strict_json`]).
//! * Its listeners drop messages without a [`property::TTL`].
//! * It creates no topics by itself; a send to a missing one is answered with SYSTEM_ERROR.
//! * It pushes a reply only over the connection on which the requester's id sent the last heartbeat, and only from the
//!   broker that got the reply: a reply goes to the broker that stored the request.
//!
//! The connector `rocketmq` acts on it: DeFiBus is a dialect there. Nothing here knows sockets, clocks or events.

pub mod code;
mod isolation;
mod members;
mod names;
pub mod property;
mod pull;
mod reply;
pub mod request;
mod waiting;

pub use isolation::{Candidate, Isolation, choose};
pub use members::{Shared, allocate, parse_members};
pub use names::{client_id, idc_of_client, idc_of_cluster, is_idc, reply_topic};
pub use pull::Empty;
pub use reply::{Asked, Pushed, expires_ms, pushed};
pub use waiting::{Full, Waiting};

/// The version that brokers of DeFiBus have and expect: V4_4_0. Newer ones change what brokers of RocketMQ answer.
pub const VERSION: i32 = 293;
