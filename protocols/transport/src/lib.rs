//! What carriers share: listeners, what they accept, and how much of it.
//!
//! A [`Listener`] binds one TCP address and accepts as [`Connections`] allow, which all listeners of a process share, and
//! as its own [`Limits`] do; for other carriers an [`Admission`] does that. What has to come before a protocol is spoken, the header of a proxy and the handshake of
//! [`Tls`], is an [`Arrival`]; what is served is a [`Stream`]. This crate knows no protocol and no event: of `event` it uses
//! rates, sizes and health.

mod admission;
mod arrival;
mod crowd;
pub mod forwarded;
mod handshakes;
mod listener;
mod network;
mod options;
pub mod proxy;
mod repeats;
mod stream;
mod throttle;
mod tls;

pub use admission::{Admission, Connections, Failure, Peer, Place, Refusal};
pub use arrival::Arrival;
pub use handshakes::Turn;
pub use listener::{Accepted, BindError, Listener};
pub use network::{Network, any_contains};
pub use options::{Entry, Limits, Options, ProxyProtocol};
pub use stream::{Carried, Stream};
pub use throttle::Throttle;
pub use tls::{ClientCertificates, Doubt, Proof, SniOptions, Tls, TlsError, TlsOptions, Version};
