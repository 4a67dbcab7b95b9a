//! Apache EventMesh over gRPC: what its SDKs of 1.9 and later speak (`org.apache.eventmesh.cloudevents.v1`), and those of 1.4 to
//! 1.8 (`eventmesh.common.protocol.grpc`), on one port.
//!
//! * [`binding`] turns events into their protobuf form and back, [`simple`] does so for the older messages.
//! * [`request`] reads and checks what clients ask; [`error`] has the status codes.
//! * [`Services`] serves connections.
//!
//! **When is an event done?** The services have no acknowledgement, and HTTP/2's flow control tells only sometimes, and late,
//! what a client took. So Weft sends a PING behind the events of a stream, and its answer, which a client's HTTP/2 gives when it
//! has read all that came before, is the acknowledgement. When a stream breaks, events without it go to other members of the
//! group, or wait for one. So nothing is lost on the way to a client; what a client has taken off its connection and not handled
//! when it dies is lost, as no word of the protocol could tell it. Events may come twice, with the same id.
//!
//! **Groups.** Members are streams and webhooks, of gRPC and of Weft's other protocols. When the last member of a group is
//! gone, the group is, and what was on its way with it.

pub mod binding;
mod driver;
pub mod error;
mod exercise;
mod options;
pub mod proto;
mod registry;
pub mod request;
#[expect(missing_docs, reason = "fields have the names of the protocol")]
pub mod simple;
mod wire;

pub use driver::Services;
pub use exercise::exercise;
pub use options::Options;
