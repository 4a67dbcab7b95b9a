//! What the protocols of Apache EventMesh share: payloads, groups, request and reply.
//!
//! * [`Payload`] is a message of a publisher, of one [`Kind`], on its way to an [`event::Event`]; [`EventMeshMessage`] and
//!   [`Payload::cloud_event`] are the ways back. What a subscriber gets has the kind that it speaks, whatever carried it here.
//! * [`Subscription`] says what a client subscribes; [`filter`] makes it a subscription of the core, so that groups span protocols.
//! * [`Clients`] is what operators see of the clients, and how orders reach them.
//! * [`TopicList`] remembers topics that were created, though none has to be.
//! * [`Requester`] asks and waits for the reply, from a responder on any protocol.
//!
//! Knows the hub of `event`, and no wire format but JSON. All is sans-io but [`Requester`].

mod agent;
mod clients;
mod driver;
mod kind;
mod message;
mod names;
mod options;
mod payload;
mod reply;
mod subscription;
mod topics;

pub use agent::{Purpose, UserAgent};
pub use clients::{Client, Clients, Order, Registered};
pub use driver::{Call, Requester, Unanswered};
pub use event::REPLY_TOPICS;
pub use kind::{Kind, PROTOCOL_DESC, PROTOCOL_TYPE, PROTOCOL_VERSION};
pub use message::EventMeshMessage;
pub use names::{NameError, filter, level, topic};
pub use options::Options;
pub use payload::{Arrival, Payload, Unusable};
pub use reply::{NotARequest, Responder, address_reply};
pub use subscription::{Mode, Subscription, SubscriptionType, Topics};
pub use topics::{NoTopic, TopicList};
