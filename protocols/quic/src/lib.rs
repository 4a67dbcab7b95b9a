//! QUIC (RFC 9000) as a carrier for MQTT, ALPN `mqtt`.
//!
//! A [`Listener`] binds one UDP address and takes connections as an [`transport::Admission`] allows; what has to come before
//! MQTT is spoken, the handshake and the first stream of the client, is an [`Arrival`]. A [`Client`] has that stream, the
//! control stream, as a [`transport::Stream`] like one over TLS: the connection ends with it. Further streams are its
//! [`DataStreams`]. This crate knows no packet.

mod driver;
mod failure;
mod options;
mod settings;
mod stream;

pub use driver::{Arrival, Client, DataStreams, Listener};
pub use options::Options;
pub use stream::DataStream;
